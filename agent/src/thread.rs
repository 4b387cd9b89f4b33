//! Threads: each has a name, and none is missed in silence.
//!
//! The only place in the agent that starts threads. A thread whose work panics is reported by [`Threads::failed`], and
//! it is for [`crate::run`] to stop then: an owner that is gone never looks at its root again. Threads are not waited
//! for when the agent stops, because one that waits for a dead file server does not end.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;
use tracing::error;

/// Enough for reading directories, parsing an image and SQLite, a quarter of the default.
const STACK: usize = 512 * 1024;

/// Starts threads and hears of those that panic; clones share what they hear.
#[derive(Clone, Debug, Default)]
pub struct Threads {
    failed: CancellationToken,
    first_failure: Arc<OnceLock<&'static str>>,
}

impl Threads {
    /// Starts a thread under a name that logs can show.
    ///
    /// # Errors
    /// When the system has no room for another thread.
    pub fn start(&self, name: &'static str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let threads = self.clone();
        let guarded = move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
                threads.fail(name, panic.as_ref());
            }
        };
        std::thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(guarded).map(drop)
    }

    /// Waits until a thread has panicked and returns its name; for ever if none does.
    pub async fn failed(&self) -> &'static str {
        self.failed.cancelled().await;
        self.first_failure.get().copied().unwrap_or("unknown")
    }

    fn fail(&self, name: &'static str, panic: &(dyn Any + Send)) {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        error!(task = name, error = text.unwrap_or("no message"), "a thread panicked");
        self.first_failure.get_or_init(|| name);
        self.failed.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_panic_is_reported_with_the_name_of_its_thread() {
        let threads = Threads::default();
        threads.start("calm", || {}).unwrap();
        threads.clone().start("wild", || panic!("on purpose")).unwrap();
        assert_eq!(tokio::time::timeout(Duration::from_secs(60), threads.failed()).await, Ok("wild"));
    }
}
