//! The node's inventory: what all roots together hold.
//!
//! Owns the one true copy. It applies what the owners of the roots find and passes on, in order, the changes that
//! made a difference; whoever applies those to an empty inventory has the same. It also answers commands, and says
//! that a root is unknown whose owner stands still. It looks at no disk itself.

mod asking;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use sifleet_common::digest::Digest;
use sifleet_common::inventory::{
    Change, Content, Inventory, Replica, ReplicaKey, Root, RootId, RootKind, RootState,
};
use sifleet_common::name::ImageName;
use sifleet_common::task::Tasks;
use sifleet_common::telemetry::catalog;
use sifleet_common::time::Monotonic;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use asking::Asking;

use crate::describe::{Candidate, Description, describe};
use crate::hash::Hashing;
use crate::reuse::likeness;
pub use crate::session::Command;
use crate::session::report::FIRST_SCAN;
use crate::thread::Threads;
use crate::watch::hints::Cause;
use crate::watch::{RootSettings, Watch};

/// Batches between the roots and the inventory; when full, the roots wait and hints gather in their mailboxes.
const FINDINGS: usize = 16;
/// Batches between the inventory and the session; when full, the inventory waits, and so do the roots.
const CHANGES: usize = 16;
/// Changes passed on together at most.
const BATCH: usize = 1024;
/// Commands that may wait; whoever sends more waits.
const COMMANDS: usize = 32;
/// Descriptions that may wait for the disk; more are answered with nothing, and asked for again.
const DESCRIPTIONS: usize = 256;
/// Replicas looked at for one description.
const CANDIDATES: usize = 4;
/// Images looked through for chunks of another one.
const RELATED: usize = 256;
/// Roots are checked for standstill, and the inventory's own pulse is shown, this often.
const TICK: Duration = Duration::from_secs(5);
/// A directory or file that takes longer to answer hangs: twice the longest time-out of an NFS soft mount.
const STUCK: Duration = Duration::from_secs(60);

/// The inventory, seen from outside.
#[derive(Debug)]
pub struct Parts {
    /// The changes that made a difference, in order, beginning with the roots. Whoever holds this must keep
    /// receiving: while nobody does, nothing is looked at.
    pub changes: mpsc::Receiver<Vec<Change>>,
    /// Takes commands.
    pub commands: mpsc::Sender<Command>,
}

/// Which loop a beat is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loop {
    /// The inventory's own.
    Inventory,
    /// Those of the roots' owners, all of them.
    Watch,
}

/// Starts to watch roots. Everything stops with `tasks`; `beat` is called as long as the inventory moves, and as long as
/// the roots' owners do, but for those that a file system holds up.
///
/// # Errors
/// When the system has no room for another thread; threads already started end by themselves.
pub fn start(
    roots: Vec<RootSettings>,
    hashing: &Arc<Hashing>,
    tasks: &Tasks,
    beat: impl Fn(Loop) + Send + 'static,
) -> io::Result<Parts> {
    let (findings_tx, findings) = mpsc::channel(FINDINGS);
    let (changes_tx, changes) = mpsc::channel(CHANGES);
    let (commands, commands_rx) = mpsc::channel(COMMANDS);
    let (asking, asked) = Asking::new();
    let mut owner = Owner {
        inventory: Inventory::default(),
        ready: Vec::new(),
        roots: BTreeMap::new(),
        describe: start_describing(&hashing.threads)?,
        hashing: Arc::clone(hashing),
        asking,
    };
    for settings in roots {
        owner.add(settings, findings_tx.clone())?;
    }
    drop(findings_tx);
    let stop = tasks.token();
    tasks.spawn(
        "inventory",
        owner.run(Ends { findings, commands: commands_rx, asked, changes: changes_tx }, beat, stop),
    );
    Ok(Parts { changes, commands })
}

/// The inventory's ends of its channels.
struct Ends {
    findings: mpsc::Receiver<Vec<Change>>,
    commands: mpsc::Receiver<Command>,
    /// Reconciliations whose roots were all looked at.
    asked: mpsc::Receiver<oneshot::Sender<()>>,
    changes: mpsc::Sender<Vec<Change>>,
}

struct Watched {
    path: PathBuf,
    watch: Watch,
    /// What its owner last said of it.
    said: Root,
    stuck: bool,
}

struct Owner {
    inventory: Inventory,
    /// Changes that made a difference and wait to be passed on.
    ready: Vec<Change>,
    roots: BTreeMap<RootId, Watched>,
    describe: SyncSender<Question>,
    hashing: Arc<Hashing>,
    asking: Asking,
}

impl Owner {
    fn add(&mut self, settings: RootSettings, findings: mpsc::Sender<Vec<Change>>) -> io::Result<()> {
        let (id, path) = (settings.id, settings.path.clone());
        let said = Root {
            path: path.to_string_lossy().into_owned(),
            kind: if settings.library { RootKind::Library } else { RootKind::Plain },
            state: RootState::Unknown { reason: FIRST_SCAN.to_owned() },
        };
        let watch = Watch::start(settings, Arc::clone(&self.hashing), findings)?;
        self.note(Change::Root(id, said.clone()));
        self.roots.insert(id, Watched { path, watch, said, stuck: false });
        Ok(())
    }

    async fn run(mut self, mut ends: Ends, beat: impl Fn(Loop) + Send + 'static, stop: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut commands_open = true;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = tick.tick() => {
                    let now = self.hashing.clock.now().mono;
                    beat(Loop::Inventory);
                    if self.owners_move(now) {
                        beat(Loop::Watch);
                    }
                    self.check_pulses(now);
                }
                command = ends.commands.recv(), if commands_open => match command {
                    Some(command) => self.command(command),
                    None => commands_open = false,
                },
                Some(reply) = ends.asked.recv() => {
                    // What the roots found before they said so waits in the queue.
                    while let Ok(batch) = ends.findings.try_recv() {
                        self.apply(batch);
                    }
                    self.asking.ended(reply);
                }
                Some(batch) = ends.findings.recv(), if self.ready.len() < BATCH => self.apply(batch),
                permit = ends.changes.reserve(), if !self.ready.is_empty() => match permit {
                    Ok(permit) => permit.send(std::mem::take(&mut self.ready)),
                    Err(_nobody_receives) => break,
                },
            }
            if self.ready.is_empty() {
                self.asking.answer();
            }
        }
        for root in self.roots.values() {
            root.watch.hints.stop();
        }
        // Each owner holds a sender until it has ended.
        while ends.findings.recv().await.is_some() {}
    }

    fn owners_move(&self, now: Monotonic) -> bool {
        self.roots.values().all(|root| !root.watch.pulse.is_lost(now, STUCK))
    }

    fn apply(&mut self, batch: Vec<Change>) {
        for change in batch {
            if let Change::Root(id, root) = &change
                && let Some(watched) = self.roots.get_mut(id)
            {
                watched.said = root.clone();
            }
            self.note(change);
        }
    }

    fn note(&mut self, change: Change) {
        if self.inventory.apply(change.clone()) {
            self.ready.push(change);
        }
    }

    /// Says that a root is unknown while its owner stands still, and what its owner said when it moves again.
    fn check_pulses(&mut self, now: Monotonic) {
        let mut changes = Vec::new();
        for (id, root) in &mut self.roots {
            let stuck = root.watch.pulse.stuck_for(now) > STUCK;
            if stuck == root.stuck {
                continue;
            }
            root.stuck = stuck;
            let mut said = root.said.clone();
            if stuck {
                let reason = "it has not answered for a minute";
                warn!(message_id = catalog::ROOT_UNKNOWN, path = %said.path, error = reason, "root does not answer");
                said.state = RootState::Unknown {
                    reason: format!(
                        "{} has not answered for {} s: check its file system",
                        said.path,
                        STUCK.as_secs()
                    ),
                };
            }
            changes.push(Change::Root(*id, said));
        }
        for change in changes {
            self.note(change);
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Rescan => {
                for root in self.roots.values() {
                    root.watch.hints.whole(Cause::Asked);
                }
            }
            Command::Reconcile { reply } => {
                if let Some(asked) = self.asking.begin(reply) {
                    self.roots.values().for_each(|root| root.watch.hints.ask(Arc::clone(&asked)));
                }
            }
            // Whoever asked may have gone.
            Command::Locate { digest, reply } => drop(reply.send(self.candidates(digest))),
            Command::At { root, name, reply } => drop(reply.send(self.at(root, name))),
            Command::Related { name, mapped, reply } => drop(reply.send(self.related(&name, &mapped))),
            Command::Describe { digest, reply } => {
                let question = Question { candidates: self.candidates(digest), reply };
                if self.describe.try_send(question).is_err() {
                    debug!(%digest, "too many images wait to be described");
                }
            }
        }
    }

    fn candidates(&self, digest: Digest) -> Vec<Candidate> {
        let replicas = self.inventory.replicas().filter(
            |(_, replica)| matches!(&replica.content, Content::Image(image) if image.digest == digest),
        );
        replicas.filter_map(|(key, replica)| self.candidate(key, replica)).take(CANDIDATES).collect()
    }

    fn at(&self, root: RootId, name: ImageName) -> Option<(Digest, Candidate)> {
        let key = ReplicaKey { root, name };
        let replica = self.inventory.replica(&key)?;
        let Content::Image(image) = &replica.content else { return None };
        Some((image.digest, self.candidate(&key, replica)?))
    }

    fn candidate(&self, key: &ReplicaKey, replica: &Replica) -> Option<Candidate> {
        let root = self.roots.get(&key.root).filter(|root| !root.stuck)?;
        let (name, size, modified) = (key.name.clone(), replica.size, replica.modified);
        let trusted = self.inventory.root(key.root).is_some_and(|root| root.kind.is_trusted());
        Some(Candidate { root: root.path.clone(), trusted, name, size, modified })
    }

    /// Lists images that may have chunks in common with one of this name: those whose maps are known, and, likely ones
    /// first, others whose names begin alike.
    fn related(&self, name: &ImageName, mapped: &BTreeSet<Digest>) -> Vec<(Digest, Candidate)> {
        let mut found = BTreeMap::new();
        for (key, replica) in self.inventory.replicas() {
            let Content::Image(image) = &replica.content else { continue };
            let likeness = likeness(name, &key.name);
            if (likeness > 0 || mapped.contains(&image.digest))
                && let Some(candidate) = self.candidate(key, replica)
            {
                found.entry(image.digest).or_insert((likeness, candidate));
            }
        }
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort_by_key(|(digest, (likeness, _))| (std::cmp::Reverse(*likeness), *digest));
        found.truncate(RELATED);
        found.into_iter().map(|(digest, (_, candidate))| (digest, candidate)).collect()
    }
}

/// A description that somebody waits for.
struct Question {
    candidates: Vec<Candidate>,
    reply: oneshot::Sender<Option<Description>>,
}

/// Starts the thread that describes images; it ends with the inventory.
fn start_describing(threads: &Threads) -> io::Result<SyncSender<Question>> {
    let (ask, questions): (_, Receiver<Question>) = sync_channel(DESCRIPTIONS);
    threads.start("describe", move || {
        while let Ok(Question { candidates, reply }) = questions.recv() {
            if reply.send(describe(&candidates)).is_err() {
                debug!("nobody waits for a description any more");
            }
        }
    })?;
    Ok(ask)
}

#[cfg(test)]
mod tests;
