//! How a node's share gets on: what it lacks, in the order in which it is looked for. Asking again changes nothing.

use std::sync::Arc;

use sifleet_common::digest::Digest;
use sifleet_common::inventory::{Content, Inventory, ReplicaKey, RootId, RootState};
use sifleet_common::name::ImageName;
use sifleet_common::push::{FailCode, Phase};
use sifleet_common::time::Now;
use sifleet_common::wire::assignment::{AssignmentId, MAX_ASSIGNMENTS};

use super::State;
use super::clock::SILENCE;
use super::share::Share;
use super::signatures::Admission;
use super::wish::Wish;
use crate::state::Node;
use crate::state::index::{DigestEntry, NodeId};
use crate::store::push::PushNo;

/// A root as a node numbers it.
type Place = (RootId, Arc<str>);

impl State {
    /// Begins one node of a push that has not come to an end.
    pub(super) fn begin_open_part(&mut self, no: PushNo, at: usize, now: Now) {
        let part = self.pushes.pushes.get(&no).and_then(|push| push.parts.get(at));
        if part.is_some_and(|part| !part.settled) {
            self.begin_part(no, at, now);
        }
    }

    /// Begins one node of a push, or lets it join what is under way there already.
    pub(super) fn begin_part(&mut self, no: PushNo, at: usize, now: Now) {
        let Some(push) = self.pushes.pushes.get(&no) else { return };
        let Some(part) = push.parts.get(at).copied() else { return };
        if part.share.is_some() || push.record.cancelled {
            return;
        }
        let own = self.pushes.of_node.get(&part.node).into_iter().flatten().copied();
        let same = own
            .into_iter()
            .find(|id| self.pushes.shares.get(id).is_some_and(|share| share.is_wanted_by(push)));
        let id = match same {
            Some(id) => id,
            None => {
                let share = Share::new(push, part.node, now);
                self.enter_swarm(no);
                self.add_share(share)
            }
        };
        self.join_share(id, no, at);
        self.rearm(no);
        self.derive_terms(id);
        self.touch_share(id);
        let again = self.pushes.shares.get(&id).is_some_and(Share::has_failed);
        if again {
            // Somebody asks for it anew: it need not wait for its turn.
            self.try_again(id, now);
        } else {
            self.advance(id, now);
        }
        self.review(no, now);
    }

    pub(super) fn add_share(&mut self, share: Share) -> AssignmentId {
        let id = self.pushes.next_number();
        self.pushes.of_node.entry(share.node).or_default().insert(id);
        self.pushes.swarms.entry(share.image).or_default().shares.insert(id);
        self.pushes.shares.insert(id, share);
        id
    }

    /// Makes a node of a push part of a share.
    pub(super) fn join_share(&mut self, id: AssignmentId, no: PushNo, at: usize) {
        let (Some(share), Some(push)) = (self.pushes.shares.get_mut(&id), self.pushes.pushes.get_mut(&no))
        else {
            return;
        };
        let before = push.shown.get(at).map_or(Phase::Waiting, |part| part.outcome.phase);
        let Some(part) = push.parts.get_mut(at) else { return };
        part.share = Some(id);
        if std::mem::replace(&mut part.settled, false) {
            push.open += 1;
            let name = self.nodes.get(part.node.index()).map(|node| node.name.clone());
            self.pushes.outcomes.entry(no).or_default().extend(name.map(|name| (name, None)));
        }
        push.moved(before, share.phase);
        share.parts.push((no, at));
    }

    /// Lets a share that failed begin once more.
    pub(super) fn try_again(&mut self, id: AssignmentId, now: Now) {
        let Some(share) = self.pushes.shares.get_mut(&id) else { return };
        (share.assigned, share.claimed) = (false, None);
        self.set_due(id, None);
        self.turn_to(id, Phase::Waiting, None, now);
        self.advance(id, now);
    }

    /// Gets a share on as far as it goes at present.
    pub(super) fn advance(&mut self, id: AssignmentId, now: Now) {
        let Some(share) = self.pushes.shares.get(&id) else { return };
        let (node, image, begun) = (share.node, share.image, share.begun);
        if share.assigned || share.has_failed() {
            return;
        }
        if !self.is_live(node) {
            self.defer(id, now);
            return;
        }
        let gives = self.node(node).and_then(|node| Some((node.session.as_ref()?, node.gives)));
        match gives {
            // Its lease holds and its session does not: it will be back, or be away, in a moment.
            None => return self.turn_to(id, Phase::Waiting, None, now),
            Some((_, None)) => {
                let words = "its agent takes no transfers".to_owned();
                return self.fail(id, FailCode::Refused, words, now);
            }
            Some((_, Some(_))) => {}
        }
        match self.find_root(id, now) {
            Ok(found) if found == id => {}
            // It turned out to be what another share is already, which may be further.
            Ok(other) if self.pushes.shares.get(&other).is_some_and(Share::has_failed) => {
                return self.try_again(other, now);
            }
            Ok(other) => return self.advance(other, now),
            Err((code, words)) => return self.fail(id, code, words, now),
        }
        if self.is_there(id) {
            return self.done(id, now);
        }
        match self.admits(node, image, now) {
            Admission::Granted => {}
            Admission::Awaited(why) => return self.turn_to(id, Phase::Waiting, why, now),
            Admission::Refused(refusal) => return self.fail(id, refusal.code, refusal.detail, now),
        }
        let why = if !self.has_map(image, now) {
            self.why_no_map(image)
        } else if !(begun || self.has_source(image)) {
            Some((Some(FailCode::NoSource), "nobody who holds the image is online".into()))
        } else if self.assigned_to(node) >= MAX_ASSIGNMENTS {
            Some((None, "other images come first on this node".into()))
        } else {
            return self.assign(id, now);
        };
        self.turn_to(id, Phase::Waiting, why, now);
    }

    /// Tells the agent to begin.
    fn assign(&mut self, id: AssignmentId, now: Now) {
        let Some(share) = self.pushes.shares.get_mut(&id) else { return };
        (share.assigned, share.begun, share.heard) = (true, true, now.mono);
        let (node, image, phase) = (share.node, share.image, share.phase);
        if let Some(swarm) = self.pushes.swarms.get_mut(&image) {
            swarm.ring.join(node);
            if self.pushes.quarantine.holds(node) {
                swarm.ring.silence(node);
            }
        }
        self.set_due(id, Some(now.mono.after(SILENCE)));
        self.pushes.unsaid.insert(id);
        self.fetch_begins(node);
        // One that goes on where it was keeps showing how far it is.
        if !matches!(phase, Phase::Preparing | Phase::Fetching | Phase::Verifying) {
            self.turn_to(id, Phase::Waiting, None, now);
        }
    }

    /// Counts what a node is told to do.
    pub(super) fn assigned_to(&self, node: NodeId) -> usize {
        let own = self.pushes.of_node.get(&node).into_iter().flatten();
        own.filter(|id| self.pushes.shares.get(id).is_some_and(|share| share.assigned)).count()
    }

    /// Lets the next of a node's shares begin, since one is through.
    pub(super) fn next_of(&mut self, node: NodeId, now: Now) {
        let own = self.pushes.of_node.get(&node).into_iter().flatten().copied();
        let waits = |id: &AssignmentId| {
            let share = self.pushes.shares.get(id)?;
            (share.phase == Phase::Waiting && !share.assigned).then_some((share.priority, *id))
        };
        let next =
            own.filter_map(|id| waits(&id)).max_by_key(|(priority, id)| (*priority, std::cmp::Reverse(*id)));
        if let Some((_, id)) = next {
            self.advance(id, now);
        }
    }

    /// Finds the root of a share; gives its number, for it may turn out to be what another one is.
    fn find_root(&mut self, id: AssignmentId, now: Now) -> Result<AssignmentId, (FailCode, String)> {
        let none = || (FailCode::NoRoot, "the node is not known".to_owned());
        let share = self.pushes.shares.get(&id).ok_or_else(none)?;
        let node = self.node(share.node).ok_or_else(none)?;
        let root = root_of(&node.inventory, share.wish.as_deref());
        // Nobody runs what a library holds.
        let is_library =
            |(id, _): &Place| node.inventory.root(*id).is_some_and(|root| root.kind.is_library());
        let runs = !root.as_ref().is_ok_and(is_library);
        let image = self.index.digests().get(&share.image).filter(|_| runs);
        if let Some(words) = image.and_then(|image| runs_not(node, image)) {
            return Err((FailCode::Unusable, words));
        }
        let root = root?;
        if share.root.as_ref() == Some(&root) {
            return Ok(id);
        }
        let own = self.pushes.of_node.get(&share.node).into_iter().flatten().copied();
        let same = own.filter(|other| *other != id).find(|other| {
            let other = self.pushes.shares.get(other);
            other.is_some_and(|other| {
                other.image == share.image
                    && other.name == share.name
                    && other.root.as_ref().is_some_and(|(_, path)| *path == root.1)
            })
        });
        if let Some(share) = self.pushes.shares.get_mut(&id) {
            share.root = Some(root);
        }
        self.touch_share(id);
        Ok(match same {
            Some(same) => self.merge(id, same, now),
            None => id,
        })
    }

    /// Makes everything that a share is for part of another one.
    fn merge(&mut self, id: AssignmentId, into: AssignmentId, now: Now) -> AssignmentId {
        let Some(share) = self.pushes.shares.get(&id) else { return into };
        let (parts, phase) = (share.parts.clone(), share.phase);
        self.drop_share(id);
        for (no, at) in parts {
            if let Some(push) = self.pushes.pushes.get_mut(&no) {
                // Counted where the share stood, which is what `join_share` reads from what was shown.
                let shown = push.shown.get(at).map_or(Phase::Waiting, |part| part.outcome.phase);
                push.moved(phase, shown);
            }
            self.join_share(into, no, at);
            self.review(no, now);
        }
        self.derive_terms(into);
        self.touch_share(into);
        into
    }

    /// Tells whether a node whose answers count holds what a share is to bring.
    pub(super) fn is_there(&self, id: AssignmentId) -> bool {
        let Some(share) = self.pushes.shares.get(&id) else { return false };
        let (Some(node), Some((root, _))) = (self.node(share.node), &share.root) else { return false };
        self.is_live(share.node) && holds_as(&node.inventory, *root, &share.name, share.image)
    }

    /// Tells whether a node whose answers count holds what is wished for.
    pub(super) fn holds(&self, id: NodeId, wish: &Wish) -> bool {
        let Some(node) = self.node(id).filter(|_| self.is_live(id)) else { return false };
        root_of(&node.inventory, wish.root.as_deref())
            .is_ok_and(|(root, _)| holds_as(&node.inventory, root, &wish.image, wish.digest))
    }

    /// Says why a node cannot use what lies where a share was brought, if it cannot.
    pub(super) fn found_unusable(&self, id: AssignmentId) -> Option<String> {
        let share = self.pushes.shares.get(&id)?;
        let (root, path) = share.root.as_ref()?;
        let key = ReplicaKey { root: *root, name: share.name.clone() };
        match &self.node(share.node)?.inventory.replica(&key)?.content {
            Content::Unusable(what) => {
                Some(format!("it is there, below {path}, and cannot be used: {}", what.detail))
            }
            Content::Image(_) | Content::Pending(_) => None,
        }
    }
}

/// Says why a node's processor cannot run an image, if it cannot.
fn runs_not(node: &Node, image: &DigestEntry) -> Option<String> {
    let (own, wanted) = (node.facts.as_ref()?.arch, image.image.arch);
    (!own.runs(wanted)).then(|| format!("the image is built for {wanted}, the node is {own}"))
}

/// Tells whether an inventory shows an image whole below a root whose contents are known.
fn holds_as(inventory: &Inventory, root: RootId, name: &ImageName, image: Digest) -> bool {
    let known = inventory.root(root).is_some_and(|root| !matches!(root.state, RootState::Unknown { .. }));
    let key = ReplicaKey { root, name: name.clone() };
    let replica = inventory.replica(&key).map(|replica| &replica.content);
    known && matches!(replica, Some(Content::Image(found)) if found.digest == image)
}

/// Finds the root that was named, or the first that is no library and whose contents are known.
fn root_of(inventory: &Inventory, wish: Option<&str>) -> Result<Place, (FailCode, String)> {
    let mut unknown = None;
    for (id, root) in inventory.roots() {
        let meant = wish.map_or(!root.kind.is_library(), |wish| root.path == wish);
        match &root.state {
            _ if !meant => {}
            // It may be mounted in a moment.
            RootState::Unknown { reason } => {
                unknown.get_or_insert_with(|| format!("{} is unknown: {reason}", root.path));
            }
            RootState::Watched | RootState::Degraded { .. } | RootState::Partial { .. } => {
                return Ok((id, root.path.as_str().into()));
            }
        }
    }
    Err(match (unknown, wish) {
        (Some(words), _) => (FailCode::RootUnknown, words),
        (None, Some(wish)) => (FailCode::NoRoot, format!("its agent does not watch {wish}")),
        (None, None) => (FailCode::NoRoot, "its agent watches no root but libraries".to_owned()),
    })
}
