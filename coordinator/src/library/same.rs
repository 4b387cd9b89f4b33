//! Looks whether the library holds certain bytes already, whatever their name.
//!
//! Only files of the same length are read, the one of the wished name first. What the state knows is not asked: it
//! may be seconds old, and a link to other bytes than meant would be a lie.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{AtFlags, Dir, FileType, OFlags};
use sifleet_common::beneath;
use sifleet_common::digest::Digest;

use super::expected::Found;
use super::place::Place;
use super::upload::Wish;

/// Most entries that are looked at: a library has hundreds.
const MAX_ENTRIES: usize = 100_000;
/// Deepest folder that is looked into.
const MAX_DEPTH: usize = 16;
/// Most files of the right length that are read.
const MAX_READ: usize = 8;

/// A file of the library with the wished bytes.
#[derive(Debug)]
pub(super) struct Same {
    /// Its path below the library.
    pub(super) name: String,
    /// Its device and inode.
    pub(super) identity: (i128, i128),
    /// Its digest.
    pub(super) digest: Digest,
}

/// Finds one.
pub(super) fn find(place: &Place, wish: &Wish) -> Option<Same> {
    let mut search = Search { left: MAX_ENTRIES, found: Vec::new(), size: wish.size };
    search.walk(place.root(), "", 0);
    let mut names = search.found;
    names.sort_by_key(|name| name != wish.name.as_str());
    for name in names.into_iter().take(MAX_READ) {
        // What cannot be read, or changes meanwhile, is not what was wished for.
        let Ok(file) = beneath::open_file(place.root(), &name, OFlags::RDONLY) else { continue };
        let Ok(before) = version(&file) else { continue };
        if let Ok(found) = Found::read(&file, wish.expected)
            && found.said == wish.expected
            && version(&file).is_ok_and(|after| after == before)
        {
            let [device, inode, ..] = before;
            return Some(Same { name, identity: (device, inode), digest: found.digest });
        }
    }
    None
}

/// Tells which file this is, whatever its names.
pub(super) fn identity(file: &File) -> std::io::Result<(i128, i128)> {
    version(file).map(|[device, inode, ..]| (device, inode))
}

/// Tells one state of a file from another.
fn version(file: &File) -> std::io::Result<[i128; 5]> {
    let facts = file.metadata()?;
    Ok([
        facts.dev().into(),
        facts.ino().into(),
        facts.size().into(),
        facts.ctime().into(),
        facts.ctime_nsec().into(),
    ])
}

struct Search {
    left: usize,
    found: Vec<String>,
    size: u64,
}

impl Search {
    /// Collects files of the right length; what cannot be looked into is passed over, for this only saves bytes.
    fn walk(&mut self, above: BorrowedFd<'_>, path: &str, depth: usize) {
        let Ok(entries) = Dir::read_from(above) else { return };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name.starts_with('.') {
                continue;
            }
            let Some(left) = self.left.checked_sub(1) else { return };
            self.left = left;
            let below = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            let Ok(stat) = rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind == FileType::Directory && depth < MAX_DEPTH {
                if let Ok(folder) = beneath::open_folder(above, name) {
                    self.walk(folder.as_fd(), &below, depth + 1);
                }
            } else if kind == FileType::RegularFile && u64::try_from(stat.st_size) == Ok(self.size) {
                self.found.push(below);
            }
        }
    }
}
