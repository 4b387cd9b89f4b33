//! How fast the store is, printed: `cargo test -p sifleet-tests --test store speed -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use sifleet_common::digest::Digest;
use sifleet_common::image::{Arch, Format};
use sifleet_common::inventory::{Change, Content, Image, Inventory, Replica, ReplicaKey, RootId};
use sifleet_common::name::NodeName;
use sifleet_common::time::UnixMillis;
use sifleet_coordinator::store::sqlite::open;
use sifleet_coordinator::store::{Op, Position, Store};

use super::database;
use super::model::{apply_all, name, replaced, step};

const NODES: u32 = 1_000;
const IMAGES: u32 = 200;
const STEPS_PER_SECOND: u32 = 5_000;
const SECONDS: u32 = 8;

/// Processor time of this process so far.
fn processor_time() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec.try_into().unwrap(), used.tv_nsec.try_into().unwrap())
}

fn report(what: &str, began: Instant, used_before: Duration) {
    let (took, used) = (began.elapsed(), processor_time() - used_before);
    let share = used.as_secs_f64() / took.as_secs_f64() * 100.0;
    println!("{what}: {took:.2?}, {used:.2?} of processor time ({share:.1} % of a core)");
}

fn hashed(image: u32, version: u32) -> Change {
    let digest = Digest::from(blake3::hash(&(u64::from(image) << 32 | u64::from(version)).to_le_bytes()));
    let image_of = Image { digest, format: Format::Sif, arch: Arch::Amd64, mutable: false };
    let replica =
        Replica { size: 1 << 30, modified: UnixMillis(version.into()), content: Content::Image(image_of) };
    Change::Put(
        ReplicaKey { root: RootId(0), name: name(format!("compute/openfoam_v{image}_intel.sif")) },
        replica,
    )
}

fn node(n: u32) -> NodeName {
    name(format!("compute{n:04}"))
}

/// Makes steps spread over all nodes and images, whose digests are right.
fn steps(inventories: &mut [(Position, Inventory)], versions: std::ops::Range<u32>) -> Vec<Op> {
    let mut make = |version: u32| {
        let n = version.wrapping_mul(7_919) % NODES;
        let (at, inventory) = &mut inventories[n as usize];
        let changes = vec![hashed(version.wrapping_mul(31) % IMAGES, version)];
        *at = step(*at, inventory.clone(), &changes);
        apply_all(inventory, changes.clone());
        Op::Advance { node: node(n), position: *at, changes }
    };
    versions.map(&mut make).collect()
}

/// Submits steps in groups at the given rate; without one as fast as the store takes them.
async fn submit(store: &Store, steps: Vec<Op>, group: usize, rate: Option<u32>) {
    let began = Instant::now();
    let mut steps = steps.into_iter();
    for done in (0u32..).step_by(group) {
        let some: Vec<Op> = steps.by_ref().take(group).collect();
        if some.is_empty() {
            break;
        }
        store.submit(some).await.unwrap();
        let due = rate.map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate * done);
        let early = due.saturating_sub(began.elapsed());
        // The timer's resolution is a millisecond: steps one by one come in small bursts.
        if early > Duration::from_millis(1) {
            tokio::time::sleep(early).await;
        }
    }
    store.flush().await.unwrap();
}

#[tokio::test]
#[ignore = "measures; prints, and fails only when it is far off"]
async fn speed_of_a_thousand_nodes() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (store, _) = open(&database(&dir)).unwrap();
    let mut inventories = Vec::new();
    let mut whole = Vec::new();
    for n in 0..NODES {
        let changes: Vec<_> = (0..IMAGES).map(|image| hashed(image, 0)).collect();
        let op = replaced(changes.clone(), node(n));
        let Op::Replace { position, .. } = op else { unreachable!() };
        let mut inventory = Inventory::default();
        apply_all(&mut inventory, changes);
        inventories.push((position, inventory));
        whole.push(vec![op]);
    }
    let (began, used) = (Instant::now(), processor_time());
    for op in whole {
        store.submit(op).await.unwrap();
    }
    store.flush().await.unwrap();
    report("1,000 snapshots of 200 replicas", began, used);

    let count = STEPS_PER_SECOND * SECONDS;
    for (group, first) in [(25, 1), (1, count + 1)] {
        let made = steps(&mut inventories, first..first + count);
        let (began, used, before) = (Instant::now(), processor_time(), store.stats());
        submit(&store, made, group, Some(STEPS_PER_SECOND)).await;
        report(&format!("5,000 steps/s, {group} at a time"), began, used);
        println!("  in {} transactions", store.stats().commits - before.commits);
        assert!(began.elapsed() < Duration::from_secs(2 * u64::from(SECONDS)), "the store does not keep up");
    }
    let made = steps(&mut inventories, 3 * count..3 * count + 100_000);
    let (began, used) = (Instant::now(), processor_time());
    submit(&store, made, 25, None).await;
    report("100,000 steps flat out, 25 at a time", began, used);
    store.close().await.unwrap();
    println!("file: {} MB", std::fs::metadata(database(&dir)).unwrap().len() / 1_000_000);

    let (began, used) = (Instant::now(), processor_time());
    let (_store, restored) = open(&database(&dir)).unwrap();
    report("restoring 1,000 nodes with 200 replicas", began, used);
    assert!(restored.nodes.iter().all(|node| node.changes.len() == 200));
    assert!(began.elapsed() < Duration::from_secs(10), "restoring is far too slow");
}
