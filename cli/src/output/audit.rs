//! How the audit looks.

use sifleet_common::api::audit::{AuditEntry, AuditList};

use super::Render;
use super::text::{Block, Cell, Csv, Table, Tone};

/// Says who asked: by name if there is one.
fn who(entry: &AuditEntry) -> String {
    let id = entry.id.as_deref().unwrap_or_default();
    match (&entry.name, entry.kind.as_str()) {
        (Some(name), _) => format!("{name} ({id})"),
        (None, "user") => format!("uid {id}"),
        (None, kind) => kind.to_owned(),
    }
}

fn tone(status: u16) -> Tone {
    match status {
        401 | 403 => Tone::Bad,
        400.. => Tone::Warn,
        _ => Tone::Good,
    }
}

impl Render for AuditList {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        let mut table = Table::new(&["TIME", "WHO", "FROM", "STATUS", "METHOD", "TARGET", "TIMES"]);
        for entry in &self.entries {
            table.row(vec![
                Cell::new(entry.time.get(..19).unwrap_or(&entry.time)),
                Cell::long(&who(entry), wide).tone(Tone::Strong),
                Cell::new(&entry.from),
                Cell::number(entry.status).tone(tone(entry.status)),
                Cell::new(&entry.method),
                Cell::long(&entry.target, wide),
                Cell::number(entry.count),
            ]);
        }
        if table.is_empty() {
            return vec![Block::Line(vec![Cell::new("nothing is noted")])];
        }
        vec![Block::Table(table)]
    }

    fn names(&self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.request_id.clone()).collect()
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(&[
            "time",
            "kind",
            "id",
            "name",
            "from",
            "method",
            "route",
            "target",
            "status",
            "count",
            "request_id",
        ]);
        for entry in &self.entries {
            csv.row(vec![
                entry.time.clone(),
                entry.kind.clone(),
                entry.id.clone().unwrap_or_default(),
                entry.name.clone().unwrap_or_default(),
                entry.from.clone(),
                entry.method.clone(),
                entry.route.clone(),
                entry.target.clone(),
                entry.status.to_string(),
                entry.count.to_string(),
                entry.request_id.clone(),
            ]);
        }
        csv
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::text::layout;
    use anstream::adapter::strip_str;

    #[test]
    fn whoever_asked_is_named_and_his_text_harms_no_terminal() {
        let entry = |kind: &str, id: Option<&str>, name: Option<&str>| AuditEntry {
            time: "2026-11-21T10:30:00.123Z".to_owned(),
            kind: kind.to_owned(),
            id: id.map(str::to_owned),
            name: name.map(str::to_owned),
            from: "192.0.2.1".to_owned(),
            method: "POST".to_owned(),
            route: "/v1/pushes".to_owned(),
            target: "/v1/pushes\n\u{1b}[2J".to_owned(),
            status: 403,
            count: 7,
            request_id: "request-1".to_owned(),
        };
        let entries = vec![
            entry("token", Some("t-000042"), Some("dashboard")),
            entry("user", Some("1000"), None),
            entry("anonymous", None, None),
        ];
        let list = AuditList { entries, next_cursor: None };
        let shown = strip_str(&layout(&list.blocks(false))).to_string();
        for part in ["2026-11-21T10:30:00 ", "dashboard (t-000042)", "uid 1000", "anonymous", "403"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(!shown.contains('\u{1b}') && shown.lines().count() == 4, "{shown}");
    }
}
