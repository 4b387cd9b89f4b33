//! The images of a cluster as dashboards know them: one row for each image on each partition.
//!
//! An image is on a partition if a node of it holds it, did when it was last heard of, or should by the library's folder
//! of that partition. What only the library holds for nobody in particular stands under `shared`, unless a partition is
//! called so: then the word means that partition, and such images stand nowhere. [`one`] finds a single one.

mod one;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use roaring::RoaringBitmap;
use sifleet_common::availability::{Counts, Verdict};
use sifleet_common::digest::Digest;
use sifleet_common::name::ImageName;
use sifleet_common::time::Now;

use super::availability::{Split, by_digest};
use super::resolve::{Expected, SHARED, Target};
use super::{PartitionInfo, QueryError, View};
use crate::state::index::{NameEntry, Place};

/// Most rows of one answer: some megabytes.
pub const MAX_ROWS: usize = 2_000;

/// One image on one partition.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name without `.sif`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The partition, or `shared`.
    pub partition: String,
    /// Whether it says how the image stands in the library, and not on a partition.
    pub of_library: bool,
    /// Whether the library holds it, and no node of a partition does or did when it was last heard of.
    pub only_in_library: bool,
    /// The bytes that count, or those that all ready nodes hold.
    pub digest: Option<Digest>,
    /// Bytes that anybody holds under the name: what they say of themselves is shown.
    pub described: Option<Digest>,
    /// Length in bytes; 0 if not known.
    pub size: u64,
    /// Where it lies on most ready nodes.
    pub path: Option<String>,
    /// The first of the ready nodes.
    pub node: Option<String>,
    /// Sum over the nodes.
    pub verdict: Verdict,
    /// How many nodes gave which answer.
    pub counts: Counts,
    /// Nodes that are ready.
    pub nodeset: String,
}

/// An image that stands somewhere; how is worked out where somebody wants to know.
#[derive(Clone, Debug)]
pub struct Spot<'a> {
    name: ImageName,
    /// Which partition; none for the library.
    partition: Option<&'a PartitionInfo>,
}

impl View {
    /// Lists images, by partition and name; at most [`MAX_ROWS`].
    ///
    /// # Errors
    /// [`QueryError::UnknownPartition`].
    pub fn rows(&self, partition: Option<&str>, now: Now) -> Result<Vec<Row>, QueryError> {
        let mut spots = self.spots(partition)?;
        spots.truncate(MAX_ROWS);
        Ok(self.rows_at(&spots, now))
    }

    /// Lists where images stand, by partition and name: all of them.
    ///
    /// # Errors
    /// [`QueryError::UnknownPartition`].
    pub fn spots(&self, partition: Option<&str>) -> Result<Vec<Spot<'_>>, QueryError> {
        let wanted = match partition {
            Some(name) if self.is_library(name) => Vec::new(),
            Some(name) => vec![self.partition_info(name)?],
            None => self.partitions.values().collect(),
        };
        let mut spots = Vec::new();
        for partition in wanted {
            let names = self.names_on(partition).into_iter();
            spots.extend(names.map(|name| Spot { name, partition: Some(partition) }));
        }
        if self.is_library(partition.unwrap_or(SHARED)) {
            spots.extend(self.shared_names().map(|name| Spot { name: name.clone(), partition: None }));
        }
        Ok(spots)
    }

    /// Tells how images stand where they do.
    #[must_use]
    pub fn rows_at(&self, spots: &[Spot<'_>], now: Now) -> Vec<Row> {
        let live = self.live_at(now);
        let row = |spot: &Spot<'_>| match spot.partition {
            Some(partition) => self.row(&Target::named(&spot.name), partition, &live),
            None => Row { only_in_library: true, ..self.library_row(&Target::named(&spot.name), &live) },
        };
        spots.iter().map(row).collect()
    }

    /// Tells whether a name of a partition means what only the library holds: no partition is called so.
    fn is_library(&self, name: &str) -> bool {
        name == SHARED && !self.partitions.contains_key(SHARED)
    }

    /// Counts the images that are ready on at least one node of a partition; of `shared`, those that the library holds.
    ///
    /// # Errors
    /// [`QueryError::UnknownPartition`].
    pub fn images_ready_on(&self, partition: &str, now: Now) -> Result<u32, QueryError> {
        let live = self.live_at(now);
        let count = if self.is_library(partition) {
            let in_library = self.names.values().filter(|entry| {
                entry.ready.iter().any(|(place, nodes)| place.library && !nodes.is_disjoint(&live))
            });
            in_library.count()
        } else {
            let partition = self.partition_info(partition)?;
            let names = self.names_on(partition);
            names.iter().filter(|name| self.is_ready_on(name, partition, &live)).count()
        };
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Lists all partitions, and the library if a node watches one.
    #[must_use]
    pub fn places_to_scan(&self) -> Vec<String> {
        let mut places: Vec<String> = self.partitions.keys().map(ToString::to_string).collect();
        let library = self.nodes_to_scan(SHARED).is_ok_and(|nodes| !nodes.is_empty());
        if library && self.is_library(SHARED) {
            places.push(SHARED.to_owned());
        }
        places
    }

    /// Lists the nodes that a partition's images may be on; of `shared`, those that watch the library.
    ///
    /// # Errors
    /// [`QueryError::UnknownPartition`].
    pub fn nodes_to_scan(&self, partition: &str) -> Result<RoaringBitmap, QueryError> {
        match self.partition_info(partition) {
            Ok(known) => Ok(known.members.clone()),
            Err(_) if partition == SHARED => {
                let watch = |(node, _): &(&Arc<super::NodeInfo>, u32)| {
                    node.inventory.roots().any(|(_, root)| root.kind.is_library())
                };
                Ok(self.nodes.iter().zip(0..).filter(watch).map(|(_, id)| id).collect())
            }
            Err(error) => Err(error),
        }
    }

    /// Counts files on these nodes that nobody vouches for yet, and may soon.
    #[must_use]
    pub fn unfinished_on(&self, nodes: &RoaringBitmap, now: Now) -> u32 {
        let counted = nodes & &*self.live_at(now);
        let pending = self.names.values().flat_map(|entry| entry.pending.values());
        let files: u64 = pending.map(|nodes| nodes.intersection_len(&counted)).sum();
        u32::try_from(files).unwrap_or(u32::MAX)
    }

    /// Names the images that are ready on at least one node of a partition, by name; at most `most`.
    ///
    /// # Errors
    /// [`QueryError::UnknownPartition`].
    pub fn available_on(&self, partition: &str, most: usize, now: Now) -> Result<Vec<String>, QueryError> {
        let live = self.live_at(now);
        let partition = self.partition_info(partition)?;
        let names = self.names_on(partition);
        let ready = |name: &&ImageName| self.is_ready_on(name, partition, &live);
        Ok(names.iter().filter(ready).take(most).map(ToString::to_string).collect())
    }

    fn names_on(&self, partition: &PartitionInfo) -> BTreeSet<ImageName> {
        let own = |name: &ImageName| {
            name.as_str().split_once('/').is_some_and(|(folder, _)| folder == partition.name.as_str())
        };
        let mut names = BTreeSet::new();
        for (name, entry) in &self.names {
            if entry.is_only_in_library() {
                if own(name) {
                    names.insert(self.meant_on(Some(&partition.name), name));
                }
            } else if lies_on(entry, partition, |_| true) {
                names.insert(name.clone());
            }
        }
        names
    }

    fn is_ready_on(&self, name: &ImageName, partition: &PartitionInfo, live: &RoaringBitmap) -> bool {
        self.row(&Target::named(name), partition, live).counts.ready > 0
    }

    /// Lists what the library holds for no partition in particular.
    fn shared_names(&self) -> impl Iterator<Item = &ImageName> {
        let owned = |name: &ImageName| {
            name.as_str().split_once('/').is_some_and(|(folder, _)| self.partitions.contains_key(folder))
        };
        let loose = self.names.iter().filter(move |(name, entry)| entry.is_only_in_library() && !owned(name));
        loose.map(|(name, _)| name)
    }

    fn row(&self, target: &Target, partition: &PartitionInfo, live: &RoaringBitmap) -> Row {
        let expected = self.expected_of(target, &partition.name, live);
        let split = self.split(target, expected, &partition.members, live);
        self.row_as(partition.name.to_string(), (target, expected), &split)
    }

    /// Tells how an image stands in the library alone.
    fn library_row(&self, target: &Target, live: &RoaringBitmap) -> Row {
        let held = self.entries(target).flat_map(|entry| &entry.ready).filter(|(place, _)| place.library);
        let holders = held.fold(RoaringBitmap::new(), |all, (_, nodes)| all | nodes);
        let expected = target.digest.map_or(Expected::Any, Expected::Bytes);
        let split = self.split(target, expected, &holders, live);
        Row { of_library: true, ..self.row_as(SHARED.to_owned(), (target, expected), &split) }
    }

    fn row_as(&self, partition: String, (target, expected): (&Target, Expected), split: &Split<'_>) -> Row {
        let mut held: Vec<(Digest, RoaringBitmap)> = by_digest(&split.held).into_iter().collect();
        held.retain(|(digest, _)| expected.allows(*digest));
        held.sort_by_key(|(_, nodes)| Reverse(nodes.len()));
        let digest = expected.digest().or(match held.as_slice() {
            [(only, _)] => Some(*only),
            _ => None,
        });
        let mut known = self.entries(target).flat_map(|entry| entry.ready.keys()).map(|place| place.digest);
        let described = digest.or(held.first().map(|(digest, _)| *digest)).or_else(|| known.next());
        let described = described.filter(|_| expected != Expected::Unheard);
        let size = described.and_then(|digest| self.digests.get(&digest)).map_or(0, |known| known.size);
        let counts = split.counts();
        let shown = target.names.first().map_or(target.shown.as_str(), ImageName::as_str);
        let id = shown.strip_prefix("shared/").filter(|_| partition == SHARED).unwrap_or(shown);
        Row {
            id: id.strip_suffix(".sif").unwrap_or(id).to_owned(),
            name: shown.to_owned(),
            partition,
            of_library: false,
            only_in_library: false,
            digest,
            described,
            size,
            path: self.paths_of(&split.held, expected).into_iter().next().map(|place| place.path),
            node: self
                .table
                .first(&split.ready)
                .and_then(|id| self.info(id))
                .map(|node| node.name.to_string()),
            verdict: counts.verdict(),
            counts,
            nodeset: self.fold(&split.ready),
        }
    }
}

/// Tells whether a node of a partition holds an image with bytes that are meant, or did when it was last heard of.
fn lies_on(entry: &NameEntry, partition: &PartitionInfo, is_meant: impl Fn(&Place) -> bool) -> bool {
    let mut known = entry.ready.iter().chain(&entry.last_known);
    known.any(|(place, nodes)| !place.library && is_meant(place) && !nodes.is_disjoint(&partition.members))
}

#[cfg(test)]
mod tests;
