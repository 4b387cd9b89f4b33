//! The assignments of this node: which run, which wait, what is reported of each.
//!
//! The same image for the same place is one assignment, whatever number it has: a coordinator that was restarted gives
//! other numbers and finds everything as it left it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use sifleet_common::digest::Digest;
use sifleet_common::inventory::RootId;
use sifleet_common::name::ImageName;
use sifleet_common::policy::Policy;
use sifleet_common::push::{FailCode, Phase};
use sifleet_common::telemetry::{Chain, catalog};
use sifleet_common::wire::assignment::{Assignment, AssignmentId, MAX_ASSIGNMENTS, Report};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{info, warn};

use crate::fetch::run::{self, Resources};
use crate::fetch::status::{Failure, Status};
use crate::staging::Staging;
use crate::transfer::say;

/// What an attempt left is thrown away when nobody went on with it for so long.
const LEFT: Duration = Duration::from_secs(86_400);

/// What makes two assignments the same.
type Key = (Digest, RootId, ImageName);

/// The assignments of this node.
pub struct Orders {
    resources: Arc<Resources>,
    /// How many run at once, by the settings and at present.
    set: usize,
    concurrent: usize,
    reports: mpsc::Sender<Report>,
    assigned: BTreeMap<Key, Assigned>,
    running: JoinSet<()>,
    /// Images whose staging files are being thrown away; nobody may go on with those.
    leaving: Arc<Mutex<BTreeSet<(Digest, RootId)>>>,
    turned: Arc<Notify>,
}

struct Assigned {
    wanted: watch::Sender<Assignment>,
    /// What its signatures must be.
    demand: watch::Sender<Policy>,
    status: Arc<Status>,
    /// Absent while it waits.
    fetch: Option<AbortHandle>,
    /// What was reported last was its end.
    ended: bool,
}

impl Orders {
    /// Begins without assignments; at most `concurrent` run at once.
    #[must_use]
    pub fn new(resources: Arc<Resources>, concurrent: usize, reports: mpsc::Sender<Report>) -> Self {
        let (assigned, running, turned) = (BTreeMap::new(), JoinSet::new(), Arc::new(Notify::new()));
        let set = concurrent.max(1);
        let leaving = Arc::default();
        Self { resources, set, concurrent: set, reports, assigned, running, leaving, turned }
    }

    /// Sets how many run at once; absent: what is set. Those that run beyond it go on to their end.
    pub fn allow(&mut self, fetches: Option<u16>) {
        self.concurrent = fetches.map_or(self.set, |fetches| usize::from(fetches).max(1));
        self.begin();
    }

    /// Waits until an assignment is in another phase.
    pub async fn turned(&self) {
        self.turned.notified().await;
    }

    /// Takes an assignment as it should be. One that had ended begins anew, but for one that went well and is only said
    /// again: what was published is not fetched twice.
    pub fn assign(&mut self, assignment: Assignment, policy: Policy) {
        if !policy.is_bounded() {
            warn!(image = %assignment.name, "an assignment with a policy beyond its limits is not taken");
            return;
        }
        let key = (assignment.image, assignment.root, assignment.name.clone());
        if let Some(assigned) = self.assigned.get_mut(&key) {
            let id = assignment.id;
            assigned.demand.send_replace(policy);
            let before = assigned.wanted.send_replace(assignment);
            let phase = assigned.status.phase();
            if phase.is_under_way() || phase == Phase::Done && before.id == id {
                if let Some(progress) = assigned.status.report(id, true) {
                    say(&self.reports, Report::Progress(progress));
                }
            } else {
                assigned.status = Arc::new(Status::new(Arc::clone(&self.turned)));
                (assigned.fetch, assigned.ended) = (None, false);
            }
        } else if self.assigned.len() < MAX_ASSIGNMENTS {
            let status = Arc::new(Status::new(Arc::clone(&self.turned)));
            let ((wanted, _), (demand, _)) = (watch::channel(assignment), watch::channel(policy));
            self.assigned.insert(key, Assigned { wanted, demand, status, fetch: None, ended: false });
        } else {
            warn!(image = %assignment.name, "an assignment beyond the limit of {MAX_ASSIGNMENTS} is not taken");
        }
        self.begin();
        self.report();
    }

    /// Tells whether an image is being brought to a place.
    #[must_use]
    pub fn brings(&self, root: RootId, name: &ImageName) -> bool {
        let is_there = |key: &Key| key.1 == root && key.2 == *name;
        let under_way =
            |(key, assigned): (&Key, &Assigned)| is_there(key) && assigned.status.phase().is_under_way();
        self.assigned.iter().any(under_way)
    }

    /// Ends an assignment and throws away what was fetched of it.
    pub fn unassign(&mut self, id: AssignmentId) {
        self.end(|of| of == id);
    }

    /// Ends all assignments but these.
    pub fn keep_only(&mut self, ids: &[AssignmentId]) {
        self.end(|of| !ids.contains(&of));
    }

    fn end(&mut self, which: impl Fn(AssignmentId) -> bool) {
        let ended: Vec<Key> = self
            .assigned
            .iter()
            .filter(|(_, assigned)| which(assigned.wanted.borrow().id))
            .map(|(key, _)| key.clone())
            .collect();
        for key in ended {
            let Some(assigned) = self.assigned.remove(&key) else { continue };
            let Some(fetch) = assigned.fetch else { continue };
            fetch.abort();
            let shared = self.assigned.keys().any(|other| (other.0, other.1) == (key.0, key.1));
            // One that failed may have left what another try would have gone on with.
            if assigned.status.phase() != Phase::Done && !shared {
                self.throw_away(key);
            }
        }
        self.begin();
    }

    fn throw_away(&mut self, (image, root, name): Key) {
        info!(image = %name, digest = %image, "an assignment was withdrawn");
        let Some(path) = self.resources.root(root).cloned() else { return };
        let (resources, leaving) = (Arc::clone(&self.resources), Arc::clone(&self.leaving));
        let turned = Arc::clone(&self.turned);
        lock(&leaving).insert((image, root));
        self.running.spawn(async move {
            resources.serving.close(image).await;
            let discard = move || Staging::throw_away(&path, image);
            if let Ok(Err(error)) = tokio::task::spawn_blocking(discard).await {
                warn!(digest = %image, error = %Chain(&error), "what was fetched cannot be removed");
            }
            lock(&leaving).remove(&(image, root));
            turned.notify_one();
        });
    }

    /// Throws away what earlier attempts left and nobody has gone on with for a day.
    pub fn reap(&mut self) {
        let since = SystemTime::now().checked_sub(LEFT).unwrap_or(SystemTime::UNIX_EPOCH);
        let wanted: BTreeSet<Digest> = self.assigned.keys().map(|(image, ..)| *image).collect();
        let roots: Vec<PathBuf> =
            self.resources.roots.values().chain(self.resources.libraries.values()).cloned().collect();
        let reap = move || {
            for root in roots {
                match Staging::reap(&root, since, |image| wanted.contains(image)) {
                    Ok(0) => {}
                    Ok(files) => info!(root = %root.display(), files, "unfinished images were thrown away"),
                    Err(error) => warn!(error = %Chain(&error), "unfinished images cannot be thrown away"),
                }
            }
        };
        self.running.spawn_blocking(reap);
    }

    /// Lets assignments run, the most urgent first; two of one image below one root share its staging file, so one waits.
    fn begin(&mut self) {
        loop {
            let runs =
                |assigned: &Assigned| assigned.fetch.is_some() && assigned.status.phase().is_under_way();
            let running: Vec<&Key> =
                self.assigned.iter().filter(|(_, assigned)| runs(assigned)).map(|(key, _)| key).collect();
            if running.len() >= self.concurrent {
                return;
            }
            let leaving = lock(&self.leaving);
            let free = |key: &Key| {
                let shared = running.iter().any(|other| (other.0, other.1) == (key.0, key.1));
                !shared && !leaving.contains(&(key.0, key.1))
            };
            let waiting =
                self.assigned.iter().filter(|(key, assigned)| assigned.fetch.is_none() && free(key));
            let next = waiting.max_by_key(|(_, assigned)| assigned.wanted.borrow().priority);
            let Some(key) = next.map(|(key, _)| key.clone()) else { return };
            drop(leaving);
            let Some(assigned) = self.assigned.get_mut(&key) else { return };
            let fetch = run::run(
                Arc::clone(&self.resources),
                (assigned.wanted.subscribe(), assigned.demand.subscribe()),
                Arc::clone(&assigned.status),
            );
            let ending = Ending(Arc::clone(&assigned.status));
            assigned.fetch = Some(self.running.spawn(async move {
                if let Err(failure) = fetch.await {
                    warn!(
                        message_id = catalog::IMAGE_NOT_FETCHED,
                        error = &failure as &dyn std::error::Error,
                        "an image was not fetched"
                    );
                    ending.0.fail(failure);
                }
            }));
        }
    }

    /// Reports what has changed, and begins what may.
    pub fn report(&mut self) {
        while self.running.try_join_next().is_some() {}
        for assigned in self.assigned.values_mut().filter(|assigned| !assigned.ended) {
            let id = assigned.wanted.borrow().id;
            let Some(progress) = assigned.status.report(id, false) else { continue };
            assigned.ended = matches!(progress.phase, Phase::Done | Phase::Failed);
            say(&self.reports, Report::Progress(progress));
        }
        self.begin();
    }
}

/// Sees to it that a fetch that panics is not taken for one that goes on.
struct Ending(Arc<Status>);

impl Drop for Ending {
    fn drop(&mut self) {
        if self.0.phase().is_under_way() {
            let detail = "the fetch ended without a reason: see the agent's log".to_owned();
            self.0.fail(Failure { code: FailCode::Io, detail });
        }
    }
}

/// A set is sound whatever panicked while it was held.
fn lock(leaving: &Mutex<BTreeSet<(Digest, RootId)>>) -> MutexGuard<'_, BTreeSet<(Digest, RootId)>> {
    leaving.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetch_that_ends_without_a_word_has_failed_and_one_that_ended_well_has_not() {
        for (phase, expected) in [(Phase::Fetching, Phase::Failed), (Phase::Done, Phase::Done)] {
            let status = Arc::new(Status::new(Arc::default()));
            let ending = Ending(Arc::clone(&status));
            status.turn(phase);
            drop(ending);
            assert_eq!(status.phase(), expected);
        }
    }
}
