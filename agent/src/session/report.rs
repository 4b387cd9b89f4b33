//! What an agent says to the coordinator, decided without a network or a clock.
//!
//! [`Reporter`] numbers every change of the inventory, keeps the newest ones for a short reconnect, repeats the
//! newest stamp it has seen and answers each message of the coordinator. The protocol is told in `common::wire`.

use std::collections::VecDeque;
use std::fmt;
use std::iter::Peekable;

use sifleet_common::digest::Digest;
use sifleet_common::image::Arch;
use sifleet_common::inventory::{Change, Generation, Inventory, OwnedChanges, RootState, pack};
use sifleet_common::name::PartitionName;
use sifleet_common::wire::assignment::Order;
use sifleet_common::wire::control::{
    Delta, Heartbeat, Hello, Known, MAX_CHANGES_WEIGHT, Snapshot, Stamp, StreamId, ToAgent, ToCoordinator,
};
use sifleet_common::wire::enrol::Certificates;
use sifleet_common::wire::pull::Pulled;

/// Bytes of changes kept for a coordinator that missed the last ones; with more, it gets a snapshot.
const MAX_LOG_WEIGHT: usize = 1024 * 1024;

/// What an agent says of itself.
#[derive(Clone, Debug)]
pub struct About {
    /// Version of the agent.
    pub build: String,
    /// The node's processor.
    pub arch: Arch,
    /// Partitions the settings name.
    pub partitions: Vec<PartitionName>,
    /// Where other nodes fetch from this one; 0 if they cannot.
    pub transfer_port: u16,
}

/// What is to be done after a message of the coordinator.
#[derive(Debug)]
pub enum Output {
    /// Say this.
    Say(ToCoordinator),
    /// Say all of this, part by part.
    SayAll(Parts),
    /// Send a heartbeat every so many milliseconds.
    BeatEvery(u32),
    /// Reconcile all roots.
    Rescan,
    /// Reconcile all roots, and answer with this number when that is done.
    Reconcile(u64),
    /// Read what an image says of itself and answer.
    Describe(Digest),
    /// Have the transfers see to it.
    Order(Order),
    /// Use these from here on.
    Renewed(Box<Certificates>),
    /// Ask for the certificate anew.
    Renew,
    /// Hand it to whoever asked.
    Pulled(Box<Pulled>),
}

/// Keeps what the coordinator should know and how much of it was said.
#[derive(Debug)]
pub struct Reporter {
    about: About,
    stream: StreamId,
    generation: Generation,
    inventory: Inventory,
    /// The newest steps; the last one led to `generation`.
    log: VecDeque<Vec<Change>>,
    log_weight: usize,
    stamp: Stamp,
    /// Whether steps are said as they come.
    talking: bool,
    welcomed: bool,
}

impl Reporter {
    /// Starts one life of the agent with an empty inventory.
    #[must_use]
    pub fn new(stream: StreamId, about: About) -> Self {
        Self {
            about,
            stream,
            generation: Generation::default(),
            inventory: Inventory::default(),
            log: VecDeque::new(),
            log_weight: 0,
            stamp: Stamp::default(),
            talking: false,
            welcomed: false,
        }
    }

    /// Returns the number of the last change.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Returns the inventory as the coordinator should know it.
    #[must_use]
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Tells whether there are roots and each was scanned, or is known not to be there.
    #[must_use]
    pub fn scanned(&self) -> bool {
        let mut roots = self.inventory.roots().peekable();
        let first = |reason: &str| reason == FIRST_SCAN;
        roots.peek().is_some()
            && roots.all(|(_, root)| !matches!(&root.state, RootState::Unknown { reason } if first(reason)))
    }

    /// Tells whether the coordinator welcomed this agent since the last call.
    pub fn take_welcomed(&mut self) -> bool {
        std::mem::take(&mut self.welcomed)
    }

    /// Takes changes in; returns what to say if the coordinator is listening.
    pub fn observe(&mut self, changes: Vec<Change>) -> Vec<ToCoordinator> {
        let mut effective = Vec::with_capacity(changes.len());
        for change in changes {
            if self.inventory.apply(change.clone()) {
                effective.push(change);
            }
        }
        let steps = pack(effective, MAX_CHANGES_WEIGHT);
        steps.into_iter().filter_map(|step| self.step(step)).collect()
    }

    fn step(&mut self, changes: Vec<Change>) -> Option<ToCoordinator> {
        self.generation = self.generation.next();
        self.log_weight += weight(&changes);
        let said = self.talking.then(|| delta(self.generation, changes.clone()));
        self.log.push_back(changes);
        while self.log_weight > MAX_LOG_WEIGHT {
            let Some(oldest) = self.log.pop_front() else { break };
            self.log_weight -= weight(&oldest);
        }
        said
    }

    /// Begins a session.
    pub fn hello(&mut self) -> ToCoordinator {
        self.talking = false;
        self.stamp = Stamp::default();
        ToCoordinator::Hello(Hello {
            stream: self.stream,
            generation: self.generation,
            digest: self.inventory.digest(),
            build: self.about.build.clone(),
            arch: self.about.arch,
            partitions: self.about.partitions.clone(),
            transfer_port: self.about.transfer_port,
        })
    }

    /// Ends a session: changes are kept, not said.
    pub fn lost(&mut self) {
        self.talking = false;
    }

    /// Gives a sign of life.
    #[must_use]
    pub fn heartbeat(&self) -> ToCoordinator {
        ToCoordinator::Heartbeat(Heartbeat {
            generation: self.generation,
            digest: self.inventory.digest(),
            stamp: self.stamp,
        })
    }

    /// Takes a message of the coordinator in.
    pub fn receive(&mut self, message: ToAgent) -> Vec<Output> {
        match message {
            ToAgent::Welcome(welcome) => {
                self.see(welcome.stamp);
                self.talking = true;
                self.welcomed = true;
                let mut outputs = vec![Output::BeatEvery(welcome.heartbeat_ms)];
                outputs.extend(self.catch_up(welcome.known));
                outputs.push(Output::Say(self.heartbeat()));
                outputs
            }
            ToAgent::Ack { stamp, .. } => {
                self.see(stamp);
                Vec::new()
            }
            ToAgent::Resync { stamp } => {
                self.see(stamp);
                vec![self.everything(), Output::Say(self.heartbeat())]
            }
            ToAgent::Describe { digest } => vec![Output::Describe(digest)],
            ToAgent::Rescan => vec![Output::Rescan],
            ToAgent::Reconcile { request } => vec![Output::Reconcile(request)],
            ToAgent::Order(order) => vec![Output::Order(*order)],
            ToAgent::Renewed(certificates) => vec![Output::Renewed(certificates)],
            ToAgent::RenewNow => vec![Output::Renew],
            ToAgent::Pulled(pulled) => vec![Output::Pulled(pulled)],
        }
    }

    fn see(&mut self, stamp: Stamp) {
        self.stamp = self.stamp.max(stamp);
    }

    fn catch_up(&self, known: Known) -> Vec<Output> {
        match known {
            Known::Current => Vec::new(),
            Known::Nothing => vec![self.everything()],
            Known::At(generation) => {
                let missing =
                    self.generation.0.checked_sub(generation.0).and_then(|n| usize::try_from(n).ok());
                match missing.and_then(|missing| self.log.len().checked_sub(missing)) {
                    Some(skip) => (generation.0 + 1..)
                        .zip(self.log.iter().skip(skip))
                        .map(|(number, changes)| Output::Say(delta(Generation(number), changes.clone())))
                        .collect(),
                    None => vec![self.everything()],
                }
            }
        }
    }

    fn everything(&self) -> Output {
        Output::SayAll(Parts {
            generation: self.generation,
            changes: self.inventory.as_changes().peekable(),
            part: 0,
            done: false,
        })
    }
}

/// The reason of a root that was not scanned yet; the hello waits until no root has it.
pub const FIRST_SCAN: &str = "the first scan is under way";

fn delta(generation: Generation, changes: Vec<Change>) -> ToCoordinator {
    ToCoordinator::Delta(Delta { generation, changes })
}

fn weight(changes: &[Change]) -> usize {
    changes.iter().map(Change::weight).sum()
}

/// The parts of a snapshot, made one by one so that only one is in memory.
pub struct Parts {
    generation: Generation,
    changes: Peekable<OwnedChanges>,
    part: u32,
    done: bool,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("generation", &self.generation).field("part", &self.part).finish()
    }
}

impl Iterator for Parts {
    type Item = ToCoordinator;

    fn next(&mut self) -> Option<ToCoordinator> {
        if self.done {
            return None;
        }
        let (mut changes, mut weight) = (Vec::new(), 0);
        while let Some(next) = self.changes.peek().map(Change::weight) {
            if !changes.is_empty() && weight + next > MAX_CHANGES_WEIGHT {
                break;
            }
            weight += next;
            changes.extend(self.changes.next());
        }
        self.done = self.changes.peek().is_none();
        let snapshot = Snapshot { generation: self.generation, part: self.part, last: self.done, changes };
        self.part = self.part.saturating_add(1);
        Some(ToCoordinator::Snapshot(snapshot))
    }
}
