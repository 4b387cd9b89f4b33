//! Pushes on a real cluster of processes: from a file on an admin's machine to answers that say "ready".

#![cfg(test)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use sifleet_tests::cluster::{Cluster, LIMIT, Plan, ended_with};
use sifleet_tests::sif::SifBuilder;
use sifleet_tests::wait::until;

const MEGABYTES: u32 = 24;

fn cluster(name: &'static str) -> Cluster {
    let partitions = BTreeMap::from([("viz", "viz[1-3]")]);
    let nodes = vec!["head", "viz1", "viz2", "viz3"];
    let mut cluster = Cluster::lay_out(Plan {
        name,
        partitions,
        nodes,
        library: Some("head"),
        lease: Duration::from_secs(4),
    })
    .unwrap();
    cluster.start_all().unwrap();
    for node in ["head", "viz1", "viz2", "viz3"] {
        cluster.wait_for_state(node, "online").unwrap();
    }
    cluster
}

fn image(seed: u64) -> Vec<u8> {
    SifBuilder::new().payload_bytes(MEGABYTES << 20, seed).bytes()
}

/// Writes a file where an admin would have it.
fn file(cluster: &Cluster, name: &str, bytes: &[u8]) -> String {
    let path = cluster.folder().join(name);
    fs::write(&path, bytes).unwrap();
    path.display().to_string()
}

/// Asks for the newest push, and for its nodes.
fn newest(cluster: &Cluster) -> anyhow::Result<(Value, Vec<Value>)> {
    let push = cluster.get("/v1/pushes")?["pushes"][0].clone();
    let id = push["id"].as_str().unwrap_or_default();
    let nodes = cluster.get(&format!("/v1/pushes/{id}/nodes"))?["nodes"].as_array().cloned();
    Ok((push, nodes.unwrap_or_default()))
}

fn holds(root: &Path, name: &str, bytes: &[u8]) {
    assert!(fs::read(root.join(name)).unwrap() == bytes, "{name} below {}", root.display());
    let left = fs::read_dir(root.join(".sifleet")).unwrap().count();
    assert_eq!(left, 0, "files left below {}", root.display());
}

#[test]
fn a_file_goes_to_a_partition_and_of_its_next_version_only_what_is_new() {
    let cluster = cluster("push-file");
    let old = image(1);
    let output = cluster.cli(&["push", &file(&cluster, "tool_v1.sif", &old), "-p", "viz"]).unwrap();
    ended_with(&output, 0).unwrap();
    cluster.wait_for_nodes("tool_v1", "viz", &[("ready", "viz[1-3]")]).unwrap();
    holds(&cluster.root("viz2"), "tool_v1.sif", &old);

    let mut new = old.clone();
    let middle = new.len() / 2;
    new[middle..middle + 300_000].copy_from_slice(&image(2)[middle..middle + 300_000]);
    let output = cluster.cli(&["push", &file(&cluster, "tool_v2.sif", &new), "-p", "viz"]).unwrap();
    ended_with(&output, 0).unwrap();
    holds(&cluster.root("viz3"), "tool_v2.sif", &new);
    let (push, _) = newest(&cluster).unwrap();
    let fetched = push["bytes"]["fetched"].as_u64().unwrap();
    assert!(fetched < 3 * 700_000, "{push}");
}

#[test]
fn limits_hold_and_are_lifted_while_a_push_runs() {
    let cluster = cluster("push-limits");
    let set = |limits: &[&str]| {
        let output = cluster.cli(&[&["limits", "set"], limits].concat()).unwrap();
        ended_with(&output, 0).unwrap();
    };
    let limits = || cluster.get("/v1/limits").unwrap();
    set(&["--down", "100k"]);
    let begun = Instant::now();
    let bytes = image(6);
    let output =
        cluster.cli(&["push", &file(&cluster, "tool.sif", &bytes), "-p", "viz", "--detach"]).unwrap();
    ended_with(&output, 0).unwrap();
    let fetched = |node: &Value| node["fetched"].as_u64().unwrap_or_default();
    until("everybody fetches", LIMIT, || {
        let (_, nodes) = newest(&cluster)?;
        anyhow::ensure!(nodes.len() == 3 && nodes.iter().all(|node| fetched(node) > 300_000), "{nodes:?}");
        Ok(())
    })
    .unwrap();
    let (push, nodes) = newest(&cluster).unwrap();
    // A second of slack for what passes before anybody waits; without the limit all of it is there at once.
    let most = 100_000 * (u64::try_from(begun.elapsed().as_millis()).unwrap() / 1_000 + 1) + 500_000;
    assert!(nodes.iter().all(|node| fetched(node) < most), "more than {most}: {nodes:?}");
    assert_eq!(push["state"], "running");

    set(&["--down", "none", "--total", "600k"]);
    until("the total is divided", LIMIT, || {
        let limits = limits();
        anyhow::ensure!((&limits["divided"], &limits["share"]) == (&3.into(), &200_000.into()), "{limits}");
        Ok(())
    })
    .unwrap();
    // At what was allowed so far it would take minutes.
    set(&["--total", "none"]);
    ended_with(&cluster.cli(&["push", "watch", push["id"].as_str().unwrap()]).unwrap(), 0).unwrap();
    assert!(begun.elapsed().as_secs() < 200, "{:?}", begun.elapsed());
    for node in ["viz1", "viz2", "viz3"] {
        holds(&cluster.root(node), "tool.sif", &bytes);
    }
}
