//! The few system calls that no safe crate offers: read leases, the idle I/O class, and a look at the page cache.
//!
//! Owns all of the agent's `unsafe`; nothing here decides anything. Each call is a thin wrapper whose arguments
//! cannot be wrong by construction.
//! Outside facts: fcntl(2) "Leases", ioprio_set(2), mincore(2) of Linux man-pages 6.9.

#![expect(
    unsafe_code,
    reason = "fcntl leases, ioprio_set and mincore have no safe wrapper; three short calls"
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
