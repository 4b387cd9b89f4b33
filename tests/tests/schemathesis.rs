//! schemathesis asks whatever the OpenAPI document allows and forbids: nothing may be answered that it does not describe.
//!
//! A real coordinator with nodes is asked, once by somebody without a token and once by an administrator. Streams of events have no
//! end, so they are left out here and checked by `tests/tests/http/streams.rs`.

#![cfg(test)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sifleet_tests::cluster::{Cluster, Plan};
use sifleet_tests::programs::missing;
use sifleet_tests::python;
use sifleet_tests::sif::SifBuilder;

/// Requests for each operation and phase.
const EXAMPLES: &str = "60";

fn cluster() -> Cluster {
    let mut cluster = Cluster::lay_out(Plan {
        name: "schemathesis",
        partitions: BTreeMap::from([("viz", "viz001"), ("head", "head")]),
        nodes: vec!["head", "viz001"],
        library: Some("head"),
        lease: Duration::from_secs(60),
    })
    .unwrap();
    cluster.start_all().unwrap();
    fs::write(cluster.root("viz001").join("vnc_desktop.sif"), SifBuilder::new().bytes()).unwrap();
    cluster
}

/// Runs schemathesis, and returns what it found, empty if nothing.
fn faults(programs: &Path, cluster: &Cluster, caller: Option<&str>) -> String {
    let mut command = Command::new(programs.join("schemathesis"));
    command.current_dir(cluster.folder()).args(["run", &format!("{}/openapi.json", cluster.url())]);
    command.args(["--checks", "all", "--seed", "7", "--max-examples", EXAMPLES]);
    command.args(["--request-timeout", "10", "--continue-on-failure", "--warnings", "off"]);
    command.args(["--exclude-path-regex", "/events$"]);
    // What makes a node set, an image's name or a network no schema says; who sends another is told why with 400.
    command.args(["--exclude-checks", "positive_data_acceptance"]);
    if let Some(bearer) = caller {
        command.args(["--header", &format!("Authorization: {bearer}")]);
        // It guesses tokens, is told to wait, and expects otherwise; who gets past is tried in `http/roles.rs`.
        command.args(["--exclude-checks", "positive_data_acceptance,ignored_auth"]);
    }
    let output = command.output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    anstream::eprintln!("{}", said.lines().rfind(|line| line.contains(" generated")).unwrap_or_default());
    if output.status.success() { String::new() } else { said }
}

#[test]
fn schemathesis_finds_no_answer_that_is_not_described_with_and_without_a_token() {
    let programs = match python::environment("schemathesis") {
        Ok(programs) => programs,
        Err(why) => {
            assert!(missing("schemathesis", &format!("{why:#}")));
            return;
        }
    };
    let cluster = cluster();
    let without = faults(&programs, &cluster, None);
    assert!(without.is_empty(), "{without}");
    let with = faults(&programs, &cluster, Some(&cluster.bearer()));
    assert!(with.is_empty(), "{with}");
    assert!(cluster.get("/v1/tokens").is_ok(), "the token counts no longer: it was asked without one");
}
