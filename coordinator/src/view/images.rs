//! Answers what images there are, and everything known of one.

use std::collections::BTreeMap;
use std::ops::Bound;

use roaring::RoaringBitmap;
use sifleet_common::api::availability::Reason;
use sifleet_common::api::images::{DigestUse, ImageDetail, ImageList, ImageSummary};
use sifleet_common::availability::NodeAnswer;
use sifleet_common::digest::Digest;
use sifleet_common::inventory::{Pending, UnusableCode};
use sifleet_common::name::ImageName;
use sifleet_common::time::Now;

use super::availability::count;
use super::resolve::{Expected, Target, unheard_of};
use super::{QueryError, View, shorten};
use crate::state::index::NameEntry;

/// Which images to list.
#[derive(Clone, Debug, Default)]
pub struct ImagesFilter {
    /// Only those on at least one node of this partition.
    pub partition: Option<String>,
    /// Only those whose name contains this, ignoring case.
    pub q: Option<String>,
    /// Where the previous page ended.
    pub cursor: Option<String>,
    /// Most images on the page; at least one is given.
    pub limit: usize,
}

impl View {
    /// Lists images in the order of their names.
    ///
    /// # Errors
    /// [`QueryError::UnknownPartition`].
    pub fn images(&self, filter: &ImagesFilter, now: Now) -> Result<ImageList, QueryError> {
        let members = match &filter.partition {
            Some(name) => Some(&self.partition_info(name)?.members),
            None => None,
        };
        let live = self.live_at(now);
        let wanted = filter.q.as_deref().map(str::to_lowercase);
        let start = match &filter.cursor {
            Some(cursor) => Bound::Excluded(cursor.as_str()),
            None => Bound::Unbounded,
        };
        let mut found = self
            .names
            .range::<_, str>((start, Bound::Unbounded))
            .filter(|(name, _)| wanted.as_ref().is_none_or(|q| name.as_str().to_lowercase().contains(q)))
            .filter(|(_, entry)| {
                entry.ready.values().any(|nodes| members.is_none_or(|members| !nodes.is_disjoint(members)))
            });
        let images: Vec<ImageSummary> = found
            .by_ref()
            .take(filter.limit.max(1))
            .map(|(name, entry)| self.summary(name, entry, members, &live))
            .collect();
        let next_cursor = found.next().and_then(|_| images.last().map(|image| image.name.clone()));
        Ok(ImageList { images, next_cursor, as_of: now.wall.to_string() })
    }

    /// Tells everything known of one image, but for the metadata, which is in the store.
    ///
    /// # Errors
    /// [`QueryError`] when the reference is malformed, ambiguous or unheard of.
    pub fn image(&self, reference: &str, now: Now) -> Result<ImageDetail, QueryError> {
        let target = self.resolve(reference, None)?;
        let live = self.live_at(now);
        let Some(name) = target.names.first().filter(|_| target.heard_of) else {
            return Err(unheard_of(reference));
        };
        let empty = NameEntry::default();
        let entry = self.names.get(name).map_or(&empty, AsRef::as_ref);
        let mut summary = self.summary(name, entry, None, &live);
        if let Some(digest) = target.digest {
            let digest = digest.to_string();
            summary.digests.retain(|used| used.digest == digest);
        }
        Ok(ImageDetail {
            summary,
            paths: self
                .paths_of(&self.held(&target, &live), target.digest.map_or(Expected::Any, Expected::Bytes)),
            problems: self.problems(&target, &live),
            metadata: Vec::new(),
            as_of: now.wall.to_string(),
        })
    }

    fn summary(
        &self,
        name: &ImageName,
        entry: &NameEntry,
        members: Option<&RoaringBitmap>,
        live: &RoaringBitmap,
    ) -> ImageSummary {
        let (mut holders, mut silent) = (RoaringBitmap::new(), RoaringBitmap::new());
        let mut by_digest: BTreeMap<Digest, (RoaringBitmap, bool)> = BTreeMap::new();
        for (place, nodes) in &entry.ready {
            let nodes = members.map_or_else(|| nodes.clone(), |members| nodes & members);
            let current = &nodes & live;
            silent |= &nodes - live;
            holders |= &current;
            let (known, library) = by_digest.entry(place.digest).or_default();
            *known |= current;
            *library |= place.library;
        }
        let mut digests: Vec<DigestUse> = by_digest
            .iter()
            .map(|(digest, (nodes, in_library))| self.digest_use(digest, nodes, *in_library))
            .collect();
        digests.sort_by_key(|used| std::cmp::Reverse(used.count));
        ImageSummary {
            name: name.to_string(),
            drift: by_digest.values().filter(|(nodes, _)| !nodes.is_empty()).count() > 1,
            digests,
            nodes: self.fold(&holders),
            count: count(&holders),
            last_known: self.fold(&(silent - holders)),
        }
    }

    fn digest_use(&self, digest: &Digest, nodes: &RoaringBitmap, in_library: bool) -> DigestUse {
        let known = self.digests.get(digest);
        DigestUse {
            digest: digest.to_string(),
            size: known.map_or(0, |known| known.size),
            arch: known.map_or("unknown", |known| known.image.arch.as_str()).to_owned(),
            format: known.map_or_else(String::new, |known| known.image.format.to_string()),
            mutable: known.is_some_and(|known| known.image.mutable),
            in_library,
            count: count(nodes),
            nodes: self.fold(nodes),
        }
    }

    fn problems(&self, target: &Target, live: &RoaringBitmap) -> Vec<Reason> {
        let mut problems = Vec::new();
        let mut push = |answer, code: &str, message: &str, nodes: &RoaringBitmap| {
            let nodes = nodes & live;
            if !nodes.is_empty() {
                problems.push(Reason {
                    answer,
                    code: code.to_owned(),
                    message: shorten(message),
                    count: count(&nodes),
                    nodes: self.fold(&nodes),
                });
            }
        };
        for entry in self.entries(target) {
            for (why, nodes) in &entry.pending {
                let (code, message) = match why {
                    Pending::BeingWritten => ("being_written", "the file is being written"),
                    Pending::Hashing => ("hashing", "the file is being hashed"),
                };
                push(NodeAnswer::Unknown, code, message, nodes);
            }
            let text = "below a root whose contents are not known at present";
            push(NodeAnswer::Unknown, "root_unknown", text, &entry.suspended);
            for ((code, detail), nodes) in &entry.unusable {
                let unread = *code == UnusableCode::Unreadable;
                let answer = if unread { NodeAnswer::Unknown } else { NodeAnswer::Missing };
                push(answer, code.as_str(), detail, nodes);
            }
        }
        problems
    }
}
