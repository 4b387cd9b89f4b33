//! Directories and files below a root, opened one below the other and never through a link, and the moment in which an
//! image becomes visible there: one rename, made durable before and after.
//!
//! Shared by whoever writes images: agents below their roots, the coordinator in its library. Outside facts: openat2(2):
//! `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS` hold for every component; rename(2) and fsync(2): a new name is durable
//! once its directory was synced.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid, fchmod, fchown, fsync, mkdirat, openat2, renameat};
use rustix::io::Errno;

use crate::name::ImageName;

/// Where unfinished images lie, in the root they are for: on the same file system, so that the last step is a rename.
/// Agents list no hidden names.
pub const STAGING: &str = ".sifleet";

/// How every path below a root is walked.
pub const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Links, pipes and devices must not be followed, waited for or woken.
const PLAIN: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Who owns a published image, and who may read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User and group; absent: whoever writes it.
    pub ids: Option<(u32, u32)>,
    /// Permission bits of the file; directories get the execute bits that go with them.
    pub mode: u32,
}

impl Owner {
    fn file_mode(self) -> Mode {
        Mode::from_raw_mode(self.mode & 0o777)
    }

    /// Whoever may read the image may pass through its folders; the owner may do all.
    fn folder_mode(self) -> Mode {
        Mode::from_raw_mode((self.mode & 0o777) | ((self.mode & 0o444) >> 2) | 0o700)
    }
}

/// Says which step the system refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct StepError {
    /// What was being done.
    pub step: &'static str,
    /// What the system said.
    #[source]
    pub errno: Errno,
}

fn refused(step: &'static str) -> impl Fn(Errno) -> StepError {
    move |errno| StepError { step, errno }
}

/// Opens a root itself, wherever it is. It is never made: it may be a file system that is not mounted.
///
/// # Errors
/// What the system said.
pub fn open_root(dir: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(dir, DIRECTORY, Mode::empty())
}

/// Opens a directory below another one.
///
/// # Errors
/// What the system said; `LOOP` or `NOTDIR` for a link.
pub fn open_folder(above: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    openat2(above, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty(), RESOLVE)
}

/// Opens a directory below another one, making it if need be, for good.
///
/// # Errors
/// As [`open_folder`].
pub fn make_folder(above: impl AsFd, name: &str, mode: Mode) -> Result<OwnedFd, Errno> {
    let made = match mkdirat(&above, name, mode) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(errno),
    };
    let folder = open_folder(&above, name)?;
    if made {
        // Whatever the service's umask says: jobs of other users go through here.
        fchmod(&folder, mode)?;
        fsync(&above)?;
    }
    Ok(folder)
}

/// Opens a file that is there, below a directory.
///
/// # Errors
/// What the system said.
pub fn open_file(above: impl AsFd, name: &str, how: OFlags) -> Result<File, Errno> {
    openat2(above, name, how | PLAIN, Mode::empty(), RESOLVE).map(File::from)
}

/// Opens a file below a directory, making it, for its owner alone, if need be.
///
/// # Errors
/// What the system said.
pub fn make_file(above: impl AsFd, name: &str, how: OFlags) -> Result<File, Errno> {
    openat2(above, name, how | OFlags::CREATE | PLAIN, Mode::RUSR | Mode::WUSR, RESOLVE).map(File::from)
}

/// Gives a staged file, which is whole and verified, its name below a root. Whoever has an older file of that name open
/// keeps that one.
///
/// # Errors
/// [`StepError`]; the name is as it was, unless the very last sync failed: then it is as it should be, and may be as it
/// was after a loss of power.
pub fn publish(
    file: &File,
    (folder, staged): (BorrowedFd<'_>, &str),
    root: BorrowedFd<'_>,
    name: &ImageName,
    owner: Owner,
) -> Result<(), StepError> {
    if let Some((uid, gid)) = owner.ids {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        fchown(file, Some(uid), Some(gid)).map_err(refused("give the image its owner"))?;
    }
    fchmod(file, owner.file_mode()).map_err(refused("give the image its permissions"))?;
    fsync(file).map_err(refused("make the image durable"))?;
    let (folders, last) = split(name);
    let mut above: Option<OwnedFd> = None;
    for part in folders {
        let here = above.as_ref().map_or(root, AsFd::as_fd);
        let next = make_folder(here, part, owner.folder_mode());
        above = Some(next.map_err(refused("make the image's folder"))?);
    }
    let here = above.as_ref().map_or(root, AsFd::as_fd);
    renameat(folder, staged, here, last).map_err(refused("publish the image"))?;
    fsync(here).map_err(refused("make the image's name durable"))
}

/// Splits a name into the folders above the image and the file's own name.
pub fn split(name: &ImageName) -> (impl Iterator<Item = &str>, &str) {
    let (folders, file) = name.as_str().rsplit_once('/').unwrap_or(("", name.as_str()));
    (folders.split('/').filter(|part| !part.is_empty()), file)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A root with a staged file.
    fn staged() -> (tempfile::TempDir, OwnedFd, OwnedFd, File) {
        let dir = tempfile::tempdir().unwrap();
        let root = open_root(dir.path()).unwrap();
        let folder = make_folder(&root, STAGING, Mode::RWXU).unwrap();
        let file = make_file(&folder, "a.part", OFlags::RDWR).unwrap();
        (dir, root, folder, file)
    }

    fn permissions(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn folders_and_file_are_as_open_as_the_settings_say_whatever_the_umask() {
        // The usual umask takes the others' right to write away, here it is asked for.
        let owner = Owner { ids: None, mode: 0o666 };
        let (dir, root, folder, file) = staged();
        let name = "viz/desktop/new.sif".parse().unwrap();
        publish(&file, (folder.as_fd(), "a.part"), root.as_fd(), &name, owner).unwrap();
        assert_eq!(permissions(&dir.path().join("viz")), 0o777);
        assert_eq!(permissions(&dir.path().join("viz/desktop")), 0o777);
        assert_eq!(permissions(&dir.path().join("viz/desktop/new.sif")), 0o666);
    }

    #[test]
    fn a_folder_that_was_there_stays_as_it_is() {
        let (dir, root, folder, file) = staged();
        fs::create_dir(dir.path().join("viz")).unwrap();
        fs::set_permissions(dir.path().join("viz"), fs::Permissions::from_mode(0o750)).unwrap();
        let owner = Owner { ids: None, mode: 0o644 };
        publish(&file, (folder.as_fd(), "a.part"), root.as_fd(), &"viz/a.sif".parse().unwrap(), owner)
            .unwrap();
        assert_eq!(permissions(&dir.path().join("viz")), 0o750);
    }

    #[test]
    fn nothing_is_opened_or_published_through_a_link() {
        let (dir, root, folder, file) = staged();
        let elsewhere = tempfile::tempdir().unwrap();
        symlink(elsewhere.path(), dir.path().join("viz")).unwrap();
        let owner = Owner { ids: None, mode: 0o644 };
        let name = "viz/a.sif".parse().unwrap();
        let error = publish(&file, (folder.as_fd(), "a.part"), root.as_fd(), &name, owner).unwrap_err();
        assert_eq!(error.step, "make the image's folder");
        assert!(open_folder(&root, "viz").is_err());
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }
}
