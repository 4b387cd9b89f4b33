//! What is kept of removals: handed to the store, found again at start, shown in the view, forgotten at last.

use std::sync::Arc;
use std::time::Duration;

use sifleet_common::time::Now;

use super::{Removing, State};
use crate::state::Effect;
use crate::store::Op;
use crate::store::removal::RestoredRemoval;
use crate::view::removals::RemovalsShown;

/// How long a removal that ended is kept.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

impl State {
    /// Takes over what was found at start.
    pub(in crate::state) fn restore_removals(&mut self, found: Vec<RestoredRemoval>) {
        for RestoredRemoval { record, nodes } in found {
            let no = record.no;
            let nodes =
                nodes.into_iter().filter_map(|(name, part)| Some((self.id_of(&name)?, part))).collect();
            let mut removing = Removing::new(Arc::new(record), nodes);
            removing.state = removing.stands();
            if removing.is_open() {
                self.removals.found.push(no);
            }
            self.removals.last = self.removals.last.max(no);
            self.add_removal(removing);
        }
    }

    /// Hands ends of nodes to the store, those of one removal together.
    pub(super) fn hand_over_removed(&mut self) {
        for (removal, nodes) in std::mem::take(&mut self.removals.ended) {
            self.effects.push(Effect::Store(Op::PutRemoved { removal, nodes }));
        }
    }

    /// Forgets removals that ended, the oldest first, so that one with so many nodes has room.
    pub(super) fn forget_old_removals(&mut self, adds: usize, now: Now) {
        let known = &self.removals.removals;
        let mut parts: usize = known.values().map(|removing| removing.parts.len()).sum();
        let mut left = known.len();
        let max = self.pushes.most_kept();
        let mut removals = Vec::new();
        for (no, removing) in known {
            let ended = removing.record.ended.filter(|_| !removing.is_open());
            // The newest one says where numbers go on after a restart.
            let Some(ended) = ended.filter(|_| *no != self.removals.last) else { continue };
            let age = u64::try_from(now.wall.0.saturating_sub(ended.0)).unwrap_or(0);
            let crowded = left >= max || parts.saturating_add(adds) > super::wish::MAX_PARTS;
            if crowded || Duration::from_millis(age) > KEPT {
                removals.push(*no);
                left -= 1;
                parts -= removing.parts.len();
            }
        }
        for no in &removals {
            let removed = self.removals.removals.remove(no);
            if let Some(key) = removed.and_then(|removing| removing.record.key.clone()) {
                self.removals.keys.remove(&key.text);
            }
            self.removals.changed.remove(no);
            self.removals.shown.remove(no);
        }
        if !removals.is_empty() {
            self.effects.push(Effect::Store(Op::ForgetRemovals { removals }));
        }
    }

    /// Returns the steps that make everything about removals durable, whatever was written before.
    #[must_use]
    pub fn whole_removals(&self) -> Vec<Op> {
        let mut ops = Vec::new();
        for (no, removing) in &self.removals.removals {
            let named =
                removing.parts.iter().filter_map(|part| Some((self.node(part.node)?.name.clone(), part)));
            let (names, parts): (Vec<_>, Vec<_>) = named.unzip();
            let ended = names.iter().cloned().zip(&parts).filter(|(_, part)| part.stands.phase.is_end());
            let nodes = ended.map(|(name, part)| (name, part.stands.clone())).collect();
            ops.push(Op::PutRemoval { record: Arc::clone(&removing.record), nodes: names });
            ops.push(Op::PutRemoved { removal: *no, nodes });
        }
        ops
    }

    /// Returns what the view shows of removals; cheap if little changed.
    pub(in crate::state) fn show_removals(&mut self) -> RemovalsShown {
        for no in std::mem::take(&mut self.removals.changed) {
            if let Some(removing) = self.removals.removals.get(&no) {
                self.removals.shown.insert(no, Arc::new(removing.info()));
            }
        }
        RemovalsShown { removals: self.removals.shown.clone(), gone: self.removals.gone }
    }
}
