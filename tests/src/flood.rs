//! A node that is enrolled and floods the coordinator: every message is one of the protocol, as many as it is let.
//!
//! Runs on a thread of its own. What it is told is read and thrown away; when it is cut off it dials again at once.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use quinn::{ClientConfig, Connection, ConnectionError, Endpoint};
use sifleet_agent::credentials::Credentials;
use sifleet_agent::settings::Tls;
use sifleet_common::image::Arch;
use sifleet_common::inventory::{
    Change, Generation, Inventory, InventoryDigest, Root, RootId, RootKind, RootState,
};
use sifleet_common::quic;
use sifleet_common::tls::COORDINATOR_NAME;
use sifleet_common::wire::CONTROL_ALPN;
use sifleet_common::wire::control::{
    Delta, Heartbeat, Hello, Snapshot, Stamp, StreamId, ToAgent, ToCoordinator,
};
use sifleet_common::wire::frame::{FrameReader, write_frame};
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::fleet;

/// Images the flooding node says that it has.
pub const IMAGES: usize = 3_000;
/// Connections at a time of a node that dials again and again.
pub const DIALLERS: u64 = 8;

/// What it floods with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Steps of one image each, by names that everybody has.
    Steps,
    /// Steps of thousands of images each.
    Batches,
    /// Whole inventories, each with other images.
    Snapshots,
    /// A root that is lost and found, with everything below it.
    Roots,
    /// Signs of life.
    Heartbeats,
    /// Tells the time, a wrong one.
    Clocks,
    /// Sessions that begin and end with garbage.
    Redials,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Steps,
        Self::Batches,
        Self::Snapshots,
        Self::Roots,
        Self::Heartbeats,
        Self::Clocks,
        Self::Redials,
    ];
}

/// A flood; it ends when this is dropped.
#[derive(Debug)]
pub struct Flood {
    told: Arc<Told>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// What came of it so far.
#[derive(Debug, Default)]
struct Told {
    sent: AtomicU64,
    connections: AtomicU64,
    reasons: Mutex<BTreeSet<String>>,
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.cancel();
        // One that panicked has ended as well.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

impl Flood {
    /// Begins to flood as a node that has a certificate below the cluster's folder.
    ///
    /// # Errors
    /// When there is none.
    pub fn start(cluster: &Cluster, node: &str, kind: Kind) -> anyhow::Result<Self> {
        let path = |end: &str| cluster.folder().join(format!("ca/nodes/{node}.{end}"));
        let authority = cluster.folder().join("ca/ca.pem");
        let credentials = Credentials::open(&Tls { authority, certificate: path("pem"), key: path("key") })?;
        let config = quic::client(credentials.live().client_config(CONTROL_ALPN)?)?;
        let address: SocketAddr = cluster.control().parse()?;
        let (told, stop) = (Arc::<Told>::default(), CancellationToken::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (its, stopped) = (Arc::clone(&told), stop.clone());
        let flood = move || runtime.block_on(flood(config, address, kind, (its, stopped)));
        let thread = std::thread::Builder::new().name("flood".to_owned()).spawn(flood)?;
        Ok(Self { told, stop, thread: Some(thread) })
    }

    /// Returns how many messages QUIC has taken so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.told.sent.load(Ordering::Relaxed)
    }

    /// Returns how many connections came about so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.told.connections.load(Ordering::Relaxed)
    }

    /// Lists the reasons for which it was cut off.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        self.told.reasons.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

async fn flood(
    config: ClientConfig,
    address: SocketAddr,
    kind: Kind,
    (told, stop): (Arc<Told>, CancellationToken),
) {
    let Ok(endpoint) = quic::dialler(config, ([127, 0, 0, 1], 0).into()) else { return };
    let at_a_time = if kind == Kind::Redials { DIALLERS } else { 1 };
    let dial = (0..at_a_time).map(|_| dial(&endpoint, address, kind, &told));
    stop.run_until_cancelled(futures_util::future::join_all(dial)).await;
    // What was sent and not read yet must not be left to be read.
    endpoint.close(0_u32.into(), b"");
    endpoint.wait_idle().await;
}

async fn dial(endpoint: &Endpoint, address: SocketAddr, kind: Kind, told: &Told) {
    let mut generation = 1;
    loop {
        let Ok(connecting) = endpoint.connect(address, COORDINATOR_NAME) else { return };
        let Ok(connection) = connecting.await else { continue };
        told.connections.fetch_add(1, Ordering::Relaxed);
        // Whatever goes wrong, the connection says why.
        drop(talk(&connection, kind, &mut generation, told).await);
        if let ConnectionError::ApplicationClosed(closed) = connection.closed().await {
            let reason = String::from_utf8_lossy(&closed.reason).into_owned();
            told.reasons.lock().unwrap_or_else(PoisonError::into_inner).insert(reason);
        }
    }
}

async fn talk(connection: &Connection, kind: Kind, generation: &mut u64, told: &Told) -> anyhow::Result<()> {
    let (mut send, receive) = connection.open_bi().await?;
    write_frame(&mut send, &hello(*generation)).await?;
    let mut frames = FrameReader::new(receive);
    let listen = async {
        while let Some(_heard) = frames.next::<ToAgent>().await? {}
        anyhow::Ok(())
    };
    let speak = async {
        if kind == Kind::Redials {
            send.write_all(&[9, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255]).await?;
            told.sent.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<()>().await;
        }
        write_frame(&mut send, &snapshot(*generation)).await?;
        loop {
            *generation += 1;
            write_frame(&mut send, &message(kind, *generation)).await?;
            told.sent.fetch_add(1, Ordering::Relaxed);
        }
    };
    tokio::select! {
        ended = listen => ended,
        ended = speak => ended,
    }
}

fn hello(generation: u64) -> ToCoordinator {
    ToCoordinator::Hello(Hello {
        stream: StreamId(generation),
        generation: Generation(generation),
        digest: nonsense(generation),
        build: "flood".to_owned(),
        arch: Arch::Amd64,
        partitions: Vec::new(),
        transfer_port: 0,
    })
}

fn nonsense(seed: u64) -> InventoryDigest {
    let mut inventory = Inventory::default();
    inventory.apply(fleet::put(0, seed));
    inventory.digest()
}

fn root(state: RootState) -> Change {
    Change::Root(RootId(0), Root { path: "/opt/apptainers".into(), kind: RootKind::Plain, state })
}

fn snapshot(generation: u64) -> ToCoordinator {
    let mut changes = vec![root(RootState::Watched)];
    changes.extend((0..IMAGES).map(|n| fleet::put(n, generation)));
    ToCoordinator::Snapshot(Snapshot { generation: Generation(generation), part: 0, last: true, changes })
}

/// Returns the `n`th message of a flood; those of sessions that are garbage are none.
#[must_use]
pub fn message(kind: Kind, n: u64) -> ToCoordinator {
    let image = usize::try_from(n).unwrap_or(0) % 200;
    let changes = match kind {
        Kind::Steps | Kind::Redials => vec![fleet::put(image, n)],
        Kind::Batches => (0..IMAGES).map(|at| fleet::put(at, n)).collect(),
        Kind::Roots if n.is_multiple_of(2) => vec![root(RootState::Watched)],
        Kind::Roots => vec![root(RootState::Unknown { reason: "flood".to_owned() })],
        Kind::Snapshots => return snapshot(n),
        Kind::Clocks => return ToCoordinator::Clock { at: 0 },
        Kind::Heartbeats => {
            let (generation, digest, stamp) = (Generation(n), nonsense(n), Stamp(n));
            return ToCoordinator::Heartbeat(Heartbeat { generation, digest, stamp });
        }
    };
    ToCoordinator::Delta(Delta { generation: Generation(n), changes })
}
