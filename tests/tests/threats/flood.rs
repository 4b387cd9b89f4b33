//! A node with a good certificate that never stops talking.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sifleet_tests::cluster::{COORDINATOR, Cluster, LIMIT, Plan};
use sifleet_tests::flood::{Flood, Kind};
use sifleet_tests::sif::SifBuilder;
use sifleet_tests::wait::until;

const NODE: &str = "viz001";
const HOSTILE: &str = "viz002";
/// Microseconds of a processor that one node may use at once, and of how many it may use one; see `nodes::pace`.
const AT_ONCE: f64 = 1_000_000.0;
const SHARE: f64 = 20.0;
/// What the least of messages costs of them.
const LEAST: f64 = 80.0;

fn cluster() -> Cluster {
    let partitions = BTreeMap::from([("viz", NODE)]);
    let lease = Duration::from_secs(4);
    let plan = Plan { name: "threat_flood", partitions, nodes: vec![NODE], library: None, lease };
    let cluster = Cluster::start(plan).unwrap();
    cluster.issue(HOSTILE).unwrap();
    cluster
}

/// Lets images come and go on the good node until the flood has gone on for a while; every one of them is answered for.
fn others_are_heard(cluster: &Cluster, flood: &Flood, enough: u64) {
    let (begun, mut heard) = (Instant::now(), 0);
    while flood.sent() < enough || heard < 3 {
        assert!(begun.elapsed() < LIMIT, "only {} messages of the flood were taken", flood.sent());
        let image = cluster.root(NODE).join("own.sif");
        SifBuilder::new().payload_bytes(50_000, heard).write(&image).unwrap();
        cluster.wait_for_nodes("own", "viz", &[("ready", NODE)]).unwrap();
        std::fs::remove_file(&image).unwrap();
        cluster.wait_for_nodes("own", "viz", &[("missing", NODE)]).unwrap();
        heard += 1;
    }
}

#[test]
fn a_node_that_floods_is_read_more_slowly_and_all_changes_of_others_get_through() {
    let cluster = cluster();
    let taken_in = || {
        let count = |name: &str| cluster.metric(name).unwrap();
        count("sifleet_deltas_total") + count("sifleet_snapshot_parts_total")
    };
    for kind in [Kind::Steps, Kind::Batches, Kind::Snapshots, Kind::Roots, Kind::Heartbeats, Kind::Clocks] {
        let (before, begun) = (taken_in(), Instant::now());
        let flood = Flood::start(&cluster, HOSTILE, kind).unwrap();
        others_are_heard(&cluster, &flood, 20);
        drop(flood);
        let at_most = (AT_ONCE + begun.elapsed().as_secs_f64() * 1e6 / SHARE) / LEAST;
        let taken_in = taken_in() - before;
        // The good node says a few things as well.
        assert!(taken_in < at_most + 500.0, "{kind:?}: {taken_in} messages were taken in, not {at_most}");
    }
    assert!(!cluster.log(NODE).contains("not connected"), "the good node kept its session");
    let told = || {
        let log = cluster.log(COORDINATOR);
        if log.contains("a node says more than its share") { Ok(()) } else { Err(log.len()) }
    };
    until("an admin is told who floods", LIMIT, told).unwrap();
}

#[test]
fn a_node_that_dials_again_and_again_is_told_why_it_is_turned_away() {
    let cluster = {
        let partitions = BTreeMap::from([("viz", NODE)]);
        let lease = Duration::from_secs(4);
        let plan = Plan { name: "threat_redial", partitions, nodes: vec![NODE], library: None, lease };
        let cluster = Cluster::start(plan).unwrap();
        cluster.issue(HOSTILE).unwrap();
        cluster
    };
    let flood = Flood::start(&cluster, HOSTILE, Kind::Redials).unwrap();
    let told = || {
        let reasons = flood.reasons();
        let named = |what: &str| reasons.iter().any(|reason| reason.contains(what));
        if named("broke the protocol") && named("used up what one node may") {
            Ok(())
        } else {
            Err(reasons.join("; "))
        }
    };
    until("it hears why", LIMIT, told).unwrap();
    others_are_heard(&cluster, &flood, 1);
    assert!(!cluster.log(NODE).contains("not connected"), "the good node kept its session");
}
