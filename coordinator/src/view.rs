//! The read view: everything queries need, immutable and shared, so that no answer waits behind ingest.
//!
//! [`View`] is published by the owner loop after every batch of events and read through [`Views`]. Queries are
//! pure functions of a view, a question and the time. They answer with the API's bodies.

pub mod about;
pub mod apptainer;
pub mod availability;
pub mod cache;
pub mod drift;
pub mod images;
mod library;
pub mod limits;
pub mod meant;
pub mod nodes;
pub mod partitions;
pub mod pushes;
mod reasons;
pub mod removals;
pub mod rendered;
pub mod resolve;
pub mod table;
pub mod verdict;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use imbl::OrdMap;
use roaring::RoaringBitmap;
use sifleet_common::api::partitions::Membership;
use sifleet_common::digest::Digest;
use sifleet_common::inventory::{Generation, Inventory};
use sifleet_common::name::{ImageName, NodeName, PartitionName};
use sifleet_common::policy::Verdict as Signed;
use sifleet_common::time::{Monotonic, Now, UnixMillis};

use crate::state::index::{DigestEntry, NameEntry};
use crate::store::NodeFacts;
use crate::store::identity::{Invite, InviteHash, InviteNo, Standing};
use cache::Cache;
use limits::LimitsShown;
use pushes::PushesShown;
use removals::RemovalsShown;
use table::NodeTable;

/// Where readers find the newest view.
pub type Views = Arc<ArcSwap<View>>;

/// Says why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// No node ever reported such an image.
    #[error("no node ever reported an image {reference:?}")]
    UnknownImage {
        /// What was asked for.
        reference: String,
        /// Names that are close.
        candidates: Vec<String>,
    },
    /// Several images go by what was written.
    #[error("{reference:?} means several images")]
    Ambiguous {
        /// What was asked for.
        reference: String,
        /// What it may mean.
        candidates: Vec<String>,
    },
    /// Not an image name, nor a digest.
    #[error("{reference:?} cannot name an image: {why}")]
    BadReference {
        /// What was asked for.
        reference: String,
        /// What is wrong with it.
        why: String,
    },
    /// No source of partitions ever named it.
    #[error("no partition is called {name:?}")]
    UnknownPartition {
        /// What was asked for.
        name: String,
        /// Names that are close.
        candidates: Vec<String>,
    },
    /// No agent and no partition ever named it.
    #[error("no node is called {name:?}")]
    UnknownNode {
        /// What was asked for.
        name: String,
        /// Names that are close.
        candidates: Vec<String>,
    },
}

/// One node as queries see it.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// Its name.
    pub name: NodeName,
    /// What its agent said of itself; absent if no agent of that name ever spoke.
    pub facts: Option<NodeFacts>,
    /// When it was last heard.
    pub last_seen: Option<UnixMillis>,
    /// Until when its answers count.
    pub lease_until: Option<Monotonic>,
    /// Whether its agent is connected.
    pub connected: bool,
    /// Number of its last change.
    pub generation: Generation,
    /// Its inventory, current while leased, else last known.
    pub inventory: Inventory,
    /// One sentence for each root whose contents are not known.
    pub unknown_roots: Vec<String>,
    /// One sentence for each root that is watched by scans alone.
    pub degraded_roots: Vec<String>,
    /// Why others are not told to fetch from it, if they are not.
    pub distrusted: Option<String>,
    /// How its name stands.
    pub standing: Standing,
    /// How far its clock was ahead of ours, in milliseconds.
    pub ahead: Option<i64>,
    /// Number of the newest scan that its agent has come to the end of.
    pub scanned: u64,
}

impl NodeInfo {
    /// Tells whether its agent is about to say what it holds. One whose lease ended a moment ago is not: it is silent, and
    /// its connection is about to be given up.
    fn is_syncing(&self) -> bool {
        self.connected && self.lease_until.is_none()
    }

    /// Tells whether answers say of it what they said when it was as `before`, but for what lies on it.
    pub(crate) fn counts_as(&self, before: &Self) -> bool {
        let silence = |node: &Self| (!node.connected).then_some((node.last_seen, node.facts.is_some()));
        match (self.lease_until, before.lease_until) {
            (Some(_), Some(_)) => {}
            (None, None) if silence(self) == silence(before) => {}
            (None, None) | (Some(_), None) | (None, Some(_)) => return false,
        }
        (&self.unknown_roots, &self.degraded_roots) == (&before.unknown_roots, &before.degraded_roots)
    }
}

/// One partition as queries see it.
#[derive(Clone, Debug)]
pub struct PartitionInfo {
    /// Its name.
    pub name: PartitionName,
    /// Its nodes.
    pub members: RoaringBitmap,
    /// Where the list came from.
    pub membership: Membership,
}

/// Everything the coordinator knew at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Counts published views.
    pub generation: u64,
    /// Counts changes of who counts and of what is said of nodes.
    pub(crate) liveness: u64,
    /// Counts changes of what nodes hold.
    pub(crate) changes: u64,
    /// When the first lease in `live` ends: from then on this view alone cannot be believed.
    pub(crate) next_expiry: Monotonic,
    pub(crate) nodes: imbl::Vector<Arc<NodeInfo>>,
    pub(crate) table: Arc<NodeTable>,
    pub(crate) live: RoaringBitmap,
    pub(crate) root_unknown: RoaringBitmap,
    pub(crate) degraded: RoaringBitmap,
    pub(crate) names: OrdMap<ImageName, Arc<NameEntry>>,
    pub(crate) stems: OrdMap<Arc<str>, Arc<BTreeSet<ImageName>>>,
    pub(crate) digests: OrdMap<Digest, Arc<DigestEntry>>,
    pub(crate) partitions: Arc<BTreeMap<PartitionName, Arc<PartitionInfo>>>,
    pub(crate) pushes: PushesShown,
    pub(crate) removals: RemovalsShown,
    /// What is known of the signatures of images.
    pub(crate) signed: Arc<BTreeMap<Digest, Signed>>,
    pub(crate) limits: LimitsShown,
    /// Tokens with which nodes enrol, oldest number first.
    pub invites: Arc<[Invite]>,
    /// How names stand that were enrolled or revoked.
    pub(crate) standings: OrdMap<NodeName, Standing>,
    pub(crate) cache: Arc<Cache>,
}

impl View {
    /// Returns the nodes whose lease holds at `now`, even if nobody published their end yet.
    pub(crate) fn live_at(&self, now: Now) -> Cow<'_, RoaringBitmap> {
        if now.mono < self.next_expiry {
            return Cow::Borrowed(&self.live);
        }
        let holds =
            |id: &u32| self.info(*id).and_then(|node| node.lease_until).is_some_and(|end| end > now.mono);
        Cow::Owned(self.live.iter().filter(holds).collect())
    }

    pub(crate) fn info(&self, id: u32) -> Option<&Arc<NodeInfo>> {
        self.nodes.get(usize::try_from(id).ok()?)
    }

    /// Finds where a node stands among all; its place never changes.
    pub(crate) fn place_of(&self, node: &NodeName) -> Option<usize> {
        self.nodes.iter().position(|info| info.name == *node)
    }

    /// Tells how many replicas the node at a place has.
    pub(crate) fn replicas_at(&self, place: usize) -> usize {
        self.nodes.get(place).map_or(0, |info| info.inventory.len())
    }

    /// Tells whether a token with which a node enrols is one that is still good.
    pub(crate) fn has_good_invite(&self, invite: InviteNo, hash: InviteHash, now: UnixMillis) -> bool {
        let found = self.invites.binary_search_by_key(&invite, |known| known.id).ok();
        let is_good = |known: &Invite| known.hash == hash && known.used.is_none() && known.expires > now;
        found.and_then(|at| self.invites.get(at)).is_some_and(is_good)
    }

    /// Folds a set of nodes into text such as `viz[001-004]`.
    pub(crate) fn fold(&self, nodes: &RoaringBitmap) -> String {
        self.table.fold(nodes)
    }

    pub(crate) fn partition_info(&self, name: &str) -> Result<&Arc<PartitionInfo>, QueryError> {
        self.partitions
            .get(name)
            .ok_or_else(|| QueryError::UnknownPartition { name: shorten(name), candidates: Vec::new() })
    }

    /// Adds to an error the names that were perhaps meant: not for batches, for it compares with every name.
    #[must_use]
    pub fn suggest(&self, error: QueryError) -> QueryError {
        match error {
            QueryError::UnknownImage { reference, .. } => {
                let candidates = self.near_images(&reference);
                QueryError::UnknownImage { reference, candidates }
            }
            QueryError::UnknownPartition { name, .. } => {
                let candidates = near(&name, self.partitions.keys().map(PartitionName::as_str));
                QueryError::UnknownPartition { name, candidates }
            }
            QueryError::UnknownNode { name, .. } => {
                let candidates = near(&name, self.nodes.iter().map(|node| node.name.as_str()));
                QueryError::UnknownNode { name, candidates }
            }
            told @ (QueryError::Ambiguous { .. } | QueryError::BadReference { .. }) => told,
        }
    }
}

/// Counts what there is, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Nodes whose answers count.
    pub online: u32,
    /// Nodes that are connected, their inventory on the way.
    pub syncing: u32,
    /// Nodes whose lease has expired.
    pub offline: u32,
    /// Nodes only a partition names.
    pub never_seen: u32,
    /// Nodes with a degraded or unknown root.
    pub degraded: u32,
    /// Names.
    pub names: u32,
    /// Digests.
    pub digests: u32,
    /// Replicas on all nodes, current or last known.
    pub replicas: u64,
    /// Partitions.
    pub partitions: u32,
    /// Partitions whose list of nodes is only the last known one.
    pub stale_partitions: u32,
    /// Number of the view.
    pub generation: u64,
}

/// Cuts hostile text before it is repeated in an answer.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().take(128).collect()
}

/// Finds up to five names close to what was written, closest first.
pub(crate) fn near<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    const MAX_COMPARED: usize = 20_000;
    /// The cost grows with the product of the lengths.
    const MAX_CHARS: usize = 64;
    /// So much of a name tells which one is meant.
    const MIN_PART: usize = 4;
    let start = |text: &str| text.chars().take(MAX_CHARS).collect::<String>();
    let written = start(written);
    let length = written.chars().count();
    let mut close: Vec<(usize, &str)> = names
        .take(MAX_COMPARED)
        .filter_map(|name| {
            let last = start(name.rsplit('/').next().unwrap_or(name));
            if length >= MIN_PART && last.contains(&written) {
                return Some((1, name));
            }
            let bound = 2 + name.len().min(MAX_CHARS) / 5;
            if last.chars().count().abs_diff(length) > bound {
                return None;
            }
            let distance = strsim::damerau_levenshtein(&written, &last);
            (distance <= bound).then_some((distance, name))
        })
        .collect();
    close.sort_unstable();
    close.into_iter().take(5).map(|(_, name)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests;
