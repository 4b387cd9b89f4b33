//! How much may be in flight between two agents: as much as keeps the link busy, and no more.
//!
//! The usual controllers fill whatever buffer stands in front of a link, because only loss stops them. Then every word
//! two agents exchange waits behind a buffer of image bytes, whose turn it is is known late, and so is everything that
//! jobs on the node send. This one looks at how much longer a round trip takes than the shortest one did, and lets the
//! difference grow to a target only. It takes what others leave, in the manner of LEDBAT (RFC 6817, whose target of at
//! most 100 ms is for the internet); on loss it gives way as other controllers do.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

/// Time that packets may wait in buffers on the way: several times what a busy machine adds by itself.
const TARGET: Duration = Duration::from_millis(10);
/// Packets in flight to begin with: those of a first span.
const FIRST: u64 = 64;
/// Packets that may always be in flight, so that a machine which is late to answer is not taken for a full link for ever.
const LEAST: u64 = 24;
/// Packets that the window grows by in a round trip while nothing waits.
const GAIN: f64 = 4.0;
/// What is left of the window after a loss when packets wait, and when they do not: then it was hardly the buffer.
const AFTER_LOSS: (f64, f64) = (0.7, 0.9);
/// What is left of the window at least after a round trip that took too long.
const SHRINK: f64 = 0.8;

/// Makes a controller for each connection.
#[derive(Debug)]
pub(super) struct Polite;

impl ControllerFactory for Polite {
    fn build(self: Arc<Self>, _now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(Window::new(mtu))
    }
}

/// One connection.
#[derive(Clone, Debug)]
struct Window {
    mtu: u64,
    bytes: u64,
    /// Below it, the window doubles every round trip.
    threshold: u64,
    /// How long packets wait at present.
    queue: Duration,
    round: Round,
    /// Packets sent before say nothing more about the window.
    cut: Option<Instant>,
}

/// The shortest of the last round trips. Both ends rest between packets and answer by the dozen, so a single one, or the
/// mean of some, says more about that than about the buffers on the way.
#[derive(Clone, Debug, Default)]
struct Round {
    begun: Option<Instant>,
    least: Option<Duration>,
    /// Of the round before: this one may have seen little yet.
    before: Option<Duration>,
}

impl Round {
    /// Takes an acknowledged packet in; returns the shortest of this round and the one before, once there was one.
    fn shortest(&mut self, sent: Instant, now: Instant) -> Option<Duration> {
        let took = now.saturating_duration_since(sent);
        self.least = Some(self.least.map_or(took, |least| least.min(took)));
        match self.begun {
            Some(begun) if sent < begun => {}
            Some(_) => {
                self.before = self.least.take();
                self.begun = Some(now);
            }
            None => self.begun = Some(now),
        }
        let least = self.least.unwrap_or(Duration::MAX);
        self.before.map(|before| before.min(least))
    }
}

impl Window {
    fn new(mtu: u16) -> Self {
        let mtu = u64::from(mtu);
        let (threshold, queue, round) = (u64::MAX, Duration::ZERO, Round::default());
        Self { mtu, bytes: FIRST * mtu, threshold, queue, round, cut: None }
    }

    fn acked(&mut self, now: Instant, sent: Instant, bytes: u64, queue: Duration) {
        self.queue = queue;
        let waiting = queue.as_secs_f64() / TARGET.as_secs_f64();
        if waiting > 1.0 {
            self.threshold = self.threshold.min(self.bytes);
            if self.is_news(sent) {
                self.cut(now, (1.0 / waiting).max(SHRINK));
            }
        } else if self.bytes < self.threshold && waiting < 0.5 {
            self.bytes += bytes;
        } else {
            self.threshold = self.threshold.min(self.bytes);
            let share = bytes as f64 / self.bytes as f64;
            self.set(self.bytes as f64 + GAIN * (1.0 - waiting) * share * self.mtu as f64);
        }
    }

    fn lost(&mut self, now: Instant, sent: Instant, persistent: bool) {
        if persistent {
            self.cut(now, 0.0);
        } else if self.is_news(sent) {
            let (crowded, clear) = AFTER_LOSS;
            self.cut(now, if self.queue > TARGET / 2 { crowded } else { clear });
        }
        self.threshold = self.threshold.min(self.bytes);
    }

    fn is_news(&self, sent: Instant) -> bool {
        self.cut.is_none_or(|cut| sent > cut)
    }

    fn cut(&mut self, now: Instant, factor: f64) {
        self.cut = Some(now);
        self.set(self.bytes as f64 * factor);
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a window is far below 2⁵³ bytes and never below zero"
    )]
    fn set(&mut self, bytes: f64) {
        self.bytes = (bytes as u64).max(LEAST * self.mtu);
    }
}

impl Controller for Window {
    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        let took = self.round.shortest(sent, now);
        let queue = took.unwrap_or_else(|| rtt.get()).saturating_sub(rtt.min());
        // A window that is not used says nothing about the link, unless even so packets wait.
        if !app_limited || queue > TARGET {
            self.acked(now, sent, bytes, queue);
        }
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, _lost_bytes: u64) {
        self.lost(now, sent, persistent);
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.mtu = u64::from(mtu);
        self.set(self.bytes as f64);
    }

    fn window(&self) -> u64 {
        self.bytes
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        FIRST * self.mtu
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs one connection alone on a link for some seconds; returns the share of the link it used and the longest wait
    /// of a packet in the second half.
    fn alone(bits: f64, round_trip: Duration, loss_every: u64) -> (f64, Duration) {
        let start = Instant::now();
        let rate = bits / 8.0;
        let mut window = Window::new(1_452);
        let (mut clock, mut delivered, mut packets, mut longest) = (0.0, 0.0, 0_u64, 0.0_f64);
        while clock < 20.0 {
            let bytes = window.bytes as f64;
            let queue = (bytes / rate - round_trip.as_secs_f64()).max(0.0);
            let turn = round_trip.as_secs_f64() + queue;
            let sent = start + Duration::from_secs_f64(clock);
            let now = sent + Duration::from_secs_f64(turn);
            packets += window.bytes / window.mtu;
            if loss_every > 0 && packets >= loss_every {
                packets = 0;
                window.lost(now, sent, false);
            }
            window.acked(now, sent, window.bytes, Duration::from_secs_f64(queue));
            if clock > 10.0 {
                longest = longest.max(queue);
                delivered += bytes;
            }
            clock += turn;
        }
        (delivered / 10.0 / rate, Duration::from_secs_f64(longest))
    }

    #[test]
    fn a_link_is_used_and_its_buffer_is_not() {
        for bits in [20e6, 100e6, 1e9, 10e9] {
            for round_trip in [Duration::from_micros(300), Duration::from_millis(3)] {
                let (used, longest) = alone(bits, round_trip, 0);
                assert!(used > 0.97, "{bits} bit/s, {round_trip:?}: {used}");
                assert!(longest <= 2 * TARGET, "{bits} bit/s, {round_trip:?}: {longest:?}");
            }
        }
    }

    #[test]
    fn a_packet_lost_in_a_hundred_leaves_most_of_the_link() {
        let (used, _) = alone(100e6, Duration::from_millis(3), 100);
        assert!(used > 0.8, "{used}");
    }

    #[test]
    fn a_loss_among_packets_that_wait_is_taken_for_a_full_link() {
        let now = Instant::now();
        let mut window = Window::new(1_000);
        window.bytes = 1_000_000;
        window.queue = TARGET;
        window.lost(now, now, false);
        assert_eq!(window.bytes, 700_000);
        window.lost(now, now, false);
        assert_eq!(window.bytes, 700_000, "one loss, one step");
        window.lost(now, now, true);
        assert_eq!(window.bytes, LEAST * 1_000);
    }
}
