//! One change of a node's inventory, applied: to the inventory, to the index, and told to whoever follows.

use std::collections::BTreeSet;

use sifleet_common::api::events::EventKind;
use sifleet_common::digest::Digest;
use sifleet_common::inventory::{
    Change, Content, Inventory, Replica, ReplicaKey, Root, RootId, RootKind, RootState,
};
use sifleet_common::name::{ImageName, NodeName};

use super::index::NodeId;
use super::{Announcement, Effect, State};
use crate::store::Op;

impl State {
    /// Lets all nodes share the text of a name.
    pub(super) fn index_interned(&self, change: Change) -> Change {
        match change {
            Change::Put(ReplicaKey { root, name }, replica) => {
                let name = self.index.intern(&name).unwrap_or(name);
                Change::Put(ReplicaKey { root, name }, replica)
            }
            Change::Root(..) | Change::Remove(..) => change,
        }
    }

    /// Applies one change to a node's inventory and to the index; returns a root whose replicas are to be looked at anew.
    pub(super) fn step(&mut self, id: NodeId, change: &Change) -> Option<RootId> {
        let node = self.nodes.get_mut(id.index())?;
        let (told, before) = match change {
            Change::Root(root, _) => (None, node.inventory.root(*root).map(bearing)),
            Change::Put(key, _) | Change::Remove(key) => {
                (Some((key.clone(), node.inventory.replica(key).cloned())), None)
            }
        };
        if !node.inventory.apply(change.clone()) {
            return None;
        }
        let (name, current, inventory) = (node.name.clone(), node.current, node.inventory.clone());
        match (change, told) {
            (Change::Root(root, now), _) => {
                self.shown.touch(id);
                self.announce_node(EventKind::NodeRoots, name, Some(describe_root(&now.path, &now.state)));
                return (before != Some(bearing(now))).then_some(*root);
            }
            (Change::Put(..) | Change::Remove(..), Some((key, old))) => {
                self.refresh(id, &key.name, &inventory);
                self.shown.touch(id);
                if current {
                    self.announce_replica(name, &key, old.as_ref(), inventory.replica(&key));
                }
            }
            (Change::Put(..) | Change::Remove(..), None) => {}
        }
        None
    }

    /// Looks anew at all replicas of roots: once, however often their states changed in one message.
    pub(super) fn reread(&mut self, id: NodeId, roots: &BTreeSet<RootId>) {
        let Some(inventory) = self.node(id).map(|node| node.inventory.clone()) else { return };
        for root in roots {
            for (key, _) in inventory.replicas_of(*root) {
                self.refresh(id, &key.name, &inventory);
            }
        }
    }

    pub(super) fn refresh(&mut self, id: NodeId, name: &ImageName, inventory: &Inventory) {
        for (root, _) in inventory.roots() {
            let key = ReplicaKey { root, name: name.clone() };
            if let Some(Replica { content: Content::Image(image), .. }) = inventory.replica(&key) {
                self.describing.seen(image.digest);
                if let Some(session) =
                    self.node(id).and_then(|node| node.session.as_ref()).map(|open| open.id)
                {
                    self.describing.forgive(&image.digest, session);
                }
            }
        }
        self.pushes.touched(id);
        self.removals.heed(id);
        if self.index.refresh(id, name, inventory) {
            self.effects.push(Effect::Store(Op::HeardOf { name: name.clone() }));
        }
    }

    fn announce_replica(
        &mut self,
        node: NodeName,
        key: &ReplicaKey,
        old: Option<&Replica>,
        new: Option<&Replica>,
    ) {
        let (old, new) = (old.and_then(digest_of), new.and_then(digest_of));
        let (kind, digest) = match (old, new) {
            (_, Some(digest)) if old != new => (EventKind::ImageReady, digest),
            (Some(digest), None) => (EventKind::ImageGone, digest),
            _ => return,
        };
        self.effects.push(Effect::Announce(Announcement {
            kind,
            node: Some(node),
            image: Some(key.name.clone()),
            digest: Some(digest),
            detail: None,
        }));
    }
}

/// What of a root bears on what its replicas mean.
fn bearing(root: &Root) -> (String, RootKind, bool) {
    (root.path.clone(), root.kind, matches!(root.state, RootState::Unknown { .. }))
}

fn digest_of(replica: &Replica) -> Option<Digest> {
    match &replica.content {
        Content::Image(image) => Some(image.digest),
        Content::Pending(_) | Content::Unusable(_) => None,
    }
}

/// Says in one sentence how a root fares.
pub(super) fn describe_root(path: &str, state: &RootState) -> String {
    match state {
        RootState::Watched => format!("{path} is watched"),
        RootState::Degraded { reason } => format!("{path} is degraded: {reason}"),
        RootState::Unknown { reason } => format!("{path} is unknown: {reason}"),
        RootState::Partial { reason } => format!("{path} is known in part: {reason}"),
    }
}
