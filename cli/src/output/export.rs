//! How `sifleet export` looks.

use serde::Serialize;

use super::Render;
use super::text::{Block, Cell, Csv, Note, Table, Tone};
use crate::export::{LeftOut, Plan, Tree};

/// What an export did.
#[derive(Debug, Serialize)]
pub(crate) struct Exported {
    /// The directory.
    to: String,
    /// Where its images are.
    base_url: String,
    repositories: usize,
    images: usize,
    fetched: Vec<String>,
    written: Vec<String>,
    removed: Vec<String>,
    unchanged: usize,
    /// Artifacts of the registry that are no SIF.
    others: usize,
    left_out: Vec<LeftOut>,
}

impl Exported {
    /// Sums up what was done.
    pub(crate) fn new(to: String, base_url: String, tree: &Tree, plan: Plan, others: usize) -> Self {
        Self {
            to,
            base_url,
            repositories: tree.repositories,
            images: tree.images,
            fetched: plan.fetch,
            written: plan.write,
            removed: plan.remove,
            unchanged: plan.unchanged,
            others,
            left_out: tree.left_out.clone(),
        }
    }

    fn changes(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let all = [("fetched", &self.fetched), ("written", &self.written), ("removed", &self.removed)];
        all.into_iter().flat_map(|(word, paths)| paths.iter().map(move |path| (word, path)))
    }
}

impl Render for Exported {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        let counts = format!("{} images of {} repositories in {}", self.images, self.repositories, self.to);
        let (fetched, written) = (self.fetched.len(), self.written.len());
        let done = if self.changes().next().is_none() {
            "nothing to write: all is as it should be".to_owned()
        } else {
            let (removed, same) = (self.removed.len(), self.unchanged);
            format!(
                "{fetched} images fetched, {written} files written, {removed} removed, {same} as they should be"
            )
        };
        let line = |text: String| Block::Line(vec![Cell::new(text)]);
        let mut blocks = vec![line(counts), line(done)];
        if wide {
            let mut table = Table::new(&["CHANGE", "PATH"]);
            for (word, path) in self.changes() {
                table.row(vec![Cell::new(word).tone(Tone::Faint), Cell::new(path)]);
            }
            blocks.extend((!table.is_empty()).then_some(Block::Table(table)));
        }
        blocks
    }

    fn names(&self) -> Vec<String> {
        self.changes().map(|(_, path)| path.clone()).collect()
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(&["change", "path"]);
        for (word, path) in self.changes() {
            csv.row(vec![word.to_owned(), path.clone()]);
        }
        csv
    }

    fn notes(&self) -> Vec<Note> {
        let left_out =
            |one: &LeftOut| Note::Warning(format!("left out {}:{}: {}", one.repository, one.tag, one.reason));
        let mut notes: Vec<Note> = self.left_out.iter().map(left_out).collect();
        if self.others > 0 {
            notes.push(Note::Hint(format!(
                "{} artifacts of the registry are no SIF and not in the tree",
                self.others
            )));
        }
        if crate::client::stays_here(&self.base_url) {
            let text = format!(
                "images are said to be at {}, which only this machine reaches: see --base-url",
                self.base_url
            );
            notes.push(Note::Hint(text));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::both;
    use super::*;

    fn exported(written: &[&str]) -> Exported {
        Exported {
            to: "/srv".to_owned(),
            base_url: "http://127.0.0.1:7440".to_owned(),
            repositories: 1,
            images: 2,
            fetched: vec![],
            written: written.iter().map(|path| (*path).to_owned()).collect(),
            removed: vec![],
            unchanged: 3,
            others: 1,
            left_out: vec![],
        }
    }

    #[test]
    fn what_was_done_is_summed_up_and_what_was_not_is_said() {
        assert_eq!(
            both(&exported(&["index.html"]), true),
            "\
2 images of 1 repositories in /srv
0 images fetched, 1 files written, 0 removed, 3 as they should be
CHANGE   PATH
written  index.html
---
hint: 1 artifacts of the registry are no SIF and not in the tree
hint: images are said to be at http://127.0.0.1:7440, which only this machine reaches: see --base-url
"
        );
        assert!(both(&exported(&[]), false).contains("nothing to write"));
    }
}
