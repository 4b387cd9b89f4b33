//! What time brings: silence, another try, a maker of maps that does not answer, deadlines; and work in steps.

use std::time::Duration;

use sifleet_common::digest::Digest;
use sifleet_common::push::{FailCode, Phase};
use sifleet_common::time::{Monotonic, Now};
use sifleet_common::wire::assignment::AssignmentId;

use super::maps::MAKING;
use super::say::RENEWED_MS;
use super::{STEPS, State, Timer, Work};
use crate::store::push::PushNo;

/// So long an agent may say nothing of an assignment before it is told again: thirty missed reports.
pub(super) const SILENCE: Duration = Duration::from_secs(30);
/// So long before it is given up.
const GIVEN_UP: Duration = Duration::from_secs(180);
/// How long a failed share waits at first; twice as long after each further failure.
pub(super) const FIRST_WAIT: Duration = Duration::from_secs(10);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Returns how long to wait after so many failures.
pub(in crate::state) fn wait_after(attempts: u32) -> Duration {
    FIRST_WAIT
        .saturating_mul(1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX))
        .min(LONGEST_WAIT)
}

impl State {
    /// Sets when a share is looked after, or that it need not be.
    pub(super) fn set_due(&mut self, id: AssignmentId, due: Option<Monotonic>) {
        let Some(share) = self.pushes.shares.get_mut(&id) else { return };
        if let Some(before) = std::mem::replace(&mut share.due, due) {
            self.pushes.timers.remove(&(before, Timer::Share(id)));
        }
        self.pushes.timers.extend(due.map(|due| (due, Timer::Share(id))));
    }

    /// Sees to what is due.
    pub(super) fn ring_timers(&mut self, now: Now) {
        for _ in 0..STEPS {
            let Some((at, timer)) = self.pushes.timers.first().copied().filter(|(at, _)| *at <= now.mono)
            else {
                break;
            };
            self.pushes.timers.remove(&(at, timer));
            match timer {
                Timer::Share(id) => self.look_after(id, now),
                Timer::Map(image) => {
                    let why = format!("nothing was heard of it for {} s", MAKING.as_secs());
                    self.no_map_from(image, &why);
                }
                Timer::Verdict(image) => self.no_verdict_from_whom_was_asked(image),
                Timer::Pardon(node) => self.pardon(node),
                Timer::Push(no) => self.pushes.work.push_back(Work::Expire(no, 0)),
            }
        }
    }

    /// Looks after a share: tries one that failed once more, tells a silent agent again, gives it up at last.
    fn look_after(&mut self, id: AssignmentId, now: Now) {
        let Some(share) = self.pushes.shares.get_mut(&id) else { return };
        share.due = None;
        if share.has_failed() {
            self.try_again(id, now);
            return;
        }
        if !share.assigned {
            return;
        }
        let ending = share.permit.as_ref().is_none_or(|permit| permit.until.0 <= now.wall.0 + RENEWED_MS);
        let silent = now.mono.since(share.heard);
        let (heard, done) = (share.heard, share.claimed);
        let claimed = done.map(|since| now.mono.since(since));
        if claimed.is_some()
            && let Some(words) = self.found_unusable(id)
        {
            self.unassign(id);
            self.fail(id, FailCode::Unusable, words, now);
        } else if claimed.is_some_and(|since| since >= GIVEN_UP) {
            let words = "the agent says that it is done, and its inventory does not show it".to_owned();
            self.unassign(id);
            self.fail(id, FailCode::Silent, words, now);
        } else if silent >= GIVEN_UP {
            let words = format!("the agent said nothing of it for {} s", silent.as_secs());
            self.fail(id, FailCode::Silent, words, now);
        } else if silent >= SILENCE {
            self.pushes.unsaid.insert(id);
            self.set_due(id, Some(now.mono.after(SILENCE)));
        } else {
            if ending {
                self.pushes.unsaid.insert(id);
            }
            let next = heard.after(SILENCE);
            let next = done.map_or(next, |since| next.min(since.after(GIVEN_UP)));
            self.set_due(id, Some(next));
        }
    }

    /// Does a bounded part of the work there is.
    pub(super) fn work(&mut self, now: Now) {
        let mut left = STEPS;
        while left > 0
            && let Some(work) = self.pushes.work.pop_front()
        {
            let rest = match work {
                Work::Begin(no, at) => {
                    self.each((no, at), &mut left, now, State::begin_open_part).map(|at| Work::Begin(no, at))
                }
                Work::Retry(no, at) => {
                    self.each((no, at), &mut left, now, State::retry_part).map(|at| Work::Retry(no, at))
                }
                Work::Cancel(no, at) => {
                    self.each((no, at), &mut left, now, State::cancel_part).map(|at| Work::Cancel(no, at))
                }
                Work::Expire(no, at) => {
                    self.each((no, at), &mut left, now, State::expire_part).map(|at| Work::Expire(no, at))
                }
                Work::Restate(no, at) => {
                    self.each((no, at), &mut left, now, State::restate_part).map(|at| Work::Restate(no, at))
                }
                Work::Wake(image, from) => self.wake_some(image, from, &mut left, now),
                Work::Unmapped(image, from) => self.fail_unmapped(image, from, &mut left, now),
            };
            if let Some(rest) = rest {
                self.pushes.work.push_front(rest);
            }
        }
    }

    /// Does something with each node of a push, as long as steps are left; tells where to go on.
    fn each(
        &mut self,
        (no, from): (PushNo, usize),
        left: &mut usize,
        now: Now,
        step: impl Fn(&mut Self, PushNo, usize, Now),
    ) -> Option<usize> {
        let parts = self.pushes.pushes.get(&no)?.parts.len();
        let to = parts.min(from.saturating_add(*left));
        for at in from..to {
            step(self, no, at, now);
        }
        *left -= to.saturating_sub(from);
        (to < parts).then_some(to)
    }

    /// Lets some of those look again who wait for an image's map or source.
    fn wake_some(&mut self, image: Digest, from: AssignmentId, left: &mut usize, now: Now) -> Option<Work> {
        let (some, rest) = self.some_of(image, from, left)?;
        for id in some {
            if self.pushes.shares.get(&id).is_some_and(|share| share.phase == Phase::Waiting) {
                self.advance(id, now);
            }
        }
        rest.map(|from| Work::Wake(image, from))
    }

    /// Lets some of those fail for whom nobody can make a map.
    fn fail_unmapped(
        &mut self,
        image: Digest,
        from: AssignmentId,
        left: &mut usize,
        now: Now,
    ) -> Option<Work> {
        let words = self.pushes.maps.said(image);
        let (some, rest) = self.some_of(image, from, left)?;
        for id in some {
            if self
                .pushes
                .shares
                .get(&id)
                .is_some_and(|share| share.phase == Phase::Waiting && !share.assigned)
            {
                self.fail(id, FailCode::NoMap, words.clone(), now);
            }
        }
        if rest.is_none() {
            self.pushes.maps.forgive(image);
        }
        rest.map(|from| Work::Unmapped(image, from))
    }

    /// Lists shares of a swarm from one on, as many as steps are left, and the one to go on with.
    fn some_of(
        &self,
        image: Digest,
        from: AssignmentId,
        left: &mut usize,
    ) -> Option<(Vec<AssignmentId>, Option<AssignmentId>)> {
        let mut shares = self.pushes.swarms.get(&image)?.shares.range(from..).copied();
        let some: Vec<AssignmentId> = shares.by_ref().take(*left).collect();
        *left -= some.len();
        Some((some, shares.next()))
    }

    /// Sets when a push's deadline is.
    pub(super) fn expire_at(&mut self, no: PushNo, expires: Monotonic) {
        let Some(push) = self.pushes.pushes.get_mut(&no) else { return };
        push.until = expires;
        if let Some(before) = push.expires.replace(expires) {
            self.pushes.timers.remove(&(before, Timer::Push(no)));
        }
        self.pushes.timers.insert((expires, Timer::Push(no)));
    }

    /// Lets the deadline of a push count again of which nodes try once more.
    pub(super) fn rearm(&mut self, no: PushNo) {
        if let Some(push) = self.pushes.pushes.get(&no)
            && push.expires.is_none()
        {
            self.expire_at(no, push.until);
        }
    }

    /// Sets the deadlines of pushes found at start: how much of their time is left, the wall clock tells.
    pub(super) fn arm_found(&mut self, now: Now) {
        for no in std::mem::take(&mut self.pushes.found) {
            let Some(push) = self.pushes.pushes.get_mut(&no) else { continue };
            let left = u64::try_from(push.record.deadline.0.saturating_sub(now.wall.0)).unwrap_or(0);
            let expires = now.mono.after(Duration::from_millis(left.min(push.record.patience_ms)));
            let cancelled = push.record.cancelled;
            self.expire_at(no, expires);
            self.found_swarm(no);
            let work = if cancelled { Work::Cancel(no, 0) } else { Work::Begin(no, 0) };
            self.pushes.work.push_back(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_waits_longer_after_each_failure_but_not_for_ever() {
        let waits: Vec<u64> = [1, 2, 3, 7, 40].into_iter().map(|n| wait_after(n).as_secs()).collect();
        assert_eq!(waits, [10, 20, 40, 600, 600]);
    }
}
