//! Which of a node's certificates still counts: the number of its enrolment, and the name both make in a certificate.
//!
//! Each enrolment of a name begins a new epoch, and so does its revocation: whoever shows a certificate of an older one
//! is not that node any longer. A certificate without an epoch was made with `sifleet-coordinator ca issue-node` or by
//! a site's own authority; it is of epoch 0, which every enrolment and every revocation ends.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::{NameError, NodeName};
use crate::time::UnixMillis;

/// What the identity in a node's certificate begins with; the node's name follows.
pub const NODE_URI: &str = "sifleet://node/";
/// What stands between the name and the epoch, unless that is 0. No node's name holds a `/`.
const EPOCH: &str = "/epoch/";

/// Counts a node's enrolments and revocations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u32);

impl Epoch {
    /// Returns the one after this. It follows the clock where that is ahead, so that a name that was forgotten does not
    /// begin below its old certificates.
    #[must_use]
    pub fn next(self, now: UnixMillis) -> Self {
        Self(self.0.saturating_add(1).max(seconds(now)))
    }

    /// Tells whether our authority can have begun it by now: a day of wrong clocks is borne with.
    #[must_use]
    pub fn is_plausible(self, now: UnixMillis) -> bool {
        self.0 < seconds(now).saturating_add(86_400)
    }
}

fn seconds(now: UnixMillis) -> u32 {
    u32::try_from(now.0 / 1_000).unwrap_or(0)
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Says why a text names no node of an epoch.
#[derive(Debug, thiserror::Error)]
pub enum UriError {
    /// It begins otherwise.
    #[error("it does not begin with {NODE_URI}")]
    NotANode,
    /// The name is none.
    #[error("it holds a name that no node can have")]
    Name {
        /// What is wrong with it.
        #[source]
        source: NameError,
    },
    /// The epoch is not a number written in the only way there is.
    #[error("it holds an epoch that is none")]
    Epoch,
}

/// Writes whose certificate it is, as it stands among the certificate's names.
#[must_use]
pub fn node_uri(node: &NodeName, epoch: Epoch) -> String {
    if epoch == Epoch(0) { format!("{NODE_URI}{node}") } else { format!("{NODE_URI}{node}{EPOCH}{epoch}") }
}

/// Reads what [`node_uri`] wrote.
///
/// # Errors
/// [`UriError`] for every other text: two texts never mean the same.
pub fn parse_node_uri(text: &str) -> Result<(NodeName, Epoch), UriError> {
    let named = text.strip_prefix(NODE_URI).ok_or(UriError::NotANode)?;
    let (name, epoch) = match named.split_once(EPOCH) {
        None => (named, Epoch(0)),
        Some((name, digits)) => (name, digits.parse().map(Epoch).map_err(|_no_detail| UriError::Epoch)?),
    };
    let node: NodeName = name.parse().map_err(|source| UriError::Name { source })?;
    if node_uri(&node, epoch) == text { Ok((node, epoch)) } else { Err(UriError::Epoch) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let shown = match parse_node_uri(text) {
            Ok((node, epoch)) => format!("{node} {epoch}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn a_name_and_its_epoch_are_read_as_they_are_written() {
        check("sifleet://node/viz001", "viz001 0");
        check("sifleet://node/viz001/epoch/1", "viz001 1");
        check("sifleet://node/viz001/epoch/4294967295", "viz001 4294967295");
        let node = "viz001".parse().unwrap();
        assert_eq!(node_uri(&node, Epoch(0)), "sifleet://node/viz001");
        assert_eq!(node_uri(&node, Epoch(7)), "sifleet://node/viz001/epoch/7");
    }

    #[test]
    fn a_new_epoch_is_newer_than_the_last_one_and_than_any_that_was_forgotten() {
        let (past, now) = (UnixMillis(0), UnixMillis(1_700_000_000_000));
        assert_eq!(Epoch(0).next(past), Epoch(1));
        assert_eq!(Epoch(0).next(now), Epoch(1_700_000_000));
        assert_eq!(Epoch(1_700_000_000).next(now), Epoch(1_700_000_001));
        assert!(Epoch(3).is_plausible(past) && Epoch(1_700_000_000).is_plausible(now));
        assert!(!Epoch(u32::MAX).is_plausible(now), "it could never be ended");
    }

    #[test]
    fn an_epoch_written_otherwise_is_none() {
        for digits in ["", "0", "01", "+1", "-1", " 1", "1 ", "4294967296", "1/epoch/1", "x"] {
            check(&format!("sifleet://node/viz001/epoch/{digits}"), "it holds an epoch that is none");
        }
        check("sifleet://node//epoch/1", "it holds a name that no node can have");
        check("https://node/viz001", "it does not begin with sifleet://node/");
    }
}
