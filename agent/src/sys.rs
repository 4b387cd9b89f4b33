//! The few system calls that no safe crate offers: leases, the idle I/O class, and a look at the page cache.
//!
//! Owns all of the agent's `unsafe`; nothing here decides anything. Each call is a thin wrapper whose arguments
//! cannot be wrong by construction.
//! Outside facts: fcntl(2) "Leases", ioprio_set(2), mincore(2) of Linux man-pages 6.9.

#![expect(
    unsafe_code,
    reason = "fcntl leases, ioprio_set and mincore have no safe wrapper; a few short calls"
)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Tells whether anybody has a file open for writing, or mapped so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// Nobody at this moment, on this node.
    None,
    /// Somebody.
    Some,
    /// The file system, or a missing CAP_LEASE, does not let us ask.
    CannotTell,
}

/// `F_SETSIG` of include/uapi/asm-generic/fcntl.h, which libc does not name on every target.
const F_SETSIG: libc::c_int = 10;

/// Asks for a read lease and gives it back at once: the kernel grants it only while nobody writes.
///
/// The file must be open for reading only. A writer who opens it within these microseconds waits as long; the
/// signal that this sends us is set to SIGURG, which does nothing, because SIGIO would end the process.
pub fn writers(file: &File) -> Writers {
    let fd = file.as_raw_fd();
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and these commands take an integer.
    let taken = unsafe {
        libc::fcntl(fd, F_SETSIG, libc::SIGURG) == 0 && libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) == 0
    };
    if !taken {
        return match io::Error::last_os_error().raw_os_error() {
            Some(libc::EAGAIN) => Writers::Some,
            _ => Writers::CannotTell,
        };
    }
    // SAFETY: as above.
    let released = unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) == 0 };
    // A lease that was broken meanwhile is gone already, and then somebody writes.
    if released { Writers::None } else { Writers::Some }
}

/// Tells whether anybody but us has a file open, mapped, mounted or running.
#[derive(Debug)]
pub enum Users<'a> {
    /// Nobody on this node; whoever opens it waits until the lease is dropped.
    None(Lease<'a>),
    /// Somebody.
    Some,
    /// The file system, or a missing CAP_LEASE, does not let us ask.
    CannotTell(io::Error),
}

/// A write lease on a file, given back when dropped.
#[derive(Debug)]
pub struct Lease<'a>(&'a File);

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // SAFETY: the descriptor is open for as long as the file is borrowed, and the command takes an integer. What it
        // returns says only whether the lease was broken meanwhile, and then it is gone too.
        unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
    }
}

/// Asks for a write lease: the kernel grants it only while the one open file description is ours.
///
/// To be held for a moment only: whoever opens the file meanwhile waits. The signal that this sends us does nothing, as
/// in [`writers`].
pub fn users(file: &File) -> Users<'_> {
    let fd = file.as_raw_fd();
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and these commands take an integer.
    let taken = unsafe {
        libc::fcntl(fd, F_SETSIG, libc::SIGURG) == 0 && libc::fcntl(fd, libc::F_SETLEASE, libc::F_WRLCK) == 0
    };
    if taken {
        return Users::None(Lease(file));
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::EAGAIN) { Users::Some } else { Users::CannotTell(error) }
}

/// Puts the calling thread into the idle I/O class, so that it reads only when nobody else does.
///
/// # Errors
/// Whatever the kernel says; without this class the thread merely competes.
pub fn idle_io() -> io::Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    const CALLING_THREAD: libc::c_int = 0;
    const CLASS_IDLE: libc::c_int = 3 << 13;
    // SAFETY: three integers; the kernel changes only this thread's I/O class.
    let done = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, CALLING_THREAD, CLASS_IDLE) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Tells for each page of a stretch of a file whether the page cache holds it, without touching any.
///
/// Where the kernel does not tell us (a file of somebody else's, with neither CAP_FOWNER nor CAP_DAC_OVERRIDE) it
/// says that all are.
/// The stretch is mapped without access rights, so nothing can fault when the file shrinks.
///
/// # Errors
/// Whatever mmap or mincore give.
pub fn resident(file: &File, offset: u64, len: usize) -> io::Result<Vec<bool>> {
    let at = libc::off_t::try_from(offset).map_err(io::Error::other)?;
    let mut pages = vec![0_u8; len.div_ceil(rustix::param::page_size())];
    // SAFETY: a fresh mapping at an address of the kernel's choice, never dereferenced, unmapped below with the
    // same length; `pages` has the one byte for each page that mincore writes.
    let outcome = unsafe {
        let map =
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_NONE, libc::MAP_SHARED, file.as_raw_fd(), at);
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let looked = libc::mincore(map, len, pages.as_mut_ptr());
        let outcome = if looked == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
        libc::munmap(map, len);
        outcome
    };
    outcome.map(|()| pages.into_iter().map(|page| page & 1 == 1).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;

    #[test]
    fn a_writer_is_seen_for_as_long_as_it_has_the_file_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let writer = File::create(&path).unwrap();
        let reader = File::open(&path).unwrap();
        let first = writers(&reader);
        if first == Writers::CannotTell {
            println!("skipped: no leases on {}", path.display());
            return;
        }
        assert_eq!(first, Writers::Some);
        drop(writer);
        assert_eq!(writers(&reader), Writers::None);
        let again = OpenOptions::new().append(true).open(&path).unwrap();
        assert_eq!(writers(&reader), Writers::Some);
        drop(again);
        assert_eq!(writers(&reader), Writers::None);
    }

    #[test]
    fn whoever_uses_a_file_is_seen_however_it_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, [1; 4096]).unwrap();
        let own = File::open(&path).unwrap();
        if let Users::CannotTell(error) = users(&own) {
            println!("skipped: no leases on {}: {error}", path.display());
            return;
        }
        let is_used = || matches!(users(&own), Users::Some);
        assert!(!is_used());
        let reader = File::open(&path).unwrap();
        assert!(is_used(), "open");
        // SAFETY: a fresh mapping that nobody touches, unmapped below with the same length.
        let map = unsafe {
            libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, reader.as_raw_fd(), 0)
        };
        assert_ne!(map, libc::MAP_FAILED);
        drop(reader);
        assert!(is_used(), "mapped, and closed since");
        // SAFETY: what was mapped above.
        unsafe { libc::munmap(map, 4096) };
        assert!(!is_used());
        std::fs::hard_link(&path, folder.path().join("b")).unwrap();
        let other = File::open(folder.path().join("b")).unwrap();
        assert!(is_used(), "open under another name");
        drop(other);
        let Users::None(lease) = users(&own) else { panic!("nobody is left") };
        drop(lease);
        drop(File::open(&path).unwrap());
    }

    #[test]
    fn the_page_cache_is_looked_at_page_by_page() {
        let folder = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, vec![1; 3 * rustix::param::page_size() + 1]).unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(resident(&file, 0, 3 * rustix::param::page_size() + 1).unwrap(), [true; 4]);
    }

    #[test]
    fn the_idle_class_is_ours_to_take() {
        idle_io().unwrap();
    }
}
