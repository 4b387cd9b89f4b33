//! A coordinator dies under a thousand agents and comes back: all are current again, and none sends its inventory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sifleet_tests::cluster::{COORDINATOR, Cluster, Plan};
use sifleet_tests::fleet::Fleet;
use sifleet_tests::wait::until;

const NODES: &str = "n[0001-1000]";
const IMAGES: usize = 20;
/// Far more than it takes; what it takes is printed, and measured in `docs/benchmarks.md`.
const LIMIT: Duration = Duration::from_secs(60);

fn online(cluster: &Cluster) -> anyhow::Result<usize> {
    let partition = cluster.get("/v1/partitions/all")?;
    let count = partition["summary"]["online"].as_u64().unwrap_or(0);
    Ok(usize::try_from(count)?)
}

/// What is promised. An agent that only finds out by silence that its connection is gone takes 20 s.
const PROMISED: Duration = Duration::from_secs(15);

fn wait_for_all(cluster: &Cluster) -> anyhow::Result<Duration> {
    let (_, took) = until("a thousand agents are current", LIMIT, || match online(cluster) {
        Ok(1000) => Ok(()),
        Ok(online) => Err(format!("{online} online")),
        Err(error) => Err(format!("{error:#}")),
    })?;
    Ok(took)
}

#[test]
fn a_thousand_agents_are_current_again_without_snapshots_after_the_coordinator_was_killed() {
    let plan = Plan {
        name: "storm",
        partitions: BTreeMap::from([("all", NODES)]),
        nodes: Vec::new(),
        library: None,
        lease: Duration::from_secs(30),
    };
    let mut cluster = Cluster::lay_out(plan).unwrap();
    cluster.issue(NODES).unwrap();
    cluster.start_coordinator().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fleet = runtime.block_on(Fleet::start(&cluster, NODES, IMAGES)).unwrap();
    let first = wait_for_all(&cluster).unwrap();
    let answer = cluster.availability("image0007", "all").unwrap();
    assert_eq!(answer["nodes"]["ready"], NODES, "{answer}");
    anstream::println!("1,000 agents, {IMAGES} images each, were current after {first:.1?}");

    until("all is written", LIMIT, || match cluster.count_stored("node WHERE generation > 0") {
        Ok(1000) => Ok(()),
        written => Err(format!("{written:?} inventories")),
    })
    .unwrap();
    cluster.kill(COORDINATOR).unwrap();
    let start = Instant::now();
    cluster.start_coordinator().unwrap();
    let early = cluster.availability("image0007", "all").unwrap();
    assert_ne!(early["satisfied"], "yes", "nobody had renewed a lease yet: {early}");
    wait_for_all(&cluster).unwrap();
    let took = start.elapsed();
    anstream::println!("after kill -9 and restart they were current again after {took:.1?}");
    assert!(took < PROMISED, "{took:?}: were the agents not told that their connections are gone?");
    assert_eq!(cluster.metric("sifleet_snapshot_parts_total").unwrap(), 0.0, "a snapshot was sent");
    let again = cluster.availability("image0007", "all").unwrap();
    assert_eq!(again["nodes"]["ready"], NODES, "{again}");
    drop(fleet);
}
