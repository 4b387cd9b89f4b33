//! How everybody else reaches the loop: what they hand over waits in its queue, what they ask is answered when it is done.

use std::sync::Arc;

use sifleet_common::api;
use sifleet_common::clock::Clock;
use sifleet_common::name::NodeName;
use sifleet_common::wire::control::{Hello, ToCoordinator};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::{Counters, INPUT_QUEUE, Share, Stopped, ToSession};
use crate::state::identities::{IdentityAnswer, IdentityCommand, IdentityError};
use crate::state::limits::LimitCommand;
use crate::state::pushes::{Command, PushError};
use crate::state::removals::{RemovalCommand, RemovalError};
use crate::state::scan::Scan;
use crate::state::{Caller, Event, SessionId};
use crate::store::push::PushNo;
use crate::store::removal::RemovalNo;
use crate::view::Views;
use crate::waiting::{Input, Waiting};

/// Reaches the loop from anywhere.
#[derive(Clone)]
pub struct Handle {
    /// Where the newest view is.
    pub views: Views,
    /// What the loop reckons with.
    pub clock: Clock,
    /// What passed through the loop.
    pub counters: Arc<Counters>,
    pub(super) input: mpsc::Sender<Input>,
    pub(super) waiting: Waiting,
    pub(super) followers: broadcast::Sender<Arc<api::events::Event>>,
}

impl Handle {
    /// Opens a session.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn open(
        &self,
        session: SessionId,
        caller: Caller,
        hello: Hello,
        outbox: mpsc::Sender<ToSession>,
    ) -> Result<(), Stopped> {
        self.put(Input::Open { session, caller, hello, outbox }).await
    }

    /// Hands an event over, waiting while the queue is full.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn send(&self, event: Event) -> Result<(), Stopped> {
        self.put(Input::Event(event)).await
    }

    /// Hands an agent's message over, waiting while too much of its session, or of all, is not applied yet.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn say(&self, session: SessionId, message: ToCoordinator, own: &Share) -> Result<(), Stopped> {
        let held = self.waiting.hold(own, &message).await.map_err(|_closed| Stopped)?;
        self.put(Input::Said(Event::Message { session, message }, held)).await
    }

    /// Asks the agents of these nodes to reconcile, and tells which of them were there to be asked.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn rescan(&self, nodes: Vec<NodeName>) -> Result<api::nodes::Rescan, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.put(Input::Rescan { nodes, reply }).await?;
        answer.await.map_err(|_closed| Stopped)
    }

    /// Asks the agents of these nodes to reconcile; the view shows who has come to the end of it.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn scan(&self, nodes: Vec<NodeName>) -> Result<Scan, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.put(Input::Scan { nodes, reply }).await?;
        answer.await.map_err(|_closed| Stopped)
    }

    /// Asks something about pushes; answered when the view shows it.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn push(&self, command: Command) -> Result<Result<PushNo, PushError>, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.put(Input::Push { command, reply }).await?;
        answer.await.map_err(|_closed| Stopped)
    }

    /// Asks something about identities; answered when the view shows it and its step was handed to the store.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn identify(
        &self,
        command: IdentityCommand,
    ) -> Result<Result<IdentityAnswer, IdentityError>, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.put(Input::Identify { command, reply }).await?;
        answer.await.map_err(|_closed| Stopped)
    }

    /// Asks something about removals; answered when the view shows it.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn remove(&self, command: RemovalCommand) -> Result<Result<RemovalNo, RemovalError>, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.put(Input::Remove { command, reply }).await?;
        answer.await.map_err(|_closed| Stopped)
    }

    /// Asks something about limits; answered when the view shows it.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn limit(&self, command: LimitCommand) -> Result<(), Stopped> {
        let (reply, answer) = oneshot::channel();
        self.put(Input::Limit { command, reply }).await?;
        answer.await.map_err(|_closed| Stopped)
    }

    /// Follows the events from here on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Arc<api::events::Event>> {
        self.followers.subscribe()
    }

    /// Returns how many events wait.
    #[must_use]
    pub fn queued(&self) -> usize {
        INPUT_QUEUE - self.input.capacity()
    }

    async fn put(&self, input: Input) -> Result<(), Stopped> {
        self.input.send(input).await.map_err(|_closed| Stopped)
    }
}
