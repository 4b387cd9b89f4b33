//! The swarm of an image: the circle of those that fetch it and those that have it, and who is not trusted in it.
//!
//! Owns who is in the circle. A swarm lives as long as any node has yet to get the image. Nodes that got it stay and give.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;
use sifleet_common::digest::Digest;
use sifleet_common::wire::assignment::AssignmentId;

use super::{Push, State, Work};
use crate::plan::ring::{Ring, spread};
use crate::state::index::NodeId;
use crate::store::push::PushNo;

/// Most nodes that only give: more would not make it faster, since every target gives too.
const MAX_GIVERS: usize = 16;
/// Most nodes that one node need not ask for what it said of them.
const MAX_AVOIDED: usize = 64;

/// Those between whom an image travels.
#[derive(Debug, Default)]
pub(super) struct Swarm {
    pub(super) ring: Ring<NodeId>,
    /// Members that have the image whole.
    pub(super) holding: BTreeSet<NodeId>,
    /// Shares that have not come to an end.
    pub(super) shares: BTreeSet<AssignmentId>,
    /// Pushes it serves, and the only node from which each may take at first.
    from: BTreeMap<PushNo, Option<NodeId>>,
    /// Whom each node need not ask.
    avoided: BTreeMap<NodeId, BTreeSet<NodeId>>,
}

impl Swarm {
    /// Lists whom a node may ask.
    pub(super) fn peers(&self, node: NodeId) -> Vec<NodeId> {
        let none = BTreeSet::new();
        self.ring.peers(node, self.avoided.get(&node).unwrap_or(&none))
    }

    /// Tells whether somebody gives who has the whole image.
    fn has_source(&self) -> bool {
        self.holding.iter().any(|node| self.ring.gives(*node))
    }

    /// Tells whether a holder may be asked from the beginning.
    fn allows(&self, node: NodeId) -> bool {
        let anybody = self.from.is_empty() || self.from.values().any(Option::is_none);
        anybody || self.from.values().flatten().any(|from| *from == node)
    }

    /// Lets a node no longer be told to ask another one; tells whether it could have been.
    pub(super) fn avoid(&mut self, node: NodeId, other: NodeId) -> bool {
        if !self.ring.contains(other) || other == node {
            return false;
        }
        let avoided = self.avoided.entry(node).or_default();
        if avoided.len() < MAX_AVOIDED && avoided.insert(other) {
            self.ring.renew(node);
        }
        true
    }
}

impl State {
    /// Notes that the swarm of its image serves a push.
    pub(super) fn enter_swarm(&mut self, no: PushNo) {
        let Some(push) = self.pushes.pushes.get(&no) else { return };
        let from = push.record.from.as_ref().map(|name| self.by_name.get(name).copied());
        // A node that is not known any longer gives nothing.
        let from = from.map(|from| from.unwrap_or(NodeId(u32::MAX)));
        self.pushes.swarms.entry(push.record.digest).or_default().from.insert(no, from);
    }

    /// Lets a push have the swarm of its image; one that begins puts everybody in the circle, neighbours side by side.
    pub(super) fn found_swarm(&mut self, no: PushNo) {
        self.enter_swarm(no);
        let Some(push) = self.pushes.pushes.get(&no) else { return };
        let (image, targets) = (push.record.digest, self.targets(push));
        let sources = self.givers_of(image);
        let Some(swarm) = self.pushes.swarms.get_mut(&image) else { return };
        if swarm.ring.is_empty() {
            swarm.ring.lay(spread(&targets, &sources));
        } else {
            sources.iter().for_each(|node| swarm.ring.join(*node));
        }
        swarm.holding.extend(sources);
        for node in targets.into_iter().filter(|node| self.pushes.quarantine.holds(*node)) {
            swarm.ring.silence(node);
        }
    }

    /// Ends a swarm in which nobody has anything to get any longer.
    pub(super) fn end_swarm(&mut self, image: Digest) {
        let Some(swarm) = self.pushes.swarms.get(&image) else { return };
        let open = |no: &PushNo| self.pushes.pushes.get(no).is_some_and(|push| push.open > 0);
        if swarm.shares.is_empty() && !swarm.from.keys().any(open) {
            self.pushes.swarms.remove(&image);
        }
    }

    /// Lists the nodes of a push that can begin, in their order.
    fn targets(&self, push: &Push) -> Vec<NodeId> {
        let holders = self.holders(push.record.digest);
        let ready = |id: &NodeId| {
            let gives = self.node(*id).is_some_and(|node| node.session.is_some() && node.gives.is_some());
            gives && self.is_live(*id) && !holders.contains(id.0)
        };
        push.parts.iter().map(|part| part.node).filter(ready).collect()
    }

    /// Lists the nodes that hold an image and whose answers count.
    pub(super) fn holders(&self, image: Digest) -> RoaringBitmap {
        let mut holders = RoaringBitmap::new();
        for (place, nodes) in self.index.places_of(&image) {
            if place.digest == image {
                holders |= nodes & &self.live;
            }
        }
        holders
    }

    /// Lists the nodes that hold an image where only admins put any, and whose answers count.
    pub(super) fn trusted_holders(&self, image: Digest) -> RoaringBitmap {
        let mut holders = RoaringBitmap::new();
        for (place, nodes) in self.index.places_of(&image) {
            if place.digest == image && place.trusted {
                holders |= nodes & &self.live;
            }
        }
        holders
    }

    /// Chooses holders that may be asked: those of the library first, and no more than are of use.
    fn givers_of(&self, image: Digest) -> Vec<NodeId> {
        let Some(swarm) = self.pushes.swarms.get(&image) else { return Vec::new() };
        let room = MAX_GIVERS.saturating_sub(swarm.holding.len());
        let mut library = RoaringBitmap::new();
        for (_, nodes) in self.index.places_of(&image).filter(|(place, _)| place.library) {
            library |= nodes & &self.live;
        }
        let others = self.trusted_holders(image) - &library;
        let fits = |id: &NodeId| {
            let gives = self.node(*id).is_some_and(|node| node.gives.is_some());
            gives && swarm.allows(*id) && !swarm.ring.contains(*id) && !self.pushes.quarantine.holds(*id)
        };
        library.iter().chain(&others).map(NodeId).filter(fits).take(room).collect()
    }

    /// Tells whether there is somebody to fetch an image from, and looks for one if not.
    pub(super) fn has_source(&mut self, image: Digest) -> bool {
        if self.pushes.swarms.get(&image).is_some_and(Swarm::has_source) {
            return true;
        }
        let sources = self.givers_of(image);
        let Some(swarm) = self.pushes.swarms.get_mut(&image) else { return false };
        for node in sources {
            swarm.ring.join(node);
            swarm.holding.insert(node);
        }
        swarm.has_source()
    }

    /// Holds a node's membership in all swarms against what it holds.
    pub(super) fn look_at_swarms(&mut self, id: NodeId) {
        let live = self.is_live(id) && self.node(id).is_some_and(|node| node.gives.is_some());
        let images: Vec<Digest> = self.pushes.swarms.keys().copied().collect();
        for image in images {
            let lacked = !self.pushes.swarms.get(&image).is_some_and(Swarm::has_source);
            let holds = live && self.index.places_of(&image).any(|(_, nodes)| nodes.contains(id.0));
            let fetches = live && self.fetches(id, image);
            let Some(swarm) = self.pushes.swarms.get_mut(&image) else { continue };
            let lost = !holds && swarm.holding.remove(&id);
            if !live || lost && !fetches {
                swarm.ring.leave(id);
            } else if holds && swarm.ring.contains(id) {
                swarm.holding.insert(id);
            }
            let news = holds && !swarm.ring.contains(id) && swarm.holding.len() < MAX_GIVERS;
            if news && swarm.allows(id) && !self.pushes.quarantine.holds(id) {
                swarm.ring.join(id);
                swarm.holding.insert(id);
            }
            let source = self.pushes.swarms.get(&image).is_some_and(Swarm::has_source);
            if holds && (lacked && source || !self.pushes.maps.is_settled(image)) {
                self.wake(image);
            }
        }
    }

    /// Tells whether a node is told to fetch an image.
    fn fetches(&self, id: NodeId, image: Digest) -> bool {
        let own = self.pushes.of_node.get(&id).into_iter().flatten();
        own.filter_map(|share| self.pushes.shares.get(share))
            .any(|share| share.image == image && share.assigned)
    }

    /// Lets everybody who waits for an image's map or source look again.
    pub(super) fn wake(&mut self, image: Digest) {
        let work = Work::Wake(image, AssignmentId(0));
        if !self.pushes.work.contains(&work) {
            self.pushes.work.push_back(work);
        }
    }

    /// Takes a node out of the circle, unless it gives or fetches another share of the image.
    pub(super) fn leave_swarm(&mut self, id: NodeId, image: Digest) {
        let fetches = self.fetches(id, image);
        if let Some(swarm) = self.pushes.swarms.get_mut(&image)
            && !fetches
            && !swarm.holding.contains(&id)
        {
            swarm.ring.leave(id);
        }
    }
}
