//! How images look that came into the library.

use sifleet_common::api::imports::{ImportBody, ImportState};
use sifleet_common::api::library::{Upload, UploadState};

use super::text::{Block, Cell, Csv, Note, Tone};
use super::{Render, human};

impl Render for ImportBody {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        let mut line = vec![Cell::new(&self.name).tone(Tone::Strong), Cell::new(" ")];
        let (word, tone) = match self.state {
            ImportState::Done => ("is in the library", Tone::Good),
            ImportState::Failed => ("was not brought in", Tone::Bad),
            ImportState::Waiting
            | ImportState::Resolving
            | ImportState::Fetching
            | ImportState::Verifying => (self.state.name(), Tone::Plain),
        };
        line.push(Cell::new(word).tone(tone));
        if let Some(digest) = &self.digest {
            line.push(Cell::new(format!(" ({})", human::digest(digest, wide))));
        }
        vec![Block::Line(line)]
    }

    fn names(&self) -> Vec<String> {
        vec![self.name.clone()]
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(&["id", "source", "name", "state", "size", "digest", "sha256", "code"]);
        csv.row(vec![
            self.id.clone(),
            self.source.clone(),
            self.name.clone(),
            self.state.name().to_owned(),
            self.size.map(|size| size.to_string()).unwrap_or_default(),
            self.digest.clone().unwrap_or_default(),
            self.sha256.clone().unwrap_or_default(),
            self.code.clone().unwrap_or_default(),
        ]);
        csv
    }

    fn notes(&self) -> Vec<Note> {
        self.detail.iter().map(|detail| Note::Warning(detail.clone())).collect()
    }
}

impl Render for Upload {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        let word = match self.state {
            UploadState::Present => " was in the library before",
            UploadState::Deduplicated => " got another name in the library",
            UploadState::Open => " is being sent",
            UploadState::Published => " is in the library",
        };
        let digest = format!(" ({})", human::digest(&self.digest, wide));
        vec![Block::Line(vec![
            Cell::new(&self.name).tone(Tone::Strong),
            Cell::new(word).tone(Tone::Good),
            Cell::new(digest),
        ])]
    }

    fn names(&self) -> Vec<String> {
        vec![self.name.clone()]
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(&["name", "size", "digest"]);
        csv.row(vec![self.name.clone(), self.size.to_string(), self.digest.clone()]);
        csv
    }
}
