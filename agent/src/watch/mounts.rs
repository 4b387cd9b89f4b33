//! Which file system holds a root, when that changes, and whether an empty root is one at all.
//!
//! Owns reading of `/proc/self/mountinfo` and the verdict on a root whose file system is gone; what follows from it
//! is for [`super::root`].
//! Outside facts: proc_pid_mountinfo(5) of Linux man-pages 6.9: polling for POLLPRI tells of any change.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::troubles::causes;
use crate::memory::Memory;
use crate::scan::{RootError, Tree};

const MOUNTINFO: &str = "/proc/self/mountinfo";
/// Mounts read at most; a node with more is told so by its admin's other tools.
const MAX_MOUNTS: usize = 100_000;

/// A mounted file system, as far as it matters to a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Differs whenever something is mounted anew.
    id: String,
    /// Where it is mounted.
    point: PathBuf,
}

/// Tells when mounts in, on or above one root changed.
#[derive(Debug)]
pub(super) struct Mounts {
    path: PathBuf,
    /// The path with links resolved, as the table has it; the last known while the root is away.
    root: PathBuf,
    changes: Option<File>,
    known: Vec<Mount>,
}

impl Mounts {
    /// Starts to watch the mounts of a root.
    #[must_use]
    pub(super) fn of(root: &Path) -> Self {
        let (path, changes) = (root.to_owned(), File::open(MOUNTINFO).ok());
        let mut mounts = Self { root: path.clone(), path, changes, known: Vec::new() };
        mounts.known = mounts.read();
        mounts
    }

    /// Tells whether a mount that matters changed since the last call. Costs one system call if none did.
    pub(super) fn changed(&mut self) -> bool {
        let Some(file) = &self.changes else { return false };
        let mut fds = [PollFd::new(file, PollFlags::PRI)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        if !poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0) {
            return false;
        }
        let current = self.read();
        let changed = current != self.known;
        self.known = current;
        changed
    }

    /// Says why a root is not to be believed: it cannot be listed, or is empty because its file system is gone and
    /// left the mount point behind.
    pub(super) fn hollow(&mut self, tree: &Tree, memory: &Memory) -> Option<String> {
        self.known = self.read();
        let path = &self.path;
        let is_empty = match tree.is_empty() {
            Ok(is_empty) => is_empty,
            Err(source) => return Some(causes(&RootError::Unreadable { path: path.clone(), source })),
        };
        if !is_empty {
            if let Some(point) = self.point() {
                memory.set_mount_point(path, point);
            }
            return None;
        }
        let before = memory.mount_point(path).filter(|before| self.is_missing(before))?;
        Some(format!(
            "the file system at {} is not mounted, and {} is empty without it: mount it; if that is to stay so, \
             put any file there",
            before.display(),
            path.display()
        ))
    }

    /// Tells whether a file system that would hold the root, and is not mounted, was mounted there.
    fn is_missing(&self, point: &Path) -> bool {
        self.root.starts_with(point) && !self.known.iter().any(|mount| mount.point == point)
    }

    /// Returns where the file system that holds the root is mounted.
    fn point(&self) -> Option<&Path> {
        let above = self.known.iter().filter(|mount| self.root.starts_with(&mount.point));
        above.max_by_key(|mount| mount.point.as_os_str().len()).map(|mount| mount.point.as_path())
    }

    fn read(&mut self) -> Vec<Mount> {
        if let Ok(real) = std::fs::canonicalize(&self.path) {
            self.root = real;
        }
        match File::open(MOUNTINFO) {
            Ok(file) => relevant(BufReader::new(file), &self.root),
            Err(_no_proc) => Vec::new(),
        }
    }
}

/// Lists the mounts in, on and above a root, in the order of the table.
fn relevant(table: impl BufRead, root: &Path) -> Vec<Mount> {
    let lines = table.split(b'\n').map_while(Result::ok).take(MAX_MOUNTS);
    let mounts = lines.filter_map(|line| parse(&line));
    mounts.filter(|mount| root.starts_with(&mount.point) || mount.point.starts_with(root)).collect()
}

fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = String::from_utf8(fields.next()?.to_vec()).ok()?;
    let point = fields.nth(3)?;
    Some(Mount { id, point: PathBuf::from(OsString::from_vec(unescape(point))) })
}

/// Undoes the `\040` with which the kernel writes blanks.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, others)) = rest.split_first() {
        let octal = others.get(..3).filter(|_| *first == b'\\');
        let byte = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match byte.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = others.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
        30 22 8:2 / /scratch rw shared:1 - xfs /dev/sdb rw\n\
        31 30 0:40 / /scratch/apptainer/a\\040b rw - tmpfs none rw\n\
        32 22 0:41 / /scratchy rw - tmpfs none rw\n\
        short\n";

    #[test]
    fn only_mounts_in_on_and_above_the_root_matter() {
        let mounts = relevant(TABLE, Path::new("/scratch/apptainer"));
        let points: Vec<_> = mounts.iter().map(|mount| mount.point.to_str().unwrap()).collect();
        assert_eq!(points, ["/", "/scratch", "/scratch/apptainer/a b"]);
        assert_eq!(mounts[1].id, "30");
    }

    #[test]
    fn the_root_lies_in_the_deepest_mount_above_it() {
        let root = PathBuf::from("/scratch/apptainer");
        let mounts = Mounts { known: relevant(TABLE, &root), path: root.clone(), root, changes: None };
        assert_eq!(mounts.point(), Some(Path::new("/scratch")));
    }

    #[test]
    fn the_table_of_this_machine_has_a_root() {
        assert_eq!(Mounts::of(Path::new("/")).point(), Some(Path::new("/")));
    }
}
