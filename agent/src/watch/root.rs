//! The owner of one root.
//!
//! Owns when to look at what, and what is said of the root as a whole. It looks at single paths when hinted, at
//! everything when hints cannot be enough. A root that is not there is unknown and its entries stay as last known;
//! so does one whose file system is gone and left an empty mount point behind.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use sifleet_common::inventory::{Change, Root, RootState, reason};
use sifleet_common::name::ImageName;
use sifleet_common::telemetry::catalog;
use sifleet_common::time::Monotonic;
use tracing::{debug, info, warn};

use super::asked::Asked;
use super::entries::Entries;
use super::hints::{Cause, Hints, Touch, Work};
use super::look::Look;
use super::mounts::Mounts;
use super::notifier::Notifier;
use super::report::Report;
use super::troubles::{Hidden, Troubles, causes};
use super::{Output, Pulse, RootSettings};
use crate::hash::{Hashing, Job};
use crate::scan::{Found, Kind, Parent, Tree, Walk, show};

/// The root itself is looked at this often: a removal must be known within two seconds.
pub(super) const PULSE: Duration = Duration::from_secs(1);
/// Looks that events alone can cause take at most a third of the time.
const STORM_SHARE: u32 = 2;
/// Looks on a timer because of blindness take at most a tenth of the time.
const BLIND_SHARE: u32 = 9;
/// Below jobs, which run at 0, above hashing, which runs at 19.
const NICE: i32 = 10;
/// What inotify says of the directory that makes another one a sandbox.
const SANDBOX_MARK: &[u8] = b".singularity.d";

/// The owner.
#[derive(Debug)]
pub(super) struct Worker {
    settings: RootSettings,
    hashing: Arc<Hashing>,
    hints: Arc<Hints>,
    pulse: Arc<Pulse>,
    entries: Entries,
    mounts: Mounts,
    notifier: Option<Notifier>,
    /// Device and inode of the root that is watched; none while it is unknown.
    identity: Option<(u64, u64)>,
    /// What could not be looked at.
    troubles: Troubles,
    /// Which part of the root other nodes may change unnoticed, in words.
    remote: Option<String>,
    said: Option<Root>,
    pending: Option<Cause>,
    /// Who waits for the look at everything that is pending.
    asked: Vec<Arc<Asked>>,
    not_before: Monotonic,
    next_whole: Monotonic,
    next_blind: Option<Monotonic>,
    /// How long the last look at everything took.
    took: Duration,
    /// A root that could not be looked through is left alone until then.
    next_try: Monotonic,
    report: Option<Report>,
}

impl Worker {
    /// Makes the owner, on its own thread: it looks at the path.
    pub(super) fn new(
        settings: RootSettings,
        hashing: Arc<Hashing>,
        (jobs, hints): (SyncSender<Job>, Arc<Hints>),
        out: Output,
    ) -> Self {
        let pulse = Arc::clone(&out.pulse);
        pulse.beat(hashing.clock.now().mono);
        let entries = Entries::new(&settings, Arc::clone(&hashing), jobs, out);
        Self {
            mounts: Mounts::of(&settings.path),
            settings,
            hashing,
            hints,
            pulse,
            entries,
            notifier: None,
            identity: None,
            troubles: Troubles::default(),
            remote: None,
            said: None,
            pending: Some(Cause::Start),
            asked: Vec::new(),
            not_before: Monotonic::default(),
            next_whole: Monotonic::default(),
            next_blind: None,
            took: Duration::ZERO,
            next_try: Monotonic::default(),
            report: None,
        }
    }

    /// Runs until told to stop.
    pub(super) fn run(mut self) {
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            debug!(%error, "scanning competes with jobs for the processor");
        }
        while !self.hints.is_stopping() && !self.entries.is_closed() {
            let work = self.hints.take(self.wait());
            self.pulse.beat(self.now());
            self.step(work);
            self.entries.flush();
            if self.pending.is_none() {
                self.asked.clear();
            }
            self.pulse.rest();
            self.say_reconciled();
        }
    }

    fn now(&self) -> Monotonic {
        self.hashing.clock.now().mono
    }

    fn wait(&self) -> Duration {
        let now = self.now();
        let pending = self.pending.map(|_| self.not_before);
        let next = [pending, self.entries.next_due()].into_iter().flatten().min();
        next.map_or(PULSE, |at| at.since(now).min(PULSE))
    }

    fn step(&mut self, work: Work) {
        if let Some(cause) = work.whole {
            self.pending.get_or_insert(cause);
        }
        self.asked.extend(work.asked);
        let mut again = Vec::new();
        for done in work.done {
            let name = done.job.name.clone();
            if self.entries.hashed(done) {
                again.push(name);
            }
        }
        self.check_root();
        let now = self.now();
        if let Some(cause) = self.pending
            && (!cause.may_storm() || self.not_before <= now)
        {
            self.pending = None;
            self.look_at_all(cause);
            return;
        }
        again.extend(self.entries.due(now));
        if self.identity.is_some() && !(again.is_empty() && work.touched.is_empty()) {
            self.look_at_some(&work.touched, &again);
        }
    }

    /// Notices what no event tells: the root was moved, replaced, mounted over, unmounted, or is back.
    fn check_root(&mut self) {
        let now = self.now();
        let identity = std::fs::metadata(&self.settings.path).ok().map(|root| (root.dev(), root.ino()));
        let cause = if self.mounts.changed() {
            Some(Cause::Mount)
        } else if identity != self.identity && self.next_try <= now {
            Some(if self.identity.is_none() { Cause::Appeared } else { Cause::Replaced })
        } else if self.next_whole <= now {
            Some(Cause::Timer)
        } else if self.next_blind.is_some_and(|at| at <= now) {
            Some(Cause::Blind)
        } else {
            None
        };
        if let Some(cause) = cause
            && self.pending.is_none_or(Cause::may_storm)
        {
            self.pending = Some(cause);
        }
    }

    /// Looks at everything and says how far the root is known.
    fn look_at_all(&mut self, cause: Cause) {
        let started = self.now();
        let tree = match Tree::open(&self.settings.path) {
            Ok(tree) => tree,
            Err(error) => return self.lose(&causes(&error)),
        };
        if let Some(hollow) = self.mounts.hollow(&tree, &self.hashing.memory) {
            return self.lose(&hollow);
        }
        debug!(path = %self.settings.path.display(), ?cause, "looking at everything");
        self.hints.forget_paths();
        let only_blind = cause == Cause::Blind && self.notifier.is_some();
        if !only_blind {
            self.notifier = None;
            let (path, hints) = (&self.settings.path, Arc::clone(&self.hints));
            self.notifier = Some(Notifier::start(path, hints, self.settings.max_watches));
        }
        self.identity = Some(tree.identity());
        let bytes = self.hashing.bytes.hashed() + self.hashing.bytes.probed();
        let is_whole = self.walk(&tree, b"", false, !only_blind);
        self.took = self.now().since(started);
        if !is_whole {
            self.next_try = self.now().after((self.took * STORM_SHARE).max(PULSE));
            return;
        }
        self.plan(only_blind);
        self.say_state();
        if !only_blind {
            self.report.get_or_insert(Report { cause, started, bytes });
        }
    }

    fn plan(&mut self, only_blind: bool) {
        let now = self.now();
        self.not_before = now.after((self.took * STORM_SHARE).max(PULSE));
        if !only_blind {
            let troubled = self.troubles.may_pass().then_some(self.settings.remote_rescan);
            let often = troubled.map_or(self.settings.reconcile, |often| often.min(self.settings.reconcile));
            self.next_whole = now.after(jittered(often).max(self.took * BLIND_SHARE));
        }
        let often = self.remote.as_ref().map(|_| jittered(self.settings.remote_rescan));
        self.next_blind = often.map(|often| now.after(often.max(self.took * BLIND_SHARE)));
    }

    /// Sees to it that a root that is not reported whole is looked at often, from the moment that it is not.
    fn plan_blind(&mut self) {
        if self.notifier.as_ref().and_then(Notifier::blind).is_some() {
            let at = self.now().after(self.settings.degraded_rescan.max(self.took * BLIND_SHARE));
            self.next_blind = Some(self.next_blind.map_or(at, |planned| planned.min(at)));
        }
    }

    /// Looks at hinted paths, and at files whose time has come.
    fn look_at_some(&mut self, touched: &BTreeMap<Vec<u8>, Touch>, names: &[ImageName]) {
        let Ok(tree) = Tree::open(&self.settings.path) else { return };
        if Some(tree.identity()) != self.identity {
            return;
        }
        let mut covered: Option<&[u8]> = None;
        let names = names.iter().map(|name| name.as_str().as_bytes());
        for path in touched.keys().map(Vec::as_slice).chain(names) {
            let is_covered = covered
                .and_then(|directory| path.strip_prefix(directory))
                .is_some_and(|rest| rest.starts_with(b"/"));
            if !is_covered && self.look_at(&tree, path) {
                covered = Some(path);
            }
            self.pulse.beat(self.now());
        }
        self.say_state();
    }

    /// Looks at one path; true if it is a directory, which is then looked through.
    fn look_at(&mut self, tree: &Tree, path: &[u8]) -> bool {
        let (fd, private) = match tree.parent(path) {
            Ok(Parent::Open(fd, private)) => (fd, private),
            Ok(Parent::Gone) => return self.drop_path(path),
            Ok(Parent::Sandbox(at)) => return self.look_at(tree, path.get(..at).unwrap_or_default()),
            Ok(Parent::Ignored) => {
                let directory = path.strip_suffix(SANDBOX_MARK).and_then(|dir| dir.strip_suffix(b"/"));
                return directory.is_some_and(|directory| self.look_at(tree, directory));
            }
            Err(error) => return self.give_up(path, &error),
        };
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        match Tree::look(fd, name) {
            Ok(Some(facts)) if facts.kind == Kind::Directory => {
                self.walk(tree, path, private, true);
                true
            }
            Ok(Some(facts)) => {
                let Ok((name, escaped)) = ImageName::escape(path) else { return false };
                self.entries.begin();
                let found = Found { path, name: name.clone(), escaped, private, facts };
                if !self.entries.see(tree, &found, true) {
                    self.pending.get_or_insert(Cause::Overflow);
                }
                self.entries.sweep(name.as_str(), &Hidden::new());
                false
            }
            Ok(None) => self.drop_path(path),
            Err(error) => self.give_up(path, &error),
        }
    }

    /// Drops a path and all that was known below it.
    fn drop_path(&mut self, path: &[u8]) -> bool {
        if let Ok((name, _)) = ImageName::escape(path) {
            self.entries.begin();
            self.entries.sweep(name.as_str(), &Hidden::new());
            self.troubles.forget(name.as_str());
        }
        let full = self.settings.at(path);
        self.notifier.iter_mut().for_each(|notifier| notifier.forget(&full));
        false
    }

    /// Leaves a path that cannot be looked at to a look at everything, which says why.
    fn give_up(&mut self, path: &[u8], error: &std::io::Error) -> bool {
        debug!(path = %show(path), %error, "cannot look at a path");
        self.pending.get_or_insert(Cause::RootTouched);
        false
    }

    /// Looks through a directory, and drops what is not there; false if it was not looked through.
    fn walk(&mut self, tree: &Tree, path: &[u8], private: bool, closely: bool) -> bool {
        let notifier = self.notifier.as_mut().filter(|_| closely);
        self.entries.begin();
        let mut look = Look {
            tree,
            closely,
            entries: &mut self.entries,
            notifier,
            hints: &self.hints,
            pulse: &self.pulse,
            hashing: &self.hashing,
            troubles: Troubles::default(),
            remote: None,
        };
        let walk = tree.walk(path, private, &mut look);
        let (troubles, remote) = (look.troubles, look.remote);
        if path.is_empty() {
            self.remote = remote;
        }
        if let Some(why) = troubles.of_root() {
            self.lose(&format!("cannot look through {}: {why}", self.settings.path.display()));
            return false;
        }
        if walk == Walk::Whole {
            let path = ImageName::escape(path).map_or_else(|_| String::new(), |(name, _)| name.to_string());
            self.entries.sweep(&path, troubles.hidden());
            self.troubles.replace(&path, troubles);
        }
        walk == Walk::Whole
    }

    /// Says that nothing is known of the root any more; its entries stay as last known.
    fn lose(&mut self, why: &str) {
        self.notifier = None;
        self.identity = None;
        self.troubles = Troubles::default();
        self.next_blind = None;
        self.next_whole = self.now().after(self.settings.reconcile);
        self.send_state(RootState::Unknown { reason: reason(why) });
    }

    /// Says how far the root is known.
    fn say_state(&mut self) {
        let blind = self.notifier.as_ref().and_then(Notifier::blind).map(ToString::to_string);
        let remote = self.remote.as_ref().map(|remote| {
            let often = self.settings.remote_rescan;
            format!("{remote}, which reports no changes made on other nodes: they are found within {often:?}")
        });
        let state = self.troubles.state(blind.into_iter().chain(remote));
        self.send_state(state);
        self.plan_blind();
    }

    fn send_state(&mut self, state: RootState) {
        let (path, kind) = (self.settings.path.display().to_string(), self.settings.kind());
        let said = Root { path, kind, state };
        if self.said.as_ref() == Some(&said) {
            return;
        }
        let (path, id) = (&said.path, catalog::ROOT_UNKNOWN);
        match &said.state {
            RootState::Watched => info!(%path, ?kind, "root is watched"),
            RootState::Degraded { reason } => warn!(%path, error = %reason, "root is degraded"),
            RootState::Unknown { reason: error } => warn!(message_id = id, %path, error, "root is unknown"),
            RootState::Partial { reason } => warn!(%path, error = %reason, "root is known in part"),
        }
        self.entries.send(Change::Root(self.settings.id, self.said.insert(said).clone()));
    }

    fn say_reconciled(&mut self) {
        if self.entries.is_hashed()
            && let Some(report) = self.report.take()
        {
            let bytes = self.hashing.bytes.hashed() + self.hashing.bytes.probed();
            report.say(&self.settings.path, self.entries.len(), (bytes, self.now()));
        }
    }
}

/// Spreads looks of many nodes, so that a shared file server does not see all of them at once.
fn jittered(period: Duration) -> Duration {
    period.mul_f64(0.8 + 0.4 * rand::random::<f64>())
}
