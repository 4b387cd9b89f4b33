//! Watches one push to its end: told by the stream of its events, and by asking where the stream says nothing.
//!
//! The push itself does not depend on anybody who watches: whatever breaks here is tried again.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use sifleet_common::api::pushes::{PushBody, PushNodes, PushState};

use crate::client::{Answer, Client, ClientError, Target};
use crate::live::Live;
use crate::output::Screen;
use crate::waiting;

/// How often the push is asked for while its stream is silent or broken.
const POLL: Duration = Duration::from_secs(2);
/// How often what is seen is drawn anew, and node by node asked for.
const TICK: Duration = Duration::from_secs(1);
/// Pauses before the stream is opened again: this, and twice as long each time.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest of these pauses.
const LONGEST: Duration = Duration::from_secs(30);
/// How long nobody may answer: far longer than a coordinator needs to start again.
const PATIENCE: Duration = Duration::from_secs(300);
/// News that wait; the stream is read no faster than they are shown.
const NEWS: usize = 16;

/// How watching ended.
pub(super) enum Ended {
    /// With the push.
    Push(Box<Answer<PushBody>>),
    /// Somebody pressed Ctrl-C.
    Detached,
}

enum News {
    Said(String),
    Interrupted,
}

/// Watches until the push or the person has had enough.
pub(super) fn watch(
    client: &Client,
    screen: &mut Screen,
    live: &mut Live,
    id: &str,
) -> anyhow::Result<Ended> {
    let (tell, news) = sync_channel(NEWS);
    waiting::signals(tell.clone(), || News::Interrupted)?;
    let (_going_on, stop) = sync_channel::<()>(1);
    let own = Target::v1("pushes").segment(id);
    let (reader, events) = (client.clone(), own.clone().segment("events"));
    std::thread::Builder::new()
        .name("events".into())
        .spawn(move || listen(&reader, &events, &tell, &stop))?;
    let mut watched = Watched { client, own, answered: Instant::now(), nodes: None };
    let mut push = watched.ask()?;
    let mut heard = Instant::now();
    loop {
        if let Some(answer) = push.take() {
            let nodes = watched.nodes(live);
            live.push(screen, &answer.value, &answer.text, nodes)?;
            if answer.value.state != PushState::Running {
                return Ok(Ended::Push(Box::new(answer)));
            }
            heard = Instant::now();
        }
        if screen.is_closed() {
            return Ok(Ended::Detached);
        }
        push = match news.recv_timeout(TICK) {
            Ok(News::Interrupted) => return Ok(Ended::Detached),
            // What is not understood says at least that something happened.
            Ok(News::Said(text)) => match serde_json::from_str(&text) {
                Ok(value) => Some(Answer { value, text }),
                Err(_) => watched.ask()?,
            },
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) if heard.elapsed() >= POLL => {
                watched.ask()?
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        };
    }
}

struct Watched<'a> {
    client: &'a Client,
    own: Target,
    answered: Instant,
    nodes: Option<(Instant, PushNodes)>,
}

impl Watched<'_> {
    /// Asks how the push stands; nothing while nobody answers, unless that lasts too long.
    fn ask(&mut self) -> Result<Option<Answer<PushBody>>, ClientError> {
        match self.client.get(&self.own) {
            Ok(answer) => {
                self.answered = Instant::now();
                Ok(Some(answer))
            }
            Err(error) if error.may_pass() && self.answered.elapsed() < PATIENCE => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks node by node, where that is shown; what cannot be had is left out.
    fn nodes(&mut self, live: &Live) -> &[sifleet_common::api::pushes::PushNode] {
        let is_old = self.nodes.as_ref().is_none_or(|(then, _)| then.elapsed() >= POLL);
        if live.wants_nodes() && is_old {
            let asked = self.client.get::<PushNodes>(&self.own.clone().segment("nodes"));
            self.nodes = asked.ok().map(|answer| (Instant::now(), answer.value));
        }
        self.nodes.as_ref().map_or(&[], |(_, nodes)| nodes.nodes.as_slice())
    }
}

/// Reads the stream, again and again, until nobody listens.
fn listen(client: &Client, events: &Target, tell: &SyncSender<News>, stop: &Receiver<()>) {
    let mut wait = AGAIN;
    loop {
        if let Ok(mut stream) = client.events(events) {
            while let Ok(text) = stream.next() {
                wait = AGAIN;
                if tell.send(News::Said(text)).is_err() {
                    return;
                }
            }
        }
        match stop.recv_timeout(wait) {
            Err(RecvTimeoutError::Timeout) => wait = (wait * 2).min(LONGEST),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
