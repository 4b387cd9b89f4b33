//! Answers how pushes stand; what a new one would do is worked out in [`plan`].
//!
//! A push as a whole is summed up when somebody asks, and kept until something about it changes.

mod ensure;
pub(super) mod plan;
mod pull;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use roaring::RoaringBitmap;
use sifleet_common::api::pushes::{
    DroppedSource, PhaseNodes, PushBody, PushBytes, PushList, PushNode, PushNodes, PushReason, PushState,
    SourceBytes,
};
use sifleet_common::digest::Digest;
use sifleet_common::name::NodeName;
use sifleet_common::push::{FailCode, Phase};
use sifleet_common::time::Now;
use sifleet_common::wire::assignment::Moved;

use super::View;
use super::availability::count;
use crate::store::push::{PushNo, PushOutcome, PushRecord};

/// Most groups of reasons in one answer.
const MAX_REASONS: usize = 32;
/// What to do about nodes that are away.
const AWAY: &str = "nothing: it goes on when the node is back before the deadline";
/// What to do about nodes that wait for something that is under way.
const WAIT: &str = "nothing: it goes on by itself";

/// One node of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartInfo {
    /// Number of the node.
    pub node: u32,
    /// How it stands.
    pub outcome: PushOutcome,
    /// Where bytes came from.
    pub sources: Vec<(NodeName, u64)>,
    /// Bytes a second.
    pub rate: u64,
}

/// One push at one moment.
#[derive(Debug)]
pub struct PushInfo {
    /// What was wanted.
    pub record: Arc<PushRecord>,
    /// How it stands.
    pub state: PushState,
    /// Its nodes, in natural order.
    pub nodes: imbl::Vector<Arc<PartInfo>>,
    /// Sources that are left alone.
    pub dropped: Arc<Vec<DroppedSource>>,
    /// The whole of it, once somebody asked.
    pub body: OnceLock<PushBody>,
}

/// All pushes at one moment.
#[derive(Clone, Debug, Default)]
pub struct PushesShown {
    /// By their numbers.
    pub pushes: imbl::OrdMap<PushNo, Arc<PushInfo>>,
    /// Bytes moved since the start.
    pub moved: Moved,
}

impl View {
    /// Finds a push.
    pub(crate) fn push_info(&self, no: PushNo) -> Option<&Arc<PushInfo>> {
        self.pushes.pushes.get(&no)
    }

    /// Finds the push that was asked for with a key, and of which body.
    pub(crate) fn push_of_key(&self, key: &str) -> Option<(PushNo, Digest)> {
        let keyed = |info: &Arc<PushInfo>| Some((info.record.no, info.record.key.as_ref()?.clone()));
        let mut keys = self.pushes.pushes.values().filter_map(keyed);
        keys.find(|(_, known)| known.text == key).map(|(no, known)| (no, known.body))
    }

    /// Lists the nodes to which an image is being brought.
    pub(super) fn pushed_to(&self, image: &Digest) -> RoaringBitmap {
        let pushes = self.pushes.pushes.values().filter(|info| info.record.digest == *image);
        let parts = pushes
            .flat_map(|info| &info.nodes)
            .filter(|part| part.outcome.phase.is_under_way() || part.outcome.phase == Phase::Deferred);
        parts.map(|part| part.node).collect()
    }

    /// Lists all pushes, newest first.
    #[must_use]
    pub fn pushes(&self, now: Now) -> PushList {
        let pushes = self.pushes.pushes.values().rev().map(|info| self.push_body(info).clone()).collect();
        PushList { pushes, as_of: now.wall.to_string() }
    }

    /// Tells everything about a push as a whole.
    pub(crate) fn push_body<'a>(&self, info: &'a PushInfo) -> &'a PushBody {
        info.body.get_or_init(|| self.sum_up(info))
    }

    /// Lists the nodes of a push.
    pub(crate) fn push_nodes(&self, info: &PushInfo, now: Now) -> PushNodes {
        let nodes = info.nodes.iter().map(|part| self.push_node(part)).collect();
        PushNodes { nodes, as_of: now.wall.to_string() }
    }

    /// Counts pushes by how they stand.
    pub(crate) fn push_states(&self) -> [(&'static str, u64); 5] {
        let number = |state| self.pushes.pushes.values().filter(|info| info.state == state).count() as u64;
        [PushState::Running, PushState::Done, PushState::Partial, PushState::Failed, PushState::Cancelled]
            .map(|state| (state.name(), number(state)))
    }

    /// Returns the bytes moved for pushes since the start.
    pub(crate) fn push_bytes(&self) -> Moved {
        self.pushes.moved
    }

    fn sum_up(&self, info: &PushInfo) -> PushBody {
        let record = &info.record;
        let mut by_phase: [RoaringBitmap; Phase::ALL.len()] = Default::default();
        let mut bytes = PushBytes::default();
        for part in &info.nodes {
            for (phase, nodes) in Phase::ALL.iter().zip(&mut by_phase) {
                if *phase == part.outcome.phase {
                    nodes.insert(part.node);
                }
            }
            add(&mut bytes, part, record.size);
        }
        let phases = Phase::ALL.into_iter().zip(&by_phase).filter(|(_, nodes)| !nodes.is_empty());
        PushBody {
            id: record.no.to_string(),
            image: record.image.to_string(),
            digest: record.digest.to_string(),
            size: record.size,
            state: info.state,
            completion: record.completion.to_string(),
            from: record.from.as_ref().map(ToString::to_string),
            root: record.root.clone(),
            created: record.created.to_string(),
            ended: record.ended.map(|at| at.to_string()),
            deadline: record.deadline.to_string(),
            rate: record.rate,
            priority: record.priority,
            nodes: u32::try_from(info.nodes.len()).unwrap_or(u32::MAX),
            phases: phases
                .map(|(phase, nodes)| PhaseNodes { phase, count: count(nodes), nodes: self.fold(nodes) })
                .collect(),
            reasons: self.push_reasons(info),
            bytes,
            dropped: info.dropped.to_vec(),
        }
    }

    /// Groups nodes by why they do not have the image.
    fn push_reasons(&self, info: &PushInfo) -> Vec<PushReason> {
        let mut groups: BTreeMap<&str, (RoaringBitmap, &str, &str)> = BTreeMap::new();
        for part in &info.nodes {
            let outcome = &part.outcome;
            let Some(message) = &outcome.message else { continue };
            let (code, hint) = reason(outcome.phase, outcome.code);
            groups.entry(code).or_insert_with(|| (RoaringBitmap::new(), message, hint)).0.insert(part.node);
        }
        let mut reasons: Vec<PushReason> = groups
            .into_iter()
            .map(|(code, (nodes, message, hint))| PushReason {
                code: code.to_owned(),
                count: count(&nodes),
                nodes: self.fold(&nodes),
                message: message.to_owned(),
                hint: hint.to_owned(),
            })
            .collect();
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.count));
        reasons.truncate(MAX_REASONS);
        reasons
    }

    fn push_node(&self, part: &PartInfo) -> PushNode {
        let outcome = &part.outcome;
        let mut sources: Vec<&(NodeName, u64)> = part.sources.iter().collect();
        sources.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        PushNode {
            node: self.info(part.node).map(|node| node.name.to_string()).unwrap_or_default(),
            phase: outcome.phase,
            code: outcome.code,
            message: outcome.message.clone(),
            hint: outcome.message.is_some().then(|| reason(outcome.phase, outcome.code).1.to_owned()),
            root: outcome.root.clone(),
            fetched: outcome.bytes.fetched,
            reused: outcome.bytes.reused,
            resumed: outcome.bytes.resumed,
            wasted: outcome.bytes.wasted,
            rate: part.rate,
            sources: sources
                .into_iter()
                .map(|(node, bytes)| SourceBytes { node: node.to_string(), bytes: *bytes })
                .collect(),
            started: outcome.started.map(|at| at.to_string()),
            ended: outcome.ended.map(|at| at.to_string()),
        }
    }
}

/// Returns the code and the hint of a node that does not have the image.
fn reason(phase: Phase, code: Option<FailCode>) -> (&'static str, &'static str) {
    match code {
        Some(code) => (code.name(), code.hint()),
        None if phase == Phase::Deferred => (phase.name(), AWAY),
        None => (phase.name(), WAIT),
    }
}

fn add(bytes: &mut PushBytes, part: &PartInfo, size: u64) {
    let moved = &part.outcome.bytes;
    bytes.total = bytes.total.saturating_add(size);
    bytes.fetched = bytes.fetched.saturating_add(moved.fetched);
    bytes.reused = bytes.reused.saturating_add(moved.reused);
    bytes.resumed = bytes.resumed.saturating_add(moved.resumed);
    bytes.wasted = bytes.wasted.saturating_add(moved.wasted);
    bytes.rate = bytes.rate.saturating_add(part.rate);
    if part.outcome.present {
        bytes.present = bytes.present.saturating_add(size);
    }
}
