//! Keeps hashing below a rate.
//!
//! Owns the arithmetic, in [`Schedule`], and the waiting, in [`Pace`], which is over at once when the agent stops.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use sifleet_common::clock::Clock;
use sifleet_common::time::Monotonic;
use tokio_util::sync::CancellationToken;

/// What was not used is good for this long, so that a rate holds over a tenth of a second.
const BURST: Duration = Duration::from_millis(100);
/// A stop is noticed after at most this long.
const SLICE: Duration = Duration::from_millis(200);

/// When the bytes already granted will be paid for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Schedule {
    paid: Monotonic,
}

impl Schedule {
    /// Grants `bytes` at `rate` bytes a second; returns how long to wait before going on.
    pub(super) fn grant(&mut self, bytes: u64, rate: u64, now: Monotonic) -> Duration {
        let from = self.paid.max(Monotonic(now.0.saturating_sub(BURST)));
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        self.paid = from.after(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        self.paid.since(now)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }

    #[test]
    fn the_rate_holds_whatever_the_pieces() {
        for piece in [1_u64, 1_000, 100_000] {
            let (mut schedule, mut now) = (Schedule::default(), at(5_000));
            let mut granted = 0;
            while granted < 1_000_000 {
                now = now.after(schedule.grant(piece, 100_000, now));
                granted += piece;
            }
            let took = now.since(at(5_000));
            assert!(
                took >= Duration::from_millis(9_899) && took <= Duration::from_millis(10_001),
                "{took:?}"
            );
        }
    }

    #[test]
    fn idle_time_does_not_add_up() {
        let mut schedule = Schedule::default();
        assert_eq!(schedule.grant(10, 100, at(1_000_000)), Duration::ZERO);
        assert_eq!(schedule.grant(100, 100, at(1_000_000)), Duration::from_secs(1));
    }

    #[test]
    fn absurd_numbers_do_not_overflow() {
        let mut schedule = Schedule::default();
        schedule.grant(u64::MAX, 0, at(0));
        assert!(schedule.grant(u64::MAX, 1, at(0)) > Duration::from_secs(1));
    }
}
