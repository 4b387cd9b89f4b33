//! Answers how removals stand, understands what somebody wants removed, and says what that would do.

use std::collections::BTreeMap;
use std::sync::Arc;

use roaring::RoaringBitmap;
use sifleet_common::api::pushes::PushTarget;
use sifleet_common::api::removals::{
    RemovalBody, RemovalList, RemovalNodes, RemovalPlan, RemovalReason, RemovalRequest, RemovalState,
    RemovalTarget,
};
use sifleet_common::digest::Digest;
use sifleet_common::removal::{RemovalCode, RemovalPhase};
use sifleet_common::time::Now;

use super::View;
use super::availability::count;
use super::meant::MeantError;
use super::pushes::plan::{patience, root};
use crate::state::removals::rule::{Holdings, Leaving, join, losing};
use crate::state::removals::{RemovalError, RemovalWish};
use crate::store::removal::{RemovalNo, RemovalPart, RemovalRecord};

/// Most groups of reasons in one answer.
const MAX_REASONS: usize = 32;
/// What to do about nodes that are away.
const AWAY: &str = "nothing: it goes on when the node is back before the deadline";
/// What to do about nodes that wait for something that is under way.
const WAIT: &str = "nothing: it goes on by itself";

/// One node of a removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartShown {
    /// Number of the node.
    pub node: u32,
    /// How it stands.
    pub stands: RemovalPart,
}

/// One removal at one moment.
#[derive(Debug)]
pub struct RemovalInfo {
    /// What was wanted.
    pub record: Arc<RemovalRecord>,
    /// How it stands.
    pub state: RemovalState,
    /// Its nodes, in natural order.
    pub nodes: imbl::Vector<Arc<PartShown>>,
}

/// What is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// How many files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// All removals at one moment.
#[derive(Clone, Debug, Default)]
pub struct RemovalsShown {
    /// By their numbers.
    pub removals: imbl::OrdMap<RemovalNo, Arc<RemovalInfo>>,
    /// What went since the start.
    pub gone: Gone,
}

impl View {
    /// Understands what somebody wants removed.
    ///
    /// # Errors
    /// [`RemovalError`] for the first thing that cannot be meant.
    pub fn removal_wish(&self, request: &RemovalRequest, now: Now) -> Result<RemovalWish, RemovalError> {
        let live = self.live_at(now);
        let target = match &request.from {
            RemovalTarget::Partition(name) => PushTarget::Partition(name.clone()),
            RemovalTarget::Nodes(nodes) => PushTarget::Nodes(nodes.clone()),
        };
        let (nodes, partition) = self.members_of(&target)?;
        let named = (request.image.as_deref(), request.digest.as_deref());
        let (image, digest) = self.meant(named, partition.as_ref(), &live)?;
        let none = || MeantError::NoHolder { image: format!("{image}@{digest}") };
        let size = self.digests.get(&digest).ok_or_else(none)?.size;
        Ok(RemovalWish {
            root: root(request.root.as_deref())?,
            patience: patience(request.deadline_s)?,
            force: request.force,
            when_idle: request.when_idle,
            key: None,
            image,
            digest,
            size,
            nodes,
        })
    }

    /// Tells what a removal would do.
    #[must_use]
    pub fn removal_plan(&self, wish: &RemovalWish, now: Now) -> RemovalPlan {
        let live = self.live_at(now);
        let holdings = Holdings { names: &self.names, digests: &self.digests };
        let pushed = self.pushed_to(&wish.digest) & &wish.nodes;
        let root = wish.root.as_deref();
        let own = holdings.meant((&wish.image, &wish.digest), root, &(&wish.nodes - &pushed));
        let held = holdings.meant((&wish.image, &wish.digest), root, &wish.nodes);
        let mut others = Leaving::new();
        for info in self.removals.removals.values().filter(|info| info.record.digest == wish.digest) {
            let open = info.nodes.iter().filter(|part| !part.stands.phase.is_end()).map(|part| part.node);
            let (record, open) = (&info.record, open.collect());
            let root = record.root.as_deref();
            join(&mut others, holdings.meant((&record.image, &record.digest), root, &open));
        }
        let left = holdings.left(&wish.digest, &[&own, &others]) & &*live;
        let lost = losing(&own);
        let files: u64 = own.values().map(|nodes| (nodes & &*live).len()).sum();
        let library = (self.in_library(wish) & &wish.nodes) - losing(&held);
        let refused = [
            (RemovalCode::BeingPushed, pushed & losing(&held), "a push is bringing the same image to it"),
            (RemovalCode::Library, library.clone(), "its library is not removed from"),
        ];
        let refused = refused.into_iter().filter(|(_, nodes, _)| !nodes.is_empty());
        let without = (&wish.nodes & &*live) - losing(&held) - library;
        let others = self.others_under_name(wish) & &without;
        let nodes = &lost & &*live;
        RemovalPlan {
            image: wish.image.to_string(),
            digest: wish.digest.to_string(),
            size: wish.size,
            nodes: self.fold(&nodes),
            count: count(&nodes),
            absent: self.fold(&(without - &others)),
            others: self.fold(&others),
            deferred: self.fold(&(&wish.nodes - &*live)),
            refused: refused.map(|(code, nodes, words)| self.reason(code, &nodes, words)).collect(),
            bytes: wish.size.saturating_mul(files),
            left: self.fold(&left),
            last: !lost.is_empty() && left.is_empty(),
        }
    }

    /// Lists the nodes that hold other bytes under the image's name where it is meant to go from.
    fn others_under_name(&self, wish: &RemovalWish) -> RoaringBitmap {
        let meant = |path: &str, library: bool| wish.root.as_deref().map_or(!library, |root| root == path);
        let ready = self.names.get(&wish.image).into_iter().flat_map(|entry| &entry.ready);
        let mut others = RoaringBitmap::new();
        for (_, held) in
            ready.filter(|(place, _)| place.digest != wish.digest && meant(&place.root, place.library))
        {
            others |= held;
        }
        others
    }

    /// Lists the nodes that hold the image in a library that is meant.
    fn in_library(&self, wish: &RemovalWish) -> RoaringBitmap {
        let mut nodes = RoaringBitmap::new();
        let meant = |path: &str| wish.root.as_deref().is_none_or(|root| root == path);
        let ready = self.names.get(&wish.image).into_iter().flat_map(|entry| &entry.ready);
        for (_, held) in
            ready.filter(|(place, _)| place.digest == wish.digest && place.library && meant(&place.root))
        {
            nodes |= held;
        }
        nodes
    }

    fn reason(&self, code: RemovalCode, nodes: &RoaringBitmap, message: &str) -> RemovalReason {
        RemovalReason {
            code: code.name().to_owned(),
            count: count(nodes),
            nodes: self.fold(nodes),
            message: message.to_owned(),
            hint: code.hint().to_owned(),
        }
    }

    /// Finds a removal.
    pub(crate) fn removal_info(&self, no: RemovalNo) -> Option<&Arc<RemovalInfo>> {
        self.removals.removals.get(&no)
    }

    /// Finds the removal that was asked for with a key, and of which body.
    pub(crate) fn removal_of_key(&self, key: &str) -> Option<(RemovalNo, Digest)> {
        let keyed = |info: &Arc<RemovalInfo>| Some((info.record.no, info.record.key.as_ref()?.clone()));
        let mut keys = self.removals.removals.values().filter_map(keyed);
        keys.find(|(_, known)| known.text == key).map(|(no, known)| (no, known.body))
    }

    /// Counts removals by how they stand.
    pub(crate) fn removal_states(&self) -> [(&'static str, u64); 5] {
        let number =
            |state| self.removals.removals.values().filter(|info| info.state == state).count() as u64;
        [
            RemovalState::Running,
            RemovalState::Done,
            RemovalState::Partial,
            RemovalState::Failed,
            RemovalState::Cancelled,
        ]
        .map(|state| (state.name(), number(state)))
    }

    /// Returns the files removed since the start, and their bytes.
    pub(crate) fn removed_since_start(&self) -> Gone {
        self.removals.gone
    }

    /// Lists all removals, newest first.
    #[must_use]
    pub fn removals(&self, now: Now) -> RemovalList {
        let removals = self.removals.removals.values().rev().map(|info| self.removal_body(info)).collect();
        RemovalList { removals, as_of: now.wall.to_string() }
    }

    /// Tells everything about a removal.
    #[must_use]
    pub fn removal_body(&self, info: &RemovalInfo) -> RemovalBody {
        let record = &info.record;
        let mut by_phase: [RoaringBitmap; RemovalPhase::ALL.len()] = Default::default();
        let mut files = 0;
        for part in &info.nodes {
            files += u64::from(part.stands.files);
            for (phase, nodes) in RemovalPhase::ALL.iter().zip(&mut by_phase) {
                if *phase == part.stands.phase {
                    nodes.insert(part.node);
                }
            }
        }
        let phases = RemovalPhase::ALL.into_iter().zip(&by_phase).filter(|(_, nodes)| !nodes.is_empty());
        let phases =
            phases.map(|(phase, nodes)| RemovalNodes { phase, count: count(nodes), nodes: self.fold(nodes) });
        RemovalBody {
            id: record.no.to_string(),
            image: record.image.to_string(),
            digest: record.digest.to_string(),
            size: record.size,
            state: info.state,
            root: record.root.clone(),
            force: record.force,
            when_idle: record.when_idle,
            created: record.created.to_string(),
            ended: record.ended.map(|at| at.to_string()),
            deadline: record.deadline.to_string(),
            nodes: u32::try_from(info.nodes.len()).unwrap_or(u32::MAX),
            phases: phases.collect(),
            reasons: self.removal_reasons(info),
            files,
            freed: record.size.saturating_mul(files),
        }
    }

    /// Groups nodes by what there is to say of them.
    fn removal_reasons(&self, info: &RemovalInfo) -> Vec<RemovalReason> {
        let mut groups: BTreeMap<&str, (RoaringBitmap, &str, &str)> = BTreeMap::new();
        for part in &info.nodes {
            let stands = &part.stands;
            let Some(message) = &stands.message else { continue };
            let (code, hint) = match stands.code {
                Some(code) => (code.name(), code.hint()),
                None if stands.phase == RemovalPhase::Deferred => (stands.phase.name(), AWAY),
                None if stands.phase == RemovalPhase::Done => ("note", "nothing"),
                None => (stands.phase.name(), WAIT),
            };
            groups.entry(code).or_insert_with(|| (RoaringBitmap::new(), message, hint)).0.insert(part.node);
        }
        let reason = |(code, (nodes, message, hint)): (&str, (RoaringBitmap, &str, &str))| RemovalReason {
            code: code.to_owned(),
            count: count(&nodes),
            nodes: self.fold(&nodes),
            message: message.to_owned(),
            hint: hint.to_owned(),
        };
        let mut reasons: Vec<RemovalReason> = groups.into_iter().map(reason).collect();
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.count));
        reasons.truncate(MAX_REASONS);
        reasons
    }
}
