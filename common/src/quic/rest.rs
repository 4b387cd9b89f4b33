//! When the thread that moves image bytes rests.
//!
//! Behind any link slower than the machine packets come a few at a time, and to be woken for each few costs more than
//! they do. So while bytes flow, the thread sleeps for a moment whenever it has nothing left to do, and then finds
//! together what came meanwhile: packets, chunks that were written, timers that are due. It rests as long as it takes a
//! given number of bytes to pass, so that a fast link is not kept waiting and a slow one wakes it seldom.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Builder;

/// Bytes that pass, both ways, while the thread rests: some thirty packets.
const PIECE: f64 = 40.0 * 1024.0;
/// The shortest rest: quinn lets a connection send what it may send in twice that time at once.
const SHORTEST: Duration = Duration::from_millis(1);
/// The longest rest: little beside what a round trip takes on a busy machine.
const LONGEST: Duration = Duration::from_millis(4);
/// Where less passes in a second, nothing flows: whatever comes is answered at once.
const TRICKLE: f64 = 2e6;
/// No rest in which more than this share of the socket's buffer would pass: what finds no room is lost.
const SHARE: f64 = 1.0 / 8.0;
/// The time that a rate is of, unless it rises.
const MEMORY: Duration = Duration::from_millis(50);

/// Counts what passes, and rests accordingly.
#[derive(Debug)]
pub struct Rests {
    passed: AtomicUsize,
    /// Bytes that the socket's buffer holds.
    room: AtomicUsize,
    pace: Mutex<Pace>,
}

/// How fast bytes pass.
#[derive(Clone, Copy, Debug)]
struct Pace {
    since: Instant,
    /// Bytes in a second.
    rate: f64,
}

impl Default for Rests {
    fn default() -> Self {
        let pace = Pace { since: Instant::now(), rate: 0.0 };
        Self { passed: AtomicUsize::new(0), room: AtomicUsize::new(0), pace: Mutex::new(pace) }
    }
}

impl Rests {
    /// Begins a runtime of a single thread, which rests.
    #[must_use]
    pub fn runtime(self: &Arc<Self>) -> Builder {
        let rests = Arc::clone(self);
        let mut runtime = Builder::new_current_thread();
        runtime.on_thread_park(move || rests.rest());
        runtime
    }

    /// Notes how many bytes may wait while the thread rests; none, until it is told.
    pub(super) fn hold(&self, room: usize) {
        self.room.store(room, Ordering::Relaxed);
    }

    /// Notes that so many bytes came or went.
    pub(super) fn passed(&self, bytes: usize) {
        self.passed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Rests, if bytes flow.
    #[expect(clippy::disallowed_methods, reason = "no guess: what comes meanwhile is to be found together")]
    fn rest(&self) {
        if let Some(rest) = self.next(Instant::now()) {
            std::thread::sleep(rest);
        }
    }

    /// Returns what it was told: bytes that passed, and the room for them.
    #[cfg(test)]
    pub(super) fn told(&self) -> (usize, usize) {
        (self.passed.load(Ordering::Relaxed), self.room.load(Ordering::Relaxed))
    }

    fn next(&self, now: Instant) -> Option<Duration> {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let took = now.saturating_duration_since(pace.since);
        // A rate of less time would be that of one batch of packets.
        if took >= SHORTEST {
            pace.take(self.passed.swap(0, Ordering::Relaxed), took);
            pace.since = now;
        }
        pace.rest(self.room.load(Ordering::Relaxed))
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes between two rests, and those of a buffer, are far below 2⁵³"
)]
impl Pace {
    /// Takes in that so many bytes passed in so long a time. A lot more than should pass in one rest counts at once, everything
    /// else slowly: a rest that is too long loses packets, one that is too short a little time.
    fn take(&mut self, bytes: usize, took: Duration) {
        let now = bytes as f64 / took.as_secs_f64();
        let weight = (took.as_secs_f64() / MEMORY.as_secs_f64()).min(1.0);
        let mean = self.rate + (now - self.rate) * weight;
        self.rate = if bytes as f64 > 2.0 * PIECE { now.max(mean) } else { mean };
    }

    /// How long to rest at this pace before a buffer of so many bytes.
    fn rest(&self, room: usize) -> Option<Duration> {
        let most = room as f64 * SHARE / SHORTEST.as_secs_f64();
        let flows = self.rate > TRICKLE && self.rate < most;
        let piece = PIECE.min(room as f64 * SHARE);
        flows.then(|| Duration::from_secs_f64(piece / self.rate).clamp(SHORTEST, LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Linux grants unless told otherwise.
    const ROOM: usize = 425_984;

    /// How much passes at so many bytes in a second.
    fn bytes(rate: u32, took: Duration) -> usize {
        usize::try_from(u128::from(rate) * took.as_nanos() / 1_000_000_000).unwrap()
    }

    /// Lets so many bytes pass in a second until the rests are always the same; returns how long they are.
    fn rest_at(rate: u32, room: usize) -> Option<Duration> {
        let (rests, mut now) = (Rests::default(), Instant::now());
        rests.hold(room);
        for _ in 0..1_000 {
            let took = rests.next(now).unwrap_or(SHORTEST);
            now += took;
            rests.passed(bytes(rate, took));
        }
        rests.next(now)
    }

    #[test]
    fn a_rest_is_as_long_as_a_piece_takes_to_pass() {
        let rest = rest_at(20_000_000, ROOM).unwrap().as_micros();
        assert!((2_000..2_100).contains(&rest), "{rest}");
        assert_eq!(rest_at(45_000_000, ROOM), Some(SHORTEST));
        assert_eq!(rest_at(5_000_000, ROOM), Some(LONGEST));
    }

    #[test]
    fn nobody_rests_while_little_passes_or_more_than_the_buffer_holds_without_care() {
        assert_eq!(rest_at(0, ROOM), None);
        assert_eq!(rest_at(1_000_000, ROOM), None);
        assert_eq!(rest_at(60_000_000, ROOM), None);
        assert_eq!(rest_at(60_000_000, 2 * ROOM), Some(SHORTEST));
        assert_eq!(rest_at(20_000_000, 0), None, "of an unknown buffer");
        let rest = rest_at(8_000_000, 65_536).unwrap().as_micros();
        assert!((1_000..1_100).contains(&rest), "of a small buffer: {rest}");
    }

    #[test]
    fn whoever_was_idle_answers_the_first_packets_at_once() {
        let (rests, begun) = (Rests::default(), Instant::now());
        rests.hold(ROOM);
        rests.passed(3 * 1_452);
        assert_eq!(rests.next(begun + Duration::from_secs(1)), None);
    }

    #[test]
    fn a_rate_that_rises_shortens_the_next_rest() {
        let mut pace = Pace { since: Instant::now(), rate: 10e6 };
        pace.take(150_000, LONGEST);
        assert!(pace.rest(ROOM).unwrap() < Duration::from_micros(1_100));
    }

    #[test]
    fn a_rate_that_falls_lengthens_rests_within_a_fifth_of_a_second() {
        let mut pace = Pace { since: Instant::now(), rate: 40e6 };
        let mut clock = Duration::ZERO;
        while let Some(took) = pace.rest(ROOM).filter(|rest| *rest < LONGEST) {
            pace.take(bytes(9_000_000, took), took);
            clock += took;
        }
        assert!(clock < 4 * MEMORY, "{clock:?}");
        assert_eq!(pace.rest(ROOM), Some(LONGEST));
    }

    #[test]
    fn a_runtime_with_nothing_left_to_do_sleeps_while_bytes_flow() {
        let rests = Arc::<Rests>::default();
        let runtime = rests.runtime().enable_time().build().unwrap();
        rests.hold(ROOM);
        let begun = Instant::now();
        // However late this test goes on: no time has passed, and so no rate has changed.
        *rests.pace.lock().unwrap() = Pace { since: begun + Duration::from_secs(3_600), rate: 10e6 };
        runtime.block_on(async { tokio::time::sleep(Duration::from_micros(1)).await });
        assert!(begun.elapsed() >= LONGEST, "{:?}", begun.elapsed());
    }
}
