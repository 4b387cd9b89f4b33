//! Pushes, from the wish to the end: which node is to have which image, what it is told, and how it fares.
//!
//! Owns the wishes ([`wish`]), each node's share of them ([`share`]), the swarms in which images travel ([`swarm`]) and the
//! clocks that end what hangs ([`clock`]). A node is done when its inventory shows the image; what it reports of its
//! progress only moves bars. It never decides which chunk comes from whom: agents do.
//!
//! Work that touches thousands of nodes is cut into steps of a bounded size ([`State::turn_pushes`]), so that no event
//! holds the loop up; what is left is done at once in the turns that follow.

mod begin;
mod clock;
mod commands;
mod end;
pub mod join;
mod keep;
mod maps;
mod nodes;
mod quarantine;
mod report;
mod say;
mod share;
mod signatures;
mod swarm;
#[cfg(test)]
mod tests;
pub mod wish;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use roaring::RoaringBitmap;
use sifleet_common::api::pushes::{DroppedSource, PushState};
use sifleet_common::capability::Signer;
use sifleet_common::digest::Digest;
use sifleet_common::name::NodeName;
use sifleet_common::push::Phase;
use sifleet_common::time::{Monotonic, Now};
use sifleet_common::wire::assignment::{AssignmentId, Moved};

use super::index::NodeId;
use super::{SessionId, State};
use crate::store::push::{PushNo, PushOutcome, PushRecord};
use crate::view::pushes::{PartInfo, PushInfo};
pub(super) use clock::wait_after;
use maps::Maps;
use quarantine::Quarantine;
use share::Share;
pub use signatures::Rules;
use signatures::Signatures;
use swarm::Swarm;
pub use wish::{Command, PushError, Wish};

/// Steps of one kind that are taken in one turn: a few milliseconds of work.
const STEPS: usize = 128;

/// What may be set of transfers.
#[derive(Clone, Copy, Debug)]
pub struct Transfers {
    /// Most pushes that are kept; those that ended first are forgotten first.
    pub max_pushes: usize,
    /// Where the numbers of assignments begin: above all those of earlier lives of the coordinator.
    pub first_assignment: u64,
}

impl Default for Transfers {
    fn default() -> Self {
        Self { max_pushes: 1_000, first_assignment: 1 }
    }
}

/// What happens at a certain time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A node is looked after: silent, or to try once more.
    Share(AssignmentId),
    /// The maker of a chunk map is given up.
    Map(Digest),
    /// A push's deadline.
    Push(PushNo),
    /// Nobody has said of a node for a while that it cheats.
    Pardon(NodeId),
    /// Whoever verifies an image's signatures is given up.
    Verdict(Digest),
}

/// Something to be done with many nodes, and how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Nodes of a push begin.
    Begin(PushNo, usize),
    /// Nodes of a push that have not come to an end are let off.
    Cancel(PushNo, usize),
    /// The same, because the deadline passed.
    Expire(PushNo, usize),
    /// Nodes that failed begin once more.
    Retry(PushNo, usize),
    /// Nodes hear of another rate.
    Restate(PushNo, usize),
    /// Nodes that wait for an image's map or source look again, from this assignment on.
    Wake(Digest, AssignmentId),
    /// Nobody can make the map of an image: those that wait for it fail, from this assignment on.
    Unmapped(Digest, AssignmentId),
}

/// One push.
#[derive(Debug)]
struct Push {
    record: Arc<PushRecord>,
    parts: Vec<Part>,
    /// How many parts are in each phase.
    counts: [u32; Phase::ALL.len()],
    /// How many parts have not come to an end.
    open: u32,
    state: PushState,
    /// Whether an earlier life of the coordinator began it, so that agents may have parts of the image.
    found: bool,
    /// When its deadline is; not known until somebody says what time it is.
    expires: Option<Monotonic>,
    /// When its deadline is if nodes are to try once more after all came to an end.
    until: Monotonic,
    dropped: Arc<Vec<DroppedSource>>,
    shown: imbl::Vector<Arc<PartInfo>>,
    dirty: BTreeSet<usize>,
}

/// One node of a push.
#[derive(Clone, Copy, Debug)]
struct Part {
    node: NodeId,
    /// What it is part of until it comes to an end.
    share: Option<AssignmentId>,
    /// Whether it has come to an end.
    settled: bool,
}

impl Push {
    /// Makes a push whose nodes stand as given.
    fn new(record: Arc<PushRecord>, nodes: Vec<(NodeId, Option<PushOutcome>)>) -> Self {
        let (mut counts, mut open) = ([0; Phase::ALL.len()], 0);
        let (mut parts, mut shown) = (Vec::with_capacity(nodes.len()), Vec::with_capacity(nodes.len()));
        // Thousands of nodes of which nothing is known share what is not known.
        for (node, outcome) in nodes {
            let settled = outcome.is_some();
            let outcome = outcome.unwrap_or_else(PushOutcome::waiting);
            counts[place(outcome.phase)] += 1;
            open += u32::from(!settled);
            parts.push(Part { node, share: None, settled });
            shown.push(Arc::new(PartInfo { node: node.0, outcome, sources: Vec::new(), rate: 0 }));
        }
        let mut push = Self {
            record,
            parts,
            counts,
            open,
            state: PushState::Running,
            found: false,
            expires: None,
            until: Monotonic::default(),
            dropped: Arc::default(),
            shown: shown.into_iter().collect(),
            dirty: BTreeSet::new(),
        };
        push.state = push.stands();
        push
    }

    fn count(&self, phase: Phase) -> u32 {
        self.counts.get(place(phase)).copied().unwrap_or_default()
    }

    /// Tells how the push stands.
    fn stands(&self) -> PushState {
        let (done, all) = (self.count(Phase::Done), u32::try_from(self.parts.len()).unwrap_or(u32::MAX));
        if self.record.cancelled {
            PushState::Cancelled
        } else if Phase::ALL.into_iter().any(|phase| phase.is_under_way() && self.count(phase) > 0) {
            PushState::Running
        } else if self.record.completion.is_met(done, all) {
            PushState::Done
        } else if done > 0 || self.count(Phase::Deferred) > 0 {
            PushState::Partial
        } else {
            PushState::Failed
        }
    }

    fn moved(&mut self, from: Phase, to: Phase) {
        for (phase, by) in [(from, -1), (to, 1)] {
            if let Some(count) = self.counts.get_mut(place(phase)) {
                *count = count.saturating_add_signed(by);
            }
        }
    }
}

/// Returns where a phase is counted.
fn place(phase: Phase) -> usize {
    Phase::ALL.iter().position(|known| *known == phase).unwrap_or_default()
}

/// Everything known of pushes.
#[derive(Debug, Default)]
pub(super) struct Pushes {
    set: Transfers,
    last_push: PushNo,
    last_share: u64,
    pushes: BTreeMap<PushNo, Push>,
    keys: BTreeMap<String, PushNo>,
    shares: BTreeMap<AssignmentId, Share>,
    of_node: BTreeMap<NodeId, BTreeSet<AssignmentId>>,
    swarms: BTreeMap<Digest, Swarm>,
    quarantine: Quarantine,
    maps: Maps,
    signatures: Signatures,
    timers: BTreeSet<(Monotonic, Timer)>,
    work: VecDeque<Work>,
    /// Nodes that lost their lease, won one, or changed what they hold.
    gone: BTreeSet<NodeId>,
    came: BTreeSet<NodeId>,
    touched: BTreeSet<NodeId>,
    /// Assignments that have to be said.
    unsaid: BTreeSet<AssignmentId>,
    /// When news of peers is said next.
    news_at: Monotonic,
    /// Ends that are not handed to the store yet.
    outcomes: BTreeMap<PushNo, Vec<(NodeName, Option<PushOutcome>)>>,
    /// Bytes of all pushes since the start.
    moved: Moved,
    /// Pushes found at start, whose deadlines wait for the time.
    found: Vec<PushNo>,
    changed: BTreeSet<PushNo>,
    shown: imbl::OrdMap<PushNo, Arc<PushInfo>>,
    signer: Option<Signer>,
}

impl Pushes {
    /// Notes that a node's agreement counts from here on, or counts again.
    pub(super) fn came(&mut self, id: NodeId) {
        self.came.insert(id);
    }

    /// Notes that a node lost its lease.
    pub(super) fn gone(&mut self, id: NodeId) {
        if !self.swarms.is_empty() || self.of_node.contains_key(&id) {
            self.gone.insert(id);
        }
    }

    /// Notes that others reach a node elsewhere.
    pub(super) fn moved_house(&mut self, id: NodeId) {
        self.swarms.values_mut().for_each(|swarm| swarm.ring.touch(id));
    }

    /// Notes that something changed in a node's inventory.
    pub(super) fn touched(&mut self, id: NodeId) {
        if !self.swarms.is_empty() || self.of_node.contains_key(&id) {
            self.touched.insert(id);
        }
    }

    /// Returns a number that no order to an agent has.
    pub(super) fn next_number(&mut self) -> AssignmentId {
        self.last_share = self.last_share.saturating_add(1);
        AssignmentId(self.last_share)
    }

    /// Returns how many are kept.
    pub(super) const fn most_kept(&self) -> usize {
        self.set.max_pushes
    }

    /// Tells whether there is something to do at once.
    fn is_busy(&self) -> bool {
        !(self.work.is_empty()
            && self.unsaid.is_empty()
            && self.gone.is_empty()
            && self.came.is_empty()
            && self.touched.is_empty()
            && self.found.is_empty())
    }

    /// Tells when the pushes want a turn.
    fn next_turn(&self) -> Option<Monotonic> {
        if self.is_busy() {
            return Some(Monotonic::default());
        }
        let news = self.swarms.values().any(|swarm| swarm.ring.is_changed()).then_some(self.news_at);
        let timer = self.timers.first().map(|(at, _)| *at);
        news.into_iter().chain(timer).min()
    }
}

impl State {
    /// Sets what may be set of transfers.
    #[must_use]
    pub fn with_transfers(mut self, set: Transfers) -> Self {
        self.pushes.set = set;
        self.pushes.last_share = self.pushes.last_share.max(set.first_assignment);
        self
    }

    /// Sets what signs permissions to fetch: without it nobody is told to.
    #[must_use]
    pub fn with_signer(mut self, signer: Signer) -> Self {
        self.pushes.signer = Some(signer);
        self
    }

    /// Tells when something is to be done, unless something is heard before.
    #[must_use]
    pub fn next_turn(&self) -> Option<Monotonic> {
        let turns = self.pushes.next_turn().into_iter().chain(self.removals.next_turn());
        let turns = turns.chain(self.limiting.next_turn());
        self.next_expiry().into_iter().chain(turns).min()
    }

    /// Does what there is to do, a bounded number of steps of each kind.
    pub(super) fn turn_pushes(&mut self, now: Now) {
        self.arm_found(now);
        for _ in 0..STEPS {
            let Some(id) = self.pushes.gone.pop_first() else { break };
            self.node_gone(id, now);
        }
        for _ in 0..STEPS {
            let Some(id) = self.pushes.came.pop_first() else { break };
            self.node_came(id, now);
        }
        for _ in 0..STEPS {
            let Some(id) = self.pushes.touched.pop_first() else { break };
            self.look_at_node(id, now);
        }
        self.ring_timers(now);
        self.work(now);
        self.say_assignments(now);
        self.hand_over_outcomes();
    }

    /// Tells whether a push is bringing an image to a node, or waits to.
    pub(super) fn is_being_pushed(&self, id: NodeId, image: Digest) -> bool {
        let own = self.pushes.of_node.get(&id).into_iter().flatten();
        own.filter_map(|share| self.pushes.shares.get(share)).any(|share| share.image == image)
    }

    /// Tells whether a node is part of a push that has not come to an end there.
    pub(super) fn has_shares(&self, id: NodeId) -> bool {
        self.pushes.of_node.contains_key(&id)
    }

    /// Lists the nodes that are told to fetch something.
    pub(super) fn fetching_nodes(&self) -> RoaringBitmap {
        let fetches = |own: &BTreeSet<AssignmentId>| {
            let mut shares = own.iter().filter_map(|id| self.pushes.shares.get(id));
            shares.any(|share| share.assigned && share.claimed.is_none())
        };
        self.pushes.of_node.iter().filter(|(_, own)| fetches(own)).map(|(id, _)| id.0).collect()
    }

    /// Finds the session of a node, if it has one.
    pub(in crate::state) fn session_of(&self, id: NodeId) -> Option<SessionId> {
        self.node(id).and_then(|node| node.session.as_ref()).map(|open| open.id)
    }

    pub(in crate::state) fn is_live(&self, id: NodeId) -> bool {
        self.live.contains(id.0)
    }
}
