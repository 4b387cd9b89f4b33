//! Questions of the node's jobs that the coordinator has not answered yet. Pure.

use std::collections::BTreeMap;

use sifleet_common::wire::pull::{Answer, MAX_WAITING, Pull, Pulled};
use tokio::sync::oneshot;
use tracing::debug;

use super::Question;

/// Who waits for which answer. Whoever is dropped with it asks again in the next session.
#[derive(Debug, Default)]
pub(super) struct Asked {
    last: u32,
    waiting: BTreeMap<u32, oneshot::Sender<Answer>>,
}

impl Asked {
    /// Tells whether another question may be asked. Those whose asker went away make room.
    pub(super) fn has_room(&mut self) -> bool {
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.retain(|_, reply| !reply.is_closed());
        }
        self.waiting.len() < MAX_WAITING
    }

    /// Numbers a question; none if nobody waits for its answer any longer.
    pub(super) fn ask(&mut self, question: Question) -> Option<Pull> {
        let Question { wanted, reply } = question;
        if reply.is_closed() || !wanted.is_bounded() {
            return None;
        }
        self.last = self.last.wrapping_add(1);
        self.waiting.insert(self.last, reply);
        Some(Pull { id: self.last, wanted })
    }

    /// Hands an answer to whoever asked; one that nobody asked for is nobody's.
    pub(super) fn answer(&mut self, pulled: Pulled) {
        let Pulled { id, answer } = pulled;
        let is_bounded = match &answer {
            Answer::Manifest(manifest) => manifest.is_bounded(),
            Answer::Ready | Answer::Unknown | Answer::Refused { .. } => true,
        };
        match self.waiting.remove(&id) {
            Some(reply) if is_bounded => drop(reply.send(answer)),
            Some(_) | None => debug!(id, "an answer of the coordinator is of no use"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sifleet_common::wire::pull::{Manifest, Wanted};

    fn question() -> (Question, oneshot::Receiver<Answer>) {
        let (reply, answer) = oneshot::channel();
        let wanted = Wanted::Manifest { repository: "a".into(), reference: "latest".into() };
        (Question { wanted, reply }, answer)
    }

    #[test]
    fn each_answer_goes_to_whoever_asked_and_only_once() {
        let mut asked = Asked::default();
        let ((first, mut one), (second, mut two)) = (question(), question());
        let (first, second) = (asked.ask(first).unwrap(), asked.ask(second).unwrap());
        asked.answer(Pulled { id: second.id, answer: Answer::Ready });
        asked.answer(Pulled { id: second.id, answer: Answer::Unknown });
        asked.answer(Pulled { id: 77, answer: Answer::Unknown });
        assert_eq!(two.try_recv(), Ok(Answer::Ready));
        assert!(one.try_recv().is_err(), "nobody answered it yet");
        asked.answer(Pulled { id: first.id, answer: Answer::Unknown });
        assert_eq!(one.try_recv(), Ok(Answer::Unknown));
    }

    #[test]
    fn whoever_went_away_makes_room_for_others() {
        let mut asked = Asked::default();
        let mut answers = Vec::new();
        for _ in 0..MAX_WAITING {
            assert!(asked.has_room());
            let (question, answer) = question();
            assert!(asked.ask(question).is_some());
            answers.push(answer);
        }
        assert!(!asked.has_room());
        answers.pop();
        assert!(asked.has_room());
        let (gone, answer) = question();
        drop(answer);
        assert_eq!(asked.ask(gone), None, "nobody waits for it");
    }

    #[test]
    fn an_answer_beyond_its_limits_reaches_nobody() {
        let mut asked = Asked::default();
        let (question, mut answer) = question();
        let id = asked.ask(question).unwrap().id;
        let manifest = Manifest {
            media_type: String::new(),
            digest: String::new(),
            body: vec![0; sifleet_common::wire::pull::MAX_MANIFEST + 1],
            layer: String::new(),
            size: 1,
            image: sifleet_common::digest::Digest::from_bytes([0; 32]),
            name: "a.sif".parse().unwrap(),
        };
        asked.answer(Pulled { id, answer: Answer::Manifest(Box::new(manifest)) });
        assert!(answer.try_recv().is_err());
    }
}
