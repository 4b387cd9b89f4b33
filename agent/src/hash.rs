//! Reads settled files: what they are, and the digest of those that are images.
//!
//! Owns the decision that a file held still while it was read, the threads that read (lowest priority, idle I/O
//! class, a few for each root so that a dead file system stops nobody else's) and the counters of bytes read. It
//! never mmaps a file, which can shrink, and never holds a lease, which would keep a user from writing. Which
//! files to read, and when, is decided in [`crate::watch`].

mod pace;
pub(crate) mod read;
mod vouched;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sifleet_common::clock::Clock;
use sifleet_common::image::{Arch, ImageMetadata, classify};
use sifleet_common::inventory::{Content, Image, Unusable, UnusableCode, reason};
use sifleet_common::name::ImageName;
use sifleet_common::sif::{ReadAt, SifError};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::memory::{Memory, Remembered};
use crate::scan::{Facts, Kind, Print, Tree, is_remote};
use crate::sys::{self, Writers};
use crate::thread::Threads;

use pace::Pace;
use vouched::Vouched;

/// Files a root may have waiting in its queue; more wait in the root's own list, so a full queue holds up nobody.
pub const QUEUE: usize = 64;
/// A file that changed this shortly before it was read may have changed again within the same tick of the
/// file system's clock, which is up to 2 s long; without a lease it is not remembered.
const TICK: Duration = Duration::from_secs(2);
/// The lowest of nice values.
const NICE: i32 = 19;

/// What all hashing threads of an agent share.
#[derive(Debug)]
pub struct Hashing {
    /// What was found before.
    pub memory: Memory,
    /// The node's processor.
    pub arch: Arch,
    /// Tells the time.
    pub clock: Clock,
    /// Bytes read so far.
    pub bytes: Bytes,
    /// Files larger than this are not read.
    pub max_size: u64,
    /// Starts the threads of every part, and hears of those that panic.
    pub threads: Threads,
    pace: Pace,
    vouched: Vouched,
    stop: CancellationToken,
}

/// Counts bytes read from files since the start.
#[derive(Debug, Default)]
pub struct Bytes {
    hashed: AtomicU64,
    probed: AtomicU64,
}

impl Bytes {
    /// Returns how many bytes were hashed.
    #[must_use]
    pub fn hashed(&self) -> u64 {
        self.hashed.load(Ordering::Relaxed)
    }

    /// Returns how many bytes were read to tell what files are.
    #[must_use]
    pub fn probed(&self) -> u64 {
        self.probed.load(Ordering::Relaxed)
    }
}

/// A file to read.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its name below the root, which is also its path.
    pub name: ImageName,
    /// The version that settled.
    pub print: Print,
}

/// What came of a job.
#[derive(Debug)]
pub struct Done {
    /// The job.
    pub job: Job,
    /// What came of it.
    pub outcome: Outcome,
}

/// What reading a file gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its content; `sure` says that a lease showed that nobody wrote meanwhile.
    Content {
        /// The content.
        content: Content,
        /// Whether a lease showed it.
        sure: bool,
    },
    /// It is not that version any more, or not there.
    Changed,
    /// Somebody writes to it.
    BeingWritten,
    /// The agent stops.
    Stopped,
}

/// A file opened to be read, or why not.
#[derive(Debug)]
pub enum Opened {
    /// Open, the version asked for, and nobody is known to write.
    Ready(File, Writers),
    /// Not that version any more, or not there.
    Changed,
    /// Somebody writes to it.
    BeingWritten,
    /// The system does not let us.
    Refused(io::Error),
}

/// Opens a file if it is still the version asked for and nobody writes to it.
#[must_use]
pub fn open(tree: &Tree, job: &Job) -> Opened {
    let file = match tree.open_file(job.name.as_str().as_bytes()) {
        Ok(file) => file,
        Err(error) => {
            return match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::EXDEV | libc::ENXIO) => {
                    Opened::Changed
                }
                Some(libc::EAGAIN) => Opened::BeingWritten,
                _ => Opened::Refused(error),
            };
        }
    };
    // The lease first: whoever begins to write after it changes what stat says.
    match (writers_of(&file), is_still(&file, &job.print)) {
        (_, Ok(false)) => Opened::Changed,
        (_, Err(error)) => Opened::Refused(error),
        (Writers::Some, Ok(true)) => Opened::BeingWritten,
        (writers @ (Writers::None | Writers::CannotTell), Ok(true)) => Opened::Ready(file, writers),
    }
}

/// Tells whether anybody writes to a file, as far as this node's kernel knows.
fn writers_of(file: &File) -> Writers {
    believe(sys::writers(file), || is_remote(file))
}

/// A client of NFS or SMB refuses a lease whenever its server has not delegated the file to it, with the same error as
/// for a writer: that says nothing, and the settle time has to do.
fn believe(said: Writers, is_remote: impl FnOnce() -> bool) -> Writers {
    match said {
        Writers::Some if is_remote() => Writers::CannotTell,
        Writers::None | Writers::Some | Writers::CannotTell => said,
    }
}

fn is_still(file: &File, print: &Print) -> io::Result<bool> {
    let facts = Facts::from(&rustix::fs::fstat(file)?);
    Ok(facts.kind == Kind::File && facts.print == *print)
}

impl Hashing {
    /// Joins the parts; `rate` is in bytes a second for all roots together, `None` for no limit.
    #[must_use]
    pub fn new(memory: Memory, rate: Option<u64>, max_size: u64, stop: CancellationToken) -> Self {
        let machine = rustix::system::uname();
        Self {
            memory,
            arch: Arch::of_machine(&machine.machine().to_string_lossy()),
            clock: Clock::start(),
            bytes: Bytes::default(),
            max_size,
            threads: Threads::default(),
            pace: Pace::new(rate),
            vouched: Vouched::default(),
            stop,
        }
    }

    /// Returns what is remembered of this version of a file, if that answers what a root of this kind asks.
    #[must_use]
    pub fn recall(&self, print: &Print, library: bool) -> Option<Content> {
        self.memory.recall(print, self.today()).and_then(|found| present(found, self.arch, library))
    }

    /// Starts the threads that read a root's files; they end when the sender is dropped or the agent stops.
    ///
    /// # Errors
    /// When the system has no room for another thread.
    pub fn start(
        self: &Arc<Self>,
        root: &Path,
        library: bool,
        threads: usize,
        report: impl Fn(Done) + Clone + Send + 'static,
    ) -> io::Result<SyncSender<Job>> {
        let (jobs, queue) = sync_channel::<Job>(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads.max(1) {
            let (hashing, queue, root, report) =
                (Arc::clone(self), Arc::clone(&queue), root.to_owned(), report.clone());
            self.threads.start("hash", move || {
                yield_to_jobs();
                while let Some(job) = next(&queue) {
                    let outcome = hashing.read(&root, library, &job);
                    report(Done { job, outcome });
                }
            })?;
        }
        Ok(jobs)
    }

    /// Reads one file.
    fn read(&self, root: &Path, library: bool, job: &Job) -> Outcome {
        let Ok(tree) = Tree::open(root) else { return Outcome::Changed };
        let started = self.clock.now().wall;
        let (file, writers) = match open(&tree, job) {
            Opened::Ready(file, writers) => (file, writers),
            Opened::Changed => return Outcome::Changed,
            Opened::BeingWritten => return Outcome::BeingWritten,
            Opened::Refused(error) => return unreadable(&error),
        };
        // A hard link to it, or the same file below another root, may have been read since it was queued.
        if let Some(content) = self.recall(&job.print, library) {
            return Outcome::Content { content, sure: true };
        }
        let found = match self.look_into(&file, job, library) {
            Ok(Some(found)) => found,
            Ok(None) => return Outcome::Stopped,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return cut_short(&file, job),
            Err(error) => return unreadable(&error),
        };
        let after = writers_of(&file);
        match is_still(&file, &job.print) {
            Ok(true) if after == Writers::Some => return Outcome::BeingWritten,
            Ok(true) => {}
            Ok(false) => return Outcome::Changed,
            Err(error) => return unreadable(&error),
        }
        let sure = writers == Writers::None && after == Writers::None;
        if sure || job.print.is_older_than(TICK, started) {
            self.memory.remember(&job.print, &found, self.today());
        }
        match present(found, self.arch, library) {
            Some(content) => Outcome::Content { content, sure },
            None => Outcome::Changed,
        }
    }

    /// Tells what a file is and, for an image, its digest; `None` when the agent stops.
    fn look_into(&self, file: &File, job: &Job, library: bool) -> io::Result<Option<Remembered>> {
        let metadata = match classify(&Counted { file, bytes: &self.bytes.probed }) {
            Ok(metadata) => metadata,
            Err(SifError::Read { source, .. }) => return Err(source),
            Err(error) => return Ok(Some(Remembered::Unusable(refusal(&error)))),
        };
        if let Some(unusable) = unfit(&metadata, self.arch, library) {
            return Ok(Some(Remembered::Unusable(unusable)));
        }
        debug!(image = %job.name, bytes = job.print.size, "hashing");
        let counted = |bytes: u64| {
            self.bytes.hashed.fetch_add(bytes, Ordering::Relaxed);
            self.pace.wait(bytes, &self.clock, &self.stop)
        };
        let digest = read::digest(file, job.print.size, counted)?;
        Ok(digest.map(|digest| {
            let ImageMetadata { format, arch, mutable, .. } = metadata;
            Remembered::Image(Image { digest, format, arch, mutable })
        }))
    }

    fn today(&self) -> i64 {
        self.clock.now().wall.0.div_euclid(86_400_000)
    }
}

/// Takes the next job; `None` when there will be none.
fn next(queue: &Mutex<Receiver<Job>>) -> Option<Job> {
    // A receiver is sound whatever panicked while it was held.
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// Gives the calling thread the lowest priority, for the processor and for disks.
pub(crate) fn yield_to_jobs() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        warn!(%error, "hashing competes with jobs for the processor");
    }
    if let Err(error) = sys::idle_io() {
        warn!(%error, "hashing competes with jobs for disks");
    }
}

/// Turns what was found into what a root shows; `None` when it has to be read for that after all.
fn present(found: Remembered, node: Arch, library: bool) -> Option<Content> {
    match found {
        Remembered::Image(image) if !library && !node.runs(image.arch) => {
            Some(Content::Unusable(wrong_arch(image.arch, node)))
        }
        Remembered::Image(image) => Some(Content::Image(image)),
        Remembered::Unusable(what) if library && what.code == UnusableCode::WrongArch => None,
        Remembered::Unusable(what) => Some(Content::Unusable(what)),
    }
}

/// Says why a whole image cannot run here. A library keeps images for every processor, so there it does not ask.
fn unfit(metadata: &ImageMetadata, node: Arch, library: bool) -> Option<Unusable> {
    if !metadata.runnable.is_yes() {
        let detail = reason(metadata.runnable.to_string());
        return Some(Unusable { code: UnusableCode::NothingToRun, detail });
    }
    (!library && !node.runs(metadata.arch)).then(|| wrong_arch(metadata.arch, node))
}

fn wrong_arch(image: Arch, node: Arch) -> Unusable {
    Unusable { code: UnusableCode::WrongArch, detail: format!("built for {image}, this node is {node}") }
}

fn refusal(error: &SifError) -> Unusable {
    let code = match error {
        SifError::NotAnImage { .. } => UnusableCode::NotAnImage,
        SifError::NothingToRun { .. } => UnusableCode::NothingToRun,
        SifError::HeaderTruncated { .. }
        | SifError::TableTruncated { .. }
        | SifError::Truncated { .. }
        | SifError::FileSystemTruncated { .. } => UnusableCode::Truncated,
        SifError::Read { .. } => UnusableCode::Unreadable,
        SifError::Version { .. }
        | SifError::BadHeader { .. }
        | SifError::BadObject { .. }
        | SifError::Overlap { .. }
        | SifError::FileSystem { .. } => UnusableCode::Malformed,
    };
    Unusable { code, detail: reason(error.to_string()) }
}

/// Shows a file that the system does not let us read.
pub(crate) fn refused(error: &io::Error) -> Content {
    let detail = reason(format!("the agent cannot read it: {error}"));
    Content::Unusable(Unusable { code: UnusableCode::Unreadable, detail })
}

/// Judges a file that ended before its length. Only if it is another version is there a point in reading it again.
fn cut_short(file: &File, job: &Job) -> Outcome {
    match is_still(file, &job.print) {
        Ok(false) => Outcome::Changed,
        Ok(true) => unreadable(&io::Error::other(format!(
            "it ends before its length of {} bytes; check its file system",
            job.print.size
        ))),
        Err(error) => unreadable(&error),
    }
}

fn unreadable(error: &io::Error) -> Outcome {
    Outcome::Content { content: refused(error), sure: true }
}

/// A file whose bytes read are counted.
struct Counted<'a> {
    file: &'a File,
    bytes: &'a AtomicU64,
}

impl ReadAt for Counted<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let read = ReadAt::read_at(self.file, offset, buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }

    fn size(&self) -> io::Result<u64> {
        ReadAt::size(self.file)
    }
}

#[cfg(test)]
mod tests;
