//! What is said once all that a look at everything found has been hashed.
//!
//! Owns the words of that one event, and what has to be remembered for it from when the look began.

use std::path::Path;

use sifleet_common::time::Monotonic;
use tracing::info;

use super::hints::Cause;

/// A look at everything, of which nothing has been said yet.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) cause: Cause,
    pub(super) started: Monotonic,
    /// What had been read by then, hashed and probed.
    pub(super) bytes: u64,
}

impl Report {
    /// Says it, with what has been read by now.
    pub(super) fn say(self, path: &Path, entries: usize, (bytes, now): (u64, Monotonic)) {
        info!(
            path = %path.display(),
            cause = ?self.cause,
            entries,
            bytes = bytes.saturating_sub(self.bytes),
            took = ?now.since(self.started),
            "reconciled"
        );
    }
}
