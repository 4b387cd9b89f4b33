//! The coordinator beside a real Slurm: it learns partitions from slurmctld, and survives its absence.
//!
//! `lab/slurm.sh` makes a Debian root with Slurm below `target/lab` and brings six nodes up in namespaces of their
//! own. That takes root, debootstrap and a Debian mirror: without them the test skips and says so, except in CI.
//! SIFLEET_SLURM_SUITES names the Debian releases to test with, `bookworm` (Slurm 22.05) by default.

#![cfg(test)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use sifleet_tests::programs::{find, missing, own};

/// Far above what anything here takes; only a failure waits for so long.
const LONG: Duration = Duration::from_secs(60);

/// A cluster that is up; it ends with this.
struct Lab {
    outer: Child,
    /// The first process inside, as seen from outside.
    inner: Pid,
}

impl Lab {
    fn up(suite: &str, show: &[&Path]) -> Result<Self, String> {
        let root = root(suite)?;
        let shown: Vec<_> = show.iter().map(|path| path.to_str().unwrap()).collect();
        let mut outer = script()
            .arg("up")
            .arg(root)
            .env("BIND", shown.join(":"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(outer.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "up\n", "the cluster did not come up");
        let inner = child_of(outer.id()).expect("the cluster has a first process");
        Ok(Self { outer, inner })
    }

    /// Makes a command that runs inside.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.inner.to_string());
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd", "--"]).arg(program);
        command
    }

    fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.command(program).args(args).output().unwrap();
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Sends a signal to the controller, and to nothing else.
    fn signal_controller(&self, signal: &str) {
        let pid = self.run("cat", &["/run/slurmctld.pid"]);
        self.run("kill", &[signal, pid.trim()]);
    }

    /// Gets a page of the coordinator inside.
    fn get(&self, path: &str) -> Option<Value> {
        let network = fs::File::open(format!("/proc/{}/ns/net", self.inner)).unwrap();
        // Only this thread moves into the other network.
        std::thread::scope(|scope| {
            let request = scope.spawn(|| {
                move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                drop(TcpStream::connect("127.0.0.1:7440").ok()?);
                let agent: ureq::Agent =
                    ureq::Agent::config_builder().timeout_global(Some(LONG)).build().into();
                agent.get(format!("http://127.0.0.1:7440{path}")).call().ok()?.body_mut().read_json().ok()
            });
            request.join().unwrap()
        })
    }

    /// Waits until the partitions are as wanted.
    fn await_partitions(&self, what: &str, wanted: impl Fn(&Partitions) -> bool) -> Partitions {
        let deadline = Instant::now() + LONG;
        loop {
            let seen = self.get("/v1/partitions").map(Partitions::from).unwrap_or_default();
            if wanted(&seen) {
                return seen;
            }
            assert!(Instant::now() < deadline, "{what}: still {seen:?}");
            // Half of the shortest interval of anything here: nothing tells when an answer will change.
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Its standard input ends, and with it the first process inside, and with that everything inside.
        drop(self.outer.stdin.take());
        self.outer.wait().ok();
    }
}

/// What the coordinator says of partitions: nodes, and where and when it heard of them.
#[derive(Debug, Default)]
struct Partitions {
    nodes: BTreeMap<String, String>,
    source: String,
    as_of: String,
    stale: bool,
}

impl From<Value> for Partitions {
    fn from(body: Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let all = body["partitions"].as_array().unwrap();
        let membership = all.first().map(|partition| &partition["membership"]).cloned().unwrap_or_default();
        Self {
            nodes: all
                .iter()
                .map(|partition| (text(&partition["name"]), text(&partition["nodes"])))
                .collect(),
            source: membership["source"].as_str().unwrap_or_default().into(),
            as_of: membership["as_of"].as_str().unwrap_or_default().into(),
            stale: membership["stale"].as_bool().unwrap_or_default(),
        }
    }
}

fn script() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/slurm.sh"))
}

/// Makes the root directory of a Debian release with Slurm, once for all runs.
fn root(suite: &str) -> Result<PathBuf, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root can run a cluster in namespaces".into());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../target/lab/slurm-{suite}"));
    if !root.join(".complete").exists() && find("debootstrap").is_none() {
        return Err("debootstrap is not installed (Debian: apt install debootstrap)".into());
    }
    fs::create_dir_all(root.parent().unwrap()).unwrap();
    let output = script().arg("make").arg(&root).arg(suite).output().unwrap();
    if output.status.success() {
        Ok(root.canonicalize().unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

fn child_of(parent: u32) -> Option<Pid> {
    let is_child = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name before it may hold anything; what follows its last bracket is state, then parent.
        let after = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse::<u32>().ok()?;
        (after == parent).then_some(pid)
    };
    let entries =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    entries.filter_map(|name| is_child(name.parse().ok()?)).find_map(Pid::from_raw)
}

/// A coordinator inside the cluster, ended like a service when dropped.
struct Coordinator(Child);

impl Coordinator {
    fn start(lab: &Lab, binary: &Path, config: &Path) -> Self {
        Self(lab.command(binary).arg("--config").arg(config).spawn().unwrap())
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        // nsenter only waits for what it runs.
        if let Some(pid) = child_of(self.0.id()) {
            kill_process(pid, Signal::TERM).ok();
        }
        let ended = self.0.wait().unwrap();
        assert!(ended.success() || std::thread::panicking(), "the coordinator ended with {ended}");
    }
}

const SETTINGS: &str = r#"
state_dir = "DIR/state"
log = { output = "stderr" }
http = { anonymous = "viewer" }
[partitions]
slurm = true
slurm_interval = "200ms"
slurm_timeout = "2s"
"#;

#[test]
fn partitions_follow_slurm_and_outlive_it() {
    let suites = std::env::var("SIFLEET_SLURM_SUITES").unwrap_or_else(|_| "bookworm".into());
    for suite in suites.split(',') {
        // Not below /tmp, which is another one inside.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let binary = own("sifleet-coordinator").unwrap();
        match Lab::up(suite, &[dir.path(), binary.parent().unwrap()]) {
            Ok(lab) => scenario(&lab, dir.path(), &binary),
            Err(reason) => {
                assert!(missing("partitions_follow_slurm_and_outlive_it", &format!("{suite}: {reason}")))
            }
        }
    }
}

fn scenario(lab: &Lab, dir: &Path, binary: &Path) {
    let config = dir.join("coordinator.toml");
    fs::write(&config, SETTINGS.replace("DIR", dir.to_str().unwrap())).unwrap();
    let made = Command::new(binary).arg("--config").arg(&config).args(["ca", "init"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let running = Coordinator::start(lab, binary, &config);
    let everything = BTreeMap::from(
        [
            ("compute", "compute[001-004]"),
            ("empty", ""),
            ("night", "compute004"),
            ("shared", "compute[001-002],viz001"),
            ("staff", "viz002"),
            ("viz", "viz[001-002]"),
        ]
        .map(|(partition, nodes)| (partition.to_owned(), nodes.to_owned())),
    );
    let seen =
        lab.await_partitions("all partitions, hidden and empty ones too", |seen| seen.nodes == everything);
    assert_eq!((seen.source.as_str(), seen.stale), ("slurm", false));

    lab.run("scontrol", &["update", "PartitionName=viz", "Nodes=viz001"]);
    lab.await_partitions("a change of membership", |seen| seen.nodes["viz"] == "viz001" && !seen.stale);
    let mut changed = everything.clone();
    changed.insert("viz".into(), "viz001".into());

    // A controller that hangs: sinfo never ends by itself.
    lab.signal_controller("-STOP");
    let stale = lab.await_partitions("a hanging slurmctld", |seen| seen.stale);
    assert_eq!(stale.nodes, changed, "the last known membership is kept");
    let later = lab.await_partitions("still hanging", |seen| seen.stale);
    assert_eq!(later.as_of, stale.as_of, "its age is that of the last answer");
    lab.signal_controller("-CONT");
    lab.await_partitions("slurmctld goes on", |seen| !seen.stale && seen.as_of > stale.as_of);

    // A controller that is gone, and a coordinator that starts meanwhile.
    lab.signal_controller("-KILL");
    lab.await_partitions("a dead slurmctld", |seen| seen.stale && seen.nodes == changed);
    drop(running);
    assert!(lab.get("/readyz").is_none());
    let running = Coordinator::start(lab, binary, &config);
    let restored = lab.await_partitions("a restart", |seen| seen.nodes == changed);
    assert!(restored.stale, "nobody has confirmed it since");

    lab.run("slurmctld", &[]);
    // What scontrol changed lived in the controller's memory; its configuration counts again.
    lab.await_partitions("slurmctld is back", |seen| !seen.stale && seen.nodes == everything);
    drop(running);
    assert_no_sinfo_is_left(lab);
}

/// Nothing that hung is left behind.
fn assert_no_sinfo_is_left(lab: &Lab) {
    let mut listed = lab.command("ps").args(["-e", "-o", "comm="]).stdout(Stdio::piped()).spawn().unwrap();
    let mut processes = String::new();
    listed.stdout.take().unwrap().read_to_string(&mut processes).unwrap();
    listed.wait().unwrap();
    assert!(processes.contains("slurmctld") && !processes.contains("sinfo"), "{processes}");
}
