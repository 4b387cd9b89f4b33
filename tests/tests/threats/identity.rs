//! Somebody who wants to be a node that he is not, or is not any longer.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sifleet_agent::enrol::{EnrolError, Request, enrol};
use sifleet_common::wire::enrol::Secret;
use sifleet_tests::cluster::{COORDINATOR, Cluster, LIMIT, Plan, ended_with};
use sifleet_tests::programs;
use sifleet_tests::sif::SifBuilder;
use sifleet_tests::wait::until;

const NODE: &str = "viz001";

/// A coordinator that runs, and a node that has no certificate yet.
fn cluster(name: &'static str, more: &str) -> Cluster {
    let partitions = BTreeMap::from([("viz", NODE)]);
    let lease = Duration::from_secs(4);
    let plan = Plan { name, partitions, nodes: vec![NODE], library: None, lease };
    let mut cluster = Cluster::lay_out(plan).unwrap();
    let settings = |name: &str| cluster.folder().join(format!("{name}.toml"));
    let of_node = fs::read_to_string(settings(NODE)).unwrap();
    let ca = cluster.folder().join("ca").display().to_string();
    let own = cluster.folder().join("nodes").join(NODE).join("tls").display().to_string();
    let of_node = of_node.replace(&format!("{ca}/nodes/"), &format!("{own}/")).replace(&ca, &own);
    fs::write(settings(NODE), of_node).unwrap();
    let of_coordinator = fs::read_to_string(settings(COORDINATOR)).unwrap();
    let of_coordinator = of_coordinator.replace("[control]\n", &format!("[control]\n{more}"));
    fs::write(settings(COORDINATOR), of_coordinator).unwrap();
    cluster.start_coordinator().unwrap();
    cluster
}

/// Where the node's files are.
fn tls(cluster: &Cluster, end: &str) -> PathBuf {
    cluster.folder().join("nodes").join(NODE).join("tls").join(end)
}

/// A token for the node, as the command line prints it.
fn token(cluster: &Cluster) -> Value {
    let made = cluster.cli(&["token", "create", "--nodes", NODE, "-o", "json"]).unwrap();
    ended_with(&made, 0).unwrap();
    serde_json::from_slice(&made.stdout).unwrap()
}

/// Runs `sifleet-agent enrol` with a token for a node called `name`.
fn enrol_as(cluster: &Cluster, token: &Value, name: &str, pin: &str) -> Output {
    let file = cluster.folder().join("token");
    fs::write(&file, token["tokens"][0]["secret"].as_str().unwrap()).unwrap();
    let mut agent = Command::new(programs::own("sifleet-agent").unwrap());
    agent.arg("--config").arg(cluster.folder().join(format!("{NODE}.toml"))).args(["enrol", "--node", name]);
    agent.args(["--coordinator", &cluster.control(), "--ca-pin", pin, "--token-file"]).arg(file);
    agent.output().unwrap()
}

fn enrol_it(cluster: &Cluster) {
    let token = token(cluster);
    ended_with(&enrol_as(cluster, &token, NODE, token["ca_pin"].as_str().unwrap()), 0).unwrap();
}

fn refused_because(output: &Output, why: &str) {
    ended_with(output, 1).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(why), "{said}");
}

/// Has the coordinator read its files again.
fn reload(cluster: &Cluster) {
    let pid = Pid::from_raw(i32::try_from(cluster.pid(COORDINATOR).unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
}

fn ca(cluster: &Cluster, verb: &str) {
    let mut program = Command::new(programs::own("sifleet-coordinator").unwrap());
    program.arg("--config").arg(cluster.folder().join("coordinator.toml"));
    ended_with(&program.args(["ca", verb]).output().unwrap(), 0).unwrap();
}

#[test]
fn a_token_serves_its_own_node_once_and_only_at_the_right_coordinator() {
    let mut cluster = cluster("threat_token", "");
    let token = token(&cluster);
    let pin = token["ca_pin"].as_str().unwrap().to_owned();
    let wrong_pin = format!("sha256:{}", "0".repeat(64));
    let shown = format!("shows the authority {pin}, not {wrong_pin}; it was not given the token");
    refused_because(&enrol_as(&cluster, &token, NODE, &wrong_pin), &shown);
    refused_because(&enrol_as(&cluster, &token, "viz002", &pin), "it was not used up");
    assert!(!tls(&cluster, "viz001.pem").exists(), "nothing was written");
    ended_with(&enrol_as(&cluster, &token, NODE, &pin), 0).unwrap();
    refused_because(&enrol_as(&cluster, &token, NODE, &pin), "a token serves once");
    let listed = cluster.cli(&["token", "ls", "--nodes", "-o", "json"]).unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("\"used\"") && !listed.contains("sifleet_enrol_"), "{listed}");
    cluster.start_agent(NODE).unwrap();
    cluster.wait_for_state(NODE, "online").unwrap();
    let log = cluster.log(COORDINATOR) + &cluster.log(NODE);
    assert!(!log.contains(token["tokens"][0]["secret"].as_str().unwrap()), "no log holds the secret");
}

#[test]
fn a_thousand_guesses_of_a_token_let_nobody_in_and_keep_no_answer_waiting() {
    let cluster = cluster("threat_guesses", "");
    let token = token(&cluster);
    let secret = token["tokens"][0]["secret"].as_str().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let files = sifleet_agent::settings::Tls {
        authority: tls(&cluster, "guess-ca.pem"),
        certificate: tls(&cluster, "guess.pem"),
        key: tls(&cluster, "guess.key"),
    };
    let request = |guess: u32| Request {
        coordinator: cluster.control(),
        token: Secret(format!("{}{guess:08x}", &secret[..secret.len() - 8])),
        pin: token["ca_pin"].as_str().unwrap().parse().unwrap(),
        name: None,
    };
    let mut slowest = Duration::ZERO;
    for first in (0..1_000).step_by(25) {
        let guesses = (first..first + 25).map(|guess| enrol(request(guess), &files));
        for answer in runtime.block_on(futures_util::future::join_all(guesses)) {
            assert!(matches!(answer, Err(EnrolError::Refused { .. })), "{answer:?}");
        }
        let asked = Instant::now();
        cluster.get("/v1/nodes").unwrap();
        slowest = slowest.max(asked.elapsed());
    }
    assert!(!files.certificate.exists());
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    // The address has to wait, and whoever has the token need not.
    let asked = runtime.block_on(enrol(request(1_000), &files)).unwrap_err().to_string();
    assert!(asked.contains("too many wrong tokens"), "{asked}");
    let output = enrol_as(&cluster, &token, NODE, token["ca_pin"].as_str().unwrap());
    ended_with(&output, 0).unwrap();
}

#[test]
fn a_revoked_node_is_cut_off_within_five_seconds_and_its_old_certificate_never_counts_again() {
    let mut cluster = cluster("threat_revoked", "");
    enrol_it(&cluster);
    SifBuilder::new().payload_bytes(100_000, 1).write(cluster.root(NODE).join("a.sif")).unwrap();
    cluster.start_agent(NODE).unwrap();
    cluster.wait_for_nodes("a", "viz", &[("ready", NODE)]).unwrap();
    let asked = Instant::now();
    ended_with(&cluster.cli(&["node", "revoke", NODE]).unwrap(), 0).unwrap();
    cluster.wait_for_nodes("a", "viz", &[("unknown", NODE)]).unwrap();
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    let told = || {
        let log = cluster.log(NODE);
        let again = log.matches("connected to the coordinator").count() > 2;
        if again && log.contains("this node was revoked") { Ok(()) } else { Err(log.len()) }
    };
    until("the agent comes back and is turned away", LIMIT, told).unwrap();
    assert_eq!(cluster.availability("a", "viz").unwrap()["nodes"]["unknown"], NODE);
    let stolen =
        [fs::read(tls(&cluster, "viz001.pem")).unwrap(), fs::read(tls(&cluster, "viz001.key")).unwrap()];

    cluster.stop(NODE).unwrap();
    enrol_it(&cluster);
    cluster.start_agent(NODE).unwrap();
    cluster.wait_for_nodes("a", "viz", &[("ready", NODE)]).unwrap();

    cluster.stop(NODE).unwrap();
    let good =
        [fs::read(tls(&cluster, "viz001.pem")).unwrap(), fs::read(tls(&cluster, "viz001.key")).unwrap()];
    assert_ne!(good, stolen);
    let put = |[certificate, key]: &[Vec<u8>; 2]| {
        fs::write(tls(&cluster, "viz001.pem"), certificate).unwrap();
        fs::write(tls(&cluster, "viz001.key"), key).unwrap();
    };
    put(&stolen);
    let before = cluster.log(NODE).matches("this node was revoked").count();
    cluster.start_agent(NODE).unwrap();
    let refused = || {
        let now = cluster.log(NODE).matches("this node was revoked").count();
        if now > before { Ok(()) } else { Err(now) }
    };
    until("the old enrolment is turned away", LIMIT, refused).unwrap();
    assert_eq!(cluster.availability("a", "viz").unwrap()["nodes"]["ready"], "");
}

#[test]
fn a_certificate_that_ran_out_while_the_node_was_off_is_renewed_once_and_a_revoked_one_is_not() {
    let mut cluster = cluster("threat_expired", "certificate_life = \"60s\"\n");
    enrol_it(&cluster);
    let first = fs::read(tls(&cluster, "viz001.pem")).unwrap();
    let begun = Instant::now();
    let over = || if begun.elapsed() > Duration::from_secs(62) { Ok(()) } else { Err("it holds") };
    until("the certificate runs out", 2 * LIMIT, over).unwrap();
    cluster.start_agent(NODE).unwrap();
    cluster.wait_for_state(NODE, "online").unwrap();
    assert_ne!(fs::read(tls(&cluster, "viz001.pem")).unwrap(), first, "it has another one");
    let log = cluster.log(COORDINATOR);
    assert!(log.contains("ran out at"), "the old one was refused for a session: {log}");
}

#[test]
fn one_authority_takes_over_from_another_under_questions_without_one_wrong_answer() {
    let mut cluster = cluster("threat_rollover", "");
    enrol_it(&cluster);
    SifBuilder::new().payload_bytes(100_000, 1).write(cluster.root(NODE).join("a.sif")).unwrap();
    cluster.start_agent(NODE).unwrap();
    cluster.wait_for_nodes("a", "viz", &[("ready", NODE)]).unwrap();
    let done = AtomicBool::new(false);
    let read = |end: &str| fs::read_to_string(tls(&cluster, end)).unwrap_or_default();
    let asked = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0_u32;
            while !done.load(Ordering::Relaxed) {
                let answer = cluster.availability("a", "viz").unwrap();
                assert_eq!(answer["verdict"], "ready", "{answer}");
                asked += 1;
            }
            asked
        });
        let trusted = |count: usize| {
            let what = format!("the node trusts {count}");
            let has = || {
                let found = read("ca.pem").matches("BEGIN").count();
                if found == count { Ok(()) } else { Err(found) }
            };
            until(&what, LIMIT, has).unwrap();
        };
        ca(&cluster, "next");
        reload(&cluster);
        trusted(2);
        let before = read("viz001.pem");
        ca(&cluster, "switch");
        reload(&cluster);
        let renewed = || if read("viz001.pem") == before { Err("the old one") } else { Ok(()) };
        until("the node has a certificate of the new authority", LIMIT, renewed).unwrap();
        ca(&cluster, "retire");
        reload(&cluster);
        trusted(1);
        done.store(true, Ordering::Relaxed);
        asking.join().unwrap()
    });
    assert!(asked > 100, "{asked}");
    cluster.stop(NODE).unwrap();
    cluster.start_agent(NODE).unwrap();
    cluster.wait_for_nodes("a", "viz", &[("ready", NODE)]).unwrap();
}
