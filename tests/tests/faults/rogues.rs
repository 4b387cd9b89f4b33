//! Nodes that mean harm, in a real cluster: the coordinator names them, and everybody else gets the image.

use std::fs;
use std::sync::atomic::Ordering;

use serde_json::Value;
use sifleet_common::digest::Digest;
use sifleet_tests::fleet::Fleet;
use sifleet_tests::rogue::{Crime, Rogue};

use crate::site::{Site, image};

const CRIMES: [(&str, Crime, &str); 4] = [
    ("poisoner", Crime::Poison, "poisoned"),
    ("liar", Crime::Lie, "lied"),
    ("staller", Crime::Stall, "stalled"),
    ("garbler", Crime::Garble, "garbage"),
];

#[test]
fn the_push_names_nodes_that_cheat_and_what_they_did() {
    let site = Site::start("faults-rogues", "viz[1-3]", &["viz1", "viz2", "viz3"]);
    let bytes = image(6_000_000, 1);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let rogues = CRIMES.map(|(name, crime, _)| {
        let rogue = Rogue::start(site.cluster.folder(), name, crime, bytes.clone().into()).unwrap();
        let held = ("tool.sif", Digest::from(blake3::hash(&bytes)), bytes.len() as u64);
        let at = (name, rogue.peer.address.port());
        let session = runtime.block_on(Fleet::holder(&site.cluster, at, held, rogue.map)).unwrap();
        site.cluster.wait_for_state(name, "online").unwrap();
        (rogue, session)
    });
    // So slowly that everybody turns to the rogues too.
    let push = site.push("tool.sif", &bytes, Some(1_000_000));
    site.comes_to(&push, "done");
    for node in ["viz1", "viz2", "viz3"] {
        assert!(fs::read(site.cluster.root(node).join("tool.sif")).unwrap() == bytes, "{node}");
        let stands = site.node(&push, node).unwrap();
        let sources = stands["sources"].to_string();
        assert!(CRIMES.iter().all(|(name, ..)| !sources.contains(name)), "{node} took from {sources}");
    }
    let shown = site.shown(&push).unwrap();
    let dropped: &Vec<Value> = shown["dropped"].as_array().unwrap();
    for ((name, _, fault), (rogue, _)) in CRIMES.iter().zip(&rogues) {
        let of: Vec<&Value> = dropped.iter().filter(|one| one["node"] == *name).collect();
        assert!(!of.is_empty() && of.iter().all(|one| one["fault"] == *fault), "{name}: {dropped:?}");
        let asked = rogue.asked.load(Ordering::Relaxed);
        println!("{name} was asked for {asked} spans, and named by {} nodes", of.len());
        let quarantined =
            site.cluster.get(&format!("/v1/nodes/{name}")).unwrap()["summary"]["degraded"].to_string();
        let by_several = of.len() > 1 && *fault != "stalled";
        assert_eq!(quarantined.contains("gives no images"), by_several, "{name}: {quarantined}");
        assert!(asked <= 3, "three nodes asked {name} for {asked} spans, each for one at most");
    }
    assert_eq!(dropped.len(), dropped.iter().filter(|one| one["node"] != "head").count(), "{dropped:?}");
}
