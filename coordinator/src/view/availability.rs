//! Answers "is image X available on partition Y?" by combining bitmaps.
//!
//! Every member of the partition gets exactly one answer, decided in this order: no lease is `unknown`; a whole
//! image with the right bytes is `ready`; anything that might turn out to be the image (a file being written, a
//! root not known) is `unknown`; another whole image under the name is `outdated`; the rest is `missing`.

use std::sync::Arc;

use roaring::RoaringBitmap;
use sifleet_common::api::availability::{Availability, Degraded, DigestNodes, Nodes, PathNodes, Reason};
use sifleet_common::availability::{Counts, NodeAnswer, Require, Verdict};
use sifleet_common::digest::Digest;
use sifleet_common::inventory::Pending;
use sifleet_common::name::ImageName;
use sifleet_common::time::Now;

use super::cache::{Basis, Key};
use super::rendered::Rendered;
use super::resolve::Target;
use super::{PartitionInfo, QueryError, View};
use crate::state::index::NameEntry;

/// Most groups of reasons, digests or paths in one answer; the nodes are in the nodesets all the same.
const MAX_GROUPS: usize = 32;

impl View {
    /// Answers for one image on one partition.
    ///
    /// # Errors
    /// [`QueryError`] when the partition is unknown, the reference is malformed or ambiguous, or nobody ever
    /// heard of the image and every node of the partition is current.
    pub fn availability(
        &self,
        image: &str,
        partition: &str,
        require: Require,
        now: Now,
    ) -> Result<Availability, QueryError> {
        let mut answer = self.cached_availability(image, partition, require, now)?.body().clone();
        answer.as_of = now.wall.to_string();
        answer.generation = self.generation;
        Ok(answer)
    }

    /// Answers like [`View::availability`], with the time and generation at which it was worked out.
    ///
    /// # Errors
    /// As [`View::availability`].
    pub fn cached_availability(
        &self,
        image: &str,
        partition: &str,
        require: Require,
        now: Now,
    ) -> Result<Arc<Rendered>, QueryError> {
        let partition = self.partition_info(partition)?;
        let target = self.resolve(image)?;
        if !target.heard_of && (&partition.members - &*self.live_at(now)).is_empty() {
            return Err(self.unheard_of(image));
        }
        // Past the first lease's end this view no longer knows who counts without looking closely.
        let stale = now.mono >= self.next_expiry;
        let (key, basis) = (self.key(&target, partition, require), self.basis(&target, partition));
        if !stale && let Some(answer) = self.cache.get(&key, &basis) {
            return Ok(answer);
        }
        let answer = Arc::new(Rendered::new(self.work_out(&target, partition, require, now)));
        if !stale {
            self.cache.put(key, basis, Arc::clone(&answer));
        }
        Ok(answer)
    }

    fn key(&self, target: &Target, partition: &PartitionInfo, require: Require) -> Key {
        let image = match (&target.digest, target.by_digest) {
            (Some(digest), false) => format!("{}@{digest}", target.shown),
            _ => target.shown.clone(),
        };
        let require = match require {
            Require::All => 0,
            Require::Any => u32::MAX,
            Require::AtLeast(nodes) => nodes.min(u32::MAX - 1),
        };
        Key { image, partition: partition.name.to_string(), require }
    }

    fn basis(&self, target: &Target, partition: &PartitionInfo) -> Basis {
        let mut entries: Vec<Arc<NameEntry>> =
            target.names.iter().filter_map(|name| self.names.get(name).cloned()).collect();
        if !target.by_digest {
            for name in &target.names {
                let library = self.library_names(name, Some(&partition.name));
                entries.extend(library.iter().filter_map(|name| self.names.get(name.as_str()).cloned()));
            }
        }
        Basis { liveness: self.liveness, entries }
    }

    fn work_out(
        &self,
        target: &Target,
        partition: &PartitionInfo,
        require: Require,
        now: Now,
    ) -> Availability {
        let live = self.live_at(now);
        let expected = target
            .digest
            .or_else(|| target.names.first().and_then(|name| self.expected(name, Some(&partition.name))));
        let split = self.split(target, expected, &partition.members, &live);
        let counts = split.counts();
        let nodes = Nodes {
            ready: self.fold(&split.ready),
            outdated: self.fold(&split.outdated),
            missing: self.fold(&split.missing),
            unknown: self.fold(&split.unknown),
        };
        let impaired = &partition.members & &*live & &self.degraded;
        Availability {
            image: target.shown.clone(),
            partition: partition.name.to_string(),
            verdict: counts.verdict(),
            require: require.to_string(),
            satisfied: counts.satisfied(require),
            message: message(&target.shown, partition, counts, &nodes),
            expected_digest: expected.map(|digest| digest.to_string()),
            counts,
            digests: self.digests_of(target, &(&partition.members & &*live)),
            paths: self.paths_of(target, expected, &split.ready),
            reasons: self.reasons(target, &split, &live),
            degraded: self.impaired(&impaired),
            membership: partition.membership.clone(),
            as_of: now.wall.to_string(),
            generation: self.generation,
            nodes,
        }
    }

    /// Gives every member its one answer.
    pub(super) fn split(
        &self,
        target: &Target,
        expected: Option<Digest>,
        members: &RoaringBitmap,
        live: &RoaringBitmap,
    ) -> Split {
        let counted = members & live;
        let (mut right, mut other, mut open) =
            (RoaringBitmap::new(), RoaringBitmap::new(), RoaringBitmap::new());
        for entry in self.entries(target) {
            for (place, nodes) in &entry.ready {
                let set = if expected.is_none_or(|digest| digest == place.digest) {
                    &mut right
                } else {
                    &mut other
                };
                *set |= nodes;
            }
            open |= &entry.suspended;
            for nodes in entry.pending.values() {
                open |= nodes;
            }
        }
        if target.by_digest {
            other.clear();
        }
        let ready = &counted & right;
        let rest = &counted - &ready;
        let unsure = &rest & (open | &self.root_unknown);
        let rest = rest - &unsure;
        let outdated = &rest & other;
        let missing = rest - &outdated;
        let unknown = (members - live) | unsure;
        Split { ready, outdated, missing, unknown }
    }

    pub(super) fn entries<'a>(&'a self, target: &'a Target) -> impl Iterator<Item = &'a Arc<NameEntry>> {
        target.names.iter().filter_map(|name: &ImageName| self.names.get(name))
    }

    /// Groups the holders among `nodes` by digest, most nodes first.
    pub(super) fn digests_of(&self, target: &Target, nodes: &RoaringBitmap) -> Vec<DigestNodes> {
        let mut groups: std::collections::BTreeMap<Digest, RoaringBitmap> = std::collections::BTreeMap::new();
        for entry in self.entries(target) {
            for (place, holders) in &entry.ready {
                if !target.by_digest || target.digest == Some(place.digest) {
                    *groups.entry(place.digest).or_default() |= holders & nodes;
                }
            }
        }
        let mut bodies: Vec<DigestNodes> = groups
            .into_iter()
            .filter(|(_, holders)| !holders.is_empty())
            .map(|(digest, holders)| DigestNodes {
                digest: digest.to_string(),
                count: count(&holders),
                nodes: self.fold(&holders),
            })
            .collect();
        bodies.sort_by_key(|body| std::cmp::Reverse(body.count));
        bodies.truncate(MAX_GROUPS);
        bodies
    }

    /// Groups ready nodes by where the file is.
    pub(super) fn paths_of(
        &self,
        target: &Target,
        expected: Option<Digest>,
        ready: &RoaringBitmap,
    ) -> Vec<PathNodes> {
        let mut bodies = Vec::new();
        for name in &target.names {
            let Some(entry) = self.names.get(name) else { continue };
            let mut by_root: std::collections::BTreeMap<&str, RoaringBitmap> =
                std::collections::BTreeMap::new();
            for (place, holders) in &entry.ready {
                if expected.is_none_or(|digest| digest == place.digest) {
                    *by_root.entry(&place.root).or_default() |= holders & ready;
                }
            }
            bodies.extend(by_root.into_iter().filter(|(_, holders)| !holders.is_empty()).map(
                |(root, holders)| PathNodes {
                    path: format!("{}/{name}", root.trim_end_matches('/')),
                    count: count(&holders),
                    nodes: self.fold(&holders),
                },
            ));
        }
        bodies.sort_by_key(|body| std::cmp::Reverse(body.count));
        bodies.truncate(MAX_GROUPS);
        bodies
    }

    fn reasons(&self, target: &Target, split: &Split, live: &RoaringBitmap) -> Vec<Reason> {
        let mut reasons = Reasons { view: self, bodies: Vec::new() };
        self.explain_unleased(target, &(&split.unknown - live), &mut reasons);
        let mut unsure = &split.unknown & live;
        for entry in self.entries(target) {
            for (why, nodes) in &entry.pending {
                let (code, message) = match why {
                    Pending::BeingWritten => ("being_written", "the file is being written"),
                    Pending::Hashing => ("hashing", "the file is being hashed"),
                };
                let nodes = nodes & &unsure;
                unsure -= &nodes;
                reasons.push(NodeAnswer::Unknown, code, message, &nodes);
            }
        }
        self.explain_roots(&unsure, &mut reasons);
        reasons.push(NodeAnswer::Outdated, "outdated", "another image lies under this name", &split.outdated);
        let mut absent = split.missing.clone();
        for entry in self.entries(target) {
            for ((code, detail), nodes) in &entry.unusable {
                let nodes = nodes & &absent;
                absent -= &nodes;
                reasons.push(NodeAnswer::Missing, code.as_str(), detail, &nodes);
            }
        }
        reasons.push(NodeAnswer::Missing, "absent", "no root of the node holds it", &absent);
        reasons.bodies
    }

    /// Tells why nodes without a lease are unknown, and what was last known of them.
    fn explain_unleased(&self, target: &Target, nodes: &RoaringBitmap, reasons: &mut Reasons<'_>) {
        if nodes.is_empty() {
            return;
        }
        let mut held = RoaringBitmap::new();
        for entry in self.entries(target) {
            for (place, holders) in &entry.ready {
                if target.digest.is_none_or(|digest| digest == place.digest) {
                    held |= holders;
                }
            }
        }
        let connected = |id: &u32| self.info(*id).is_some_and(|node| node.connected);
        let spoke = |id: &u32| self.info(*id).is_some_and(|node| node.facts.is_some());
        let syncing: RoaringBitmap = nodes.iter().filter(connected).collect();
        let silent: RoaringBitmap = nodes.iter().filter(|id| !connected(id) && !spoke(id)).collect();
        let expired = nodes - &syncing - &silent;
        let unknown = NodeAnswer::Unknown;
        reasons.push(unknown, "syncing", "its inventory is on the way", &syncing);
        reasons.push(unknown, "never_seen", "no agent of that name ever spoke", &silent);
        for (was, nodes) in [("held it", &expired & &held), ("did not hold it", &expired - &held)] {
            let last = nodes.iter().filter_map(|id| self.info(id)?.last_seen).min();
            let when = last.map_or_else(|| "some time ago".to_owned(), |time| time.to_string());
            let message = format!("its lease expired; when last heard of, {when} or later, it {was}");
            reasons.push(unknown, "lease_expired", &message, &nodes);
        }
    }

    fn explain_roots(&self, nodes: &RoaringBitmap, reasons: &mut Reasons<'_>) {
        let mut groups: std::collections::BTreeMap<String, RoaringBitmap> = std::collections::BTreeMap::new();
        for id in nodes {
            if let Some(node) = self.info(id) {
                groups.entry(node.unknown_roots.join("; ")).or_default().insert(id);
            }
        }
        for (text, nodes) in &groups {
            reasons.push(NodeAnswer::Unknown, "root_unknown", text, nodes);
        }
    }

    fn impaired(&self, nodes: &RoaringBitmap) -> Vec<Degraded> {
        let mut groups: std::collections::BTreeMap<String, RoaringBitmap> = std::collections::BTreeMap::new();
        for id in nodes {
            let Some(node) = self.info(id) else { continue };
            for text in node.degraded_roots.iter().chain(&node.unknown_roots) {
                groups.entry(text.clone()).or_default().insert(id);
            }
        }
        let body = |(reason, nodes): (String, RoaringBitmap)| Degraded { reason, nodes: self.fold(&nodes) };
        groups.into_iter().take(MAX_GROUPS).map(body).collect()
    }
}

/// The members of a partition by their answer; disjoint, and together all of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Split {
    pub(super) ready: RoaringBitmap,
    pub(super) outdated: RoaringBitmap,
    pub(super) missing: RoaringBitmap,
    pub(super) unknown: RoaringBitmap,
}

impl Split {
    pub(super) fn counts(&self) -> Counts {
        Counts {
            ready: count(&self.ready),
            outdated: count(&self.outdated),
            missing: count(&self.missing),
            unknown: count(&self.unknown),
        }
    }
}

struct Reasons<'a> {
    view: &'a View,
    bodies: Vec<Reason>,
}

impl Reasons<'_> {
    fn push(&mut self, answer: NodeAnswer, code: &str, message: &str, nodes: &RoaringBitmap) {
        if nodes.is_empty() || self.bodies.len() >= MAX_GROUPS {
            return;
        }
        self.bodies.push(Reason {
            answer,
            code: code.to_owned(),
            message: message.to_owned(),
            count: count(nodes),
            nodes: self.view.fold(nodes),
        });
    }
}

pub(super) fn count(nodes: &RoaringBitmap) -> u32 {
    u32::try_from(nodes.len()).unwrap_or(u32::MAX)
}

fn message(image: &str, partition: &PartitionInfo, counts: Counts, nodes: &Nodes) -> String {
    let name = &partition.name;
    if counts.nodes() == 0 {
        return format!("{image} on {name}: the partition has no nodes");
    }
    let word = match counts.verdict() {
        Verdict::Ready => "ready",
        Verdict::Partial => "partial",
        Verdict::Missing => "missing",
        Verdict::Unknown => "unknown",
    };
    let mut text = format!("{image} on {name}: {word}, {} of {} nodes ready", counts.ready, counts.nodes());
    let groups = [("outdated", &nodes.outdated), ("missing", &nodes.missing), ("unknown", &nodes.unknown)];
    for (answer, nodes) in groups.into_iter().filter(|(_, nodes)| !nodes.is_empty()) {
        text.push_str(&format!("; {answer} {}", short(nodes)));
    }
    text
}

/// Cuts a folded nodeset that is too long for a sentence.
fn short(nodes: &str) -> String {
    const MAX: usize = 120;
    match nodes.get(..nodes.floor_char_boundary(MAX)) {
        Some(start) if start.len() < nodes.len() => format!("{start}…"),
        _ => nodes.to_owned(),
    }
}
