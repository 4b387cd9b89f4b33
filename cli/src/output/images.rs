//! How `sifleet image ls` and `sifleet image show` look.

use sifleet_common::api::images::{DigestUse, ImageDetail, ImageList, ImageSummary};

use super::availability::holders;
use super::text::{Block, Cell, Csv, Note, Table, Tone};
use super::{Render, human, metadata};
use sifleet_common::api::availability::DigestNodes;

const COLUMNS: &[&str] = &[
    "name",
    "digest",
    "size",
    "arch",
    "format",
    "mutable",
    "in_library",
    "drift",
    "count",
    "nodes",
    "last_known",
];

fn marks(image: &ImageSummary, digest: Option<&DigestUse>) -> String {
    let marks = [
        ("drift", image.drift),
        ("mutable", digest.is_some_and(|digest| digest.mutable)),
        ("library", digest.is_some_and(|digest| digest.in_library)),
    ];
    marks.iter().filter(|(_, set)| *set).map(|(mark, _)| *mark).collect::<Vec<_>>().join(",")
}

/// One row for each digest of an image, its name on the first.
fn rows(table: &mut Table, image: &ImageSummary, wide: bool) {
    let mut name = Cell::long(&image.name, wide).tone(Tone::Strong);
    for digest in &image.digests {
        table.row(vec![
            std::mem::replace(&mut name, Cell::new("")),
            Cell::new(human::digest(&digest.digest, wide)),
            Cell::number(human::size(digest.size)),
            Cell::new(&digest.arch),
            Cell::new(&digest.format),
            Cell::new(marks(image, Some(digest))).tone(Tone::Warn),
            Cell::number(digest.count),
            Cell::long(&digest.nodes, wide),
        ]);
    }
    if image.digests.is_empty() {
        let last = if image.last_known.is_empty() {
            String::new()
        } else {
            format!("last known on {}", image.last_known)
        };
        let mut row = vec![name];
        row.extend((0..4).map(|_| Cell::new("")));
        row.extend([
            Cell::new(marks(image, None)),
            Cell::number(0),
            Cell::long(&last, wide).tone(Tone::Unsure),
        ]);
        table.row(row);
    }
}

fn table() -> Table {
    Table::new(&["NAME", "DIGEST", "SIZE", "ARCH", "FORMAT", "", "COUNT", "NODES"])
}

fn csv_rows(csv: &mut Csv, image: &ImageSummary) {
    for digest in &image.digests {
        csv.row(vec![
            image.name.clone(),
            digest.digest.clone(),
            digest.size.to_string(),
            digest.arch.clone(),
            digest.format.clone(),
            digest.mutable.to_string(),
            digest.in_library.to_string(),
            image.drift.to_string(),
            digest.count.to_string(),
            digest.nodes.clone(),
            image.last_known.clone(),
        ]);
    }
    if image.digests.is_empty() {
        let mut row = vec![String::new(); COLUMNS.len()];
        for (cell, text) in [(0, image.name.clone()), (8, "0".to_owned()), (10, image.last_known.clone())] {
            if let Some(place) = row.get_mut(cell) {
                *place = text;
            }
        }
        csv.row(row);
    }
}

impl Render for ImageList {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        if self.images.is_empty() {
            return vec![Block::Line(vec![Cell::new("no such images are known")])];
        }
        let mut table = table();
        for image in &self.images {
            rows(&mut table, image, wide);
        }
        vec![Block::Table(table)]
    }

    fn names(&self) -> Vec<String> {
        self.images.iter().map(|image| image.name.clone()).collect()
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(COLUMNS);
        for image in &self.images {
            csv_rows(&mut csv, image);
        }
        csv
    }

    fn notes(&self) -> Vec<Note> {
        let drifting = self.images.iter().filter(|image| image.drift).count();
        if drifting == 0 {
            return Vec::new();
        }
        let names = if drifting == 1 { "1 name means".to_owned() } else { format!("{drifting} names mean") };
        vec![
            Note::Warning(format!("{names} different bytes on different nodes")),
            Note::Hint("`sifleet drift` lists who holds what".to_owned()),
        ]
    }
}

impl Render for ImageDetail {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        let image = &self.summary;
        let mut digests = table();
        rows(&mut digests, image, wide);
        let mut paths = Table::new(&["PATH", "COUNT", "NODES"]);
        for path in &self.paths {
            paths.row(vec![Cell::new(&path.path), Cell::number(path.count), Cell::long(&path.nodes, wide)]);
        }
        let mut problems = Table::new(&["NOT READY", "COUNT", "NODES", "WHY"]);
        for problem in &self.problems {
            problems.row(vec![
                Cell::new(&problem.code).tone(Tone::Bad),
                Cell::number(problem.count),
                Cell::long(&problem.nodes, wide),
                Cell::new(&problem.message),
            ]);
        }
        let title = Cell::new(&image.name).tone(Tone::Strong);
        let mut blocks = vec![
            Block::Line(vec![title, Cell::new(format!(": ready on {}", human::nodes(image.count)))]),
            Block::Table(digests),
            Block::Table(paths),
            Block::Table(problems),
        ];
        for described in &self.metadata {
            blocks.extend(metadata::blocks(described, wide));
        }
        blocks
    }

    fn names(&self) -> Vec<String> {
        vec![self.summary.name.clone()]
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(COLUMNS);
        csv_rows(&mut csv, &self.summary);
        csv
    }

    fn notes(&self) -> Vec<Note> {
        let image = &self.summary;
        let mut notes = Vec::new();
        if image.drift {
            let digests: Vec<DigestNodes> = image
                .digests
                .iter()
                .map(|one| DigestNodes {
                    digest: one.digest.clone(),
                    count: one.count,
                    nodes: one.nodes.clone(),
                })
                .collect();
            notes.push(Note::Warning(format!("drift: {}", holders(&digests, false))));
        }
        if !image.last_known.is_empty() {
            notes.push(Note::Warning(format!("nodes that do not report last held it: {}", image.last_known)));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{NOW, both, plain};
    use super::*;
    use sifleet_common::api::availability::{PathNodes, Reason};
    use sifleet_common::api::images::Described;
    use sifleet_common::availability::NodeAnswer;
    use sifleet_common::image::{Format, ImageMetadata};

    fn usage(digit: char, count: u32, nodes: &str) -> DigestUse {
        DigestUse {
            digest: format!("blake3:{}", digit.to_string().repeat(64)),
            size: 3_000_000,
            arch: "amd64".into(),
            format: "sif".into(),
            mutable: digit == '1',
            in_library: digit == '0',
            count,
            nodes: nodes.into(),
        }
    }

    fn image() -> ImageSummary {
        ImageSummary {
            name: "vnc_desktop.sif".into(),
            digests: vec![usage('0', 2, "viz[001-002]"), usage('1', 1, "viz003")],
            drift: true,
            nodes: "viz[001-003]".into(),
            count: 3,
            last_known: "viz004".into(),
        }
    }

    #[test]
    fn a_list_shows_every_digest_of_a_name() {
        let gone =
            ImageSummary { digests: vec![], name: "old.sif".into(), count: 0, drift: false, ..image() };
        let list = ImageList { images: vec![image(), gone], next_cursor: None, as_of: NOW.into() };
        assert_eq!(
            both(&list, false),
            "\
NAME             DIGEST                  SIZE  ARCH   FORMAT                 COUNT  NODES
vnc_desktop.sif  blake3:000000000000  2.9 MiB  amd64  sif     drift,library      2  viz[001-002]
                 blake3:111111111111  2.9 MiB  amd64  sif     drift,mutable      1  viz003
old.sif                                                                          0  last known on viz004
---
warning: 1 name means different bytes on different nodes
hint: `sifleet drift` lists who holds what
"
        );
        assert_eq!(list.names(), ["vnc_desktop.sif", "old.sif"]);
        assert_eq!(list.csv().to_string().lines().last(), Some("old.sif,,,,,,,,0,,viz004"));
    }

    #[test]
    fn one_image_shows_where_it_is_and_why_elsewhere_not() {
        let mut told = ImageMetadata::bare(Format::Sif, 3_000_000);
        told.labels.insert("org.opencontainers.image.title".into(), "desk\u{1b}[31m".into());
        told.definition = Some("Bootstrap: docker\nFrom: debian\n".into());
        told.created = Some(0);
        let detail = ImageDetail {
            summary: image(),
            paths: vec![PathNodes {
                path: "/opt/vnc_desktop.sif".into(),
                count: 3,
                nodes: "viz[001-003]".into(),
            }],
            problems: vec![Reason {
                answer: NodeAnswer::Missing,
                code: "truncated".into(),
                message: "ends early".into(),
                count: 1,
                nodes: "viz005".into(),
            }],
            metadata: vec![Described { digest: usage('0', 0, "").digest, metadata: told, sidecar: None }],
            as_of: NOW.into(),
        };
        let shown = both(&detail, false);
        for line in [
            "vnc_desktop.sif: ready on 3 nodes\n",
            "/opt/vnc_desktop.sif      3  viz[001-003]\n",
            "truncated      1  viz005  ends early\n",
            "what blake3:000000000000 says of itself\n",
            "  created  1970-01-01 00:00 UTC\n",
            "  org.opencontainers.image.title  desk\\u{1b}[31m\n",
            "warning: drift: blake3:000000000000 on viz[001-002]; blake3:111111111111 on viz003\n",
            "warning: nodes that do not report last held it: viz004\n",
        ] {
            assert!(shown.contains(line), "{line}: {shown}");
        }
        assert!(!shown.contains("Bootstrap"));
        assert!(plain(&detail, true).contains("definition\n  Bootstrap: docker\n  From: debian\n"));
    }
}
