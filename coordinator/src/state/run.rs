//! The only loop around the state: takes events in, carries effects out, publishes the view.
//!
//! One task owns the [`State`]; everybody else has a [`Handle`]. The input queue is bounded ([`crate::waiting`]): when it is full,
//! sessions wait, QUIC's flow control makes their agents wait, and leases that cannot be renewed in time run
//! out, so an overloaded coordinator says "unknown", never something stale.

mod counters;
mod handle;
mod log;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sifleet_common::api;
use sifleet_common::clock::Clock;
use sifleet_common::telemetry::catalog;
use sifleet_common::time::Monotonic;
use sifleet_common::wire::code::CloseCode;
use sifleet_common::wire::control::{ToAgent, ToCoordinator};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{Announcement, Effect, Event, SessionId, State};
use crate::store::Op;
use crate::store::sqlite::Store;
use crate::view::Views;
pub use crate::waiting::Share;
use crate::waiting::{Input, Waiting};
pub use counters::Counters;
pub use handle::Handle;

/// Events waiting for the loop. When they are this many, sessions wait.
const INPUT_QUEUE: usize = 8_192;
/// Events taken in before the view is published.
const BATCH: usize = 1_024;
/// The longest time events are taken in before the view is published and the watchdog hears of the loop.
const BATCH_TIME: Duration = Duration::from_millis(20);
/// Messages waiting for one agent. An agent that lets so many wait is cut off and comes back: more than the
/// acknowledgements of what QUIC's window holds of it.
pub const OUTBOX: usize = 1_024;
/// Events kept for followers; one that is further behind is told that it missed some.
const EVENTS_KEPT: usize = 8_192;
/// A view is published at most this often, so that copying on write stays cheap under load.
const PUBLISH_SPACING: Duration = Duration::from_millis(5);
/// Nodes whose steps the store lost are written as a whole this often: a disk that is full stays full for a while.
const MEND_SPACING: Duration = Duration::from_secs(30);
/// The longest time between two turns of the loop.
const IDLE_TURN: Duration = Duration::from_secs(1);

/// What goes to one session.
#[derive(Debug)]
pub enum ToSession {
    /// A message for the agent.
    Message(ToAgent),
    /// The end.
    Close(CloseCode, String),
}

/// The loop has ended, because the coordinator stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the coordinator is stopping")]
pub struct Stopped;

/// Answers somebody; whoever asked may have gone, it is done all the same.
type Reply = Box<dyn FnOnce() + Send>;

/// The loop before it runs.
pub struct Loop {
    state: State,
    store: Store,
    clock: Clock,
    input: mpsc::Receiver<Input>,
    outboxes: BTreeMap<SessionId, mpsc::Sender<ToSession>>,
    views: Views,
    followers: broadcast::Sender<Arc<api::events::Event>>,
    counters: Arc<Counters>,
    told: u64,
    ops: Vec<Op>,
    announcements: Vec<Announcement>,
    /// Answers that wait for the view to show what they say.
    replies: Vec<Reply>,
    mend_at: Monotonic,
}

/// Joins a state with its store, and publishes the first view.
#[must_use]
pub fn prepare(mut state: State, store: Store, clock: Clock) -> (Loop, Handle) {
    let (sender, input) = mpsc::channel(INPUT_QUEUE);
    let (followers, _) = broadcast::channel(EVENTS_KEPT);
    let views = Views::new(arc_swap::ArcSwap::from_pointee(state.view()));
    let counters = Arc::new(Counters::default());
    let handle = Handle {
        views: Arc::clone(&views),
        clock,
        counters: Arc::clone(&counters),
        input: sender,
        waiting: Waiting::default(),
        followers: followers.clone(),
    };
    let run = Loop {
        state,
        store,
        clock,
        input,
        outboxes: BTreeMap::new(),
        views,
        followers,
        counters,
        told: 0,
        ops: Vec::new(),
        announcements: Vec::new(),
        replies: Vec::new(),
        mend_at: clock.now().mono,
    };
    (run, handle)
}

impl Loop {
    /// Runs until `stop`; `beat` is called after every turn, at least once a second.
    pub async fn run(mut self, stop: CancellationToken, beat: impl Fn()) {
        let (mut batch, mut waiting) = (Vec::with_capacity(BATCH), VecDeque::with_capacity(BATCH));
        loop {
            let wake = self.clock.instant(self.next_turn());
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = std::future::ready(()), if !waiting.is_empty() => {}
                _ = self.input.recv_many(&mut batch, BATCH) => waiting.extend(batch.drain(..)),
                () = tokio::time::sleep_until(wake.into()) => self.take(Input::Event(Event::Tick)),
            }
            self.take_for(BATCH_TIME, &mut waiting);
            self.views.store(Arc::new(self.state.view()));
            self.counters.views.fetch_add(1, Ordering::Relaxed);
            self.mend();
            self.keep();
            // After their steps were handed to the store: some wait until those are on disk.
            self.replies.drain(..).for_each(|answer| answer());
            self.announce();
            beat();
            tokio::time::sleep(PUBLISH_SPACING).await;
        }
        self.say_goodbye();
    }

    fn next_turn(&self) -> Monotonic {
        let idle = self.clock.now().mono.after(IDLE_TURN);
        self.state.next_turn().map_or(idle, |turn| turn.min(idle))
    }

    /// Takes in what waits, for about so long.
    fn take_for(&mut self, time: Duration, waiting: &mut VecDeque<Input>) {
        let until = self.clock.now().mono.after(time);
        while let Some(input) = waiting.pop_front() {
            self.take(input);
            if self.clock.now().mono >= until {
                break;
            }
        }
    }

    fn take(&mut self, input: Input) {
        self.counters.events.fetch_add(1, Ordering::Relaxed);
        let now = self.clock.now();
        let effects = match input {
            Input::Open { session, caller, hello, outbox } => {
                self.counters.sessions.fetch_add(1, Ordering::Relaxed);
                self.outboxes.insert(session, outbox);
                self.state.handle(Event::Opened { session, caller, hello }, now)
            }
            Input::Event(event) => {
                if let Event::Closed { session } = &event {
                    self.outboxes.remove(session);
                }
                self.count(&event);
                self.state.handle(event, now)
            }
            Input::Said(event, _held) => {
                self.count(&event);
                self.state.handle(event, now)
            }
            Input::Rescan { nodes, reply } => {
                let (answer, effects) = self.state.rescan(&nodes);
                // Whoever asked may have gone; the agents are told all the same.
                drop(reply.send(answer));
                effects
            }
            Input::Scan { nodes, reply } => {
                let (answer, effects) = self.state.scan(&nodes);
                drop(reply.send(answer));
                effects
            }
            Input::Push { command, reply } => {
                let (answer, effects) = self.state.command(command, now);
                self.replies.push(Box::new(move || drop(reply.send(answer))));
                effects
            }
            Input::Limit { command, reply } => {
                let effects = self.state.limit(command, now);
                self.replies.push(Box::new(move || reply.send(()).unwrap_or_default()));
                effects
            }
            Input::Identify { command, reply } => {
                let (answer, effects) = self.state.identify(command, now);
                self.replies.push(Box::new(move || drop(reply.send(answer))));
                effects
            }
            Input::Remove { command, reply } => {
                let (answer, effects) = self.state.remove(command, now);
                self.replies.push(Box::new(move || drop(reply.send(answer))));
                effects
            }
        };
        for effect in effects {
            self.carry_out(effect);
        }
        self.counters.sessions_open.store(self.outboxes.len() as u64, Ordering::Relaxed);
    }

    fn count(&self, event: &Event) {
        let Event::Message { message, .. } = event else { return };
        match message {
            ToCoordinator::Delta(_) => self.counters.deltas.fetch_add(1, Ordering::Relaxed),
            ToCoordinator::Snapshot(_) => self.counters.snapshot_parts.fetch_add(1, Ordering::Relaxed),
            ToCoordinator::Hello(_)
            | ToCoordinator::Heartbeat(_)
            | ToCoordinator::Described(_)
            | ToCoordinator::Report(_)
            | ToCoordinator::Renew
            | ToCoordinator::Pull(_)
            | ToCoordinator::Clock { .. }
            | ToCoordinator::Reconciled { .. }
            | ToCoordinator::Goodbye => return,
        };
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send(session, message) => {
                if matches!(message, ToAgent::Resync { .. }) {
                    self.counters.resyncs.fetch_add(1, Ordering::Relaxed);
                }
                let Some(outbox) = self.outboxes.get(&session) else { return };
                if outbox.try_send(ToSession::Message(message)).is_err() {
                    // Dropping the outbox ends the session; the agent dials again when it can listen.
                    self.outboxes.remove(&session);
                }
            }
            Effect::Close(session, code, why) => {
                if let Some(outbox) = self.outboxes.remove(&session)
                    && outbox.try_send(ToSession::Close(code, why)).is_err()
                {
                    warn!(session = session.0, "an agent that does not listen was cut off");
                }
            }
            Effect::Store(op) => self.ops.push(op),
            Effect::Announce(announcement) => self.announcements.push(announcement),
        }
    }

    /// Tells the followers, once the view shows what they are told: who hears of an image may ask for it.
    fn announce(&mut self) {
        let time = self.clock.now().wall.to_string();
        for Announcement { kind, node, image, digest, detail } in self.announcements.drain(..) {
            self.told += 1;
            self.counters.announced.store(self.told, Ordering::Release);
            log::log(kind, node.as_ref(), detail.as_deref());
            let event = api::events::Event {
                seq: self.told,
                time: time.clone(),
                kind,
                node: node.map(String::from),
                image: image.map(String::from),
                digest: digest.map(|digest| digest.to_string()),
                detail,
            };
            // Nobody following is no failure.
            drop(self.followers.send(Arc::new(event)));
        }
    }

    /// Writes anew the nodes, and the pushes, whose steps were lost.
    fn mend(&mut self) {
        let now = self.clock.now().mono;
        if now < self.mend_at {
            return;
        }
        self.mend_at = now.after(MEND_SPACING);
        let lost = self.store.take_lost();
        if !lost.is_empty() {
            warn!(nodes = lost.len(), "writing anew the inventories whose steps the store lost");
        }
        self.ops.extend(lost.iter().filter_map(|name| self.state.whole(name)));
        if self.store.take_asked_lost() {
            self.ops.extend(self.state.whole_pushes());
            self.ops.extend(self.state.whole_removals());
            self.ops.extend(self.state.whole_limits());
            self.ops.extend(self.state.whole_identities());
        }
    }

    /// Hands durable steps over. What a store that is behind does not take is mended later, for the disk is not waited
    /// for.
    fn keep(&mut self) {
        let ops = std::mem::take(&mut self.ops);
        if ops.is_empty() {
            return;
        }
        if let Err(error) = self.store.try_submit(ops) {
            self.counters.store_failures.fetch_add(1, Ordering::Relaxed);
            error!(
                message_id = catalog::STORE_REFUSES,
                error = &error as &dyn std::error::Error,
                "the store does not take changes"
            );
        }
    }

    fn say_goodbye(&mut self) {
        for (_, outbox) in std::mem::take(&mut self.outboxes) {
            let bye = ToSession::Close(CloseCode::Stopping, "the coordinator stops".into());
            // One whose outbox is full ends with the process.
            drop(outbox.try_send(bye));
        }
    }
}

#[cfg(test)]
mod tests;
