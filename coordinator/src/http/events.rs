//! `GET /v1/events`: changes of nodes, images and partitions as they happen, as server-sent events.
//!
//! Owns the stream of one reader. Events come out of a bounded ring that all readers share; a reader that falls
//! behind it, or returns after it missed some, is told so by an event `missed` and reads the lists again. Nothing
//! is kept for readers that are away.
//! Source of the format: the HTML standard, "Server-sent events".

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::Response;
use futures_util::stream;
use sifleet_common::api::events::{Event, EventKind};
use sifleet_common::clock::Clock;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::App;
use super::follower::{Follower, STILL_HERE, respond};
use super::gate::Asking;
use super::problem::{ApiError, problems};

/// Named by a reader that was connected before: the `id` of the last event it saw.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How long a reader should wait before it connects again, and the first sign of life.
const GREETING: &str = "retry: 2000\n: connected\n\n";
/// Most events sent as one piece, so that bursts cost few writes and little memory.
const BURST: usize = 128;

problems!(Problems: TooManyStreams);

/// Follows changes. A reader that passes `Last-Event-ID` is told by `missed` whether anything happened since.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", operation_id = "events",
    params(("Last-Event-ID" = Option<String>, Header, description = "`id` of the last event seen.")),
    responses(
        (status = 200, description = "Server-sent events without end: `id`, `event` (the kind) and `data` (an \
            `Event` as JSON). Comments come at least every 15 s.", body = Event, content_type = "text/event-stream"),
        Problems,
    )
)]
pub(super) async fn follow(
    State(app): State<Arc<App>>,
    asking: Asking,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let follower = Follower::enter(Arc::clone(&app), asking)?;
    // Subscribed before the count is read: whatever happens after that is in the ring.
    let events = app.handle().events();
    let happened = app.handle().counters.announced.load(Ordering::Acquire);
    let (last, missed) =
        match headers.get(LAST_EVENT_ID).map(|id| seen(id.to_str().unwrap_or_default(), app.process)) {
            None => (None, false),
            Some(Seen::UpTo(last)) => (Some(last), last != happened),
            Some(Seen::SomethingElse) => (None, true),
        };
    let clock = app.handle().clock;
    let mut opening = GREETING.to_owned();
    if missed {
        write_missed(&mut opening, app.process, &clock, last, "something happened since the last event seen");
    }
    let ear = Ear { events, clock, process: app.process, last: last.filter(|_| !missed) };
    let reader = Reader { ear, opening: Some(opening), follower };
    Ok(respond(stream::unfold(reader, Reader::next)))
}

/// Where a returning reader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// It saw everything up to this event of this process.
    UpTo(u64),
    /// It saw another life of the coordinator, or sent something unreadable.
    SomethingElse,
}

/// Reads an `id` as [`write_event`] writes it.
fn seen(id: &str, process: u32) -> Seen {
    match id.split_once('-') {
        Some((life, seq)) if u32::from_str_radix(life, 16) == Ok(process) => {
            seq.parse().map_or(Seen::SomethingElse, Seen::UpTo)
        }
        _ => Seen::SomethingElse,
    }
}

/// One reader's stream.
struct Reader {
    ear: Ear,
    /// What it is told first.
    opening: Option<String>,
    follower: Follower,
}

impl Reader {
    /// Waits for something to say; ends with the coordinator, and with the right to read.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if let Some(opening) = self.opening.take() {
            return Some((Ok(opening.into()), self));
        }
        let text = tokio::select! {
            biased;
            () = self.follower.app.stop.cancelled() => return None,
            text = self.ear.hear() => text?,
            () = tokio::time::sleep(self.follower.keep_alive()) => STILL_HERE.to_owned(),
        };
        self.follower.may_read().then(|| (Ok(text.into()), self))
    }
}

/// What one reader has heard, and what there is to hear.
struct Ear {
    events: Receiver<Arc<Event>>,
    clock: Clock,
    process: u32,
    /// The last event it is known to have.
    last: Option<u64>,
}

impl Ear {
    /// Waits for events and writes them down; none when there will be no more.
    async fn hear(&mut self) -> Option<String> {
        let mut text = String::new();
        match self.events.recv().await {
            Ok(event) => self.tell(&mut text, &event),
            Err(RecvError::Lagged(missed)) => {
                self.tell_missed(&mut text, &format!("{missed} events were missed"));
            }
            Err(RecvError::Closed) => return None,
        }
        for _ in 1..BURST {
            let Ok(event) = self.events.try_recv() else { break };
            self.tell(&mut text, &event);
        }
        Some(text)
    }

    fn tell(&mut self, text: &mut String, event: &Event) {
        match self.last {
            Some(last) if event.seq <= last => return,
            Some(last) if event.seq > last.saturating_add(1) => {
                self.tell_missed(text, "events were missed");
            }
            _ => {}
        }
        self.last = Some(event.seq);
        write_event(text, self.process, event);
    }

    fn tell_missed(&mut self, text: &mut String, what: &str) {
        write_missed(text, self.process, &self.clock, self.last.take(), what);
    }
}

fn write_missed(text: &mut String, process: u32, clock: &Clock, last: Option<u64>, what: &str) {
    let event = Event {
        seq: last.unwrap_or_default(),
        time: clock.now().wall.to_string(),
        kind: EventKind::Missed,
        node: None,
        image: None,
        digest: None,
        detail: Some(format!("{what}: read the lists again")),
    };
    write_event(text, process, &event);
}

/// Writes one event. Its `id` names this life of the coordinator, for `seq` starts anew with each.
fn write_event(text: &mut String, process: u32, event: &Event) {
    let (Ok(kind), Ok(data)) = (serde_json::to_value(event.kind), serde_json::to_string(event)) else {
        return;
    };
    let kind = kind.as_str().unwrap_or_default();
    text.push_str(&format!("id: {process:08x}-{}\nevent: {kind}\ndata: {data}\n\n", event.seq));
}

#[cfg(test)]
mod tests;
