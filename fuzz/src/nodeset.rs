//! Node sets: any text as an expression, and as the answer of Slurm that holds one.
//!
//! What is read folds into a text that reads the same, and no short text stands for more names than the limit.

use std::collections::BTreeSet;

use sifleet_common::nodeset::{MAX_EXPRESSION, MAX_NAMES, NodeSet, fold};
use sifleet_coordinator::partitions::slurm;

/// Reads, folds and reads again.
///
/// # Panics
/// When a promise is broken.
pub fn run(data: &[u8]) {
    if let Ok(heard) = slurm::parse(data) {
        for (partition, nodes) in heard.members {
            let folded = fold(nodes.iter().map(|node| node.as_str()));
            assert!(nodes.is_empty() == folded.is_empty(), "{partition} folds into {folded:?}");
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<NodeSet>() {
        Ok(set) => {
            assert!(!set.is_empty() && set.len() as u64 <= MAX_NAMES);
            let folded = fold(set.names().iter().map(|node| node.as_str()));
            if folded.len() > MAX_EXPRESSION {
                // Only the last number of a name folds, so rack[1-90000]n1 is read and too long to be read again.
                return;
            }
            let again: NodeSet = match folded.parse() {
                Ok(again) => again,
                Err(error) => panic!("{text:?} folds into {folded:?}, which cannot be read: {error}"),
            };
            let (once, twice): (BTreeSet<_>, BTreeSet<_>) =
                (set.names().iter().collect(), again.names().iter().collect());
            assert_eq!(once, twice, "{text:?} folds into {folded:?}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
