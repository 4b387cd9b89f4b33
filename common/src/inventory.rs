//! A node's inventory: its roots and the replicas found below them, with the number of its last change.
//!
//! Both sides keep the same [`Inventory`] and apply the same [`Change`]s, so that one digest tells whether
//! they agree. Nothing here looks at a disk or a network.

mod ledger;

use crate::digest::Digest;
use crate::image::{Arch, Format};
use crate::name::ImageName;
use crate::time::UnixMillis;

pub use ledger::{Inventory, InventoryDigest, OwnedChanges};

/// Most roots a node can have: a root's number is one byte on the wire.
pub const MAX_ROOTS: usize = 64;
/// Most entries one node may report; beyond it the node calls its root degraded and reports the first ones.
/// Five times the 200,000-entry folder that once took a dashboard down.
pub const MAX_REPLICAS: usize = 1_000_000;
/// Most bytes of names and explanations that are kept of one node: a million entries with 170 each.
pub const MAX_INVENTORY_WEIGHT: usize = 256 * 1024 * 1024;
/// Longest explanation that travels with a replica or root, in bytes.
pub const MAX_REASON: usize = 256;

/// Numbers one root of a node, in the order of the node's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RootId(pub u8);

/// Counts the changes of one inventory; two inventories of one stream with equal generations are equal.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// Returns the number of the next change.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A watched directory of a node.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Root {
    /// Absolute path on the node.
    pub path: String,
    /// What may be made of its contents.
    pub kind: RootKind,
    /// How far its contents are known.
    pub state: RootState,
}

/// What may be made of a root's contents. The numbers are on the wire and in databases.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum RootKind {
    /// Only admins put images there.
    #[default]
    Plain = 0,
    /// The cluster's library, which says what is expected elsewhere.
    Library = 1,
    /// Ordinary users can write there: jobs run its images, and no other node gets them from there.
    Untrusted = 2,
}

impl RootKind {
    /// Tells whether it is the cluster's library.
    #[must_use]
    pub const fn is_library(self) -> bool {
        matches!(self, Self::Library)
    }

    /// Tells whether other nodes may fetch from it.
    #[must_use]
    pub const fn is_trusted(self) -> bool {
        matches!(self, Self::Plain | Self::Library)
    }

    /// Returns the kind of a number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Plain),
            1 => Some(Self::Library),
            2 => Some(Self::Untrusted),
            _ => None,
        }
    }
}

/// How far the contents of a root are known.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum RootState {
    /// Scanned, and every change is reported by the kernel.
    Watched,
    /// Scanned on a short timer because the kernel does not report every change.
    Degraded {
        /// Why, and what an admin can do.
        reason: String,
    },
    /// Not known: absent, unreadable, not yet scanned. Its replicas are last-known only.
    Unknown {
        /// Why, and what an admin can do.
        reason: String,
    },
    /// Scanned, but for a part that cannot be looked at: what was found counts, what was not may be there all the same.
    Partial {
        /// Why, and what an admin can do.
        reason: String,
    },
}

/// Addresses one replica on a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ReplicaKey {
    /// Below which root.
    pub root: RootId,
    /// By which path.
    pub name: ImageName,
}

/// An entry found below a root, for what it is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Replica {
    /// Length of the file in bytes; 0 for what is not a regular file.
    pub size: u64,
    /// Modification time of the file.
    pub modified: UnixMillis,
    /// What is known of its content.
    pub content: Content,
}

impl Replica {
    /// Tells whether it is a whole image.
    #[must_use]
    pub const fn is_image(&self) -> bool {
        matches!(self.content, Content::Image(_))
    }
}

/// What is known of a replica's content.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Content {
    /// Seen, but nobody vouches for it yet.
    Pending(Pending),
    /// Whole, parsed and hashed: a job on this node can run it.
    Image(Image),
    /// There, and no job on this node can run it.
    Unusable(Unusable),
}

/// Why nobody vouches for a file yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Pending {
    /// Somebody has it open for writing, or it changed a moment ago.
    BeingWritten,
    /// Waiting to be hashed, or being hashed.
    Hashing,
}

/// A whole image.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Image {
    /// Identifies the bytes.
    pub digest: Digest,
    /// Which runnable format it has.
    pub format: Format,
    /// For which processor, where the format says so.
    pub arch: Arch,
    /// Whether running it may change it: it has a writable overlay.
    pub mutable: bool,
}

/// Why a job cannot run an entry.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Unusable {
    /// Stable code.
    pub code: UnusableCode,
    /// One sentence with the particulars, at most [`MAX_REASON`] bytes.
    pub detail: String,
}

/// Stable codes of unusable entries. Append only: their order is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum UnusableCode {
    /// The bytes are of no runnable format.
    NotAnImage,
    /// Begins like an image and ends too early.
    Truncated,
    /// Begins like an image and contradicts itself.
    Malformed,
    /// A container without anything to run.
    NothingToRun,
    /// A directory in sandbox format, which no digest can stand for.
    Sandbox,
    /// A symbolic link; images count where their bytes are.
    Symlink,
    /// A FIFO, socket or device.
    SpecialFile,
    /// The name cannot be written down or typed.
    BadName,
    /// The agent may not read it.
    Unreadable,
    /// Not everybody may read it, so jobs of some users fail.
    Private,
    /// Built for another processor than this node's.
    WrongArch,
    /// Mostly holes: far larger than what is stored.
    Sparse,
}

impl UnusableCode {
    /// Returns the stable text of the code, as JSON shows it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotAnImage => "not_an_image",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::NothingToRun => "nothing_to_run",
            Self::Sandbox => "sandbox",
            Self::Symlink => "symlink",
            Self::SpecialFile => "special_file",
            Self::BadName => "bad_name",
            Self::Unreadable => "unreadable",
            Self::Private => "private",
            Self::WrongArch => "wrong_arch",
            Self::Sparse => "sparse",
        }
    }
}

/// One step between two inventories.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Change {
    /// A root is there, or its state changed. Its replicas stay as they are.
    Root(RootId, Root),
    /// A replica is there, or changed.
    Put(ReplicaKey, Replica),
    /// A replica is gone.
    Remove(ReplicaKey),
}

impl Change {
    /// Estimates the bytes of the change on the wire, from above.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Root(_, root) => weight_of_root(root),
            Self::Put(key, replica) => weight_of_replica(key, replica),
            Self::Remove(key) => FIXED_WEIGHT + key.name.as_str().len(),
        }
    }
}

/// What a change weighs beside its texts.
const FIXED_WEIGHT: usize = 96;

fn weight_of_root(root: &Root) -> usize {
    FIXED_WEIGHT + root.path.len() + MAX_REASON
}

fn weight_of_replica(key: &ReplicaKey, replica: &Replica) -> usize {
    let detail = match &replica.content {
        Content::Unusable(what) => what.detail.len(),
        Content::Pending(_) | Content::Image(_) => 0,
    };
    FIXED_WEIGHT + key.name.as_str().len() + detail
}

/// Groups changes so that each group stays below `limit` bytes on the wire; order is kept.
#[must_use]
pub fn pack(changes: impl IntoIterator<Item = Change>, limit: usize) -> Vec<Vec<Change>> {
    let mut groups: Vec<Vec<Change>> = Vec::new();
    let mut weight = limit;
    for change in changes {
        let adds = change.weight();
        match groups.last_mut() {
            Some(group) if weight + adds <= limit => {
                weight += adds;
                group.push(change);
            }
            _ => {
                weight = adds;
                groups.push(vec![change]);
            }
        }
    }
    groups
}

/// Cuts an explanation to [`MAX_REASON`] bytes at a character boundary.
#[must_use]
pub fn reason(text: impl Into<String>) -> String {
    let mut text: String = text.into();
    if text.len() > MAX_REASON {
        text.truncate(text.floor_char_boundary(MAX_REASON - '…'.len_utf8()));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(n: u64) -> Change {
        let name = format!("image{n}.sif").parse().unwrap();
        let content = Content::Pending(Pending::Hashing);
        Change::Put(
            ReplicaKey { root: RootId(0), name },
            Replica { size: n, modified: UnixMillis(7), content },
        )
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let cut = reason("한".repeat(200));
        assert!(cut.len() <= MAX_REASON && cut.ends_with('…'));
    }

    #[test]
    fn packed_groups_stay_below_the_limit_and_lose_nothing() {
        let changes: Vec<_> = (0..100).map(put).collect();
        let groups = pack(changes.clone(), 1_000);
        assert!(groups.iter().all(|group| group.iter().map(Change::weight).sum::<usize>() <= 1_000));
        assert_eq!(groups.concat(), changes);
    }
}
