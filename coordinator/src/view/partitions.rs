//! Answers what partitions there are, and which images are on one.

use sifleet_common::api::partitions::{PartitionDetail, PartitionImage, PartitionList, PartitionSummary};
use sifleet_common::time::Now;

use super::availability::count;
use super::resolve::Target;
use super::{PartitionInfo, QueryError, View};

impl View {
    /// Lists all partitions in the order of their names.
    #[must_use]
    pub fn partitions(&self, now: Now) -> PartitionList {
        let partitions =
            self.partitions.values().map(|partition| self.partition_summary(partition, now)).collect();
        PartitionList { partitions, as_of: now.wall.to_string() }
    }

    /// Tells which nodes a partition has and how every image on it fares.
    ///
    /// # Errors
    /// [`QueryError::UnknownPartition`].
    pub fn partition(&self, name: &str, now: Now) -> Result<PartitionDetail, QueryError> {
        let partition = self.partition_info(name)?;
        let live = self.live_at(now);
        let mut images = Vec::new();
        for (name, entry) in &self.names {
            if entry.ready.values().all(|nodes| nodes.is_disjoint(&partition.members)) {
                continue;
            }
            let expected = self.expected(name, Some(&partition.name), &live);
            let target = Target::named(name);
            let counts = self.split(&target, expected, &partition.members, &live).counts();
            images.push(PartitionImage { name: target.shown, verdict: counts.verdict(), counts });
        }
        let summary = self.partition_summary(partition, now);
        Ok(PartitionDetail { summary, images, as_of: now.wall.to_string() })
    }

    fn partition_summary(&self, partition: &PartitionInfo, now: Now) -> PartitionSummary {
        let online = &partition.members & &*self.live_at(now);
        PartitionSummary {
            name: partition.name.to_string(),
            nodes: self.fold(&partition.members),
            count: count(&partition.members),
            online: count(&online),
            not_online: self.fold(&(&partition.members - online)),
            membership: partition.membership.clone(),
        }
    }
}
