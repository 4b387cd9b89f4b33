//! A store in memory.

use std::collections::BTreeMap;

use sifleet_common::inventory::Inventory;
use sifleet_common::name::NodeName;

use crate::store::push::{PushNo, RestoredPush};
use crate::store::removal::{RemovalNo, RemovalPart, RestoredRemoval};
use crate::store::{Op, Restored, RestoredMembers, RestoredNode};

/// What a store that wrote everything gives back.
#[expect(clippy::too_many_lines, reason = "one arm for each thing that is stored")]
pub(crate) fn restored(stored: &[Op]) -> Restored {
    let mut found = Restored::default();
    let mut nodes: BTreeMap<_, (_, _, Inventory)> = BTreeMap::new();
    let mut pushes: BTreeMap<PushNo, RestoredPush> = BTreeMap::new();
    let mut removals: BTreeMap<RemovalNo, RestoredRemoval> = BTreeMap::new();
    for op in stored.iter().cloned() {
        match op {
            Op::PutNode { node, facts } => {
                let (position, inventory) =
                    nodes.remove(&node).map(|(_, at, inventory)| (at, inventory)).unwrap_or_default();
                nodes.insert(node, (facts, position, inventory));
            }
            Op::Replace { node, position, changes } => {
                let known = nodes.get_mut(&node).unwrap();
                (known.1, known.2) = (position, Inventory::default());
                for change in changes {
                    known.2.apply(change);
                }
            }
            Op::Advance { node, position, changes } => {
                let known = nodes.get_mut(&node).unwrap();
                known.1 = position;
                for change in changes {
                    known.2.apply(change);
                }
            }
            Op::PutMembers { source, at, members } => {
                found.members = vec![RestoredMembers { source, at, members }]
            }
            Op::PutMetadata { .. } | Op::HeardOf { .. } => {}
            Op::PutPush { record, nodes } => {
                let nodes = nodes.into_iter().map(|node| (node, None)).collect();
                pushes.insert(record.no, RestoredPush { record: (*record).clone(), nodes });
            }
            Op::JoinPush { push, node } => pushes.get_mut(&push).unwrap().nodes.push((node, None)),
            Op::ChangePush { record } => pushes.get_mut(&record.no).unwrap().record = (*record).clone(),
            Op::PutOutcomes { push, nodes } => {
                for (node, outcome) in nodes {
                    let known = &mut pushes.get_mut(&push).unwrap().nodes;
                    known.iter_mut().find(|(name, _)| *name == node).unwrap().1 = outcome;
                }
            }
            Op::ForgetPushes { pushes: old } => old.iter().for_each(|no| drop(pushes.remove(no))),
            Op::ForgetMap { image } => drop(found.maps.remove(&image)),
            Op::PutMap { image, map } => drop(found.maps.insert(image, map)),
            Op::PutRemoval { record, nodes } => {
                let nodes = nodes.into_iter().map(|node| (node, None)).collect();
                removals.insert(record.no, RestoredRemoval { record: (*record).clone(), nodes });
            }
            Op::ChangeRemoval { record } => {
                removals.get_mut(&record.no).unwrap().record = (*record).clone();
            }
            Op::PutRemoved { removal, nodes } => removed(removals.get_mut(&removal).unwrap(), nodes),
            Op::ForgetRemovals { removals: old } => old.iter().for_each(|no| drop(removals.remove(no))),
            Op::PutLimits { set } => found.limits = set,
            Op::MarkBusy { nodes, busy: true } => found.busy.extend(nodes),
            Op::PutStanding { node, standing } => {
                found.standings.retain(|(known, _)| *known != node);
                found.standings.push((node, standing));
            }
            Op::PutInvites { invites } => {
                found.invites.retain(|known| invites.iter().all(|invite| invite.id != known.id));
                found.invites.extend(invites);
            }
            Op::ReplaceInvites { invites } => found.invites = invites,
            Op::ForgetInvites { invites } => found.invites.retain(|known| !invites.contains(&known.id)),
            Op::MarkBusy { nodes, busy: false } => found.busy.retain(|node| !nodes.contains(node)),
            // The state knows nothing of callers.
            Op::PutToken { .. }
            | Op::PutRegistry { .. }
            | Op::ForgetRegistry { .. }
            | Op::TouchTokens { .. }
            | Op::ForgetTokens { .. }
            | Op::PutTemplate { .. }
            | Op::ForgetTemplate { .. }
            | Op::PutAudit { .. }
            | Op::PruneAudit { .. }
            | Op::Oci(_) => {}
        }
    }
    found.nodes = nodes
        .into_iter()
        .map(|(node, (facts, position, inventory))| {
            let changes = inventory.as_changes().collect();
            RestoredNode { node, facts, position, changes }
        })
        .collect();
    found.pushes = pushes.into_values().collect();
    found.removals = removals.into_values().collect();
    found
}

fn removed(removal: &mut RestoredRemoval, nodes: Vec<(NodeName, RemovalPart)>) {
    for (node, part) in nodes {
        removal.nodes.iter_mut().find(|(name, _)| *name == node).unwrap().1 = Some(part);
    }
}
