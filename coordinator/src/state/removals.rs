//! Removals, from the wish to the end: which node is not to have which image any longer, and how it fares.
//!
//! Owns the wishes ([`wish`]), what is done next for each node ([`step`]), which replicas are about to go ([`rule`]) and
//! what is kept ([`keep`]). A node is done when its inventory no longer shows the image. No image loses its last ready
//! replica unless somebody forces it: that is looked at when a removal is asked for, and again before each order.
//! Whether a file is in use only its node's agent can say.

mod keep;
mod orders;
pub mod rule;
mod step;
#[cfg(test)]
mod tests;
pub mod wish;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sifleet_common::api::removals::RemovalState;
use sifleet_common::digest::Digest;
use sifleet_common::name::NodeName;
use sifleet_common::removal::RemovalPhase;
use sifleet_common::time::{Monotonic, Now};
use sifleet_common::wire::assignment::{AssignmentId, REMOVAL_GIVEN_UP};

use super::State;
use super::index::NodeId;
use crate::store::removal::{RemovalNo, RemovalPart, RemovalRecord};
use crate::view::removals::{Gone, PartShown, RemovalInfo};
use rule::Leaving;
pub use wish::{RemovalCommand, RemovalError, RemovalWish};

/// Steps of one kind that are taken in one turn: a few milliseconds of work.
const STEPS: usize = 256;

/// A node of a removal: which removal, and the node's place in it.
type Place = (RemovalNo, usize);

/// What happens at a certain time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A node is looked at.
    Part(RemovalNo, usize),
    /// A removal's deadline.
    Removal(RemovalNo),
}

/// One removal.
#[derive(Debug)]
struct Removing {
    record: Arc<RemovalRecord>,
    parts: Vec<Part>,
    /// How many parts are in each phase.
    counts: [u32; RemovalPhase::ALL.len()],
    state: RemovalState,
    /// When its deadline is; not known until somebody says what time it is.
    expires: Option<Monotonic>,
    expired: bool,
    shown: imbl::Vector<Arc<PartShown>>,
}

/// One node of a removal.
#[derive(Debug)]
struct Part {
    node: NodeId,
    stands: RemovalPart,
    ordered: Option<Ordered>,
    /// What the agent said of a file that is gone.
    note: Option<Arc<str>>,
    /// How often the file was in use.
    attempts: u32,
    due: Option<Monotonic>,
}

/// What an agent was told and has not been seen to do.
#[derive(Clone, Debug)]
struct Ordered {
    id: AssignmentId,
    /// Below which root.
    root: Arc<str>,
    /// When it was told first in this session of the node.
    since: Option<Monotonic>,
    /// When it was told last in this session of the node.
    said: Option<Monotonic>,
    /// When it said that the image is gone; its inventory has the last word.
    answered: Option<Monotonic>,
    /// When it was told last, in whichever session: so long after it may still do it.
    told: Monotonic,
    /// Whether its file is counted as gone.
    counted: bool,
}

impl Ordered {
    /// Tells until when the agent may do it, though nobody waits for it any longer.
    fn may_happen(&self, now: Now) -> Option<Monotonic> {
        let until = self.since.unwrap_or(self.told).after(REMOVAL_GIVEN_UP);
        Some(until).filter(|until| self.answered.is_none() && *until > now.mono)
    }
}

impl Removing {
    fn new(record: Arc<RemovalRecord>, nodes: Vec<(NodeId, Option<RemovalPart>)>) -> Self {
        let (mut counts, mut parts) = ([0; RemovalPhase::ALL.len()], Vec::with_capacity(nodes.len()));
        for (node, stands) in nodes {
            let stands = stands.unwrap_or_else(RemovalPart::waiting);
            count(&mut counts, stands.phase, 1);
            parts.push(Part { node, stands, ordered: None, note: None, attempts: 0, due: None });
        }
        let shown = parts.iter().map(Part::shown).collect();
        let state = RemovalState::Running;
        Self { record, parts, counts, state, expires: None, expired: false, shown }
    }

    fn count(&self, phase: RemovalPhase) -> u32 {
        RemovalPhase::ALL.iter().zip(self.counts).find(|(known, _)| **known == phase).map_or(0, |(_, n)| n)
    }

    /// Tells whether a node has not come to an end.
    fn is_open(&self) -> bool {
        RemovalPhase::ALL.into_iter().any(|phase| !phase.is_end() && self.count(phase) > 0)
    }

    /// Tells how the removal stands.
    fn stands(&self) -> RemovalState {
        let done = self.count(RemovalPhase::Done);
        if RemovalPhase::ALL.into_iter().any(|phase| phase.is_under_way() && self.count(phase) > 0) {
            RemovalState::Running
        } else if self.record.cancelled {
            RemovalState::Cancelled
        } else if usize::try_from(done) == Ok(self.parts.len()) {
            RemovalState::Done
        } else if done > 0 || self.count(RemovalPhase::Deferred) > 0 {
            RemovalState::Partial
        } else {
            RemovalState::Failed
        }
    }

    fn info(&self) -> RemovalInfo {
        RemovalInfo { record: Arc::clone(&self.record), state: self.state, nodes: self.shown.clone() }
    }
}

impl Part {
    fn shown(&self) -> Arc<PartShown> {
        Arc::new(PartShown { node: self.node.0, stands: self.stands.clone() })
    }
}

fn count(counts: &mut [u32; RemovalPhase::ALL.len()], phase: RemovalPhase, by: i32) {
    if let Some((_, count)) = RemovalPhase::ALL.iter().zip(counts).find(|(known, _)| **known == phase) {
        *count = count.saturating_add_signed(by);
    }
}

/// Everything known of removals.
#[derive(Debug, Default)]
pub(super) struct Removals {
    last: RemovalNo,
    removals: BTreeMap<RemovalNo, Removing>,
    /// Removals that were asked for with a key, and of which body.
    keys: BTreeMap<String, (RemovalNo, Digest)>,
    /// What went since the start.
    gone: Gone,
    /// Parts that have not come to an end.
    of_node: BTreeMap<NodeId, BTreeSet<Place>>,
    orders: BTreeMap<AssignmentId, Place>,
    /// The number of the last one.
    last_order: u64,
    /// Replicas that agents were told to remove.
    leaving: BTreeMap<Digest, Leaving>,
    timers: BTreeSet<(Monotonic, Timer)>,
    /// Nodes that came, went or changed what they hold.
    changed_nodes: BTreeSet<NodeId>,
    /// Parts to be looked at.
    waiting: BTreeSet<Place>,
    /// Ends that are not handed to the store yet.
    ended: BTreeMap<RemovalNo, Vec<(NodeName, RemovalPart)>>,
    /// Removals found at start, whose deadlines wait for the time.
    found: Vec<RemovalNo>,
    changed: BTreeSet<RemovalNo>,
    shown: imbl::OrdMap<RemovalNo, Arc<RemovalInfo>>,
}

impl Removals {
    /// Notes that a node came, went, or changed what it holds.
    pub(super) fn heed(&mut self, id: NodeId) {
        if self.of_node.contains_key(&id) {
            self.changed_nodes.insert(id);
        }
    }

    /// Notes that a node's agreement counts again: what it was told before, it may not have heard.
    pub(super) fn came(&mut self, id: NodeId) {
        for (no, at) in self.of_node.get(&id).into_iter().flatten() {
            let part = self.removals.get_mut(no).and_then(|removing| removing.parts.get_mut(*at));
            if let Some(ordered) = part.and_then(|part| part.ordered.as_mut()) {
                (ordered.since, ordered.said, ordered.answered) = (None, None, None);
            }
        }
        self.heed(id);
    }

    /// Tells when the removals want a turn.
    pub(super) fn next_turn(&self) -> Option<Monotonic> {
        if !(self.waiting.is_empty() && self.changed_nodes.is_empty() && self.found.is_empty()) {
            return Some(Monotonic::default());
        }
        self.timers.first().map(|(at, _)| *at)
    }
}

impl State {
    /// Does what there is to do, a bounded number of steps of each kind.
    pub(super) fn turn_removals(&mut self, now: Now) {
        self.arm_found_removals(now);
        for _ in 0..STEPS {
            let Some(id) = self.removals.changed_nodes.pop_first() else { break };
            let own = self.removals.of_node.get(&id).cloned().unwrap_or_default();
            self.removals.waiting.extend(own);
        }
        for _ in 0..STEPS {
            let Some((at, timer)) = self.removals.timers.first().copied().filter(|(at, _)| *at <= now.mono)
            else {
                break;
            };
            self.removals.timers.remove(&(at, timer));
            match timer {
                Timer::Part(no, at) => drop(self.removals.waiting.insert((no, at))),
                Timer::Removal(no) => self.expire_removal(no),
            }
        }
        for _ in 0..STEPS {
            let Some(place) = self.removals.waiting.pop_first() else { break };
            self.step_removal(place, now);
        }
        self.hand_over_removed();
    }

    fn expire_removal(&mut self, no: RemovalNo) {
        if let Some(removing) = self.removals.removals.get_mut(&no) {
            removing.expired = true;
            self.removals.waiting.extend((0..removing.parts.len()).map(|at| (no, at)));
        }
    }
}
