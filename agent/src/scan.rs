//! Looks at what lies below a root, without opening anything but directories.
//!
//! Owns which entries count and what can be said of one from its name, kind, mode and size alone. It does not
//! read files (see [`crate::hash`]) and keeps nothing: [`crate::watch`] compares what it says with what was known.
//! Everything below a root belongs to strangers: paths are resolved beneath the root, links are never followed.
//! Outside facts: openat2(2), statx(2), and of apptainer its sandbox marker `.singularity.d` and its
//! `tmp-copy-*` files (pull).

mod error;
mod remote;
mod tree;

pub use error::{RootError, Trouble};
pub(crate) use remote::holds as is_remote;
pub(crate) use tree::show;
pub use tree::{Found, MAX_DEPTH, Parent, Tree, Visitor, Walk};

use std::time::Duration;

use rustix::fs::{FileType, Stat};
use sifleet_common::inventory::{Unusable, UnusableCode};
use sifleet_common::time::UnixMillis;

/// Files up to this size are read however few blocks they have: hashing 64 MiB of holes costs 20 ms.
const SPARSE_FROM: u64 = 64 * 1024 * 1024;
/// A larger file is sparse if less than an eighth of it is stored. Images are compressed and have no holes;
/// a file that a hierarchical storage manager has moved to tape stores next to nothing and must not be recalled.
const SPARSE_SHARE: u64 = 8;

/// Identifies a version of a file's bytes as well as stat can: whoever changes them changes one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Print {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Modification time in nanoseconds since 1970; anybody who may write can set it.
    pub mtime: i128,
    /// Change time in nanoseconds since 1970; only the kernel sets it.
    pub ctime: i128,
}

impl Print {
    /// Returns the modification time as the inventory shows it.
    #[must_use]
    pub fn modified(&self) -> UnixMillis {
        UnixMillis(i64::try_from(self.mtime.div_euclid(1_000_000)).unwrap_or(i64::MAX))
    }

    /// Tells whether the last change was at least `quiet` ago by the wall clock.
    ///
    /// A change time in the future, from a clock that was set back or a server whose clock is ahead, says
    /// nothing, so the answer is no.
    #[must_use]
    pub fn is_older_than(&self, quiet: Duration, wall: UnixMillis) -> bool {
        let age = i128::from(wall.0) * 1_000_000 - self.ctime;
        u128::try_from(age).is_ok_and(|age| age >= quiet.as_nanos())
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Anything else, by its name with article.
    Special(&'static str),
}

/// What stat says of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What it is.
    pub kind: Kind,
    /// Which version of it.
    pub print: Print,
    /// Permission bits.
    pub mode: u32,
    /// Bytes stored for it, holes left out.
    pub stored: u64,
}

impl From<&Stat> for Facts {
    fn from(stat: &Stat) -> Self {
        let nanos = |seconds: i64, rest: u64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Special("a FIFO"),
            FileType::Socket => Kind::Special("a socket"),
            FileType::CharacterDevice => Kind::Special("a character device"),
            FileType::BlockDevice => Kind::Special("a block device"),
            FileType::Unknown => Kind::Special("of an unknown kind"),
        };
        #[expect(clippy::unnecessary_cast, reason = "the widths of these fields differ between processors")]
        Self {
            kind,
            print: Print {
                dev: stat.st_dev as u64,
                ino: stat.st_ino as u64,
                size: u64::try_from(stat.st_size).unwrap_or(0),
                mtime: nanos(stat.st_mtime as i64, stat.st_mtime_nsec as u64),
                ctime: nanos(stat.st_ctime as i64, stat.st_ctime_nsec as u64),
            },
            mode: stat.st_mode & 0o7777,
            stored: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
        }
    }
}

impl Facts {
    /// Tells whether everybody may pass through this directory; that its group may is not enough.
    fn lets_all_pass(&self) -> bool {
        self.mode & 0o001 != 0
    }

    /// Tells whether everybody may read this file; that its group may is not enough.
    fn lets_all_read(&self) -> bool {
        self.mode & 0o004 != 0
    }
}

/// Tells whether an entry of this name counts: hidden files, unfinished pulls and sidecars do not.
#[must_use]
pub fn is_listed(name: &[u8]) -> bool {
    !name.starts_with(b".") && !name.starts_with(b"tmp-copy-") && !name.ends_with(b".sif.json")
}

/// Says why an entry cannot be an image, from what never changes while it is written; `None` for a file to read.
#[must_use]
pub fn judge(found: &Found<'_>) -> Option<Unusable> {
    let (code, detail) = match found.facts.kind {
        _ if found.escaped => (
            UnusableCode::BadName,
            "its name holds characters that cannot be written or seen; rename it".to_owned(),
        ),
        Kind::Symlink => (
            UnusableCode::Symlink,
            "a symbolic link; images count where their bytes are: put the file or a hard link here"
                .to_owned(),
        ),
        Kind::Special(what) => (UnusableCode::SpecialFile, format!("it is {what}, not a file")),
        Kind::Directory => (
            UnusableCode::Sandbox,
            "a sandbox directory, which no digest can stand for; build a SIF of it".to_owned(),
        ),
        Kind::File if found.private => (
            UnusableCode::Private,
            "jobs of other users cannot reach it: chmod o+x the root and the directories above it".to_owned(),
        ),
        Kind::File if !found.facts.lets_all_read() => (
            UnusableCode::Private,
            format!("jobs of other users cannot read it (mode {:04o}): chmod o+r it", found.facts.mode),
        ),
        Kind::File => return None,
    };
    Some(Unusable { code, detail })
}

/// Says why a settled file is not worth reading, from its size alone; `None` for a file to read.
#[must_use]
pub fn weigh(facts: &Facts, max_size: u64) -> Option<Unusable> {
    let size = facts.print.size;
    let (code, detail) = if size == 0 {
        (UnusableCode::NotAnImage, "not an image: it is an empty file".to_owned())
    } else if size > SPARSE_FROM && facts.stored < size / SPARSE_SHARE {
        (UnusableCode::Sparse, format!("{} of {size} bytes are stored, the rest is holes", facts.stored))
    } else if size > max_size {
        (UnusableCode::Unreadable, format!("it is larger than hash.max_size, which is {max_size} bytes"))
    } else {
        return None;
    };
    Some(Unusable { code, detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts = Facts {
        kind: Kind::File,
        print: Print { dev: 1, ino: 2, size: 10, mtime: 0, ctime: 1_000_000_000 },
        mode: 0o644,
        stored: 4096,
    };

    fn found(kind: Kind, mode: u32) -> Found<'static> {
        let name = "a".parse().unwrap();
        Found { path: b"a", name, escaped: false, private: false, facts: Facts { kind, mode, ..FACTS } }
    }

    fn check(found: &Found<'_>, code: Option<UnusableCode>) {
        assert_eq!(judge(found).map(|what| what.code), code);
    }

    #[test]
    fn only_files_that_everybody_may_read_are_worth_reading() {
        check(&found(Kind::File, 0o644), None);
        check(&found(Kind::File, 0o604), None);
        check(&found(Kind::File, 0o640), Some(UnusableCode::Private));
        check(&found(Kind::File, 0o600), Some(UnusableCode::Private));
        check(&Found { private: true, ..found(Kind::File, 0o644) }, Some(UnusableCode::Private));
        check(&found(Kind::Symlink, 0o777), Some(UnusableCode::Symlink));
        check(&found(Kind::Special("a FIFO"), 0o644), Some(UnusableCode::SpecialFile));
        check(&found(Kind::Directory, 0o755), Some(UnusableCode::Sandbox));
        check(&Found { escaped: true, ..found(Kind::File, 0o644) }, Some(UnusableCode::BadName));
    }

    #[test]
    fn holes_are_not_read() {
        let weighed = |size, stored| {
            let facts = Facts { print: Print { size, ..FACTS.print }, stored, ..FACTS };
            weigh(&facts, 1 << 40).map(|what| what.code)
        };
        assert_eq!(weighed(0, 0), Some(UnusableCode::NotAnImage));
        assert_eq!(weighed(SPARSE_FROM, 0), None);
        assert_eq!(weighed(SPARSE_FROM * 8, SPARSE_FROM), None);
        assert_eq!(weighed(SPARSE_FROM * 8, SPARSE_FROM - 512), Some(UnusableCode::Sparse));
        assert_eq!(weighed(u64::MAX, u64::MAX), Some(UnusableCode::Unreadable));
    }

    #[test]
    fn a_change_in_the_future_is_not_old() {
        let old = |wall| FACTS.print.is_older_than(Duration::from_millis(500), UnixMillis(wall));
        assert!(old(1_500));
        assert!(!old(1_499));
        assert!(!old(0));
    }

    #[test]
    fn hidden_files_unfinished_pulls_and_sidecars_do_not_count() {
        for name in [".a.sif.XYZ", ".a", "tmp-copy-123", "a.sif.json"] {
            assert!(!is_listed(name.as_bytes()), "{name}");
        }
        for name in ["a.sif", "a", "a.json", "...sif".trim_start_matches('.'), "tmp-copy"] {
            assert!(is_listed(name.as_bytes()), "{name}");
        }
    }
}
