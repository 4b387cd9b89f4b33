//! How `sifleet drift` looks.

use sifleet_common::api::drift::DriftList;

use super::text::{Block, Cell, Csv, Table, Tone};
use super::{Render, human};

impl Render for DriftList {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        if self.drift.is_empty() {
            return vec![Block::Line(vec![Cell::new(
                "no drift: every name means the same bytes on all current nodes",
            )])];
        }
        let mut table = Table::new(&["NAME", "DIGEST", "", "COUNT", "NODES"]);
        for drift in &self.drift {
            let mut name = Cell::new(&drift.name).tone(Tone::Strong);
            for holder in &drift.digests {
                let expected = drift.expected_digest.as_ref() == Some(&holder.digest);
                let (mark, tone) = if expected { ("library", Tone::Good) } else { ("", Tone::Warn) };
                table.row(vec![
                    std::mem::replace(&mut name, Cell::new("")),
                    Cell::new(human::digest(&holder.digest, wide)).tone(tone),
                    Cell::new(mark).tone(Tone::Faint),
                    Cell::number(holder.count),
                    Cell::long(&holder.nodes, wide),
                ]);
            }
        }
        vec![Block::Table(table)]
    }

    fn names(&self) -> Vec<String> {
        self.drift.iter().map(|drift| drift.name.clone()).collect()
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(&["name", "digest", "in_library", "count", "nodes"]);
        for drift in &self.drift {
            for holder in &drift.digests {
                let expected = drift.expected_digest.as_ref() == Some(&holder.digest);
                csv.row(vec![
                    drift.name.clone(),
                    holder.digest.clone(),
                    expected.to_string(),
                    holder.count.to_string(),
                    holder.nodes.clone(),
                ]);
            }
        }
        csv
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{digest_nodes, plain};
    use super::*;
    use sifleet_common::api::drift::Drift;

    #[test]
    fn each_name_is_shown_once_with_all_its_digests() {
        let list = DriftList {
            drift: vec![Drift {
                name: "a.sif".into(),
                expected_digest: Some(digest_nodes('0', 1, "").digest),
                digests: vec![digest_nodes('1', 2, "n[1-2]"), digest_nodes('0', 1, "n3")],
            }],
            as_of: String::new(),
        };
        assert_eq!(
            plain(&list, false),
            "\
NAME   DIGEST                        COUNT  NODES
a.sif  blake3:111111111111               2  n[1-2]
       blake3:000000000000  library      1  n3
"
        );
        assert_eq!(list.names(), ["a.sif"]);
        assert!(plain(&DriftList { drift: vec![], as_of: String::new() }, false).starts_with("no drift"));
    }
}
