//! Looks whether the library holds certain bytes already, whatever their name.
//!
//! Only files of the same length are read, the one of the wished name first. What the state knows is not asked: it
//! may be seconds old, and a link to other bytes than meant would be a lie.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Dir, FileType, OFlags, fstat};
use sifleet_common::digest::Digest;

use super::LibraryError;
use super::place::{self, Place};
use super::upload::Wish;

/// Most entries that are looked at: a library has hundreds.
const MAX_ENTRIES: usize = 100_000;
/// Deepest folder that is looked into.
const MAX_DEPTH: usize = 16;
/// Most files of the right length that are read.
const MAX_READ: usize = 8;
/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// A file of the library with the wished bytes.
#[derive(Debug)]
pub(super) struct Same {
    /// Its path below the library.
    pub(super) name: String,
    /// Its directory.
    pub(super) above: OwnedFd,
    /// Its name there.
    pub(super) file_name: String,
    /// Its device and inode.
    pub(super) identity: (u64, u64),
}

/// Finds one.
pub(super) fn find(place: &Place, wish: &Wish) -> Result<Option<Same>, LibraryError> {
    let mut search = Search { left: MAX_ENTRIES, found: Vec::new(), size: wish.size };
    let root = place.root().try_clone_to_owned().map_err(place.failed_io("open the directory"))?;
    search.walk(root, "", 0);
    let mut files = search.found;
    files.sort_by_key(|same| same.name != wish.name.as_str());
    for same in files.into_iter().take(MAX_READ) {
        let Ok(file) = place::open_existing(same.above.as_fd(), &same.file_name, OFlags::RDONLY) else { continue };
        let before = fstat(&file).ok().map(version);
        // What cannot be read, or changes meanwhile, is not what was wished for.
        let fits = digest(&file).is_ok_and(|found| found == wish.digest);
        let after = fstat(&file).ok().map(version);
        if fits && before.is_some() && before == after {
            return Ok(Some(same));
        }
    }
    Ok(None)
}

/// Hashes a file from its beginning.
pub(super) fn digest(mut file: &File) -> std::io::Result<Digest> {
    use std::io::Seek as _;
    file.rewind()?;
    let (mut hasher, mut piece) = (blake3::Hasher::new(), vec![0; PIECE]);
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(Digest::from(hasher.finalize())),
            Ok(read) => hasher.update(piece.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
    }
}

/// Tells one state of a file from another.
fn version(stat: rustix::fs::Stat) -> (u64, u64, i64, i64, u64) {
    let nanoseconds = u64::try_from(stat.st_ctime_nsec).unwrap_or_default();
    (stat.st_dev, stat.st_ino, stat.st_size, stat.st_ctime, nanoseconds)
}

struct Search {
    left: usize,
    found: Vec<Same>,
    size: u64,
}

impl Search {
    /// Collects files of the right length; what cannot be looked into is passed over, for this only saves bytes.
    fn walk(&mut self, above: OwnedFd, path: &str, depth: usize) {
        let Ok(entries) = Dir::read_from(&above) else { return };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name.starts_with('.') {
                continue;
            }
            let Some(left) = self.left.checked_sub(1) else { return };
            self.left = left;
            let below = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            let Ok(stat) = rustix::fs::statat(&above, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) else { continue };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory if depth < MAX_DEPTH => {
                    if let Ok(folder) = place::open_folder(above.as_fd(), name) {
                        self.walk(folder, &below, depth + 1);
                    }
                }
                FileType::RegularFile if u64::try_from(stat.st_size) == Ok(self.size) => {
                    let Ok(folder) = above.try_clone() else { continue };
                    let identity = (stat.st_dev, stat.st_ino);
                    self.found.push(Same { name: below, above: folder, file_name: name.to_owned(), identity });
                }
                _ => {}
            }
        }
    }
}
