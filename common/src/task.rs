//! Background tasks: each has a name, an owner that waits for it, and a way to be told to stop.
//!
//! The only place that may call tokio's spawn. It decides no policy: a task that panics is reported by
//! [`Tasks::failed`] and it is for the daemon's `run` to stop, because a loop that is gone never comes back.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

/// How long tasks may take to stop: long enough to finish a write and say goodbye, and far below the 90 s after
/// which systemd kills.
pub const GRACE: Duration = Duration::from_secs(10);

/// Names what still runs, with how many of each.
pub type Running = BTreeMap<&'static str, usize>;

/// Owns the background tasks of a daemon; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    running: Mutex<Running>,
    failed: CancellationToken,
    first_failure: OnceLock<&'static str>,
}

impl Tasks {
    /// Makes an owner without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task under a name that logs can show.
    ///
    /// The task is to end soon after [`Tasks::token`] is cancelled. If it panics, the panic is logged with the
    /// name and [`Tasks::failed`] resolves. Must be called within a tokio runtime.
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listed = Listed::new(Arc::clone(&self.shared), name);
        let mut future = Box::pin(future);
        let guarded = std::future::poll_fn(move |cx| {
            match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
                Err(panic) => Poll::Ready(Err(panic)),
            }
        });
        let task = async move {
            if let Err(panic) = guarded.await {
                listed.shared.fail(name, panic.as_ref());
            }
            drop(listed);
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place: the task is named, tracked and awaited"
        )]
        drop(tokio::spawn(self.tracker.track_future(task)));
    }

    /// Returns the token that is cancelled when the daemon stops.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Waits until a task has panicked and returns its name; for ever if none does.
    pub async fn failed(&self) -> &'static str {
        self.shared.failed.cancelled().await;
        self.shared.first_failure.get().copied().unwrap_or("unknown")
    }

    /// Tells all tasks to stop and waits for them, at most `grace` (usually [`GRACE`]).
    ///
    /// Returns what did not stop, which is also logged; it ends with the runtime.
    pub async fn shutdown(&self, grace: Duration) -> Running {
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait()).await.is_ok() {
            return Running::new();
        }
        let left = self.running();
        warn!(tasks = %show(&left), took = ?grace, "tasks did not stop in time");
        left
    }

    /// Returns what runs at this moment.
    #[must_use]
    pub fn running(&self) -> Running {
        self.shared.running().clone()
    }
}

impl Shared {
    /// A map of counters is valid whatever panicked while it was held.
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, name: &'static str, panic: &(dyn Any + Send)) {
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        error!(task = name, error = text, "a task panicked");
        self.first_failure.get_or_init(|| name);
        self.failed.cancel();
    }
}

/// Keeps a task on the list for as long as it lives, however it ends.
struct Listed {
    shared: Arc<Shared>,
    name: &'static str,
}

impl Listed {
    fn new(shared: Arc<Shared>, name: &'static str) -> Self {
        *shared.running().entry(name).or_default() += 1;
        Self { shared, name }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut running = self.shared.running();
        if let Some(count) = running.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                running.remove(self.name);
            }
        }
    }
}

fn show(running: &Running) -> String {
    let parts: Vec<_> = running
        .iter()
        .map(|(name, count)| if *count == 1 { (*name).to_owned() } else { format!("{name} ×{count}") })
        .collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn tasks_that_heed_the_token_leave_nothing_behind() {
        let tasks = Tasks::new();
        for _ in 0..3 {
            let stop = tasks.token();
            tasks.spawn("loop", async move { stop.cancelled().await });
        }
        assert_eq!(tasks.running(), Running::from([("loop", 3)]));
        assert_eq!(tasks.shutdown(LONG).await, Running::new());
        assert_eq!(tasks.running(), Running::new());
    }

    #[tokio::test]
    async fn what_does_not_stop_is_named() {
        let tasks = Tasks::new();
        let stop = tasks.token();
        tasks.spawn("good", async move { stop.cancelled().await });
        tasks.spawn("deaf", std::future::pending());
        tasks.spawn("deaf", std::future::pending());
        let left = tasks.shutdown(Duration::from_millis(50)).await;
        assert_eq!(show(&left), "deaf ×2");
    }

    #[tokio::test]
    async fn a_panic_is_reported_with_the_name_of_its_task() {
        let tasks = Tasks::new();
        tasks.spawn("calm", std::future::ready(()));
        tasks.spawn("wild", async { panic!("on purpose") });
        assert_eq!(tokio::time::timeout(LONG, tasks.failed()).await, Ok("wild"));
        assert_eq!(tasks.shutdown(LONG).await, Running::new());
    }

    #[tokio::test]
    async fn a_task_that_ends_by_itself_is_no_failure() {
        let tasks = Tasks::new();
        tasks.spawn("calm", std::future::ready(()));
        assert_eq!(tasks.shutdown(LONG).await, Running::new());
        assert!(tokio::time::timeout(Duration::from_millis(20), tasks.failed()).await.is_err());
    }
}
