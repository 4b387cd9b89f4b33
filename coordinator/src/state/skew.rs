//! How far the clocks of nodes are from ours: nothing is decided by it, but certificates hold by the clock.

use sifleet_common::time::{Now, UnixMillis};
use tracing::warn;

use super::State;
use super::index::NodeId;

/// Clocks that differ by more than this are told of.
pub(crate) const TOLERATED_MS: i64 = 30_000;

impl State {
    /// Notes what a node's clock said when a message was sent; the time it took on its way counts as being behind.
    pub(super) fn heed_clock(&mut self, id: NodeId, theirs: UnixMillis, now: Now) {
        let Some(node) = self.nodes.get_mut(id.index()) else { return };
        let ahead = theirs.0.saturating_sub(now.wall.0);
        node.ahead = Some(ahead);
        if let Some(text) = describe(ahead) {
            warn!(node = %node.name, "{text}");
        }
        self.shown.touch(id);
    }
}

/// Says in one sentence how far a clock is off, if it is too far.
pub(crate) fn describe(ahead: i64) -> Option<String> {
    let seconds = ahead.unsigned_abs() / 1_000;
    let way = if ahead < 0 { "behind" } else { "ahead" };
    let text = || {
        format!("its clock is {seconds} s {way} of the coordinator's: certificates may not hold; check NTP")
    };
    (ahead.unsigned_abs() > TOLERATED_MS.unsigned_abs()).then(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_half_a_minute_off_is_told_of() {
        assert_eq!(describe(0), None);
        assert_eq!(describe(30_000), None);
        assert_eq!(describe(-30_000), None);
        let text = describe(-42_000).unwrap();
        assert!(text.starts_with("its clock is 42 s behind"), "{text}");
        let text = describe(i64::MAX).unwrap();
        assert!(text.contains("ahead"), "{text}");
        assert!(describe(i64::MIN).is_some());
    }
}
