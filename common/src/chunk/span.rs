//! Spans: runs of consecutive chunks, the unit in which transfers are scheduled, asked for and offered.
//!
//! Which chunks a span has follows from the chunk map alone, so nodes that never spoke agree on it. A thousand
//! spans an image keep all links busy (with 64 spans 32 nodes need 1.16 times the time of the slowest link, with 256
//! 1.07, with 1,024 1.05, simulated), and are few enough to be told apart by one bit each.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{ChunkMap, MAX_CHUNK, MAX_IMAGE};

/// Spans that an image of middling size gets.
const AIM: u64 = 1024;
/// A span closes when it has this many bytes at the latest: what is lost with each turn of a source that dies, and,
/// at 1 Gbit/s, a fifteenth of a second.
pub const LARGEST: u64 = 8 * 1024 * 1024;
/// A span has at least this many bytes, but for the last one: less would spend more on asking than on answering.
pub const SMALLEST: u64 = 128 * 1024;
/// Longest span, in bytes: it closes behind the chunk that fills it.
pub const MAX_SPAN: u64 = LARGEST + MAX_CHUNK as u64;
/// Most spans of an image.
#[expect(clippy::cast_possible_truncation, reason = "131,072: checked by a test")]
pub const MAX_SPANS: u32 = (MAX_IMAGE / LARGEST) as u32;

/// Numbers a span within its image, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SpanId(pub u32);

impl SpanId {
    /// Returns the number as a place in a list.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where one span lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its chunks, as places in the map.
    pub chunks: Range<usize>,
    /// Its bytes, as places in the image.
    pub bytes: Range<u64>,
}

/// The spans of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spans(Vec<Span>);

impl Spans {
    /// Groups the chunks of a map.
    #[must_use]
    pub fn of(map: &ChunkMap) -> Self {
        let fill = (map.size() / AIM).clamp(SMALLEST, LARGEST);
        let mut spans = Vec::new();
        let (mut first, mut begin, mut end) = (0, 0_u64, 0_u64);
        for (at, chunk) in map.chunks().iter().enumerate() {
            end += u64::from(chunk.len);
            if end - begin >= fill {
                spans.push(Span { chunks: first..at + 1, bytes: begin..end });
                (first, begin) = (at + 1, end);
            }
        }
        if begin < end {
            spans.push(Span { chunks: first..map.chunks().len(), bytes: begin..end });
        }
        Self(spans)
    }

    /// Returns how many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    /// Returns where a span lies, if there is such a span.
    #[must_use]
    pub fn get(&self, id: SpanId) -> Option<&Span> {
        self.0.get(id.index())
    }

    /// Lists all, in order.
    pub fn iter(&self) -> impl Iterator<Item = (SpanId, &Span)> {
        (0..).map(SpanId).zip(&self.0)
    }
}
