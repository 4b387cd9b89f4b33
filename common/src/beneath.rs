//! Directories and files below a root, opened one below the other and never through a link, and the moment in which an
//! image becomes visible there: one rename, made durable before and after.
//!
//! Shared by whoever writes images: agents below their roots, the coordinator in its library. Outside facts: rename(2) and
//! fsync(2): a new name is durable once its directory was synced.

mod resolve;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, fchmod, fchown, fsync, mkdirat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

use crate::name::ImageName;
pub use resolve::open_beneath;

/// Where unfinished images lie, in the root they are for: on the same file system, so that the last step is a rename.
/// Agents list no hidden names.
pub const STAGING: &str = ".sifleet";

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

    /// Gives the owner last: whoever gave a file away may not change its permissions any longer.
    fn give(self, what: impl AsFd, mode: Mode) -> Result<(), StepError> {
        fchmod(&what, mode).map_err(refused("give the image its permissions"))?;
        let Some((uid, gid)) = self.ids else { return Ok(()) };
        fchown(&what, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(refused("give the image its owner"))
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
    open_beneath(above, name.as_bytes(), DIRECTORY, Mode::empty())
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

/// Opens the directory in which a path below another one ends; returns it and the last part of the path.
///
/// # Errors
/// As [`open_folder`].
pub fn open_parent(above: impl AsFd, path: &str) -> Result<(OwnedFd, &str), Errno> {
    let (folders, last) = path.rsplit_once('/').unwrap_or((".", path));
    Ok((open_folder(above, folders)?, last))
}

/// Opens a file that is there, below a directory.
///
/// # Errors
/// What the system said.
pub fn open_file(above: impl AsFd, name: &str, how: OFlags) -> Result<File, Errno> {
    open_beneath(above, name.as_bytes(), how | PLAIN, Mode::empty()).map(File::from)
}

/// Opens a file below a directory, making it, for its owner alone, if need be.
///
/// # Errors
/// What the system said.
pub fn make_file(above: impl AsFd, name: &str, how: OFlags) -> Result<File, Errno> {
    open_beneath(above, name.as_bytes(), how | OFlags::CREATE | PLAIN, Mode::RUSR | Mode::WUSR)
        .map(File::from)
}

/// Looks whether an image could be published under a name, by making a nameless file where it would be and giving it
/// away: whoever may not should hear so before the first byte is moved. A file system without nameless files tells
/// nothing before.
///
/// # Errors
/// [`StepError`]; nothing has changed.
pub fn may_publish(root: BorrowedFd<'_>, name: &ImageName, owner: Owner) -> Result<(), StepError> {
    let (folders, last) = split(name);
    let (mut above, mut is_there): (Option<OwnedFd>, bool) = (None, true);
    for part in folders {
        let here = above.as_ref().map_or(root, AsFd::as_fd);
        match open_folder(here, part) {
            Ok(next) => above = Some(next),
            Err(Errno::NOENT) => {
                is_there = false;
                break;
            }
            Err(errno) => return Err(refused("open the image's folder")(errno)),
        }
    }
    let here = above.as_ref().map_or(root, AsFd::as_fd);
    if is_there
        && let Ok(stat) = statat(here, last, AtFlags::SYMLINK_NOFOLLOW)
        && FileType::from_raw_mode(stat.st_mode) == FileType::Directory
    {
        return Err(refused("publish the image")(Errno::ISDIR));
    }
    let how = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    match open_beneath(here, b".", how, Mode::RUSR | Mode::WUSR) {
        Ok(nameless) => owner.give(&nameless, owner.file_mode()),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(errno) => Err(refused("write into the image's folder")(errno)),
    }
}

/// Gives a staged file, which is whole and verified, its name below a root. Whoever has an older file of that name open
/// keeps that one.
///
/// # Errors
/// [`StepError`]; the name is as it was, unless the very last sync failed: then it is as it should be, and may be as it
/// was after a loss of power. Folders that were made for it are gone again.
pub fn publish(
    file: &File,
    staged: (BorrowedFd<'_>, &str),
    root: BorrowedFd<'_>,
    name: &ImageName,
    owner: Owner,
) -> Result<(), StepError> {
    owner.give(file, owner.file_mode())?;
    fsync(file).map_err(refused("make the image durable"))?;
    let (folders, last) = split(name);
    let (mut path, mut made): (Vec<OwnedFd>, Vec<(usize, &str)>) = (Vec::new(), Vec::new());
    let mut published = Ok(());
    for (depth, part) in folders.enumerate() {
        let here = path.last().map_or(root, AsFd::as_fd);
        match make_image_folder(here, part, owner, || made.push((depth, part))) {
            Ok(next) => path.push(next),
            Err(error) => {
                published = Err(error);
                break;
            }
        }
    }
    let here = path.last().map_or(root, AsFd::as_fd);
    published = published
        .and_then(|()| renameat(staged.0, staged.1, here, last).map_err(refused("publish the image")));
    if published.is_err() {
        for (depth, part) in made.into_iter().rev() {
            let above = depth.checked_sub(1).and_then(|above| path.get(above)).map_or(root, AsFd::as_fd);
            // One that somebody uses meanwhile stays, and so do those above it.
            if unlinkat(above, part, AtFlags::REMOVEDIR).is_err() {
                break;
            }
        }
        return published;
    }
    fsync(here).map_err(refused("make the image's name durable"))
}

/// Opens a folder of an image, making it, for its owner, if need be; `made` hears of that.
fn make_image_folder(
    above: BorrowedFd<'_>,
    name: &str,
    owner: Owner,
    made: impl FnOnce(),
) -> Result<OwnedFd, StepError> {
    let failed = refused("make the image's folder");
    match mkdirat(above, name, owner.folder_mode()) {
        Ok(()) => made(),
        Err(Errno::EXIST) => return open_folder(above, name).map_err(failed),
        Err(errno) => return Err(failed(errno)),
    }
    let folder = open_folder(above, name).map_err(&failed)?;
    owner.give(&folder, owner.folder_mode())?;
    fsync(above).map_err(failed)?;
    Ok(folder)
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
    fn file_and_folders_are_given_to_who_shall_have_them() {
        use std::os::unix::fs::MetadataExt;

        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root may give files away");
            return;
        }
        let owner = Owner { ids: Some((12_345, 54_321)), mode: 0o644 };
        let (dir, root, folder, file) = staged();
        let name = "viz/new.sif".parse().unwrap();
        may_publish(root.as_fd(), &name, owner).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "looking leaves nothing");
        publish(&file, (folder.as_fd(), "a.part"), root.as_fd(), &name, owner).unwrap();
        for path in ["viz", "viz/new.sif"] {
            let facts = fs::metadata(dir.path().join(path)).unwrap();
            assert_eq!((facts.uid(), facts.gid()), (12_345, 54_321), "{path}");
        }
    }

    #[test]
    fn what_cannot_be_published_is_known_before_and_leaves_no_folder_behind() {
        let owner = Owner { ids: None, mode: 0o644 };
        let (dir, root, folder, file) = staged();
        fs::create_dir_all(dir.path().join("old/a.sif")).unwrap();
        let in_the_way = "old/a.sif".parse().unwrap();
        assert_eq!(may_publish(root.as_fd(), &in_the_way, owner).unwrap_err().step, "publish the image");
        may_publish(root.as_fd(), &"new/folder/a.sif".parse().unwrap(), owner).unwrap();
        let lost = publish(
            &file,
            (folder.as_fd(), "gone.part"),
            root.as_fd(),
            &"new/folder/a.sif".parse().unwrap(),
            owner,
        );
        assert_eq!(lost.unwrap_err().step, "publish the image");
        assert!(!dir.path().join("new").exists());
        assert!(dir.path().join("old/a.sif").exists());
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
        assert!(open_parent(&root, "viz/a.sif").is_err());
        assert_eq!(open_parent(&root, "a.sif").unwrap().1, "a.sif");
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }
}
