//! Points in time as values: pure code is given the time, it never asks for it.
//!
//! [`Now`] joins a clock that only goes forward (for leases and timers) with the wall clock (for people). No
//! decision rests on the wall clock, which an administrator or NTP may set at any moment.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Milliseconds since 1970-01-01T00:00:00Z; shown as RFC 3339.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct UnixMillis(pub i64);

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => write!(f, "@{}ms", self.0),
        }
    }
}

/// Says that a text is no point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a time is written as in 2026-11-21T10:30:00Z")]
pub struct NotATime;

impl FromStr for UnixMillis {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        let time: jiff::Timestamp = text.parse().map_err(|_invalid| NotATime)?;
        Ok(Self(time.as_millisecond()))
    }
}

/// Time since the process's own origin; only goes forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(pub Duration);

impl Monotonic {
    /// Adds a duration, staying at the far end of time instead of overflowing.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }

    /// Tells how long ago `earlier` was; zero if it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For leases and timers.
    pub mono: Monotonic,
    /// For people and records.
    pub wall: UnixMillis,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_shown_in_rfc_3339() {
        assert_eq!(UnixMillis(1_000).to_string(), "1970-01-01T00:00:01.000Z");
        assert_eq!("1970-01-01T00:00:01Z".parse(), Ok(UnixMillis(1_000)));
        assert_eq!("1970-01-01".parse::<UnixMillis>(), Err(NotATime));
        assert_eq!(UnixMillis(i64::MAX).to_string(), format!("@{}ms", i64::MAX));
    }

    #[test]
    fn time_never_overflows() {
        assert_eq!(Monotonic(Duration::MAX).after(Duration::MAX).0, Duration::MAX);
        assert_eq!(Monotonic::default().since(Monotonic(Duration::MAX)), Duration::ZERO);
    }
}
