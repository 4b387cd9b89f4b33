//! One root, opened for one piece of work, and the walk through it.
//!
//! Owns safe path resolution. A [`Tree`] is short-lived on purpose: an open directory would keep an admin from
//! unmounting its file system. Nothing is read but directories, and those in bounded pieces.
//! Outside facts: getdents64(2) of Linux man-pages 6.9.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, fstat, fstatfs, open, statat};
use rustix::io::Errno;
use sifleet_common::beneath::open_beneath;
use sifleet_common::name::ImageName;

use super::{Facts, Kind, RootError, Trouble, is_listed, remote};

/// Deepest directory that is looked into: nobody files images 64 levels deep, and bind mounts can nest.
pub const MAX_DEPTH: usize = 64;
/// What apptainer puts into every container's root directory.
const SANDBOX_MARK: &CStr = c".singularity.d";
/// Bytes of directory entries fetched at once.
const BATCH: usize = 32 * 1024;

/// An entry that counts.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    /// Its path below the root, as it is.
    pub path: &'a [u8],
    /// Its path below the root, as it is shown.
    pub name: ImageName,
    /// Whether the two differ.
    pub escaped: bool,
    /// Whether a directory on the way, the root included, does not let everybody pass.
    pub private: bool,
    /// What stat says.
    pub facts: Facts,
}

/// Is told what a walk finds.
pub trait Visitor {
    /// Is called before a directory is opened, so that whatever appears while it is read is reported.
    fn enter(&mut self, path: &[u8]);
    /// Is called for each entry that counts; a directory is one only if it is a sandbox.
    fn entry(&mut self, found: Found<'_>);
    /// Is called for each part that could not be looked at.
    fn trouble(&mut self, path: &[u8], trouble: Trouble);
    /// Is called for a directory on a file system that reports no changes made on other nodes, once for each such
    /// file system.
    fn remote(&mut self, path: &[u8], kind: &'static str);
    /// Is called for each directory and now and then within one; the walk ends when it returns false.
    fn go_on(&mut self) -> bool;
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// Everything was looked at.
    Whole,
    /// The visitor wanted no more.
    Stopped,
}

/// What stands above an entry.
#[derive(Debug)]
pub enum Parent {
    /// A directory that counts, and whether it or one above it, up to the root, does not let everybody pass.
    Open(OwnedFd, bool),
    /// Something on the way is a sandbox: this many bytes of the path name it.
    Sandbox(usize),
    /// Something on the way is hidden or nested too deeply, so the entry does not count.
    Ignored,
    /// Something on the way is no directory.
    Gone,
}

/// A root, opened.
#[derive(Debug)]
pub struct Tree {
    fd: OwnedFd,
    path: PathBuf,
    facts: Facts,
}

impl Tree {
    /// Opens a root; its own path may lead through links, because the admin wrote it.
    ///
    /// # Errors
    /// [`RootError`], which says what to do.
    pub fn open(path: &Path) -> Result<Self, RootError> {
        let failed = |errno: Errno| match errno {
            Errno::NOENT => RootError::Absent { path: path.to_owned() },
            Errno::NOTDIR => RootError::NotADirectory { path: path.to_owned() },
            other => RootError::Unreadable { path: path.to_owned(), source: other.into() },
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = open(path, flags, Mode::empty()).map_err(failed)?;
        let facts = Facts::from(&fstat(&fd).map_err(failed)?);
        Ok(Self { fd, path: path.to_owned(), facts })
    }

    /// Returns device and inode of the root itself, which tell whether it was replaced.
    #[must_use]
    pub fn identity(&self) -> (u64, u64) {
        (self.facts.print.dev, self.facts.print.ino)
    }

    /// Returns the root's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells whether the root itself does not let everybody pass. What is above it nobody can judge from here: a job
    /// may reach it another way.
    fn is_private(&self) -> bool {
        !self.facts.lets_all_pass()
    }

    /// Tells whether there is nothing at all in the root.
    ///
    /// # Errors
    /// Whatever reading it gives.
    pub fn is_empty(&self) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut entries = RawDir::new(self.open_dir(b"")?, &mut buffer);
        while let Some(entry) = entries.next() {
            if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Opens a file for reading; never waits for a FIFO's writer, never follows a link.
    ///
    /// # Errors
    /// What the system says; `ELOOP` and `EXDEV` for links and what lies outside.
    pub fn open_file(&self, path: &[u8]) -> io::Result<File> {
        self.resolve(path, OFlags::RDONLY | OFlags::NOCTTY).map(File::from).map_err(io::Error::from)
    }

    fn open_dir(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    fn resolve(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        open_beneath(&self.fd, path, flags | OFlags::NONBLOCK, Mode::empty())
    }

    /// Finds the directory that holds `path`, judging each on the way.
    ///
    /// # Errors
    /// What the system says other than that nothing is there.
    pub fn parent(&self, path: &[u8]) -> io::Result<Parent> {
        let mut above: Option<OwnedFd> = None;
        let mut private = self.is_private();
        let mut from = 0;
        for (depth, at) in
            path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).enumerate()
        {
            let component = path.get(from..at).unwrap_or_default();
            if !is_listed(component) || depth >= MAX_DEPTH {
                return Ok(Parent::Ignored);
            }
            let fd = match above.as_ref() {
                Some(fd) => open_beneath(fd, component, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()),
                None => self.resolve(component, OFlags::RDONLY | OFlags::DIRECTORY),
            };
            let fd = match fd {
                Ok(fd) => fd,
                Err(errno) if is_gone(errno) => return Ok(Parent::Gone),
                Err(errno) => return Err(errno.into()),
            };
            if is_sandbox(&fd) {
                return Ok(Parent::Sandbox(at));
            }
            private |= !Facts::from(&fstat(&fd)?).lets_all_pass();
            above = Some(fd);
            from = at + 1;
        }
        if !is_listed(path.get(from..).unwrap_or_default()) {
            return Ok(Parent::Ignored);
        }
        match above {
            Some(fd) => Ok(Parent::Open(fd, private)),
            None => Ok(Parent::Open(self.open_dir(b"")?, private)),
        }
    }

    /// Looks at one entry of an open directory; `None` if it is not there.
    ///
    /// # Errors
    /// Whatever stat gives other than that nothing is there.
    pub fn look(parent: impl AsFd, name: &[u8]) -> io::Result<Option<Facts>> {
        match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT) {
            Ok(stat) => Ok(Some(Facts::from(&stat))),
            Err(errno) if is_gone(errno) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Walks through a directory and all below it.
    ///
    /// `private` says whether a directory above `start` does not let everybody pass. Whatever vanishes meanwhile
    /// is left out.
    pub fn walk(&self, start: &[u8], private: bool, visitor: &mut impl Visitor) -> Walk {
        let mut ahead = vec![(start.to_vec(), private)];
        let mut buffer = vec![MaybeUninit::uninit(); BATCH];
        let mut devices = BTreeSet::new();
        while let Some((path, private)) = ahead.pop() {
            visitor.enter(&path);
            let depth =
                if path.is_empty() { 0 } else { 1 + path.iter().filter(|byte| **byte == b'/').count() };
            if depth > MAX_DEPTH {
                visitor.trouble(&path, Trouble::TooDeep { path: show(&path) });
                continue;
            }
            let fd = match self.open_dir(&path) {
                Ok(fd) => fd,
                // A root is never gone: whoever looks through it found it there.
                Err(errno) if is_gone(errno) && !path.is_empty() => continue,
                Err(errno) => {
                    visitor.trouble(&path, Trouble::Unreadable { path: show(&path), source: errno.into() });
                    continue;
                }
            };
            let mut listing = Listing { fd, path, private, ahead: &mut ahead, devices: &mut devices };
            if listing.read(&mut buffer, visitor) == Walk::Stopped {
                return Walk::Stopped;
            }
        }
        Walk::Whole
    }
}

/// One directory being read.
struct Listing<'a> {
    fd: OwnedFd,
    path: Vec<u8>,
    private: bool,
    ahead: &'a mut Vec<(Vec<u8>, bool)>,
    /// Devices met so far.
    devices: &'a mut BTreeSet<u64>,
}

impl Listing<'_> {
    fn read(&mut self, buffer: &mut [MaybeUninit<u8>], visitor: &mut impl Visitor) -> Walk {
        let facts = match fstat(&self.fd) {
            Ok(stat) => Facts::from(&stat),
            Err(errno) => {
                visitor.trouble(&self.path, self.unreadable(errno));
                return Walk::Whole;
            }
        };
        if self.devices.insert(facts.print.dev)
            && let Some(kind) = fstatfs(&self.fd).ok().and_then(|stat| remote::kind(stat.f_type))
        {
            visitor.remote(&self.path, kind);
        }
        if !self.path.is_empty() && is_sandbox(&self.fd) {
            announce(&self.path, self.private, facts, visitor);
            return Walk::Whole;
        }
        self.private |= !facts.lets_all_pass();
        let Ok(reading) = self.fd.try_clone() else {
            visitor.trouble(&self.path, self.unreadable(Errno::MFILE));
            return Walk::Whole;
        };
        let mut entries = RawDir::new(reading, buffer);
        let mut stopped = !visitor.go_on();
        while let Some(entry) = entries.next().filter(|_| !stopped) {
            match entry {
                Ok(entry) => self.entry(entry.file_name(), visitor),
                Err(Errno::NOENT) if !self.path.is_empty() => break,
                Err(errno) => {
                    visitor.trouble(&self.path, self.unreadable(errno));
                    break;
                }
            }
            if entries.is_buffer_empty() {
                stopped = !visitor.go_on();
            }
        }
        if stopped { Walk::Stopped } else { Walk::Whole }
    }

    fn entry(&mut self, name: &CStr, visitor: &mut impl Visitor) {
        if !is_listed(name.to_bytes()) {
            return;
        }
        let mut path = self.path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        let facts = match Tree::look(&self.fd, name.to_bytes()) {
            Ok(Some(facts)) => facts,
            Ok(None) => return,
            Err(source) => {
                visitor.trouble(&path, Trouble::Unseen { path: show(&path), source });
                return;
            }
        };
        if facts.kind == Kind::Directory {
            self.ahead.push((path, self.private));
        } else {
            announce(&path, self.private, facts, visitor);
        }
    }

    fn unreadable(&self, errno: Errno) -> Trouble {
        Trouble::Unreadable { path: show(&self.path), source: errno.into() }
    }
}

fn announce(path: &[u8], private: bool, facts: Facts, visitor: &mut impl Visitor) {
    match ImageName::escape(path) {
        Ok((name, escaped)) => visitor.entry(Found { path, name, escaped, private, facts }),
        Err(_too_long) => visitor.trouble(path, Trouble::TooLong { path: show(path) }),
    }
}

fn is_sandbox(directory: impl AsFd) -> bool {
    statat(directory, SANDBOX_MARK, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// What resolving a path says when it is not there, or leads through something that is no directory.
fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV)
}

/// Shows the beginning of a path that may not be a name.
pub(crate) fn show(path: &[u8]) -> String {
    path.get(..path.len().min(120)).unwrap_or_default().escape_ascii().to_string()
}
