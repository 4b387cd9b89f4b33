//! Keeps what is known of each root true: one owner thread for each.
//!
//! Events are hints, the scan is truth. The owner ([`root`]) takes hints from a mailbox ([`hints`]) that inotify
//! ([`notifier`]) and the hashing threads fill, looks for itself, compares with what it knew ([`entries`]) and sends
//! the differences. Files that still change wait on a timetable ([`settle`]). It looks at everything at the start,
//! when events were lost, when a mount changed ([`mounts`]), when the root comes or is replaced, when asked, and
//! on a jittered timer. A root that hangs (a dead file server) holds up only its own thread.

pub mod hints;
pub mod notifier;
pub mod settle;

mod entries;
mod look;
mod mounts;
mod root;
mod troubles;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sifleet_common::inventory::{Change, RootId};
use sifleet_common::time::Monotonic;
use tokio::sync::mpsc;

use crate::hash::Hashing;
use hints::Hints;

/// Changes sent together at most.
const BATCH: usize = 512;
/// Enough for reading directories and SQLite, a quarter of the default.
const STACK: usize = 512 * 1024;

/// A root and how it is watched.
#[derive(Clone, Debug)]
pub struct RootSettings {
    /// Its number.
    pub id: RootId,
    /// Its absolute path.
    pub path: PathBuf,
    /// Whether it is the cluster's library.
    pub library: bool,
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

/// Tells whether a root's owner moves.
#[derive(Debug, Default)]
pub struct Pulse {
    /// When it last moved while at work, in milliseconds of the monotonic clock, plus one; 0 while it waits.
    busy: AtomicU64,
}

impl Pulse {
    /// Says that work goes on.
    pub fn beat(&self, now: Monotonic) {
        let millis = u64::try_from(now.0.as_millis()).unwrap_or(u64::MAX);
        self.busy.store(millis.saturating_add(1), Ordering::Relaxed);
    }

    /// Says that there is nothing to do.
    pub fn rest(&self) {
        self.busy.store(0, Ordering::Relaxed);
    }

    /// Tells for how long work has stood still; zero while there is none.
    #[must_use]
    pub fn stuck_for(&self, now: Monotonic) -> Duration {
        match self.busy.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => now.since(Monotonic(Duration::from_millis(since - 1))),
        }
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
        let output = Output { changes, batch: Vec::new(), pulse: Arc::clone(&watch.pulse), closed: false };
        let worker = root::Worker::new(settings, hashing, (jobs, Arc::clone(&watch.hints)), output);
        std::thread::Builder::new().name("root".to_owned()).stack_size(STACK).spawn(move || worker.run())?;
        Ok(watch)
    }
}

/// Where an owner's changes go.
#[derive(Debug)]
struct Output {
    changes: mpsc::Sender<Vec<Change>>,
    batch: Vec<Change>,
    pulse: Arc<Pulse>,
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
            self.pulse.rest();
            self.closed |= self.changes.blocking_send(std::mem::take(&mut self.batch)).is_err();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
