//! What agents say of their assignments: how far they are, what went wrong, who cheated them.

use std::sync::Arc;

use sifleet_common::api::pushes::DroppedSource;
use sifleet_common::name::NodeName;
use sifleet_common::push::{FailCode, Fault, Phase};
use sifleet_common::time::Now;
use sifleet_common::wire::assignment::{AssignmentId, Moved, Progress, Report};

use super::share::Share;
use super::{Push, State};
use crate::state::index::NodeId;
use crate::state::{SessionId, check};

/// Most sources that a push names as left alone.
const MAX_DROPPED: usize = 64;

impl State {
    /// Takes in what an agent reports.
    pub(in crate::state) fn report(&mut self, id: NodeId, session: SessionId, report: Report, now: Now) {
        if let Err(how) = check::report(&report) {
            self.breach(id, how);
            return;
        }
        match report {
            Report::Mapped(mapped) => self.mapped(session, mapped),
            Report::Progress(progress) => self.progress(id, progress, now),
            Report::Verified(verified) => self.verified(session, verified),
            Report::Removed(removed) => self.removed(id, &removed, now),
        }
    }

    fn progress(&mut self, node: NodeId, said: Progress, now: Now) {
        let id = said.id;
        // What is said of an earlier life, of another node, or of what was ended meanwhile, says nothing.
        let Some(share) =
            self.pushes.shares.get_mut(&id).filter(|share| share.node == node && share.assigned)
        else {
            return;
        };
        self.pushes.moved = plus(self.pushes.moved, &share.bytes, &said.bytes);
        share.learn(&said, now);
        if said.phase == Phase::Done {
            share.claimed.get_or_insert(now.mono);
        }
        self.touch_share(id);
        self.take_faults(id, &said.dropped, now);
        match said.phase {
            Phase::Failed => {
                let (code, words) =
                    said.failure.unwrap_or_else(|| (FailCode::Io, "the agent did not say why".to_owned()));
                if let Some((image, before)) =
                    self.pushes.shares.get(&id).map(|share| (share.image, share.phase))
                {
                    match (code, before) {
                        (FailCode::NoMap | FailCode::WrongDigest, _) => self.doubt_map(image, node),
                        // Before it had the map.
                        (FailCode::NoSource, Phase::Preparing) => self.doubt_unserved_map(image, node),
                        _ => {}
                    }
                }
                self.fail(id, code, words, now);
            }
            Phase::Done if self.is_there(id) => self.done(id, now),
            // The inventory has the last word; it is on its way.
            Phase::Done => self.turn_to(id, Phase::Verifying, None, now),
            phase if phase.is_under_way() => self.turn_to(id, phase, None, now),
            Phase::Deferred | Phase::Cancelled | Phase::Waiting => {}
            Phase::Preparing | Phase::Fetching | Phase::Verifying => {}
        }
    }

    /// Notes who cheated whom, or fell silent.
    fn take_faults(&mut self, id: AssignmentId, dropped: &[(NodeName, Fault)], now: Now) {
        let Some(share) = self.pushes.shares.get(&id) else { return };
        let (accuser, image) = (share.node, share.image);
        let Some(by) = self.node(accuser).map(|node| node.name.to_string()) else { return };
        for (name, fault) in dropped {
            let Some(suspect) = self.by_name.get(name).copied() else { continue };
            if fault.is_malice()
                && let Some(swarm) = self.pushes.swarms.get_mut(&image)
                && swarm.avoid(accuser, suspect)
            {
                self.accuse(suspect, accuser, now);
            }
            let source = DroppedSource { node: name.to_string(), fault: *fault, by: by.clone() };
            let parts = self.pushes.shares.get(&id).map(|share| share.parts.clone()).unwrap_or_default();
            for (no, _) in parts {
                if let Some(push) = self.pushes.pushes.get_mut(&no) {
                    push.drop_source(&source);
                }
            }
        }
    }
}

impl Push {
    fn drop_source(&mut self, source: &DroppedSource) {
        if self.dropped.len() < MAX_DROPPED && !self.dropped.contains(source) {
            Arc::make_mut(&mut self.dropped).push(source.clone());
        }
    }
}

impl Share {
    /// Takes over what was said of bytes.
    fn learn(&mut self, said: &Progress, now: Now) {
        let took = now.mono.since(self.heard).as_millis().max(1);
        let came = u128::from(said.bytes.fetched.saturating_sub(self.bytes.fetched));
        let rate = match self.bytes.fetched {
            // Perhaps it fetched long before it was heard: this coordinator, or the agent's connection, is new.
            0 => 0,
            _ => u64::try_from(came.saturating_mul(1_000) / took).unwrap_or(u64::MAX),
        };
        // Half of what it was: a bar that jumps helps nobody.
        self.rate = if self.rate == 0 { rate } else { self.rate / 2 + rate / 2 };
        self.heard = now.mono;
        self.bytes = said.bytes;
        self.sources.clone_from(&said.sources);
        let any = said.bytes.fetched > 0 || said.bytes.reused > 0 || said.bytes.resumed > 0;
        if any {
            self.started.get_or_insert(now.wall);
        }
        if came > 0 {
            self.attempts = 0;
        }
    }
}

/// Adds what one share moved since it was last heard; one that began anew counts from nothing.
fn plus(total: Moved, before: &Moved, after: &Moved) -> Moved {
    let add = |total: u64, before: u64, after: u64| {
        total.saturating_add(if after >= before { after - before } else { after })
    };
    Moved {
        fetched: add(total.fetched, before.fetched, after.fetched),
        reused: add(total.reused, before.reused, after.reused),
        resumed: add(total.resumed, before.resumed, after.resumed),
        wasted: add(total.wasted, before.wasted, after.wasted),
    }
}
