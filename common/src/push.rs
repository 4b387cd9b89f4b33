//! The words of pushes that travel on more than one wire: how far a node is, why it failed, what a peer did wrong.
//!
//! Owns names that are stable (scripts read them) and the hint that goes with each reason. Decides nothing.

use std::fmt;

/// How far one node's share of a push is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Phase {
    /// Not begun: the chunk map is being made, or other images come first.
    Waiting,
    /// The chunk map is read, space is reserved, chunks that are on the node already are copied.
    Preparing,
    /// Chunks come from other nodes.
    Fetching,
    /// The whole is held against its digest and published.
    Verifying,
    /// The image is on the node, whole.
    Done,
    /// Ended without the image; there is a reason code.
    Failed,
    /// The node is away; goes on when it comes back before the deadline.
    Deferred,
    /// Somebody ended the push before.
    Cancelled,
}

impl Phase {
    /// All, in the order of a good end.
    pub const ALL: [Self; 8] = [
        Self::Waiting,
        Self::Preparing,
        Self::Fetching,
        Self::Verifying,
        Self::Done,
        Self::Failed,
        Self::Deferred,
        Self::Cancelled,
    ];

    /// Returns the stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Preparing => "preparing",
            Self::Fetching => "fetching",
            Self::Verifying => "verifying",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Deferred => "deferred",
            Self::Cancelled => "cancelled",
        }
    }

    /// Tells whether the node is busy with it, or will be without anything happening first.
    #[must_use]
    pub const fn is_under_way(self) -> bool {
        matches!(self, Self::Waiting | Self::Preparing | Self::Fetching | Self::Verifying)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a node does not get an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum FailCode {
    /// Too little free space below the root.
    NoSpace,
    /// The quota of the root's owner is used up.
    Quota,
    /// The root is on a file system that cannot be written.
    ReadOnly,
    /// The agent may not write below the root.
    Permission,
    /// The root does not exist on the node.
    NoRoot,
    /// The disk reported an error.
    Io,
    /// Nobody who has the image could be reached.
    NoSource,
    /// The chunk map could not be had, or does not fit the image.
    NoMap,
    /// What was put together is not the image; it was thrown away.
    WrongDigest,
    /// The agent cannot take the push: it is of a version without transfers, or takes none.
    Refused,
    /// Nothing was heard of it for too long.
    Silent,
    /// The deadline passed.
    Deadline,
    /// The node could not run the image, or not read it.
    Unusable,
    /// Something that is no file has the image's name on the node.
    InTheWay,
    /// The image is not signed, or not all of it, and the node's partitions ask for a signature.
    NotSigned,
    /// A signature of the image does not hold.
    SignatureBad,
    /// The image is signed, but by nobody whom the node's partitions trust.
    SignerNotTrusted,
    /// The node's agent cannot look into the root: it is not there, or not mounted.
    RootUnknown,
}

impl FailCode {
    /// Returns the stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoSpace => "no_space",
            Self::Quota => "quota",
            Self::ReadOnly => "read_only",
            Self::Permission => "permission",
            Self::NoRoot => "no_root",
            Self::Io => "io",
            Self::NoSource => "no_source",
            Self::NoMap => "no_map",
            Self::WrongDigest => "wrong_digest",
            Self::Refused => "refused",
            Self::Silent => "silent",
            Self::Deadline => "deadline",
            Self::Unusable => "unusable",
            Self::InTheWay => "in_the_way",
            Self::NotSigned => "not_signed",
            Self::SignatureBad => "signature_bad",
            Self::SignerNotTrusted => "signer_not_trusted",
            Self::RootUnknown => "root_unknown",
        }
    }

    /// Says what to do about it.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::NoSpace => {
                "remove images from the root, or name another one with --root; tried again when there is space"
            }
            Self::Quota => "raise the quota of the agent's user below the root, or remove images there",
            Self::ReadOnly => {
                "let the agent's unit write there (ReadWritePaths) and mount the file system for writing; a disk with errors is often read-only"
            }
            Self::Permission => "let the agent's user write to the root, or name another one with --root",
            Self::NoRoot => "name a directory that the agent watches; `sifleet node show NODE` lists them",
            Self::RootUnknown => {
                "make the directory or mount it, and let the agent's user pass its folders; tried again when the agent can look into it"
            }
            Self::Io => "look into the kernel's log of the node: its disk reports errors",
            Self::NoSource => {
                "see that a node which holds the image is online, and that nodes reach one another's transfer port"
            }
            Self::NoMap => "see the log of the agents that hold the image: it could not be read to its end",
            Self::WrongDigest => {
                "push again; if it happens again, check the memory of the node and of those it fetched from"
            }
            Self::Refused => "see the agent's version and its `transfer` settings",
            Self::Silent => "see `systemctl status sifleet-agent` on the node",
            Self::Deadline => "push again, with a later --deadline",
            Self::InTheWay => {
                "remove the directory that has the image's name on the node, or the file that has its folder's"
            }
            Self::NotSigned => {
                "sign the image (apptainer sign) and push it again: signing makes another image of it; or change the partition's policy"
            }
            Self::SignatureBad => {
                "do not run this image: get it anew from whoever signed it; `apptainer verify` says the same"
            }
            Self::SignerNotTrusted => {
                "have it signed by somebody the partition's policy names, or add the signer's public key to the coordinator's keyring"
            }
            Self::Unusable => {
                "push an image built for the node's processor; let everybody pass the folders of the root (chmod o+x)"
            }
        }
    }

    /// Tells whether it is the node's disk that does not take the image.
    #[must_use]
    pub const fn is_of_disk(self) -> bool {
        matches!(self, Self::NoSpace | Self::Quota | Self::ReadOnly | Self::Permission | Self::Io)
    }

    /// Tells whether another image that goes may make room for this one.
    #[must_use]
    pub const fn is_for_want_of_room(self) -> bool {
        matches!(self, Self::NoSpace | Self::Quota)
    }

    /// Tells whether the same attempt may go well a little later without anybody's doing.
    #[must_use]
    pub const fn may_pass(self) -> bool {
        !matches!(self, Self::Refused | Self::Deadline | Self::NoRoot | Self::Unusable | Self::InTheWay)
            && !self.is_of_signatures()
    }

    /// Tells whether the image lacks the signatures that the node's partitions ask for.
    #[must_use]
    pub const fn is_of_signatures(self) -> bool {
        matches!(self, Self::NotSigned | Self::SignatureBad | Self::SignerNotTrusted)
    }
}

impl fmt::Display for FailCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a node is not fetched from any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Fault {
    /// Its bytes are not those of the chunk map.
    Poisoned,
    /// It refused a span that it had offered.
    Lied,
    /// What it sent is no answer.
    Garbage,
    /// It sent nothing for too long.
    Stalled,
    /// Its connection broke, or could not be made.
    Unreachable,
}

impl Fault {
    /// Returns the stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Poisoned => "poisoned",
            Self::Lied => "lied",
            Self::Garbage => "garbage",
            Self::Stalled => "stalled",
            Self::Unreachable => "unreachable",
        }
    }

    /// Tells whether it cannot have happened by mere bad luck, so that others had better not ask that node either.
    #[must_use]
    pub const fn is_malice(self) -> bool {
        matches!(self, Self::Poisoned | Self::Lied | Self::Garbage)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_json_says() {
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_string(&phase).unwrap(), format!("\"{phase}\""));
        }
        let codes = [
            FailCode::NoSpace,
            FailCode::Quota,
            FailCode::ReadOnly,
            FailCode::Permission,
            FailCode::NoRoot,
            FailCode::Io,
            FailCode::NoSource,
            FailCode::NoMap,
            FailCode::WrongDigest,
            FailCode::Refused,
            FailCode::Silent,
            FailCode::Deadline,
            FailCode::Unusable,
            FailCode::InTheWay,
            FailCode::NotSigned,
            FailCode::SignatureBad,
            FailCode::SignerNotTrusted,
            FailCode::RootUnknown,
        ];
        for code in codes {
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{code}\""));
            assert!(!code.hint().is_empty());
        }
        for fault in [Fault::Poisoned, Fault::Lied, Fault::Garbage, Fault::Stalled, Fault::Unreachable] {
            assert_eq!(serde_json::to_string(&fault).unwrap(), format!("\"{fault}\""));
        }
    }
}
