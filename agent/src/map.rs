//! Makes the chunk map of an image that is on this node.
//!
//! Reads the image once, from one end to the other, and checks on the way that it still is the image that was asked
//! for: a map of other bytes would send every fetcher after chunks that nobody has. To be run on a thread of low
//! priority, with a reader that leaves the page cache as it was.

pub mod kept;

use std::io::{self, Read};

use sifleet_common::chunk::{CHUNKER, Chunk, ChunkDigest, ChunkMap, MAX_CHUNK, MapError, cut};
use sifleet_common::digest::Digest;

/// Bytes read at once: several chunks, and little enough to stay in the processor's cache.
const BUFFER: usize = 1024 * 1024;

/// Says why there is no map.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The file cannot be read to its end.
    #[error("cannot read image {image}")]
    Read {
        /// Which image.
        image: Digest,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file holds something else by now.
    #[error("the file of image {image} holds {found} by now")]
    Changed {
        /// Which image was wanted.
        image: Digest,
        /// Which one is there.
        found: Digest,
    },
    /// No map can be made of it.
    #[error("image {image} cannot have a chunk map")]
    Impossible {
        /// Which image.
        image: Digest,
        /// Why.
        #[source]
        source: MapError,
    },
}

/// Cuts an image into chunks.
///
/// # Errors
/// [`MakeError`].
pub fn make(image: Digest, mut file: impl Read) -> Result<ChunkMap, MakeError> {
    let mut whole = blake3::Hasher::new();
    let mut chunks = Vec::new();
    let mut buffer = vec![0; BUFFER];
    let (mut held, mut last) = (0, false);
    loop {
        while !last && held < BUFFER {
            let free = buffer.get_mut(held..).unwrap_or_default();
            match file.read(free) {
                Ok(0) => last = true,
                Ok(read) => {
                    // Not chunk by chunk: in pieces of 40 kB it is hashed at two thirds of the speed.
                    whole.update(buffer.get(held..held + read).unwrap_or_default());
                    held += read;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(MakeError::Read { image, source }),
            }
        }
        let mut at = 0;
        while let Some(len) = cut(buffer.get(at..held).unwrap_or_default(), last) {
            let bytes = buffer.get(at..at + len).unwrap_or_default();
            // At most MAX_CHUNK, which a test holds below four thousand million.
            chunks
                .push(Chunk { digest: ChunkDigest::of(bytes), len: u32::try_from(len).unwrap_or(u32::MAX) });
            at += len;
        }
        buffer.copy_within(at..held, 0);
        held -= at;
        if last {
            break;
        }
    }
    let found = Digest::from(whole.finalize());
    if found != image {
        return Err(MakeError::Changed { image, found });
    }
    ChunkMap::new(image, CHUNKER, chunks).map_err(|source| MakeError::Impossible { image, source })
}

const _: () = assert!(BUFFER >= 2 * MAX_CHUNK, "every round must find a cut");

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives few bytes at a time, as a slow disk may.
    struct Drops<'a>(&'a [u8]);

    impl Read for Drops<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = self.0.len().min(buffer.len()).min(4_099);
            buffer[..len].copy_from_slice(&self.0[..len]);
            self.0 = &self.0[len..];
            Ok(len)
        }
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn the_chunks_in_their_order_are_the_image() {
        for len in [0, 1, MAX_CHUNK, BUFFER, BUFFER + 1, 3 * BUFFER + 77_777] {
            let bytes = noise(len);
            let image = Digest::from(blake3::hash(&bytes));
            let map = make(image, bytes.as_slice()).unwrap();
            assert_eq!(map.size(), len as u64);
            let mut rest = bytes.as_slice();
            for chunk in map.chunks() {
                let (this, next) = rest.split_at(chunk.len as usize);
                assert_eq!(ChunkDigest::of(this), chunk.digest);
                rest = next;
            }
            assert_eq!(make(image, Drops(&bytes)).unwrap(), map, "however it is read");
        }
    }

    #[test]
    fn another_file_than_the_one_asked_for_gives_no_map() {
        let image = Digest::from(blake3::hash(b"asked for"));
        assert!(matches!(make(image, &b"there"[..]), Err(MakeError::Changed { .. })));
    }
}
