//! Nodes that come, go and change: what it means for their shares and for those who fetch from them.

// The words for addresses only: no sockets.
use core::net::SocketAddr;

use sifleet_common::push::{FailCode, Phase};
use sifleet_common::time::Now;
use sifleet_common::wire::assignment::{AssignmentId, MAX_ASSIGNMENTS, Order};
use sifleet_common::wire::control::ToAgent;

use super::State;
use super::clock::FIRST_WAIT;
use super::share::Share;
use crate::state::index::NodeId;
use crate::state::{Caller, Effect};

impl State {
    /// Learns where others may fetch from the node: from the address its session comes from, at the port it named.
    pub(in crate::state) fn learn_address(&mut self, id: NodeId, caller: &Caller, port: u16) {
        let gives = (port != 0).then(|| SocketAddr::new(caller.address.to_canonical(), port));
        let Some(node) = self.nodes.get_mut(id.index()) else { return };
        node.reached = caller.reached.map(|address| address.to_canonical());
        if std::mem::replace(&mut node.gives, gives) != gives {
            self.pushes.moved_house(id);
        }
    }

    /// Returns where a node can fetch from another one. One on the coordinator's own host may have come in by the
    /// loopback: others reach it where they reach the coordinator.
    pub(super) fn address_for(&self, fetcher: NodeId, giver: NodeId) -> Option<SocketAddr> {
        let gives = self.node(giver)?.gives?;
        let reached = self.node(fetcher)?.reached.filter(|_| gives.ip().is_loopback());
        Some(reached.map_or(gives, |host| SocketAddr::new(host, gives.port())))
    }

    /// Goes on with a node whose inventory is confirmed, and tells it all it is to do.
    ///
    /// Not sooner: roots are numbered by the agent's settings, which may be others than when it was last heard; and what
    /// an agent is not told in the list it throws away.
    pub(super) fn node_came(&mut self, id: NodeId, now: Now) {
        if !self.is_live(id) {
            return;
        }
        self.look_at_swarms(id);
        for share in self.shares_of(id) {
            let known = self.pushes.shares.get_mut(&share).filter(|share| share.assigned);
            if let Some(known) = known {
                known.assigned = false;
                self.set_due(share, None);
            }
            self.advance(share, now);
        }
        let Some(session) = self.nodes.get_mut(id.index()).and_then(|node| node.session.as_mut()) else {
            return;
        };
        if std::mem::replace(&mut session.listed, true) {
            return;
        }
        let session = session.id;
        let own = self.shares_of(id);
        for share in &own {
            if self.pushes.unsaid.remove(share) {
                self.say_assignment(*share, now);
            }
        }
        // One that failed is tried again: what it has of the image is worth keeping.
        let kept = |share: &AssignmentId| {
            self.pushes
                .shares
                .get(share)
                .is_some_and(|share| share.assigned || share.begun && share.has_failed())
        };
        let ids: Vec<AssignmentId> = own.into_iter().filter(kept).take(MAX_ASSIGNMENTS).collect();
        self.effects.push(Effect::Send(session, ToAgent::Order(Box::new(Order::Assigned { ids }))));
    }

    /// Lets the shares of a node wait until it is back.
    pub(super) fn node_gone(&mut self, id: NodeId, now: Now) {
        if self.is_live(id) {
            return;
        }
        for share in self.shares_of(id) {
            if self.pushes.shares.get(&share).is_some_and(|share| !share.has_failed()) {
                self.defer(share, now);
            }
        }
        self.look_at_swarms(id);
    }

    /// Lets a share wait until its node is back.
    pub(super) fn defer(&mut self, id: AssignmentId, now: Now) {
        let Some(share) = self.pushes.shares.get_mut(&id) else { return };
        (share.assigned, share.claimed, share.attempts) = (false, None, 0);
        self.set_due(id, None);
        self.pushes.unsaid.remove(&id);
        let why = (None, "the node is away; it goes on when it is back".into());
        self.turn_to(id, Phase::Deferred, Some(why), now);
    }

    /// Holds what is wanted of a node against what it holds.
    pub(super) fn look_at_node(&mut self, id: NodeId, now: Now) {
        if !self.is_live(id) {
            return;
        }
        for share in self.shares_of(id) {
            if self.is_there(share) {
                // A name can be seen before the disk has it for good; the agent says when.
                if !self.pushes.shares.get(&share).is_some_and(Share::is_being_published) {
                    self.done(share, now);
                }
            } else {
                self.hope_for_room(share, now);
            }
        }
        self.look_at_swarms(id);
    }

    /// Has a share that failed for want of room tried again soon: something has changed on its node.
    fn hope_for_room(&mut self, id: AssignmentId, now: Now) {
        let Some(share) = self.pushes.shares.get(&id).filter(|share| share.has_failed()) else { return };
        let code = share.why.as_ref().and_then(|(code, _)| *code);
        let soon = now.mono.after(FIRST_WAIT);
        if code.is_some_and(FailCode::is_for_want_of_room) && share.due.is_none_or(|due| due > soon) {
            self.set_due(id, Some(soon));
        }
    }

    fn shares_of(&self, id: NodeId) -> Vec<AssignmentId> {
        self.pushes.of_node.get(&id).into_iter().flatten().copied().collect()
    }
}
