//! The library's directory and the folder in which uploads lie until they are whole.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use sifleet_common::beneath::{self, STAGING, StepError};

use super::LibraryError;

/// The library and the folder for uploads in it, both open.
#[derive(Debug)]
pub(crate) struct Place {
    dir: PathBuf,
    root: OwnedFd,
    folder: OwnedFd,
}

impl Place {
    /// Opens both; makes the folder, but never the library: it may be a file system that is not mounted.
    pub(crate) fn open(dir: &Path) -> Result<Self, LibraryError> {
        let failed = |step| move |errno: Errno| disk(dir, step, errno);
        let root = beneath::open_root(dir).map_err(failed("open the directory"))?;
        let folder = beneath::make_folder(&root, STAGING, Mode::RWXU)
            .map_err(failed("make the folder for uploads"))?;
        Ok(Self { dir: dir.to_owned(), root, folder })
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    pub(crate) fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Says what could not be done.
    pub(crate) fn failed(&self, step: &'static str) -> impl Fn(Errno) -> LibraryError + '_ {
        move |errno| disk(&self.dir, step, errno)
    }

    /// Says which step of publishing could not be done.
    pub(crate) fn refused(&self, error: &StepError) -> LibraryError {
        disk(&self.dir, error.step, error.errno)
    }

    /// Says what could not be done.
    pub(crate) fn failed_io(&self, step: &'static str) -> impl Fn(std::io::Error) -> LibraryError + '_ {
        move |source| LibraryError::Disk { step, dir: self.dir.clone(), source }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

fn disk(dir: &Path, step: &'static str, errno: Errno) -> LibraryError {
    LibraryError::Disk { step, dir: dir.to_owned(), source: errno.into() }
}
