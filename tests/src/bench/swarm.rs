//! How long an image takes to many nodes, each behind a link of its own: coordinator, head agent and agents as real
//! processes in namespaces, links shaped both ways.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use sifleet_common::role::Role;
use sifleet_common::time::UnixMillis;

use super::process;
use super::report::number;
use crate::callers::Callers;
use crate::lan::{Lan, Link};
use crate::programs;
use crate::sif::SifBuilder;
use crate::wait::{pause, until};

/// How long the cluster may take to come up.
const UP: Duration = Duration::from_secs(60);
/// Name of the image.
pub const IMAGE: &str = "bench.sif";
/// Name of the one that nodes have already.
const OLD: &str = "bench_old.sif";

/// What is measured.
#[derive(Clone, Debug)]
pub struct World {
    /// The image that is pushed, and one that every node has already; absent: one of `size` that nobody knows.
    pub images: Option<[PathBuf; 2]>,
    /// Nodes that want the image; one more has it.
    pub nodes: usize,
    /// Bytes of the image.
    pub size: u32,
    /// Bits a second of every link.
    pub rate: u64,
    /// Nodes whose links have a fifth of that.
    pub slow: usize,
    /// Nodes that are killed when half of the time has passed.
    pub kill: usize,
    /// Nodes that lose one packet in a hundred.
    pub lossy: usize,
    /// Largest packet that the network takes, in bytes.
    pub mtu: u32,
}

impl Default for World {
    /// 128 MiB to four nodes behind 100 Mbit/s, and nothing goes wrong.
    fn default() -> Self {
        Self {
            images: None,
            nodes: 4,
            size: 128 << 20,
            rate: 100_000_000,
            slow: 0,
            kill: 0,
            lossy: 0,
            mtu: 1_500,
        }
    }
}

/// How it went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Until the last node at full rate had the image, as a multiple of the time of one link.
    pub last: f64,
    /// Until half of them had it.
    pub median: f64,
    /// Until the last slow node had it, as a multiple of its own link's time.
    pub slow: Option<f64>,
    /// The same in seconds.
    pub seconds: f64,
    /// Bytes that a node received from the network on the average, headers and all else included.
    pub received: f64,
    /// Bytes that the first source sent, as a multiple of the image's.
    pub egress: f64,
    /// Bytes of one of its packets, on the average.
    pub packet: f64,
    /// Processor time of all agents for each 10⁹ bytes delivered.
    pub cpu_per_gb: f64,
    /// Most memory of any agent, in MiB.
    pub memory: f64,
    /// Bytes fetched twice, as a share of those delivered.
    pub wasted: f64,
    /// How busy the machine was, of all its processors.
    pub busy: f64,
}

/// A cluster in a shaped network.
pub struct Swarm {
    world: World,
    folder: PathBuf,
    callers: Callers,
    lan: Lan,
    coordinator: Child,
    agents: Vec<(String, Child)>,
}

impl Drop for Swarm {
    fn drop(&mut self) {
        for child in self.agents.iter_mut().map(|(_, child)| child).chain([&mut self.coordinator]) {
            // A program that ended by itself cannot be killed; either way it is gone afterwards.
            drop(child.kill().and_then(|()| child.wait()));
        }
    }
}

/// The host with coordinator, library and first source.
pub const HEAD: &str = "head";

impl Swarm {
    /// Starts a cluster in which only the head has the image.
    ///
    /// # Errors
    /// When anything does not start.
    pub fn start(world: World) -> anyhow::Result<Self> {
        let folder = programs::workspace().join("target/clusters/swarm");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(folder.join("library"))?;
        let mut lan = Lan::new()?;
        let link = Link { rate: Some(world.rate), mtu: world.mtu, loss: 0 };
        let head = lan.add(HEAD, link)?;
        let names: Vec<String> = (1..=world.nodes).map(|n| format!("n{n:03}")).collect();
        for (at, name) in names.iter().enumerate() {
            let rate = if at < world.slow { world.rate / 5 } else { world.rate };
            let loss = u32::from(at >= world.slow && at < world.slow + world.lossy);
            lan.add(name, Link { rate: Some(rate), loss, ..link })?;
        }
        let image = folder.join("library").join(IMAGE);
        match &world.images {
            Some([new, _old]) => fs::copy(new, &image).map(drop)?,
            None => SifBuilder::new().payload_bytes(world.size, 7).write(&image)?,
        }
        let callers = Callers::new(&folder)?;
        callers.introduce(&folder.join("state"))?;
        let coordinator = start_coordinator(&lan, &folder, &head, &names)?;
        let mut swarm = Self { world, folder, callers, lan, coordinator, agents: Vec::new() };
        for name in std::iter::once(HEAD.to_owned()).chain(names) {
            let child = swarm.start_agent(&name, &head)?;
            swarm.agents.push((name, child));
        }
        let all = swarm.world.nodes + 1;
        until(&format!("{all} nodes online"), UP, || {
            let nodes = swarm.get("/v1/nodes")?;
            let nodes = nodes["nodes"].as_array().cloned().unwrap_or_default();
            let online = nodes.iter().filter(|node| node["state"] == "online").count();
            ensure!(online == all, "{online} nodes are online");
            anyhow::Ok(())
        })?;
        until("the library is known", UP, || {
            let known = swarm.get(&format!("/v1/images/{IMAGE}"))?;
            ensure!(known["summary"]["count"] == 1, "{known}");
            if swarm.world.images.is_some() {
                let known = swarm.get(&format!("/v1/images/{OLD}"))?;
                ensure!(known["summary"]["count"] == swarm.world.nodes, "{known}");
            }
            anyhow::Ok(())
        })?;
        Ok(swarm)
    }

    fn start_agent(&self, name: &str, head: &str) -> anyhow::Result<Child> {
        let folder = self.folder.display();
        let root = self.folder.join("nodes").join(name).join("root");
        fs::create_dir_all(&root)?;
        if let Some([_new, old]) = self.world.images.as_ref().filter(|_| name != HEAD) {
            fs::copy(old, root.join(OLD))?;
        }
        let library = if name == HEAD {
            format!("[[root]]\npath = \"{folder}/library\"\nlibrary = true\n")
        } else {
            String::new()
        };
        let filter = std::env::var("SIFLEET_BENCH_LOG").unwrap_or_else(|_unset| "info".to_owned());
        let settings = format!(
            "coordinators = [\"{head}:7441\"]\nstate_dir = \"{folder}/nodes/{name}/state\"\n\
             [log]\nfilter = \"{filter}\"\n[transfer]\nkeep_free = \"16MiB\"\n\
             [tls]\nauthority = \"{folder}/ca/ca.pem\"\ncertificate = \"{folder}/ca/nodes/{name}.pem\"\n\
             key = \"{folder}/ca/nodes/{name}.key\"\n[[root]]\npath = {:?}\n{library}",
            root.display()
        );
        let path = self.folder.join(format!("{name}.toml"));
        fs::write(&path, settings)?;
        start(&self.lan, name, "sifleet-agent", &path, &self.folder)
    }

    /// Asks the coordinator.
    ///
    /// # Errors
    /// When it does not answer with JSON.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(path, None)
    }

    fn ask(&self, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let mut curl = self.lan.command(HEAD, "curl".into());
        curl.args(["-sS", "--max-time", "10", &format!("http://127.0.0.1:7440{path}")]);
        curl.args(["-H", &format!("authorization: {}", self.callers.bearer(Role::Admin))]);
        if let Some(body) = body {
            curl.args(["-H", "content-type: application/json", "-d", &body.to_string()]);
        }
        let output = curl.output().context("curl")?;
        ensure!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).with_context(|| path.to_owned())
    }

    /// Pushes the image to all nodes and measures.
    ///
    /// # Errors
    /// When the push does not end, or a node that was left alone did not get the image.
    pub fn measure(&mut self) -> anyhow::Result<Outcome> {
        let ((before_it, _), received) = (self.lan.passed(HEAD)?, self.received()?);
        let before = self.processor_time()?;
        let begun = Instant::now();
        let idle = machine_idle()?;
        let push = self.ask(
            "/v1/pushes",
            Some(&json!({
                "image": IMAGE, "to": {"nodes": format!("n[001-{:03}]", self.world.nodes)}
            })),
        )?;
        let Some(id) = push["id"].as_str().map(str::to_owned) else { bail!("no push: {push}") };
        let ends = self.watch(&id, begun, time_of(&push["created"])?)?;
        let took = begun.elapsed();
        let used = self.processor_time()? - before;
        let busy = 1.0 - (machine_idle()? - idle) / took.as_secs_f64() / processors();
        let (now, _) = self.lan.passed(HEAD)?;
        let sent = now.bytes - before_it.bytes;
        let received = (self.received()? - received) as f64 / self.world.nodes as f64;
        let size = f64::from(self.world.size);
        let link = size * 8.0 / self.world.rate as f64;
        let is_slow = |at: &usize| *at < self.world.slow;
        let mut fast: Vec<f64> =
            ends.iter().filter(|(at, _)| !is_slow(at)).map(|(_, took)| took / link).collect();
        fast.sort_by(f64::total_cmp);
        let slow = ends.iter().filter(|(at, _)| is_slow(at)).map(|(_, took)| took / link / 5.0);
        let totals = self.get(&format!("/v1/pushes/{id}"))?;
        let bytes = |name: &str| totals["bytes"][name].as_f64().unwrap_or(0.0);
        let memory = self.agents.iter().filter_map(|(_, child)| process::memory(child.id()).ok());
        Ok(Outcome {
            last: fast.last().copied().unwrap_or(0.0),
            seconds: fast.last().copied().unwrap_or(0.0) * link,
            received,
            median: fast.get(fast.len() / 2).copied().unwrap_or(0.0),
            slow: slow.fold(None, |most, one| Some(most.map_or(one, |most: f64| most.max(one)))),
            egress: sent as f64 / size,
            packet: sent as f64 / (now.packets - before_it.packets).max(1) as f64,
            cpu_per_gb: used.as_secs_f64() / (size * ends.len() as f64 / 1e9),
            memory: memory.map(|memory| memory.peak).fold(0.0, f64::max),
            wasted: bytes("wasted") / bytes("fetched").max(1.0),
            busy,
        })
    }

    /// Watches until every node has come to its end; returns when each had the image, in seconds since the push was created.
    ///
    /// Both times are the coordinator's: to ask takes a tenth of a second, which is much beside a fast link.
    fn watch(&mut self, id: &str, begun: Instant, created: i64) -> anyhow::Result<Vec<(usize, f64)>> {
        let link = Duration::from_secs_f64(f64::from(self.world.size) * 8.0 / self.world.rate as f64);
        let limit = link * 20 + UP;
        let (mut ends, mut killed) = (Vec::new(), 0);
        let (first, nodes) = (self.world.slow + self.world.lossy, self.world.nodes);
        while ends.len() + killed < nodes {
            ensure!(
                begun.elapsed() < limit,
                "the push does not end: {}",
                self.get(&format!("/v1/pushes/{id}"))?
            );
            if killed < self.world.kill && begun.elapsed() > link / 2 {
                let victim = self.agents.get_mut(1 + first + killed).context("too few nodes")?;
                victim.1.kill()?;
                killed += 1;
            }
            let dead: Vec<String> =
                self.agents.iter().skip(1 + first).take(killed).map(|(name, _)| name.clone()).collect();
            let states = self.get(&format!("/v1/pushes/{id}/nodes"))?;
            for (at, node) in states["nodes"].as_array().cloned().unwrap_or_default().iter().enumerate() {
                let name = node["node"].as_str().unwrap_or_default();
                if dead.iter().any(|dead| dead == name) || ends.iter().any(|(known, _)| *known == at) {
                    continue;
                }
                match node["phase"].as_str() {
                    Some("done") => ends.push((at, (time_of(&node["ended"])? - created) as f64 / 1e3)),
                    Some("failed") => bail!("{name} failed: {node}"),
                    _ => {}
                }
            }
            // Asking costs as much processor as a node: seldom until the first can be there.
            let soon = begun.elapsed() >= link || self.world.images.is_some();
            pause(if soon { Duration::from_millis(100) } else { link / 10 });
        }
        Ok(ends)
    }

    /// Bytes that all nodes but the head have received.
    fn received(&self) -> anyhow::Result<u64> {
        self.agents.iter().skip(1).map(|(name, _)| Ok(self.lan.passed(name)?.1.bytes)).sum()
    }

    fn processor_time(&self) -> anyhow::Result<Duration> {
        self.agents.iter().filter_map(|(_, child)| process::processor_time(child.id()).ok()).map(Ok).sum()
    }
}

/// Reads a time of an answer, as milliseconds since 1970.
fn time_of(answer: &Value) -> anyhow::Result<i64> {
    let text = answer.as_str().with_context(|| format!("{answer} is no time"))?;
    Ok(text.parse::<UnixMillis>()?.0)
}

fn start_coordinator(lan: &Lan, folder: &Path, head: &str, names: &[String]) -> anyhow::Result<Child> {
    let here = folder.display();
    let settings = format!(
        "state_dir = \"{here}/state\"\nca_dir = \"{here}/ca\"\n[control]\nlisten = \"{head}:7441\"\n"
    );
    let path = folder.join("coordinator.toml");
    fs::write(&path, settings)?;
    let ca = |arguments: &[&str]| -> anyhow::Result<()> {
        let mut program = Command::new(programs::own("sifleet-coordinator")?);
        let output = program.arg("--config").arg(&path).arg("ca").args(arguments).output()?;
        ensure!(output.status.success(), "ca: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    ca(&["init"])?;
    ca(&["issue-node", &format!("{HEAD},{}", names.join(","))])?;
    start(lan, HEAD, "sifleet-coordinator", &path, folder)
}

fn start(lan: &Lan, host: &str, program: &str, settings: &Path, folder: &Path) -> anyhow::Result<Child> {
    let log = fs::File::create(folder.join(format!("{host}-{program}.log")))?;
    let mut command = lan.command(host, programs::own(program)?);
    command.arg("--config").arg(settings).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().with_context(|| format!("start {program} on {host}"))
}

fn processors() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64)
}

/// Seconds that all processors together were idle since the start of the machine.
fn machine_idle() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/uptime")?;
    Ok(text.split_whitespace().nth(1).unwrap_or_default().parse()?)
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let slow =
            self.slow.map(|slow| format!("; slow ones {} of theirs", number(slow))).unwrap_or_default();
        write!(
            f,
            "last {:.3} × S/B, median {}{slow}; first source sent {} × S; {} s of processor a GB; {} MiB; {:.1} % twice; \
             machine {:.0} % busy",
            self.last,
            number(self.median),
            number(self.egress),
            number(self.cpu_per_gb),
            number(self.memory),
            100.0 * self.wasted,
            100.0 * self.busy,
        )
    }
}
