//! The words of removals that travel on more than one wire: how far a node is, why it keeps its image.
//!
//! Owns names that are stable (scripts read them) and the hint that goes with each reason. Decides nothing.

use std::fmt;

/// How far one node's share of a removal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RemovalPhase {
    /// Not begun, or to be tried once more; there may be a reason code.
    Waiting,
    /// Its agent was told to.
    Removing,
    /// The image is not there, or not any longer.
    Done,
    /// Ended with the image still there; there is a reason code.
    Failed,
    /// The node is away; goes on when it comes back before the deadline.
    Deferred,
    /// Somebody ended the removal before.
    Cancelled,
}

impl RemovalPhase {
    /// All, in the order of a good end.
    pub const ALL: [Self; 6] =
        [Self::Waiting, Self::Removing, Self::Done, Self::Failed, Self::Deferred, Self::Cancelled];

    /// Returns the stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Removing => "removing",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Deferred => "deferred",
            Self::Cancelled => "cancelled",
        }
    }

    /// Tells whether the node is busy with it, or will be without anything happening first.
    #[must_use]
    pub const fn is_under_way(self) -> bool {
        matches!(self, Self::Waiting | Self::Removing)
    }

    /// Tells whether nothing more will happen by itself.
    #[must_use]
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for RemovalPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a node keeps an image that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RemovalCode {
    /// Somebody has the file open, mapped or mounted.
    Busy,
    /// No other ready replica would be left in the cluster.
    LastReplica,
    /// A push is bringing the same image to the node.
    BeingPushed,
    /// The root does not exist on the node, or nobody knows at present what is below it.
    NoRoot,
    /// The root is the library, from which nodes are served.
    Library,
    /// The agent has no way to know whether anybody uses the file.
    CannotTell,
    /// The root is on a file system that cannot be written.
    ReadOnly,
    /// The agent may not remove files there.
    Permission,
    /// The system refused for another reason.
    Io,
    /// The agent takes no orders about images.
    Refused,
    /// The agent did not answer.
    Silent,
    /// The deadline passed.
    Deadline,
}

impl RemovalCode {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Busy,
        Self::LastReplica,
        Self::BeingPushed,
        Self::NoRoot,
        Self::Library,
        Self::CannotTell,
        Self::ReadOnly,
        Self::Permission,
        Self::Io,
        Self::Refused,
        Self::Silent,
        Self::Deadline,
    ];

    /// Returns the stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::LastReplica => "last_replica",
            Self::BeingPushed => "being_pushed",
            Self::NoRoot => "no_root",
            Self::Library => "library",
            Self::CannotTell => "cannot_tell",
            Self::ReadOnly => "read_only",
            Self::Permission => "permission",
            Self::Io => "io",
            Self::Refused => "refused",
            Self::Silent => "silent",
            Self::Deadline => "deadline",
        }
    }

    /// Says what to do about it.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::Busy => {
                "wait for the jobs that use it, or remove with --when-idle; `fuser -v FILE` and `losetup -j FILE` on the node say who they are"
            }
            Self::LastReplica => "put the image into the library first, or remove it with --force",
            Self::BeingPushed => "cancel the push first (`sifleet push ls`)",
            Self::NoRoot => "name a directory that the agent watches; `sifleet node show NODE` lists them",
            Self::Library => "remove the file from the library's directory by hand",
            Self::CannotTell => {
                "see that no job uses the file, and remove it by hand, on a network file system at its server; the agent's inventory notices"
            }
            Self::ReadOnly => {
                "mount the file system for writing; a disk with errors is often remounted read-only"
            }
            Self::Permission => "let the agent's user write to the directory that holds the file",
            Self::Io => "look into the kernel's log of the node: its disk may report errors",
            Self::Refused => "see the agent's version and its `transfer` settings",
            Self::Silent => "see `systemctl status sifleet-agent` on the node",
            Self::Deadline => "remove again, with a later --deadline",
        }
    }
}

impl fmt::Display for RemovalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_json_says() {
        for phase in RemovalPhase::ALL {
            assert_eq!(serde_json::to_string(&phase).unwrap(), format!("\"{phase}\""));
        }
        for code in RemovalCode::ALL {
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{code}\""));
            assert!(!code.hint().is_empty());
        }
    }
}
