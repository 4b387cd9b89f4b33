//! `sifleet top`: what moves at present, drawn anew until somebody has had enough.

use std::io::{self, IsTerminal as _};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use sifleet_common::api::pushes::{PushBody, PushList, PushNode, PushNodes, PushState};

use crate::client::{Answer, Client, ClientError, Target};
use crate::live::Painter;
use crate::outcome::Outcome;
use crate::output::{self, Format, Screen};
use crate::waiting::{Keys, signals};

/// Most pushes whose nodes are asked for: each may have thousands.
const MAX_PUSHES: usize = 8;
/// What is shown off a terminal, in columns and rows: everything that may be of use.
const PAGE: (usize, usize) = (200, 1_000);

/// Shows until `q` or Ctrl-C; off a terminal once.
pub(super) fn run(client: &Client, screen: &mut Screen, interval: Duration) -> anyhow::Result<Outcome> {
    match screen.format() {
        Format::Table | Format::Wide => {}
        Format::Json => {
            screen.show(&with_nodes(client, client.get::<PushList>(&Target::v1("pushes"))?)?)?;
            return Ok(Outcome::Yes);
        }
        Format::Name | Format::Csv => {
            screen.show(&client.get::<PushList>(&Target::v1("pushes"))?)?;
            return Ok(Outcome::Yes);
        }
    }
    // Whoever cannot be asked at all is told at once.
    let mut shown = Shown { pushes: look(client)?, silent: None };
    if !io::stdout().is_terminal() {
        let lines = output::top(&shown.pushes, None, PAGE.0, PAGE.1);
        screen.print(&lines.iter().map(|line| format!("{}\n", line.trim_end())).collect::<String>())?;
        return Ok(Outcome::Yes);
    }
    let (tell, enough) = sync_channel(1);
    signals(tell.clone(), || ())?;
    let _keys = Keys::listen(b'q', tell, || ())?;
    let mut painter = Painter::of_stdout();
    loop {
        let warning = shown.warning(Instant::now());
        painter.paint(|width, height| output::top(&shown.pushes, warning.as_deref(), width, height));
        match enough.recv_timeout(interval) {
            Err(RecvTimeoutError::Timeout) => shown.learn(look(client), Instant::now())?,
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(Outcome::Yes),
        }
    }
}

/// What is drawn.
struct Shown {
    pushes: Vec<(PushBody, Vec<PushNode>)>,
    /// Since when nobody answers.
    silent: Option<Instant>,
}

impl Shown {
    /// Takes what was seen; while nobody answers, what was seen last stays.
    fn learn(
        &mut self,
        seen: Result<Vec<(PushBody, Vec<PushNode>)>, ClientError>,
        now: Instant,
    ) -> Result<(), ClientError> {
        match seen {
            Ok(pushes) => *self = Self { pushes, silent: None },
            Err(error) if error.may_pass() => drop(self.silent.get_or_insert(now)),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn warning(&self, now: Instant) -> Option<String> {
        let lasts = now.saturating_duration_since(self.silent?).as_secs();
        Some(match lasts {
            0 => "the coordinator does not answer; below is what it said last".to_owned(),
            _ => {
                let lasts = output::lasting(lasts);
                format!("the coordinator has not answered for {lasts}; below is what it said last")
            }
        })
    }
}

/// Asks for what runs, and for the nodes of the first pushes.
fn look(client: &Client) -> Result<Vec<(PushBody, Vec<PushNode>)>, ClientError> {
    let list = client.get::<PushList>(&Target::v1("pushes"))?.value;
    let running = list.pushes.into_iter().filter(|push| push.state == PushState::Running);
    let with_nodes = running.enumerate().map(|(number, push)| {
        let nodes = if number < MAX_PUSHES { nodes_of(client, &push)? } else { None };
        Ok((push, nodes.map(|answer| answer.value.nodes).unwrap_or_default()))
    });
    with_nodes.collect()
}

/// Asks for the nodes of a push; it may be forgotten by now.
fn nodes_of(client: &Client, push: &PushBody) -> Result<Option<Answer<PushNodes>>, ClientError> {
    match client.get(&Target::v1("pushes").segment(&push.id).segment("nodes")) {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.code() == Some("unknown_push") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Adds to each push that runs what is known of its nodes, as `by_node`; to no more of them than are drawn.
fn with_nodes(client: &Client, mut list: Answer<PushList>) -> anyhow::Result<Answer<PushList>> {
    let mut text: Value = serde_json::from_str(&list.text)?;
    let bodies = text.get_mut("pushes").and_then(Value::as_array_mut).into_iter().flatten();
    let running = bodies.zip(&list.value.pushes).filter(|(_, push)| push.state == PushState::Running);
    for (body, push) in running.take(MAX_PUSHES) {
        let Some(answer) = nodes_of(client, push)? else { continue };
        let mut nodes: Value = serde_json::from_str(&answer.text)?;
        if let (Some(body), Some(nodes)) = (body.as_object_mut(), nodes.get_mut("nodes")) {
            body.insert("by_node".to_owned(), nodes.take());
        }
    }
    list.text = text.to_string();
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_last_stays_while_nobody_answers() {
        let now = Instant::now();
        let later = now + Duration::from_secs(90);
        let mut shown = Shown { pushes: Vec::new(), silent: None };
        let nobody = || ClientError::Ended { url: "http://head".to_owned(), source: None };
        shown.learn(Err(nobody()), now).unwrap();
        assert!(shown.warning(now).unwrap().contains("does not answer"));
        shown.learn(Err(nobody()), later).unwrap();
        assert!(shown.warning(later).unwrap().contains("for 1m30s"), "{:?}", shown.warning(later));
        shown.learn(Ok(Vec::new()), later).unwrap();
        assert_eq!(shown.warning(later), None);
        let wrong = ClientError::BadUrl { url: "head".to_owned() };
        assert!(shown.learn(Err(wrong), later).is_err(), "that does not pass");
    }
}
