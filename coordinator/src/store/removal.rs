//! What is kept of removals: the wish, and how it ended for each node.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sifleet_common::digest::Digest;
use sifleet_common::name::{ImageName, NodeName};
use sifleet_common::removal::{RemovalCode, RemovalPhase};
use sifleet_common::time::UnixMillis;

use super::push::Key;

/// Numbers removals in the order in which they were asked for; shown as `r-000042`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemovalNo(pub u64);

impl fmt::Display for RemovalNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r-{:06}", self.0)
    }
}

/// Says that a text is no number of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a removal is called r- and a number, such as r-000042; the number alone will do")]
pub struct NotARemoval;

impl FromStr for RemovalNo {
    type Err = NotARemoval;

    fn from_str(text: &str) -> Result<Self, NotARemoval> {
        let digits = text.strip_prefix("r-").unwrap_or(text);
        let digits = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|digits| digits.parse().ok()).map(Self).ok_or(NotARemoval)
    }
}

/// One removal, but for its nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovalRecord {
    /// Its number.
    pub no: RemovalNo,
    /// Under which name.
    pub image: ImageName,
    /// Which bytes.
    pub digest: Digest,
    /// How many.
    pub size: u64,
    /// Path of the root, if one was named.
    pub root: Option<String>,
    /// Whether even the last ready replica may go.
    pub force: bool,
    /// Whether it is tried again where somebody uses the file.
    pub when_idle: bool,
    /// When it was asked for.
    pub created: UnixMillis,
    /// When nothing was under way any longer.
    pub ended: Option<UnixMillis>,
    /// When nodes that still have it fail.
    pub deadline: UnixMillis,
    /// How long that was from the beginning, in milliseconds.
    pub patience_ms: u64,
    /// Whether somebody ended it.
    pub cancelled: bool,
    /// By which it is found when asked for again.
    pub key: Option<Key>,
}

/// How a removal stands with one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovalPart {
    /// How far it is.
    pub phase: RemovalPhase,
    /// Why the image stays or the node waits.
    pub code: Option<RemovalCode>,
    /// In words.
    pub message: Option<Arc<str>>,
    /// How many files are gone.
    pub files: u32,
}

impl RemovalPart {
    /// Nothing has happened.
    #[must_use]
    pub const fn waiting() -> Self {
        Self { phase: RemovalPhase::Waiting, code: None, message: None, files: 0 }
    }
}

/// A removal as found at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredRemoval {
    /// What was wanted.
    pub record: RemovalRecord,
    /// Its nodes in their order, with how it ended for those for which it did.
    pub nodes: Vec<(NodeName, Option<RemovalPart>)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_is_called_by_a_number_that_sorts_as_it_counts() {
        assert_eq!(RemovalNo(42).to_string(), "r-000042");
        assert_eq!("r-000042".parse(), Ok(RemovalNo(42)));
        assert_eq!("42".parse(), Ok(RemovalNo(42)));
        for wrong in ["", "r-", "+42", "p-42", "r-+1", "r-99999999999999999999999"] {
            assert_eq!(wrong.parse::<RemovalNo>(), Err(NotARemoval), "{wrong}");
        }
    }
}
