//! What agents are told of their assignments: whole each time, soon when one begins, seldom when only peers changed.

use std::time::Duration;

use sifleet_common::capability::Capability;
use sifleet_common::time::{Now, UnixMillis};
use sifleet_common::wire::assignment::{Assignment, AssignmentId, MAX_PEERS, Order, Peer};
use sifleet_common::wire::control::ToAgent;

use super::{STEPS, State};
use crate::state::{Effect, SessionId};

/// How long a node may fetch before it has to be permitted anew, in milliseconds: one that was revoked meanwhile is not.
const PERMITTED_MS: i64 = 30 * 60_000;
/// It is permitted anew when less than this is left, in milliseconds: well before, for clocks differ.
pub(super) const RENEWED_MS: i64 = 15 * 60_000;
/// News of peers is collected for so long: ten thousand nodes that come one by one must not be told of each.
const NEWS: Duration = Duration::from_millis(500);

impl State {
    /// Says what has to be said, a bounded number of assignments at a time.
    pub(super) fn say_assignments(&mut self, now: Now) {
        let mut left = STEPS;
        while left > 0
            && let Some(id) = self.pushes.unsaid.pop_first()
        {
            self.say_assignment(id, now);
            left -= 1;
        }
        if left == 0 || now.mono < self.pushes.news_at {
            return;
        }
        let (mut news, mut said) = (Vec::new(), false);
        for (image, swarm) in &mut self.pushes.swarms {
            let changed = swarm.ring.take_changed(left - news.len());
            news.extend(changed.into_iter().map(|node| (*image, node)));
            if news.len() == left {
                break;
            }
        }
        for (image, node) in &news {
            let own: Vec<AssignmentId> =
                self.pushes.of_node.get(node).into_iter().flatten().copied().collect();
            for id in own {
                let share = self.pushes.shares.get(&id);
                if share
                    .is_some_and(|share| share.image == *image && share.assigned && share.claimed.is_none())
                {
                    self.say_assignment(id, now);
                    said = true;
                }
            }
        }
        if said && news.len() < left {
            self.pushes.news_at = now.mono.after(NEWS);
        }
    }

    /// Tells an agent what an assignment is.
    pub(super) fn say_assignment(&mut self, id: AssignmentId, now: Now) {
        let Some(capability) = self.permit(id, now) else { return };
        let Some(share) = self.pushes.shares.get(&id).filter(|share| share.assigned) else { return };
        let Some(session) = self.session_of(share.node) else { return };
        let (Some((root, _)), Some(map)) = (&share.root, self.pushes.maps.known.get(&share.image)) else {
            return;
        };
        let peers =
            self.pushes.swarms.get(&share.image).map(|swarm| swarm.peers(share.node)).unwrap_or_default();
        let peer = |giver| {
            let address = self.address_for(share.node, giver)?;
            Some(Peer { node: self.node(giver)?.name.clone(), address })
        };
        let assignment = Assignment {
            id,
            image: share.image,
            size: share.size,
            map: *map,
            root: *root,
            name: share.name.clone(),
            peers: peers.into_iter().filter_map(peer).take(MAX_PEERS).collect(),
            rate: share.limit,
            priority: share.priority,
            capability,
        };
        let (node, image) = (share.node, share.image);
        let policy = self.policy_of(node);
        let order = if policy.asks() {
            self.tell_keyring(session);
            Order::AssignUnder { policy, assignment }
        } else {
            Order::Assign(assignment)
        };
        self.effects.push(Effect::Send(session, ToAgent::Order(Box::new(order))));
        if let Some(swarm) = self.pushes.swarms.get_mut(&image) {
            swarm.ring.heard(node);
        }
    }

    /// Returns what permits a share's node to fetch its image: the one it has while that lasts, for signing takes time.
    fn permit(&mut self, id: AssignmentId, now: Now) -> Option<Capability> {
        let signer = self.pushes.signer.as_ref()?;
        let share = self.pushes.shares.get_mut(&id)?;
        let node = self.nodes.get(share.node.index()).map(|node| &node.name)?;
        let lasting = share.permit.as_ref().filter(|permit| permit.until.0 > now.wall.0 + RENEWED_MS);
        let permit = lasting.cloned().unwrap_or_else(|| {
            signer.permit(node, share.image, UnixMillis(now.wall.0.saturating_add(PERMITTED_MS)))
        });
        share.permit = Some(permit.clone());
        Some(permit)
    }

    /// Tells an agent whose capabilities count.
    pub(in crate::state) fn say_capability_key(&mut self, session: SessionId) {
        let key = self.pushes.signer.as_ref().and_then(|signer| signer.key().ok());
        let order = key.map(|key| ToAgent::Order(Box::new(Order::Capabilities { key })));
        self.effects.extend(order.map(|order| Effect::Send(session, order)));
    }
}
