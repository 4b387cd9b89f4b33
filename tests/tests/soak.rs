//! Hours of everyday life, or as many as there are: files come, change and go, programs die and return, and now and
//! then everything has to agree with a look at the disks. Memory must not grow with what has passed.

#![cfg(test)]

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sifleet_common::nodeset;
use sifleet_tests::bench::process::memory;
use sifleet_tests::cluster::{COORDINATOR, Cluster, Plan};
use sifleet_tests::sif::SifBuilder;
use sifleet_tests::wait::until;

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const IMAGES: u64 = 12;
const PATIENCE: Duration = Duration::from_secs(60);
/// What an hour may add to a program that has warmed up, in MiB.
const GROWTH: f64 = 16.0;

fn duration() -> Duration {
    Duration::from_secs(if std::env::var_os("SIFLEET_LONG").is_some() { 1_200 } else { 15 })
}

/// Does something that happens on clusters.
fn happen(cluster: &mut Cluster, random: &mut StdRng) {
    let node = NODES[random.random_range(0..NODES.len())];
    let file = cluster.root(node).join(format!("image{}.sif", random.random_range(0..IMAGES)));
    match random.random_range(0..100) {
        0..60 => {
            let seed = random.random_range(0..3);
            SifBuilder::new().payload_bytes(random.random_range(1_000..300_000), seed).write(&file).unwrap();
        }
        60..80 if file.exists() => fs::remove_file(&file).unwrap(),
        80..90 if file.exists() => fs::rename(&file, file.with_file_name("renamed.sif")).unwrap(),
        90..95 => {
            cluster.kill(node).unwrap();
            cluster.start_agent(node).unwrap();
        }
        95 => {
            cluster.kill(COORDINATOR).unwrap();
            cluster.start_coordinator().unwrap();
        }
        _ => {}
    }
}

/// Waits until the answers for every image are what the disks hold.
fn agree(cluster: &Cluster) {
    for image in (0..IMAGES).map(|n| format!("image{n}.sif")).chain(["renamed.sif".to_owned()]) {
        let held = NODES.into_iter().filter(|node| cluster.root(node).join(&image).exists());
        let held = nodeset::fold(held);
        until(&format!("{image} is answered as it is"), PATIENCE, || {
            match cluster.availability(&image, "p") {
                Ok(answer) if answer["nodes"]["ready"] == *held && answer["nodes"]["unknown"] == "" => Ok(()),
                Ok(answer) => Err(format!("{held:?} have it: {answer}")),
                // An image that nobody ever had is an error.
                Err(_) if held.is_empty() => Ok(()),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .unwrap();
    }
}

#[test]
fn what_is_answered_stays_true_and_nothing_grows() {
    let plan = Plan {
        name: "soak",
        partitions: BTreeMap::from([("p", "n[1-3]")]),
        nodes: NODES.to_vec(),
        library: None,
        lease: Duration::from_secs(4),
    };
    let mut cluster = Cluster::start(plan).unwrap();
    let seed = rand::random();
    anstream::println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (begun, mut rounds, mut warm) = (Instant::now(), 0, None);
    while begun.elapsed() < duration() {
        for _ in 0..100 {
            happen(&mut cluster, &mut random);
        }
        agree(&cluster);
        rounds += 1;
        let resident = memory(cluster.pid(COORDINATOR).unwrap()).unwrap().resident;
        let start = *warm.get_or_insert(resident);
        assert!(resident < start + GROWTH, "the coordinator grew from {start} to {resident} MiB");
    }
    anstream::println!("{rounds} rounds of 100 in {:?}", begun.elapsed());
    assert!(rounds > 0);
}
