//! Two agents and a coordinator on the loopback, as processes, and pushes from one to the other.
//!
//! Processor time is the kernel's account of whole processes and of their children, so that threads that have ended
//! count.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::json;

use super::hash::cached;
use super::process;
use crate::cluster::{self, Cluster};
use crate::wait::{pause, until};

pub(super) const SOURCE: &str = "head";
pub(super) const TARGET: &str = "n1";
const LIMIT: Duration = Duration::from_secs(900);
/// How often the push is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// How one push went.
pub(super) struct Run {
    /// From the request to its end.
    pub(super) took: Duration,
    /// Seconds of processor for each 10⁹ bytes.
    pub(super) cost: f64,
    /// The same, of each kind of thread.
    pub(super) threads: BTreeMap<String, f64>,
    /// Shares of source and target in the page cache afterwards.
    pub(super) cached: [f64; 2],
}

/// Two agents and a coordinator.
pub(super) struct Pair {
    pub(super) cluster: Cluster,
}

impl Pair {
    /// Starts them in a folder of this name.
    pub(super) fn start(name: &'static str) -> anyhow::Result<Self> {
        let cluster = Cluster::start(cluster::Plan {
            name,
            partitions: BTreeMap::from([("all", TARGET)]),
            nodes: vec![SOURCE, TARGET],
            library: Some(SOURCE),
            lease: Duration::from_secs(30),
        })?;
        Ok(Self { cluster })
    }

    /// Waits until so many images of a name are known.
    pub(super) fn known(&self, name: &str, count: u64) -> anyhow::Result<()> {
        until(&format!("{name} is known {count} times"), LIMIT, || {
            let found = self.cluster.get(&format!("/v1/images/{name}"));
            let seen = found.as_ref().map_or(0, |found| found["summary"]["count"].as_u64().unwrap_or(0));
            if seen == count { Ok(()) } else { Err(format!("{found:?}")) }
        })?;
        Ok(())
    }

    /// Pushes an image.
    pub(super) fn push(&self, image: &str) -> anyhow::Result<Run> {
        let source = self.cluster.library().join(image);
        let target = self.cluster.root(TARGET).join(image);
        let agents = self.agents()?;
        let (threads, used) = (threads(&agents)?, used(&agents)?);
        let begun = Instant::now();
        let body = json!({"image": image, "to": {"nodes": TARGET}}).to_string();
        let request = ureq::post(format!("{}/v1/pushes", self.cluster.url()));
        let request = request.header("authorization", self.cluster.bearer());
        let answer =
            request.header("content-type", "application/json").send(body)?.body_mut().read_to_string()?;
        let answer: serde_json::Value = serde_json::from_str(&answer)?;
        let id = answer["id"].as_str().with_context(|| format!("no push: {answer}"))?.to_owned();
        loop {
            let nodes = self.cluster.get(&format!("/v1/pushes/{id}/nodes"))?;
            let node = &nodes["nodes"][0];
            match node["phase"].as_str() {
                Some("done") => break,
                Some("failed") => bail!("the push failed: {node}"),
                _ => ensure!(begun.elapsed() < LIMIT, "the push does not end: {node}"),
            }
            pause(LOOK);
        }
        let took = begun.elapsed();
        let gigabytes = fs::metadata(&source)?.len() as f64 / 1e9;
        let time = used_since(&agents, used)?;
        let mut by_thread = self::threads(&agents)?;
        for (name, time) in &mut by_thread {
            *time = (*time - threads.get(name).copied().unwrap_or(0.0)) / gigabytes;
        }
        let cached = [cached(&source)?, cached(&target)?];
        Ok(Run { took, cost: time / gigabytes, threads: by_thread, cached })
    }

    /// Takes an image off the target again.
    pub(super) fn take_off(&self, image: &str) -> anyhow::Result<()> {
        fs::remove_file(self.cluster.root(TARGET).join(image))?;
        self.known(image, 1)
    }

    /// Removes an image for good.
    pub(super) fn forget(&self, image: &str) -> anyhow::Result<()> {
        fs::remove_file(self.cluster.library().join(image))?;
        Ok(())
    }

    /// Returns the processes that give and receive.
    pub(super) fn agents(&self) -> anyhow::Result<Vec<u32>> {
        [SOURCE, TARGET]
            .into_iter()
            .map(|node| self.cluster.pid(node).context("an agent has ended"))
            .collect()
    }
}

/// Seconds of processor that processes have used.
pub(super) fn used(pids: &[u32]) -> anyhow::Result<f64> {
    pids.iter().map(|pid| process::all_time(&pid.to_string()).map(|time| time.as_secs_f64())).sum()
}

pub(super) fn used_since(pids: &[u32], before: f64) -> anyhow::Result<f64> {
    Ok(used(pids)? - before)
}

fn threads(pids: &[u32]) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut all = BTreeMap::new();
    for (pid, end) in pids.iter().zip(["giving", "receiving"]) {
        for (name, time) in process::by_thread(*pid)? {
            *all.entry(format!("{end} {name}")).or_insert(0.0) += time.as_secs_f64();
        }
    }
    Ok(all)
}
