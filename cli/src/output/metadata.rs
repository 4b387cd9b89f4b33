//! How what an image says of itself looks: facts always, its texts when everything was asked for.

use std::collections::BTreeMap;

use sifleet_common::api::images::Described;
use sifleet_common::image::{ImageMetadata, Signature, SignatureKind};

use super::human;
use super::text::{Block, Cell, Table, Tone};

/// Lays out one digest's own words.
pub(super) fn blocks(described: &Described, wide: bool) -> Vec<Block> {
    let told = &described.metadata;
    let title = format!("what {} says of itself", human::digest(&described.digest, wide));
    let mut blocks = vec![
        Block::Line(vec![Cell::new(title).tone(Tone::Strong)]),
        Block::Table(facts(told)),
        Block::Table(pairs(&told.labels, wide)),
    ];
    if wide {
        blocks.extend(texts(told));
        if let Some(sidecar) = &described.sidecar {
            blocks.push(Block::Text("sidecar (for display only)", sidecar.clone()));
        }
    }
    blocks
}

fn facts(told: &ImageMetadata) -> Table {
    let mut table = Table::new(&[]).indented();
    let mut line =
        |name: &str, text: String| table.row(vec![Cell::new(name).tone(Tone::Faint), Cell::new(text)]);
    line("format", format!("{}, {}, {}", told.format, told.arch, told.runnable));
    let mutable = if told.mutable { ", mutable" } else { "" };
    line("size", format!("{} ({} bytes){mutable}", human::size(told.size), told.size));
    if let Some(uuid) = &told.uuid {
        line("uuid", uuid.clone());
    }
    if let Some(created) = told.created {
        line("created", human::moment(created));
    }
    for partition in &told.partitions {
        line(
            "partition",
            format!(
                "{} {}, {}, {}",
                partition.role,
                partition.file_system,
                partition.arch,
                human::size(partition.size)
            ),
        );
    }
    for one in &told.signatures {
        line("signature", signature(one));
    }
    if !told.apps.is_empty() {
        line("apps", told.apps.keys().cloned().collect::<Vec<_>>().join(", "));
    }
    for note in &told.notes {
        line("note", note.clone());
    }
    table
}

fn signature(one: &Signature) -> String {
    let kind = match one.kind {
        SignatureKind::Pgp => "PGP",
        SignatureKind::Dsse => "DSSE",
        SignatureKind::Legacy => "PGP (legacy)",
        SignatureKind::Unreadable => "unreadable",
    };
    let key = one.fingerprint.clone().unwrap_or_else(|| one.key_ids.join(", "));
    let covers = if one.covers_data { "covers the data" } else { "does not cover the data" };
    format!("{kind} {key}, {covers}, not verified")
}

fn pairs(map: &BTreeMap<String, String>, wide: bool) -> Table {
    let mut table = Table::new(&[]).indented();
    for (key, value) in map {
        table.row(vec![Cell::new(key).tone(Tone::Faint), Cell::long(value, wide)]);
    }
    table
}

fn texts(told: &ImageMetadata) -> Vec<Block> {
    let named = [
        ("definition", &told.definition),
        ("runscript", &told.runscript),
        ("startscript", &told.startscript),
        ("test", &told.test),
        ("help", &told.help),
        ("oci config", &told.oci_config),
    ];
    let texts = named.into_iter().filter_map(|(title, text)| Some(Block::Text(title, text.clone()?)));
    let scripts =
        told.environment.iter().map(|(path, text)| Block::Text("environment", format!("# {path}\n{text}")));
    let apps = told.apps.iter().flat_map(|(name, app)| {
        let parts = [("runscript", &app.runscript), ("test", &app.test), ("help", &app.help)];
        parts.into_iter().filter_map(move |(part, text)| {
            Some(Block::Text("app", format!("# {part} of {name}\n{}", text.as_ref()?)))
        })
    });
    texts.chain(scripts).chain(apps).collect()
}
