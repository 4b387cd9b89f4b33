//! The one place that asks the system for the time.
//!
//! Outside facts: clock_gettime(2): CLOCK_BOOTTIME goes on while the machine is suspended, CLOCK_MONOTONIC, on which
//! `Instant` rests, does not: a head node that slept for an hour would believe claims of an hour ago.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::time::{Monotonic, Now, UnixMillis};

/// Tells the time to code that must not ask for it itself.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Duration,
}

impl Clock {
    /// Starts a clock whose monotonic time begins at zero.
    #[must_use]
    pub fn start() -> Self {
        Self { origin: since_boot() }
    }

    /// Reads both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now {
            mono: Monotonic(since_boot().saturating_sub(self.origin)),
            wall: UnixMillis(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)),
        }
    }

    /// Converts a point of this clock that lies ahead to the runtime's, for timers.
    #[must_use]
    pub fn instant(&self, at: Monotonic) -> Instant {
        const FAR: Duration = Duration::from_secs(86_400 * 365);
        Instant::now() + at.since(self.now().mono).min(FAR)
    }
}

/// Returns the time since the machine started, suspended or not.
fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::try_from(time).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_its_points_are_those_of_the_runtime() {
        let clock = Clock::start();
        let now = clock.now().mono;
        let soon = clock.instant(now.after(Duration::from_secs(5)));
        let wait = soon.saturating_duration_since(Instant::now());
        assert!(wait > Duration::from_secs(4) && wait <= Duration::from_secs(5), "{wait:?}");
        assert!(clock.now().mono >= now);
        assert!(clock.instant(now) <= Instant::now(), "what has passed is due at once");
    }
}
