//! A write to the coordinator that takes long, and what goes on meanwhile.

use std::pin::pin;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::link::every;
use super::{Beat, TURN};

/// Sees to it that a write that takes long neither looks like a standstill nor holds up the agent's end.
pub(super) struct Vigil {
    pub(super) beat: Arc<dyn Beat>,
    pub(super) stop: CancellationToken,
}

impl Vigil {
    /// Waits for a write; none when the agent stops before it is done.
    pub(super) async fn over<T>(&self, write: impl Future<Output = T>) -> Option<T> {
        let mut write = pin!(write);
        let mut turns = every(TURN);
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                written = &mut write => {
                    self.beat.beat(true);
                    return Some(written);
                }
                _ = turns.tick() => self.beat.beat(true),
            }
        }
    }
}
