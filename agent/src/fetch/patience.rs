//! How long a fetch goes on without anything new.

use std::time::Duration;

/// Without a new byte for so long nobody has what is missing, if nobody can be asked either.
const NOBODY: Duration = Duration::from_secs(60);
/// The same while somebody can be asked: at the lowest rates our turn is long in coming.
const NOTHING_NEW: Duration = Duration::from_secs(600);

/// Tells whether to give up after so long without a new byte, with so many peers that can be asked.
pub(super) fn is_in_vain(silent: Duration, reached: usize) -> bool {
    silent >= if reached > 0 { NOTHING_NEW } else { NOBODY }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_be_asked_is_waited_for_longer_than_nobody() {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        assert!(is_in_vain(minutes(1), 0) && !is_in_vain(minutes(1) - Duration::from_nanos(1), 0));
        // 128 KiB of each of five peers at 8 kB/s take 82 s.
        assert!(!is_in_vain(minutes(2), 1) && is_in_vain(minutes(10), 1));
    }
}
