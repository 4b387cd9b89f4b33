//! How soon a change is known: two seconds from the close of a file, or its removal, with the usual settle time.
//!
//! Apart from the other tests, which keep the machine busy and stop their own process. The promise excludes the time
//! that hashing takes, which runs at the lowest priority, so the median counts: one round on a machine that has no
//! processor to spare may take longer.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "../fs/harness.rs"]
#[expect(dead_code, reason = "shared with the other tests, which need more of it")]
mod harness;
#[path = "../fs/walk.rs"]
mod walk;

use std::fs;
use std::time::{Duration, Instant};

use sifleet_agent::memory::Memory;
use sifleet_agent::settings::Settings;
use sifleet_agent::watch::RootSettings;

use harness::{Node, is_image, root, settings, write};

/// What is promised.
const PROMISE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_file_and_a_removal_are_known_within_two_seconds() {
    let (folder, root) = root();
    let settle = Settings::default().watch.settle.get();
    let settings = RootSettings { settle, ..settings(&root) };
    fs::create_dir(root.join("deep")).unwrap();
    (0..100).for_each(|number| write(root.join(format!("deep/{number}.sif")), number));
    let mut node = Node::start_with(settings, Memory::volatile(1_000).unwrap());
    node.until_equal(&root).await;
    let (mut appeared, mut vanished) = (Vec::new(), Vec::new());
    for round in 0..5_u64 {
        let closed = Instant::now();
        write(root.join("deep/a.sif"), 1_000 + round);
        write(folder.path().join("b.sif"), 2_000 + round);
        fs::rename(folder.path().join("b.sif"), root.join("b.sif")).unwrap();
        node.until("closed", |all| is_image(all, "deep/a.sif") && is_image(all, "b.sif")).await;
        appeared.push(closed.elapsed());
        let removed = Instant::now();
        fs::remove_file(root.join("deep/a.sif")).unwrap();
        fs::rename(root.join("b.sif"), folder.path().join("b.sif")).unwrap();
        node.until("removed", |inventory| inventory.len() == 100).await;
        vanished.push(removed.elapsed());
    }
    let (appeared, vanished) = (median(appeared), median(vanished));
    println!("close to image: {appeared:?}; removal: {vanished:?} (median of 5)");
    assert!(appeared < PROMISE, "a closed file was known only after {appeared:?}");
    assert!(vanished < PROMISE, "a removal was known only after {vanished:?}");
    node.stop().await;
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
