//! What people want: a wish that was understood, what can be asked of a removal, and why it is refused.

use std::time::Duration;

use roaring::RoaringBitmap;
use sifleet_common::digest::Digest;
use sifleet_common::name::ImageName;

use crate::store::push::Key;
use crate::store::removal::RemovalNo;
use crate::view::View;
use crate::view::meant::MeantError;

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
    /// By which it is known when asked for again.
    pub key: Option<Key>,
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
        if let Self::Meant(error) = self { Self::Meant(error.with_near_names(view)) } else { self }
    }
}

/// Says why a removal is not taken, or not found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemovalError {
    /// Nobody knows what is meant.
    #[error(transparent)]
    Meant(#[from] MeantError),
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
    /// The same key came with another wish.
    #[error("the key was used for {removal}, which wants something else")]
    KeyReused {
        /// The removal it was used for.
        removal: RemovalNo,
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
