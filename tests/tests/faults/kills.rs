//! Programs that are killed with signal 9 at moments drawn by lot, while an image is on its way.

use std::fs;
use std::time::Duration;

use anyhow::ensure;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use sifleet_tests::cluster::{COORDINATOR, LIMIT};
use sifleet_tests::wait::{pause, until};

use crate::site::{Site, image, times, unfinished, visible};

const SIZE: u32 = 6_000_000;
/// So an image takes two seconds.
const RATE: u64 = 3_000_000;
/// What may be on its way to one node: five spans, of 128 KiB and a chunk.
const IN_FLIGHT: u64 = 5 * (256 << 10);
const NODES: [&str; 2] = ["viz1", "viz2"];

fn number(of: &Value, what: &str) -> u64 {
    of[what].as_u64().unwrap_or_default()
}

fn start(site: &mut Site, victim: &str) {
    if victim == COORDINATOR {
        site.cluster.start_coordinator().unwrap();
    } else {
        site.cluster.start_agent(victim).unwrap();
    }
}

#[test]
fn a_push_ends_right_whoever_is_killed_at_whatever_moment_and_fetches_little_twice() {
    let mut site = Site::start("faults-moments", "viz[1-2]", &NODES);
    let moments = times(2, 20);
    let mut random = StdRng::seed_from_u64(4);
    let (mut seed, mut most_wasted) = (1_000, 0);
    for victim in ["viz1", "head", COORDINATOR] {
        for _ in 0..moments {
            seed += 1;
            let name = format!("tool{seed}.sif");
            let bytes = image(SIZE, seed);
            let push = site.push(&name, &bytes, Some(RATE));
            let moment = Duration::from_millis(random.random_range(0..2_500));
            pause(moment);
            site.cluster.kill(victim).unwrap();
            let stood = (victim != COORDINATOR).then(|| site.node(&push, "viz1").unwrap());
            start(&mut site, victim);
            let what = format!("{victim} was killed after {moment:?}");
            until(&what, LIMIT, || {
                let shown = site.shown(&push)?;
                ensure!(shown["state"] == "done", "{shown}");
                Ok(())
            })
            .unwrap();
            let mut wasted = 0;
            for node in NODES {
                let root = site.cluster.root(node);
                assert!(fs::read(root.join(&name)).unwrap() == bytes, "{what}: {name} on {node}");
                assert_eq!(unfinished(&root), 0, "{what}: left on {node}");
                let stands = site.node(&push, node).unwrap();
                let moved = ["fetched", "resumed", "reused"].map(|from| number(&stands, from));
                assert!(moved.iter().sum::<u64>() <= bytes.len() as u64, "{what}: {stands}");
                if let Some(stood) = stood.as_ref().filter(|stood| victim == node && stood["phase"] != "done")
                {
                    // What was reported lies on the disk, and none of it is fetched again.
                    let (before, [fetched, resumed, _]) = (number(stood, "fetched"), moved);
                    println!("{what}: {before} B were reported, {resumed} of its image were found again");
                    let published = fetched == before && resumed == 0;
                    assert!(resumed >= before || published, "{what}: {stood}, then {stands}");
                }
                wasted += number(&stands, "wasted");
                fs::remove_file(root.join(&name)).unwrap();
            }
            assert!(wasted <= 2 * IN_FLIGHT, "{what}: {wasted} B came for nothing");
            most_wasted = wasted.max(most_wasted);
            fs::remove_file(site.cluster.library().join(&name)).unwrap();
        }
    }
    println!("{} kills; at most {most_wasted} B of {SIZE} came for nothing on two nodes", 3 * moments);
}

#[test]
fn a_fetcher_that_is_killed_over_and_over_shows_whole_images_only() {
    let mut site = Site::start("faults-cycles", "viz1", &["viz1"]);
    let root = site.cluster.root("viz1");
    let mut random = StdRng::seed_from_u64(5);
    let other = image(50_000, 7);
    fs::write(root.join("other.sif"), &other).unwrap();
    let (cycles, mut images) = (times(5, 200), 0);
    let mut old = image(100_000, 8);
    fs::write(root.join("tool.sif"), &old).unwrap();
    let mut bytes = image(SIZE, 2_000);
    let mut push = site.push("tool.sif", &bytes, Some(RATE));
    for cycle in 0..cycles {
        pause(Duration::from_millis(random.random_range(0..2_000)));
        site.cluster.kill("viz1").unwrap();
        let found = fs::read(root.join("tool.sif")).unwrap();
        assert!(found == old || found == bytes, "cycle {cycle}: neither the old image nor the new one");
        assert!(fs::read(root.join("other.sif")).unwrap() == other);
        assert_eq!(visible(&root), ["other.sif", "tool.sif"]);
        site.cluster.start_agent("viz1").unwrap();
        if found == bytes {
            site.comes_to(&push, "done");
            images += 1;
            (old, bytes) = (bytes, image(SIZE, 2_001 + images));
            push = site.push("tool.sif", &bytes, Some(RATE));
        }
    }
    site.comes_to(&push, "done");
    assert!(fs::read(root.join("tool.sif")).unwrap() == bytes);
    assert_eq!(unfinished(&root), 0);
    println!("{cycles} kills, {} images", images + 1);
}
