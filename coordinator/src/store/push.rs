//! What is kept of pushes: the wish, and how it ended for each node. Progress is soft state and never comes here.

use std::fmt;
use std::str::FromStr;

use sifleet_common::digest::Digest;
use sifleet_common::name::{ImageName, NodeName};
use sifleet_common::push::{FailCode, Phase};
use sifleet_common::time::UnixMillis;
use sifleet_common::wire::assignment::Moved;

/// Numbers pushes in the order in which they were asked for; shown as `p-000042`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PushNo(pub u64);

impl fmt::Display for PushNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p-{:06}", self.0)
    }
}

/// Says that a text is no number of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a push is called p- and a number, such as p-000042; the number alone will do")]
pub struct NotAPush;

impl FromStr for PushNo {
    type Err = NotAPush;

    fn from_str(text: &str) -> Result<Self, NotAPush> {
        let digits = text.strip_prefix("p-").unwrap_or(text);
        let digits = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|digits| digits.parse().ok()).map(Self).ok_or(NotAPush)
    }
}

/// When a push counts as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Completion {
    /// When every node has the image.
    #[default]
    All,
    /// When so many of a hundred nodes have it; 1 to 100.
    Share(u8),
    /// When as many have it as could be brought to it, at least one.
    BestEffort,
}

impl Completion {
    /// Tells whether so many of so many nodes are enough.
    #[must_use]
    pub fn is_met(self, done: u32, of: u32) -> bool {
        match self {
            Self::All => done == of,
            Self::Share(percent) => u64::from(done) * 100 >= u64::from(of) * u64::from(percent),
            Self::BestEffort => done > 0 || of == 0,
        }
    }
}

impl fmt::Display for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Share(percent) => write!(f, "{percent}%"),
            Self::BestEffort => f.write_str("best_effort"),
        }
    }
}

/// Says that a text names no completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("completion is `all`, `best_effort` or a share of the nodes from `1%` to `100%`")]
pub struct NotACompletion;

impl FromStr for Completion {
    type Err = NotACompletion;

    fn from_str(text: &str) -> Result<Self, NotACompletion> {
        match text {
            "all" => Ok(Self::All),
            "best_effort" => Ok(Self::BestEffort),
            share => {
                let percent = share.strip_suffix('%').and_then(|percent| percent.parse().ok());
                percent.filter(|percent| (1..=100).contains(percent)).map(Self::Share).ok_or(NotACompletion)
            }
        }
    }
}

/// Longest `Idempotency-Key`, in bytes.
pub const MAX_KEY: usize = 128;

/// Lets a caller ask again without asking for more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The caller's own text.
    pub text: String,
    /// Of the body it came with.
    pub body: Digest,
}

/// One push, but for its nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushRecord {
    /// Its number.
    pub no: PushNo,
    /// Under which name nodes will have the image.
    pub image: ImageName,
    /// Which bytes.
    pub digest: Digest,
    /// How many.
    pub size: u64,
    /// The only node it may be taken from at first.
    pub from: Option<NodeName>,
    /// Path of the root, if one was named.
    pub root: Option<String>,
    /// When it counts as done.
    pub completion: Completion,
    /// When it was asked for.
    pub created: UnixMillis,
    /// When nothing was under way any longer.
    pub ended: Option<UnixMillis>,
    /// When nodes that have not got it fail.
    pub deadline: UnixMillis,
    /// How long that was from the beginning, in milliseconds.
    pub patience_ms: u64,
    /// Bytes a second that each node may fetch.
    pub rate: Option<u64>,
    /// Higher ones come first.
    pub priority: u8,
    /// Whether somebody ended it.
    pub cancelled: bool,
    /// By which it is found when asked for again.
    pub key: Option<Key>,
}

/// How a push stands with one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushOutcome {
    /// How far it is.
    pub phase: Phase,
    /// Why it failed or waits.
    pub code: Option<FailCode>,
    /// In words.
    pub message: Option<String>,
    /// Path of the root, once it is known.
    pub root: Option<String>,
    /// By where bytes came from.
    pub bytes: Moved,
    /// Whether the node had the image before.
    pub present: bool,
    /// When its first byte moved.
    pub started: Option<UnixMillis>,
    /// When it came to its end.
    pub ended: Option<UnixMillis>,
}

impl PushOutcome {
    /// Nothing has happened.
    #[must_use]
    pub fn waiting() -> Self {
        Self {
            phase: Phase::Waiting,
            code: None,
            message: None,
            root: None,
            bytes: Moved::default(),
            present: false,
            started: None,
            ended: None,
        }
    }
}

/// A push as found at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredPush {
    /// What was wanted.
    pub record: PushRecord,
    /// Its nodes in their order, with how it ended for those for which it did.
    pub nodes: Vec<(NodeName, Option<PushOutcome>)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_is_called_by_a_number_that_sorts_as_it_counts() {
        assert_eq!(PushNo(42).to_string(), "p-000042");
        assert_eq!("p-000042".parse(), Ok(PushNo(42)));
        assert_eq!("p-42".parse(), Ok(PushNo(42)));
        assert_eq!("42".parse(), Ok(PushNo(42)), "as the command line's help has it");
        for wrong in ["", "p-", "r-42", "+1", "-1", "p-p-1", "p-+1", "p--1", "p-99999999999999999999999"] {
            assert_eq!(wrong.parse::<PushNo>(), Err(NotAPush), "{wrong}");
        }
    }

    #[test]
    fn a_share_of_the_nodes_may_be_enough() {
        for (text, enough, too_few) in [("all", 10, 9), ("80%", 8, 7), ("1%", 1, 0), ("best_effort", 1, 0)] {
            let completion: Completion = text.parse().unwrap();
            assert_eq!(completion.to_string(), text);
            assert!(completion.is_met(enough, 10) && !completion.is_met(too_few, 10), "{text}");
            assert!(completion.is_met(0, 0), "nothing to do is done");
        }
        for wrong in ["", "0%", "101%", "80", "most"] {
            assert!(wrong.parse::<Completion>().is_err(), "{wrong}");
        }
    }
}
