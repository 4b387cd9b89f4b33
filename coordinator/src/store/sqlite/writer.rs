//! The thread that writes. It takes whatever waits, applies it in one transaction, and starts over.
//!
//! Nothing here decides what is stored. A transaction that fails is not tried again, since the owner loop must not
//! wait for a disk that is full: its nodes are remembered as lost, and their further steps are skipped until they are
//! replaced as a whole, so that the disk never holds a position with a step missing before it.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Result, TransactionBehavior};
use sifleet_common::name::NodeName;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, trace, warn};

use super::metadata::Budget;
use super::write::Batch;
use super::{StoreError, StoreStats};
use crate::store::Op;

/// Most submissions in one transaction: enough to share its cost, few enough that a flush waits milliseconds.
const MAX_BATCH: usize = 1_024;

/// Transactions begin at most this often: at 5,000 steps a second that saves a third of the processor time and of
/// what is written, because steps share pages. Nobody waits for a commit but [`Command::Flush`].
const SPACING: Duration = Duration::from_millis(20);

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Apply {
        ops: Vec<Op>,
        /// Nodes of which steps were lost before these, for want of room in the queue.
        missed: BTreeSet<NodeName>,
    },
    /// Steps whose fate somebody waits for: a transaction of their own, which outlasts a loss of power.
    Commit {
        ops: Vec<Op>,
        done: oneshot::Sender<bool>,
    },
    Flush(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

/// What the handles can see of the writer.
#[derive(Debug, Default)]
pub(super) struct Shared {
    commits: AtomicU64,
    ops: AtomicU64,
    failures: AtomicU64,
    lost: Mutex<BTreeSet<NodeName>>,
    /// Nodes of which steps found no room in the queue, until the writer is told.
    missed: Mutex<BTreeSet<NodeName>>,
    /// Whether steps of pushes or removals were lost.
    asked_lost: AtomicBool,
}

impl Shared {
    pub(super) fn take_lost(&self) -> Vec<NodeName> {
        std::mem::take(&mut *self.lost()).into_iter().collect()
    }

    pub(super) fn stats(&self, waiting: usize) -> StoreStats {
        StoreStats {
            commits: self.commits.load(Ordering::Relaxed),
            ops: self.ops.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            waiting,
        }
    }

    /// Notes that steps found no room.
    pub(super) fn miss(&self, ops: &[Op]) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let nodes: BTreeSet<NodeName> = moved(ops).cloned().collect();
        self.lost().extend(nodes.iter().cloned());
        self.miss_asked(ops);
        held(&self.missed).extend(nodes);
    }

    pub(super) fn take_asked_lost(&self) -> bool {
        self.asked_lost.swap(false, Ordering::AcqRel)
    }

    fn miss_asked(&self, ops: &[Op]) {
        if ops.iter().any(Op::is_asked_for) {
            self.asked_lost.store(true, Ordering::Release);
        }
    }

    pub(super) fn take_missed(&self) -> BTreeSet<NodeName> {
        std::mem::take(&mut *held(&self.missed))
    }

    fn lost(&self) -> MutexGuard<'_, BTreeSet<NodeName>> {
        held(&self.lost)
    }
}

/// A set of names is valid whatever panicked while it was held.
fn held(names: &Mutex<BTreeSet<NodeName>>) -> MutexGuard<'_, BTreeSet<NodeName>> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lists the nodes whose inventories are moved by steps.
fn moved(ops: &[Op]) -> impl Iterator<Item = &NodeName> {
    ops.iter().filter_map(|op| match op {
        Op::Advance { node, .. } | Op::Replace { node, .. } => Some(node),
        Op::PutNode { .. }
        | Op::PutMetadata { .. }
        | Op::PutMembers { .. }
        | Op::HeardOf { .. }
        | Op::PutPush { .. }
        | Op::JoinPush { .. }
        | Op::ChangePush { .. }
        | Op::PutOutcomes { .. }
        | Op::ForgetPushes { .. }
        | Op::ForgetMap { .. }
        | Op::PutMap { .. }
        | Op::PutRemoval { .. }
        | Op::ChangeRemoval { .. }
        | Op::PutRemoved { .. }
        | Op::ForgetRemovals { .. }
        | Op::PutLimits { .. }
        | Op::MarkBusy { .. }
        | Op::PutStanding { .. }
        | Op::PutInvites { .. }
        | Op::ReplaceInvites { .. }
        | Op::ForgetInvites { .. }
        | Op::PutRegistry { .. }
        | Op::ForgetRegistry { .. }
        | Op::PutToken { .. }
        | Op::TouchTokens { .. }
        | Op::ForgetTokens { .. }
        | Op::PutTemplate { .. }
        | Op::ForgetTemplate { .. }
        | Op::PutAudit { .. }
        | Op::PruneAudit { .. }
        | Op::Oci(_) => None,
    })
}

/// Owns the connection that writes.
pub(super) struct Writer {
    connection: Connection,
    budget: Budget,
    shared: Arc<Shared>,
    lost: BTreeSet<NodeName>,
    failing: bool,
    /// Held until the last commit, so that no successor opens the file before.
    _lock: File,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        lock: File,
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
    ) -> Result<(), StoreError> {
        let what = "the number of images";
        let budget = Budget::read(&connection).map_err(|source| StoreError::Read { what, source })?;
        let writer = Self { connection, budget, shared, lost: BTreeSet::new(), failing: false, _lock: lock };
        let run = move || writer.run(commands);
        thread::Builder::new()
            .name("store".into())
            .spawn(run)
            .map_err(|source| StoreError::Thread { source })?;
        Ok(())
    }

    fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        let mut close = None;
        while close.is_none() && commands.blocking_recv_many(&mut batch, MAX_BATCH) > 0 {
            let mut flushed = Vec::new();
            let mut ops = Vec::with_capacity(batch.len());
            for command in batch.drain(..) {
                match command {
                    Command::Apply { ops: steps, missed } => {
                        if !missed.is_empty() {
                            // What came before must not be taken for what comes after.
                            self.commit(&std::mem::take(&mut ops));
                            self.lost.extend(missed);
                        }
                        ops.extend(steps);
                    }
                    Command::Commit { ops: steps, done } => {
                        self.commit(&std::mem::take(&mut ops));
                        if done.send(self.commit_for_good(&steps)).is_err() {
                            trace!("nobody waits for this commit any more");
                        }
                    }
                    Command::Flush(done) => flushed.push(done),
                    Command::Close(done) => {
                        close = Some(done);
                        break;
                    }
                }
            }
            let began = Instant::now();
            self.commit(&ops);
            for done in flushed {
                answer(done);
            }
            if close.is_none() {
                thread::park_timeout(SPACING.saturating_sub(began.elapsed()));
            }
        }
        self.end();
        // Whoever closes may open the file again at once.
        drop(self);
        if let Some(done) = close {
            answer(done);
        }
    }

    /// Writes steps so that they stay even if power is lost right afterwards, and everything before them with them.
    ///
    /// The rest is a memory aid; of these somebody is told that they hold.
    fn commit_for_good(&mut self, ops: &[Op]) -> bool {
        let sync = |how| self.connection.pragma_update(None, "synchronous", how);
        if let Err(failed) = sync("full") {
            self.fail(ops, &failed);
            return false;
        }
        let written = self.commit(ops);
        if let Err(failed) = self.connection.pragma_update(None, "synchronous", "normal") {
            warn!(error = %failed, "every transaction waits for the disk from here on");
        }
        written
    }

    /// Writes steps; tells whether they are written.
    fn commit(&mut self, ops: &[Op]) -> bool {
        if ops.is_empty() {
            return true;
        }
        match self.apply(ops) {
            Ok(found) => {
                self.shared.commits.fetch_add(1, Ordering::Relaxed);
                self.shared.ops.fetch_add(ops.len() as u64, Ordering::Relaxed);
                self.lost.retain(|node| !found.contains(node));
                if self.failing {
                    self.failing = false;
                    info!("the store writes again");
                }
                true
            }
            Err(failed) => {
                self.fail(ops, &failed);
                false
            }
        }
    }

    fn apply(&mut self, ops: &[Op]) -> Result<BTreeSet<NodeName>> {
        let mut budget = self.budget;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut batch = Batch::new(&transaction, &self.lost);
        for op in ops {
            batch.apply(op, &mut budget)?;
        }
        batch.finish()?;
        let found = batch.found;
        transaction.commit()?;
        self.budget = budget;
        Ok(found)
    }

    fn fail(&mut self, ops: &[Op], failed: &rusqlite::Error) {
        self.shared.failures.fetch_add(1, Ordering::Relaxed);
        // One line per outage: every further batch fails for the same reason.
        if !self.failing {
            self.failing = true;
            error!(
                error = %failed,
                "the store cannot write; answers stay right, but a restart would ask the agents for snapshots"
            );
        }
        self.shared.miss_asked(ops);
        let mut shared = self.shared.lost();
        for node in moved(ops).cloned() {
            shared.insert(node.clone());
            self.lost.insert(node);
        }
    }

    /// Leaves one file without a log beside it, which is what an admin expects to copy.
    fn end(&self) {
        let fold = || {
            self.connection.execute_batch("PRAGMA optimize")?;
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_row| Ok(()))
        };
        if let Err(failed) = fold() {
            warn!(error = %failed, "the write-ahead log was not folded into the database");
        }
    }
}

fn answer(done: oneshot::Sender<()>) {
    if done.send(()) == Err(()) {
        trace!("nobody waits for this flush any more");
    }
}
