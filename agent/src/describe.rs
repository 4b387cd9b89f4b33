//! Reads what an image says of itself, for people.
//!
//! Owns the second, unhurried look at an image that somebody asked about, and its sidecar `NAME.sif.json`, which
//! is display metadata only and never proof of anything. Reads a few regions of the file, never the whole.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use sifleet_common::image::{ImageMetadata, classify};
use sifleet_common::name::ImageName;
use sifleet_common::time::UnixMillis;
use tracing::debug;

use crate::scan::{Facts, Kind, Tree};

/// Longest sidecar shown, in bytes: they hold a screenful.
pub const MAX_SIDECAR: usize = 64 * 1024;

/// What an image says of itself, and the text of its sidecar.
pub type Description = (ImageMetadata, Option<String>);

/// A replica that holds the image asked about.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its root.
    pub root: PathBuf,
    /// Whether other nodes may get images from there.
    pub trusted: bool,
    /// Its name below the root.
    pub name: ImageName,
    /// Its length when it was hashed, in bytes.
    pub size: u64,
    /// Its modification time when it was hashed.
    pub modified: UnixMillis,
}

impl Candidate {
    /// Opens the file for reading, if it still is what it was.
    #[must_use]
    pub fn open(&self) -> Option<(Tree, File)> {
        let tree = Tree::open(&self.root).ok()?;
        let file = regular(&tree, self.name.as_str(), |facts| {
            facts.print.size == self.size && facts.print.modified() == self.modified
        })?;
        Some((tree, file))
    }
}

/// Describes the first of these replicas that is still what it was; `None` if none is.
#[must_use]
pub fn describe(candidates: &[Candidate]) -> Option<Description> {
    candidates.iter().find_map(|candidate| {
        let (tree, file) = candidate.open()?;
        let metadata = classify(&file)
            .inspect_err(|error| debug!(image = %candidate.name, %error, "cannot describe an image"))
            .ok()?;
        Some((metadata, sidecar(&tree, candidate.name.as_str())))
    })
}

/// Returns what the sidecar of an image is called.
pub(crate) fn sidecar_name(image: &str) -> String {
    format!("{}.sif.json", image.strip_suffix(".sif").unwrap_or(image))
}

/// Reads the sidecar of an image, if it is there and holds JSON.
fn sidecar(tree: &Tree, image: &str) -> Option<String> {
    let file = regular(tree, &sidecar_name(image), |facts| facts.print.size <= MAX_SIDECAR as u64)?;
    let mut text = String::new();
    file.take(MAX_SIDECAR as u64).read_to_string(&mut text).ok()?;
    serde_json::from_str::<serde::de::IgnoredAny>(&text).ok().map(|_| text)
}

fn regular(tree: &Tree, path: &str, fits: impl Fn(&Facts) -> bool) -> Option<File> {
    let file = tree.open_file(path.as_bytes()).ok()?;
    let facts = Facts::from(&rustix::fs::fstat(&file).ok()?);
    (facts.kind == Kind::File && fits(&facts)).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sidecar_bytes: &[u8], shown: bool) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.sif.json"), sidecar_bytes).unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        for image in ["a.sif", "a"] {
            assert_eq!(sidecar(&tree, image).is_some(), shown, "{image}");
        }
    }

    #[test]
    fn only_a_short_json_text_is_a_sidecar() {
        check(br#"{"title": "desktop"}"#, true);
        check(b"{", false);
        check(b"\"\xff\"", false);
        check(b"", false);
        let long = |len: usize| format!("\"{}\"", "x".repeat(len - 2)).into_bytes();
        check(&long(MAX_SIDECAR), true);
        check(&long(MAX_SIDECAR + 1), false);
    }

    #[test]
    fn a_link_is_no_sidecar() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("real"), b"{}").unwrap();
        std::os::unix::fs::symlink("real", folder.path().join("a.sif.json")).unwrap();
        assert_eq!(sidecar(&Tree::open(folder.path()).unwrap(), "a.sif"), None);
    }

    #[test]
    fn a_replica_that_changed_is_not_described() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = vec![0; 4096];
        bytes[..4].copy_from_slice(b"hsqs");
        bytes[28] = 4;
        bytes[40..48].copy_from_slice(&4096_u64.to_le_bytes());
        std::fs::write(folder.path().join("a.sif"), &bytes).unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let facts = Facts::from(&rustix::fs::fstat(tree.open_file(b"a.sif").unwrap()).unwrap());
        let candidate = Candidate {
            root: folder.path().to_owned(),
            trusted: true,
            name: "a.sif".parse().unwrap(),
            size: 4096,
            modified: facts.print.modified(),
        };
        let other = Candidate { size: 4095, ..candidate.clone() };
        assert!(describe(std::slice::from_ref(&other)).is_none());
        let (metadata, sidecar) = describe(&[other, candidate]).unwrap();
        assert_eq!((metadata.size, sidecar), (4096, None));
    }
}
