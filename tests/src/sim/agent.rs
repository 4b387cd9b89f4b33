//! One simulated agent: the real reporter, an invented disk, and a link on which messages wait.

use std::collections::{BTreeMap, VecDeque};

use rand::RngExt;
use rand::rngs::StdRng;
use sifleet_agent::session::report::{About, Reporter};
use sifleet_common::image::Arch;
use sifleet_common::inventory::{Change, Generation, InventoryDigest};
use sifleet_common::name::{NodeName, PartitionName};
use sifleet_common::wire::control::{Snapshot, StreamId, ToAgent, ToCoordinator};
use sifleet_coordinator::state::SessionId;

use super::truth::Truth;

/// Changes in one part of a snapshot.
const CHANGES_A_PART: usize = 3;

/// One agent with its disk and its link.
pub(super) struct Agent {
    pub(super) name: NodeName,
    pub(super) reporter: Reporter,
    pub(super) stream: StreamId,
    /// The partitions it says it is in.
    pub(super) declared: Vec<PartitionName>,
    /// Where its inventory stood at every generation of every life.
    pub(super) stood: BTreeMap<(StreamId, Generation), InventoryDigest>,
    pub(super) truth: Truth,
    pub(super) up: bool,
    pub(super) session: Option<SessionId>,
    pub(super) next_beat: u64,
    /// Sent at, due at, message; both directions of the one link.
    pub(super) up_link: VecDeque<(u64, SessionId, ToCoordinator)>,
    pub(super) down_link: VecDeque<(u64, SessionId, ToAgent)>,
    pub(super) dial_at: u64,
    /// When the agent last heard anything; silence ends its session as QUIC's idle timeout does.
    pub(super) heard: u64,
}

impl Agent {
    pub(super) fn new(number: usize, rng: &mut StdRng) -> Self {
        let mut agent = Self {
            name: crate::known(&format!("n{number}")),
            reporter: reporter(StreamId(0), declared(number)),
            declared: declared(number),
            stream: StreamId(0),
            stood: BTreeMap::new(),
            truth: Truth::new(rng),
            up: false,
            session: None,
            next_beat: 0,
            up_link: VecDeque::new(),
            down_link: VecDeque::new(),
            dial_at: 0,
            heard: 0,
        };
        agent.revive(rng);
        agent
    }

    pub(super) fn observe(&mut self, changes: Vec<Change>) -> Vec<ToCoordinator> {
        let said = self.reporter.observe(changes);
        self.stood.insert((self.stream, self.reporter.generation()), self.reporter.inventory().digest());
        said
    }

    pub(super) fn die(&mut self) {
        self.up = false;
        self.session = None;
    }

    /// Starts the agent anew: it scans its disk and knows nothing of its former life.
    pub(super) fn revive(&mut self, rng: &mut StdRng) {
        if !self.up {
            self.up = true;
            self.stream = StreamId(rng.random());
            self.reporter = reporter(self.stream, self.declared.clone());
            drop(self.observe(self.truth.everything()));
        }
    }
}

fn reporter(stream: StreamId, partitions: Vec<PartitionName>) -> Reporter {
    Reporter::new(
        stream,
        About { build: "0.0.0".into(), arch: Arch::default(), partitions, transfer_port: 0 },
    )
}

/// Every other agent says that it is in a partition.
fn declared(number: usize) -> Vec<PartitionName> {
    if number.is_multiple_of(2) { vec![crate::known(super::DECLARED)] } else { Vec::new() }
}

/// Cuts the parts of a snapshot into smaller ones, so that there are always several to lose or to confuse.
pub(super) fn finely(parts: impl Iterator<Item = ToCoordinator>) -> Vec<ToCoordinator> {
    let (mut generation, mut all, mut others) = (Generation::default(), Vec::new(), Vec::new());
    for part in parts {
        match part {
            ToCoordinator::Snapshot(part) => {
                generation = part.generation;
                all.extend(part.changes);
            }
            other @ (ToCoordinator::Hello(_)
            | ToCoordinator::Delta(_)
            | ToCoordinator::Heartbeat(_)
            | ToCoordinator::Described(_)
            | ToCoordinator::Report(_)
            | ToCoordinator::Renew
            | ToCoordinator::Pull(_)
            | ToCoordinator::Clock { .. }
            | ToCoordinator::Reconciled { .. }
            | ToCoordinator::Goodbye) => others.push(other),
        }
    }
    let groups: Vec<Vec<Change>> = all.chunks(CHANGES_A_PART).map(<[Change]>::to_vec).collect();
    let parts = groups.len();
    let part = |(part, changes): (usize, Vec<Change>)| {
        let number = u32::try_from(part).unwrap_or(u32::MAX);
        ToCoordinator::Snapshot(Snapshot { generation, part: number, last: part + 1 == parts, changes })
    };
    groups.into_iter().enumerate().map(part).chain(others).collect()
}

/// Takes what is due off a link, in random order.
pub(super) fn due<T>(
    link: &mut VecDeque<(u64, SessionId, T)>,
    millis: u64,
    rng: &mut StdRng,
) -> Vec<(u64, SessionId, T)> {
    let (mut ready, later): (Vec<_>, Vec<_>) = link.drain(..).partition(|(due, ..)| *due <= millis);
    link.extend(later);
    for n in (1..ready.len()).rev() {
        if rng.random_range(0..4) == 0 {
            ready.swap(n, rng.random_range(0..=n));
        }
    }
    ready
}
