//! Messages of the control stream and the limits on them; `wire` tells the protocol in prose.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::image::{Arch, ImageMetadata};
use crate::inventory::{Change, Generation, InventoryDigest};
use crate::name::PartitionName;
use crate::wire::assignment::{Order, Report};
use crate::wire::enrol::Certificates;
use crate::wire::pull::{Pull, Pulled};

/// Most bytes of changes in one frame: half a frame, so that estimates may err.
pub const MAX_CHANGES_WEIGHT: usize = 512 * 1024;
/// Longest version text of a build.
pub const MAX_BUILD: usize = 64;
/// Most partitions a node may declare for itself.
pub const MAX_DECLARED_PARTITIONS: usize = 64;
/// Longest sidecar text, in bytes: display data, not a document store.
pub const MAX_SIDECAR: usize = 64 * 1024;

/// Orders what the coordinator sends; an agent repeats the newest one it has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stamp(pub u64);

/// Numbers one life of one agent process, at random.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamId(pub u64);

/// What an agent sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToCoordinator {
    /// First message of a session.
    Hello(Hello),
    /// A part of the whole inventory.
    Snapshot(Snapshot),
    /// One step.
    Delta(Delta),
    /// Sign of life.
    Heartbeat(Heartbeat),
    /// Answer to `Describe`; no metadata if the image is gone.
    Described(Box<Described>),
    /// The agent stops in good order; its answers become unknown at once.
    Goodbye,
    /// What became of an order, so far.
    Report(Box<Report>),
    /// Asks for the node's certificate once more: the same name and key, for longer.
    Renew,
    /// What the node's clock says, in milliseconds since 1970: for people, nothing is decided by it.
    Clock {
        /// When it was sent.
        at: i64,
    },
    /// Answers `Reconcile`: every root was looked at since, and whatever was found has been said before this.
    Reconciled {
        /// Which one.
        request: u64,
    },
    /// Asks for something on behalf of the node's jobs.
    Pull(Box<Pull>),
}

/// What the coordinator sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToAgent {
    /// Answer to `Hello`.
    Welcome(Welcome),
    /// Everything up to `generation` is applied.
    Ack {
        /// The generation the coordinator stands at.
        generation: Generation,
        /// To be repeated.
        stamp: Stamp,
    },
    /// The coordinator lost track: send a snapshot.
    Resync {
        /// To be repeated.
        stamp: Stamp,
    },
    /// Asks what an image says of itself.
    Describe {
        /// Of which image.
        digest: Digest,
    },
    /// Asks for a reconciliation of all roots, at once.
    Rescan,
    /// Something about transfers.
    Order(Box<Order>),
    /// Answers `Renew`.
    Renewed(Box<Certificates>),
    /// The authorities have changed: the node should ask for its certificate anew.
    RenewNow,
    /// Asks for a reconciliation of all roots, at once, and for word of its end.
    Reconcile {
        /// Repeated in the answer.
        request: u64,
    },
    /// Answers `Pull`.
    Pulled(Box<Pulled>),
}

/// Introduces an agent process and its inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// This life of the agent.
    pub stream: StreamId,
    /// Number of its last change.
    pub generation: Generation,
    /// Digest of its inventory.
    pub digest: InventoryDigest,
    /// Version of the agent, at most [`MAX_BUILD`] bytes.
    pub build: String,
    /// The node's processor.
    pub arch: Arch,
    /// Partitions the node's own settings name, at most [`MAX_DECLARED_PARTITIONS`].
    pub partitions: Vec<PartitionName>,
    /// UDP port at which other nodes fetch from this one; 0 if it neither gives nor takes.
    pub transfer_port: u16,
}

/// Tells an agent how the session goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// How much of the agent's inventory is already known.
    pub known: Known,
    /// How long a claim is believed, in milliseconds.
    pub lease_ms: u32,
    /// How often to send a heartbeat, in milliseconds.
    pub heartbeat_ms: u32,
    /// To be repeated.
    pub stamp: Stamp,
}

/// How much of an agent's inventory the coordinator holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Known {
    /// All of it: nothing needs to be sent.
    Current,
    /// Everything up to this generation of the agent's stream.
    At(Generation),
    /// Nothing that helps: a snapshot is needed.
    Nothing,
}

/// A part of the whole inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The generation that the whole snapshot shows.
    pub generation: Generation,
    /// Position of this part, from 0.
    pub part: u32,
    /// Whether this is the last part.
    pub last: bool,
    /// Changes that build the inventory from nothing.
    pub changes: Vec<Change>,
}

/// One step of the inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The generation this step leads to; it applies only onto the one before.
    pub generation: Generation,
    /// What changed.
    pub changes: Vec<Change>,
}

/// Sign of life and of agreement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The agent's last change.
    pub generation: Generation,
    /// Digest of its inventory at that change.
    pub digest: InventoryDigest,
    /// Newest stamp seen.
    pub stamp: Stamp,
}

/// What an image says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// Which image.
    pub digest: Digest,
    /// Read from the file; absent if the agent no longer has it.
    pub metadata: Option<ImageMetadata>,
    /// Text of the sidecar beside it, at most [`MAX_SIDECAR`] bytes.
    pub sidecar: Option<String>,
}
