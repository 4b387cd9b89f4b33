//! Keeps moved and hashed bytes below a rate.
//!
//! Owns the arithmetic, in [`Schedule`], and for transfers the waiting, in [`Tap`]; hashing waits on a thread.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sifleet_common::clock::Clock;
use sifleet_common::time::Monotonic;

/// What was not used is good for this long, so that a rate holds over a tenth of a second.
const BURST: Duration = Duration::from_millis(100);

/// Bytes that wait together are those of a fiftieth of a second, so that whoever waits for them sees them come.
const PORTIONS_A_SECOND: u64 = 50;
/// Smaller portions cost more than they help.
const SMALLEST: u64 = 16 * 1024;

/// When the bytes already granted will be paid for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Schedule {
    paid: Monotonic,
}

impl Schedule {
    /// Grants `bytes` at `rate` bytes a second; returns how long to wait before going on.
    pub(crate) fn grant(&mut self, bytes: u64, rate: u64, now: Monotonic) -> Duration {
        let from = self.paid.max(Monotonic(now.0.saturating_sub(BURST)));
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        self.paid = from.after(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        self.paid.since(now)
    }
}

/// Through which bytes of several transfers pass, at a rate that may change at any time.
#[derive(Debug)]
pub struct Tap {
    clock: Clock,
    state: Mutex<(Option<u64>, Schedule)>,
}

impl Tap {
    /// Lets bytes pass as they come.
    #[must_use]
    pub fn open(clock: Clock) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// Sets the rate in bytes a second; absent: no limit.
    pub fn set(&self, rate: Option<u64>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 = rate;
    }

    /// Returns how many of so many bytes are to be drawn at once, at least one if there are any.
    #[must_use]
    pub fn portion(&self, bytes: u64) -> u64 {
        let rate = self.state.lock().unwrap_or_else(PoisonError::into_inner).0;
        rate.map_or(bytes, |rate| bytes.min((rate / PORTIONS_A_SECOND).max(SMALLEST)))
    }

    /// Waits until so many bytes may pass.
    pub async fn draw(&self, bytes: u64) {
        let wait = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let (rate, schedule) = &mut *state;
            rate.map(|rate| schedule.grant(bytes, rate, self.clock.now().mono))
        };
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            tokio::time::sleep(wait).await;
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
