//! How much may wait for the loop.

use std::sync::atomic::AtomicU64;

use futures_util::FutureExt as _;
use sifleet_common::clock::Clock;
use sifleet_common::wire::control::Snapshot;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::state::testing::image;
use crate::store::{Restored, sqlite};

fn part(changes: usize) -> ToCoordinator {
    let changes = (0..changes).map(|n| image(&format!("{n:0>200}.sif"), 1)).collect();
    ToCoordinator::Snapshot(Snapshot { generation: Default::default(), part: 0, last: false, changes })
}

/// A loop that does not run yet, and how it is reached.
fn prepared() -> (Loop, Handle, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = sqlite::open(&folder.path().join("coordinator.db")).unwrap();
    let state = State::restore(crate::state::Limits::default(), Restored::default());
    let (owner, handle) = prepare(state, store, Clock::start());
    (owner, handle, folder)
}

#[tokio::test]
async fn a_session_waits_when_a_mebibyte_of_it_is_not_applied_and_others_do_not() {
    let (owner, handle, _folder) = prepared();
    let (share, other) = (Share::default(), Share::default());
    handle.say(SessionId(1), part(2_000), &share).now_or_never().unwrap().unwrap();
    let waits = handle.say(SessionId(1), part(2_000), &share);
    tokio::pin!(waits);
    assert!(waits.as_mut().now_or_never().is_none(), "the first is not applied yet");
    handle.say(SessionId(2), part(2_000), &other).now_or_never().unwrap().unwrap();

    let stop = CancellationToken::new();
    let beats = AtomicU64::new(0);
    let run = owner.run(stop.clone(), || {
        beats.fetch_add(1, Ordering::Relaxed);
    });
    let ((), said) = tokio::join!(run, async {
        let said = waits.await;
        stop.cancel();
        said
    });
    assert_eq!(said, Ok(()));
    assert!(beats.into_inner() > 0);
}

#[tokio::test]
async fn all_sessions_together_wait_when_their_budget_is_used_up() {
    let (_owner, handle, _folder) = prepared();
    let mut said = 0;
    // Not the runtime's patience with one task is asked about.
    while tokio::task::unconstrained(handle.say(SessionId(said), part(3_000), &Share::default()))
        .now_or_never()
        .is_some()
    {
        said += 1;
        assert!(said < 1_000);
    }
    assert!((64..100).contains(&said), "64 MiB of parts of somewhat less than one, not {said}");
}
