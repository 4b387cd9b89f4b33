//! Opens paths below a directory, never through a link and never above it.
//!
//! Owns the two ways to do so: openat2, which resolves a path in one call, and, where that is not to be had, one openat
//! for each part of the path. It is not to be had on Linux before 5.6, and below a filter of system calls that cannot look
//! into its arguments: systemd's `RestrictSUIDSGID` answers it with ENOSYS, and the units set that.
//! Outside facts: openat2(2), open(2) on O_NOFOLLOW and O_PATH, systemd 252 src/shared/seccomp-util.c.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
/// A directory on the way is only passed.
const STEP: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// The kernel gives up on a path when something is renamed anywhere meanwhile, and wants to be asked again.
const RACES: usize = 8;

/// Whether openat2 is known not to be there.
static BY_STEPS: AtomicBool = AtomicBool::new(false);

/// Opens what lies at `path` below `above`; whatever it is, the last part is not followed either.
///
/// # Errors
/// What the system said: `LOOP` or `NOTDIR` for a link, `XDEV` for a path that leads out.
pub fn open_beneath(above: impl AsFd, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let (above, flags) = (above.as_fd(), flags | OFlags::NOFOLLOW | OFlags::CLOEXEC);
    if !BY_STEPS.load(Ordering::Relaxed) {
        match at_once(above, path, flags, mode) {
            Err(Errno::NOSYS) => BY_STEPS.store(true, Ordering::Relaxed),
            other => return other,
        }
    }
    by_steps(above, path, flags, mode)
}

fn at_once(above: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    for _ in 0..RACES {
        match openat2(above, path, flags, mode, RESOLVE) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens one part of the path after the other. Each is a plain name, so none can lead elsewhere than into what is open.
fn by_steps(above: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let leads_out = |part: &[u8]| part == b"..";
    if path.is_empty() {
        return Err(Errno::NOENT);
    }
    if path.starts_with(b"/") || path.split(|byte| *byte == b'/').any(leads_out) {
        return Err(Errno::XDEV);
    }
    let mut parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).peekable();
    let mut here: Option<OwnedFd> = None;
    // A slash at the end asks for a directory.
    let flags = if path.ends_with(b"/") { flags | OFlags::DIRECTORY } else { flags };
    while let Some(part) = parts.next() {
        let at = here.as_ref().map_or(above, AsFd::as_fd);
        if parts.peek().is_none() {
            return openat(at, part, flags, mode);
        }
        here = Some(openat(at, part, STEP, Mode::empty())?);
    }
    Err(Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    const READ: OFlags =
        OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/c"), "within").unwrap();
        fs::write(dir.path().join("secret"), "outside").unwrap();
        fs::create_dir(dir.path().join("out")).unwrap();
        fs::write(dir.path().join("out/c"), "outside").unwrap();
        symlink("b", root.join("a/near")).unwrap();
        symlink("../../out", root.join("a/far")).unwrap();
        symlink("b/c", root.join("a/file")).unwrap();
        symlink("/etc/passwd", root.join("passwd")).unwrap();
        symlink("/proc/self/cwd", root.join("magic")).unwrap();
        dir
    }

    /// Returns what a way opens, as its inode, or what it says; links are one refusal, however the way calls it.
    fn shown(opened: Result<OwnedFd, Errno>) -> Result<u64, Errno> {
        match opened {
            Ok(fd) => Ok(fs::File::from(fd).metadata().unwrap().ino()),
            Err(Errno::NOTDIR) => Err(Errno::LOOP),
            Err(errno) => Err(errno),
        }
    }

    #[test]
    fn both_ways_open_the_same_and_refuse_the_same() {
        let dir = tree();
        let root =
            rustix::fs::open(dir.path().join("root"), READ | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let paths: [&[u8]; 24] = [
            b"a",
            b"a/b",
            b"a/b/c",
            b"a//b/c",
            b"a/./b/c",
            b"./a/b",
            b"a/b/",
            b".",
            b"a/b/c/",
            b"a/b/c/d",
            b"a/none",
            b"none/c",
            b"a/near",
            b"a/near/c",
            b"a/far",
            b"a/far/c",
            b"a/file",
            b"passwd",
            b"magic",
            b"magic/etc",
            b"../secret",
            b"a/../../secret",
            b"/etc/passwd",
            b"",
        ];
        for path in paths {
            for flags in [READ, READ | OFlags::DIRECTORY] {
                let [once, steps] =
                    [at_once, by_steps].map(|way| shown(way(root.as_fd(), path, flags, Mode::empty())));
                assert_eq!(once, steps, "{} with {flags:?}", path.escape_ascii());
            }
        }
        assert!(shown(by_steps(root.as_fd(), b"a/b/c", READ, Mode::empty())).is_ok());
    }

    #[test]
    fn step_by_step_files_are_made_and_links_in_their_place_are_not_followed() {
        let dir = tree();
        let root =
            rustix::fs::open(dir.path().join("root"), READ | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let make = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        by_steps(root.as_fd(), b"a/b/new", make, Mode::RUSR).unwrap();
        assert!(dir.path().join("root/a/b/new").exists());
        for path in [b"a/far/new".as_slice(), b"a/../../new", b"a/file"] {
            assert!(by_steps(root.as_fd(), path, make, Mode::RUSR).is_err(), "{}", path.escape_ascii());
        }
        assert!(!dir.path().join("out/new").exists() && !dir.path().join("new").exists());
        let nameless = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let made = by_steps(root.as_fd(), b".", nameless, Mode::RUSR);
        assert!(matches!(made, Ok(_) | Err(Errno::OPNOTSUPP)), "{made:?}");
    }
}
