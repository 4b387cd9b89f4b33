//! What is wrong with naming an image and nodes, whatever is to be done with them.

use sifleet_common::name::ImageName;
use sifleet_common::nodeset::NodeSetError;

use super::{QueryError, View};

/// Says why nobody knows what is meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeantError {
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
    #[error("no node that is online holds {image}")]
    NoHolder {
        /// What was asked for.
        image: String,
    },
}

impl MeantError {
    /// Says that something in a wish cannot be.
    pub(crate) fn bad(detail: impl Into<String>) -> Self {
        Self::Bad { detail: detail.into() }
    }

    /// Adds the names that were perhaps meant.
    #[must_use]
    pub fn with_near_names(self, view: &View) -> Self {
        if let Self::Query(error) = self { Self::Query(view.suggest(error)) } else { self }
    }
}
