//! What the link does when writes take long, and what it makes of the clock.

#![cfg(test)]

use super::*;
use crate::session::Beat;
use sifleet_common::time::{Monotonic, UnixMillis};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Default)]
struct Beats(AtomicUsize);

impl Beat for Beats {
    fn beat(&self, _connected: bool) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_coordinator_that_takes_nothing_neither_starves_the_watchdog_nor_keeps_the_agent() {
    let beats = Arc::new(Beats::default());
    let vigil = Vigil { beat: Arc::<Beats>::clone(&beats), stop: CancellationToken::new() };
    let (mut send, _nobody_reads) = tokio::io::duplex(1);
    let stop = vigil.stop.clone();
    let writing = vigil.over(write_frame(&mut send, &ToCoordinator::Goodbye));
    let stopping = async {
        while beats.0.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    let both = async { tokio::join!(writing, stopping) };
    let (written, ()) = tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
    assert!(written.is_none());
}

#[test]
fn a_clock_that_is_set_is_noticed_and_one_that_goes_on_is_not() {
    let at = |mono: u64, wall: i64| Now {
        mono: Monotonic(Duration::from_secs(mono)),
        wall: UnixMillis(wall * 1_000),
    };
    let before = at(5, 1_000);
    assert!(!is_set(before, at(3_605, 4_600)) && !is_set(before, at(3_605, 4_609)));
    assert!(is_set(before, at(6, 91_001)) && is_set(before, at(6, -89_000)));
    assert!(is_set(before, at(3_605, 1_000)), "it stood");
    assert!(is_set(before, at(5, i64::MIN / 1_000)));
}

#[test]
fn a_reason_is_shown_in_one_line_of_bounded_length() {
    assert_eq!(shown("no\n\u{1b}[31mtoken"), "no[31mtoken");
    let long = shown(&"é".repeat(MAX_REASON));
    assert!(long.len() <= MAX_REASON && long.len() > MAX_REASON - 2);
}

#[tokio::test]
async fn every_message_said_shows_life() {
    let beats = Arc::new(Beats::default());
    let vigil = Vigil { beat: Arc::<Beats>::clone(&beats), stop: CancellationToken::new() };
    let (mut send, _receive) = tokio::io::duplex(1024);
    for said in 1..=3 {
        let written = vigil.over(write_frame(&mut send, &ToCoordinator::Goodbye)).await;
        assert!(matches!(written, Some(Ok(()))));
        assert_eq!(beats.0.load(Ordering::Relaxed), said);
    }
}
