//! The store of the simulation: durable steps in memory, which a crash or a full disk may lose.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sifleet_common::inventory::{Generation, Inventory};
use sifleet_common::name::NodeName;
use sifleet_coordinator::store::{NodeFacts, Op, Position, Restored, RestoredMembers, RestoredNode};

/// What was made durable.
#[derive(Default)]
pub struct Durable {
    written: Written,
    waiting: VecDeque<Op>,
    known: BTreeMap<NodeName, Generation>,
    /// Nothing can be written.
    full: bool,
    /// Nodes of which a step was lost; further ones are skipped until the node is replaced as a whole.
    lost: BTreeSet<NodeName>,
}

#[derive(Default)]
struct Written {
    facts: BTreeMap<NodeName, NodeFacts>,
    inventories: BTreeMap<NodeName, (Position, Inventory)>,
    members: BTreeMap<String, RestoredMembers>,
}

/// Steps that may be lost by a crash.
const UNWRITTEN: usize = 8;

impl Durable {
    /// Takes a step; older ones become durable.
    pub fn submit(&mut self, op: Op) {
        if let Op::Advance { node, position, .. } | Op::Replace { node, position, .. } = &op {
            self.known.insert(node.clone(), position.generation);
        }
        self.waiting.push_back(op);
        while self.waiting.len() > UNWRITTEN {
            if let Some(op) = self.waiting.pop_front() {
                self.write(op);
            }
        }
    }

    /// Lets the disk be full, or not any longer.
    pub fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    /// Lists the nodes of which steps were lost.
    #[must_use]
    pub fn lost(&self) -> Vec<NodeName> {
        self.lost.iter().cloned().collect()
    }

    fn write(&mut self, op: Op) {
        if let Op::Advance { node, .. } | Op::Replace { node, .. } = &op {
            if self.full {
                self.lost.insert(node.clone());
            } else if matches!(op, Op::Replace { .. }) {
                self.lost.remove(node);
            }
            if self.lost.contains(node) {
                return;
            }
        }
        self.written.apply(op);
    }

    /// Loses the last `lost` steps and writes the others.
    pub fn crash(&mut self, lost: usize) {
        self.waiting.truncate(self.waiting.len().saturating_sub(lost));
        for op in std::mem::take(&mut self.waiting) {
            self.write(op);
        }
        self.lost.clear();
    }

    /// Returns the generation the coordinator last stood at for a node.
    #[must_use]
    pub fn generation(&self, node: &NodeName) -> Generation {
        self.known.get(node).copied().unwrap_or_default()
    }

    /// Returns what a restarted coordinator finds.
    #[must_use]
    pub fn restored(&self) -> Restored {
        let nodes = self.written.facts.iter().map(|(node, facts)| {
            let (position, inventory) = self.written.inventories.get(node).cloned().unwrap_or_default();
            let changes = inventory.as_changes().collect();
            RestoredNode { node: node.clone(), facts: facts.clone(), position, changes }
        });
        let members = self.written.members.values().cloned().collect();
        Restored { nodes: nodes.collect(), members, ..Restored::default() }
    }
}

impl Written {
    fn apply(&mut self, op: Op) {
        match op {
            Op::PutNode { node, facts } => {
                self.facts.insert(node, facts);
            }
            Op::Advance { node, position, changes } => {
                let (at, inventory) = self.inventories.entry(node).or_default();
                *at = position;
                for change in changes {
                    inventory.apply(change);
                }
            }
            Op::Replace { node, position, changes } => {
                let mut inventory = Inventory::default();
                for change in changes {
                    inventory.apply(change);
                }
                self.inventories.insert(node, (position, inventory));
            }
            Op::PutMembers { source, at, members } => {
                self.members.insert(source.clone(), RestoredMembers { source, at, members });
            }
            Op::PutMetadata { .. }
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
            | Op::Oci(_) => {}
        }
    }
}
