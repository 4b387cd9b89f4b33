//! What people want: a wish that was understood, what can be asked of a removal, and why it is refused.

use std::time::Duration;

use roaring::RoaringBitmap;
use sifleet_common::digest::Digest;
use sifleet_common::name::ImageName;
use sifleet_common::nodeset::NodeSetError;

use crate::state::pushes::PushError;
use crate::store::removal::RemovalNo;
use crate::view::{QueryError, View};

/// Most removals that run at once.
pub const MAX_RUNNING: usize = 1_000;
/// Most nodes of all removals that are kept: some hundred megabytes.
pub const MAX_PARTS: usize = 1_000_000;

/// Nodes are not to have an image any longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovalWish {
    /// Under which name.
    pub image: ImageName,
    /// Which bytes.
    pub digest: Digest,
    /// How many.
    pub size: u64,
    /// Below which root, as its path; absent: below every one that is no library.
    pub root: Option<String>,
    /// Which nodes.
    pub nodes: RoaringBitmap,
    /// Whether even the last ready replica may go.
    pub force: bool,
    /// Whether it is tried again where somebody uses the file.
    pub when_idle: bool,
    /// How long it goes on.
    pub patience: Duration,
}

/// What can be asked about removals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemovalCommand {
    /// A new one.
    Create(Box<RemovalWish>),
    /// No more of it.
    Cancel(RemovalNo),
}

impl RemovalError {
    /// Adds the names that were perhaps meant.
    #[must_use]
    pub fn with_near_names(self, view: &View) -> Self {
        if let Self::Query(error) = self { Self::Query(view.suggest(error)) } else { self }
    }
}

impl From<PushError> for RemovalError {
    /// What is wrong with naming an image or nodes is the same, whatever is to be done with them.
    fn from(error: PushError) -> Self {
        match error {
            PushError::Query(error) => Self::Query(error),
            PushError::Nodes(error) => Self::Nodes(error),
            PushError::Disagreed { image, candidates } => Self::Disagreed { image, candidates },
            PushError::NoHolder { image } => Self::NoHolder { image },
            PushError::Bad { detail } => Self::Bad { detail },
            other @ (PushError::NotThere { .. }
            | PushError::KeyReused { .. }
            | PushError::Unknown { .. }
            | PushError::Cancelled { .. }
            | PushError::TooMany { .. }) => Self::Bad { detail: other.to_string() },
        }
    }
}

/// Says why a removal is not taken, or not found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemovalError {
    /// The image, a partition or a node is not known.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The nodes are no node set.
    #[error(transparent)]
    Nodes(#[from] NodeSetError),
    /// Something in the wish cannot be.
    #[error("{detail}")]
    Bad {
        /// What and why.
        detail: String,
    },
    /// Nobody says which bytes are meant.
    #[error("nodes hold different images as {image}, and the library holds none")]
    Disagreed {
        /// The image.
        image: ImageName,
        /// The digests, as references.
        candidates: Vec<String>,
    },
    /// Nobody has it.
    #[error("no node that is online holds {image}, so there is nothing to remove")]
    NoHolder {
        /// What was asked for.
        image: String,
    },
    /// Nobody would have it any longer.
    #[error(
        "no ready replica of {image} would be left in the cluster: all that are online are on {nodes}, or about to be removed"
    )]
    LastReplica {
        /// The image.
        image: ImageName,
        /// Nodes that would lose it.
        nodes: String,
    },
    /// No such removal.
    #[error("there is no removal {id:?}")]
    Unknown {
        /// What was asked for, cut.
        id: String,
    },
    /// There are too many.
    #[error("{what} at once is the limit")]
    TooMany {
        /// Of what.
        what: String,
    },
}
