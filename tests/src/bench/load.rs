//! A coordinator under load: a real process, and agents that hold real sessions with it from this process.
//!
//! Owns the sizes at which is measured and the flow of inventory events. Only the agents' disks are invented.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, setpriority_process};
use rustix::thread::gettid;
use sifleet_common::inventory::Change;
use sifleet_common::task::Tasks;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::time::interval;

use super::process::{self, Memory};
use crate::cluster::{COORDINATOR, Cluster, Plan};
use crate::fleet::{self, Fleet};
use crate::wait::{pause, until};

/// Images on every node.
pub const IMAGES: usize = 200;
/// The default lease.
const LEASE: Duration = Duration::from_secs(30);
/// How long all agents may take to become current.
const LIMIT: Duration = Duration::from_secs(300);
/// Agents that dial at once, so that a first start is no storm.
const COMPANY: usize = 1_000;
/// Time between two bursts of events.
const BURST: Duration = Duration::from_millis(2);
/// Replicas that are away at any moment while events flow.
const AWAY: u64 = 1_000;

/// A size of the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Names the cluster's folder.
    pub name: &'static str,
    /// How many nodes.
    pub nodes: usize,
    /// Partitions: one with all nodes, four with a quarter each.
    pub partitions: [(&'static str, &'static str); 5],
}

/// A large cluster.
pub const THOUSAND: Scale = Scale {
    name: "bench-1000",
    nodes: 1_000,
    partitions: [
        ("all", "n[00001-01000]"),
        ("q1", "n[00001-00250]"),
        ("q2", "n[00251-00500]"),
        ("q3", "n[00501-00750]"),
        ("q4", "n[00751-01000]"),
    ],
};

/// As many nodes as one coordinator is meant to hold.
pub const TEN_THOUSAND: Scale = Scale {
    name: "bench-10000",
    nodes: 10_000,
    partitions: [
        ("all", "n[00001-10000]"),
        ("q1", "n[00001-02500]"),
        ("q2", "n[02501-05000]"),
        ("q3", "n[05001-07500]"),
        ("q4", "n[07501-10000]"),
    ],
};

/// A coordinator with all its agents.
pub struct Load {
    /// The coordinator.
    pub cluster: Cluster,
    /// Its memory before the first agent came.
    pub empty: Memory,
    /// How long it took from the first dial until all agents were current.
    pub filled_in: Duration,
    scale: Scale,
    fleets: Vec<Fleet>,
    runtime: Runtime,
    /// The threads of that runtime.
    threads: Threads,
}

/// The kernel's numbers of the threads in which agents live.
type Threads = Arc<Mutex<Vec<Pid>>>;

impl Load {
    /// Starts everything; returns when all agents are current.
    ///
    /// # Errors
    /// When they do not become so.
    pub fn start(scale: &Scale) -> anyhow::Result<Self> {
        let plan = Plan {
            name: scale.name,
            partitions: BTreeMap::from(scale.partitions),
            nodes: Vec::new(),
            library: None,
            lease: LEASE,
        };
        let mut cluster = Cluster::lay_out(plan)?;
        let [(_, all), ..] = scale.partitions;
        cluster.issue(all)?;
        cluster.start_coordinator()?;
        let empty = process::memory(cluster.pid(COORDINATOR).context("the coordinator has ended")?)?;
        let threads = Threads::default();
        let started = Arc::clone(&threads);
        let note = move || started.lock().unwrap_or_else(PoisonError::into_inner).push(gettid());
        let runtime = Builder::new_multi_thread().enable_all().on_thread_start(note).build()?;
        let (mut fleets, begun) = (Vec::new(), Instant::now());
        for first in (1..=scale.nodes).step_by(COMPANY) {
            let last = (first + COMPANY - 1).min(scale.nodes);
            let nodes = format!("n[{first:05}-{last:05}]");
            fleets.push(runtime.block_on(Fleet::start(&cluster, &nodes, IMAGES))?);
            wait_for_online(&cluster, last)?;
        }
        Ok(Self { cluster, empty, filled_in: begun.elapsed(), scale: *scale, fleets, runtime, threads })
    }

    /// Waits until all agents are current.
    ///
    /// # Errors
    /// When they are not in time.
    pub fn wait_until_current(&self) -> anyhow::Result<()> {
        wait_for_online(&self.cluster, self.scale.nodes)
    }

    /// Has agents use only what others leave of the processor until what is returned is dropped: real ones have their own.
    #[must_use]
    pub fn aside(&self) -> Aside {
        set_priority(&self.threads, 19);
        Aside { threads: Arc::clone(&self.threads) }
    }

    /// Returns the process number of the coordinator.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.cluster.pid(COORDINATOR).context("the coordinator has ended")
    }

    /// Lists all questions, one for each image and partition, in an order without pattern.
    #[must_use]
    pub fn questions(&self) -> Vec<String> {
        let count = IMAGES * self.scale.partitions.len();
        // A prime that divides no count here, so that every question comes once.
        let order = (0..count).map(|n| n * 7_919 % count);
        let ask = |n: usize| {
            let (partition, _) = self.scale.partitions.get(n % self.scale.partitions.len())?;
            let image = n / self.scale.partitions.len();
            Some(format!("/v1/availability?image=image{image:04}&partition={partition}"))
        };
        order.filter_map(ask).collect()
    }

    /// Lists the partitions.
    #[must_use]
    pub fn partitions(&self) -> Vec<&'static str> {
        self.scale.partitions.iter().map(|(name, _)| *name).collect()
    }

    /// Returns where the changes of the `n`th agent go.
    #[must_use]
    pub fn agent(&self, n: usize) -> Option<mpsc::Sender<Vec<Change>>> {
        self.fleets.iter().flat_map(|fleet| &fleet.agents).nth(n).cloned()
    }

    /// Makes so many inventory events flow a second, until what is returned is dropped.
    ///
    /// Every event is a step of its own: a replica is removed somewhere, and a moment later put back. All nodes and
    /// all images are concerned alike, so every answer changes all the time.
    #[must_use]
    pub fn flow(&self, per_second: u32) -> Flow {
        let agents: Vec<_> = self.fleets.iter().flat_map(|fleet| fleet.agents.iter().cloned()).collect();
        let tasks = Tasks::new();
        let (inside, stop) = (self.runtime.enter(), tasks.token());
        tasks.spawn("events", async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = pump(agents, per_second) => {}
            }
        });
        drop(inside);
        // What was cached before is of no use any longer.
        pause(Duration::from_secs(1));
        Flow { tasks }
    }
}

/// Agents that use only what others leave of the processor.
#[derive(Debug)]
pub struct Aside {
    threads: Threads,
}

impl Drop for Aside {
    fn drop(&mut self) {
        set_priority(&self.threads, 0);
    }
}

/// Sets the priority of threads. Back to the usual one it takes root; without, agents stay aside.
fn set_priority(threads: &Threads, priority: i32) {
    for thread in threads.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        // A thread that has ended needs none.
        let _ended_or_not_allowed = setpriority_process(Some(*thread), priority);
    }
}

/// Events that flow.
#[derive(Debug)]
pub struct Flow {
    tasks: Tasks,
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.tasks.token().cancel();
    }
}

async fn pump(agents: Vec<mpsc::Sender<Vec<Change>>>, per_second: u32) {
    let mut bursts = interval(BURST);
    let (begun, mut sent) = (Instant::now(), 0_u64);
    loop {
        bursts.tick().await;
        let due = begun.elapsed().as_millis() * u128::from(per_second) / 1_000;
        while u128::from(sent) < due {
            let (round, place) = (sent / AWAY, sent % AWAY);
            let pair = round / 2 * AWAY + place;
            let image = usize::try_from(pair).unwrap_or(0) % IMAGES;
            let node = usize::try_from(pair * 7_919).unwrap_or(0) % agents.len().max(1);
            let change = if round % 2 == 0 { fleet::remove(image) } else { fleet::put(image, 0) };
            let Some(agent) = agents.get(node) else { return };
            if agent.send(vec![change]).await.is_err() {
                return;
            }
            sent += 1;
        }
    }
}

fn wait_for_online(cluster: &Cluster, nodes: usize) -> anyhow::Result<()> {
    let wanted = nodes as f64;
    until(&format!("{nodes} agents are current"), LIMIT, || {
        match cluster.metric("sifleet_nodes{state=\"online\"}") {
            Ok(online) if (online - wanted).abs() < 0.5 => Ok(()),
            Ok(online) => Err(format!("{online} online")),
            Err(error) => Err(format!("{error:#}")),
        }
    })?;
    Ok(())
}
