//! `GET /v1/events`: changes of nodes, images and partitions as they happen, as server-sent events.
//!
//! Owns the stream of one reader. Events come out of a bounded ring that all readers share; a reader that falls
//! behind it, or returns after it missed some, is told so by an event `missed` and reads the lists again. Nothing
//! is kept for readers that are away.
//! Source of the format: the HTML standard, "Server-sent events".

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use prometheus_client::metrics::gauge::Gauge;
use sifleet_common::api::events::{Event, EventKind};
use sifleet_common::clock::Clock;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;

use super::App;
use super::extract::answer;
use super::problem::{ApiError, problems};

/// Named by a reader that was connected before: the `id` of the last event it saw.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How long a reader should wait before it connects again, and the first sign of life.
const GREETING: &str = "retry: 2000\n: connected\n\n";
/// A comment, which readers ignore.
pub(super) const STILL_HERE: &str = ": still here\n\n";
/// Most events sent as one piece, so that bursts cost few writes and little memory.
const BURST: usize = 128;
/// What a full house asks of who comes next.
pub(super) const RETRY_AFTER: &str = "10";

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
pub(super) async fn follow(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let Ok(place) = Arc::clone(&app.streams).try_acquire_owned() else {
        let mut full = ApiError::TooManyStreams { max: app.limits().max_event_streams }.into_response();
        full.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        return full;
    };
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
    let reader = Reader {
        events,
        clock,
        stop: app.stop.clone(),
        keep_alive: app.limits().keep_alive,
        process: app.process,
        last: last.filter(|_| !missed),
        opening: Some(opening),
        _counted: Counted::new(app.metrics().streams()),
        _place: place,
    };
    let mut response = answer("text/event-stream", Body::from_stream(stream::unfold(reader, Reader::next)));
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
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
    events: Receiver<Arc<Event>>,
    clock: Clock,
    stop: CancellationToken,
    keep_alive: Duration,
    process: u32,
    /// The last event it is known to have.
    last: Option<u64>,
    /// What it is told first.
    opening: Option<String>,
    _counted: Counted,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    /// Waits for something to say; ends with the coordinator.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if let Some(opening) = self.opening.take() {
            return Some((Ok(opening.into()), self));
        }
        let mut text = String::new();
        tokio::select! {
            biased;
            () = self.stop.cancelled() => return None,
            first = self.events.recv() => match first {
                Ok(event) => self.tell(&mut text, &event),
                Err(RecvError::Lagged(missed)) => self.tell_missed(&mut text, &format!("{missed} events were missed")),
                Err(RecvError::Closed) => return None,
            },
            () = tokio::time::sleep(self.keep_alive) => text.push_str(STILL_HERE),
        }
        for _ in 1..BURST {
            let Ok(event) = self.events.try_recv() else { break };
            self.tell(&mut text, &event);
        }
        Some((Ok(text.into()), self))
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

/// Counts a reader for as long as it is there.
pub(super) struct Counted(Gauge);

impl Counted {
    pub(super) fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests;
