//! Nodes that are not trusted to give, because others say that they cheat.
//!
//! Owns who said so and for how long it counts. Whoever says it need not ask that node again; when a second one says the
//! same, nobody asks it, for no image, until an hour has passed in which nobody said it again. Lives in memory: a
//! coordinator that starts anew learns it again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sifleet_common::digest::Digest;
use sifleet_common::time::{Monotonic, Now};

use super::{State, Timer};
use crate::state::index::NodeId;

/// How long what was said counts.
const TERM: Duration = Duration::from_secs(3600);
/// So many nodes have to say it: one liar must not shut out the honest.
const ACCUSERS: usize = 2;
/// Accusers of one node that are remembered.
const MAX_ACCUSERS: usize = 16;

/// Who says of whom that it cheats.
#[derive(Debug, Default)]
pub(super) struct Quarantine(BTreeMap<NodeId, Accused>);

#[derive(Debug)]
struct Accused {
    by: BTreeSet<NodeId>,
    until: Monotonic,
}

impl Accused {
    fn is_held(&self) -> bool {
        self.by.len() >= ACCUSERS
    }
}

impl Quarantine {
    /// Tells whether a node gives nothing.
    pub(super) fn holds(&self, node: NodeId) -> bool {
        self.0.get(&node).is_some_and(Accused::is_held)
    }

    /// Tells until when what was said of a node counts.
    #[cfg(test)]
    pub(super) fn until(&self, node: NodeId) -> Option<Monotonic> {
        self.0.get(&node).map(|accused| accused.until)
    }

    /// Lists those that say of a node that it cheats, if they are enough.
    fn accusers(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        self.0.get(&node).filter(|accused| accused.is_held()).into_iter().flat_map(|held| &held.by).copied()
    }
}

impl State {
    /// Notes that one node says of another that it cheats.
    pub(super) fn accuse(&mut self, suspect: NodeId, accuser: NodeId, now: Now) {
        let until = now.mono.after(TERM);
        let accused = self.pushes.quarantine.0.entry(suspect);
        let accused = accused.or_insert(Accused { by: BTreeSet::new(), until });
        self.pushes.timers.remove(&(accused.until, Timer::Pardon(suspect)));
        self.pushes.timers.insert((until, Timer::Pardon(suspect)));
        accused.until = until;
        if accused.by.len() < MAX_ACCUSERS && accused.by.insert(accuser) && accused.is_held() {
            self.pushes.swarms.values_mut().for_each(|swarm| swarm.ring.silence(suspect));
            self.shown.touch(suspect);
        }
    }

    /// Lets a node give again, in every swarm, and those look again who wait for a source.
    pub(super) fn pardon(&mut self, node: NodeId) {
        self.pushes.quarantine.0.remove(&node);
        self.shown.touch(node);
        self.pushes.swarms.values_mut().for_each(|swarm| swarm.ring.unsilence(node));
        let images: Vec<Digest> = self.pushes.swarms.keys().copied().collect();
        images.into_iter().for_each(|image| self.wake(image));
    }

    /// Says why a node is not trusted to give, if it is not.
    pub(in crate::state) fn distrust(&self, node: NodeId) -> Option<String> {
        let names: Vec<&str> = self
            .pushes
            .quarantine
            .accusers(node)
            .filter_map(|accuser| self.node(accuser))
            .map(|accuser| accuser.name.as_str())
            .collect();
        (!names.is_empty()).then(|| {
            format!("gives no images to others for an hour: it sent wrong bytes, say {}", names.join(", "))
        })
    }
}
