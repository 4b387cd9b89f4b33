//! What waits for the owner loop, and how much of it may wait: by number, and of agents' messages also by bytes.
//!
//! A message holds its share of both budgets, its session's and everybody's, until it is applied. A session whose share
//! is used up waits, QUIC's flow control makes its agent wait, and nobody else does.

use std::sync::Arc;

use sifleet_common::api;
use sifleet_common::image::MAX_METADATA;
use sifleet_common::inventory::Change;
use sifleet_common::name::NodeName;
use sifleet_common::policy::{MAX_KEY_NAME, Verdict};
use sifleet_common::wire::assignment::{MAX_DETAIL, Report};
use sifleet_common::wire::control::{Hello, MAX_SIDECAR, ToCoordinator};
use sifleet_common::wire::frame::MAX_FRAME;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::state::identities::{IdentityAnswer, IdentityCommand, IdentityError};
use crate::state::limits::LimitCommand;
use crate::state::pushes::{Command, PushError};
use crate::state::removals::{RemovalCommand, RemovalError};
use crate::state::run::ToSession;
use crate::state::scan::Scan;
use crate::state::{Caller, Event, SessionId};
use crate::store::push::PushNo;
use crate::store::removal::RemovalNo;

/// Most bytes of messages of one session that are not applied yet: one frame of the largest kind.
const SESSION_BYTES: usize = MAX_FRAME;
/// What the smallest message takes of its session's share: of one session no more than 64 wait, lest all others wait for
/// thousands of them.
const SESSION_LEAST: usize = SESSION_BYTES / 64;
/// Most bytes of messages of all sessions that are not applied yet.
const WAITING_BYTES: usize = 64 * 1024 * 1024;
/// What a message without lists takes.
const SMALL: usize = 128;
/// What a node that a report names takes, beside its name.
const NAMED: usize = 64;

/// One thing that waits for the loop.
pub(crate) enum Input {
    Open {
        session: SessionId,
        caller: Caller,
        hello: Hello,
        outbox: mpsc::Sender<ToSession>,
    },
    Event(Event),
    /// A message, and its share of the budgets.
    Said(Event, Held),
    Rescan {
        nodes: Vec<NodeName>,
        reply: oneshot::Sender<api::nodes::Rescan>,
    },
    Scan {
        nodes: Vec<NodeName>,
        reply: oneshot::Sender<Scan>,
    },
    Push {
        command: Command,
        reply: oneshot::Sender<Result<PushNo, PushError>>,
    },
    Limit {
        command: LimitCommand,
        reply: oneshot::Sender<()>,
    },
    Identify {
        command: IdentityCommand,
        reply: oneshot::Sender<Result<IdentityAnswer, IdentityError>>,
    },
    Remove {
        command: RemovalCommand,
        reply: oneshot::Sender<Result<RemovalNo, RemovalError>>,
    },
}

/// A share of both budgets; given back when dropped.
pub(crate) struct Held {
    _own: OwnedSemaphorePermit,
    _common: OwnedSemaphorePermit,
}

/// The budget of all sessions.
#[derive(Clone)]
pub(crate) struct Waiting(Arc<Semaphore>);

impl Default for Waiting {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WAITING_BYTES)))
    }
}

/// The budget of one session.
pub struct Share(Arc<Semaphore>);

impl Default for Share {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(SESSION_BYTES)))
    }
}

impl Waiting {
    /// Waits until a message of this session may wait.
    pub(crate) async fn hold(&self, own: &Share, message: &ToCoordinator) -> Result<Held, AcquireError> {
        let permits = |bytes: usize| u32::try_from(bytes.min(SESSION_BYTES)).unwrap_or(u32::MAX);
        let bytes = weight(message);
        let own = Arc::clone(&own.0).acquire_many_owned(permits(bytes.max(SESSION_LEAST))).await?;
        let common = Arc::clone(&self.0).acquire_many_owned(permits(bytes)).await?;
        Ok(Held { _own: own, _common: common })
    }
}

/// Estimates the bytes of a message, from above.
fn weight(message: &ToCoordinator) -> usize {
    let changes = |changes: &[Change]| SMALL + changes.iter().map(Change::weight).sum::<usize>();
    match message {
        ToCoordinator::Snapshot(part) => changes(&part.changes),
        ToCoordinator::Delta(delta) => changes(&delta.changes),
        ToCoordinator::Described(described) if described.metadata.is_some() => MAX_METADATA + MAX_SIDECAR,
        ToCoordinator::Described(_)
        | ToCoordinator::Hello(_)
        | ToCoordinator::Heartbeat(_)
        | ToCoordinator::Goodbye
        | ToCoordinator::Renew
        | ToCoordinator::Pull(_)
        | ToCoordinator::Clock { .. }
        | ToCoordinator::Reconciled { .. } => SMALL,
        ToCoordinator::Report(report) => match report.as_ref() {
            Report::Progress(progress) => {
                let sources = progress.sources.iter().map(|(node, _)| node);
                let names = sources.chain(progress.dropped.iter().map(|(node, _)| node));
                SMALL + MAX_DETAIL + names.map(|name| NAMED + name.as_str().len()).sum::<usize>()
            }
            Report::Mapped(_) | Report::Removed(_) => SMALL + MAX_DETAIL,
            Report::Verified(verified) => {
                let signers = match &verified.verdict {
                    Some(Verdict::Signed { by }) => by.len(),
                    Some(Verdict::Unsigned | Verdict::Bad { .. } | Verdict::UnknownKey { .. }) | None => 0,
                };
                SMALL + MAX_KEY_NAME + MAX_DETAIL + signers * NAMED
            }
        },
    }
}
