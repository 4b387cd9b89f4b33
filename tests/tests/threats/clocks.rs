//! Clocks that are set while everything runs: certificates hold by them, answers and leases must not.
//!
//! libfaketime moves the wall clock of single processes and leaves the others alone. Outside facts: its README
//! (`FAKETIME_TIMESTAMP_FILE`, `FAKETIME_NO_CACHE`, `FAKETIME_DONT_FAKE_MONOTONIC`, `NO_FAKE_STAT`).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use sifleet_common::clock::Clock;
use sifleet_common::tls::{node_identity, read_certificates};
use sifleet_tests::cluster::{COORDINATOR, Cluster, LIMIT, Plan, ended_with};
use sifleet_tests::programs::{self, find, missing};
use sifleet_tests::sif::SifBuilder;
use sifleet_tests::wait::until;

const ON: &str = "viz001";
const OFF: &str = "viz002";
const HOURS: i64 = 25;
const HOUR_MS: i64 = 3_600_000;
/// An agent asks for its certificate once a minute at most, and the coordinator looks at those of sessions as often.
const MINUTES: Duration = LIMIT.saturating_mul(3);

/// A cluster whose programs each have a clock of their own, with certificates of a day.
struct Site {
    cluster: Cluster,
}

impl Site {
    /// Starts the coordinator, enrols both nodes; none if there is no libfaketime.
    fn start(test: &str, name: &'static str) -> Option<Self> {
        let Some(library) = library() else {
            assert!(missing(test, "faketime is missing"), "nothing else is done about it");
            return None;
        };
        let lease = Duration::from_secs(4);
        let partitions = BTreeMap::from([("viz", "viz[001-002]")]);
        let plan = Plan { name, partitions, nodes: vec![ON, OFF], library: None, lease };
        let mut site = Self { cluster: Cluster::lay_out(plan).unwrap() };
        for program in [COORDINATOR, ON, OFF] {
            site.set(program, 0);
            let clock = site.clock(program).display().to_string();
            let words = [
                "env",
                &format!("LD_PRELOAD={library}"),
                &format!("FAKETIME_TIMESTAMP_FILE={clock}"),
                "FAKETIME_NO_CACHE=1",
                "FAKETIME_DONT_FAKE_MONOTONIC=1",
                "DONT_FAKE_MONOTONIC=1",
                "NO_FAKE_STAT=1",
            ];
            site.cluster.start_under(program, words.map(str::to_owned).to_vec());
        }
        site.cluster.start_coordinator().unwrap();
        for node in [ON, OFF] {
            site.enrol(node);
            SifBuilder::new().payload_bytes(100_000, 1).write(site.cluster.root(node).join("a.sif")).unwrap();
        }
        Some(site)
    }

    fn clock(&self, program: &str) -> PathBuf {
        self.cluster.folder().join(format!("{program}.clock"))
    }

    /// Sets the clock of a program so many hours ahead.
    fn set(&self, program: &str, hours: i64) {
        let (clock, new) = (self.clock(program), self.cluster.folder().join("clock.new"));
        fs::write(&new, format!("+{hours}h\n")).unwrap();
        fs::rename(new, clock).unwrap();
    }

    fn tls(&self, node: &str, end: &str) -> PathBuf {
        self.cluster.folder().join("nodes").join(node).join("tls").join(format!("{node}.{end}"))
    }

    fn enrol(&self, node: &str) {
        let settings = self.cluster.folder().join(format!("{node}.toml"));
        let of_node = fs::read_to_string(&settings).unwrap();
        let ca = self.cluster.folder().join("ca").display().to_string();
        let own = self.cluster.folder().join("nodes").join(node).join("tls").display().to_string();
        let of_node = of_node.replace(&format!("{ca}/nodes/"), &format!("{own}/")).replace(&ca, &own);
        fs::write(&settings, of_node).unwrap();
        let made = self.cluster.cli(&["token", "create", "--nodes", node, "-o", "json"]).unwrap();
        ended_with(&made, 0).unwrap();
        let token: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
        let file = self.cluster.folder().join("token");
        fs::write(&file, token["tokens"][0]["secret"].as_str().unwrap()).unwrap();
        let mut agent = Command::new(programs::own("sifleet-agent").unwrap());
        agent.arg("--config").arg(settings).args(["enrol", "--node", node, "--token-file"]).arg(file);
        agent.args(["--coordinator", &self.cluster.control()]);
        agent.args(["--ca-pin", token["ca_pin"].as_str().unwrap()]);
        ended_with(&agent.output().unwrap(), 0).unwrap();
    }

    /// Tells for how many hours from now, by this process's clock, a node's certificate holds.
    fn holds_for(&self, node: &str) -> i64 {
        let chain = read_certificates(&self.tls(node, "pem"), "certificate").unwrap();
        let until = node_identity(&chain[0]).unwrap().not_after;
        (until.0 - Clock::start().now().wall.0) / HOUR_MS
    }

    /// Tells of what the coordinator warns about a node.
    fn warnings(&self, node: &str) -> String {
        self.cluster.get(&format!("/v1/nodes/{node}")).unwrap()["summary"].to_string()
    }
}

/// Finds the library that goes with the program `faketime`, as the program itself does.
fn library() -> Option<String> {
    let shown =
        Command::new(find("faketime")?).args(["-m", "-f", "+0", "printenv", "LD_PRELOAD"]).output().ok()?;
    let text = String::from_utf8(shown.stdout).ok()?;
    text.split([':', ' ', '\n']).find(|path| path.contains("faketime")).map(str::to_owned)
}

#[test]
fn when_all_clocks_move_by_25_hours_certificates_are_renewed_and_no_answer_is_wrong() {
    let test = "when_all_clocks_move_by_25_hours_certificates_are_renewed_and_no_answer_is_wrong";
    let Some(mut site) = Site::start(test, "threat_clocks_all") else { return };
    for node in [ON, OFF] {
        site.cluster.start_agent(node).unwrap();
    }
    site.cluster.wait_for_nodes("a", "viz", &[("ready", "viz[001-002]")]).unwrap();
    assert_eq!(site.holds_for(ON), 23, "a day from now on");
    site.cluster.stop(OFF).unwrap();
    site.cluster.wait_for_nodes("a", "viz", &[("unknown", OFF)]).unwrap();
    // What lies there meanwhile nobody has told of: it must not be taken for ready, nor the image of the other node for gone.
    fs::remove_file(site.cluster.root(OFF).join("a.sif")).unwrap();

    for program in [COORDINATOR, ON, OFF] {
        site.set(program, HOURS);
    }
    let renewed = || {
        let answer = site.cluster.availability("a", "viz").unwrap();
        assert!(!answer["nodes"]["ready"].as_str().unwrap().contains("002"), "{answer}");
        assert_ne!(answer["nodes"]["missing"], ON, "{answer}");
        match site.holds_for(ON) {
            hours if hours > HOURS => Ok(()),
            hours => Err(format!("it holds for {hours} hours; {answer}")),
        }
    };
    until("the connected node has a certificate of today", MINUTES, renewed).unwrap();
    site.cluster.wait_for_nodes("a", "viz", &[("ready", ON), ("unknown", OFF)]).unwrap();
    site.cluster.start_agent(OFF).unwrap();
    site.cluster.wait_for_nodes("a", "viz", &[("ready", ON), ("missing", OFF), ("unknown", "")]).unwrap();
    assert!(site.holds_for(OFF) > HOURS, "renewed although it had run out");
    let log = site.cluster.log(COORDINATOR);
    assert!(log.contains(&format!("the certificate of {OFF} ran out")), "it was not let in before: {log}");
}

#[test]
fn when_one_clock_is_25_hours_ahead_it_is_told_of_and_the_node_goes_on() {
    let test = "when_one_clock_is_25_hours_ahead_it_is_told_of_and_the_node_goes_on";
    let Some(mut site) = Site::start(test, "threat_clocks_one") else { return };
    for node in [ON, OFF] {
        site.cluster.start_agent(node).unwrap();
    }
    site.cluster.wait_for_nodes("a", "viz", &[("ready", "viz[001-002]")]).unwrap();
    site.set(ON, HOURS);
    let told = |site: &Site, wanted: bool| {
        let summary = site.warnings(ON);
        let ahead = summary.split_once("its clock is ").and_then(|(_, rest)| rest.split_once(" s ahead"));
        let seconds = ahead.and_then(|(seconds, _)| seconds.parse::<u64>().ok());
        // 25 hours, but for what passed between two readings.
        let is = seconds.is_some_and(|seconds| (89_900..=90_000).contains(&seconds));
        if is == wanted { Ok(()) } else { Err(summary) }
    };
    until("the node and the amount are told", MINUTES, || told(&site, true)).unwrap();
    assert!(!site.warnings(OFF).contains("its clock"), "{}", site.warnings(OFF));
    let log = site.cluster.log(COORDINATOR);
    let line = log.lines().find(|line| line.contains("its clock is")).unwrap_or_default();
    assert!(line.contains(ON), "{log}");
    // No clock of a node decides anything: it is believed as before, and what it says next is.
    fs::remove_file(site.cluster.root(ON).join("a.sif")).unwrap();
    site.cluster.wait_for_nodes("a", "viz", &[("missing", ON), ("ready", OFF)]).unwrap();
    // By its own clock its certificate has run out; the coordinator's clock is what counts.
    site.cluster.stop(ON).unwrap();
    site.cluster.start_agent(ON).unwrap();
    site.cluster.wait_for_nodes("a", "viz", &[("missing", ON), ("ready", OFF)]).unwrap();

    site.set(ON, 0);
    until("all is well once the clock is right", MINUTES, || told(&site, false)).unwrap();
    SifBuilder::new().payload_bytes(100_000, 1).write(site.cluster.root(ON).join("a.sif")).unwrap();
    site.cluster.wait_for_nodes("a", "viz", &[("ready", "viz[001-002]")]).unwrap();
}
