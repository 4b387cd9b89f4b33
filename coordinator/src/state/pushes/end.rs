//! How shares and pushes come to their ends: done, failed, let off, too late.

use std::sync::Arc;

use sifleet_common::api::events::EventKind;
use sifleet_common::api::pushes::PushState;
use sifleet_common::push::{FailCode, Phase};
use sifleet_common::time::Now;
use sifleet_common::wire::assignment::{AssignmentId, Order};
use sifleet_common::wire::control::ToAgent;

use super::clock::wait_after;
use super::share::{Share, Why};
use super::{State, Timer};
use crate::state::{Announcement, Effect};
use crate::store::Op;
use crate::store::push::PushNo;

/// The phase of an end, and why.
type End<'a> = (Phase, &'a Why);

impl State {
    /// Ends a share whose image is there.
    pub(super) fn done(&mut self, id: AssignmentId, now: Now) {
        let Some(share) = self.pushes.shares.get_mut(&id) else { return };
        let (node, image) = (share.node, share.image);
        share.present = !share.begun;
        // Its agent takes orders for so many at once, and need not remember this one.
        if share.begun {
            self.unassign(id);
        }
        if let Some(swarm) = self.pushes.swarms.get_mut(&image)
            && swarm.ring.contains(node)
        {
            swarm.holding.insert(node);
        }
        self.settle(id, Phase::Done, &None, now);
        self.next_of(node, now);
    }

    /// Notes that a share failed: for good, or until it is tried again.
    pub(super) fn fail(&mut self, id: AssignmentId, code: FailCode, words: String, now: Now) {
        let Some(share) = self.pushes.shares.get_mut(&id) else { return };
        let (node, image, begun) = (share.node, share.image, share.begun);
        share.assigned = false;
        share.attempts = share.attempts.saturating_add(1);
        let words: Arc<str> = words.into();
        share.failed = Some(Arc::clone(&words));
        let (attempts, why): (u32, Why) = (share.attempts, Some((Some(code), words)));
        self.pushes.unsaid.remove(&id);
        if code.may_pass() {
            self.turn_to(id, Phase::Failed, why, now);
            self.set_due(id, Some(now.mono.after(wait_after(attempts))));
        } else {
            if begun {
                self.unassign(id);
            }
            self.settle(id, Phase::Failed, &why, now);
        }
        self.leave_swarm(node, image);
        self.next_of(node, now);
    }

    /// Ends a share for all pushes it belongs to.
    fn settle(&mut self, id: AssignmentId, phase: Phase, why: &Why, now: Now) {
        let Some(share) = self.pushes.shares.get(&id) else { return };
        for (no, at) in share.parts.clone() {
            self.settle_part(id, (no, at), (phase, why), now);
        }
        self.drop_share(id);
    }

    /// Ends a share for one push.
    fn settle_part(&mut self, id: AssignmentId, (no, at): (PushNo, usize), (phase, why): End<'_>, now: Now) {
        let Some(share) = self.pushes.shares.get(&id) else { return };
        let info = share.info(phase, why, Some(now.wall));
        let (node, before) = (share.node, share.phase);
        if let Some(push) = self.pushes.pushes.get_mut(&no)
            && let Some(part) = push.parts.get_mut(at)
        {
            (part.share, part.settled) = (None, true);
            push.open = push.open.saturating_sub(1);
            push.moved(before, phase);
            push.dirty.remove(&at);
            let outcome = Some(info.outcome.clone());
            if at < push.shown.len() {
                push.shown.set(at, Arc::new(info));
            }
            self.pushes.changed.insert(no);
            let name = self.nodes.get(node.index()).map(|node| node.name.clone());
            self.pushes.outcomes.entry(no).or_default().extend(name.map(|name| (name, outcome)));
        }
        self.review(no, now);
    }

    /// Ends a share for one push, and altogether if no other one wants it.
    fn detach(&mut self, (no, at): (PushNo, usize), end: End<'_>, now: Now) {
        let share = self.pushes.pushes.get(&no).and_then(|push| push.parts.get(at)?.share);
        let Some(id) = share else { return };
        self.settle_part(id, (no, at), end, now);
        let Some(share) = self.pushes.shares.get_mut(&id) else { return };
        share.parts.retain(|part| *part != (no, at));
        if !share.parts.is_empty() {
            self.derive_terms(id);
            return;
        }
        let (node, image, begun) = (share.node, share.image, share.begun);
        if begun {
            self.unassign(id);
        }
        self.drop_share(id);
        self.leave_swarm(node, image);
        self.next_of(node, now);
    }

    pub(super) fn unassign(&mut self, id: AssignmentId) {
        let session = self.pushes.shares.get(&id).and_then(|share| self.session_of(share.node));
        if let Some(session) = session {
            let order = Box::new(Order::Unassign { id });
            self.effects.push(Effect::Send(session, ToAgent::Order(order)));
        }
    }

    /// Forgets a share, and the swarm if it was the last one.
    pub(super) fn drop_share(&mut self, id: AssignmentId) {
        self.set_due(id, None);
        self.pushes.unsaid.remove(&id);
        let Some(share) = self.pushes.shares.remove(&id) else { return };
        if let Some(own) = self.pushes.of_node.get_mut(&share.node) {
            own.remove(&id);
            if own.is_empty() {
                self.pushes.of_node.remove(&share.node);
            }
        }
        if let Some(swarm) = self.pushes.swarms.get_mut(&share.image) {
            swarm.shares.remove(&id);
        }
        self.end_swarm(share.image);
    }

    pub(super) fn cancel_part(&mut self, no: PushNo, at: usize, now: Now) {
        self.close_part((no, at), (Phase::Cancelled, &None), now);
    }

    pub(super) fn expire_part(&mut self, no: PushNo, at: usize, now: Now) {
        let Some(push) = self.pushes.pushes.get(&no) else { return };
        if push.expires.is_some_and(|expires| expires > now.mono) {
            // Somebody gave it more time.
            return;
        }
        let share = push.parts.get(at).and_then(|part| self.pushes.shares.get(&part.share?));
        let before =
            share.and_then(|share| share.why.as_ref().map(|(_, words)| words).or(share.failed.as_ref()));
        let words = match before {
            Some(before) => format!("the deadline passed; before: {before}").into(),
            None => "the deadline passed".into(),
        };
        let why = Some((Some(FailCode::Deadline), words));
        self.close_part((no, at), (Phase::Failed, &why), now);
    }

    /// Ends what has not come to an end for one node of a push.
    fn close_part(&mut self, (no, at): (PushNo, usize), end: End<'_>, now: Now) {
        let Some(push) = self.pushes.pushes.get(&no) else { return };
        let Some(part) = push.parts.get(at).copied().filter(|part| !part.settled) else { return };
        if part.share.is_none() {
            // It is cancelled before it was begun: it begins, so that it ends like any other.
            let share = Share::new(push, part.node, now);
            let id = self.add_share(share);
            self.join_share(id, no, at);
        }
        self.detach((no, at), end, now);
    }

    pub(super) fn retry_part(&mut self, no: PushNo, at: usize, now: Now) {
        let Some(push) = self.pushes.pushes.get(&no) else { return };
        let Some(part) = push.parts.get(at).copied() else { return };
        let failed = push.shown.get(at).is_some_and(|part| part.outcome.phase == Phase::Failed);
        match part.share {
            Some(id) if self.pushes.shares.get(&id).is_some_and(Share::has_failed) => {
                if let Some(share) = self.pushes.shares.get_mut(&id) {
                    share.attempts = 0;
                }
                self.try_again(id, now);
            }
            None if failed => self.begin_part(no, at, now),
            Some(_) | None => {}
        }
    }

    pub(super) fn restate_part(&mut self, no: PushNo, at: usize, _: Now) {
        let share = self.pushes.pushes.get(&no).and_then(|push| push.parts.get(at)?.share);
        if let Some(id) = share {
            self.derive_terms(id);
        }
    }

    /// Holds how a push stands against how it stood.
    pub(super) fn review(&mut self, no: PushNo, now: Now) {
        let Some(push) = self.pushes.pushes.get_mut(&no) else { return };
        if push.open == 0
            && let Some(expires) = push.expires.take()
        {
            self.pushes.timers.remove(&(expires, Timer::Push(no)));
        }
        let state = push.stands();
        let ended = state != PushState::Running;
        if push.state == state && push.record.ended.is_some() == ended {
            return;
        }
        push.state = state;
        let record = Arc::make_mut(&mut push.record);
        record.ended = ended.then(|| record.ended.unwrap_or(now.wall));
        let record = Arc::clone(&push.record);
        self.pushes.changed.insert(no);
        self.effects.push(Effect::Store(Op::ChangePush { record }));
        self.announce_push(no);
    }

    /// Tells followers how a push stands.
    pub(super) fn announce_push(&mut self, no: PushNo) {
        let Some(push) = self.pushes.pushes.get(&no) else { return };
        self.effects.push(Effect::Announce(Announcement {
            kind: EventKind::PushChanged,
            node: None,
            image: Some(push.record.image.clone()),
            digest: Some(push.record.digest),
            detail: Some(format!("{no} {}", push.state.name())),
        }));
    }
}
