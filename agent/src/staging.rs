//! The invisible file in which an image grows, and the moment in which it becomes visible.
//!
//! Owns what lies in the folder [`STAGING`] of a root under a digest's name. What a file here holds is not believed after
//! a restart but held against the chunk map again. Nothing is ever written under an image's own name: running jobs keep
//! the old file.

mod trail;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{
    AtFlags, Dir, FallocateFlags, Mode, OFlags, fallocate, fstat, fstatvfs, ftruncate, statat, unlinkat,
};
use rustix::io::Errno;
use sifleet_common::beneath::{self, Owner, STAGING, StepError};
use sifleet_common::digest::Digest;
use sifleet_common::name::ImageName;
use sifleet_common::push::FailCode;

use crate::hash::read::politely;
use trail::Trail;

/// How names of staging files end.
const PART: &str = ".part";
/// The first step.
const OPEN_ROOT: &str = "open the root";

/// Says why an image cannot be kept. What was there before under its name is as it was.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// There is too little room, before a byte was moved.
    #[error(
        "{} has {free} bytes free, the image needs {needed} and {floor} are to stay free: remove something",
        root.display()
    )]
    NoSpace {
        /// The root.
        root: PathBuf,
        /// In bytes.
        free: u64,
        /// What is still to be written, in bytes.
        needed: u64,
        /// What is to stay free, in bytes.
        floor: u64,
    },
    /// The system refused a step.
    #[error("cannot {step} in {}", root.display())]
    Disk {
        /// What was being done.
        step: &'static str,
        /// The root.
        root: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl StagingError {
    /// Names the kind of failure, for scripts.
    #[must_use]
    pub fn code(&self) -> FailCode {
        let Self::Disk { source, step, .. } = self else { return FailCode::NoSpace };
        match Errno::from_io_error(source) {
            Some(Errno::NOSPC) => FailCode::NoSpace,
            Some(Errno::DQUOT) => FailCode::Quota,
            Some(Errno::ROFS) => FailCode::ReadOnly,
            Some(Errno::ACCESS | Errno::PERM) => FailCode::Permission,
            Some(Errno::NOENT | Errno::NOTDIR) if *step == OPEN_ROOT => FailCode::NoRoot,
            Some(Errno::ISDIR | Errno::NOTDIR) => FailCode::InTheWay,
            _ => FailCode::Io,
        }
    }
}

/// An image that is not whole yet.
#[derive(Debug)]
pub struct Staging {
    root: PathBuf,
    above: OwnedFd,
    folder: OwnedFd,
    name: String,
    file: File,
    reader: Arc<File>,
    found: bool,
    size: u64,
    trail: Trail,
}

impl Staging {
    /// Opens the file for an image, with what an earlier attempt left in it, and sees to it that there is room for all
    /// of it and `floor` bytes besides.
    ///
    /// # Errors
    /// [`StagingError`]; what is there stays, see [`Staging::throw_away`].
    pub fn open(root: &Path, image: Digest, size: u64, floor: u64) -> Result<Self, StagingError> {
        let failed = |step| move |errno: Errno| disk(root, step, errno);
        let above = beneath::open_root(root).map_err(failed(OPEN_ROOT))?;
        let folder =
            beneath::make_folder(&above, STAGING, Mode::RWXU).map_err(failed("make the staging folder"))?;
        let name = part_name(image);
        let file =
            beneath::make_file(&folder, &name, OFlags::RDWR).map_err(failed("make the staging file"))?;
        // Whoever gives the image to others reads it by this one: an image that is open for writing would not be
        // vouched for when it is published.
        let reader =
            beneath::open_file(&folder, &name, OFlags::RDONLY).map_err(failed("open the staging file"))?;
        let (reader, root) = (Arc::new(reader), root.to_owned());
        let mut staging =
            Self { root, above, folder, name, file, reader, found: false, size, trail: Trail::new() };
        staging.reserve(floor)?;
        Ok(staging)
    }

    fn reserve(&mut self, floor: u64) -> Result<(), StagingError> {
        const SECTOR: u64 = 512;
        let root = &self.root;
        let failed = |step| move |errno: Errno| disk(root, step, errno);
        let stat = fstat(&self.file).map_err(failed("look at the staging file"))?;
        let kept = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(SECTOR);
        self.found = kept > 0;
        let room = fstatvfs(&self.file).map_err(failed("ask for free space"))?;
        let free = room.f_bavail.saturating_mul(room.f_frsize);
        let needed = self.size.saturating_sub(kept);
        if free < needed.saturating_add(floor) {
            return Err(StagingError::NoSpace { root: self.root.clone(), free, needed, floor });
        }
        ftruncate(&self.file, self.size).map_err(failed("size the staging file"))?;
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, self.size.max(1)) {
            // Not every file system can; then a full disk is found out later.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(errno) => Err(disk(&self.root, "reserve space", errno)),
        }
    }

    /// Looks whether [`Staging::publish`] will be allowed, so that nothing is fetched in vain.
    ///
    /// # Errors
    /// [`StagingError::Disk`].
    pub fn may_publish(&self, name: &ImageName, owner: Owner) -> Result<(), StagingError> {
        let allowed = beneath::may_publish(self.above.as_fd(), name, owner);
        allowed.map_err(|StepError { step, errno }| disk(&self.root, step, errno))
    }

    /// Tells whether an earlier attempt left anything.
    #[must_use]
    pub const fn found(&self) -> bool {
        self.found
    }

    /// Returns the file for reading; it stays the same one when it is published.
    #[must_use]
    pub const fn reader(&self) -> &Arc<File> {
        &self.reader
    }

    /// Writes bytes that were verified.
    ///
    /// # Errors
    /// [`StagingError::Disk`]; the bytes count as missing.
    pub fn write(&self, bytes: &[u8], at: u64) -> Result<(), StagingError> {
        self.file.write_all_at(bytes, at).map_err(|source| self.failed("write", source))?;
        self.trail.wrote(&self.file, at..at.saturating_add(bytes.len() as u64));
        Ok(())
    }

    /// Reads what is there, at most 8 MiB, for verifying it.
    ///
    /// # Errors
    /// [`StagingError::Disk`].
    pub fn read(&self, bytes: &mut [u8], at: u64) -> Result<(), StagingError> {
        politely(&self.reader, at, bytes).map_err(|source| self.failed("read back", source))
    }

    /// Makes the image visible under its name, in one step, for good.
    ///
    /// To be called when the whole was held against its digest. The old file of that name, if any, lives on for those
    /// who have it open.
    ///
    /// # Errors
    /// [`StagingError::Disk`]; the name is as it was, unless the very last sync failed: then it is as it should be, and
    /// may be as it was after a loss of power.
    pub fn publish(self, name: &ImageName, owner: Owner) -> Result<(), StagingError> {
        let Self { root, above, folder, name: staged, file, reader, .. } = self;
        // Whoever sees the new name asks whether anybody writes to it.
        drop(file);
        let published = beneath::publish(&reader, (folder.as_fd(), &staged), above.as_fd(), name, owner);
        published.map_err(|StepError { step, errno }| disk(&root, step, errno))
    }

    /// Throws away what there is.
    ///
    /// # Errors
    /// [`StagingError::Disk`].
    pub fn discard(self) -> Result<(), StagingError> {
        unlinkat(&self.folder, &self.name, AtFlags::empty())
            .map_err(|errno| disk(&self.root, "remove the staging file", errno))
    }

    /// Throws away what an attempt left of an image; nothing there is no failure.
    ///
    /// # Errors
    /// [`StagingError::Disk`].
    pub fn throw_away(root: &Path, image: Digest) -> Result<(), StagingError> {
        let removed = beneath::open_root(root)
            .and_then(|root| beneath::open_folder(root, STAGING))
            .and_then(|folder| unlinkat(folder, part_name(image), AtFlags::empty()));
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(disk(root, "remove the staging file", errno)),
        }
    }

    /// Throws away what attempts left that nobody has gone on with since `since`, but for images that are `wanted`;
    /// returns how many. What others keep in the folder is left alone.
    ///
    /// # Errors
    /// [`StagingError::Disk`].
    pub fn reap(
        root: &Path,
        since: SystemTime,
        wanted: impl Fn(&Digest) -> bool,
    ) -> Result<usize, StagingError> {
        let folder = match beneath::open_root(root).and_then(|root| beneath::open_folder(root, STAGING)) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Ok(0),
            Err(errno) => return Err(disk(root, "open the staging folder", errno)),
        };
        let failed = |errno| disk(root, "look through the staging folder", errno);
        let mut reaped = 0;
        for entry in Dir::read_from(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Some(image) = image_of(entry.file_name().to_bytes()) else { continue };
            let stat = statat(&folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
            let written = SystemTime::UNIX_EPOCH
                .checked_add(Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0)));
            if wanted(&image) || written.is_none_or(|written| written >= since) {
                continue;
            }
            unlinkat(&folder, entry.file_name(), AtFlags::empty()).map_err(failed)?;
            reaped += 1;
        }
        Ok(reaped)
    }

    fn failed(&self, step: &'static str, source: io::Error) -> StagingError {
        StagingError::Disk { step, root: self.root.clone(), source }
    }
}

fn disk(root: &Path, step: &'static str, errno: Errno) -> StagingError {
    StagingError::Disk { step, root: root.to_owned(), source: errno.into() }
}

fn part_name(image: Digest) -> String {
    format!("{}{PART}", image.hex())
}

/// Returns the image for which a staging file is, if that is what the name means.
fn image_of(name: &[u8]) -> Option<Digest> {
    let hex = std::str::from_utf8(name).ok()?.strip_suffix(PART)?;
    format!("blake3:{hex}").parse().ok()
}

#[cfg(test)]
mod tests;
