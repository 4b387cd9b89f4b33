//! The directory of the tree: what earlier exports wrote there, what lies there, and how it is changed.
//!
//! A file is written beside its place and renamed, so that a web server never serves half of one. What was written is kept in
//! a list of its own, for nothing else is ever removed. The list names what is to come before it is there, unfinished files
//! too, and what goes until it is gone, so an export that was broken off leaves nothing that the next one does not know. One at a time
//! writes. The directory itself may be a link; below it none is followed, for whoever may write there may be somebody else than we are.
//! Outside facts: open(2) on O_NOFOLLOW, flock(2): a directory can be locked, and whoever ends lets go.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, flock, mkdirat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

use super::plan::Now;
use super::tree::{README, Tree};

/// The list of what exports wrote; hidden, for web servers often leave such files out.
const LIST: &str = ".sifleet-export.json";
/// A file that is being written, in the folder it is for: that may be another file system.
const PART: &str = ".sifleet-export.part";
/// Longest list that is read, in bytes: 100,000 images take about 20 MB.
const MAX_LIST: u64 = 256 * 1024 * 1024;
/// Longest page of a repository that is read, in bytes.
const MAX_README: u64 = 64 * 1024;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Links are not followed, pipes and devices neither waited for nor woken.
const PLAIN: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// A directory that is, or is to be, a static registry, for this export alone.
pub(crate) struct Directory {
    path: PathBuf,
    /// Locked until it is closed.
    root: OwnedFd,
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
    /// Opens a directory, making it if need be; none while another export writes there.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, DiskError> {
        let failed = |step, source| DiskError { step, path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(|error| failed("make the directory", error))?;
        let root = rustix::fs::open(path, FOLDER, Mode::empty());
        let root = root.map_err(|errno| failed("open the directory", errno.into()))?;
        match flock(&root, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { path: path.to_owned(), root })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(failed("lock the directory", errno.into())),
        }
    }

    /// Reads which paths earlier exports wrote; none if there was none.
    ///
    /// # Errors
    /// When the list is there and cannot be read: then nobody knows what may be removed.
    pub(crate) fn earlier(&self) -> Result<BTreeSet<String>, DiskError> {
        let failed = |source| self.error("read", LIST, source);
        let text = match read(self.root.as_fd(), LIST, MAX_LIST) {
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
        let folder = self.folder(Path::new(repository)).ok()?;
        let text = read(folder.as_fd(), README, MAX_README).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    /// Looks how a path of the tree stands. An image of the right length is the right one: it was verified when it came.
    pub(crate) fn look(&self, tree: &Tree, path: &str) -> Now {
        let (above, name) = split(path);
        let folder = match self.folder(above) {
            Ok(folder) => folder,
            // Something that is no folder is on the way.
            Err(Errno::NOTDIR | Errno::LOOP) => return Now::Other,
            Err(_) => return Now::Absent,
        };
        let Ok(stat) = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) else { return Now::Absent };
        let length = u64::try_from(stat.st_size).unwrap_or_default();
        let same = match (tree.files.get(path), tree.blobs.get(path)) {
            (Some(bytes), _) => {
                let wanted = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                length == wanted && read(folder.as_fd(), name, wanted).is_ok_and(|there| &there == bytes)
            }
            (None, Some(blob)) => length == blob.size,
            (None, None) => false,
        };
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if same && is_file { Now::Same } else { Now::Other }
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
        let (above, name) = split(path);
        let folder =
            self.make_folder(above).map_err(|source| self.error("make the folder of", path, source))?;
        let mut file = make(folder.as_fd(), PART).map_err(|source| self.error("write", path, source))?;
        let filled = fill(&mut file).and_then(|()| {
            let named = file.sync_all().and_then(|()| Ok(renameat(&folder, PART, &folder, name)?));
            named.map_err(|source| self.error("write", path, source).into())
        });
        if filled.is_err() {
            // What went wrong is told; that the rest of it stays would help nobody.
            drop(unlink(&folder, PART));
        }
        filled
    }

    /// Removes a file, and the folders that are empty then; tells whether it was there.
    ///
    /// # Errors
    /// When it is still there.
    pub(crate) fn remove(&self, path: &str) -> Result<bool, DiskError> {
        let (above, name) = split(path);
        let removed = match self.folder(above) {
            Ok(folder) => unlink(folder, name),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        };
        let removed = removed.map_err(|source| self.error("remove", path, source))?;
        for folder in above.ancestors().filter(|folder| folder.components().count() > 0) {
            let (above, name) = (folder.parent().unwrap_or(folder), folder.file_name().unwrap_or_default());
            let emptied = self.folder(above).and_then(|above| unlinkat(above, name, AtFlags::REMOVEDIR));
            match emptied {
                Ok(()) | Err(Errno::NOENT) => {}
                // The first that is not empty ends it.
                Err(_) => break,
            }
        }
        Ok(removed)
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

    /// Opens a folder that is there.
    fn folder(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let mut here = openat(&self.root, ".", FOLDER, Mode::empty())?;
        for part in path {
            here = openat(&here, part, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
        }
        Ok(here)
    }

    /// Opens a folder, making what is missing.
    fn make_folder(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut here = openat(&self.root, ".", FOLDER, Mode::empty())?;
        for part in path {
            match mkdirat(&here, part, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            here = match openat(&here, part, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let what = format!("{} is no folder, and links are not followed", part.display());
                    return Err(io::Error::other(what));
                }
                opened => opened?,
            };
        }
        Ok(here)
    }

    fn error(&self, step: &'static str, path: &str, source: io::Error) -> DiskError {
        DiskError { step, path: self.path.join(path), source }
    }
}

/// Names the unfinished file that comes before a path.
pub(crate) fn part_of(path: &str) -> String {
    path.rsplit_once('/').map_or_else(|| PART.to_owned(), |(folder, _)| format!("{folder}/{PART}"))
}

/// Tells whether a path stays below the directory.
fn stays(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Splits a path into the folders and the file.
fn split(path: &str) -> (&Path, &str) {
    let (folders, file) = path.rsplit_once('/').unwrap_or(("", path));
    (Path::new(folders), file)
}

/// Makes a file that is nobody else's: what was left of its name goes.
fn make(folder: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    unlink(folder, name)?;
    let how = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | PLAIN;
    Ok(File::from(openat(folder, name, how, Mode::from_raw_mode(0o666))?))
}

/// Removes a file, and tells whether it was there.
fn unlink(folder: impl AsFd, name: &str) -> io::Result<bool> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Reads a file up to a limit; a longer one is an error, and so is what is no file.
fn read(folder: BorrowedFd<'_>, name: &str, limit: u64) -> io::Result<Vec<u8>> {
    let file = File::from(openat(folder, name, OFlags::RDONLY | PLAIN, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(io::Error::other(format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("sifleet-export-{name}-{}", std::process::id()))
    }

    fn directory(name: &str) -> Directory {
        let root = path(name);
        drop(fs::remove_dir_all(&root));
        Directory::open(&root).unwrap().unwrap()
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
        assert_eq!(fs::read(directory.path.join("a/b/index.html")).unwrap(), b"one");
        assert_eq!(fs::read_dir(directory.path.join("a/b")).unwrap().count(), 1);
        directory.remove("a/b/index.html").unwrap();
        directory.remove("a/b/index.html").unwrap();
        assert!(!directory.path.join("a/b").exists() && directory.path.join("a/c").exists());
        fs::remove_dir_all(&directory.path).unwrap();
    }

    #[test]
    fn the_list_of_earlier_exports_names_nothing_elsewhere() {
        let directory = directory("list");
        assert!(directory.earlier().unwrap().is_empty());
        let paths = BTreeSet::from(["a/tags/index.html".to_owned()]);
        directory.remember(&paths).unwrap();
        assert_eq!(directory.earlier().unwrap(), paths);
        for odd in ["[\"../../etc/passwd\"]", "[\"/etc/passwd\"]", "[\"\"]", "{}", "[", "[\"a/../../b\"]"] {
            fs::write(directory.path.join(LIST), odd).unwrap();
            assert!(directory.earlier().is_err(), "{odd}");
        }
        fs::remove_dir_all(&directory.path).unwrap();
    }

    #[test]
    fn nothing_is_written_read_or_removed_through_a_link_below_the_directory() {
        let (outside, directory) = (path("outside"), directory("links"));
        fs::create_dir_all(outside.join("tags")).unwrap();
        fs::write(outside.join("tags/index.html"), "theirs").unwrap();
        fs::write(outside.join(README), "secret").unwrap();
        symlink(&outside, directory.path.join("compute")).unwrap();
        fs::create_dir(directory.path.join("viz")).unwrap();
        symlink(outside.join(README), directory.path.join("viz").join(README)).unwrap();

        let refused = directory.write("compute/tags/index.html", b"ours").unwrap_err();
        assert!(refused.source.to_string().contains("links are not followed"), "{}", refused.source);
        assert!(directory.write("compute/new/index.html", b"ours").is_err());
        assert!(directory.remove("compute/tags/index.html").is_err());
        assert_eq!((directory.readme("compute"), directory.readme("viz")), (None, None));
        let mut tree = Tree::default();
        tree.files.insert("compute/tags/index.html".to_owned(), b"theirs".to_vec());
        assert_eq!(directory.look(&tree, "compute/tags/index.html"), Now::Other);
        assert_eq!(fs::read(outside.join("tags/index.html")).unwrap(), b"theirs");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 2);

        // Where an unfinished file is to lie, a link to one of ours is no way to it either.
        symlink(outside.join(README), directory.path.join("viz").join(PART)).unwrap();
        directory.write("viz/index.html", b"ours").unwrap();
        assert_eq!(fs::read(outside.join(README)).unwrap(), b"secret");
        for folder in [&outside, &directory.path] {
            fs::remove_dir_all(folder).unwrap();
        }
    }

    #[test]
    fn a_pipe_in_the_place_of_a_page_is_not_waited_for() {
        let directory = directory("pipe");
        fs::create_dir(directory.path.join("a")).unwrap();
        let mode = Mode::from_raw_mode(0o600);
        let folder = directory.folder(Path::new("a")).unwrap();
        rustix::fs::mknodat(&folder, README, FileType::Fifo, mode, 0).unwrap();
        assert_eq!(directory.readme("a"), None);
        fs::remove_dir_all(&directory.path).unwrap();
    }

    #[test]
    fn one_export_at_a_time_writes_to_a_directory_which_may_be_reached_by_a_link() {
        let (first, link) = (directory("lock"), path("lock-link"));
        drop(fs::remove_file(&link));
        symlink(&first.path, &link).unwrap();
        assert!(Directory::open(&link).unwrap().is_none());
        drop(first);
        let second = Directory::open(&link).unwrap().unwrap();
        second.write("index.html", b"one").unwrap();
        assert_eq!(fs::read(path("lock").join("index.html")).unwrap(), b"one");
        fs::remove_file(&link).unwrap();
        fs::remove_dir_all(path("lock")).unwrap();
    }
}
