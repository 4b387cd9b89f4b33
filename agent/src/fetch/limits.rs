//! How hard a fetcher pulls, and how often it tells.

use std::time::Duration;

use crate::serve::giving::WISHES;

/// What a node gained is told to others at most this often: more often would spend more on telling than it helps.
pub const GATHER: Duration = Duration::from_millis(80);

/// How hard a fetcher pulls.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Spans on their way at once: one more than a node gives ([`crate::serve::giving::TURNS`]), so that the link towards
    /// us is never without work and no more waits for it than has to, while others stand idle.
    pub asked: usize,
    /// Spans on their way at once from one peer of many: one arriving, and the next so that its link does not wait for us.
    /// One that has yet to give a right span is asked for one only, so that who means harm does it once.
    pub asked_of_one: usize,
    /// A peer that sends nothing for so long while it is asked is dropped.
    pub patience: Duration,
    /// A question older than this may be asked of a second peer that has nothing better to do.
    pub overdue: Duration,
}

/// Spans on their way at once.
const ASKED: usize = 5;

// Wishes beyond are not heard, and those that are not heard would be waited for for ever.
const _: () =
    assert!(ASKED <= WISHES + 1, "a giver must hear as many wishes as a fetcher with one source has");

impl Default for Limits {
    fn default() -> Self {
        Self {
            asked: ASKED,
            asked_of_one: 2,
            patience: Duration::from_secs(5),
            overdue: Duration::from_secs(2),
        }
    }
}

impl Limits {
    /// Returns how many spans may be on their way from one of so many peers: its share of all of them. A single source
    /// behind a fast link would wait for our words most of the time otherwise.
    #[must_use]
    pub fn of_one(&self, peers: usize) -> usize {
        self.asked.div_ceil(peers.max(1)).max(self.asked_of_one)
    }
}
