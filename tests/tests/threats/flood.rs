//! A node with a good certificate that never stops talking.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sifleet_coordinator::nodes::pace::{AT_ONCE, SHARE, cost};
use sifleet_tests::cluster::{COORDINATOR, Cluster, LIMIT, Plan};
use sifleet_tests::flood::{DIALLERS, Flood, IMAGES, Kind, message};
use sifleet_tests::sif::SifBuilder;
use sifleet_tests::wait::until;

const NODE: &str = "viz001";
/// Those that flood, one for each kind, so that none pays for what another one did.
const HOSTILE: [&str; 7] = ["bad1", "bad2", "bad3", "bad4", "bad5", "bad6", "bad7"];
/// What the good node says meanwhile, and what waits in queues and windows.
const BESIDE: u64 = 200;

fn cluster(name: &'static str) -> Cluster {
    let partitions = BTreeMap::from([("viz", NODE)]);
    // What a flood may say at once is two seconds' work of a coordinator that is built for speed and has a processor
    // to itself; nodes are given 30 s.
    let lease = Duration::from_secs(10);
    let plan = Plan { name, partitions, nodes: vec![NODE], library: None, lease };
    let cluster = Cluster::start(plan).unwrap();
    cluster.issue("bad[1-7]").unwrap();
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

fn has_kept_its_session(cluster: &Cluster) {
    let log = cluster.log(NODE);
    assert!(!log.contains("not connected"), "{log}");
}

#[test]
fn a_node_that_floods_is_read_more_slowly_and_all_changes_of_others_get_through() {
    let cluster = cluster("threat_flood");
    let taken_in = || {
        let count = |name: &str| cluster.metric(name).unwrap();
        count("sifleet_deltas_total") + count("sifleet_snapshot_parts_total")
    };
    let kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Redials);
    for (kind, node) in kinds.zip(HOSTILE) {
        let cost = cost(&message(kind, 2), IMAGES);
        let (before, begun) = (taken_in(), Instant::now());
        let flood = Flood::start(&cluster, node, kind).unwrap();
        // Until it has used up what it may at once, and some more; of heartbeats that is little.
        let enough = if kind == Kind::Heartbeats { 60 } else { AT_ONCE / cost * 21 / 20 };
        others_are_heard(&cluster, &flood, enough);
        drop(flood);
        let earned = u64::try_from(begun.elapsed().as_micros()).unwrap() / SHARE;
        let at_most = (AT_ONCE + earned) / cost + BESIDE;
        let taken_in = taken_in() - before;
        assert!(taken_in < at_most as f64, "{kind:?}: {taken_in} messages were taken in, not {at_most}");
    }
    has_kept_its_session(&cluster);
    let told = || {
        let log = cluster.log(COORDINATOR);
        if log.contains("a node says more than its share") { Ok(()) } else { Err(log.len()) }
    };
    until("an admin is told who floods", LIMIT, told).unwrap();
}

#[test]
fn a_node_that_dials_again_and_again_is_let_in_seldom_and_told_why() {
    let cluster = cluster("threat_redial");
    let begun = Instant::now();
    let flood = Flood::start(&cluster, HOSTILE[6], Kind::Redials).unwrap();
    let told = || {
        let reasons = flood.reasons();
        let named = |what: &str| reasons.iter().any(|reason| reason.contains(what));
        let all = named("broke the protocol") && named("has too many connections at a time");
        if all { Ok(()) } else { Err(reasons.join("; ")) }
    };
    until("it hears why", LIMIT, told).unwrap();
    others_are_heard(&cluster, &flood, 20);
    // About as many as it dials at a time, each second: whoever is turned away is not looked at for as long. Otherwise
    // it would be hundreds.
    let (connections, seconds) = (flood.connections(), begun.elapsed().as_secs());
    assert!(connections < 4 * DIALLERS * (seconds + 2), "{connections} connections in {seconds} s");
    has_kept_its_session(&cluster);
}
