//! What agents are told of their assignments: whole each time, soon when one begins, seldom when only peers changed.

use std::time::Duration;

use sifleet_common::time::Now;
use sifleet_common::wire::assignment::{Assignment, AssignmentId, MAX_PEERS, Order, Peer};
use sifleet_common::wire::control::ToAgent;

use super::{STEPS, State};
use crate::state::Effect;

/// News of peers is collected for so long: ten thousand nodes that come one by one must not be told of each.
const NEWS: Duration = Duration::from_millis(500);

impl State {
    /// Says what has to be said, a bounded number of assignments at a time.
    pub(super) fn say_assignments(&mut self, now: Now) {
        let mut left = STEPS;
        while left > 0
            && let Some(id) = self.pushes.unsaid.pop_first()
        {
            self.say_assignment(id);
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
                    self.say_assignment(id);
                    said = true;
                }
            }
        }
        if said && news.len() < left {
            self.pushes.news_at = now.mono.after(NEWS);
        }
    }

    /// Tells an agent what an assignment is.
    pub(super) fn say_assignment(&mut self, id: AssignmentId) {
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
}
