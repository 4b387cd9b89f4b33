//! One node's share of one or several pushes that want the same of it; said to its agent as an assignment.

use std::sync::Arc;

use sifleet_common::capability::Capability;
use sifleet_common::digest::Digest;
use sifleet_common::inventory::RootId;
use sifleet_common::name::{ImageName, NodeName};
use sifleet_common::push::{FailCode, Phase};
use sifleet_common::time::{Monotonic, Now, UnixMillis};
use sifleet_common::wire::assignment::{AssignmentId, Moved};

use super::{Push, State};
use crate::state::index::NodeId;
use crate::store::push::{PushNo, PushOutcome};
use crate::view::pushes::PartInfo;

/// Why a share does not go on: a code, if there is one, and words.
pub(super) type Why = Option<(Option<FailCode>, Arc<str>)>;

/// What is known of a share.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) node: NodeId,
    pub(super) image: Digest,
    pub(super) size: u64,
    pub(super) name: ImageName,
    /// The root that was named.
    pub(super) wish: Option<Arc<str>>,
    /// The root that it is, as the node numbers it in its present session.
    pub(super) root: Option<(RootId, Arc<str>)>,
    /// Whose share it is: pushes, and the node's place in each.
    pub(super) parts: Vec<(PushNo, usize)>,
    pub(super) phase: Phase,
    pub(super) why: Why,
    pub(super) bytes: Moved,
    pub(super) sources: Vec<(NodeName, u64)>,
    pub(super) rate: u64,
    /// Whether it is among what the agent is told to do.
    pub(super) assigned: bool,
    /// Whether the agent may have begun it, in this life of the coordinator or an earlier one.
    pub(super) begun: bool,
    /// When the agent first said that it is done.
    pub(super) claimed: Option<Monotonic>,
    /// When something was heard of it.
    pub(super) heard: Monotonic,
    pub(super) due: Option<Monotonic>,
    /// Why it failed last.
    pub(super) failed: Option<Arc<str>>,
    /// How often it failed in a row.
    pub(super) attempts: u32,
    pub(super) present: bool,
    pub(super) started: Option<UnixMillis>,
    pub(super) limit: Option<u64>,
    pub(super) priority: u8,
    /// What permits it, as last said.
    pub(super) permit: Option<Capability>,
}

impl Share {
    /// Begins the share of a node of a push.
    pub(super) fn new(push: &Push, node: NodeId, now: Now) -> Self {
        let record = &push.record;
        Self {
            node,
            image: record.digest,
            size: record.size,
            name: record.image.clone(),
            wish: record.root.as_deref().map(Arc::from),
            root: None,
            parts: Vec::with_capacity(1),
            phase: Phase::Waiting,
            why: None,
            bytes: Moved::default(),
            sources: Vec::new(),
            rate: 0,
            assigned: false,
            begun: push.found,
            claimed: None,
            heard: now.mono,
            due: None,
            failed: None,
            attempts: 0,
            present: false,
            started: None,
            limit: None,
            priority: 0,
            permit: None,
        }
    }

    /// Tells whether its agent is making the image visible, and has yet to say that it lasts.
    pub(super) fn is_being_published(&self) -> bool {
        self.assigned && self.phase == Phase::Verifying && self.claimed.is_none()
    }

    /// Tells whether a push wants this of the node.
    pub(super) fn is_wanted_by(&self, push: &Push) -> bool {
        let record = &push.record;
        let root = record.root.as_deref();
        let same_root = self.wish.as_deref() == root
            || root.is_some() && self.root.as_ref().map(|(_, path)| path.as_ref()) == root;
        self.image == record.digest && self.name == record.image && same_root
    }

    /// Tells whether it waits to be tried once more.
    pub(super) fn has_failed(&self) -> bool {
        self.phase == Phase::Failed
    }

    /// Shows how it stands.
    pub(super) fn info(&self, phase: Phase, why: &Why, ended: Option<UnixMillis>) -> PartInfo {
        PartInfo {
            node: self.node.0,
            outcome: PushOutcome {
                phase,
                code: why.as_ref().and_then(|(code, _)| *code),
                message: why.as_ref().map(|(_, words)| words.to_string()),
                root: self.root.as_ref().map(|(_, path)| path.to_string()),
                bytes: self.bytes,
                present: self.present,
                started: self.started,
                ended,
            },
            sources: self.sources.clone(),
            rate: if phase == Phase::Fetching { self.rate } else { 0 },
        }
    }
}

impl State {
    /// Turns a share to another phase, and tells the pushes it belongs to.
    pub(super) fn turn_to(&mut self, id: AssignmentId, phase: Phase, why: Why, now: Now) {
        let Some(share) = self.pushes.shares.get_mut(&id) else { return };
        if share.phase == phase && share.why == why {
            return;
        }
        let before = std::mem::replace(&mut share.phase, phase);
        share.why = why;
        if phase != Phase::Fetching {
            share.rate = 0;
        }
        for (no, at) in share.parts.clone() {
            if let Some(push) = self.pushes.pushes.get_mut(&no) {
                push.moved(before, phase);
                push.dirty.insert(at);
                self.pushes.changed.insert(no);
            }
            self.review(no, now);
        }
    }

    /// Notes that a share is to be shown anew.
    pub(super) fn touch_share(&mut self, id: AssignmentId) {
        let Some(share) = self.pushes.shares.get(&id) else { return };
        for (no, at) in &share.parts {
            if let Some(push) = self.pushes.pushes.get_mut(no) {
                push.dirty.insert(*at);
                self.pushes.changed.insert(*no);
            }
        }
    }

    /// Derives what the pushes of a share allow it: the most generous rate, the highest priority.
    pub(super) fn derive_terms(&mut self, id: AssignmentId) {
        let Some(share) = self.pushes.shares.get_mut(&id) else { return };
        let records = share.parts.iter().filter_map(|(no, _)| self.pushes.pushes.get(no));
        let (mut limit, mut priority) = (Some(0), 0);
        for record in records.map(|push| &push.record) {
            limit = limit.zip(record.rate).map(|(one, other): (u64, u64)| one.max(other));
            priority = priority.max(record.priority);
        }
        if (share.limit, share.priority) != (limit, priority) {
            (share.limit, share.priority) = (limit, priority);
            if share.assigned {
                self.pushes.unsaid.insert(id);
            }
        }
    }
}
