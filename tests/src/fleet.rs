//! Many agents in one process: real sessions over real QUIC with real certificates, and invented inventories.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sifleet_agent::credentials::Credentials;
use sifleet_agent::session::{self, Beat, Command, Config, Parts};
use sifleet_agent::settings::Tls;
use sifleet_common::chunk::MapDigest;
use sifleet_common::digest::Digest;
use sifleet_common::image::{Arch, Format, ImageMetadata};
use sifleet_common::inventory::{
    Change, Content, Image, Replica, ReplicaKey, Root, RootId, RootKind, RootState,
};
use sifleet_common::nodeset::NodeSet;
use sifleet_common::task::Tasks;
use sifleet_common::time::UnixMillis;
use sifleet_common::wire::assignment::{Mapped, Order, Report};
use tokio::sync::mpsc;

use crate::cluster::Cluster;

/// Changes that wait for one agent's session.
const QUEUE: usize = 64;

/// A running fleet; its agents end when it is dropped.
pub struct Fleet {
    /// Where each agent's changes go.
    pub agents: Vec<mpsc::Sender<Vec<Change>>>,
    tasks: Tasks,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.tasks.token().cancel();
    }
}

#[derive(Debug)]
struct Quiet;

impl Beat for Quiet {
    fn beat(&self, _connected: bool) {}
}

impl Fleet {
    /// Starts an agent for every node of `nodes`, each with `images` images, all the same.
    ///
    /// # Errors
    /// When a certificate is missing.
    pub async fn start(cluster: &Cluster, nodes: &str, images: usize) -> anyhow::Result<Self> {
        let tasks = Tasks::new();
        let mut agents = Vec::new();
        for node in nodes.parse::<NodeSet>().context("nodes")?.names() {
            let said = join(cluster, &tasks, node.as_str(), 0)?;
            said.changes.send(inventory(images)).await?;
            agents.push(said.changes);
        }
        Ok(Self { agents, tasks })
    }

    /// Starts one agent that holds an image under a name in its root, and gives it at a port; it says which chunk map
    /// the image has when it is asked to make it.
    ///
    /// # Errors
    /// When the certificate is missing.
    pub async fn holder(
        cluster: &Cluster,
        (node, transfer_port): (&str, u16),
        (name, image, size): (&str, Digest, u64),
        map: MapDigest,
    ) -> anyhow::Result<Self> {
        let tasks = Tasks::new();
        let Ends { changes, mut orders, reports } = join(cluster, &tasks, node, transfer_port)?;
        let root = Root { path: "/opt/apptainers".into(), kind: RootKind::Plain, state: RootState::Watched };
        let image = Image { digest: image, format: Format::Sif, arch: Arch::Amd64, mutable: false };
        let held = Replica { size, modified: UnixMillis(0), content: Content::Image(image.clone()) };
        let key = ReplicaKey { root: RootId(0), name: crate::known(name) };
        changes.send(vec![Change::Root(RootId(0), root), Change::Put(key, held)]).await?;
        tasks.spawn("agent orders", async move {
            while let Some(order) = orders.recv().await {
                if matches!(order, Order::MakeMap { .. }) {
                    let mapped = Mapped { image: image.digest, map: Some(map), detail: String::new() };
                    drop(reports.send(Report::Mapped(mapped)).await);
                }
            }
        });
        Ok(Self { agents: vec![changes], tasks })
    }
}

/// What an agent's session is told, and tells.
struct Ends {
    changes: mpsc::Sender<Vec<Change>>,
    orders: mpsc::Receiver<Order>,
    reports: mpsc::Sender<Report>,
}

/// Starts the session of an agent.
fn join(cluster: &Cluster, tasks: &Tasks, node: &str, transfer_port: u16) -> anyhow::Result<Ends> {
    let path = |end: &str| cluster.folder().join(format!("ca/nodes/{node}.{end}"));
    let authority = cluster.folder().join("ca/ca.pem");
    let files = Tls { authority, certificate: path("pem"), key: path("key") };
    let config = Config {
        coordinators: vec![cluster.control()],
        credentials: Credentials::open(&files)?,
        arch: Arch::Amd64,
        partitions: Vec::new(),
        transfer_port,
        patience: Duration::from_secs(60),
    };
    let (changes, receiver) = mpsc::channel(QUEUE);
    let (commands, asked) = mpsc::channel(QUEUE);
    let ((ordered, orders), (reports, said)) = (mpsc::channel(QUEUE), mpsc::channel(QUEUE));
    let (stop, beat) = (tasks.token(), Arc::new(Quiet));
    // Nobody asks, so that no question ever comes.
    let (_, questions) = mpsc::channel(1);
    let parts = Parts { changes: receiver, commands, orders: ordered, reports: said, questions, stop, beat };
    tasks.spawn("agent session", session::run(config, parts));
    tasks.spawn("agent commands", answer(asked));
    Ok(Ends { changes, orders, reports })
}

/// Describes any image that is asked for.
async fn answer(mut asked: mpsc::Receiver<Command>) {
    while let Some(command) = asked.recv().await {
        if let Command::Describe { reply, .. } = command {
            // A session that has ended no longer wants to know.
            drop(reply.send(Some((ImageMetadata::bare(Format::Sif, 1), None))));
        }
    }
}

/// Invents an inventory of so many images.
#[must_use]
pub fn inventory(images: usize) -> Vec<Change> {
    let root = Root { path: "/opt/apptainers".into(), kind: RootKind::Plain, state: RootState::Watched };
    let mut changes = vec![Change::Root(RootId(0), root)];
    changes.extend((0..images).map(|n| put(n, 0)));
    changes
}

/// Puts the `n`th image in place, in some version.
#[must_use]
pub fn put(n: usize, version: u64) -> Change {
    let digest = Digest::from(blake3::hash(format!("image {n} version {version}").as_bytes()));
    let image = Image { digest, format: Format::Sif, arch: Arch::Amd64, mutable: false };
    let replica = Replica { size: 1_000_000_000, modified: UnixMillis(0), content: Content::Image(image) };
    Change::Put(key(n), replica)
}

/// Takes the `n`th image away.
#[must_use]
pub fn remove(n: usize) -> Change {
    Change::Remove(key(n))
}

fn key(n: usize) -> ReplicaKey {
    let name = format!("image{n:04}.sif");
    ReplicaKey { root: RootId(0), name: crate::known(&name) }
}
