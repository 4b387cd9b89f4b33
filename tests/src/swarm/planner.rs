//! What the coordinator says in a simulated transfer: whom each node may ask, as nodes come and go. The real circle, told at
//! the times at which `coordinator/src/state/pushes/say.rs` tells it.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use sifleet_coordinator::plan::ring::{Ring, spread};

use super::{Happening, Swarm, nanos};

/// What the coordinator believes of a node that says nothing, at most and at least (`coordinator/src/state.rs`).
const LEASE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// News of peers is collected for so long.
const NEWS: Duration = Duration::from_millis(500);

pub(super) struct Planner {
    ring: Ring<usize>,
}

impl Planner {
    /// Puts the nodes, and the source 0, in their places.
    pub(super) fn new(nodes: usize) -> Self {
        let targets: Vec<usize> = (1..=nodes).collect();
        let mut ring = Ring::default();
        ring.lay(spread(&targets, &[0]));
        Self { ring }
    }

    /// Returns how long it takes until a node that died is missed.
    pub(super) fn lease(&self, random: &mut StdRng) -> u64 {
        random.random_range(nanos(LEASE.1)..=nanos(LEASE.0))
    }

    /// Lets a node go whose lease ran out.
    pub(super) fn missed(&mut self, at: usize) {
        self.ring.leave(at);
    }
}

impl Swarm {
    /// Tells nodes whom they may ask, if that has changed.
    pub(super) fn news(&mut self) {
        for at in self.planner.ring.take_changed(usize::MAX) {
            let peers = self.planner.ring.peers(at, &BTreeSet::new());
            self.soon(Happening::Named { at, peers });
        }
        if self.nodes.iter().any(|node| node.fetch.is_some() && node.done.is_none() && !node.dead) {
            self.after(nanos(NEWS), Happening::News);
        }
    }
}
