//! What it means for an image to be available: the answer node by node, and the verdict over a partition.
//!
//! Pure arithmetic over counts; who counts, and from what evidence, is the coordinator's business.

use std::fmt;
use std::str::FromStr;

/// The answer for one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum NodeAnswer {
    /// A current inventory holds the image, whole and hashed.
    Ready,
    /// A current inventory holds another image under this name than the one expected.
    Outdated,
    /// A current inventory does not hold the image, or holds something no job can run.
    Missing,
    /// Nothing current is known: no inventory, an expired lease, an unknown root, a file not yet hashed.
    Unknown,
}

/// The answer for a whole partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Verdict {
    /// Every node is ready.
    Ready,
    /// Some nodes are ready.
    Partial,
    /// No node is ready, and that is certain.
    Missing,
    /// No node is ready as far as is known, and some are unknown.
    Unknown,
}

/// Whether a requirement is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Satisfied {
    /// Met by ready nodes alone.
    Yes,
    /// Not met, even if every unknown node turned out ready.
    No,
    /// Depends on nodes nothing current is known of.
    Unknown,
}

/// How many nodes of a partition a caller needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Require {
    /// Every node: a job may land on any of them.
    #[default]
    All,
    /// At least one.
    Any,
    /// At least so many.
    AtLeast(u32),
}

/// Says why a text is not a requirement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a requirement: write all, any or a number of nodes from 1")]
pub struct RequireError {
    /// What was written.
    pub text: String,
}

impl FromStr for Require {
    type Err = RequireError;
    fn from_str(text: &str) -> Result<Self, RequireError> {
        match text {
            "all" => Ok(Self::All),
            "any" => Ok(Self::Any),
            _ => match text.parse() {
                Ok(nodes) if nodes > 0 => Ok(Self::AtLeast(nodes)),
                _ => Err(RequireError { text: text.chars().take(40).collect() }),
            },
        }
    }
}

impl fmt::Display for Require {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Any => f.write_str("any"),
            Self::AtLeast(nodes) => nodes.fmt(f),
        }
    }
}

/// How many nodes gave which answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Counts {
    /// Nodes that are ready.
    pub ready: u32,
    /// Nodes with another image under this name.
    pub outdated: u32,
    /// Nodes without it.
    pub missing: u32,
    /// Nodes of which nothing current is known.
    pub unknown: u32,
}

impl Counts {
    /// Returns the number of all nodes.
    #[must_use]
    pub const fn nodes(self) -> u32 {
        self.ready.saturating_add(self.outdated).saturating_add(self.missing).saturating_add(self.unknown)
    }

    /// Sums the counts up; an empty partition is `Missing`, for no job could run there.
    #[must_use]
    pub const fn verdict(self) -> Verdict {
        if self.ready > 0 {
            if self.ready == self.nodes() { Verdict::Ready } else { Verdict::Partial }
        } else if self.unknown > 0 {
            Verdict::Unknown
        } else {
            Verdict::Missing
        }
    }

    /// Tells whether a requirement is met, never guessing about unknown nodes.
    #[must_use]
    pub const fn satisfied(self, require: Require) -> Satisfied {
        let needed = match require {
            Require::All if self.nodes() == 0 => return Satisfied::No,
            Require::All => self.nodes(),
            Require::Any => 1,
            Require::AtLeast(nodes) => nodes,
        };
        if self.ready >= needed {
            Satisfied::Yes
        } else if self.ready.saturating_add(self.unknown) < needed {
            Satisfied::No
        } else {
            Satisfied::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(ready: u32, outdated: u32, missing: u32, unknown: u32) -> Counts {
        Counts { ready, outdated, missing, unknown }
    }

    #[test]
    fn the_verdict_sums_the_nodes_up() {
        for (given, verdict) in [
            (counts(2, 0, 0, 0), Verdict::Ready),
            (counts(1, 0, 1, 0), Verdict::Partial),
            (counts(1, 0, 0, 1), Verdict::Partial),
            (counts(0, 1, 1, 0), Verdict::Missing),
            (counts(0, 0, 1, 1), Verdict::Unknown),
            (counts(0, 0, 0, 0), Verdict::Missing),
        ] {
            assert_eq!(given.verdict(), verdict, "{given:?}");
        }
    }

    #[test]
    fn a_requirement_is_never_met_by_a_guess() {
        for (given, require, satisfied) in [
            (counts(2, 0, 0, 0), Require::All, Satisfied::Yes),
            (counts(1, 0, 0, 1), Require::All, Satisfied::Unknown),
            (counts(1, 0, 1, 1), Require::All, Satisfied::No),
            (counts(0, 0, 0, 0), Require::All, Satisfied::No),
            (counts(0, 0, 0, 0), Require::Any, Satisfied::No),
            (counts(0, 0, 5, 1), Require::Any, Satisfied::Unknown),
            (counts(1, 0, 5, 0), Require::Any, Satisfied::Yes),
            (counts(2, 0, 0, 1), Require::AtLeast(3), Satisfied::Unknown),
            (counts(2, 0, 9, 0), Require::AtLeast(3), Satisfied::No),
        ] {
            assert_eq!(given.satisfied(require), satisfied, "{given:?} {require}");
        }
    }

    #[test]
    fn requirements_read_as_people_write_them() {
        assert_eq!("all".parse(), Ok(Require::All));
        assert_eq!("3".parse(), Ok(Require::AtLeast(3)));
        for bad in ["0", "-1", "some", ""] {
            assert!(bad.parse::<Require>().is_err(), "{bad}");
        }
    }
}
