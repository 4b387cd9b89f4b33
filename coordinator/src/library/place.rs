//! Directories of the library, opened one below the other and never through a link.
//!
//! Outside facts: openat2(2): `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS` hold for every component.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, fchmod, fsync, mkdirat, openat2};
use rustix::io::Errno;

use super::LibraryError;

/// Where uploads lie until they are whole. Agents list no hidden names.
pub(super) const FOLDER: &str = ".sifleet";

const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Links, pipes and devices must not be followed, waited for or woken.
const PLAIN: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// The library and the folder for uploads in it, both open.
#[derive(Debug)]
pub(super) struct Place {
    dir: PathBuf,
    root: OwnedFd,
    folder: OwnedFd,
}

impl Place {
    /// Opens both; makes the folder, but never the library: it may be a file system that is not mounted.
    pub(super) fn open(dir: &Path) -> Result<Self, LibraryError> {
        let failed = |step| move |errno: Errno| disk(dir, step, errno);
        let root = rustix::fs::open(dir, DIRECTORY, Mode::empty()).map_err(failed("open the directory"))?;
        let folder =
            make_folder(root.as_fd(), FOLDER, Mode::RWXU).map_err(failed("make the folder for uploads"))?;
        Ok(Self { dir: dir.to_owned(), root, folder })
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    pub(super) fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Says what could not be done.
    pub(super) fn failed(&self, step: &'static str) -> impl Fn(Errno) -> LibraryError + '_ {
        move |errno| disk(&self.dir, step, errno)
    }

    /// Says what could not be done.
    pub(super) fn failed_io(&self, step: &'static str) -> impl Fn(std::io::Error) -> LibraryError + '_ {
        move |source| LibraryError::Disk { step, dir: self.dir.clone(), source }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}

fn disk(dir: &Path, step: &'static str, errno: Errno) -> LibraryError {
    LibraryError::Disk { step, dir: dir.to_owned(), source: errno.into() }
}

/// Opens a directory below another one.
pub(super) fn open_folder(above: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    openat2(above, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty(), RESOLVE)
}

/// Opens a directory below another one, making it if need be, for good.
pub(super) fn make_folder(above: BorrowedFd<'_>, name: &str, mode: Mode) -> Result<OwnedFd, Errno> {
    let made = match mkdirat(above, name, mode) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(errno),
    };
    let folder = open_folder(above, name)?;
    if made {
        // Whatever the service's umask says: jobs of other users go through here.
        fchmod(&folder, mode)?;
        fsync(above)?;
    }
    Ok(folder)
}

/// Opens a file below a directory; what is not a plain file is left alone by whoever looks at it.
pub(super) fn open_file(above: BorrowedFd<'_>, name: &str, how: OFlags) -> Result<File, Errno> {
    openat2(above, name, how | PLAIN, Mode::RUSR | Mode::WUSR, RESOLVE).map(File::from)
}

/// Opens what may be created only with the mode that creating takes.
pub(super) fn open_existing(above: BorrowedFd<'_>, name: &str, how: OFlags) -> Result<File, Errno> {
    openat2(above, name, how | PLAIN, Mode::empty(), RESOLVE).map(File::from)
}
