//! What people want: a wish that was understood, what can be asked of a push, and why it is refused.

use std::time::Duration;

use roaring::RoaringBitmap;
use sifleet_common::digest::Digest;
use sifleet_common::name::{ImageName, NodeName};

use crate::state::index::NodeId;
use crate::store::limits::{LEAST_RATE, MOST_RATE};
use crate::store::push::{Completion, Key, PushNo};
use crate::view::View;
use crate::view::meant::MeantError;

/// Priority of a push that names none.
pub const PRIORITY: u8 = 100;
/// How long a push goes on if nobody says: a node that is repaired overnight still gets it.
pub const PATIENCE: Duration = Duration::from_secs(86_400);
/// Longest time a push may go on: a month.
pub const MAX_PATIENCE: Duration = Duration::from_secs(30 * 86_400);
/// Most pushes that run at once.
pub const MAX_RUNNING: usize = 1_000;
/// Most nodes of all pushes that are kept: some hundred megabytes.
pub const MAX_PARTS: usize = 1_000_000;

/// Nodes are to have an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Under which name.
    pub image: ImageName,
    /// Which bytes.
    pub digest: Digest,
    /// How many.
    pub size: u64,
    /// The only node to take it from at first.
    pub from: Option<NodeId>,
    /// Below which root, as its path.
    pub root: Option<String>,
    /// Which nodes.
    pub nodes: RoaringBitmap,
    /// When it counts as done.
    pub completion: Completion,
    /// How long it goes on.
    pub patience: Duration,
    /// Bytes a second that each node may fetch.
    pub rate: Option<u64>,
    /// Higher ones come first.
    pub priority: u8,
    /// By which it is known when asked for again.
    pub key: Option<Key>,
}

/// What can be asked about pushes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A new one.
    Create(Box<Wish>),
    /// One that is under way for the same, or has brought it, else a new one.
    Ensure(Box<Wish>),
    /// Nodes of a wish, which has a key, join the push of that key, or begin it.
    Join(Box<Wish>),
    /// No more of it.
    Cancel(PushNo),
    /// Once more for the nodes that failed.
    Retry(PushNo),
    /// Another rate.
    Rate(PushNo, Option<u64>),
}

impl PushError {
    /// Adds the names that were perhaps meant.
    #[must_use]
    pub fn with_near_names(self, view: &View) -> Self {
        if let Self::Meant(error) = self { Self::Meant(error.with_near_names(view)) } else { self }
    }
}

/// Says why a push is not taken, or not found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// Nobody knows what is meant.
    #[error(transparent)]
    Meant(#[from] MeantError),
    /// The node it is to be taken from does not have it.
    #[error("{node} does not hold {image}")]
    NotThere {
        /// The node.
        node: NodeName,
        /// The image.
        image: ImageName,
        /// Nodes that hold it.
        candidates: Vec<String>,
    },
    /// The same key came with another wish.
    #[error("the key was used for {push}, which wants something else")]
    KeyReused {
        /// The push it was used for.
        push: PushNo,
    },
    /// No such push.
    #[error("there is no push {id:?}")]
    Unknown {
        /// What was asked for, cut.
        id: String,
    },
    /// Somebody ended it, and that is final.
    #[error("{push} was cancelled")]
    Cancelled {
        /// The push.
        push: PushNo,
    },
    /// There are too many.
    #[error("{what} at once is the limit")]
    TooMany {
        /// Of what.
        what: String,
    },
}

/// Looks whether a push can be meant to be so slow, or so fast.
///
/// # Errors
/// When it is below [`LEAST_RATE`] or above [`MOST_RATE`].
pub fn check_rate(rate: Option<u64>) -> Result<Option<u64>, PushError> {
    let Some(odd) = rate.filter(|rate| !(LEAST_RATE..=MOST_RATE).contains(rate)) else { return Ok(rate) };
    let detail = format!(
        "rate is {odd} bytes a second: set {LEAST_RATE} to {MOST_RATE}, or leave it out for no limit"
    );
    Err(MeantError::bad(detail).into())
}
