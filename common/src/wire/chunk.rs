//! The protocol between two agents, by which image bytes travel from node to node.
//!
//! **Participants.** The fetcher dials the source; both prove which node they are with certificates of the cluster's
//! authority (mutual TLS 1.3). Who may fetch what the coordinator decides, and signs it as a capability that the fetcher
//! shows; without one that holds, an image is answered for as if it were not there. The fetcher decides which span next,
//! the source whose turn it is.
//!
//! **Transport.** One QUIC connection for each pair and image, ALPN [`CHUNK_ALPN`]. Messages are frames
//! as on the control stream; image bytes follow bare, their number being known from the chunk map.
//!
//! **Goals.** Every byte is provable by the fetcher alone, from the chunk map. A source's link is never idle while
//! anybody wants something of it, and nobody waits in its queue with a choice made long ago. Neither side can make the
//! other hold more than a window of bytes.
//!
//! **Non-goals.** Names and paths (only digests travel), who is allowed what, the inventory.
//!
//! **Streams.**
//! ```text
//! fetcher                                        source
//!  opens one stream for each image
//!    Opening::Follow{image, …, capability} ─────►       "I am fetching this, and lack these spans"
//!            ◄─────────────────── Offer::Alone          "these you may ask for, and nobody else may yet"
//!            ◄─────────────────── Offer::Spans          "these too, like everybody"; more as there are more
//!    Wish::Want ────────────────────────────────►       "one of them is of use to me"
//!    Wish::Got ─────────────────────────────────►       "these of mine alone came from elsewhere"
//!                                                source opens one stream for each turn
//!            ◄─────────────────── Turn{image}           "it is your turn"
//!    Choice::Ask{span, chunks} ─────────────────►       "then these chunks of this span"
//!            ◄─────────────────── their bytes           and the stream ends
//!    Choice::Pass ──────────────────────────────►       "nothing of use is left"
//!  opens a stream for a chunk map
//!    Opening::Map{image, capability} ───────────►
//!            ◄─────────────────── MapPart ...           and the stream ends
//!  or, where it has images that may be like this one,
//!    Opening::Outline{image, capability} ───────►
//!            ◄─────────────────── OutlinePart ...       how each digest begins
//!    Rest{chunks} ──────────────────────────────►       "these are in no map of mine"
//!            ◄─────────────────── MapPart ...           and the stream ends
//! ```
//! A fetcher that no longer needs what is on its way stops that stream ([`StopCode::Elsewhere`]); a source that cannot
//! go on resets it. After anything that is not as told here the connection is closed ([`StopCode::Protocol`]).

use serde::{Deserialize, Serialize};

use crate::capability::Capability;
use crate::chunk::span::{MAX_SPANS, SpanId};
use crate::chunk::{CHUNKER, Chunk, ChunkMap, ChunkPrefix, MapDigest};
use crate::digest::Digest;

/// Application protocol of connections between agents; its number is the version of everything in this file.
pub const CHUNK_ALPN: &[u8] = b"sifleet-chunk/1";

/// Chunks in one part of a map: 36 bytes each, half a frame.
pub const MAP_PART: usize = 14_000;
/// Prefixes in one part of an outline: 8 bytes each, half a frame.
pub const OUTLINE_PART: usize = 64_000;
/// Most runs in an offer or a question: every other span of the largest image.
pub const MAX_RUNS: usize = MAX_SPANS as usize / 2;

/// Opens a stream of the fetcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opening {
    /// Follows what the source has of an image.
    Follow {
        /// Which image.
        image: Digest,
        /// Cut in which way: both sides must mean the same spans.
        map: MapDigest,
        /// Spans that the fetcher has not got; it wants no others.
        lacks: Vec<Run>,
        /// Permits it.
        capability: Capability,
    },
    /// Asks for the chunk map of an image.
    Map {
        /// Which image.
        image: Digest,
        /// Permits it.
        capability: Capability,
    },
    /// Asks for the outline of a chunk map, and then for what is in no map of the fetcher's.
    Outline {
        /// Of which image.
        image: Digest,
        /// Permits it.
        capability: Capability,
    },
}

/// What a follower says after its opening.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// Something that was offered is of use; asks for a turn, and said again for another one.
    Want,
    /// These spans, offered to this follower alone, came from somebody else.
    Got(Vec<Run>),
}

/// What a source tells a follower.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Offer {
    /// These spans may be asked for from now on.
    Spans(Vec<Run>),
    /// These too, and nobody else may ask for them yet.
    Alone(Vec<Run>),
    /// Nothing of the image is here; nothing says whether there ever was.
    Absent,
}

/// Opens a stream of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Of which image a span may be chosen.
    pub image: Digest,
}

/// Answers a turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Choice {
    /// Asks for chunks of one span, in order.
    Ask {
        /// Which span.
        span: SpanId,
        /// Its chunks, counted from the first of the span; those that the fetcher has already are left out.
        chunks: Vec<Run>,
    },
    /// Nothing is of use any longer.
    Pass,
}

/// A part of a chunk map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapPart {
    /// How it was cut.
    pub chunker: u8,
    /// At most [`MAP_PART`] chunks.
    pub chunks: Vec<Chunk>,
    /// Whether this is the last part.
    pub last: bool,
}

/// A part of the outline of a chunk map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlinePart {
    /// At most [`OUTLINE_PART`], in the order of the map.
    pub prefixes: Vec<ChunkPrefix>,
    /// Whether this is the last part.
    pub last: bool,
}

/// Answers an outline: the places of chunks that the fetcher does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// As [`runs`] writes them; whoever has more than [`MAX_RUNS`] asks for the map instead.
    pub chunks: Vec<Run>,
}

/// Consecutive numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The first of them.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// Why a stream was stopped or reset, or a connection closed. The numbers are on the wire: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum StopCode {
    /// The bytes came from elsewhere meanwhile.
    Elsewhere = 0,
    /// The image can no longer be read here.
    Unreadable = 1,
    /// The sender stops in good order.
    Stopping = 2,
    /// The other side broke the protocol.
    Protocol = 3,
}

/// Writes numbers, in whatever order they come, as runs.
#[must_use]
pub fn runs(numbers: impl IntoIterator<Item = u32>) -> Vec<Run> {
    let mut numbers: Vec<u32> = numbers.into_iter().collect();
    // Whoever reads takes what is out of order for a stranger's writing, and skips it.
    numbers.sort_unstable();
    numbers.dedup();
    let mut runs: Vec<Run> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some(run) if run.first.checked_add(run.count) == Some(number) => run.count += 1,
            _ => runs.push(Run { first: number, count: 1 }),
        }
    }
    runs
}

/// Tells whether runs are as [`runs`] writes them: at most [`MAX_RUNS`], in order, none empty or reaching into the next, none
/// of their numbers `end` or beyond.
#[must_use]
pub fn are_sound(runs: &[Run], end: u32) -> bool {
    let mut next = 0;
    runs.len() <= MAX_RUNS
        && runs.iter().all(|run| {
            let behind = run.first.checked_add(run.count).filter(|behind| *behind <= end);
            let sound = run.first >= next && run.count > 0 && behind.is_some();
            next = behind.unwrap_or(next);
            sound
        })
}

/// Lists the numbers of runs, in order, each once and none of them `end` or beyond, whatever a stranger wrote.
pub fn numbers(runs: &[Run], end: u32) -> impl Iterator<Item = u32> + '_ {
    let mut next = 0;
    runs.iter().flat_map(move |run| {
        let first = run.first.max(next);
        next = run.first.saturating_add(run.count).min(end).max(next);
        first..next
    })
}

/// Cuts a map into parts; an empty one has one part.
pub fn map_parts(map: &ChunkMap) -> impl Iterator<Item = MapPart> + '_ {
    parts(map.chunks().iter().copied())
}

/// Cuts what is asked for of a map into parts.
pub fn rest_parts<'a>(map: &'a ChunkMap, rest: &'a Rest) -> impl Iterator<Item = MapPart> + 'a {
    parts(numbers(&rest.chunks, u32::MAX).map_while(|place| map.chunks().get(place as usize).copied()))
}

fn parts(chunks: impl Iterator<Item = Chunk>) -> impl Iterator<Item = MapPart> {
    let (mut chunks, mut ended) = (chunks.peekable(), false);
    std::iter::from_fn(move || {
        (!ended).then(|| {
            let part = chunks.by_ref().take(MAP_PART).collect();
            ended = chunks.peek().is_none();
            MapPart { chunker: CHUNKER, chunks: part, last: ended }
        })
    })
}

/// Cuts the outline of a map into parts; that of an empty one has one part.
pub fn outline_parts(map: &ChunkMap) -> impl Iterator<Item = OutlinePart> + '_ {
    let count = map.chunks().len().div_ceil(OUTLINE_PART).max(1);
    (0..count).map(move |at| {
        let chunks = map.chunks().iter().skip(at * OUTLINE_PART).take(OUTLINE_PART);
        OutlinePart {
            prefixes: chunks.map(|chunk| ChunkPrefix::of(&chunk.digest)).collect(),
            last: at + 1 == count,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::{MAX_FRAME, encode};

    #[test]
    fn every_number_comes_back_whatever_the_order() {
        let there_and_back = |list: &[u32]| numbers(&runs(list.iter().copied()), 100).collect::<Vec<_>>();
        assert_eq!(there_and_back(&[7, 3, 4, 99, 3]), [3, 4, 7, 99]);
        assert!(there_and_back(&[]).is_empty());
    }

    #[test]
    fn runs_are_what_they_were_made_of() {
        for list in [vec![], vec![7], vec![0, 1, 2, 5, 9, 10], vec![u32::MAX - 1, u32::MAX]] {
            assert_eq!(numbers(&runs(list.iter().copied()), u32::MAX).count(), {
                list.iter().filter(|number| **number < u32::MAX).count()
            });
        }
        assert_eq!(runs([3, 4, 5, 8]), [Run { first: 3, count: 3 }, Run { first: 8, count: 1 }]);
    }

    #[test]
    fn runs_of_a_stranger_cost_no_more_than_the_image_has() {
        let check = |runs: &[(u32, u32)], expected: &[u32]| {
            let runs: Vec<Run> =
                runs.iter().map(|(first, count)| Run { first: *first, count: *count }).collect();
            assert_eq!(numbers(&runs, 10).collect::<Vec<_>>(), expected);
        };
        check(&[(0, u32::MAX), (u32::MAX, u32::MAX), (3, 4)], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        check(&[(4, 2), (4, 2), (1, 4), (5, 2), (9, 9)], &[4, 5, 6, 9]);
        check(&[(10, 1), (3, 0)], &[]);
    }

    #[test]
    fn runs_that_nobody_would_write_are_known() {
        let sound = |runs: &[(u32, u32)]| {
            let runs: Vec<Run> =
                runs.iter().map(|(first, count)| Run { first: *first, count: *count }).collect();
            are_sound(&runs, 10)
        };
        assert!(sound(&[]) && sound(&[(0, 10)]) && sound(&[(0, 2), (2, 1), (9, 1)]));
        assert!(!sound(&[(0, 11)]) && !sound(&[(10, 1)]) && !sound(&[(9, u32::MAX)]), "beyond the end");
        assert!(!sound(&[(0, 3), (2, 1)]) && !sound(&[(4, 1), (1, 1)]), "not in order");
        assert!(!sound(&[(3, 0)]), "empty");
        let every_other = |count: u32| runs((0..count).map(|number| 2 * number));
        assert!(are_sound(&every_other(MAX_SPANS / 2), MAX_SPANS));
        assert!(!are_sound(&every_other(MAX_SPANS / 2 + 1), u32::MAX), "too many");
    }

    #[test]
    fn the_largest_messages_fit_into_a_frame() {
        let run = Run { first: u32::MAX - 1, count: u32::MAX };
        assert!(encode(&Offer::Spans(vec![run; MAX_RUNS])).is_ok());
        let chunk = Chunk { digest: crate::chunk::ChunkDigest::of(b"x"), len: u32::MAX };
        let part = MapPart { chunker: u8::MAX, chunks: vec![chunk; MAP_PART], last: true };
        assert!(encode(&part).is_ok_and(|body| body.len() < MAX_FRAME * 2 / 3));
        let prefix = ChunkPrefix::of(&chunk.digest);
        let outline = OutlinePart { prefixes: vec![prefix; OUTLINE_PART], last: true };
        assert!(encode(&outline).is_ok_and(|body| body.len() < MAX_FRAME * 2 / 3));
        assert!(encode(&Rest { chunks: vec![run; MAX_RUNS] }).is_ok());
    }

    #[test]
    fn a_map_survives_its_parts() {
        let count = u32::try_from(MAP_PART).unwrap() * 2 + 1;
        let chunks = (0..count)
            .map(|n| Chunk { digest: crate::chunk::ChunkDigest::of(&n.to_le_bytes()), len: 1 + n % 1_000 })
            .collect();
        let image = Digest::from(blake3::hash(b"image"));
        let map = ChunkMap::new(image, CHUNKER, chunks).unwrap();
        let parts: Vec<MapPart> = map_parts(&map).collect();
        assert_eq!(parts.iter().map(|part| part.last).collect::<Vec<_>>(), [false, false, true]);
        let joined = parts.into_iter().flat_map(|part| part.chunks).collect();
        assert_eq!(ChunkMap::new(image, CHUNKER, joined).unwrap(), map);
        let empty = ChunkMap::new(image, CHUNKER, Vec::new()).unwrap();
        assert_eq!(map_parts(&empty).count(), 1);
    }

    #[test]
    fn what_is_asked_for_of_a_map_comes_in_its_order_and_an_outline_in_whole() {
        let count = u32::try_from(OUTLINE_PART).unwrap() + 1;
        let chunk = |n: u32| Chunk { digest: crate::chunk::ChunkDigest::of(&n.to_le_bytes()), len: 1 };
        let image = Digest::from(blake3::hash(b"image"));
        let map = ChunkMap::new(image, CHUNKER, (0..count).map(chunk).collect()).unwrap();
        let outline: Vec<OutlinePart> = outline_parts(&map).collect();
        assert_eq!(outline.iter().map(|part| part.last).collect::<Vec<_>>(), [false, true]);
        let prefixes = outline.into_iter().flat_map(|part| part.prefixes);
        assert!(prefixes.eq(map.chunks().iter().map(|chunk| ChunkPrefix::of(&chunk.digest))));
        let asked = |chunks: Vec<Run>| rest_parts(&map, &Rest { chunks }).collect::<Vec<_>>();
        let some = asked(vec![Run { first: 3, count: 2 }, Run { first: count - 1, count: 7 }]);
        let [part] = &some[..] else { panic!("{some:?}") };
        assert_eq!((&part.chunks[..], part.last), (&[chunk(3), chunk(4), chunk(count - 1)][..], true));
        assert_eq!(asked(Vec::new()), [MapPart { chunker: CHUNKER, chunks: Vec::new(), last: true }]);
        let all = asked(vec![Run { first: 0, count }]);
        assert!(all.into_iter().flat_map(|part| part.chunks).eq(map.chunks().iter().copied()));
    }
}
