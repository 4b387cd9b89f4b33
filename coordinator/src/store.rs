//! What must survive a restart: nodes and their last-known inventories, image metadata, memberships, pushes,
//! removals, limits, identities, tokens, job templates, the audit.
//!
//! Owns the vocabulary of durable steps ([`Op`]) and what is found again at start ([`Restored`]); all SQL is in
//! [`sqlite`]. Leases, sessions and rates are soft state and never come here.

pub mod audit;
pub mod identity;
pub mod limits;
pub mod oci;
pub mod push;
pub mod registry;
pub mod removal;
pub mod sqlite;
pub mod template;
pub mod token;

pub use sqlite::{Store, StoreError, StoreStats};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sifleet_common::chunk::MapDigest;
use sifleet_common::digest::Digest;
use sifleet_common::image::{Arch, ImageMetadata};
use sifleet_common::inventory::{Change, Generation, InventoryDigest};
use sifleet_common::name::{ImageName, NodeName, PartitionName};
use sifleet_common::time::UnixMillis;
use sifleet_common::wire::control::StreamId;

use audit::AuditRecord;
use identity::{Invite, InviteNo, Standing};
use limits::LimitSet;
use oci::OciStep;
use push::{PushNo, PushOutcome, PushRecord, RestoredPush};
use registry::RegistryRecord;
use removal::{RemovalNo, RemovalPart, RemovalRecord, RestoredRemoval};
use template::{TemplateId, TemplateRecord};
use token::{TokenNo, TokenRecord};

/// One durable step. Steps are applied in the order in which they are handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A node introduced itself.
    PutNode {
        /// Which node.
        node: NodeName,
        /// What it said.
        facts: NodeFacts,
    },
    /// A node's inventory made a step, or several.
    Advance {
        /// Which node.
        node: NodeName,
        /// Where it stands afterwards.
        position: Position,
        /// What changed.
        changes: Vec<Change>,
    },
    /// A node's inventory is replaced as a whole.
    Replace {
        /// Which node.
        node: NodeName,
        /// Where it stands afterwards.
        position: Position,
        /// Changes that build it from nothing.
        changes: Vec<Change>,
    },
    /// An image said what it is.
    PutMetadata {
        /// Which image.
        digest: Digest,
        /// What it said.
        metadata: Box<ImageMetadata>,
        /// Text of its sidecar.
        sidecar: Option<String>,
    },
    /// A source of partitions was heard.
    PutMembers {
        /// `file` or `slurm`.
        source: String,
        /// When.
        at: UnixMillis,
        /// What it said.
        members: BTreeMap<PartitionName, BTreeSet<NodeName>>,
    },
    /// An image was ready somewhere: its name is to be remembered when the last replica is gone.
    HeardOf {
        /// Its name.
        name: ImageName,
    },
    /// Somebody wants nodes to have an image.
    PutPush {
        /// What is wanted.
        record: Arc<PushRecord>,
        /// Of which nodes, in natural order; nothing is known of them yet.
        nodes: Vec<NodeName>,
    },
    /// One more node is to have what a push brings.
    JoinPush {
        /// Which push.
        push: PushNo,
        /// Which node; nothing is known of it yet.
        node: NodeName,
    },
    /// A push began or ended, or something about it changed; not its nodes.
    ChangePush {
        /// The push as it is.
        record: Arc<PushRecord>,
    },
    /// Nodes of a push came to an end, or are to try once more.
    PutOutcomes {
        /// Of which push.
        push: PushNo,
        /// To which end; none for those that try once more.
        nodes: Vec<(NodeName, Option<PushOutcome>)>,
    },
    /// Pushes are too old to be kept.
    ForgetPushes {
        /// Which ones.
        pushes: Vec<PushNo>,
    },
    /// The chunk map of an image turned out not to be one.
    ForgetMap {
        /// Of which image.
        image: Digest,
    },
    /// The chunk map of an image was made.
    PutMap {
        /// Of which image.
        image: Digest,
        /// What identifies it.
        map: MapDigest,
    },
    /// Somebody wants nodes not to have an image any longer.
    PutRemoval {
        /// What is wanted.
        record: Arc<RemovalRecord>,
        /// Of which nodes, in natural order; nothing is known of them yet.
        nodes: Vec<NodeName>,
    },
    /// A removal ended, or something about it changed; not its nodes.
    ChangeRemoval {
        /// The removal as it is.
        record: Arc<RemovalRecord>,
    },
    /// Nodes of a removal came to an end.
    PutRemoved {
        /// Of which removal.
        removal: RemovalNo,
        /// To which end.
        nodes: Vec<(NodeName, RemovalPart)>,
    },
    /// Removals are too old to be kept.
    ForgetRemovals {
        /// Which ones.
        removals: Vec<RemovalNo>,
    },
    /// Limits of transfers are others.
    PutLimits {
        /// All of them.
        set: LimitSet,
    },
    /// Nodes are busy, or are not any longer.
    MarkBusy {
        /// Which nodes.
        nodes: BTreeSet<NodeName>,
        /// Whether they are.
        busy: bool,
    },
    /// A name was enrolled or revoked.
    PutStanding {
        /// Which.
        node: NodeName,
        /// How it stands.
        standing: Standing,
    },
    /// Tokens with which nodes enrol were made or used.
    PutInvites {
        /// As they are.
        invites: Vec<Invite>,
    },
    /// These are all tokens with which nodes enrol.
    ReplaceInvites {
        /// As they are.
        invites: Vec<Invite>,
    },
    /// Tokens with which nodes enrol are too old, or not to be used.
    ForgetInvites {
        /// Which ones.
        invites: Vec<InviteNo>,
    },
    /// An external registry was written down, or changed.
    PutRegistry {
        /// As it is.
        record: Box<RegistryRecord>,
    },
    /// An external registry is of no interest any longer.
    ForgetRegistry {
        /// Which one.
        id: String,
    },
    /// A token was made, or revoked.
    PutToken {
        /// The token as it is.
        record: Box<TokenRecord>,
    },
    /// Tokens were used.
    TouchTokens {
        /// Which ones, and when.
        used: Vec<(TokenNo, UnixMillis)>,
    },
    /// Tokens were not good any longer for so long that nobody asks for them.
    ForgetTokens {
        /// Which ones.
        tokens: Vec<TokenNo>,
    },
    /// A job template was put.
    PutTemplate {
        /// The template as it is.
        record: Box<TemplateRecord>,
    },
    /// A job template was deleted.
    ForgetTemplate {
        /// Which one.
        id: TemplateId,
    },
    /// Somebody asked for a change, or was refused.
    PutAudit {
        /// Who, and for what.
        record: Box<AuditRecord>,
    },
    /// Old records of the audit are of no use.
    PruneAudit {
        /// Those before this.
        before: UnixMillis,
        /// And of changes and of refusals those beyond so many.
        keep: u32,
    },
    /// An OCI client pushed or deleted something, or a file of the library was hashed for them.
    Oci(Box<OciStep>),
}

impl Op {
    /// Tells whether it keeps what people asked for (pushes, removals, limits, identities), not what agents report.
    #[must_use]
    pub const fn is_asked_for(&self) -> bool {
        match self {
            Self::PutPush { .. }
            | Self::JoinPush { .. }
            | Self::ChangePush { .. }
            | Self::PutOutcomes { .. }
            | Self::ForgetPushes { .. }
            | Self::ForgetMap { .. }
            | Self::PutMap { .. }
            | Self::PutRemoval { .. }
            | Self::ChangeRemoval { .. }
            | Self::PutRemoved { .. }
            | Self::ForgetRemovals { .. }
            | Self::PutLimits { .. }
            | Self::MarkBusy { .. }
            | Self::PutStanding { .. }
            | Self::PutInvites { .. }
            | Self::ReplaceInvites { .. }
            | Self::ForgetInvites { .. } => true,
            Self::PutNode { .. }
            | Self::Advance { .. }
            | Self::Replace { .. }
            | Self::PutMetadata { .. }
            | Self::PutMembers { .. }
            | Self::HeardOf { .. }
            | Self::PutRegistry { .. }
            | Self::ForgetRegistry { .. }
            | Self::PutToken { .. }
            | Self::TouchTokens { .. }
            | Self::ForgetTokens { .. }
            | Self::PutTemplate { .. }
            | Self::ForgetTemplate { .. }
            | Self::PutAudit { .. }
            | Self::PruneAudit { .. }
            | Self::Oci(_) => false,
        }
    }
}

/// What a node says of itself, apart from its inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// Version of its agent.
    pub build: String,
    /// Its processor.
    pub arch: Arch,
    /// Partitions its own settings name.
    pub partitions: Vec<PartitionName>,
    /// When it said so.
    pub last_seen: UnixMillis,
}

/// Where an inventory stands in its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Life of the agent process.
    pub stream: StreamId,
    /// Number of its last change.
    pub generation: Generation,
    /// Digest of the inventory.
    pub digest: InventoryDigest,
}

/// One node as it was last known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredNode {
    /// Its name.
    pub node: NodeName,
    /// What it said of itself.
    pub facts: NodeFacts,
    /// Where its inventory stood.
    pub position: Position,
    /// Changes that build its inventory from nothing.
    pub changes: Vec<Change>,
}

/// A list of partitions as last heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredMembers {
    /// `file` or `slurm`.
    pub source: String,
    /// When it was heard.
    pub at: UnixMillis,
    /// What was said.
    pub members: BTreeMap<PartitionName, BTreeSet<NodeName>>,
}

/// Everything found again at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The nodes, by name.
    pub nodes: Vec<RestoredNode>,
    /// The lists of partitions.
    pub members: Vec<RestoredMembers>,
    /// Digests whose metadata is known.
    pub described: BTreeSet<Digest>,
    /// Names of images that were once ready somewhere.
    pub heard_of: Vec<ImageName>,
    /// The pushes, oldest first.
    pub pushes: Vec<RestoredPush>,
    /// The removals, oldest first.
    pub removals: Vec<RestoredRemoval>,
    /// What identifies the chunk maps of images.
    pub maps: BTreeMap<Digest, MapDigest>,
    /// Limits of transfers.
    pub limits: LimitSet,
    /// Nodes that somebody marked as busy.
    pub busy: BTreeSet<NodeName>,
    /// How names stand that were enrolled or revoked.
    pub standings: Vec<(NodeName, Standing)>,
    /// Tokens with which nodes enrol.
    pub invites: Vec<Invite>,
    /// The tokens, oldest first.
    pub tokens: Vec<TokenRecord>,
    /// The job templates, by id.
    pub templates: Vec<TemplateRecord>,
    /// The external registries, by id.
    pub registries: Vec<RegistryRecord>,
}

impl Restored {
    /// Forgets what sources of partitions said that nobody asks any longer; returns the steps that make it durable.
    #[must_use]
    pub fn forget_sources(&mut self, asked: &[&str]) -> Vec<Op> {
        let (kept, forgotten): (Vec<_>, Vec<_>) = std::mem::take(&mut self.members)
            .into_iter()
            .partition(|known| asked.contains(&known.source.as_str()));
        self.members = kept;
        // The row of a source without partitions stays, and says nothing.
        let heard = forgotten.into_iter().filter(|known| !known.members.is_empty());
        heard
            .map(|RestoredMembers { source, at, .. }| Op::PutMembers { source, at, members: BTreeMap::new() })
            .collect()
    }
}
