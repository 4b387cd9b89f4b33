//! What people rely on, with real processes: answers follow disks, and what dies is never answered for.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use sifleet_tests::cluster::{COORDINATOR, Cluster, Plan, ended_with};
use sifleet_tests::sif::SifBuilder;
use sifleet_tests::wait::until;

const LEASE: Duration = Duration::from_secs(4);

fn two_nodes(name: &'static str) -> Cluster {
    let partitions = BTreeMap::from([("viz", "viz[001-002]")]);
    let plan = Plan { name, partitions, nodes: vec!["viz001", "viz002"], library: None, lease: LEASE };
    Cluster::start(plan).unwrap_or_else(|error| panic!("{name}: {error:#}"))
}

fn image(seed: u64) -> SifBuilder {
    SifBuilder::new().payload_bytes(100_000, seed)
}

/// Sums up what an agent's log says it read of files.
fn bytes_read(log: &str) -> u64 {
    log.split_whitespace().filter_map(|word| word.strip_prefix("bytes=")?.parse::<u64>().ok()).sum()
}

#[test]
fn a_file_is_answered_for_within_two_seconds_and_its_removal_too() {
    let cluster = two_nodes("close_to_answer");
    let file = cluster.root("viz001").join("a.sif");
    image(1).write(&file).unwrap();
    let appeared = cluster.wait_for_nodes("a", "viz", &[("ready", "viz001"), ("missing", "viz002")]).unwrap();
    fs::remove_file(&file).unwrap();
    let vanished = cluster.wait_for_nodes("a", "viz", &[("missing", "viz[001-002]")]).unwrap();
    anstream::println!("close to answer {appeared:.2?}, removal to answer {vanished:.2?}");
    let limit = Duration::from_secs(2);
    assert!(appeared < limit && vanished < limit, "{appeared:?} {vanished:?}");
    assert_eq!(cluster.availability("a", "viz").unwrap()["verdict"], "missing", "heard of, so not an error");
}

#[test]
fn an_image_is_removed_from_nodes_unless_somebody_uses_it_or_it_is_the_last() {
    let cluster = two_nodes("removal");
    for node in ["viz001", "viz002"] {
        image(5).write(cluster.root(node).join("a.sif")).unwrap();
    }
    cluster.wait_for_nodes("a", "viz", &[("ready", "viz[001-002]")]).unwrap();
    let remove =
        |more: &[&str]| cluster.cli(&[&["image", "rm", "a", "-y", "-o", "json"], more].concat()).unwrap();
    let file = cluster.root("viz002").join("a.sif");
    let user = fs::File::open(&file).unwrap();
    let busy = remove(&["-w", "viz002"]);
    let said = String::from_utf8_lossy(&busy.stdout).into_owned();
    if said.contains("cannot_tell") {
        println!("skipped: no leases in {}", file.display());
        return;
    }
    ended_with(&busy, 1).unwrap();
    assert!(said.contains("\"busy\"") && file.exists(), "{said}");
    drop(user);
    ended_with(&remove(&["-w", "viz002"]), 0).unwrap();
    cluster.wait_for_nodes("a", "viz", &[("ready", "viz001"), ("missing", "viz002")]).unwrap();
    assert!(!file.exists());
    ended_with(&remove(&["-p", "viz"]), 1).unwrap();
    assert!(cluster.root("viz001").join("a.sif").exists(), "the last one stays");
    ended_with(&remove(&["-p", "viz", "--force"]), 0).unwrap();
    cluster.wait_for_nodes("a", "viz", &[("missing", "viz[001-002]")]).unwrap();
}

#[test]
fn a_killed_agent_is_never_answered_for_beyond_its_lease_and_reads_nothing_when_it_returns() {
    let mut cluster = two_nodes("killed_agent");
    for node in ["viz001", "viz002"] {
        image(2).write(cluster.root(node).join("b.sif")).unwrap();
    }
    cluster.wait_for_nodes("b", "viz", &[("ready", "viz[001-002]")]).unwrap();
    cluster.kill("viz002").unwrap();
    let killed = Instant::now();
    // The image goes while nobody watches: from the lease's end on, "ready" would be a lie.
    fs::remove_file(cluster.root("viz002").join("b.sif")).unwrap();
    until("the answer becomes unknown", LEASE + Duration::from_secs(10), || {
        let answer = cluster.availability("b", "viz").map_err(|error| format!("{error:#}"))?;
        let late = killed.elapsed() > LEASE + Duration::from_millis(500);
        assert!(!late || answer["satisfied"] != "yes", "answered for after {:?}: {answer}", killed.elapsed());
        if answer["nodes"]["unknown"] == "viz002" { Ok(()) } else { Err(answer.to_string()) }
    })
    .unwrap();
    let answer = cluster.availability("b", "viz").unwrap();
    assert_eq!(answer["reasons"][0]["code"], "lease_expired", "{answer}");

    image(2).write(cluster.root("viz002").join("c.sif")).unwrap();
    cluster.start_agent("viz002").unwrap();
    cluster.wait_for_nodes("b", "viz", &[("ready", "viz001"), ("missing", "viz002")]).unwrap();
    cluster.wait_for_nodes("c", "viz", &[("ready", "viz002")]).unwrap();
    cluster.stop("viz002").unwrap();
    let log = cluster.log("viz002").len();
    cluster.start_agent("viz002").unwrap();
    cluster.wait_for_nodes("c", "viz", &[("ready", "viz002")]).unwrap();
    assert_eq!(bytes_read(&cluster.log("viz002")[log..]), 0, "an unchanged image was read again");
}

#[test]
fn a_stopped_agent_says_goodbye_and_is_unknown_at_once() {
    let mut cluster = two_nodes("goodbye");
    image(3).write(cluster.root("viz001").join("a.sif")).unwrap();
    cluster.wait_for_nodes("a", "viz", &[("ready", "viz001")]).unwrap();
    assert!(cluster.stop("viz001").unwrap().success());
    let took = cluster.wait_for_nodes("a", "viz", &[("unknown", "viz001")]).unwrap();
    assert!(took < LEASE / 2, "{took:?}");
}

#[test]
fn a_killed_coordinator_remembers_and_believes_only_what_is_confirmed() {
    let mut cluster = two_nodes("killed_coordinator");
    image(4).write(cluster.root("viz001").join("a.sif")).unwrap();
    cluster.wait_for_nodes("a", "viz", &[("ready", "viz001")]).unwrap();
    until("the image is durable", LEASE, || match cluster.count_stored("replica WHERE digest IS NOT NULL") {
        Ok(1) => Ok(()),
        stored => Err(format!("{stored:?} images")),
    })
    .unwrap();
    cluster.kill("viz001").unwrap();
    cluster.kill(COORDINATOR).unwrap();
    cluster.start_coordinator().unwrap();
    let answer = cluster.availability("a", "viz").unwrap();
    assert_eq!(answer["nodes"]["ready"], "", "{answer}");
    assert_eq!(answer["verdict"], "unknown", "{answer}");
    cluster.wait_for_nodes("a", "viz", &[("missing", "viz002"), ("unknown", "viz001")]).unwrap();
    let detail = cluster.get("/v1/images/a").unwrap();
    assert_eq!(detail["summary"]["last_known"], "viz001", "{detail}");
}

#[test]
fn a_sidecar_proves_nothing_and_a_cut_image_is_called_truncated() {
    let cluster = two_nodes("sidecar");
    fs::write(cluster.root("viz001").join("desktop.sif.json"), r#"{"name": "Desktop"}"#).unwrap();
    image(5).write(cluster.root("viz002").join("desktop.sif")).unwrap();
    cluster.wait_for_nodes("desktop", "viz", &[("ready", "viz002"), ("missing", "viz001")]).unwrap();
    let whole = image(5).bytes();
    fs::write(cluster.root("viz001").join("desktop.sif"), &whole[..whole.len() / 2]).unwrap();
    let (answer, _) = until("the cut image is explained", Duration::from_secs(30), || {
        let answer = cluster.availability("desktop", "viz").map_err(|error| format!("{error:#}"))?;
        let explained = answer["reasons"][0]["code"] == "truncated";
        if explained { Ok(answer) } else { Err(answer.to_string()) }
    })
    .unwrap();
    assert_eq!(answer["nodes"]["missing"], "viz001", "{answer}");
    assert_eq!(answer["satisfied"], "no", "{answer}");
}

#[test]
fn an_absent_root_makes_answers_unknown_and_never_missing() {
    let cluster = two_nodes("absent_root");
    let root = cluster.root("viz001");
    image(6).write(root.join("a.sif")).unwrap();
    cluster.wait_for_nodes("a", "viz", &[("ready", "viz001"), ("missing", "viz002")]).unwrap();
    let aside = root.with_file_name("aside");
    fs::rename(&root, &aside).unwrap();
    cluster.wait_for_nodes("a", "viz", &[("unknown", "viz001"), ("missing", "viz002")]).unwrap();
    let answer = cluster.availability("a", "viz").unwrap();
    assert!(answer["degraded"][0]["reason"].as_str().is_some_and(|why| names(why, &root)), "{answer}");
    fs::rename(&aside, &root).unwrap();
    cluster.wait_for_nodes("a", "viz", &[("ready", "viz001")]).unwrap();
}

fn names(reason: &str, root: &Path) -> bool {
    reason.contains(&root.display().to_string())
}
