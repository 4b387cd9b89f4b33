//! Sets of node names as people write them: `compute[001-128,200],viz01,rack[1-2]n[01-04]`.
//!
//! Owns the syntax (that of Slurm's hostlists and of ClusterShell's node sets without groups and operators),
//! its limits, natural order and folding. It knows no partitions and asks nobody about groups.
//! Source of the syntax: scontrol(1) "show hostlist" of Slurm 24.05 and nodeset(1) of ClusterShell 1.10;
//! docs/decisions/0002-nodeset.md says why this is our own.

mod fold;
mod parse;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use crate::name::{NameError, NodeName};

pub use fold::{FoldKey, fold, fold_runs, fold_sorted, natural_cmp};

/// Longest expression that is read, in bytes: 10,000 unfolded names of a usual length would be 100 KiB,
/// folded ones are a hundredth of that, and Slurm itself folds.
pub const MAX_EXPRESSION: usize = 64 * 1024;
/// Most names an expression may stand for, ten times the largest cluster meant to be served. They are
/// counted before the first one is made: twenty bytes can stand for 10^15.
pub const MAX_NAMES: u64 = 100_000;
/// Most digits of a number in brackets, and of one that is folded: any 18 digits fit 64 bits.
pub const MAX_DIGITS: usize = 18;

/// Says why a text is not a node set, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeSetError {
    /// Nothing was written.
    #[error("a node set cannot be empty: write something like compute[001-128],viz01")]
    Empty,
    /// Two commas in a row, or one at an end.
    #[error("the node set has an empty item at byte {at}: remove the extra comma")]
    EmptyItem {
        /// Offset of the empty item.
        at: usize,
    },
    /// Longer than [`MAX_EXPRESSION`].
    #[error("a node set has at most {MAX_EXPRESSION} bytes, this one has {len}: fold it, n[1-9] for n1,n2,…")]
    TooLong {
        /// What was given.
        len: usize,
    },
    /// More names than [`MAX_NAMES`].
    #[error("a node set stands for at most {MAX_NAMES} names, this one for {names} or more")]
    TooManyNames {
        /// Names counted when the limit was passed.
        names: u64,
    },
    /// A group reference, which only ClusterShell's own configuration could resolve.
    #[error("groups such as {item:?} are not known here: name the nodes, or ask about a partition instead")]
    Group {
        /// The item as written.
        item: String,
    },
    /// A set operator or wildcard of ClusterShell.
    #[error("{operator:?} in {item:?} is not supported: only commas and brackets combine names")]
    Operator {
        /// The operator.
        operator: char,
        /// The item as written.
        item: String,
    },
    /// Brackets that do not pair up, or nest.
    #[error("the brackets of the node set do not match at byte {at}: write name[1-9,12]")]
    Bracket {
        /// Offset of the offending bracket.
        at: usize,
    },
    /// Something in brackets that is not a range.
    #[error("{range:?} is not a range: {why}")]
    Range {
        /// The range as written.
        range: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An item that gives something else than node names.
    #[error("{item:?} does not stand for node names")]
    Name {
        /// The item as written.
        item: String,
        /// Which rule of node names it breaks.
        source: NameError,
    },
}

/// Holds node names in natural order, each once; never empty when parsed.
///
/// Shown folded, and equal to what parsing its shown form gives.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NodeSet {
    names: Vec<NodeName>,
}

impl NodeSet {
    /// Borrows the names, in natural order.
    #[must_use]
    pub fn names(&self) -> &[NodeName] {
        &self.names
    }

    /// Gives the names away, in natural order.
    #[must_use]
    pub fn into_names(self) -> Vec<NodeName> {
        self.names
    }

    /// Counts the names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Tells whether there are no names.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Tells whether the name is in the set.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.names.binary_search_by(|own| natural_cmp(own.as_str(), name)).is_ok()
    }
}

impl FromStr for NodeSet {
    type Err = NodeSetError;

    fn from_str(text: &str) -> Result<Self, NodeSetError> {
        let items = parse::items(text)?;
        let names = items.iter().fold(0, |sum: u64, item| sum.saturating_add(item.count()));
        if names > MAX_NAMES {
            return Err(NodeSetError::TooManyNames { names });
        }
        let mut expanded = Vec::with_capacity(usize::try_from(names).unwrap_or_default());
        for item in &items {
            item.expand(&mut expanded)?;
        }
        Ok(expanded.into_iter().collect())
    }
}

impl FromIterator<NodeName> for NodeSet {
    fn from_iter<I: IntoIterator<Item = NodeName>>(names: I) -> Self {
        let mut keyed: Vec<(FoldKey, NodeName)> =
            names.into_iter().map(|name| (FoldKey::of(name.as_str()), name)).collect();
        keyed.sort_unstable();
        keyed.dedup_by(|one, other| one.1 == other.1);
        Self { names: keyed.into_iter().map(|(_, name)| name).collect() }
    }
}

impl fmt::Display for NodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&fold(self.names.iter().map(NodeName::as_str)))
    }
}

impl fmt::Debug for NodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeSet({self})")
    }
}
