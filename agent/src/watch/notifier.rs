//! The kernel's file events for one root, as hints.
//!
//! Owns one inotify watcher and its life. Directories are watched one by one, by whoever reads them, so that it is
//! known which are. The watcher's thread may die without a word: the handler it owns then dies with it and says
//! so. A watcher is never repaired, only replaced, together with a look at everything.
//! Outside facts: inotify(7), notify 8.2 src/inotify.rs (its calls panic when its thread is gone).

use std::collections::BTreeSet;
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use notify::event::{Event, Flag};
use notify::{Config, ErrorKind, EventHandler, INotifyWatcher, RecursiveMode, Watcher};
use tracing::{debug, warn};

use super::hints::{Cause, Hints, meaning};

/// Says why not everything is reported. Display is what an admin reads in every answer about the node.
#[derive(Debug, thiserror::Error)]
pub enum Blind {
    /// The kernel allows no more watched directories.
    #[error(
        "the kernel allows no more watched directories after {watched} of this root: raise the sysctl \
         fs.inotify.max_user_watches, which is {limit}"
    )]
    Watches {
        /// Directories of this root that are watched.
        watched: usize,
        /// What the sysctl says.
        limit: String,
    },
    /// The settings allow no more watched directories.
    #[error(
        "{watched} directories of this root are watched: raise max_watches in the agent's settings to watch all"
    )]
    Allowance {
        /// Directories of this root that are watched.
        watched: usize,
    },
    /// The kernel allows no more watchers.
    #[error(
        "the kernel gives no file events ({cause}): raise the sysctl fs.inotify.max_user_instances, which is {limit}"
    )]
    Instances {
        /// What notify said.
        cause: String,
        /// What the sysctl says.
        limit: String,
    },
    /// One directory cannot be watched.
    #[error("the directory {path:?} cannot be watched ({cause})")]
    Directory {
        /// Which.
        path: PathBuf,
        /// What notify said.
        cause: String,
    },
    /// The watcher's thread is gone.
    #[error("the watcher ended unexpectedly and is being replaced")]
    Ended,
}

/// Watches directories of one root.
#[derive(Debug)]
pub struct Notifier {
    /// `None` once its thread is known to be gone: dropping it would panic.
    watcher: Option<INotifyWatcher>,
    closing: Arc<AtomicBool>,
    /// A directory is asked for again whenever it is looked through.
    watched: BTreeSet<PathBuf>,
    allowance: usize,
    blind: Option<Blind>,
}

/// Turns events into hints; lives and dies with the watcher's thread.
struct Handler {
    root: PathBuf,
    hints: Arc<Hints>,
    closing: Arc<AtomicBool>,
}

impl EventHandler for Handler {
    fn handle_event(&mut self, event: notify::Result<Event>) {
        match event {
            Ok(event) => self.handle(&event),
            Err(error) => {
                warn!(path = %self.root.display(), %error, "watcher reports an error");
                self.hints.whole(Cause::WatcherError);
            }
        }
    }
}

impl Handler {
    fn handle(&self, event: &Event) {
        if event.attrs.flag() == Some(Flag::Rescan) {
            self.hints.whole(Cause::Overflow);
            return;
        }
        let Some(touch) = meaning(&event.kind) else { return };
        for path in &event.paths {
            match path.strip_prefix(&self.root) {
                Ok(below) if below.as_os_str().is_empty() => self.hints.whole(Cause::RootTouched),
                Ok(below) => self.hints.touch(below.as_os_str().as_bytes(), touch),
                Err(_elsewhere) => debug!(path = %path.display(), "event outside the root"),
            }
        }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        if !self.closing.load(Ordering::Acquire) {
            self.hints.whole(Cause::WatcherEnded);
        }
    }
}

impl Notifier {
    /// Starts a watcher that watches nothing yet, and will watch at most `allowance` directories.
    #[must_use]
    pub fn start(root: &Path, hints: Arc<Hints>, allowance: usize) -> Self {
        // A watcher that never came to be is not missed when its handler goes.
        let closing = Arc::new(AtomicBool::new(true));
        let handler = Handler { root: root.to_owned(), hints, closing: Arc::clone(&closing) };
        let (watcher, blind) = match INotifyWatcher::new(handler, Config::default()) {
            Ok(watcher) => {
                closing.store(false, Ordering::Release);
                (Some(watcher), None)
            }
            Err(error) => {
                let limit = sysctl("max_user_instances");
                (None, Some(Blind::Instances { cause: error.to_string(), limit }))
            }
        };
        Self { watcher, closing, watched: BTreeSet::new(), allowance, blind }
    }

    /// Watches one directory, not what is below it. Call it before reading the directory.
    ///
    /// After the first failure it does nothing: [`Notifier::blind`] says why.
    pub fn watch(&mut self, path: &Path) {
        let Some(watcher) = self.watcher.as_mut().filter(|_| self.blind.is_none()) else { return };
        let is_known = self.watched.contains(path);
        if self.watched.len() >= self.allowance && !is_known {
            self.blind = Some(Blind::Allowance { watched: self.watched.len() });
            return;
        }
        let asked = catch_unwind(AssertUnwindSafe(|| watcher.watch(path, RecursiveMode::NonRecursive)));
        match asked {
            Ok(Ok(())) if is_known => {}
            Ok(Ok(())) => drop(self.watched.insert(path.to_owned())),
            Ok(Err(error)) => self.blind = self.judge(path, &error),
            Err(_its_thread_is_gone) => {
                self.blind = Some(Blind::Ended);
                std::mem::forget(self.watcher.take());
            }
        }
    }

    /// Notes that a directory and all below it are gone; the kernel ended their watches.
    pub fn forget(&mut self, path: &Path) {
        let below = self.watched.range::<Path, _>((Bound::Included(path), Bound::Unbounded));
        let gone: Vec<PathBuf> = below.take_while(|watched| watched.starts_with(path)).cloned().collect();
        for path in gone {
            self.watched.remove(&path);
        }
    }

    /// Says why not everything is reported, if so.
    #[must_use]
    pub fn blind(&self) -> Option<&Blind> {
        self.blind.as_ref()
    }

    /// `None` for what the walk itself will notice: the directory vanished or cannot be read.
    fn judge(&self, path: &Path, error: &notify::Error) -> Option<Blind> {
        match &error.kind {
            ErrorKind::MaxFilesWatch => {
                Some(Blind::Watches { watched: self.watched.len(), limit: sysctl("max_user_watches") })
            }
            ErrorKind::PathNotFound => None,
            ErrorKind::Io(io) if is_left_to_the_walk(io) => None,
            ErrorKind::Io(_)
            | ErrorKind::Generic(_)
            | ErrorKind::WatchNotFound
            | ErrorKind::InvalidConfig(_) => {
                Some(Blind::Directory { path: path.to_owned(), cause: error.to_string() })
            }
        }
    }
}

fn is_left_to_the_walk(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::ELOOP))
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Release);
        let watcher = self.watcher.take();
        if catch_unwind(AssertUnwindSafe(|| drop(watcher))).is_err() {
            debug!("the watcher was gone already");
        }
    }
}

fn sysctl(name: &str) -> String {
    let text = std::fs::read_to_string(Path::new("/proc/sys/fs/inotify").join(name));
    text.map_or_else(|_| "unknown".to_owned(), |text| text.trim().chars().take(20).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn folder() -> (tempfile::TempDir, Arc<Hints>) {
        (tempfile::tempdir().unwrap(), Arc::default())
    }

    /// Dies of the first event, as notify's own thread does of a failed poll.
    struct Mortal(Handler);

    impl EventHandler for Mortal {
        fn handle_event(&mut self, event: notify::Result<Event>) {
            panic!("on purpose, in {:?}, at {event:?}", self.0.root);
        }
    }

    #[test]
    fn a_watcher_whose_thread_dies_is_missed_and_harms_nobody() {
        let (folder, hints) = folder();
        let closing = Arc::new(AtomicBool::new(false));
        let root = folder.path().to_owned();
        let handler = Handler { root, hints: Arc::clone(&hints), closing: Arc::clone(&closing) };
        let watcher = INotifyWatcher::new(Mortal(handler), Config::default()).unwrap();
        let mut notifier = Notifier {
            watcher: Some(watcher),
            closing,
            watched: BTreeSet::new(),
            allowance: usize::MAX,
            blind: None,
        };
        notifier.watch(folder.path());
        assert!(notifier.blind().is_none());
        std::fs::write(folder.path().join("a"), "").unwrap();
        assert_eq!(hints.take(Duration::from_secs(30)).whole, Some(Cause::WatcherEnded));
        let deadline = Instant::now() + Duration::from_secs(30);
        while notifier.blind().is_none() && Instant::now() < deadline {
            notifier.watch(folder.path());
        }
        assert!(matches!(notifier.blind(), Some(Blind::Ended)));
    }

    #[test]
    fn a_watcher_that_is_closed_is_not_missed() {
        let (folder, hints) = folder();
        let mut notifier = Notifier::start(folder.path(), Arc::clone(&hints), usize::MAX);
        notifier.watch(folder.path());
        std::fs::write(folder.path().join("a"), "").unwrap();
        let touched = hints.take(Duration::from_secs(30)).touched;
        assert!(touched.contains_key(b"a".as_slice()), "{touched:?}");
        drop(notifier);
        while Arc::strong_count(&hints) > 1 {
            std::thread::yield_now();
        }
        assert_eq!(hints.take(Duration::ZERO).whole, None);
    }

    #[test]
    fn directories_that_vanish_or_cannot_be_read_are_left_to_the_walk() {
        let (folder, hints) = folder();
        let mut notifier = Notifier::start(folder.path(), hints, 1);
        notifier.watch(&folder.path().join("nothing"));
        assert!(notifier.blind().is_none());
        notifier.watch(folder.path());
        std::fs::create_dir(folder.path().join("more")).unwrap();
        notifier.watch(&folder.path().join("more"));
        assert!(matches!(notifier.blind(), Some(Blind::Allowance { watched: 1 })));
    }

    #[test]
    fn directories_are_counted_once_and_not_after_they_are_gone() {
        let (folder, hints) = folder();
        let [a, b, c] = ["a", "a/b", "c"].map(|name| folder.path().join(name));
        std::fs::create_dir_all(&b).unwrap();
        std::fs::create_dir(&c).unwrap();
        let mut notifier = Notifier::start(folder.path(), hints, 2);
        for _ in 0..3 {
            notifier.watch(&a);
            notifier.watch(&b);
        }
        assert!(notifier.blind().is_none());
        notifier.forget(&a);
        notifier.watch(&c);
        notifier.watch(folder.path());
        assert!(notifier.blind().is_none());
        notifier.watch(&a);
        assert!(matches!(notifier.blind(), Some(Blind::Allowance { watched: 2 })));
    }

    #[test]
    fn an_overflow_asks_for_a_look_at_everything() {
        let (folder, hints) = folder();
        let closing = Arc::new(AtomicBool::new(true));
        let mut handler = Handler { root: folder.path().to_owned(), hints: Arc::clone(&hints), closing };
        handler.handle_event(Ok(Event::new(notify::EventKind::Other).set_flag(Flag::Rescan)));
        assert_eq!(hints.take(Duration::ZERO).whole, Some(Cause::Overflow));
        handler.handle_event(Err(notify::Error::generic("odd")));
        assert_eq!(hints.take(Duration::ZERO).whole, Some(Cause::WatcherError));
    }
}
