//! Partitions from a TOML file: `[partition]`, then `viz = "viz[001-004]"`, one line a partition.
//!
//! The file is looked at every two seconds and read when it changed; on SIGHUP it is read in any case. A mistake
//! anywhere makes the whole file count for nothing, and what it said before is kept: half a list would call nodes
//! missing. Outside facts: TOML 1.1.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::{Draft, EntryError, MAX_ANSWER, Members};
use crate::reread::{Stamp, read_if_changed};

/// How often the file is looked at: a stat costs microseconds, and an admin waits for the effect of an edit.
pub const POLL: Duration = Duration::from_secs(2);
/// The one table of the file.
const TABLE: &str = "partition";

/// Says why the file says nothing.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Longer than any list of partitions.
    #[error("{} is longer than {MAX_ANSWER} bytes; is it a list of partitions?", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// Not what a list of partitions looks like.
    #[error("{}:{line}: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// An entry that cannot be used.
    #[error("{}:{line}: the entry cannot be used", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        source: EntryError,
    },
}

/// The file and how it looked when it was read last.
#[derive(Debug)]
pub struct PartitionFile {
    path: PathBuf,
    seen: Option<Stamp>,
}

impl PartitionFile {
    /// Names the file; nothing is read yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, seen: None }
    }

    /// Has the file read next time, whether it changed or not.
    pub fn forget(&mut self) {
        self.seen = None;
    }

    /// Reads the file if it changed since it was read last; a file that cannot be read is tried every time.
    pub async fn read(&mut self) -> Option<Result<Members, FileError>> {
        let (path, seen) = (self.path.clone(), self.seen);
        let path_again = self.path.clone();
        let read = tokio::task::spawn_blocking(move || read_if_changed(&path, seen, MAX_ANSWER)).await;
        let failed = |source| FileError::Read { path: path_again.clone(), source };
        let (text, stamp) = match read.map_err(io::Error::from).and_then(|read| read) {
            Ok(Some(read)) => read,
            Ok(None) => return None,
            Err(source) => {
                self.seen = None;
                return Some(Err(failed(source)));
            }
        };
        self.seen = Some(stamp);
        Some(parse(&self.path, text))
    }
}

/// Reads the text of a file; `path` is for errors only.
///
/// # Errors
/// [`FileError`] for the first thing that is wrong.
pub fn parse(path: &Path, bytes: Vec<u8>) -> Result<Members, FileError> {
    if bytes.len() as u64 > MAX_ANSWER {
        return Err(FileError::TooLong { path: path.to_owned() });
    }
    let wrong = |line, problem: String| FileError::Syntax { path: path.to_owned(), line, problem };
    let text = String::from_utf8(bytes).map_err(|not_text| {
        let valid = not_text.utf8_error().valid_up_to();
        wrong(line(not_text.as_bytes(), valid), "this is not UTF-8 text".to_owned())
    })?;
    let at = |position: usize| line(text.as_bytes(), position);
    let document = DeTable::parse(&text)
        .map_err(|error| wrong(error.span().map_or(1, |span| at(span.start)), error.message().to_owned()))?;
    let mut draft = Draft::default();
    let misplaced = |key: &Spanned<DeString<'_>>| {
        let problem = format!("{:?} is not known; partitions stand below [{TABLE}]", key.get_ref());
        wrong(at(key.span().start), problem)
    };
    for (key, value) in document.get_ref() {
        let DeValue::Table(partitions) = value.get_ref() else { return Err(misplaced(key)) };
        if key.get_ref() != TABLE {
            return Err(misplaced(key));
        }
        for (name, nodes) in partitions {
            let line = at(name.span().start);
            add(&mut draft, name, nodes).map_err(|problem| match problem {
                Problem::Shape(text) => wrong(line, text),
                Problem::Entry(source) => FileError::Entry { path: path.to_owned(), line, source },
            })?;
        }
    }
    Ok(draft.members)
}

enum Problem {
    Shape(String),
    Entry(EntryError),
}

fn add(draft: &mut Draft, name: &Spanned<DeString<'_>>, nodes: &Spanned<DeValue<'_>>) -> Result<(), Problem> {
    let name = name.get_ref();
    let Some(nodes) = nodes.get_ref().as_str() else {
        let shape = format!("write the nodes of {name} as one text, such as {name} = \"n[001-128],fat01\"");
        return Err(Problem::Shape(shape));
    };
    draft.add(name, nodes, false).map_err(Problem::Entry)
}

/// Counts the line of a byte, from 1.
fn line(text: &[u8], position: usize) -> usize {
    1 + text.iter().take(position).filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partitions::reason;
    use sifleet_common::nodeset::NodeSet;

    fn check(text: impl AsRef<[u8]>, expected: &str) {
        let shown = match parse(Path::new("partitions.toml"), text.as_ref().to_vec()) {
            Ok(members) => members
                .into_iter()
                .map(|(name, nodes)| format!("{name}={}", nodes.into_iter().collect::<NodeSet>()))
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => reason(&error),
        };
        let fits = expected.strip_suffix('…').is_some_and(|start| shown.starts_with(start));
        assert!(fits || shown == expected, "{shown}");
    }

    #[test]
    fn each_line_is_a_partition_and_a_node_may_be_in_several() {
        check(
            "[partition]\nviz = \"viz[001-002]\"\nall = 'viz001,n[1-3]'\nempty = \"\"\n",
            "all=n[1-3],viz001 empty= viz=viz[001-002]",
        );
        check("", "");
        check("partition.\"gpu+a@b\" = \"g1\"", "gpu+a@b=g1");
    }

    #[test]
    fn mistakes_are_shown_with_file_and_line() {
        check(
            "[partition]\nviz = \"viz[001-\"",
            "partitions.toml:2: the entry cannot be used: the nodes of partition viz cannot be read: the brackets…",
        );
        check(
            "[partition]\n\"not a name\" = \"a\"",
            "partitions.toml:2: the entry cannot be used: not the name of a partition…",
        );
        check("[partition]\na = \"b\"\na = \"c\"", "partitions.toml:3: duplicate key");
        check(
            "[partition]\na = [\"b\"]",
            "partitions.toml:2: write the nodes of a as one text, such as a = \"n[001-128],fat01\"",
        );
        check(
            "[partitions]\na = \"b\"",
            "partitions.toml:1: \"partitions\" is not known; partitions stand below [partition]",
        );
        check(
            "[partition]\n\na = b",
            "partitions.toml:3: string values must be quoted, expected literal string",
        );
        check(b"# one\n# \xff", "partitions.toml:2: this is not UTF-8 text");
        check(
            vec![b'#'; 16 * 1024 * 1024 + 1],
            "partitions.toml is longer than 16777216 bytes; is it a list of partitions?",
        );
    }

    #[tokio::test]
    async fn the_file_is_read_again_only_when_it_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("partitions.toml");
        let mut file = PartitionFile::new(path.clone());
        assert!(matches!(file.read().await, Some(Err(FileError::Read { .. }))));
        std::fs::write(&path, "[partition]\na = \"b\"").unwrap();
        assert_eq!(file.read().await.unwrap().unwrap().len(), 1);
        assert!(file.read().await.is_none());
        std::fs::write(&path, "[partition]\na = \"b[\"").unwrap();
        assert!(file.read().await.unwrap().is_err());
        assert!(file.read().await.is_none());
        let aside = dir.path().join("aside");
        std::fs::write(&aside, "[partition]\na = \"c\"").unwrap();
        std::fs::rename(&aside, &path).unwrap();
        assert_eq!(file.read().await.unwrap().unwrap().len(), 1);
        file.forget();
        assert!(file.read().await.is_some());
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(file.read().await, Some(Err(FileError::Read { .. }))));
        assert!(file.read().await.is_some());
    }
}
