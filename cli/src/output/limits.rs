//! How limits look.

use sifleet_common::api::limits::LimitsBody;

use super::text::{Block, Cell, Csv, Table, Tone};
use super::{Render, human};

fn rate(rate: Option<u64>) -> Cell {
    rate.map_or_else(|| Cell::number("no limit").tone(Tone::Faint), |rate| Cell::number(human::rate(rate)))
}

fn count(count: Option<u16>) -> Cell {
    count.map_or_else(|| Cell::number("as set there").tone(Tone::Faint), Cell::number)
}

impl Render for LimitsBody {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        let total = self.total.map_or_else(|| "no limit".to_owned(), human::rate);
        let mut line = vec![Cell::new("all nodes together fetch "), Cell::new(total).tone(Tone::Strong)];
        if let Some(share) = self.share.filter(|_| self.divided > 0) {
            let words =
                format!(" at most: {} each, among {}", human::rate(share), human::nodes(self.divided));
            line.push(Cell::new(words));
        }
        let mut table = Table::new(&["EACH", "UP", "DOWN", "IMAGES AT ONCE"]);
        for (who, up, down, concurrent) in [
            ("node", self.up, self.down, self.concurrent),
            ("busy node", self.busy_up, self.busy_down, self.busy_concurrent),
        ] {
            table.row(vec![Cell::new(who).tone(Tone::Strong), rate(up), rate(down), count(concurrent)]);
        }
        let mut nodes = Table::new(&[]);
        for (name, text) in [("busy", &self.busy), ("marked as busy", &self.marked)] {
            if !text.is_empty() {
                nodes.row(vec![Cell::new(name).tone(Tone::Faint), Cell::long(text, wide)]);
            }
        }
        vec![Block::Line(line), Block::Table(table), Block::Table(nodes)]
    }

    fn names(&self) -> Vec<String> {
        Some(self.busy.clone()).filter(|nodes| !nodes.is_empty()).into_iter().collect()
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(&[
            "total",
            "up",
            "down",
            "concurrent",
            "busy_up",
            "busy_down",
            "busy_concurrent",
            "busy",
            "marked",
        ]);
        let number = |limit: Option<u64>| limit.map(|limit| limit.to_string()).unwrap_or_default();
        csv.row(vec![
            number(self.total),
            number(self.up),
            number(self.down),
            number(self.concurrent.map(u64::from)),
            number(self.busy_up),
            number(self.busy_down),
            number(self.busy_concurrent.map(u64::from)),
            self.busy.clone(),
            self.marked.clone(),
        ]);
        csv
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::text::layout;

    #[test]
    fn what_is_limited_and_what_is_not_can_be_told_apart() {
        let limits = LimitsBody {
            total: Some(2_000_000_000),
            up: None,
            down: Some(500_000_000),
            concurrent: None,
            busy_up: Some(50_000_000),
            busy_down: None,
            busy_concurrent: Some(1),
            busy: "viz[001-002]".into(),
            marked: "viz001".into(),
            divided: 4,
            share: Some(500_000_000),
            as_of: "2026-03-01T12:00:00Z".into(),
        };
        let shown = anstream::adapter::strip_str(&layout(&limits.blocks(false))).to_string();
        assert_eq!(
            shown,
            "all nodes together fetch 2.0 GB/s at most: 500 MB/s each, among 4 nodes\n\
             EACH              UP      DOWN  IMAGES AT ONCE\n\
             node        no limit  500 MB/s    as set there\n\
             busy node  50.0 MB/s  no limit               1\n\
             busy            viz[001-002]\n\
             marked as busy  viz001\n"
        );
        assert_eq!(limits.names(), ["viz[001-002]"]);
        assert!(
            limits.csv().to_string().ends_with("2000000000,,500000000,,50000000,,1,viz[001-002],viz001\n")
        );
    }
}
