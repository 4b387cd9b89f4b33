//! Where the chunks and spans of one image lie, worked out once for all who give, fetch or copy them. Pure.

use std::ops::Range;
use std::sync::Arc;

use sifleet_common::chunk::span::{Span, SpanId, Spans};
use sifleet_common::chunk::{Chunk, ChunkDigest, ChunkMap, MapDigest};
use sifleet_common::digest::Digest;

/// Of so many chunks one is noted where it begins; the lengths of those before another one are added up.
const EACH: usize = 32;

/// An image as places.
#[derive(Debug)]
pub struct Layout {
    map: Arc<ChunkMap>,
    digest: MapDigest,
    spans: Spans,
    /// Where one in [`EACH`] chunks begins, the first among them: of an image of 50 GB all would take 12 MB.
    begins: Vec<u64>,
}

impl Layout {
    /// Works out the places of a map.
    #[must_use]
    pub fn of(map: Arc<ChunkMap>) -> Self {
        let begins = map.chunks().chunks(EACH).scan(0, |at, some| {
            let begin = *at;
            *at += length(some);
            Some(begin)
        });
        let begins = begins.collect();
        Self { digest: map.digest(), spans: Spans::of(&map), begins, map }
    }

    /// Returns the digest of the image.
    #[must_use]
    pub fn image(&self) -> Digest {
        self.map.image()
    }

    /// Returns its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.map.size()
    }

    /// Returns the chunk map.
    #[must_use]
    pub const fn map(&self) -> &Arc<ChunkMap> {
        &self.map
    }

    /// Returns what identifies the map.
    #[must_use]
    pub const fn map_digest(&self) -> MapDigest {
        self.digest
    }

    /// Returns the spans.
    #[must_use]
    pub const fn spans(&self) -> &Spans {
        &self.spans
    }

    /// Returns a span, if there is such a one.
    #[must_use]
    pub fn span(&self, id: SpanId) -> Option<&Span> {
        self.spans.get(id)
    }

    /// Returns a chunk, if there is such a one.
    #[must_use]
    pub fn chunk(&self, at: usize) -> Option<&Chunk> {
        self.map.chunks().get(at)
    }

    /// Returns the bytes that consecutive chunks take; none if there are no such chunks.
    #[must_use]
    pub fn bytes(&self, chunks: &Range<usize>) -> Option<Range<u64>> {
        Some(self.begin(chunks.start)?..self.begin(chunks.end)?)
    }

    /// Finds where a chunk begins; behind the last one, the end.
    fn begin(&self, at: usize) -> Option<u64> {
        let noted = at / EACH;
        let Some(begin) = self.begins.get(noted) else {
            return (at == self.map.chunks().len()).then(|| self.size());
        };
        Some(begin + length(self.map.chunks().get(noted * EACH..at)?))
    }

    /// Finds the span of a chunk.
    #[must_use]
    pub fn span_of(&self, chunk: usize) -> Option<SpanId> {
        let (mut low, mut high) = (0, self.spans.count());
        while low < high {
            let middle = low + (high - low) / 2;
            let span = self.spans.get(SpanId(middle))?;
            if chunk < span.chunks.start {
                high = middle;
            } else if chunk >= span.chunks.end {
                low = middle + 1;
            } else {
                return Some(SpanId(middle));
            }
        }
        None
    }

    /// Cuts consecutive chunks into stretches of about so many bytes, at least one chunk each.
    pub fn stretches(&self, chunks: Range<usize>, bytes: u64) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut next = chunks.start;
        std::iter::from_fn(move || {
            let first = next;
            let mut taken = 0;
            while next < chunks.end && (next == first || taken < bytes) {
                taken += u64::from(self.chunk(next)?.len);
                next += 1;
            }
            (next > first).then_some(first..next)
        })
    }

    /// Tells whether consecutive chunks are these bytes.
    #[must_use]
    pub fn is_right(&self, chunks: &Range<usize>, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        let Some(listed) = self.map.chunks().get(chunks.clone()) else { return false };
        listed.iter().all(|chunk| {
            let Some((this, behind)) = rest.split_at_checked(chunk.len as usize) else { return false };
            rest = behind;
            ChunkDigest::of(this) == chunk.digest
        }) && rest.is_empty()
    }
}

fn length(chunks: &[Chunk]) -> u64 {
    chunks.iter().map(|chunk| u64::from(chunk.len)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(len: usize) -> (Layout, Vec<u8>) {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        let image = Digest::from(blake3::hash(&bytes));
        (Layout::of(Arc::new(crate::map::make(image, bytes.as_slice()).unwrap())), bytes)
    }

    #[test]
    fn every_chunk_is_in_one_span_and_at_its_place() {
        let (layout, bytes) = layout(3_000_000);
        let count = layout.map().chunks().len();
        for at in 0..count {
            let span = layout.span_of(at).unwrap();
            assert!(layout.span(span).unwrap().chunks.contains(&at));
            let place = layout.bytes(&(at..at + 1)).unwrap();
            let place = usize::try_from(place.start).unwrap()..usize::try_from(place.end).unwrap();
            assert!(layout.is_right(&(at..at + 1), &bytes[place]));
        }
        assert_eq!(layout.span_of(count), None);
        assert_eq!(layout.bytes(&(0..count)), Some(0..bytes.len() as u64));
        assert_eq!(layout.bytes(&(0..count + 1)), None);
    }

    #[test]
    fn stretches_join_up() {
        let (layout, _) = layout(3_000_000);
        let count = layout.map().chunks().len();
        for size in [1, 100_000, u64::MAX] {
            let mut next = 3;
            for stretch in layout.stretches(3..count, size) {
                assert_eq!(stretch.start, next);
                assert!(!stretch.is_empty());
                next = stretch.end;
            }
            assert_eq!(next, count);
        }
        assert_eq!(layout.stretches(5..5, 10).count(), 0);
    }

    #[test]
    fn one_wrong_bit_is_noticed() {
        let (layout, mut bytes) = layout(500_000);
        let all = 0..layout.map().chunks().len();
        assert!(layout.is_right(&all, &bytes));
        assert!(!layout.is_right(&all, &bytes[..bytes.len() - 1]));
        bytes[250_000] ^= 1;
        assert!(!layout.is_right(&all, &bytes));
    }
}
