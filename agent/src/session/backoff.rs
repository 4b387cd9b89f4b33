//! How long to wait before dialling again.
//!
//! Doubling with full jitter: after a coordinator's restart ten thousand agents spread over the whole wait
//! instead of coming at once. Pure: the randomness is passed in.

use std::time::Duration;

/// The first wait is at most this long.
const FIRST: Duration = Duration::from_secs(1);
/// No wait is longer. With [`FIRST`] and the time a dial takes, agents are back within 15 s of a coordinator.
const LONGEST: Duration = Duration::from_secs(8);

/// Remembers how often dialling failed in a row.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    limit: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { limit: FIRST }
    }
}

impl Backoff {
    /// Returns the next wait; `random` spreads it evenly from zero to the limit of this try.
    pub fn next(&mut self, random: u32) -> Duration {
        let wait = self.limit.mul_f64(f64::from(random) / f64::from(u32::MAX));
        self.limit = (self.limit * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..5).map(|_| backoff.next(u32::MAX).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 8]);
    }

    #[test]
    fn waits_spread_over_the_whole_time() {
        assert_eq!(Backoff::default().next(0), Duration::ZERO);
        assert_eq!(Backoff::default().next(u32::MAX / 4).as_millis(), 250);
    }
}
