//! Messages of the control stream about transfers; `wire` tells the protocol in prose.
//!
//! An assignment is stated as it should be, whole, every time: telling it again changes nothing, telling it otherwise
//! changes what differs. So a lost session costs nothing, and a restarted coordinator merely says everything again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::capability::{Capability, CapabilityKey};
use crate::chunk::MapDigest;
use crate::digest::Digest;
use crate::inventory::RootId;
use crate::keyring::KeyMaterial;
use crate::name::{ImageName, NodeName};
use crate::policy::{Policy, Verdict};
use crate::push::{FailCode, Fault, Phase};
use crate::removal::RemovalCode;

/// Most nodes that one assignment names: the ring's neighbours on either side, and some that have the image.
pub const MAX_PEERS: usize = 48;
/// Most assignments of one node at a time.
pub const MAX_ASSIGNMENTS: usize = 64;
/// Most sources listed in one report of progress.
pub const MAX_SOURCES: usize = MAX_PEERS;
/// Longest explanation, in bytes.
pub const MAX_DETAIL: usize = 512;
/// How long a removal counts that was said and is not answered; afterwards the coordinator gives it up, and takes the
/// replica for one that stays. An agent begins nothing of it then.
pub const REMOVAL_GIVEN_UP: Duration = Duration::from_secs(180);

/// Numbers an assignment within one life of the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AssignmentId(pub u64);

/// What the coordinator wants of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Asks for the chunk map of an image that the agent reported.
    MakeMap {
        /// Of which image.
        image: Digest,
    },
    /// Begins an assignment, or says what one should be from here on.
    Assign(Assignment),
    /// Ends an assignment: what was fetched of it is thrown away.
    Unassign {
        /// Which one.
        id: AssignmentId,
    },
    /// These are all assignments there are, said once in a session, when inventories agree; others are ended.
    Assigned {
        /// At most [`MAX_ASSIGNMENTS`].
        ids: Vec<AssignmentId>,
    },
    /// How fast bytes may move.
    Rates(Rates),
    /// Asks for an image to be taken away.
    Remove(Removal),
    /// How many images may be fetched at once; absent: what the agent's own settings say.
    Concurrent {
        /// At least 1.
        fetches: Option<u16>,
    },
    /// Whose capabilities count: nothing is given before.
    Capabilities {
        /// What checks them.
        key: CapabilityKey,
    },
    /// The keys whose signatures count, from here on. Said before anything that needs them, once in a session and when
    /// they change.
    Keyring(Arc<KeyMaterial>),
    /// As [`Order::Assign`]; the image is published only if its signatures are what the policy asks for.
    AssignUnder {
        /// What the node's partitions ask for; never [`Policy::Any`].
        policy: Policy,
        /// What is to be fetched.
        assignment: Assignment,
    },
    /// Asks for the verdict of the keyring on an image that the agent reported.
    Verify {
        /// Which image.
        image: Digest,
    },
}

/// What an agent has to say about orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// Answers [`Order::MakeMap`].
    Mapped(Mapped),
    /// How far an assignment is.
    Progress(Progress),
    /// Answers [`Order::Remove`].
    Removed(Removed),
    /// Answers [`Order::Verify`].
    Verified(Verified),
}

/// One node's share of a push: have this image, under this name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Named in reports. The same image for the same place under another number is the same assignment.
    pub id: AssignmentId,
    /// Which image.
    pub image: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Its chunk map, which any peer may hand out.
    pub map: MapDigest,
    /// Below which root.
    pub root: RootId,
    /// Under which name.
    pub name: ImageName,
    /// Whom to fetch from, at most [`MAX_PEERS`]; those that are not named any longer are left alone.
    pub peers: Vec<Peer>,
    /// Bytes a second that may be fetched for it; no limit if absent.
    pub rate: Option<u64>,
    /// Higher ones come first.
    pub priority: u8,
    /// Shown to those that are fetched from.
    pub capability: Capability,
}

/// A node that has an image, or is fetching it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Peer {
    /// Its name; its certificate must say the same.
    pub node: NodeName,
    /// Where it gives: the address from which its own authenticated session comes.
    pub address: SocketAddr,
}

/// How fast a node may move bytes, all assignments together; bytes a second, no limit if absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// To others.
    pub up: Option<u64>,
    /// From others.
    pub down: Option<u64>,
}

/// The chunk map of an image was made, or cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapped {
    /// Which image.
    pub image: Digest,
    /// What identifies the map; absent if there is none.
    pub map: Option<MapDigest>,
    /// Why there is none, at most [`MAX_DETAIL`] bytes.
    pub detail: String,
}

/// The signatures of an image were verified, or cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Which image.
    pub image: Digest,
    /// What identifies the keyring that was used.
    pub keyring: Digest,
    /// What was found; absent if nothing could be.
    pub verdict: Option<Verdict>,
    /// Why there is none, at most [`MAX_DETAIL`] bytes.
    pub detail: String,
}

/// How far an assignment is; sent when the phase changes, and about once a second while bytes move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Which assignment.
    pub id: AssignmentId,
    /// How far.
    pub phase: Phase,
    /// Bytes so far, by where they come from.
    pub bytes: Moved,
    /// Nodes that gave most, with bytes; at most [`MAX_SOURCES`].
    pub sources: Vec<(NodeName, u64)>,
    /// Nodes that are left alone since the last report, and why; at most [`MAX_SOURCES`].
    pub dropped: Vec<(NodeName, Fault)>,
    /// Why it failed, if it did; words at most [`MAX_DETAIL`] bytes.
    pub failure: Option<(FailCode, String)>,
}

/// Bytes of one assignment, by where they come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// From other nodes, verified.
    pub fetched: u64,
    /// From images that were on the node already.
    pub reused: u64,
    /// From an earlier attempt.
    pub resumed: u64,
    /// From other nodes, and of no use: arrived twice, or wrong.
    pub wasted: u64,
}

/// Asks for an image to be taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// Named in the answer.
    pub id: AssignmentId,
    /// Below which root.
    pub root: RootId,
    /// Under which name.
    pub name: ImageName,
    /// Only if it still is this image.
    pub image: Digest,
}

/// What became of a removal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Which removal.
    pub id: AssignmentId,
    /// How it ended.
    pub outcome: RemovalOutcome,
    /// In words, at most [`MAX_DETAIL`] bytes.
    pub detail: String,
}

/// How a removal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RemovalOutcome {
    /// It is gone.
    Gone,
    /// It was gone, or is another image by now; nothing was touched.
    Absent,
    /// It is open, mapped or mounted; nothing was touched.
    Busy,
    /// It cannot be; nothing was touched.
    Failed(RemovalCode),
}
