//! A whole cluster on loopback: real processes, real certificates, real disks, one folder.
//!
//! Every node has its roots below `nodes/NAME`. Nothing outlives the [`Cluster`] but its folder, which is made
//! anew by the next one of the same name.

mod layout;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sifleet_common::role::Role;

use crate::callers::Callers;
use crate::programs;
use crate::wait::until;

/// How long anything may take that should take a moment; loaded machines are slow.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What a cluster looks like.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Names the cluster's folder.
    pub name: &'static str,
    /// Partitions and their nodes.
    pub partitions: BTreeMap<&'static str, &'static str>,
    /// Every node that has an agent.
    pub nodes: Vec<&'static str>,
    /// The node whose agent watches the library, if any.
    pub library: Option<&'static str>,
    /// How long a silent agent is believed.
    pub lease: Duration,
}

/// A running cluster.
pub struct Cluster {
    plan: Plan,
    folder: PathBuf,
    /// Held while it is used: another one of the name would clear the folder.
    _lock: File,
    http: u16,
    control: u16,
    callers: Callers,
    running: BTreeMap<String, Child>,
    under: BTreeMap<String, Vec<String>>,
}

/// The name under which the coordinator runs.
pub const COORDINATOR: &str = "coordinator";

impl Cluster {
    /// Lays the cluster out on disk and makes its certificates; nothing runs yet.
    ///
    /// # Errors
    /// When a file cannot be written, or the authority cannot be made.
    pub fn lay_out(plan: Plan) -> anyhow::Result<Self> {
        let folder = programs::workspace().join("target").join("clusters").join(plan.name);
        fs::create_dir_all(&folder)?;
        let lock = File::create(folder.with_extension("lock"))?;
        ensure!(lock.try_lock().is_ok(), "{} runs already: end it first", folder.display());
        fs::remove_dir_all(&folder).with_context(|| format!("clear {}", folder.display()))?;
        fs::create_dir_all(folder.join("logs"))?;
        let (http, control) = (free_tcp_port()?, free_udp_port()?);
        let callers = Callers::new(&folder)?;
        let cluster = Self {
            plan,
            folder,
            _lock: lock,
            http,
            control,
            callers,
            running: BTreeMap::new(),
            under: BTreeMap::new(),
        };
        cluster.write_settings()?;
        cluster.make_certificates()?;
        Ok(cluster)
    }

    /// Lays a cluster out and starts all of it; returns when every node is online.
    ///
    /// # Errors
    /// When anything does not start.
    pub fn start(plan: Plan) -> anyhow::Result<Self> {
        let mut cluster = Self::lay_out(plan)?;
        cluster.start_all()?;
        Ok(cluster)
    }

    /// Starts everything that was laid out; returns when every node is online.
    ///
    /// # Errors
    /// When anything does not start.
    pub fn start_all(&mut self) -> anyhow::Result<()> {
        self.start_coordinator()?;
        for node in self.plan.nodes.clone() {
            self.start_agent(node)?;
        }
        for node in self.plan.nodes.clone() {
            self.wait_for_state(node, "online")?;
        }
        Ok(())
    }

    /// Returns the cluster's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns where the API answers.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// Returns the tokens of those who ask.
    #[must_use]
    pub fn callers(&self) -> &Callers {
        &self.callers
    }

    /// Returns what an administrator sends as `Authorization`.
    #[must_use]
    pub fn bearer(&self) -> String {
        self.callers.bearer(Role::Admin)
    }

    /// Returns where agents dial.
    #[must_use]
    pub fn control(&self) -> String {
        format!("127.0.0.1:{}", self.control)
    }

    /// Makes certificates for more nodes than have agents of their own.
    ///
    /// # Errors
    /// What the coordinator's program said.
    pub fn issue(&self, nodes: &str) -> anyhow::Result<()> {
        let mut program = Command::new(programs::own("sifleet-coordinator")?);
        program.arg("--config").arg(self.settings_path(COORDINATOR)).args(["ca", "issue-node", nodes]);
        let output = program.output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "ca issue-node {nodes}: {said}");
        Ok(())
    }

    /// Reads one number off `/metrics`; 0 if it is not there.
    ///
    /// # Errors
    /// As [`Cluster::get`].
    pub fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = self.get("/metrics")?;
        let lines = text.as_str().unwrap_or_default().lines();
        let values = lines.filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit(' ').next());
        Ok(values.filter_map(|value| value.parse::<f64>().ok()).sum())
    }

    /// Counts what the coordinator has on disk: a row count, as `SELECT count(*)` of `from` gives it.
    ///
    /// Steps become durable some milliseconds after they are answered for.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn count_stored(&self, from: &str) -> anyhow::Result<u32> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let database =
            rusqlite::Connection::open_with_flags(self.folder.join("state/coordinator.db"), flags)?;
        Ok(database.query_row(&format!("SELECT count(*) FROM {from}"), (), |row| row.get(0))?)
    }

    /// Returns the process number of a program.
    #[must_use]
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.running.get(name).map(Child::id)
    }

    /// Returns a node's first root, which stands for `/opt/apptainers`.
    #[must_use]
    pub fn root(&self, node: &str) -> PathBuf {
        self.folder.join("nodes").join(node).join("opt/apptainers")
    }

    /// Returns the library's folder, which stands for `/shared/apptainer/images`.
    #[must_use]
    pub fn library(&self) -> PathBuf {
        self.folder.join("library")
    }

    /// Returns what a program of the cluster has logged.
    #[must_use]
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.log_path(name)).unwrap_or_default()
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{name}.log"))
    }

    fn settings_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.toml"))
    }

    /// Starts the coordinator and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_coordinator(&mut self) -> anyhow::Result<()> {
        self.callers.introduce(&self.folder.join("state"))?;
        self.spawn(COORDINATOR, "sifleet-coordinator")?;
        let (answers, _) = until("the coordinator answers", LIMIT, || {
            if self.has_ended(COORDINATOR)? { Ok(false) } else { self.get("/readyz").map(|_answer| true) }
        })?;
        ensure!(answers, "the coordinator has ended:\n{}", self.log(COORDINATOR));
        Ok(())
    }

    /// Starts a node's agent.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_agent(&mut self, node: &str) -> anyhow::Result<()> {
        self.spawn(node, "sifleet-agent")
    }

    fn spawn(&mut self, name: &str, program: &str) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.log_path(name))?;
        // Whatever ends this process, nothing of it stays behind.
        let end: &[&str] =
            if programs::find("setpriv").is_some() { &["setpriv", "--pdeathsig", "KILL", "--"] } else { &[] };
        let end = || end.iter().map(|word| (*word).to_owned());
        let under = self.under.get(name).into_iter().flatten().cloned();
        let mut words: Vec<String> = end().chain(under).collect();
        if self.under.contains_key(name) {
            words.extend(end());
        }
        words.push(programs::own(program)?.display().to_string());
        let (first, rest) = words.split_first().context("no program")?;
        let mut command = Command::new(first);
        command.args(rest);
        let child = command
            .arg("--config")
            .arg(self.settings_path(name))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {program} for {name}"))?;
        self.running.insert(name.to_owned(), child);
        Ok(())
    }

    /// Has a program started by other words from now on, such as `strace` and its arguments; none: as it is.
    pub fn start_under(&mut self, name: &str, words: Vec<String>) {
        if words.is_empty() {
            self.under.remove(name);
        } else {
            self.under.insert(name.to_owned(), words);
        }
    }

    /// Tells whether a program has ended by itself.
    ///
    /// # Errors
    /// When it was not started, or cannot be asked.
    pub fn has_ended(&mut self, name: &str) -> anyhow::Result<bool> {
        let child = self.running.get_mut(name).with_context(|| format!("{name} does not run"))?;
        Ok(child.try_wait()?.is_some())
    }

    /// Kills a program with signal 9: no goodbye, nothing flushed.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let mut child = self.running.remove(name).with_context(|| format!("{name} does not run"))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Asks a program to stop, and waits for its end.
    ///
    /// # Errors
    /// When it does not run, or does not stop.
    pub fn stop(&mut self, name: &str) -> anyhow::Result<ExitStatus> {
        let mut child = self.running.remove(name).with_context(|| format!("{name} does not run"))?;
        kill_process(Pid::from_child(&child), Signal::TERM)?;
        let ended = || child.try_wait().ok().flatten().ok_or("it still runs");
        Ok(until(&format!("{name} stops"), LIMIT, ended)?.0)
    }

    /// Asks the API.
    ///
    /// # Errors
    /// When it does not answer, or answers with an error.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        let request = ureq::get(format!("{}{path}", self.url())).header("authorization", self.bearer());
        let text = request.call()?.body_mut().read_to_string()?;
        Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Asks where an image stands on a partition.
    ///
    /// # Errors
    /// As [`Cluster::get`].
    pub fn availability(&self, image: &str, partition: &str) -> anyhow::Result<Value> {
        self.get(&format!("/v1/availability?image={image}&partition={partition}"))
    }

    /// Waits until the answer's nodesets are these; returns how long it took.
    ///
    /// # Errors
    /// When they are not in time.
    pub fn wait_for_nodes(
        &self,
        image: &str,
        partition: &str,
        wanted: &[(&str, &str)],
    ) -> anyhow::Result<Duration> {
        let what = format!("{image} on {partition} becomes {wanted:?}");
        let (_, took) = until(&what, LIMIT, || {
            let answer = self.availability(image, partition).map_err(|error| format!("{error:#}"))?;
            let fits = wanted.iter().all(|(kind, nodes)| answer["nodes"][*kind] == **nodes);
            if fits { Ok(()) } else { Err(answer.to_string()) }
        })?;
        Ok(took)
    }

    /// Waits until a node is in a state.
    ///
    /// # Errors
    /// When it is not in time; the node's log is part of the error.
    pub fn wait_for_state(&self, node: &str, state: &str) -> anyhow::Result<Duration> {
        let seen = until(&format!("{node} becomes {state}"), LIMIT, || {
            let body = self.get(&format!("/v1/nodes/{node}")).map_err(|error| format!("{error:#}"))?;
            let is = body["summary"]["state"].clone();
            if is == state { Ok(()) } else { Err(is.to_string()) }
        });
        seen.map(|(_, took)| took).with_context(|| format!("{node} logged:\n{}", self.log(node)))
    }

    /// Prepares the command line to be run against this cluster.
    ///
    /// # Errors
    /// When the program cannot be built.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut cli = Command::new(programs::own("sifleet")?);
        cli.args(arguments).env("SIFLEET_URL", self.url()).env_remove("CLICOLOR_FORCE");
        cli.env("SIFLEET_TOKEN_FILE", self.callers.file(Role::Admin));
        Ok(cli)
    }

    /// Runs the command line against this cluster.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn cli(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        self.command(arguments)?.output().context("run sifleet")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (_, mut child) in std::mem::take(&mut self.running) {
            // A program that ended by itself cannot be killed; either way it is gone afterwards.
            drop(child.kill().and_then(|()| child.wait()));
        }
    }
}

/// Asks for a port that is free at this moment; nothing else on the machine is likely to take it at once.
fn free_tcp_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn free_udp_port() -> anyhow::Result<u16> {
    Ok(UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Fails with what the command line said unless it ended with `code`.
///
/// # Errors
/// When it did not.
pub fn ended_with(output: &Output, code: i32) -> anyhow::Result<()> {
    if output.status.code() != Some(code) {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("ended with {}, not {code}: {said}", output.status);
    }
    Ok(())
}
