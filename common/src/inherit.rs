//! What root makes for a daemon belongs to whom the directory belongs: root runs `enrol` and `ca`, daemons run as another user.
//!
//! Owns who owns new files and directories; what is in them is the caller's business. A directory may belong to somebody
//! who would like root to write elsewhere: a link of his in its place is refused, a file is handed over by its descriptor, and
//! the caller makes it with `create_new`. That is no defence against one who swaps directories above while root works, or
//! between looking and making: whoever owns the state directory is the daemon itself, and root runs these by hand.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use rustix::fs::OFlags;

/// Gives a file or directory that root has just made at `path` to the owner of the directory it is in.
///
/// # Errors
/// When that owner cannot be found or set. For anybody but root there is nothing to do.
pub fn from_folder(made: &File, path: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let owner = fs::metadata(folder.unwrap_or(Path::new(".")))?;
    fchown(made, Some(owner.uid()), Some(owner.gid()))
}

/// Makes a directory, and those above it, with `mode` as the umask lets it; each belongs to whom the one above belongs.
///
/// # Errors
/// When it cannot be made. A link in its place is an error, even to a directory, unless it is the caller's own.
pub fn make_dir(dir: &Path, mode: u32) -> io::Result<()> {
    // What is behind somebody else's link would be given away.
    let mine = |found: &fs::Metadata| found.uid() == rustix::process::geteuid().as_raw() && dir.is_dir();
    if fs::symlink_metadata(dir).is_ok_and(|found| found.is_dir() || (found.is_symlink() && mine(&found))) {
        return Ok(());
    }
    if let Some(above) = dir.parent().filter(|above| !above.as_os_str().is_empty()) {
        make_dir(above, mode)?;
    }
    DirBuilder::new().mode(mode).create(dir)?;
    let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW).bits().cast_signed();
    from_folder(&OpenOptions::new().read(true).custom_flags(flags).open(dir)?, dir)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, lchown, symlink};

    use super::*;

    #[test]
    fn what_root_makes_belongs_to_the_owner_of_the_folder() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root gives files away");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        chown(folder.path(), Some(4_711), Some(4_712)).unwrap();
        let inner = folder.path().join("ca/nodes");
        make_dir(&inner, 0o700).unwrap();
        let path = inner.join("key");
        let file = OpenOptions::new().write(true).create_new(true).open(&path).unwrap();
        from_folder(&file, &path).unwrap();
        for made in [&folder.path().join("ca"), &inner, &path] {
            let found = fs::symlink_metadata(made).unwrap();
            assert_eq!((found.uid(), found.gid()), (4_711, 4_712), "{}", made.display());
        }
        assert_eq!(fs::symlink_metadata(&inner).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn somebody_elses_link_in_the_place_of_a_directory_is_refused() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root gives links away");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (elsewhere, link) = (folder.path().join("elsewhere"), folder.path().join("ca"));
        fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, &link).unwrap();
        make_dir(&link.join("own"), 0o700).unwrap();
        lchown(&link, Some(4_711), Some(4_712)).unwrap();
        assert!(make_dir(&link, 0o700).is_err());
    }
}
