//! Chunks: the pieces an image is cut into, and the map that lists them in order.
//!
//! Owns where an image is cut (content-defined, so that what did not change keeps its chunks wherever it moves) and
//! the digests that make each piece provable. Pure: bytes in, cuts out. Reading and hashing files is the agent's
//! business, which chunks travel together is that of [`span`].
//! Outside facts: FastCDC as of Xia et al. 2020; crate `fastcdc` 5.0.0, pinned, because cut points moved between its
//! releases: golden vectors in the tests hold them, and [`CHUNKER`] is part of every map.

mod map;
mod outline;
pub mod span;

use fastcdc::v2020::{FastCDC, Normalization};

pub use map::{Chunk, ChunkDigest, ChunkMap, MapDigest, MapError};
pub use outline::{ChunkPrefix, Outline};

/// No chunk but an image's last is shorter, in bytes.
pub const MIN_CHUNK: usize = 8 * 1024;
/// What cuts aim at, in bytes; chunks of squashfs images really have 40 kB on average.
///
/// Measured on a distribution's upgrade: 16, 32, 64 and 256 KiB leave 11.1, 12.3, 13.9 and 19.3 % to transfer, at
/// 36 bytes of map for each chunk.
pub const AVERAGE_CHUNK: usize = 32 * 1024;
/// No chunk is longer, in bytes.
pub const MAX_CHUNK: usize = 128 * 1024;
/// Names the way of cutting; another way, or other sizes, get another number.
pub const CHUNKER: u8 = 1;
/// Largest image that is cut, in bytes: 1 TiB, twenty times the largest ones seen.
pub const MAX_IMAGE: u64 = 1 << 40;

/// Returns the length of the first chunk of `data`.
///
/// Unless `data` reaches to the end of the image (`last`), it must hold at least [`MAX_CHUNK`] bytes for the answer to
/// be certain; with fewer there is none. There is none for no bytes either.
#[must_use]
pub fn cut(data: &[u8], last: bool) -> Option<usize> {
    if data.is_empty() || (data.len() < MAX_CHUNK && !last) {
        return None;
    }
    let cutter = FastCDC::with_level(data, MIN_CHUNK, AVERAGE_CHUNK, MAX_CHUNK, Normalization::Level1);
    let (_, end) = cutter.cut(0, data.len());
    Some(end)
}

#[cfg(test)]
mod tests;
