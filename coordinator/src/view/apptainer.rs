//! The images of a cluster as dashboards know them: one row for each image on each partition.
//!
//! An image is on a partition if a node of it holds it, did when it was last heard of, or should by the library's folder
//! of that partition. What only the library holds for nobody in particular stands under `shared`.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use roaring::RoaringBitmap;
use sifleet_common::availability::{Counts, Verdict};
use sifleet_common::digest::Digest;
use sifleet_common::name::ImageName;
use sifleet_common::time::Now;

use super::availability::Split;
use super::resolve::{Expected, SHARED, Target, unheard_of};
use super::{PartitionInfo, QueryError, View};

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
    /// Whether only the library holds it.
    pub in_library: bool,
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

impl View {
    /// Lists images, by partition and name; at most [`MAX_ROWS`].
    ///
    /// # Errors
    /// [`QueryError::UnknownPartition`].
    pub fn rows(&self, partition: Option<&str>, now: Now) -> Result<Vec<Row>, QueryError> {
        let live = self.live_at(now);
        let mut rows = Vec::new();
        let wanted = match partition {
            Some(name) if name != SHARED || self.partitions.contains_key(SHARED) => {
                vec![self.partition_info(name)?]
            }
            Some(_) => Vec::new(),
            None => self.partitions.values().collect(),
        };
        for partition in wanted {
            let names = self.names_on(partition);
            let left = MAX_ROWS.saturating_sub(rows.len());
            rows.extend(names.iter().take(left).map(|name| self.row(name, partition, &live)));
        }
        if partition.is_none_or(|name| name == SHARED) {
            let left = MAX_ROWS.saturating_sub(rows.len());
            rows.extend(self.shared_names().take(left).map(|name| self.shared_row(name, &live)));
        }
        Ok(rows)
    }

    /// Finds the row of an image, on the partition where it stands best unless one is named.
    ///
    /// # Errors
    /// [`QueryError`] when nobody ever heard of the image or the partition, or several images are meant.
    pub fn row_of(&self, id: &str, partition: Option<&str>, now: Now) -> Result<Row, QueryError> {
        let live = self.live_at(now);
        if let Some(name) = partition.filter(|name| *name != SHARED) {
            let partition = self.partition_info(name)?;
            let target = self.resolve(id, Some(&partition.name))?;
            let name = target.names.first().filter(|_| target.heard_of);
            return name.map(|name| self.row(name, partition, &live)).ok_or_else(|| unheard_of(id));
        }
        let target = self.resolve(id, None)?;
        if partition.is_none() {
            let on = self.partitions.values().filter_map(|partition| {
                let target = self.resolve(id, Some(&partition.name)).ok()?;
                let name = target.names.first().filter(|_| target.heard_of)?;
                let row = self.row(name, partition, &live);
                let held = self.is_on(name, partition) || row.counts.ready > 0;
                held.then_some(row)
            });
            if let Some(best) = on.min_by_key(|row| (standing(row), Reverse(row.counts.ready))) {
                return Ok(best);
            }
        }
        let name = target.names.first().filter(|_| target.heard_of).ok_or_else(|| unheard_of(id))?;
        Ok(self.shared_row(name, &live))
    }

    /// Counts the images that are ready on at least one node of a partition; of `shared`, those that the library holds.
    ///
    /// # Errors
    /// [`QueryError::UnknownPartition`].
    pub fn images_ready_on(&self, partition: &str, now: Now) -> Result<u32, QueryError> {
        let live = self.live_at(now);
        let count = if partition == SHARED && !self.partitions.contains_key(SHARED) {
            let in_library = self.names.values().filter(|entry| {
                entry.ready.iter().any(|(place, nodes)| place.library && !nodes.is_disjoint(&live))
            });
            in_library.count()
        } else {
            let partition = self.partition_info(partition)?;
            let names = self.names_on(partition);
            names.iter().filter(|name| self.row(name, partition, &live).counts.ready > 0).count()
        };
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Lists all partitions, and the library if a node watches one.
    #[must_use]
    pub fn places_to_scan(&self) -> Vec<String> {
        let mut places: Vec<String> = self.partitions.keys().map(ToString::to_string).collect();
        let library = self.nodes_to_scan(SHARED).is_ok_and(|nodes| !nodes.is_empty());
        if library && !self.partitions.contains_key(SHARED) {
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
                let watch = |(node, _): &(&std::sync::Arc<super::NodeInfo>, u32)| {
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
        let ready = |name: &&ImageName| self.row(name, partition, &live).counts.ready > 0;
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
            } else if self.is_on(name, partition) {
                names.insert(name.clone());
            }
        }
        names
    }

    /// Tells whether a node of a partition holds an image, or did when it was last heard of.
    fn is_on(&self, name: &ImageName, partition: &PartitionInfo) -> bool {
        self.names.get(name).is_some_and(|entry| {
            let known = entry.ready.iter().chain(&entry.last_known);
            known.filter(|(place, _)| !place.library).any(|(_, nodes)| !nodes.is_disjoint(&partition.members))
        })
    }

    /// Lists what the library holds for no partition in particular.
    fn shared_names(&self) -> impl Iterator<Item = &ImageName> {
        let owned = |name: &ImageName| {
            name.as_str().split_once('/').is_some_and(|(folder, _)| self.partitions.contains_key(folder))
        };
        let loose = self.names.iter().filter(move |(name, entry)| entry.is_only_in_library() && !owned(name));
        loose.map(|(name, _)| name)
    }

    fn row(&self, name: &ImageName, partition: &PartitionInfo, live: &RoaringBitmap) -> Row {
        let expected = self.expected(name, Some(&partition.name), live);
        let target = Target::named(name);
        let split = self.split(&target, expected, &partition.members, live);
        self.row_as(name, partition.name.to_string(), (&target, expected), &split)
    }

    fn shared_row(&self, name: &ImageName, live: &RoaringBitmap) -> Row {
        let holders = self.names.get(name).into_iter().flat_map(|entry| entry.ready.values());
        let holders = holders.fold(RoaringBitmap::new(), |all, nodes| all | nodes);
        let target = Target::named(name);
        let split = self.split(&target, Expected::Any, &holders, live);
        let mut row = self.row_as(name, SHARED.to_owned(), (&target, Expected::Any), &split);
        row.in_library = true;
        row
    }

    fn row_as(
        &self,
        name: &ImageName,
        partition: String,
        (target, expected): (&Target, Expected),
        split: &Split,
    ) -> Row {
        let held: Vec<Digest> = self
            .digests_of(target, &split.ready)
            .iter()
            .filter_map(|held| held.digest.parse().ok())
            .collect();
        let digest = expected.digest().or(match held.as_slice() {
            [only] => Some(*only),
            _ => None,
        });
        let known = self.names.get(name).into_iter().flat_map(|entry| entry.ready.keys());
        let described = digest.or(held.first().copied()).or_else(|| known.map(|place| place.digest).next());
        let size = described.and_then(|digest| self.digests.get(&digest)).map_or(0, |known| known.size);
        let counts = split.counts();
        let shown = name.as_str();
        let id = shown.strip_prefix("shared/").filter(|_| partition == SHARED).unwrap_or(shown);
        Row {
            id: id.strip_suffix(".sif").unwrap_or(id).to_owned(),
            name: shown.to_owned(),
            partition,
            in_library: false,
            digest,
            described,
            size,
            path: self.paths_of(target, expected, &split.ready).into_iter().next().map(|place| place.path),
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

/// Where a row stands among those of the same image: the smaller the better.
const fn standing(row: &Row) -> u8 {
    match row.verdict {
        Verdict::Ready => 0,
        Verdict::Partial => 1,
        Verdict::Unknown => 2,
        Verdict::Missing => 3,
    }
}

#[cfg(test)]
mod tests {
    use sifleet_common::inventory::RootState;

    use super::*;
    use crate::state::testing::{Site, image, library, root};

    fn rows(site: &mut Site, partition: Option<&str>) -> Vec<String> {
        let now = site.now;
        let rows = site.view().rows(partition, now).unwrap();
        rows.iter()
            .map(|row| format!("{} {} {} {}", row.partition, row.id, row.nodeset, row.counts.ready))
            .collect()
    }

    fn site() -> Site {
        let mut site = Site::new();
        site.partition("p", "n[1-3]");
        let held = ["shared/all.sif", "p/a.sif", "loose.sif", "p/never.sif"];
        let held = held.into_iter().map(|name| image(name, 1));
        site.agent("head", [library(RootState::Watched)].into_iter().chain(held).collect());
        site.agent("n1", vec![root(RootState::Watched), image("a.sif", 1), image("b.sif", 2)]);
        site.agent("n2", vec![root(RootState::Watched), image("a.sif", 9)]);
        site
    }

    #[test]
    fn each_image_is_listed_on_its_partition_and_what_is_for_nobody_under_shared() {
        let mut site = site();
        let all = ["p a n1 1", "p b n1 1", "p never  0", "shared loose head 1", "shared all head 1"];
        assert_eq!(rows(&mut site, None), all);
        assert_eq!(rows(&mut site, Some("p")), all[..3]);
        assert_eq!(rows(&mut site, Some("shared")), all[3..]);
        assert!(site.view().rows(Some("q"), site.now).is_err());
    }

    #[test]
    fn an_image_is_found_where_it_stands_best() {
        let mut site = site();
        let (view, now) = (site.view(), site.now);
        let find = |id: &str, partition| {
            view.row_of(id, partition, now).map(|row| (row.partition, row.counts.ready))
        };
        assert_eq!(find("a", None), Ok(("p".into(), 1)));
        assert_eq!(find("loose", None), Ok(("shared".into(), 1)));
        assert_eq!(find("loose", Some("p")), Ok(("p".into(), 0)));
        assert!(matches!(find("nothing", None), Err(QueryError::UnknownImage { .. })));
        assert!(matches!(find("a", Some("q")), Err(QueryError::UnknownPartition { .. })));
    }

    #[test]
    fn a_node_that_fell_silent_is_ready_no_longer_and_its_image_stays_listed() {
        let mut site = site();
        site.outlive(&["head"]);
        assert_eq!(rows(&mut site, Some("p"))[..2], ["p a  0", "p b  0"]);
        let (view, now) = (site.view(), site.now);
        assert_eq!(view.row_of("b", None, now).unwrap().verdict, Verdict::Unknown);
        assert_eq!(view.images_ready_on("p", now), Ok(0));
        assert_eq!(view.images_ready_on("shared", now), Ok(4));
        assert_eq!(view.available_on("p", 9, now), Ok(vec![]));
    }
}
