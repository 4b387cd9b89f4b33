//! An image that the jobs of a node pull: the node joins the push that brings it to others for the same reason.
//!
//! So a thousand nodes on which one job array starts are one push, and not a thousand.

use std::sync::Arc;
use std::time::Duration;

use sifleet_common::digest::Digest;
use sifleet_common::name::ImageName;
use sifleet_common::push::Phase;
use sifleet_common::time::Now;

use super::commands::later;
use super::{Part, PushError, Wish, place};
use crate::state::index::NodeId;
use crate::state::{Effect, State};
use crate::store::Op;
use crate::store::push::{Key, PushNo, PushOutcome};
use crate::view::pushes::PartInfo;

/// How long a node that joins has, and those before it: a job does not wait longer.
pub const PATIENCE: Duration = Duration::from_secs(3_600);

/// Makes the key of a push that nodes join. It has a space, which no caller's key has.
#[must_use]
pub fn key(image: &ImageName, digest: Digest) -> Key {
    Key { text: format!("pull {digest} {image}"), body: digest }
}

impl State {
    /// Adds the nodes of a wish to the push with its key that goes on, or begins one.
    pub(super) fn join(&mut self, wish: Wish, now: Now) -> Result<PushNo, PushError> {
        let text = wish.key.as_ref().map(|key| key.text.as_str()).unwrap_or_default();
        let goes_on = self.pushes.keys.get(text).copied().filter(|no| {
            self.pushes.pushes.get(no).is_some_and(|push| push.open > 0 && !push.record.cancelled)
        });
        let Some(no) = goes_on else {
            let ended = text.to_owned();
            self.pushes.keys.remove(&ended);
            return self.create(wish, now);
        };
        self.make_room_for_parts(&wish, now)?;
        for node in wish.nodes.iter().map(NodeId) {
            self.add_part(no, node, now);
        }
        self.put_off_deadline(no, now);
        Ok(no)
    }

    fn add_part(&mut self, no: PushNo, node: NodeId, now: Now) {
        let name = self.node(node).map(|node| node.name.clone());
        let (Some(push), Some(name)) = (self.pushes.pushes.get_mut(&no), name) else { return };
        let at = match push.parts.iter().position(|part| part.node == node) {
            Some(at) => at,
            None => {
                let outcome = PushOutcome::waiting();
                if let Some(count) = push.counts.get_mut(place(Phase::Waiting)) {
                    *count = count.saturating_add(1);
                }
                push.open = push.open.saturating_add(1);
                push.parts.push(Part { node, share: None, settled: false });
                push.shown.push_back(Arc::new(PartInfo {
                    node: node.0,
                    outcome,
                    sources: Vec::new(),
                    rate: 0,
                }));
                self.effects.push(Effect::Store(Op::JoinPush { push: no, node: name }));
                push.parts.len().saturating_sub(1)
            }
        };
        self.pushes.changed.insert(no);
        // One that failed tries again at once; one that was done may have lost the image since.
        self.retry_part(no, at, now);
        self.begin_part(no, at, now);
    }

    fn put_off_deadline(&mut self, no: PushNo, now: Now) {
        let Some(push) = self.pushes.pushes.get_mut(&no) else { return };
        let record = Arc::make_mut(&mut push.record);
        record.deadline = later(now.wall, record.patience_ms);
        let (record, patience) = (Arc::clone(&push.record), Duration::from_millis(push.record.patience_ms));
        self.expire_at(no, now.mono.after(patience));
        self.pushes.changed.insert(no);
        self.effects.push(Effect::Store(Op::ChangePush { record }));
    }
}
