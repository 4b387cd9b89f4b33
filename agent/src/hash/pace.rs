//! Makes hashing threads wait, so that together they stay below a rate; over at once when the agent stops.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use sifleet_common::clock::Clock;
use tokio_util::sync::CancellationToken;

use crate::pace::Schedule;

/// A stop is noticed after at most this long.
const SLICE: Duration = Duration::from_millis(200);

/// Makes threads wait so that together they stay below a rate.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Option<u64>,
    schedule: Mutex<Schedule>,
    never: Condvar,
}

impl Pace {
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self { rate, schedule: Mutex::default(), never: Condvar::new() }
    }

    /// Accounts for bytes just read and waits as long as the rate asks; false when the agent stops.
    pub(super) fn wait(&self, bytes: u64, clock: &Clock, stop: &CancellationToken) -> bool {
        let Some(rate) = self.rate else { return !stop.is_cancelled() };
        // Two numbers are valid whatever panicked while they were held.
        let mut schedule = self.schedule.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock.now().mono;
        let until = now.after(schedule.grant(bytes, rate, now));
        loop {
            let left = until.since(clock.now().mono);
            if left.is_zero() || stop.is_cancelled() {
                return !stop.is_cancelled();
            }
            let waited = self.never.wait_timeout(schedule, left.min(SLICE));
            schedule = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
