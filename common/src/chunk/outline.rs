//! The outline of a chunk map: the first bytes of each digest, enough for a node to tell which chunks it knows.
//!
//! The next version of an image is mostly chunks of the version before. Whoever has the map of that one fills the new map
//! from it, and asks for the digests that are left. Two chunks may begin alike, by a rare chance or because somebody
//! made them so: the map that comes out is held against its [`MapDigest`](super::MapDigest) like any other.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CHUNKER, Chunk, ChunkDigest, ChunkMap, MapError};
use crate::digest::Digest;

/// The first eight bytes of a chunk's digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChunkPrefix([u8; 8]);

impl ChunkPrefix {
    /// Shortens a digest.
    #[must_use]
    pub fn of(digest: &ChunkDigest) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = digest.0;
        Self([a, b, c, d, e, f, g, h])
    }

    /// Makes it as long as a digest.
    fn padded(self) -> ChunkDigest {
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(self.0) {
            *to = from;
        }
        ChunkDigest(bytes)
    }
}

impl fmt::Debug for ChunkPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.padded().fmt(f)
    }
}

/// A chunk map of which only beginnings are known at first; 40 bytes of memory for each chunk.
#[derive(Debug, Default)]
pub struct Outline {
    /// A chunk without bytes is one of which no more than the prefix is known.
    chunks: Vec<Chunk>,
    /// Places of chunks, in the order of their prefixes, once they are looked for.
    order: Vec<u32>,
}

impl Outline {
    /// Takes the next prefixes in, in the order of the map.
    pub fn extend(&mut self, prefixes: impl IntoIterator<Item = ChunkPrefix>) {
        let unknown = |prefix: ChunkPrefix| Chunk { digest: prefix.padded(), len: 0 };
        self.chunks.extend(prefixes.into_iter().map(unknown));
    }

    /// Returns how many chunks there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.chunks.len()
    }

    /// Puts in what the map of another image tells: its chunks.
    pub fn fill(&mut self, known: impl IntoIterator<Item = Chunk>) {
        let Self { chunks, order } = self;
        if order.len() != chunks.len() {
            *order = (0..).take(chunks.len()).collect();
            order.sort_unstable_by_key(|place| prefix_at(chunks, *place));
        }
        for chunk in known {
            let prefix = Some(ChunkPrefix::of(&chunk.digest));
            let first = order.partition_point(|place| prefix_at(chunks, *place) < prefix);
            for place in order.get(first..).unwrap_or_default() {
                match chunks.get_mut(*place as usize) {
                    // A chunk that the other image repeats was put everywhere the first time.
                    Some(here) if here.len == 0 && Some(ChunkPrefix::of(&here.digest)) == prefix => {
                        *here = chunk
                    }
                    Some(_) | None => break,
                }
            }
        }
    }

    /// Lists the places of chunks that are still unknown, in order.
    pub fn lacks(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.chunks).filter(|(_, chunk)| chunk.len == 0).map(|(place, _)| place)
    }

    /// Puts the chunks in that were unknown, in order, and makes a map of all.
    ///
    /// # Errors
    /// [`MapError`], also when they are too few; too many make a map that is too long.
    pub fn complete(mut self, image: Digest, rest: &[Chunk]) -> Result<ChunkMap, MapError> {
        let mut rest = rest.iter();
        for (unknown, chunk) in self.chunks.iter_mut().filter(|chunk| chunk.len == 0).zip(&mut rest) {
            *unknown = *chunk;
        }
        self.chunks.extend(rest);
        ChunkMap::new(image, CHUNKER, self.chunks)
    }
}

fn prefix_at(chunks: &[Chunk], place: u32) -> Option<ChunkPrefix> {
    chunks.get(place as usize).map(|chunk| ChunkPrefix::of(&chunk.digest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image() -> Digest {
        Digest::from(blake3::hash(b"image"))
    }

    fn chunk(n: u16) -> Chunk {
        Chunk { digest: ChunkDigest::of(&n.to_le_bytes()), len: 1 + u32::from(n) }
    }

    fn map(chunks: &[u16]) -> ChunkMap {
        ChunkMap::new(image(), CHUNKER, chunks.iter().copied().map(chunk).collect()).unwrap()
    }

    fn outline(map: &ChunkMap) -> Outline {
        let mut outline = Outline::default();
        for part in map.chunks().chunks(7) {
            outline.extend(part.iter().map(|chunk| ChunkPrefix::of(&chunk.digest)));
        }
        outline
    }

    fn lacking(outline: &Outline, of: &ChunkMap) -> Vec<Chunk> {
        outline.lacks().map(|place| of.chunks()[place as usize]).collect()
    }

    /// A chunk whose digest begins like another one's and is none of its.
    fn alike(other: Chunk) -> Chunk {
        Chunk { digest: ChunkPrefix::of(&other.digest).padded(), len: other.len }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_other_maps_tell_and_what_they_do_not_are_the_map(
            new in proptest::collection::vec(0..200_u16, 0..300),
            known in proptest::collection::vec(proptest::collection::vec(0..200_u16, 0..100), 0..3),
        ) {
            let wanted = map(&new);
            let mut outline = outline(&wanted);
            for known in &known {
                outline.fill(map(known).chunks().iter().copied());
            }
            let unknown = |n: &&u16| !known.iter().flatten().any(|other| other == *n);
            let rest = lacking(&outline, &wanted);
            prop_assert_eq!(&rest, &new.iter().filter(unknown).copied().map(chunk).collect::<Vec<_>>());
            prop_assert_eq!(outline.complete(image(), &rest), Ok(wanted));
        }
    }

    #[test]
    fn a_chunk_that_begins_like_another_one_makes_another_map() {
        let map = map(&[1, 2, 3]);
        let mut outline = outline(&map);
        outline.fill([alike(chunk(2))]);
        let rest = lacking(&outline, &map);
        assert_eq!(rest, [chunk(1), chunk(3)]);
        assert_ne!(outline.complete(image(), &rest).unwrap().digest(), map.digest());
    }

    #[test]
    fn a_chunk_that_both_images_repeat_without_end_is_looked_at_once_each() {
        let zeros = ChunkMap::new(image(), CHUNKER, vec![chunk(0); 200_000]).unwrap();
        let mut outline = outline(&zeros);
        // Each with each other one would take minutes.
        outline.fill(zeros.chunks().iter().copied());
        assert_eq!(outline.complete(image(), &[]), Ok(zeros));
    }

    #[test]
    fn a_rest_that_is_too_short_or_too_long_is_not_the_map() {
        let map = map(&[1, 2]);
        let all = map.chunks().to_vec();
        assert_eq!(outline(&map).complete(image(), &all[..1]), Err(MapError::BadLength { at: 1, len: 0 }));
        assert_ne!(outline(&map).complete(image(), &[&all[..], &all[..]].concat()), Ok(map));
    }
}
