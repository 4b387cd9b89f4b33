//! Makes the read view out of the state, touching only what changed since the last one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roaring::RoaringBitmap;
use sifleet_common::inventory::RootState;
use sifleet_common::name::PartitionName;
use sifleet_common::time::Monotonic;

use super::State;
use super::index::NodeId;
use super::step::describe_root;
use crate::store::identity::Invite;
use crate::view::table::NodeTable;
use crate::view::{NodeInfo, PartitionInfo, View, cache::Cache};

/// What the last view showed, and what has changed since.
#[derive(Debug, Default)]
pub(super) struct Shown {
    dirty: BTreeSet<NodeId>,
    /// Counts changes of who counts and of what is said of nodes: leases, sessions, roots, memberships.
    liveness: u64,
    generation: u64,
    nodes: imbl::Vector<Arc<NodeInfo>>,
    table: Arc<NodeTable>,
    root_unknown: RoaringBitmap,
    degraded: RoaringBitmap,
    partitions: Arc<BTreeMap<PartitionName, Arc<PartitionInfo>>>,
    cache: Arc<Cache>,
    /// Tokens as they were when they last changed; absent when they have since.
    invites: Option<Arc<[Invite]>>,
}

impl Shown {
    pub(super) fn touch(&mut self, id: NodeId) {
        self.dirty.insert(id);
    }

    pub(super) fn identities_changed(&mut self) {
        self.invites = None;
    }
}

impl State {
    /// Returns the view of this moment; cheap if little changed since the last one.
    pub fn view(&mut self) -> View {
        for id in std::mem::take(&mut self.shown.dirty) {
            self.show_node(id);
        }
        if self.shown.table.len() != self.shown.nodes.len() {
            self.shown.table = Arc::new(NodeTable::of(self.shown.nodes.iter().map(|node| &node.name)));
        }
        self.shown.generation += 1;
        View {
            generation: self.shown.generation,
            liveness: self.shown.liveness,
            changes: self.index.changes(),
            next_expiry: self.next_expiry().unwrap_or(Monotonic(std::time::Duration::MAX)),
            nodes: self.shown.nodes.clone(),
            table: Arc::clone(&self.shown.table),
            live: self.live.clone(),
            root_unknown: self.shown.root_unknown.clone(),
            degraded: self.shown.degraded.clone(),
            names: self.index.names().clone(),
            stems: self.index.stems().clone(),
            digests: self.index.digests().clone(),
            partitions: Arc::clone(&self.shown.partitions),
            pushes: self.show_pushes(),
            removals: self.show_removals(),
            signed: self.show_signed(),
            limits: self.show_limits(),
            invites: self.show_invites(),
            standings: self.identities.standings(),
            cache: Arc::clone(&self.shown.cache),
        }
    }

    fn show_invites(&mut self) -> Arc<[Invite]> {
        let (shown, known) = (&mut self.shown.invites, &self.identities);
        Arc::clone(shown.get_or_insert_with(|| known.invites().cloned().collect()))
    }

    fn show_node(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get(id.index()) else { return };
        let (mut unknown, mut degraded) = (Vec::new(), Vec::new());
        for (_, root) in node.inventory.roots() {
            let text = describe_root(&root.path, &root.state);
            match &root.state {
                RootState::Watched => {}
                RootState::Degraded { .. } => degraded.push(text),
                RootState::Unknown { .. } | RootState::Partial { .. } => unknown.push(text),
            }
        }
        set(&mut self.shown.root_unknown, id, !unknown.is_empty());
        set(&mut self.shown.degraded, id, !degraded.is_empty() || !unknown.is_empty());
        let info = NodeInfo {
            name: node.name.clone(),
            facts: node.facts.clone(),
            last_seen: node.last_seen,
            lease_until: node.lease_until,
            connected: node.session.is_some(),
            generation: node.generation,
            inventory: node.inventory.clone(),
            unknown_roots: unknown,
            degraded_roots: degraded,
            distrusted: self.distrust(id),
            standing: self.identities.standing(&node.name),
            ahead: node.ahead,
            scanned: node.scanned,
        };
        if !self.shown.nodes.get(id.index()).is_some_and(|before| info.counts_as(before)) {
            self.shown.liveness += 1;
        }
        let info = Arc::new(info);
        if id.index() < self.shown.nodes.len() {
            self.shown.nodes.set(id.index(), info);
        } else {
            // Numbers are given in order and every new one is dirty, so the set walks them in order too.
            self.shown.nodes.push_back(info);
        }
    }

    /// Derives the partitions anew from what all sources said.
    pub(super) fn rebuild_partitions(&mut self) {
        let mut partitions = BTreeMap::new();
        for (name, merged) in self.membership.merged() {
            let members: RoaringBitmap =
                merged.nodes.iter().filter_map(|node| self.id_of(node)).map(|id| id.0).collect();
            partitions
                .insert(name.clone(), Arc::new(PartitionInfo { name, members, membership: merged.body() }));
        }
        let before = std::mem::replace(&mut self.shown.partitions, Arc::new(partitions));
        self.shown.liveness += 1;
        let same = |(one, other): (&Arc<PartitionInfo>, &Arc<PartitionInfo>)| {
            one.name == other.name && one.members == other.members
        };
        let after = &self.shown.partitions;
        let moved = before.len() != after.len() || !before.values().zip(after.values()).all(same);
        if moved && self.asks_for_signatures() {
            self.restate_policies();
        }
    }

    /// Tells whether a node belongs to a partition, by what any source said last.
    pub(super) fn is_member(&self, partition: &PartitionName, id: NodeId) -> bool {
        self.shown.partitions.get(partition).is_some_and(|partition| partition.members.contains(id.0))
    }
}

fn set(bits: &mut RoaringBitmap, id: NodeId, on: bool) {
    if on {
        bits.insert(id.0);
    } else {
        bits.remove(id.0);
    }
}
