//! Everything that moves image bytes on this node: takes orders, runs what was ordered, reports how it goes.
//!
//! Lives on a thread and a runtime of its own, so that a gigabyte a second neither delays a heartbeat nor is delayed
//! by a session that writes. What is ordered is decided by the coordinator; how an image is fetched is [`crate::fetch`]'s
//! business, how it is given [`crate::serve`]'s.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quinn::Endpoint;
use sifleet_common::beneath::Owner;
use sifleet_common::clock::Clock;
use sifleet_common::digest::Digest;
use sifleet_common::inventory::RootId;
use sifleet_common::policy::Policy;
use sifleet_common::quic::rest::Rests;
use sifleet_common::quic::{QuicError, transfer};
use sifleet_common::task::{GRACE, Tasks};
use sifleet_common::tls::{Live, TlsError};
use sifleet_common::wire::assignment::{Mapped, Order, Rates, Report};
use sifleet_common::wire::chunk::CHUNK_ALPN;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::fetch::run::Resources;
use crate::fetch::status::cut;
use crate::hash::{Hashing, yield_to_jobs};
use crate::inventory::Command;
use crate::map::kept::Maps;
use crate::orders::Orders;
use crate::pace::Tap;
use crate::remove::Removals;
use crate::serve::connection;
use crate::serve::find::Finder;
use crate::serve::permits::Permits;
use crate::serve::run::Serving;
use crate::signatures::Signatures;

/// Threads that wait for the disk: each has at most a stretch of an image in memory.
const DISK_THREADS: usize = 8;
/// Enough for a disk thread: verifying and writing need little.
const STACK: usize = 512 * 1024;
/// How often unfinished images are looked for that nobody wants any longer.
const REAP: Duration = Duration::from_secs(3600);
/// How often it is looked whether there is something to report.
const LOOK: Duration = Duration::from_secs(1);

/// What transfers are set up with.
#[derive(Clone, Debug)]
pub struct Config {
    /// UDP address at which others fetch from this node.
    pub listen: SocketAddr,
    /// Roots that may be published to.
    pub roots: Vec<(RootId, PathBuf)>,
    /// Libraries that take images; nothing is removed from them.
    pub libraries: Vec<(RootId, PathBuf)>,
    /// Whose published images are.
    pub owner: Owner,
    /// Bytes that stay free below each root.
    pub floor: u64,
    /// Fetches at once.
    pub concurrent: usize,
    /// Where chunk maps are kept.
    pub maps: PathBuf,
}

/// Joins transfers to the rest of the agent.
#[derive(Debug)]
pub struct Ends {
    /// What the coordinator orders.
    pub orders: mpsc::Receiver<Order>,
    /// What is reported. When it is full a report is dropped, and made again with the next order.
    pub reports: mpsc::Sender<Report>,
    /// Asks the inventory.
    pub commands: mpsc::Sender<Command>,
}

/// Says why nothing can be moved.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The port cannot be had.
    #[error(transparent)]
    Quic(#[from] QuicError),
    /// The thread or its runtime cannot be had.
    #[error("cannot start the thread that moves images: raise TasksMax in the unit")]
    Thread {
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// The socket at which others fetch, and the runtime on which everything will live.
#[derive(Debug)]
pub struct Transfers {
    config: Config,
    runtime: Runtime,
    endpoint: Endpoint,
    port: u16,
}

impl Transfers {
    /// Opens the socket; nobody is answered yet.
    ///
    /// # Errors
    /// [`TransferError`]; the agent can do without.
    pub fn open(config: Config, shown: &Live) -> Result<Self, TransferError> {
        let (server, client) = (shown.server_config(CHUNK_ALPN)?, shown.client_config(CHUNK_ALPN)?);
        let rests = Arc::<Rests>::default();
        let runtime = rests
            .runtime()
            .enable_all()
            .max_blocking_threads(DISK_THREADS)
            .thread_stack_size(STACK)
            .thread_name("disk")
            .on_thread_start(yield_to_jobs)
            .build()
            .map_err(|source| TransferError::Thread { source })?;
        let endpoint = {
            let _inside = runtime.enter();
            transfer::endpoint(server, client, config.listen, rests)?
        };
        let unknown = |source| QuicError::Bind { address: config.listen, source };
        let port = endpoint.local_addr().map_err(unknown)?.port();
        Ok(Self { config, runtime, endpoint, port })
    }

    /// Returns the port at which others fetch.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Begins to answer and to take orders, until `stop`; `beat` is called at least once a second.
    ///
    /// # Errors
    /// When the system has no room for another thread.
    pub fn start(
        self,
        hashing: &Arc<Hashing>,
        ends: Ends,
        stop: CancellationToken,
        beat: impl Fn() + Send + 'static,
    ) -> Result<(), TransferError> {
        let threads = hashing.threads.clone();
        let hashing = Arc::clone(hashing);
        let work = move || {
            self.runtime.block_on(run(self.config, self.endpoint, hashing, (ends, stop), beat));
            // A disk that hangs must not keep the agent.
            self.runtime.shutdown_background();
        };
        threads.start("transfer", work).map_err(|source| TransferError::Thread { source })
    }
}

async fn run(
    config: Config,
    endpoint: Endpoint,
    hashing: Arc<Hashing>,
    (mut ends, stop): (Ends, CancellationToken),
    beat: impl Fn(),
) {
    let (tasks, clock) = (Tasks::new(), Clock::start());
    let finder = Finder::new(ends.commands.clone(), Arc::new(Maps::within(config.maps)));
    let (up, down) = (Arc::new(Tap::open(clock)), Arc::new(Tap::open(clock)));
    let permits = Permits::new(clock);
    let serving = give(&endpoint, (finder.clone(), permits.clone()), &up, &tasks);
    let (signatures, keyring) = Signatures::new(ends.reports.clone(), clock);
    let resources = Arc::new(Resources {
        endpoint: endpoint.clone(),
        finder: finder.clone(),
        serving,
        down: Arc::clone(&down),
        roots: config.roots.into_iter().collect(),
        libraries: config.libraries.into_iter().collect(),
        owner: config.owner,
        floor: config.floor,
        clock,
        hashing,
        keyring,
    });
    let (removals, removing) = Removals::new(Arc::clone(&resources), ends.reports.clone());
    tasks.spawn("removals", removing);
    let mut orders = Orders::new(resources, config.concurrent, ends.reports.clone());
    let mut look = tokio::time::interval(LOOK);
    let mut reap = tokio::time::interval_at(tokio::time::Instant::now() + REAP, REAP);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = look.tick() => {
                beat();
                orders.report();
            }
            _ = reap.tick() => orders.reap(),
            () = orders.turned() => orders.report(),
            order = ends.orders.recv() => match order {
                Some(Order::MakeMap { image }) => make_map(image, &finder, &ends.reports, &tasks),
                Some(Order::Rates(rates)) => hold((&up, &down), rates),
                Some(Order::Concurrent { fetches }) => orders.allow(fetches),
                Some(Order::Assign(assignment)) => orders.assign(assignment, Policy::Any),
                Some(Order::AssignUnder { policy, assignment }) => orders.assign(assignment, policy),
                Some(Order::Keyring(material)) => signatures.count_only(&material),
                Some(Order::Verify { image }) => signatures.ask(image, &finder, &tasks),
                Some(Order::Capabilities { key }) => permits.trust(key),
                Some(Order::Unassign { id }) => orders.unassign(id),
                Some(Order::Assigned { ids }) => orders.keep_only(&ids),
                Some(Order::Remove(removal)) => {
                    let in_the_way = orders.brings(removal.root, &removal.name);
                    removals.put(removal, in_the_way);
                }
                None => break,
            }
        }
    }
    drop((orders, removals));
    tasks.shutdown(GRACE).await;
    endpoint.wait_idle().await;
}

/// Begins to give to other nodes what they may have.
fn give(endpoint: &Endpoint, asked: (Finder, Permits), up: &Arc<Tap>, tasks: &Tasks) -> Serving {
    let serving = Serving::start(asked.0.clone(), Arc::clone(up), tasks);
    tasks.spawn("peers", connection::accept(endpoint.clone(), asked, serving.clone(), tasks.clone()));
    if let Ok(address) = endpoint.local_addr() {
        info!(peer = %address, "other nodes can fetch from here");
    }
    serving
}

/// Holds what passes to these rates from here on.
fn hold((up, down): (&Tap, &Tap), rates: Rates) {
    up.set(rates.up);
    down.set(rates.down);
}

fn make_map(image: Digest, finder: &Finder, reports: &mpsc::Sender<Report>, tasks: &Tasks) {
    debug!(digest = %image, "a chunk map is asked for");
    let (finder, reports) = (finder.clone(), reports.clone());
    tasks.spawn("chunk map", async move { say(&reports, mapped(&finder, image).await) });
}

async fn mapped(finder: &Finder, image: Digest) -> Report {
    let (map, detail) = match finder.map(image).await {
        Ok(map) => (Some(map), String::new()),
        Err(detail) => {
            warn!(digest = %image, error = detail, "a chunk map was asked for and cannot be made");
            (None, cut(&detail))
        }
    };
    let digest = match map {
        // Hashing a map of a large image takes a moment.
        Some(map) => tokio::task::spawn_blocking(move || map.digest()).await.ok(),
        None => None,
    };
    Report::Mapped(Mapped { image, map: digest, detail })
}

/// Reports; what finds no room is said again with the next order.
pub(crate) fn say(reports: &mpsc::Sender<Report>, report: Report) {
    if reports.try_send(report).is_err() {
        debug!("a report found no room");
    }
}
