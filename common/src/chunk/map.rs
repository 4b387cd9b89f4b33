//! The chunk map: an image's chunks in order, checked once where it comes in.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CHUNKER, MAX_CHUNK, MAX_IMAGE};
use crate::digest::Digest;

/// BLAKE3-256 of one chunk's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChunkDigest(pub(super) [u8; 32]);

impl ChunkDigest {
    /// Hashes a chunk.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Debug for ChunkDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chunk:{}", short(&self.0))
    }
}

/// One chunk as a map lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Of its bytes.
    pub digest: ChunkDigest,
    /// In bytes, at least one and at most [`MAX_CHUNK`].
    pub len: u32,
}

/// Identifies a whole map: a function of the image and the way of cutting, so any two honest makers agree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MapDigest([u8; 32]);

impl MapDigest {
    /// Takes 32 bytes for what they are, for those who keep it.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Borrows the 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for MapDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "map:{}", short(&self.0))
    }
}

/// Returns the first twelve hexadecimal digits.
fn short(bytes: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*bytes).to_hex().get(..12).unwrap_or_default().to_owned()
}

/// Says why chunks are no map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// Cut in a way that is not known here.
    #[error("the chunk map was made by chunker {found}; this program knows {CHUNKER}")]
    OtherChunker {
        /// Its number.
        found: u8,
    },
    /// A chunk without bytes, or with too many.
    #[error("chunk {at} of the map has {len} bytes; 1 to {MAX_CHUNK} are possible")]
    BadLength {
        /// Its place, from 0.
        at: usize,
        /// In bytes.
        len: u32,
    },
    /// More bytes than any image has.
    #[error("the chunks of the map are longer together than {MAX_IMAGE} bytes")]
    TooLarge,
}

/// The chunks of an image, in order.
///
/// Who makes a wrong map wastes bytes, but nothing wrong is ever published: the whole image is held against its own
/// digest before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkMap {
    image: Digest,
    size: u64,
    chunks: Vec<Chunk>,
}

impl ChunkMap {
    /// Checks chunks and makes a map of them.
    ///
    /// # Errors
    /// [`MapError`]; nothing about the digests can be checked without the bytes.
    pub fn new(image: Digest, chunker: u8, chunks: Vec<Chunk>) -> Result<Self, MapError> {
        if chunker != CHUNKER {
            return Err(MapError::OtherChunker { found: chunker });
        }
        let mut size = 0_u64;
        for (at, chunk) in chunks.iter().enumerate() {
            if chunk.len == 0 || chunk.len as usize > MAX_CHUNK {
                return Err(MapError::BadLength { at, len: chunk.len });
            }
            size += u64::from(chunk.len);
            if size > MAX_IMAGE {
                return Err(MapError::TooLarge);
            }
        }
        Ok(Self { image, size, chunks })
    }

    /// Returns the digest of the image.
    #[must_use]
    pub const fn image(&self) -> Digest {
        self.image
    }

    /// Returns the size of the image in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Returns the chunks in order.
    #[must_use]
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Returns what identifies the map.
    #[must_use]
    pub fn digest(&self) -> MapDigest {
        let mut hasher = blake3::Hasher::new_derive_key("sifleet 2026 chunk map");
        hasher.update(self.image.as_bytes()).update(&[CHUNKER]);
        for chunk in &self.chunks {
            hasher.update(&chunk.digest.0).update(&chunk.len.to_le_bytes());
        }
        MapDigest(*hasher.finalize().as_bytes())
    }
}
