//! How `sifleet partition ls` and `sifleet partition show` look.

use sifleet_common::api::partitions::{PartitionDetail, PartitionList, PartitionSummary};

use super::availability::verdict;
use super::text::{Block, Cell, Csv, Note, Table, Tone};
use super::{Render, human};

fn source(partition: &PartitionSummary, now: &str) -> String {
    let membership = &partition.membership;
    format!("{}, {} ago", membership.source, human::age(&membership.as_of, now))
}

fn stale(partition: &PartitionSummary, now: &str) -> Option<Note> {
    partition.membership.stale.then(|| {
        Note::Warning(format!(
            "the nodes of {} are last known ({}): {}",
            partition.name,
            source(partition, now),
            partition.membership.reason.as_deref().unwrap_or("its source does not answer")
        ))
    })
}

fn online(partition: &PartitionSummary) -> Cell {
    let tone = if partition.online == partition.count { Tone::Good } else { Tone::Unsure };
    Cell::number(partition.online).tone(tone)
}

impl Render for PartitionList {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        let header: &[&str] = if wide {
            &["PARTITION", "NODES", "ONLINE", "NODESET", "NOT ONLINE", "SOURCE"]
        } else {
            &["PARTITION", "NODES", "ONLINE", "NODESET", "NOT ONLINE"]
        };
        let mut table = Table::new(header);
        for partition in &self.partitions {
            let mut row = vec![
                Cell::new(&partition.name).tone(Tone::Strong),
                Cell::number(partition.count),
                online(partition),
                Cell::long(&partition.nodes, wide),
                Cell::long(&partition.not_online, wide).tone(Tone::Unsure),
            ];
            if wide {
                row.push(Cell::new(source(partition, &self.as_of)));
            }
            table.row(row);
        }
        if table.is_empty() {
            return vec![Block::Line(vec![Cell::new("no partitions are known")])];
        }
        vec![Block::Table(table)]
    }

    fn names(&self) -> Vec<String> {
        self.partitions.iter().map(|partition| partition.name.clone()).collect()
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(&[
            "partition",
            "count",
            "online",
            "nodes",
            "not_online",
            "source",
            "source_as_of",
            "stale",
        ]);
        for partition in &self.partitions {
            csv.row(vec![
                partition.name.clone(),
                partition.count.to_string(),
                partition.online.to_string(),
                partition.nodes.clone(),
                partition.not_online.clone(),
                partition.membership.source.clone(),
                partition.membership.as_of.clone(),
                partition.membership.stale.to_string(),
            ]);
        }
        csv
    }

    fn notes(&self) -> Vec<Note> {
        let mut notes: Vec<Note> = self.partitions.iter().filter_map(|one| stale(one, &self.as_of)).collect();
        if self.partitions.is_empty() {
            notes.push(Note::Hint(
                "name partitions in the coordinator's settings, or have it ask Slurm".to_owned(),
            ));
        }
        notes
    }
}

impl Render for PartitionDetail {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        let partition = &self.summary;
        let mut facts = Table::new(&[]).indented();
        let mut line = |name: &str, text: Cell| facts.row(vec![Cell::new(name).tone(Tone::Faint), text]);
        line("nodes", Cell::new(&partition.nodes));
        if !partition.not_online.is_empty() {
            line("not online", Cell::new(&partition.not_online).tone(Tone::Unsure));
        }
        line("from", Cell::new(source(partition, &self.as_of)));
        let mut table = Table::new(&["IMAGE", "VERDICT", "READY", "OUTDATED", "MISSING", "UNKNOWN"]);
        for image in &self.images {
            let (word, tone) = verdict(image.verdict);
            table.row(vec![
                Cell::long(&image.name, wide).tone(Tone::Strong),
                Cell::new(word).tone(tone),
                Cell::number(image.counts.ready),
                Cell::number(image.counts.outdated),
                Cell::number(image.counts.missing),
                Cell::number(image.counts.unknown),
            ]);
        }
        let count = format!(": {} of {} online", partition.online, human::nodes(partition.count));
        vec![
            Block::Line(vec![Cell::new(&partition.name).tone(Tone::Strong), Cell::new(count)]),
            Block::Table(facts),
            Block::Table(table),
        ]
    }

    fn names(&self) -> Vec<String> {
        Some(self.summary.nodes.clone()).filter(|nodes| !nodes.is_empty()).into_iter().collect()
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(&["image", "verdict", "ready", "outdated", "missing", "unknown"]);
        for image in &self.images {
            csv.row(vec![
                image.name.clone(),
                verdict(image.verdict).0.into(),
                image.counts.ready.to_string(),
                image.counts.outdated.to_string(),
                image.counts.missing.to_string(),
                image.counts.unknown.to_string(),
            ]);
        }
        csv
    }

    fn notes(&self) -> Vec<Note> {
        stale(&self.summary, &self.as_of).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{NOW, both, membership, plain};
    use super::*;
    use sifleet_common::api::partitions::PartitionImage;
    use sifleet_common::availability::{Counts, Verdict};

    fn summary() -> PartitionSummary {
        PartitionSummary {
            name: "viz".into(),
            nodes: "viz[001-004]".into(),
            count: 4,
            online: 2,
            not_online: "viz[003-004]".into(),
            membership: membership(),
        }
    }

    #[test]
    fn a_list_shows_who_is_not_online() {
        let mut list = PartitionList { partitions: vec![summary()], as_of: NOW.into() };
        assert_eq!(
            both(&list, false),
            "\
PARTITION  NODES  ONLINE  NODESET       NOT ONLINE
viz            4       2  viz[001-004]  viz[003-004]
---
"
        );
        assert!(plain(&list, true).contains("slurm, 60s ago"));
        if let Some(partition) = list.partitions.first_mut() {
            partition.membership.stale = true;
        }
        assert_eq!(list.notes().len(), 1);
        list.partitions.clear();
        assert!(both(&list, false).starts_with("no partitions are known\n---\nhint:"));
    }

    #[test]
    fn one_partition_shows_its_images() {
        let detail = PartitionDetail {
            summary: summary(),
            images: vec![PartitionImage {
                name: "a.sif".into(),
                verdict: Verdict::Partial,
                counts: Counts { ready: 1, outdated: 0, missing: 1, unknown: 2 },
            }],
            as_of: NOW.into(),
        };
        assert_eq!(
            plain(&detail, false),
            "\
viz: 2 of 4 nodes online
  nodes       viz[001-004]
  not online  viz[003-004]
  from        slurm, 60s ago
IMAGE  VERDICT  READY  OUTDATED  MISSING  UNKNOWN
a.sif  partial      1         0        1        2
"
        );
        assert_eq!(detail.names(), ["viz[001-004]"]);
        assert_eq!(detail.csv().to_string().lines().last(), Some("a.sif,partial,1,0,1,2"));
    }
}
