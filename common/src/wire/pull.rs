//! What an agent asks for on behalf of the jobs of its node: which manifest a name means, and that an image comes to the node.
//!
//! A node's own registry (`oras://localhost:PORT/…`) knows no names; the coordinator's does. The agent asks in its session,
//! under a number of its own, and is answered once under the same number, in any order. What was asked and not answered when
//! a session ends is asked again in the next one.
//!
//! ```text
//! agent                                     coordinator
//!   Pull{7, Manifest{compute/openfoam, v2312}} ──►       "which manifest is that?"
//!         ◄──── Pulled{7, Manifest{…, image}}            with the image that it is about
//!   Pull{8, Image{image, name}} ─────────────────►       "a job here wants it, and this node has not got it"
//!         ◄──── Order::Assign{…}                         an ordinary assignment
//!   Delta{image is ready} ───────────────────────►
//!         ◄──── Pulled{8, Ready}                         or Refused{code, detail}
//! ```

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::name::ImageName;

/// Longest repository, in bytes: what registries commonly allow.
pub const MAX_REPOSITORY: usize = 255;
/// Longest tag or digest, in bytes: `sha512:` and its digits.
pub const MAX_REFERENCE: usize = 135;
/// Longest manifest, in bytes: that of a SIF has less than one kilobyte without annotations.
pub const MAX_MANIFEST: usize = 64 * 1024;
/// Longest media type, in bytes (RFC 6838 section 4.2: two names of 127).
pub const MAX_MEDIA_TYPE: usize = 255;
/// Most words of a refusal, in bytes.
pub const MAX_DETAIL: usize = 512;
/// Most questions of one node that wait for an answer.
pub const MAX_WAITING: usize = 64;

/// One question of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    /// Named in the answer; the agent's own choice.
    pub id: u32,
    /// What is asked for.
    pub wanted: Wanted,
}

/// What a node asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Wanted {
    /// The manifest that a name means.
    Manifest {
        /// Its repository, at most [`MAX_REPOSITORY`] bytes.
        repository: String,
        /// A tag or a digest, at most [`MAX_REFERENCE`] bytes.
        reference: String,
    },
    /// An image, on this node.
    Image {
        /// Which one.
        image: Digest,
        /// How the library calls it.
        name: ImageName,
    },
}

impl Wanted {
    /// Tells whether it keeps to its limits.
    #[must_use]
    pub const fn is_bounded(&self) -> bool {
        match self {
            Self::Manifest { repository, reference } => {
                repository.len() <= MAX_REPOSITORY && reference.len() <= MAX_REFERENCE
            }
            Self::Image { .. } => true,
        }
    }
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulled {
    /// The number of the question.
    pub id: u32,
    /// What there is to say.
    pub answer: Answer,
}

/// What the coordinator answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The manifest.
    Manifest(Box<Manifest>),
    /// The image is on the node.
    Ready,
    /// No such thing.
    Unknown,
    /// Not now, or not here.
    Refused {
        /// Stable, for logs.
        code: String,
        /// Why, and what to do; at most [`MAX_DETAIL`] bytes.
        detail: String,
    },
}

/// A manifest, and the image that it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Its media type, at most [`MAX_MEDIA_TYPE`] bytes.
    pub media_type: String,
    /// Its digest as OCI writes it, at most [`MAX_REFERENCE`] bytes.
    pub digest: String,
    /// Its bytes, at most [`MAX_MANIFEST`].
    pub body: Vec<u8>,
    /// The image's digest as OCI writes it, by which clients ask for it; at most [`MAX_REFERENCE`] bytes.
    pub layer: String,
    /// The image's length in bytes.
    pub size: u64,
    /// The image, as the rest of the cluster calls it.
    pub image: Digest,
    /// How the library calls it.
    pub name: ImageName,
}

impl Manifest {
    /// Tells whether it keeps to its limits.
    #[must_use]
    pub const fn is_bounded(&self) -> bool {
        self.media_type.len() <= MAX_MEDIA_TYPE
            && self.body.len() <= MAX_MANIFEST
            && self.digest.len() <= MAX_REFERENCE
            && self.layer.len() <= MAX_REFERENCE
    }
}
