//! What of pushes outlives the process, what is forgotten, and what the view shows.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sifleet_common::time::Now;

use super::{Push, State};
use crate::state::Effect;
use crate::state::index::NodeId;
use crate::store::Op;
use crate::store::push::{PushOutcome, RestoredPush};
use crate::view::pushes::{PartInfo, PushInfo, PushesShown};

/// How long a push that ended is kept: a month.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

impl State {
    /// Takes up the pushes found at start; those that did not end go on as soon as it is known what time it is.
    pub(in crate::state) fn restore_pushes(
        &mut self,
        found: Vec<RestoredPush>,
        maps: BTreeMap<sifleet_common::digest::Digest, sifleet_common::chunk::MapDigest>,
    ) {
        self.pushes.maps.known = maps;
        for RestoredPush { record, nodes } in found {
            let no = record.no;
            let nodes: Vec<(NodeId, Option<PushOutcome>)> =
                nodes.into_iter().filter_map(|(name, outcome)| Some((self.id_of(&name)?, outcome))).collect();
            if let Some(key) = &record.key {
                self.pushes.keys.insert(key.text.clone(), no);
            }
            let mut push = Push::new(Arc::new(record), nodes);
            push.found = true;
            if push.open > 0 {
                self.pushes.found.push(no);
            }
            self.pushes.pushes.insert(no, push);
            self.pushes.last_push = self.pushes.last_push.max(no);
            self.pushes.changed.insert(no);
        }
    }

    /// Hands ends of nodes to the store, those of one push together.
    pub(super) fn hand_over_outcomes(&mut self) {
        for (push, nodes) in std::mem::take(&mut self.pushes.outcomes) {
            self.effects.push(Effect::Store(Op::PutOutcomes { push, nodes }));
        }
    }

    /// Forgets pushes that ended, the oldest first, so that one with so many nodes has room.
    pub(super) fn forget_old(&mut self, adds: usize, now: Now) {
        let mut parts: usize = self.pushes.pushes.values().map(|push| push.parts.len()).sum();
        let mut left = self.pushes.pushes.len();
        let (max, max_parts) = (self.pushes.set.max_pushes, super::wish::MAX_PARTS);
        let mut forgotten = Vec::new();
        for (no, push) in &self.pushes.pushes {
            let ended = push.record.ended.filter(|_| push.open == 0);
            // The newest one says where numbers go on after a restart.
            let Some(ended) = ended.filter(|_| *no != self.pushes.last_push) else { continue };
            let age = u64::try_from(now.wall.0.saturating_sub(ended.0)).unwrap_or(0);
            let crowded = left >= max || parts.saturating_add(adds) > max_parts;
            if crowded || Duration::from_millis(age) > KEPT {
                forgotten.push(*no);
                left -= 1;
                parts -= push.parts.len();
            }
        }
        for no in &forgotten {
            let key = self.pushes.pushes.remove(no).and_then(|push| push.record.key.clone());
            if let Some(key) = key
                && self.pushes.keys.get(&key.text) == Some(no)
            {
                self.pushes.keys.remove(&key.text);
            }
            self.pushes.changed.remove(no);
            self.pushes.shown.remove(no);
        }
        if !forgotten.is_empty() {
            self.effects.push(Effect::Store(Op::ForgetPushes { pushes: forgotten }));
        }
    }

    /// Returns the steps that make everything about pushes durable, whatever was written before.
    #[must_use]
    pub fn whole_pushes(&self) -> Vec<Op> {
        let mut ops: Vec<Op> = self
            .pushes
            .maps
            .known
            .iter()
            .map(|(image, map)| Op::PutMap { image: *image, map: *map })
            .collect();
        let name = |id: NodeId| self.node(id).map(|node| node.name.clone());
        for (no, push) in &self.pushes.pushes {
            let nodes = push.parts.iter().filter_map(|part| name(part.node)).collect();
            ops.push(Op::PutPush { record: Arc::clone(&push.record), nodes });
            let settled = push.parts.iter().zip(&push.shown).filter(|(part, _)| part.settled);
            let nodes =
                settled.filter_map(|(part, shown)| Some((name(part.node)?, Some(shown.outcome.clone()))));
            ops.push(Op::PutOutcomes { push: *no, nodes: nodes.collect() });
        }
        ops
    }

    /// Returns what the view shows of pushes; cheap if little changed.
    pub(in crate::state) fn show_pushes(&mut self) -> PushesShown {
        for no in std::mem::take(&mut self.pushes.changed) {
            let Some(push) = self.pushes.pushes.get_mut(&no) else { continue };
            for at in std::mem::take(&mut push.dirty) {
                let share = push.parts.get(at).and_then(|part| self.pushes.shares.get(&part.share?));
                if let Some(share) = share
                    && at < push.shown.len()
                {
                    let info: PartInfo = share.info(share.phase, &share.why, None);
                    push.shown.set(at, Arc::new(info));
                }
            }
            let info = PushInfo {
                record: Arc::clone(&push.record),
                state: push.state,
                nodes: push.shown.clone(),
                dropped: Arc::clone(&push.dropped),
                body: OnceLock::new(),
            };
            self.pushes.shown.insert(no, Arc::new(info));
        }
        PushesShown { pushes: self.pushes.shown.clone(), moved: self.pushes.moved }
    }
}
