//! How one line of `sifleet events` looks.

use sifleet_common::api::events::{Event, EventKind};

use super::text::{self, Block, Cell, Csv, Table, Tone};
use super::{Format, human};

/// Columns of the longest word for a kind of event.
const KIND: usize = 17;

fn kind(kind: EventKind) -> (&'static str, Tone) {
    match kind {
        EventKind::NodeOnline => ("node_online", Tone::Good),
        EventKind::NodeOffline => ("node_offline", Tone::Unsure),
        EventKind::NodeRoots => ("node_roots", Tone::Warn),
        EventKind::NodeEnrolled => ("node_enrolled", Tone::Good),
        EventKind::NodeRevoked => ("node_revoked", Tone::Bad),
        EventKind::ImageReady => ("image_ready", Tone::Good),
        EventKind::ImageGone => ("image_gone", Tone::Bad),
        EventKind::LimitsChanged => ("limits_changed", Tone::Plain),
        EventKind::PushChanged => ("push_changed", Tone::Plain),
        EventKind::RemovalChanged => ("removal_changed", Tone::Plain),
        EventKind::PartitionChanged => ("partition_changed", Tone::Plain),
        EventKind::Missed => ("missed", Tone::Warn),
    }
}

/// Formats one event; `text` is the JSON it came as. The first line of a CSV names the columns.
pub(crate) fn event_line(format: Format, event: &Event, text: &str, first: bool) -> String {
    let (word, tone) = kind(event.kind);
    let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
    match format {
        Format::Json => text::json(&text.replace('\n', " ")),
        Format::Name => {
            let name = event.node.as_ref().or(event.image.as_ref());
            name.map(|name| text::safe(name) + "\n").unwrap_or_default()
        }
        Format::Csv => {
            let mut csv = Csv::new(&["seq", "time", "kind", "node", "image", "digest", "detail"]);
            csv.row(vec![
                event.seq.to_string(),
                event.time.clone(),
                word.into(),
                or_empty(&event.node),
                or_empty(&event.image),
                or_empty(&event.digest),
                or_empty(&event.detail),
            ]);
            if first { csv.to_string() } else { csv.rows() }
        }
        Format::Table | Format::Wide => {
            let mut table = Table::new(&[]);
            let digest = event.digest.as_ref().map(|digest| human::digest(digest, format == Format::Wide));
            let cells = [&event.node, &event.image, &digest, &event.detail].into_iter().flatten();
            let mut row = vec![
                Cell::new(&event.time).tone(Tone::Faint),
                // Each line is its own table, so this column needs its width from here.
                Cell::new(format!("{word:<KIND$}")).tone(tone),
            ];
            row.extend(cells.map(Cell::new));
            table.row(row);
            text::layout(&[Block::Table(table)])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event {
            seq: 7,
            time: "2026-03-01T12:00:00.000Z".into(),
            kind: EventKind::ImageReady,
            node: Some("viz001".into()),
            image: Some("vnc_desktop.sif".into()),
            digest: Some("blake3:0123456789abcdef".into()),
            detail: None,
        }
    }

    fn line(format: Format, first: bool) -> String {
        anstream::adapter::strip_str(&event_line(format, &event(), "{\"seq\":\n7}", first)).to_string()
    }

    #[test]
    fn an_event_is_one_line_in_every_format() {
        assert_eq!(
            line(Format::Table, true),
            "2026-03-01T12:00:00.000Z  image_ready        viz001  vnc_desktop.sif  blake3:0123456789ab\n"
        );
        assert_eq!(line(Format::Json, false), "{\"seq\": 7}\n");
        assert_eq!(line(Format::Name, false), "viz001\n");
        assert_eq!(line(Format::Csv, true).lines().count(), 2);
        assert_eq!(
            line(Format::Csv, false),
            "7,2026-03-01T12:00:00.000Z,image_ready,viz001,vnc_desktop.sif,blake3:0123456789abcdef,\n"
        );
    }

    #[test]
    fn the_words_are_those_of_the_api() {
        for one in [
            EventKind::NodeOnline,
            EventKind::NodeOffline,
            EventKind::NodeRoots,
            EventKind::NodeEnrolled,
            EventKind::NodeRevoked,
            EventKind::ImageReady,
            EventKind::ImageGone,
            EventKind::LimitsChanged,
            EventKind::PushChanged,
            EventKind::RemovalChanged,
            EventKind::PartitionChanged,
            EventKind::Missed,
        ] {
            assert_eq!(serde_json::to_value(one).unwrap(), kind(one).0);
            assert!(kind(one).0.len() <= KIND);
        }
    }
}
