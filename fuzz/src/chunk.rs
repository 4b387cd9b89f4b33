//! The protocol between two agents: messages of a peer that means harm.
//!
//! Whatever is read can be written and read again, a list of runs costs no more than the image has spans, and a chunk map
//! that is taken is one whose lengths add up.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sifleet_common::chunk::span::Spans;
use sifleet_common::chunk::{CHUNKER, Chunk, ChunkDigest, ChunkMap, Outline};
use sifleet_common::digest::Digest;
use sifleet_common::wire::chunk::{
    Choice, MapPart, Offer, Opening, OutlinePart, Rest, Run, Turn, Wish, map_parts, numbers, runs,
};
use sifleet_common::wire::frame::{MAX_FRAME, decode, encode};

/// Spans of the image that is spoken of.
const SPANS: u32 = 1_000;

/// Reads the bytes as the kind of message that the first of them says.
///
/// # Panics
/// When a promise is broken.
pub fn run(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    match kind % 8 {
        0 => match again::<Opening>(body) {
            Some(Opening::Follow { lacks, .. }) => check(&lacks),
            Some(Opening::Map { .. } | Opening::Outline { .. }) | None => {}
        },
        1 => match again::<Wish>(body) {
            Some(Wish::Got(spans)) => check(&spans),
            Some(Wish::Want) | None => {}
        },
        2 => match again::<Offer>(body) {
            Some(Offer::Spans(spans) | Offer::Alone(spans)) => check(&spans),
            Some(Offer::Absent) | None => {}
        },
        3 => drop(again::<Turn>(body)),
        4 => match again::<Choice>(body) {
            Some(Choice::Ask { chunks, .. }) => check(&chunks),
            Some(Choice::Pass) | None => {}
        },
        5 => {
            if let Some(part) = again::<MapPart>(body) {
                map(part);
            }
        }
        6 => {
            if let Some(part) = again::<OutlinePart>(body) {
                outline(part);
            }
        }
        _ => {
            if let Some(rest) = again::<Rest>(body) {
                check(&rest.chunks);
            }
        }
    }
}

/// Reads a message, writes it and reads it again.
fn again<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8]) -> Option<T> {
    let message: T = decode(body).ok()?;
    let written = encode(&message);
    let written =
        written.unwrap_or_else(|error| panic!("{message:?} was read and cannot be written: {error}"));
    assert!(written.len() <= MAX_FRAME);
    assert_eq!(decode::<T>(&written).ok().as_ref(), Some(&message));
    Some(message)
}

/// Lists what the runs of a stranger mean: in order, each once, none beyond the end.
fn check(said: &[Run]) {
    let listed: Vec<u32> = numbers(said, SPANS).collect();
    assert!(listed.iter().all(|number| *number < SPANS));
    assert!(listed.iter().zip(listed.iter().skip(1)).all(|(one, next)| one < next));
    assert!(numbers(&runs(listed.iter().copied()), SPANS).eq(listed));
}

/// Takes a map as a fetcher does.
fn map(part: MapPart) {
    if part.chunker != CHUNKER {
        return;
    }
    let sum: u64 = part.chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
    let image = Digest::from_bytes([1; 32]);
    let Ok(map) = ChunkMap::new(image, part.chunker, part.chunks) else { return };
    assert_eq!(map.size(), sum);
    let spans = Spans::of(&map);
    assert!(usize::try_from(spans.count()).is_ok_and(|count| count <= map.chunks().len().max(1)));
    let parts: Vec<_> = map_parts(&map).flat_map(|part| part.chunks).collect();
    assert_eq!(parts.as_slice(), map.chunks());
}

/// Fills an outline as a fetcher does: every place is known or asked for, and asking for none is not enough.
fn outline(part: OutlinePart) {
    let (image, places) = (Digest::from_bytes([1; 32]), part.prefixes.len());
    let mut outline = Outline::default();
    outline.extend(part.prefixes);
    let known = vec![Chunk { digest: ChunkDigest::of(b"x"), len: 1 }];
    let Ok(known) = ChunkMap::new(image, CHUNKER, known) else { return };
    outline.fill(known.chunks().iter().copied());
    let lacking: Vec<u32> = outline.lacks().collect();
    assert!(lacking.iter().all(|place| usize::try_from(*place).is_ok_and(|place| place < places)));
    let rest = vec![Chunk { digest: ChunkDigest::of(b"y"), len: 1 }; lacking.len()];
    let map = outline.complete(image, &rest);
    assert!(map.is_ok_and(|map| map.chunks().len() == places));
}
