//! Holds the pages against the repository: what they name exists, and what exists is named.
//!
//! Understands as much of Markdown as our pages use: inline links, headings, code spans and fenced code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::none;
use crate::tree::{Source, all_paths, root, rust_sources, text_files};

/// Folders at the root whose paths ARCHITECTURE.md may name.
const TOP: [&str; 10] =
    ["common", "agent", "coordinator", "cli", "tests", "fuzz", "systemd", "packaging", "docs", ".ci"];

fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn pages() -> Vec<Source> {
    text_files().into_iter().filter(|file| file.path.ends_with(".md")).collect()
}

/// Gives the text without fenced code, line by line.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// Lists the paths that a page names in code spans, with `{a,b}` written out.
fn named_paths(text: &str) -> BTreeSet<String> {
    let spans = prose(text).flat_map(|(_, line)| line.split('`').skip(1).step_by(2));
    let in_tree =
        |span: &&str| TOP.iter().any(|top| span.strip_prefix(top).is_some_and(|rest| rest.starts_with('/')));
    spans.filter(in_tree).filter(|span| !span.contains(' ')).flat_map(write_out).collect()
}

fn write_out(span: &str) -> Vec<String> {
    match span.split_once('{').and_then(|(start, rest)| Some((start, rest.split_once('}')?))) {
        Some((start, (inside, end))) => inside.split(',').map(|part| format!("{start}{part}{end}")).collect(),
        None => vec![span.to_owned()],
    }
}

#[test]
fn every_path_in_the_architecture_exists() {
    let named = named_paths(&page("ARCHITECTURE.md"));
    assert!(named.len() > 20, "ARCHITECTURE.md names too few paths to be a map");
    let gone: Vec<_> = named.into_iter().filter(|path| !root().join(path).exists()).collect();
    none(&gone, "ARCHITECTURE.md names what does not exist: correct it");
}

#[test]
fn every_source_file_is_on_the_map() {
    let named = named_paths(&page("ARCHITECTURE.md"));
    // A whole `src` is no place: its files are what the map is about.
    let folders: Vec<&String> = named
        .iter()
        .filter(|path| path.ends_with('/') && !path.trim_end_matches('/').ends_with("src"))
        .collect();
    let missing: Vec<_> = rust_sources()
        .into_iter()
        .map(|source| source.path)
        .filter(|path| {
            !named.contains(path) && !folders.iter().any(|folder| path.starts_with(folder.as_str()))
        })
        .collect();
    none(&missing, "name these files, or their folders with a `/` behind, in ARCHITECTURE.md");
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    let pages = pages();
    for page in &pages {
        for (number, line) in prose(&page.text) {
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                if target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
                let path = if file.is_empty() { page.path.clone() } else { beside(&page.path, file) };
                let known = root().join(&path).exists();
                if !known || !anchor.is_empty() && !has_heading(&path, anchor) {
                    broken.push(format!("{}:{number}: {target}", page.path));
                }
            }
        }
    }
    assert!(pages.len() > 5, "the pages were not found");
    none(&broken, "these links lead nowhere: correct or remove them");
}

/// Resolves a link from the page it stands on.
fn beside(page: &str, file: &str) -> String {
    let mut path = PathBuf::from(page);
    path.pop();
    for part in Path::new(file).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::Normal(name) => path.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    path.to_string_lossy().into_owned()
}

fn has_heading(path: &str, anchor: &str) -> bool {
    let text = fs::read_to_string(root().join(path)).unwrap_or_default();
    prose(&text).filter(|(_, line)| line.starts_with('#')).any(|(_, line)| slug(line) == anchor)
}

/// Writes a heading as its anchor, the way code hosts do.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn every_decision_is_in_the_index_once() {
    let index = page("docs/decisions/README.md");
    let decisions: Vec<String> = all_paths()
        .iter()
        .filter_map(|path| path.strip_prefix("docs/decisions/"))
        .filter(|name| name.ends_with(".md") && *name != "README.md")
        .map(str::to_owned)
        .collect();
    let unlisted: Vec<_> =
        decisions.iter().filter(|name| !index.contains(&format!("({name})"))).cloned().collect();
    none(&unlisted, "add these decisions to docs/decisions/README.md");
    let numbers: BTreeSet<_> = decisions.iter().filter_map(|name| name.split('-').next()).collect();
    assert_eq!(
        numbers.len(),
        decisions.len(),
        "two decisions have one number: give the later one the next free number"
    );
}

#[test]
fn the_changelog_knows_the_version() {
    let manifest = page("Cargo.toml");
    let version = manifest.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    let version = version.expect("the workspace has a version");
    assert!(
        page("CHANGELOG.md").contains(&format!("## [{version}]")),
        "CHANGELOG.md has no section [{version}]"
    );
}

#[test]
fn both_licences_of_the_manifest_are_there() {
    assert!(page("Cargo.toml").contains("license = \"Apache-2.0 OR MIT\""));
    assert!(page("LICENSE-APACHE").contains("Apache License"));
    assert!(page("LICENSE-MIT").contains("Permission is hereby granted"));
}

#[test]
fn headings_become_anchors() {
    assert_eq!(slug("## What it's for (in short)"), "what-its-for-in-short");
    assert_eq!(beside("docs/a.md", "../README.md"), "README.md");
    assert_eq!(write_out("common/src/{a,b}.rs"), ["common/src/a.rs", "common/src/b.rs"]);
}
