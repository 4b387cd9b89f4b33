//! Cuts that never move, maps that hold what they say, spans that cover everything once.

use proptest::prelude::*;

use super::span::{LARGEST, MAX_SPAN, MAX_SPANS, SMALLEST, Spans};
use super::*;
use crate::digest::Digest;

/// Bytes without a pattern, the same everywhere and for ever: BLAKE3 in its extended form.
fn noise(name: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn lengths(data: &[u8]) -> Vec<usize> {
    let (mut rest, mut lengths) = (data, Vec::new());
    while let Some(len) = cut(rest, true) {
        lengths.push(len);
        rest = &rest[len..];
    }
    lengths
}

fn map_of(data: &[u8]) -> ChunkMap {
    let mut at = 0;
    let chunks = lengths(data).into_iter().map(|len| {
        at += len;
        Chunk { digest: ChunkDigest::of(&data[at - len..at]), len: u32::try_from(len).unwrap() }
    });
    ChunkMap::new(Digest::from(blake3::hash(data)), CHUNKER, chunks.collect()).unwrap()
}

#[test]
fn cut_points_never_move() {
    assert_eq!(lengths(&noise("golden", 400_000)), GOLDEN);
    assert_eq!(lengths(&[0; 300_000]), [MAX_CHUNK, MAX_CHUNK, 300_000 - 2 * MAX_CHUNK]);
    let map = map_of(&noise("golden", 400_000));
    assert_eq!(format!("{:?}", map.digest()), GOLDEN_MAP);
}

const GOLDEN: [usize; 11] = [36110, 16935, 33887, 34148, 40515, 33881, 22129, 34302, 65896, 50209, 31988];
const GOLDEN_MAP: &str = "map:8c0a814684ef";

#[test]
fn what_is_read_in_pieces_is_cut_as_the_whole() {
    let data = noise("pieces", 1_000_000);
    for window in [MAX_CHUNK, MAX_CHUNK + 1, 3 * MAX_CHUNK] {
        let (mut at, mut found) = (0, Vec::new());
        while at < data.len() {
            let end = (at + window).min(data.len());
            let len = cut(&data[at..end], end == data.len()).unwrap();
            found.push(len);
            at += len;
        }
        assert_eq!(found, lengths(&data));
    }
    assert_eq!(cut(&data[..MAX_CHUNK - 1], false), None, "the end of this chunk cannot be known yet");
    assert_eq!(cut(&[], true), None);
}

#[test]
fn bytes_put_in_front_move_few_cuts() {
    let old = noise("shift", 2_000_000);
    let new = [&noise("front", 5_000)[..], &old[..]].concat();
    let (old, new) = (map_of(&old), map_of(&new));
    let known: std::collections::BTreeSet<ChunkDigest> =
        old.chunks().iter().map(|chunk| chunk.digest).collect();
    let fresh = new.chunks().iter().filter(|chunk| !known.contains(&chunk.digest)).count();
    assert!(fresh <= 3, "{fresh} of {} chunks are new", new.chunks().len());
}

#[test]
fn what_cannot_be_a_map_is_refused() {
    let image = Digest::from(blake3::hash(b""));
    let chunk = |len| Chunk { digest: ChunkDigest::of(b""), len };
    let make = |chunker, chunks| ChunkMap::new(image, chunker, chunks);
    assert_eq!(make(2, vec![]), Err(MapError::OtherChunker { found: 2 }));
    assert_eq!(make(CHUNKER, vec![chunk(1), chunk(0)]), Err(MapError::BadLength { at: 1, len: 0 }));
    let beyond = u32::try_from(MAX_CHUNK).unwrap() + 1;
    assert_eq!(make(CHUNKER, vec![chunk(beyond)]), Err(MapError::BadLength { at: 0, len: beyond }));
    assert_eq!(make(CHUNKER, vec![]).unwrap().size(), 0);
}

#[test]
fn spans_never_move() {
    let image = Digest::from(blake3::hash(b"any"));
    let first = |count, len| {
        let chunks = vec![Chunk { digest: ChunkDigest::of(b"any"), len }; count];
        let spans = Spans::of(&ChunkMap::new(image, CHUNKER, chunks).unwrap());
        let (_, span) = spans.iter().next().unwrap();
        (span.bytes.end, spans.count())
    };
    assert_eq!(first(20_000, 4_000), (132_000, 607), "of the smallest");
    assert_eq!(first(100_000, 4_000), (392_000, 1_021), "a thousandth");
    assert_eq!(first(100_000, 131_072), (8_388_608, 1_563), "of the largest");
}

#[test]
fn the_limits_of_spans_fit_each_other() {
    assert_eq!(u64::from(MAX_SPANS), MAX_IMAGE / LARGEST);
}

proptest! {
    #[test]
    fn spans_cover_every_chunk_once_and_keep_their_sizes(lens in proptest::collection::vec(1..=131_072_u32, 0..3_000)) {
        let image = Digest::from(blake3::hash(b"any"));
        let chunks = lens.iter().map(|len| Chunk { digest: ChunkDigest::of(b"any"), len: *len }).collect();
        let map = ChunkMap::new(image, CHUNKER, chunks).unwrap();
        let spans = Spans::of(&map);
        let (mut chunk, mut byte) = (0, 0);
        for (id, span) in spans.iter() {
            prop_assert_eq!((span.chunks.start, span.bytes.start), (chunk, byte));
            (chunk, byte) = (span.chunks.end, span.bytes.end);
            let len = span.bytes.end - span.bytes.start;
            let sum: u64 = map.chunks()[span.chunks.clone()].iter().map(|chunk| u64::from(chunk.len)).sum();
            prop_assert_eq!(len, sum);
            prop_assert!(len <= MAX_SPAN);
            prop_assert!(len >= SMALLEST || id.0 + 1 == spans.count());
        }
        prop_assert_eq!((chunk, byte), (lens.len(), map.size()));
        prop_assert!(spans.count() <= 1_100);
    }
}
