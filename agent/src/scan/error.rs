//! Says why a root, or a part of one, cannot be looked at.
//!
//! Owns the sentences: an admin reads them in every answer about the node.

use std::io;
use std::path::PathBuf;

use super::MAX_DEPTH;

/// Says why nothing is known of a root. Display is what an admin reads in every answer about the node.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// Nothing is there.
    #[error("{} does not exist: mount or create it, or take it out of the agent's settings", path.display())]
    Absent {
        /// The root.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{} is not a directory: correct the agent's settings", path.display())]
    NotADirectory {
        /// The root.
        path: PathBuf,
    },
    /// It cannot be opened, or not be listed.
    #[error("cannot read {}: check its file system, and that the agent may read it", path.display())]
    Unreadable {
        /// The root.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Says what part of a root could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// A directory cannot be read.
    #[error("cannot read the directory {path}")]
    Unreadable {
        /// Below the root, escaped.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What an entry is cannot be told, nor what is below it: a dead mount, mostly.
    #[error("cannot look at {path}")]
    Unseen {
        /// Below the root, escaped.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A directory is nested too deeply.
    #[error("{path} is nested deeper than {MAX_DEPTH} directories")]
    TooDeep {
        /// Below the root, escaped.
        path: String,
    },
    /// An entry's path is longer than any name.
    #[error("an entry below {path} has a path too long for a name")]
    TooLong {
        /// The beginning of it, escaped.
        path: String,
    },
}
