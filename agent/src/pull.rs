//! The node's own registry: on loopback, read-only, for the jobs of this node.
//!
//! `apptainer run oras://localhost:PORT/compute/openfoam:v2312` gets the image from this node's own copy; where there is
//! none, the coordinator brings it here first, once however many ask. Owns the listeners and the thread on which all of it
//! lives. Names mean what the coordinator says they mean ([`desk`]); which file holds an image the inventory knows. What is
//! heard over HTTP is [`route`]'s business, how it is answered [`answer`]'s.
//! Outside facts: OCI distribution specification 1.1.

mod answer;
mod desk;
mod download;
mod range;
mod route;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use sifleet_common::patient::Patient;
use sifleet_common::task::{GRACE, Tasks};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::hash::yield_to_jobs;
use crate::inventory::Command;
use crate::session::Question;
use crate::thread::Threads;
pub use desk::Connected;
use desk::{Desk, Patience};

/// Threads that wait for the disk.
const DISK_THREADS: usize = 4;
/// Enough for reading a piece of a file.
const STACK: usize = 256 * 1024;
/// Most connections at once: the jobs that one node can start, with a pull's two or three each.
const MAX_CONNECTIONS: usize = 1_024;
/// How long the head of a request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may take nothing of what is sent to it.
const STALL: Duration = Duration::from_secs(60);
/// After a connection could not be taken, as when files run out.
const PAUSE: Duration = Duration::from_millis(100);

/// Joins the registry to the rest of the agent.
pub struct Ends {
    /// Where what only the coordinator can say is asked.
    pub questions: mpsc::Sender<Question>,
    /// Asks the inventory.
    pub commands: mpsc::Sender<Command>,
    /// Tells whether the coordinator is connected.
    pub connected: Connected,
}

/// Says why the node has no registry.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The port cannot be had.
    #[error("cannot listen at {address}: is the port taken? set another one as `pull.port`")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The thread or its runtime cannot be had.
    #[error("cannot start the thread that answers jobs' pulls: raise TasksMax in the unit")]
    Thread {
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// The listeners, and the runtime on which everything will live.
#[derive(Debug)]
pub struct Pulls {
    runtime: Runtime,
    listeners: Vec<TcpListener>,
    address: SocketAddr,
}

impl Pulls {
    /// Takes the port on loopback, of IPv6 too where there is one; nobody is answered yet.
    ///
    /// # Errors
    /// [`PullError`]; the agent can do without.
    pub fn open(port: u16) -> Result<Self, PullError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(DISK_THREADS)
            .thread_stack_size(STACK)
            .thread_name("pull disk")
            .on_thread_start(yield_to_jobs)
            .build()
            .map_err(|source| PullError::Thread { source })?;
        let _inside = runtime.enter();
        let listen = |address: SocketAddr| {
            let failed = |source| PullError::Bind { address, source };
            let listener = StdListener::bind(address).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            Ok::<_, PullError>((TcpListener::from_std(listener).map_err(failed)?, address))
        };
        let (listener, address) = listen((Ipv4Addr::LOCALHOST, port).into())?;
        let mut listeners = vec![listener];
        // Clients that try ::1 first go on with 127.0.0.1.
        match listen((Ipv6Addr::LOCALHOST, address.port()).into()) {
            Ok((listener, _)) => listeners.push(listener),
            Err(error) => debug!(%error, "jobs' pulls are answered over IPv4 only"),
        }
        drop(_inside);
        Ok(Self { runtime, listeners, address })
    }

    /// Begins to answer, until `stop`.
    ///
    /// # Errors
    /// When the system has no room for another thread.
    pub fn start(self, threads: &Threads, ends: Ends, stop: CancellationToken) -> Result<(), PullError> {
        info!(address = %self.address, "jobs of this node may pull");
        let work = move || {
            self.runtime.block_on(run(self.listeners, ends, stop));
            // A disk that hangs must not keep the agent.
            self.runtime.shutdown_background();
        };
        threads.start("pull", work).map_err(|source| PullError::Thread { source })
    }
}

async fn run(listeners: Vec<TcpListener>, ends: Ends, stop: CancellationToken) {
    let tasks = Tasks::new();
    let desk = Arc::new(Desk::new(ends, Patience::default(), &tasks));
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    for listener in listeners {
        let accepting = accept(listener, Arc::clone(&desk), Arc::clone(&room), tasks.clone());
        tasks.spawn("pull listener", accepting);
    }
    stop.cancelled().await;
    tasks.shutdown(GRACE).await;
}

async fn accept(listener: TcpListener, desk: Arc<Desk>, room: Arc<Semaphore>, tasks: Tasks) {
    let stop = tasks.token();
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _peer)) => stream,
                Err(error) => {
                    debug!(%error, "a connection could not be taken");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        let (desk, stop) = (Arc::clone(&desk), stop.clone());
        tasks.spawn("pull", async move {
            stop.run_until_cancelled(serve(stream, desk)).await;
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, desk: Arc<Desk>) {
    let service = service_fn(move |request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, std::convert::Infallible>(answer::answer(&desk, &request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(Patient::new(stream, STALL)), service);
    if let Err(error) = served.await {
        debug!(%error, "a pull ended early");
    }
}

#[cfg(test)]
mod tests;
