//! Answers "is image X available on partition Y?" by combining bitmaps.
//!
//! Every member of the partition gets exactly one answer, decided in this order: no lease is `unknown`; a whole
//! image with the right bytes is `ready`; anything that might turn out to be the image (a file being written or one
//! that cannot be read, a root not known) is `unknown`; another whole image under the name is `outdated`, or
//! `unknown` while it is not known what the library expects; the rest is `missing`. [`super::reasons`] says why.

use std::collections::BTreeMap;
use std::sync::Arc;

use roaring::{MultiOps as _, RoaringBitmap};
use sifleet_common::api::availability::{Availability, DigestNodes, Nodes, PathNodes};
use sifleet_common::availability::{Counts, Require, Verdict};
use sifleet_common::digest::Digest;
use sifleet_common::name::{ImageName, PartitionName};
use sifleet_common::time::Now;

use super::cache::{Answered, Asked, Basis};
use super::rendered::Rendered;
use super::resolve::{Expected, Target, unheard_of};
use super::{PartitionInfo, QueryError, View};
use crate::state::index::{NameEntry, Place};

/// Most groups of reasons, digests or paths in one answer; the nodes are in the nodesets all the same.
pub(super) const MAX_GROUPS: usize = 32;

impl View {
    /// Answers for one image on one partition.
    ///
    /// # Errors
    /// [`QueryError`] when the partition is unknown, the reference is malformed or ambiguous, or nobody ever
    /// heard of the image and every node of the partition is certain not to hold it.
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
        let asked = Asked { image, partition, require };
        // Past the first lease's end this view no longer knows who counts without looking closely.
        let fresh = now.mono < self.next_expiry;
        let known = if fresh { self.cache.get(&asked) } else { None };
        if let Some(answer) = known.as_ref().and_then(|known| known.at(self.liveness, self.changes)) {
            return Ok(answer);
        }
        let partition = self.partition_info(partition)?;
        let target = self.resolve(image, Some(&partition.name))?;
        if !target.heard_of && self.is_certain(&target, &partition.members, &self.live_at(now)) {
            return Err(unheard_of(image));
        }
        let basis = self.basis(&target, partition);
        if let Some(answer) = known.and_then(|known| known.resting_on(&target, &basis, self.changes)) {
            return Ok(answer);
        }
        let answer = Arc::new(Rendered::new(self.work_out(&target, partition, require, now)));
        if fresh {
            self.cache.put(&asked, Answered::new(target, basis, self.changes, Arc::clone(&answer)));
        }
        Ok(answer)
    }

    /// Answers like [`View::availability`], for some of a partition's nodes alone if any are given.
    ///
    /// # Errors
    /// As [`View::availability`].
    pub(super) fn availability_among(
        &self,
        image: &str,
        (partition, among): (&str, Option<&RoaringBitmap>),
        require: Require,
        now: Now,
    ) -> Result<Availability, QueryError> {
        let Some(among) = among else { return self.availability(image, partition, require, now) };
        let whole = self.partition_info(partition)?;
        let some = PartitionInfo { members: &whole.members & among, ..PartitionInfo::clone(whole) };
        let target = self.resolve(image, Some(&some.name))?;
        if !target.heard_of && self.is_certain(&target, &some.members, &self.live_at(now)) {
            return Err(unheard_of(image));
        }
        Ok(self.work_out(&target, &some, require, now))
    }

    /// Tells whether none of the members can turn out to hold what nobody reported.
    fn is_certain(&self, target: &Target, members: &RoaringBitmap, live: &RoaringBitmap) -> bool {
        members.is_subset(&(live - &self.root_unknown))
            && self.entries(target).all(|entry| entry.open().is_disjoint(members))
    }

    fn basis(&self, target: &Target, partition: &PartitionInfo) -> Basis {
        let mut versions: Vec<u64> = self.entries(target).map(|entry| entry.version).collect();
        if !target.by_digest {
            for name in &target.names {
                let library = self.library_names(name, Some(&partition.name));
                let entries = library.iter().filter_map(|name| self.names.get(name.as_str()));
                versions.extend(entries.map(|entry| entry.version));
            }
        }
        Basis { liveness: self.liveness, versions }
    }

    fn work_out(
        &self,
        target: &Target,
        partition: &PartitionInfo,
        require: Require,
        now: Now,
    ) -> Availability {
        let live = self.live_at(now);
        let expected = self.expected_of(target, &partition.name, &live);
        let split = self.split(target, expected, &partition.members, &live);
        let counts = split.counts();
        let nodes = Nodes {
            ready: self.fold(&split.ready),
            outdated: self.fold(&split.outdated),
            missing: self.fold(&split.missing),
            unknown: self.fold(&split.unknown),
        };
        let impaired = &self.degraded & &partition.members & &*live;
        Availability {
            image: target.shown.clone(),
            partition: partition.name.to_string(),
            verdict: counts.verdict(),
            require: require.to_string(),
            satisfied: counts.satisfied(require),
            message: message(&target.shown, partition, counts, &nodes),
            expected_digest: expected.digest().map(|digest| digest.to_string()),
            counts,
            digests: self.digests_of(&split.held),
            paths: self.paths_of(&split.held, expected),
            reasons: self.reasons(target, &split, &live),
            degraded: self.impaired(&impaired),
            membership: partition.membership.clone(),
            as_of: now.wall.to_string(),
            generation: self.generation,
            nodes,
        }
    }

    /// Tells which bytes count: those that were asked for, else those that the library names.
    pub(super) fn expected_of(
        &self,
        target: &Target,
        partition: &PartitionName,
        live: &RoaringBitmap,
    ) -> Expected {
        match (target.digest, target.names.first()) {
            (Some(digest), _) => Expected::Bytes(digest),
            _ if target.unheard_bytes => Expected::Unheard,
            (None, Some(name)) => self.expected(name, Some(partition), live),
            (None, None) => Expected::Any,
        }
    }

    /// Gives every member its one answer.
    pub(super) fn split<'a>(
        &'a self,
        target: &Target,
        expected: Expected,
        members: &RoaringBitmap,
        live: &RoaringBitmap,
    ) -> Split<'a> {
        let counted = members & live;
        let held = self.held(target, &counted);
        let (right, other): (Vec<_>, Vec<_>) =
            held.iter().partition(|held| expected.allows(held.place.digest));
        let union = |held: Vec<&Held<'_>>| held.into_iter().map(|held| &held.nodes).union();
        let ready = union(right);
        let rest = without(&counted, &ready);
        let mut open = self.root_unknown.clone();
        self.entries(target).for_each(|entry| open |= entry.open());
        let unsure = &rest & open;
        let rest = rest - &unsure;
        let other = &rest & union(other);
        let missing = rest - &other;
        let unknown = without(members, &counted) | unsure;
        match expected {
            Expected::Unsure(_) => Split {
                held,
                ready,
                outdated: RoaringBitmap::new(),
                missing,
                unknown: unknown | &other,
                unjudged: other,
            },
            Expected::Any | Expected::Bytes(_) | Expected::Unheard => {
                Split { held, ready, outdated: other, missing, unknown, unjudged: RoaringBitmap::new() }
            }
        }
    }

    pub(super) fn entries<'a>(&'a self, target: &'a Target) -> impl Iterator<Item = &'a Arc<NameEntry>> {
        target.names.iter().filter_map(|name: &ImageName| self.names.get(name))
    }

    /// Tells which of `nodes` hold what may be meant, name by name and place by place.
    pub(super) fn held<'a>(&'a self, target: &Target, nodes: &RoaringBitmap) -> Vec<Held<'a>> {
        let entries = target.names.iter().filter_map(|name| self.names.get_key_value(name));
        let places =
            entries.flat_map(|(name, entry)| entry.ready.iter().map(move |(place, all)| (name, place, all)));
        let meant = places.filter(|(_, place, _)| !target.by_digest || target.digest == Some(place.digest));
        let held = meant.map(|(name, place, all)| Held { name, place, nodes: all & nodes });
        held.filter(|held| !held.nodes.is_empty()).collect()
    }

    /// Groups holders by digest, most nodes first.
    pub(super) fn digests_of(&self, held: &[Held<'_>]) -> Vec<DigestNodes> {
        let mut bodies: Vec<DigestNodes> = by_digest(held)
            .into_iter()
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

    /// Groups holders of the bytes that count by where the file is, most nodes first.
    pub(super) fn paths_of(&self, held: &[Held<'_>], expected: Expected) -> Vec<PathNodes> {
        let mut places: BTreeMap<(&ImageName, &str), RoaringBitmap> = BTreeMap::new();
        for held in held.iter().filter(|held| expected.allows(held.place.digest)) {
            *places.entry((held.name, &held.place.root)).or_default() |= &held.nodes;
        }
        let body = |((name, root), holders): ((&ImageName, &str), RoaringBitmap)| PathNodes {
            path: format!("{}/{name}", root.trim_end_matches('/')),
            count: count(&holders),
            nodes: self.fold(&holders),
        };
        let mut bodies: Vec<PathNodes> = places.into_iter().map(body).collect();
        bodies.sort_by_key(|body| std::cmp::Reverse(body.count));
        bodies.truncate(MAX_GROUPS);
        bodies
    }
}

/// Nodes that hold a whole image under one name at one place.
#[derive(Clone, Debug)]
pub(super) struct Held<'a> {
    name: &'a ImageName,
    place: &'a Place,
    nodes: RoaringBitmap,
}

/// Tells who holds which bytes: all of them, and not only as many as an answer shows.
pub(super) fn by_digest(held: &[Held<'_>]) -> BTreeMap<Digest, RoaringBitmap> {
    let mut groups: BTreeMap<Digest, RoaringBitmap> = BTreeMap::new();
    for held in held {
        *groups.entry(held.place.digest).or_default() |= &held.nodes;
    }
    groups
}

/// Takes some nodes away from a set that they are all in.
fn without(all: &RoaringBitmap, some: &RoaringBitmap) -> RoaringBitmap {
    if all.len() == some.len() { RoaringBitmap::new() } else { all - some }
}

/// The members of a partition by their answer: four disjoint sets that are all of them together.
#[derive(Clone, Debug)]
pub(super) struct Split<'a> {
    /// What those hold whose answers count.
    pub(super) held: Vec<Held<'a>>,
    pub(super) ready: RoaringBitmap,
    pub(super) outdated: RoaringBitmap,
    pub(super) missing: RoaringBitmap,
    pub(super) unknown: RoaringBitmap,
    /// Those of the unknown ones that hold an image, and nobody knows whether it is the expected one.
    pub(super) unjudged: RoaringBitmap,
}

impl Split<'_> {
    pub(super) fn counts(&self) -> Counts {
        Counts {
            ready: count(&self.ready),
            outdated: count(&self.outdated),
            missing: count(&self.missing),
            unknown: count(&self.unknown),
        }
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
