//! Looks at all roots that the coordinator waits for.
//!
//! Only so many are under way at once. Whoever asks for more waits for the next one that begins, which looks later than all of
//! them asked: its number is the highest, and stands for theirs.

use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Looks under way at once: a root that hangs holds some of them up, and others are to be answered beside it.
const MOST: usize = 8;

/// The looks of one session.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// Requests whose roots are being looked at; none for those of which nobody will say.
    under_way: JoinSet<Option<u64>>,
    /// The highest number that waits until a look has ended.
    waiting: Option<u64>,
}

impl Looks {
    /// Begins a look, by the way that is given, or has it wait until another one has ended.
    pub(super) fn ask(&mut self, request: u64, begin: impl FnOnce(oneshot::Sender<()>)) {
        if self.under_way.len() >= MOST {
            self.waiting = self.waiting.max(Some(request));
            return;
        }
        let (reply, answer) = oneshot::channel();
        begin(reply);
        self.under_way.spawn(async move { answer.await.ok().map(|()| request) });
    }

    /// Waits until a look has ended, and returns its number if every root was looked at; nothing while none is under way.
    pub(super) async fn ended(&mut self) -> Option<Option<u64>> {
        self.under_way.join_next().await.map(|ended| ended.ok().flatten())
    }

    /// Takes the number that waited, if it need not any longer.
    pub(super) fn next(&mut self) -> Option<u64> {
        self.waiting.take_if(|_| self.under_way.len() < MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn those_who_ask_while_many_looks_are_under_way_share_the_next_one() {
        let (mut looks, mut begun) = (Looks::default(), Vec::new());
        for request in 1..=20 {
            looks.ask(request, |reply| begun.push(reply));
        }
        assert_eq!((begun.len(), looks.next()), (MOST, None));
        let first = begun.remove(0);
        first.send(()).unwrap();
        assert_eq!(looks.ended().await, Some(Some(1)));
        let next = looks.next().unwrap();
        assert_eq!(next, 20, "whoever asked before is answered by this one");
        looks.ask(next, |reply| begun.push(reply));
        assert_eq!((begun.len(), looks.next()), (MOST, None));
        begun.pop().unwrap().send(()).unwrap();
        assert_eq!(looks.ended().await, Some(Some(20)));
    }

    #[tokio::test]
    async fn a_look_that_nobody_will_tell_of_makes_room_for_those_who_wait() {
        let mut looks = Looks::default();
        for request in 1..=9 {
            looks.ask(request, drop);
        }
        assert_eq!(looks.ended().await, Some(None));
        assert_eq!(looks.next(), Some(9));
        while looks.ended().await.is_some() {}
    }
}
