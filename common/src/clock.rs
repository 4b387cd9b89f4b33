//! The one place that asks the system for the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::time::{Monotonic, Now, UnixMillis};

/// Tells the time to code that must not ask for it itself.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts a clock whose monotonic time begins at zero.
    #[must_use]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Reads both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now {
            mono: Monotonic(self.origin.elapsed()),
            wall: UnixMillis(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)),
        }
    }

    /// Converts a point of this clock to the runtime's, for timers.
    #[must_use]
    pub fn instant(&self, at: Monotonic) -> Instant {
        self.origin.checked_add(at.0).unwrap_or_else(|| self.origin + Duration::from_secs(86_400 * 365))
    }
}
