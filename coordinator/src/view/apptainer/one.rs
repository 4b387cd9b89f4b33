//! Finds the row of one image: on the partition that is named, where it stands best, or in the library.

use std::cmp::Reverse;

use roaring::RoaringBitmap;
use sifleet_common::availability::{Require, Satisfied, Verdict};
use sifleet_common::time::Now;

use super::{Row, lies_on};
use crate::view::resolve::{SHARED, Target, unheard_of};
use crate::view::{PartitionInfo, QueryError, View};

impl View {
    /// Finds the row of an image, on the partition where it stands best unless one is named. `shared` names the library,
    /// unless a partition is called so.
    ///
    /// # Errors
    /// [`QueryError`] when nobody ever heard of the image or the partition, or several images are meant.
    pub fn row_of(&self, id: &str, partition: Option<&str>, now: Now) -> Result<Row, QueryError> {
        let live = self.live_at(now);
        if let Some(name) = partition.filter(|name| !self.is_library(name)) {
            let row = self.row_on(id, self.partition_info(name)?, &live)?;
            return row.map(|(row, _)| row).ok_or_else(|| unheard_of(id));
        }
        let target = self.resolve(id, None)?;
        let on_partitions =
            self.partitions.values().filter_map(|named| self.row_on(id, named, &live).ok()?);
        let rows: Vec<(Row, bool)> = on_partitions.collect();
        let is_held = rows.iter().any(|(_, held)| *held);
        if !target.heard_of && (partition.is_some() || !is_held) {
            return Err(unheard_of(id));
        }
        let in_library = self.named_in_library(&target);
        let means_library =
            partition.is_some() || (!is_held && in_library.is_some() && self.is_library(SHARED));
        if !means_library {
            let fitting = rows.into_iter().filter(|(_, held)| *held || !is_held).map(|(row, _)| row);
            if let Some(best) = fitting.min_by_key(|row| (standing(row), Reverse(row.counts.ready))) {
                return Ok(best);
            }
        }
        let only_in_library = in_library.is_some() && !is_held;
        Ok(Row { only_in_library, ..self.library_row(in_library.as_ref().unwrap_or(&target), &live) })
    }

    /// Finds the row by which is decided whether an image can be used: that of [`View::row_of`], but where only the library
    /// is known to hold the image, that of a partition of which every node may turn out to.
    ///
    /// # Errors
    /// As [`View::row_of`].
    pub fn row_to_judge(&self, id: &str, partition: Option<&str>, now: Now) -> Result<Row, QueryError> {
        let row = self.row_of(id, partition, now)?;
        if !row.only_in_library {
            return Ok(row);
        }
        let live = self.live_at(now);
        let rows = self.partitions.values().filter_map(|named| self.row_on(id, named, &live).ok()?);
        let mut open = rows.filter(|(row, _)| row.counts.satisfied(Require::All) == Satisfied::Unknown);
        Ok(open.next().map_or(row, |(open, _)| open))
    }

    /// Tells how an image stands on a partition, and whether a node of it holds it or did when it was last heard of; nothing
    /// if nobody ever heard of it.
    fn row_on(
        &self,
        id: &str,
        partition: &PartitionInfo,
        live: &RoaringBitmap,
    ) -> Result<Option<(Row, bool)>, QueryError> {
        let target = self.resolve(id, Some(&partition.name))?;
        if !target.heard_of || target.names.is_empty() {
            return Ok(None);
        }
        let row = self.row(&target, partition, live);
        let meant = |digest| !target.by_digest || target.digest == Some(digest);
        let held = row.counts.ready > 0
            || self.entries(&target).any(|entry| lies_on(entry, partition, |place| meant(place.digest)));
        Ok(Some((row, held)))
    }

    /// Finds what the library calls an image, if it holds it or did when it was last heard of.
    fn named_in_library(&self, target: &Target) -> Option<Target> {
        let holds = |name: &str| {
            let (name, entry) = self.names.get_key_value(name)?;
            let mut places = entry.ready.keys().chain(entry.last_known.keys());
            let held = places
                .any(|place| place.library && target.digest.is_none_or(|digest| digest == place.digest));
            held.then(|| name.clone())
        };
        let mut names = target.names.iter().filter_map(|name| {
            if target.by_digest {
                return holds(name.as_str());
            }
            self.library_names(name, None).iter().find_map(|name| holds(name))
        });
        names.next().map(|name| Target { names: vec![name], ..target.clone() })
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
