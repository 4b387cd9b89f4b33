//! What a coordinator begins with: everything that was last known, of which nothing counts yet.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;
use sifleet_common::inventory::Inventory;
use sifleet_common::wire::control::Stamp;

use super::describe::Describing;
use super::identities::Identities;
use super::index::Index;
use super::limits::Limiting;
use super::membership::Membership;
use super::pushes::Pushes;
use super::removals::Removals;
use super::{Limits, State, publish};
use crate::store::{Restored, RestoredNode};

impl State {
    /// Starts from what was last known; nothing of it counts until its node has been heard.
    #[must_use]
    pub fn restore(limits: Limits, restored: Restored) -> Self {
        let mut state = Self {
            limits,
            nodes: Vec::new(),
            agents: 0,
            by_name: BTreeMap::new(),
            sessions: BTreeMap::new(),
            index: Index::default(),
            membership: Membership::default(),
            describing: Describing::new(restored.described),
            deadlines: BTreeSet::new(),
            live: RoaringBitmap::new(),
            stamp: Stamp::default(),
            shown: publish::Shown::default(),
            pushes: Pushes::default(),
            removals: Removals::default(),
            limiting: Limiting::restore(restored.limits, restored.busy),
            identities: Identities::restore(restored.standings, restored.invites),
            scans: 0,
            effects: Vec::new(),
        };
        for name in restored.heard_of {
            state.index.hear_of(&name);
        }
        for known in restored.nodes {
            state.restore_node(known);
        }
        for known in restored.members {
            state.membership.restore(known);
        }
        // Not stored apart: what agents declared is among what they said of themselves.
        let heard = state.nodes.iter().filter_map(|node| node.last_seen).max();
        state.declared_changed(heard.unwrap_or_default());
        state.restore_pushes(restored.pushes, restored.maps);
        state.restore_removals(restored.removals);
        state
    }

    fn restore_node(&mut self, known: RestoredNode) {
        let Some(id) = self.id_of_agent(&known.node) else { return };
        let mut inventory = Inventory::default();
        for change in known.changes {
            inventory.apply(change);
        }
        for (key, _) in inventory.replicas() {
            self.index.refresh(id, &key.name, &inventory);
        }
        if let Some(node) = self.nodes.get_mut(id.index()) {
            node.stream = known.position.stream;
            node.generation = known.position.generation;
            node.last_seen = Some(known.facts.last_seen);
            node.facts = Some(known.facts);
            node.inventory = inventory;
        }
        self.shown.touch(id);
    }
}
