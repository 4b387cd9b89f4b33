//! The directory of the tree: what earlier exports wrote there, what lies there, and how it is changed.
//!
//! A file is written beside its place and renamed, so that a web server never serves half of one. What was written is kept in
//! a list of its own, for nothing else is ever removed. The list names what is to come before it is there, and what goes
//! until it is gone, so an export that was broken off leaves nothing that the next one does not know.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use super::plan::Now;
use super::tree::{README, Tree};

/// The list of what exports wrote; hidden, for web servers often leave such files out.
const LIST: &str = ".sifleet-export.json";
/// Longest list that is read, in bytes: 100,000 images take about 20 MB.
const MAX_LIST: u64 = 256 * 1024 * 1024;
/// Longest page of a repository that is read, in bytes.
const MAX_README: u64 = 64 * 1024;

/// A directory that is, or is to be, a static registry.
pub(crate) struct Directory {
    root: PathBuf,
}

/// What went wrong, and where.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {}", path.display())]
pub(crate) struct DiskError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Directory {
    /// Means a directory, which need not exist.
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Reads which paths earlier exports wrote; none if there was none.
    ///
    /// # Errors
    /// When the list is there and cannot be read: then nobody knows what may be removed.
    pub(crate) fn earlier(&self) -> Result<BTreeSet<String>, DiskError> {
        let path = self.root.join(LIST);
        let failed = |source| DiskError { step: "read", path: path.clone(), source };
        let text = match read(&path, MAX_LIST) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            text => text.map_err(failed)?,
        };
        let paths: BTreeSet<String> =
            serde_json::from_slice(&text).map_err(|error| failed(io::Error::other(error)))?;
        match paths.iter().find(|path| !stays(path)) {
            Some(odd) => Err(failed(io::Error::other(format!("it names {odd:?}")))),
            None => Ok(paths),
        }
    }

    /// Reads what people wrote of a repository.
    pub(crate) fn readme(&self, repository: &str) -> Option<String> {
        let text = read(&self.root.join(repository).join(README), MAX_README).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    /// Looks how a path of the tree stands. An image of the right length is the right one: it was verified when it came.
    pub(crate) fn look(&self, tree: &Tree, path: &str) -> Now {
        let place = self.root.join(path);
        let Ok(metadata) = fs::symlink_metadata(&place) else { return Now::Absent };
        let same = match (tree.files.get(path), tree.blobs.get(path)) {
            (Some(bytes), _) => {
                let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                metadata.len() == length && read(&place, length).is_ok_and(|there| &there == bytes)
            }
            (None, Some(blob)) => metadata.len() == blob.size,
            (None, None) => false,
        };
        if same && metadata.is_file() { Now::Same } else { Now::Other }
    }

    /// Writes one file in place of whatever is there.
    ///
    /// # Errors
    /// Nothing is under the name then that was not there before.
    pub(crate) fn write(&self, path: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.fill::<DiskError>(path, |file| {
            file.write_all(bytes).map_err(|source| self.error("write", path, source))
        })
    }

    /// Has somebody fill a file, which gets its name once all of it is there.
    ///
    /// # Errors
    /// What whoever fills it says; as [`Directory::write`].
    pub(crate) fn fill<E: From<DiskError>>(
        &self,
        path: &str,
        fill: impl FnOnce(&mut File) -> Result<(), E>,
    ) -> Result<(), E> {
        let place = self.root.join(path);
        let folder = place.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(|source| self.error("make the folder of", path, source))?;
        let beside = folder.join(format!(".sifleet-export-{}.part", std::process::id()));
        let mut file = File::create(&beside).map_err(|source| self.error("write", path, source))?;
        let filled = fill(&mut file).and_then(|()| {
            let named = file.sync_all().and_then(|()| fs::rename(&beside, &place));
            named.map_err(|source| self.error("write", path, source).into())
        });
        if filled.is_err() {
            // What went wrong is told; that the rest of it stays would help nobody.
            drop(fs::remove_file(&beside));
        }
        filled
    }

    /// Removes a file, and the folders that are empty then.
    ///
    /// # Errors
    /// When it is still there.
    pub(crate) fn remove(&self, path: &str) -> Result<(), DiskError> {
        match fs::remove_file(self.root.join(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(self.error("remove", path, error));
            }
            Ok(()) | Err(_) => {}
        }
        let mut folders =
            Path::new(path).ancestors().skip(1).filter(|folder| folder.components().count() > 0);
        // The first that is not empty ends it.
        while folders.next().is_some_and(|folder| fs::remove_dir(self.root.join(folder)).is_ok()) {}
        Ok(())
    }

    /// Remembers what exports wrote.
    ///
    /// # Errors
    /// As [`Directory::write`].
    pub(crate) fn remember(&self, paths: &BTreeSet<String>) -> Result<(), DiskError> {
        let text = serde_json::to_vec_pretty(paths)
            .map_err(|error| self.error("write", LIST, io::Error::other(error)))?;
        self.write(LIST, &text)
    }

    fn error(&self, step: &'static str, path: &str, source: io::Error) -> DiskError {
        DiskError { step, path: self.root.join(path), source }
    }
}

/// Tells whether a path stays below the directory.
fn stays(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Reads a file up to a limit; a longer one is an error.
fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(io::Error::other(format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> Directory {
        let root = std::env::temp_dir().join(format!("sifleet-export-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&root));
        Directory::new(&root)
    }

    #[test]
    fn a_file_is_whole_or_not_there_and_goes_with_its_empty_folders() {
        let directory = directory("whole");
        directory.write("a/b/index.html", b"one").unwrap();
        directory.write("a/c/index.html", b"two").unwrap();
        let failed: Result<(), DiskError> = directory.fill("a/b/index.html", |file| {
            file.write_all(b"half").unwrap();
            Err(DiskError { step: "fetch", path: PathBuf::new(), source: io::Error::other("cut off") })
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(directory.root.join("a/b/index.html")).unwrap(), b"one");
        assert_eq!(fs::read_dir(directory.root.join("a/b")).unwrap().count(), 1);
        directory.remove("a/b/index.html").unwrap();
        directory.remove("a/b/index.html").unwrap();
        assert!(!directory.root.join("a/b").exists() && directory.root.join("a/c").exists());
        fs::remove_dir_all(&directory.root).unwrap();
    }

    #[test]
    fn the_list_of_earlier_exports_names_nothing_elsewhere() {
        let directory = directory("list");
        assert!(directory.earlier().unwrap().is_empty());
        let paths = BTreeSet::from(["a/tags/index.html".to_owned()]);
        directory.remember(&paths).unwrap();
        assert_eq!(directory.earlier().unwrap(), paths);
        for odd in ["[\"../../etc/passwd\"]", "[\"/etc/passwd\"]", "[\"\"]", "{}", "[", "[\"a/../../b\"]"] {
            fs::write(directory.root.join(LIST), odd).unwrap();
            assert!(directory.earlier().is_err(), "{odd}");
        }
        fs::remove_dir_all(&directory.root).unwrap();
    }
}
