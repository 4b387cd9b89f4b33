//! What stays open of the images that are given.

use std::fs::File;
use std::sync::Weak;

use sifleet_common::chunk::{CHUNKER, Chunk, ChunkDigest, ChunkMap};
use sifleet_common::clock::Clock;
use sifleet_common::task::GRACE;

use super::*;
use crate::layout::Layout;
use crate::map::kept::Maps;

/// Has an image of so many chunks given that was fetched before.
async fn given(serving: &Serving, seed: u8, chunks: usize) -> Weak<Layout> {
    let image = Digest::from(blake3::hash(&[seed]));
    let chunks = vec![Chunk { digest: ChunkDigest::of(b"x"), len: 1 }; chunks];
    let map = ChunkMap::new(image, CHUNKER, chunks).unwrap();
    let file = tempfile::tempfile().unwrap();
    File::set_len(&file, map.size()).unwrap();
    let layout = Arc::new(Layout::of(Arc::new(map)));
    let known = Arc::downgrade(&layout);
    serving.open(image, Arc::new(Held::whole(layout, file).unwrap())).await;
    serving.release(image).await;
    // So many messages do not wait: when the last one does, what was said before is done.
    for _ in 0..INPUTS + 2 {
        serving.close(Digest::from(blake3::hash(b"another"))).await;
    }
    known
}

#[tokio::test]
async fn a_large_image_that_nobody_follows_is_closed_at_once_and_a_usual_one_is_not() {
    let (commands, _inventory) = mpsc::channel(1);
    let folder = tempfile::tempdir().unwrap();
    let finder = Finder::new(commands, Arc::new(Maps::within(folder.path().to_owned())));
    let tasks = Tasks::new();
    let serving = Serving::start(finder, Arc::new(Tap::open(Clock::start())), &tasks);
    let (usual, large) = (given(&serving, 1, LARGE).await, given(&serving, 2, LARGE + 1).await);
    assert!(usual.upgrade().is_some() && large.upgrade().is_none());
    tasks.shutdown(GRACE).await;
}
