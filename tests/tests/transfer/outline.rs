//! The chunk map of the next version: a node that has the one before asks for what is new in it.

use std::sync::atomic::Ordering;

use sifleet_common::push::{FailCode, Phase};
use sifleet_tests::mover::{self, Mover, assignment};
use sifleet_tests::rogue::{Crime, Rogue};

use super::{digest, image};

/// Two versions of an image, of which the second has another end.
fn versions() -> [Vec<u8>; 2] {
    let old = image(3);
    let mut new = old.clone();
    let tail = new.len() - 100_000;
    new[tail..].copy_from_slice(&image(4)[tail..]);
    [old, new]
}

/// Has a node that holds one image fetch another one from a peer; returns the peer and the bytes that it fetched.
async fn fetched(crime: Crime, held: Option<&[u8]>, wanted: &[u8]) -> (Rogue, u64) {
    let folder = tempfile::tempdir().unwrap();
    mover::authority(folder.path()).unwrap();
    let peer = Rogue::start(folder.path(), "peer", crime, wanted.into()).unwrap();
    let mut node = Mover::start(folder.path(), "node").unwrap();
    if let Some(held) = held {
        std::fs::write(node.root.join("image.sif"), held).unwrap();
        node.sees("image.sif", digest(held)).await.unwrap();
    }
    let assignment = assignment(digest(wanted), wanted.len() as u64, peer.map, vec![peer.peer.clone()]);
    node.assign(assignment.clone()).await.unwrap();
    let ended = node.end(assignment.id).await.unwrap();
    assert_eq!((ended.phase, ended.failure), (Phase::Done, None));
    assert!(std::fs::read(node.root.join("image.sif")).unwrap() == wanted);
    (peer, ended.bytes.fetched)
}

fn handed(peer: &Rogue) -> [usize; 3] {
    [&peer.handed.outlines, &peer.handed.rest, &peer.handed.maps].map(|count| count.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_the_version_before_asks_for_the_digests_of_new_chunks_only() {
    let [old, new] = versions();
    let (peer, bytes) = fetched(Crime::None, Some(&old), &new).await;
    assert!(bytes < 500_000, "{bytes}");
    let [outlines, rest, maps] = handed(&peer);
    assert_eq!((outlines, maps), (1, 0));
    assert!((1..=15).contains(&rest), "{rest} of some 150 chunks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_images_asks_for_the_whole_map() {
    let [_, new] = versions();
    let (peer, _) = fetched(Crime::None, None, &new).await;
    assert_eq!(handed(&peer), [0, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outline_whose_chunks_begin_like_others_leads_to_the_whole_map() {
    let [old, new] = versions();
    let (peer, bytes) = fetched(Crime::Mislead, Some(&old), &new).await;
    assert!(bytes < 500_000, "{bytes}");
    assert_eq!(handed(&peer), [1, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn space_that_was_reserved_for_an_image_without_a_map_is_given_back() {
    let (folder, [_, wanted]) = (tempfile::tempdir().unwrap(), versions());
    mover::authority(folder.path()).unwrap();
    let peer = Rogue::start(folder.path(), "peer", Crime::None, wanted.clone().into()).unwrap();
    let mut node = Mover::start(folder.path(), "node").unwrap();
    // The map that there is is one of fewer bytes.
    let size = wanted.len() as u64 + 1;
    let assignment = assignment(digest(&wanted), size, peer.map, vec![peer.peer.clone()]);
    node.assign(assignment.clone()).await.unwrap();
    let ended = node.end(assignment.id).await.unwrap();
    assert_eq!(ended.failure.map(|(code, _)| code), Some(FailCode::NoMap));
    let left: Vec<_> = std::fs::read_dir(node.root.join(".sifleet")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
