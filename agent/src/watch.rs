//! Keeps what is known of each root true: one owner thread for each.
//!
//! Events are hints, the scan is truth. The owner ([`root`]) takes hints from a mailbox ([`hints`]) that inotify
//! ([`notifier`]) and the hashing threads fill, looks for itself, compares with what it knew ([`entries`]) and sends
//! the differences. Files that still change wait on a timetable ([`settle`]). It looks at everything at the start,
//! when events were lost, when a mount changed ([`mounts`]), when the root comes or is replaced, when asked, and
//! on a jittered timer. A root that hangs (a dead file server) holds up only its own thread.

pub mod asked;
pub mod hints;
pub mod notifier;
pub mod settle;

mod entries;
mod look;
mod mounts;
mod report;
mod root;
mod standing;
mod troubles;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use rustix::thread::Pid;
use sifleet_common::clock::Clock;
use sifleet_common::inventory::{Change, RootId, RootKind};
use sifleet_common::time::Monotonic;
use tokio::sync::mpsc;

use crate::hash::Hashing;
use hints::Hints;

/// Changes sent together at most.
const BATCH: usize = 512;

/// A root and how it is watched.
#[derive(Clone, Debug)]
pub struct RootSettings {
    /// Its number.
    pub id: RootId,
    /// Its absolute path.
    pub path: PathBuf,
    /// Whether it is the cluster's library.
    pub library: bool,
    /// Whether other nodes may get images from it; unless set, that is seen by who may write to it.
    pub trusted: Option<bool>,
    /// How long a file must stay as it is.
    pub settle: Duration,
    /// How often everything is looked at although nothing says so, give or take a fifth.
    pub reconcile: Duration,
    /// How often everything is looked at when not everything is reported.
    pub degraded_rescan: Duration,
    /// How often everything is looked at when other nodes may change it unnoticed.
    pub remote_rescan: Duration,
    /// How long after hashing a file is looked at again where leases do not work.
    pub recheck: Duration,
    /// Directories watched at most.
    pub max_watches: usize,
    /// Entries listed at most.
    pub max_entries: usize,
    /// Files hashed at the same time.
    pub hash_threads: usize,
}

/// Tells whether nobody but root and this agent can make files in a directory.
fn is_for_admins_only(directory: &std::fs::Metadata) -> bool {
    let user = directory.uid();
    // Where there is a list of further users, the bits of the group are what they may do at most.
    (user == 0 || user == rustix::process::geteuid().as_raw()) && directory.mode() & 0o022 == 0
}

impl RootSettings {
    /// Tells what may be made of the root's contents, as its directory is now.
    pub(crate) fn kind(&self) -> RootKind {
        let seen = || std::fs::metadata(&self.path).is_ok_and(|facts| is_for_admins_only(&facts));
        match (self.library, self.trusted) {
            (true, Some(true) | None) => RootKind::Library,
            (_, Some(false)) => RootKind::Untrusted,
            (false, Some(true)) => RootKind::Plain,
            (false, None) if seen() => RootKind::Plain,
            (false, None) => RootKind::Untrusted,
        }
    }

    /// Returns the full path of what is at `path` below the root.
    fn at(&self, path: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(path))
    }
}

/// Tells whether a root's owner moves.
#[derive(Debug, Default)]
pub struct Pulse {
    /// When it last moved while at work, in milliseconds of the monotonic clock, plus one; 0 while it waits.
    busy: AtomicU64,
    /// When it last moved at all, likewise; 0 while it waits for others than itself and its disk.
    moved: AtomicU64,
    /// Its thread; 0 before it has one.
    thread: AtomicI32,
}

impl Pulse {
    /// Says that work goes on.
    pub fn beat(&self, now: Monotonic) {
        let millis = u64::try_from(now.0.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        self.busy.store(millis, Ordering::Relaxed);
        self.moved.store(millis, Ordering::Relaxed);
    }

    /// Says that there is nothing to do; the owner looks again within [`PULSE`](root::PULSE).
    pub fn rest(&self) {
        self.busy.store(0, Ordering::Relaxed);
    }

    /// Says that the owner waits for the inventory, which has a pulse of its own.
    fn wait(&self) {
        self.rest();
        self.moved.store(0, Ordering::Relaxed);
    }

    /// Says that the calling thread is the owner's.
    fn is_mine(&self) {
        self.thread.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Relaxed);
    }

    /// Tells for how long work has stood still; zero while there is none.
    #[must_use]
    pub fn stuck_for(&self, now: Monotonic) -> Duration {
        since(&self.busy, now)
    }

    /// Tells whether the owner has not moved for longer than `patience` and is itself to blame; see [`standing`].
    #[must_use]
    pub fn is_lost(&self, now: Monotonic, patience: Duration) -> bool {
        since(&self.moved, now) > patience
            && Pid::from_raw(self.thread.load(Ordering::Relaxed)).is_some_and(standing::is_our_fault)
    }
}

fn since(point: &AtomicU64, now: Monotonic) -> Duration {
    match point.load(Ordering::Relaxed) {
        0 => Duration::ZERO,
        at => now.since(Monotonic(Duration::from_millis(at - 1))),
    }
}

/// A watched root, seen from outside.
#[derive(Debug)]
pub struct Watch {
    /// Its mailbox.
    pub hints: Arc<Hints>,
    /// Whether it moves.
    pub pulse: Arc<Pulse>,
}

impl Watch {
    /// Starts the threads that own a root. They send changes to `changes`, in batches, waiting while it is full, and
    /// end when told to stop or when nobody receives.
    ///
    /// # Errors
    /// When the system has no room for another thread.
    pub fn start(
        settings: RootSettings,
        hashing: Arc<Hashing>,
        changes: mpsc::Sender<Vec<Change>>,
    ) -> io::Result<Self> {
        let watch = Self { hints: Arc::default(), pulse: Arc::default() };
        let hints = Arc::clone(&watch.hints);
        let threads = settings.hash_threads;
        let jobs = hashing.start(&settings.path, settings.library, threads, move |done| hints.done(done))?;
        let (pulse, clock) = (Arc::clone(&watch.pulse), hashing.clock);
        let output = Output { changes, batch: Vec::new(), pulse, clock, closed: false };
        let (hints, starter) = (Arc::clone(&watch.hints), hashing.threads.clone());
        // The worker is made on its own thread: already its first look at the path may hang.
        starter.start("root", move || {
            output.pulse.is_mine();
            root::Worker::new(settings, hashing, (jobs, hints), output).run();
        })?;
        Ok(watch)
    }
}

/// Where an owner's changes go.
#[derive(Debug)]
struct Output {
    changes: mpsc::Sender<Vec<Change>>,
    batch: Vec<Change>,
    pulse: Arc<Pulse>,
    clock: Clock,
    closed: bool,
}

impl Output {
    fn push(&mut self, change: Change) {
        self.batch.push(change);
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    /// Sends what has gathered, waiting while the inventory is behind, which is no standstill of the root.
    fn flush(&mut self) {
        if !self.batch.is_empty() {
            self.pulse.wait();
            self.closed |= self.changes.blocking_send(std::mem::take(&mut self.batch)).is_err();
            self.pulse.beat(self.clock.now().mono);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use sifleet_common::inventory::ReplicaKey;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn a_root_that_hangs_after_its_changes_were_taken_stands_still() {
        let (changes, mut taken) = mpsc::channel(1);
        let clock = Clock::start();
        let mut output = Output { changes, batch: Vec::new(), pulse: Arc::default(), clock, closed: false };
        (0..BATCH).for_each(|_| {
            let key = ReplicaKey { root: RootId(0), name: "a".parse().unwrap() };
            output.push(Change::Remove(key));
        });
        assert_eq!(taken.try_recv().unwrap().len(), BATCH);
        let later = clock.now().mono.after(Duration::from_secs(100));
        assert!(output.pulse.stuck_for(later) >= Duration::from_secs(99));
    }

    /// Gives a pulse a thread that runs in circles, until it is told to stop.
    pub(crate) fn circling(pulse: &Arc<Pulse>) -> Arc<AtomicBool> {
        let stop = Arc::new(AtomicBool::new(false));
        let (mine, until) = (Arc::clone(pulse), Arc::clone(&stop));
        std::thread::spawn(move || {
            mine.is_mine();
            while !until.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        while pulse.thread.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        stop
    }

    #[test]
    fn an_owner_is_lost_when_it_is_to_blame_that_it_does_not_move() {
        let at = |seconds| Monotonic(Duration::from_secs(seconds));
        let (pulse, patience) = (Arc::new(Pulse::default()), Duration::from_secs(60));
        assert!(!pulse.is_lost(at(100), patience), "it has not begun");
        let owner = circling(&pulse);
        pulse.beat(at(0));
        assert!(!pulse.is_lost(at(60), patience));
        assert!(pulse.is_lost(at(61), patience));
        pulse.rest();
        assert!(pulse.is_lost(at(61), patience), "it rests for a second, not for a minute");
        pulse.wait();
        assert!(!pulse.is_lost(at(61), patience), "it waits for the inventory");
        owner.store(true, Ordering::Relaxed);
    }

    #[test]
    fn only_work_can_stand_still() {
        let at = |seconds| Monotonic(Duration::from_secs(seconds));
        let pulse = Pulse::default();
        assert_eq!(pulse.stuck_for(at(100)), Duration::ZERO);
        pulse.beat(at(0));
        assert_eq!(pulse.stuck_for(at(100)), Duration::from_secs(100));
        pulse.beat(at(99));
        assert_eq!(pulse.stuck_for(at(100)), Duration::from_secs(1));
        pulse.rest();
        assert_eq!(pulse.stuck_for(at(100)), Duration::ZERO);
    }

    #[test]
    fn a_directory_that_users_can_write_to_is_not_trusted() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let trusted = |mode: u32| {
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            is_for_admins_only(&std::fs::metadata(folder.path()).unwrap())
        };
        assert!(trusted(0o755) && trusted(0o700));
        assert!(!trusted(0o775) && !trusted(0o777) && !trusted(0o1777) && !trusted(0o757));
        if rustix::process::geteuid().is_root() {
            let give =
                |user, group| std::os::unix::fs::chown(folder.path(), Some(user), Some(group)).unwrap();
            give(4_711, 0);
            assert!(!trusted(0o755), "a user's own");
        }
    }
}
