//! Reads the repository's files for the rules.
//!
//! Finds files by walking, not by asking git, so that a file counts from the moment it is written. Understands as
//! much of Rust as the rules need: which lines are comments, and where a file's own tests begin.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold nothing a person wrote.
const SKIPPED: [&str; 4] = ["target", "golden", "corpus", "artifacts"];

/// A file of the repository.
pub(crate) struct Source {
    /// From the root of the repository, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// Tells whether the file is one of these places: a file, a folder, or `x` for both `x.rs` and `x/`.
    pub(crate) fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| {
            self.path
                .strip_prefix(place)
                .is_some_and(|rest| rest.is_empty() || rest == ".rs" || rest.starts_with('/'))
        })
    }

    /// Gives the lines that are compiled into the program, numbered, without comments and the file's own tests.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/") && !self.path.starts_with("tests/");
        let lines = if tests { "" } else { self.text.as_str() };
        (1..)
            .zip(lines.lines())
            .take_while(|(_, line)| *line != "#[cfg(test)]")
            .map(|(number, line)| (number, without_comment(line)))
    }
}

/// Cuts the comment off a line. `//` inside a string cuts too, which only makes the rules look at less.
fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Tells whether a line holds a word, not merely as a part of a longer one.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    let ends_free = word.ends_with(part_of_word);
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let behind = line.get(at + word.len()..).and_then(|text| text.chars().next());
        !(before.is_some_and(part_of_word) || ends_free && behind.is_some_and(part_of_word))
    })
}

/// Returns the root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Reads every Rust file.
pub(crate) fn rust_sources() -> Vec<Source> {
    let sources = files(&["rs"]);
    assert!(sources.len() > 50, "the Rust files were not found below {}", root().display());
    sources
}

/// Reads every file that people read besides Rust.
pub(crate) fn text_files() -> Vec<Source> {
    files(&["md", "toml", "sh", "service", "conf", "yml", "yaml"])
}

/// Lists every file and folder, from the root of the repository.
pub(crate) fn all_paths() -> Vec<String> {
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found.sort();
    found
}

fn files(endings: &[&str]) -> Vec<Source> {
    let wanted = |path: &String| path.rsplit_once('.').is_some_and(|(_, ending)| endings.contains(&ending));
    let read = |path: String| {
        let text = fs::read_to_string(root().join(&path)).ok()?;
        Some(Source { path, text })
    };
    // A file that vanishes meanwhile belongs to a test that runs at the same time.
    all_paths().into_iter().filter(wanted).filter_map(read).collect()
}

fn walk(folder: &Path, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let hidden = name.starts_with('.') && name != ".ci" && name != ".cargo";
        if hidden || SKIPPED.contains(&name.as_str()) {
            continue;
        }
        if let Some(relative) = path.strip_prefix(root()).ok().and_then(Path::to_str) {
            found.push(relative.to_owned());
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, found);
        }
    }
}

/// Lists what a member's manifest depends on for whatever purpose: the name, and what it says of it.
pub(crate) fn cargo_dependencies(member: &str) -> Vec<(String, String)> {
    let path = root().join(member).join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut listed = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(table) = line.strip_prefix('[') {
            listed = table.contains("dependencies");
        } else if let Some((name, rest)) = line.split_once(['.', ' ', '=']).filter(|_| listed) {
            found.push((name.trim_matches('"').to_owned(), rest.to_owned()));
        }
    }
    found
}

#[test]
fn words_are_told_from_parts_of_words() {
    let check =
        |line: &str, word: &str, expected| assert_eq!(has_word(line, word), expected, "{word} in {line}");
    check("use tokio::sync;", "tokio", true);
    check("tokio_util::sync", "tokio", false);
    check("asynchronous", "async", false);
    check("async fn x()", "async", true);
    check("an_unsafe_name", "unsafe", false);
    check("x.call!(1)", "call!(", true);
}

#[test]
fn comments_and_tests_are_no_code() {
    let text = "//! tokio\nuse a; // tokio\n/// tokio\nfn b() {}\n#[cfg(test)]\nmod tests { use tokio; }\n";
    let source = Source { path: "agent/src/a.rs".to_owned(), text: text.to_owned() };
    assert!(source.code().all(|(_, line)| !has_word(line, "tokio")));
    assert_eq!(source.code().count(), 4);
}
