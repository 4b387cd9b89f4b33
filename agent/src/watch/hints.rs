//! What a root's owner has been told to look at.
//!
//! Owns the one mailbox of a root: paths that inotify mentioned, files that were hashed, requests to look at
//! everything. It is bounded and never makes a sender wait: paths beyond the bound become "look at everything".

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};

use super::asked::Asked;
use crate::hash::Done;

/// Paths kept apart: four times the kernel's own queue, some 10 MB. Looking at everything is cheaper beyond.
const MAX_PATHS: usize = 65_536;
/// A file that is being written makes an event for each write; it is looked at this often.
const LAZY: Duration = Duration::from_millis(100);

/// What happened to a path, as far as that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touch {
    /// Its bytes or attributes changed.
    Bytes,
    /// It appeared, disappeared or became something else.
    Entry,
}

/// Why everything below a root is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The agent starts.
    Start,
    /// The root is there, and was not.
    Appeared,
    /// The root is another directory than the one watched.
    Replaced,
    /// A file system was mounted or unmounted in, on or above it.
    Mount,
    /// Somebody asked.
    Asked,
    /// It is time.
    Timer,
    /// Not everything is reported, so it is looked at often.
    Blind,
    /// Something happened to the root directory itself.
    RootTouched,
    /// The kernel's queue, or ours, overflowed.
    Overflow,
    /// The watcher reported an error.
    WatcherError,
    /// The watcher's thread ended.
    WatcherEnded,
}

impl Cause {
    /// Tells whether events alone can cause it, over and over, so that it has to be slowed down.
    #[must_use]
    pub const fn may_storm(self) -> bool {
        matches!(self, Self::RootTouched | Self::Overflow | Self::WatcherError | Self::WatcherEnded)
    }
}

/// What a mailbox held.
#[derive(Debug, Default)]
pub struct Work {
    /// Look at everything.
    pub whole: Option<Cause>,
    /// Look at these.
    pub touched: BTreeMap<Vec<u8>, Touch>,
    /// These were hashed.
    pub done: Vec<Done>,
    /// These wait for a look at everything.
    pub asked: Vec<Arc<Asked>>,
    /// Stop.
    pub stop: bool,
}

#[derive(Debug, Default)]
struct Inner {
    work: Work,
    urgent: bool,
    lazy_since: Option<Instant>,
}

/// The mailbox.
#[derive(Debug, Default)]
pub struct Hints {
    inner: Mutex<Inner>,
    wake: Condvar,
}

impl Hints {
    /// Says that something happened to a path below the root.
    pub fn touch(&self, path: &[u8], touch: Touch) {
        let mut inner = self.lock();
        if let Some(known) = inner.work.touched.get_mut(path) {
            let more = touch > *known;
            *known = touch.max(*known);
            if !more {
                return;
            }
        } else if inner.work.touched.len() >= MAX_PATHS {
            inner.work.touched.clear();
            inner.work.whole.get_or_insert(Cause::Overflow);
        } else {
            inner.work.touched.insert(path.to_vec(), touch);
        }
        if touch == Touch::Bytes && inner.work.whole.is_none() {
            if inner.lazy_since.is_none() {
                inner.lazy_since = Some(Instant::now());
                self.wake.notify_one();
            }
        } else {
            self.urge(&mut inner);
        }
    }

    /// Says to look at everything; the first cause is kept.
    pub fn whole(&self, cause: Cause) {
        let mut inner = self.lock();
        inner.work.whole.get_or_insert(cause);
        self.urge(&mut inner);
    }

    /// Says to look at everything, and who waits for it; as many wait as the inventory lets.
    pub fn ask(&self, asked: Arc<Asked>) {
        let mut inner = self.lock();
        inner.work.asked.push(asked);
        inner.work.whole.get_or_insert(Cause::Asked);
        self.urge(&mut inner);
    }

    /// Says what came of hashing a file. As many wait here as a root lets be hashed at once.
    pub fn done(&self, done: Done) {
        let mut inner = self.lock();
        inner.work.done.push(done);
        self.urge(&mut inner);
    }

    /// Says to stop.
    pub fn stop(&self) {
        let mut inner = self.lock();
        inner.work.stop = true;
        self.urge(&mut inner);
    }

    /// Tells whether somebody said to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.lock().work.stop
    }

    /// Drops the paths: whoever looks at everything looks at them too.
    pub fn forget_paths(&self) {
        let mut inner = self.lock();
        inner.work.touched.clear();
        inner.lazy_since = None;
    }

    /// Waits for work, at most as long as given, and takes all of it.
    #[must_use]
    pub fn take(&self, wait: Duration) -> Work {
        let until = Instant::now() + wait;
        let mut inner = self.lock();
        loop {
            let lazy = inner.lazy_since.map(|since| since + LAZY);
            let left = lazy.unwrap_or(until).min(until).saturating_duration_since(Instant::now());
            if inner.urgent || left.is_zero() {
                break;
            }
            inner = self.wake.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        inner.urgent = false;
        inner.lazy_since = None;
        let stop = inner.work.stop;
        let work = std::mem::take(&mut inner.work);
        inner.work.stop = stop;
        work
    }

    fn urge(&self, inner: &mut Inner) {
        inner.urgent = true;
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Lists and flags are valid whatever panicked while they were held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells what an event means for the entry it names; `None` for those that only readers cause.
///
/// Every job that opens an image makes events, and so do we when we hash it: these must cost nothing.
#[must_use]
pub fn meaning(kind: &EventKind) -> Option<Touch> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => Some(Touch::Bytes),
        // Of a rename both halves are told apart already.
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => None,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Remove(_)
        | EventKind::Modify(_)
        | EventKind::Other => Some(Touch::Entry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, DataChange, MetadataKind, RemoveKind};

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn readers_cost_nothing() {
        for kind in [
            EventKind::Access(AccessKind::Open(AccessMode::Any)),
            EventKind::Access(AccessKind::Close(AccessMode::Read)),
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)),
        ] {
            assert_eq!(meaning(&kind), None, "{kind:?}");
        }
    }

    #[test]
    fn whatever_changes_an_entry_is_looked_at() {
        let check = |kind: EventKind, touch| assert_eq!(meaning(&kind), Some(touch), "{kind:?}");
        check(EventKind::Access(AccessKind::Close(AccessMode::Write)), Touch::Bytes);
        check(EventKind::Modify(ModifyKind::Data(DataChange::Any)), Touch::Bytes);
        check(EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)), Touch::Bytes);
        check(EventKind::Create(CreateKind::File), Touch::Entry);
        check(EventKind::Remove(RemoveKind::File), Touch::Entry);
        check(EventKind::Modify(ModifyKind::Name(RenameMode::From)), Touch::Entry);
        check(EventKind::Modify(ModifyKind::Name(RenameMode::To)), Touch::Entry);
    }

    #[test]
    fn many_events_of_one_path_are_one_and_the_stronger_counts() {
        let hints = Hints::default();
        for touch in [Touch::Bytes, Touch::Entry, Touch::Bytes] {
            hints.touch(b"a", touch);
        }
        assert_eq!(hints.take(NOW).touched, BTreeMap::from([(b"a".to_vec(), Touch::Entry)]));
        assert!(hints.take(NOW).touched.is_empty());
    }

    #[test]
    fn too_many_paths_become_everything() {
        let hints = Hints::default();
        for number in 0..=MAX_PATHS {
            hints.touch(number.to_string().as_bytes(), Touch::Entry);
        }
        let work = hints.take(NOW);
        assert_eq!((work.whole, work.touched.len()), (Some(Cause::Overflow), 0));
    }

    #[test]
    fn a_stop_is_never_lost() {
        let hints = Hints::default();
        hints.stop();
        assert!(hints.take(Duration::MAX / 4).stop && hints.take(NOW).stop && hints.is_stopping());
    }
}
