//! The one connection to the coordinator: dial, introduce, report, listen; for ever.
//!
//! What to say is decided by the pure [`report::Reporter`]; when to dial again by the pure [`backoff`]. This
//! file and [`link`] only move messages between the two, the network and the rest of the agent.

mod asked;
pub mod backoff;
pub(crate) mod link;
mod looks;
pub mod report;
mod vigil;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sifleet_common::clock::Clock;
use sifleet_common::digest::Digest;
use sifleet_common::image::{Arch, ImageMetadata};
use sifleet_common::inventory::{Change, RootId};
use sifleet_common::name::{ImageName, PartitionName};
use sifleet_common::wire::assignment::{Order, Report};
use sifleet_common::wire::code::CloseCode;
use sifleet_common::wire::control::StreamId;
use sifleet_common::wire::pull;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::credentials::Credentials;
use crate::describe::Candidate;
use crate::enrol;
use backoff::Backoff;
use report::{About, Reporter};

/// The session's loops turn at least this often, for the watchdog.
const TURN: Duration = Duration::from_secs(1);

/// What the session asks of the rest of the agent.
#[derive(Debug)]
pub enum Command {
    /// Reconcile all roots, at once.
    Rescan,
    /// Reconcile all roots, at once, and tell when each was looked at.
    Reconcile {
        /// Told once every change that was found is among the changes; dropped if nobody will say.
        reply: oneshot::Sender<()>,
    },
    /// Tell where an image is on this node.
    Locate {
        /// Which image.
        digest: Digest,
        /// Where the answer goes; empty if it is nowhere.
        reply: oneshot::Sender<Vec<Candidate>>,
    },
    /// Tell which image lies below a root under a name.
    At {
        /// Below which root.
        root: RootId,
        /// Under which name.
        name: ImageName,
        /// Where the answer goes; nothing if no image is known to be there.
        reply: oneshot::Sender<Option<(Digest, Candidate)>>,
    },
    /// Tell which images of this node may have chunks in common with another one.
    Related {
        /// By its name.
        name: ImageName,
        /// Images whose chunk maps are known, so that asking costs nothing.
        mapped: BTreeSet<Digest>,
        /// Where the answer goes.
        reply: oneshot::Sender<Vec<(Digest, Candidate)>>,
    },
    /// Read what an image says of itself, and its sidecar.
    Describe {
        /// Which image.
        digest: Digest,
        /// Where the answer goes; nothing if the image is gone.
        reply: oneshot::Sender<Option<(ImageMetadata, Option<String>)>>,
    },
}

/// Something that only the coordinator can say, asked for the node's jobs.
#[derive(Debug)]
pub struct Question {
    /// What is asked for.
    pub wanted: pull::Wanted,
    /// Where the answer goes; nothing comes when the session ends before.
    pub reply: oneshot::Sender<pull::Answer>,
}

/// What the session needs to know before it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// Coordinators as `host:port`, tried in turn.
    pub coordinators: Vec<String>,
    /// This node's certificate.
    pub credentials: Credentials,
    /// The node's processor.
    pub arch: Arch,
    /// Partitions the settings name.
    pub partitions: Vec<PartitionName>,
    /// Where other nodes fetch from this one; 0 if they cannot.
    pub transfer_port: u16,
    /// How long to wait for the first scan before saying hello.
    pub patience: Duration,
}

/// What joins the session to the rest of the agent.
#[derive(Debug)]
pub struct Parts {
    /// Effective changes of the inventory, in order.
    pub changes: mpsc::Receiver<Vec<Change>>,
    /// Where commands of the coordinator go. When it is full, the session waits and the coordinator with it.
    pub commands: mpsc::Sender<Command>,
    /// Where orders about transfers go. When it is full, the session waits as well.
    pub orders: mpsc::Sender<Order>,
    /// What the transfers have to say; what comes while nobody listens is dropped, for it is said again on every order.
    pub reports: mpsc::Receiver<Report>,
    /// What the node's jobs want to know; what comes while nobody listens waits.
    pub questions: mpsc::Receiver<Question>,
    /// Cancelled when the agent stops.
    pub stop: CancellationToken,
    /// Called whenever the session's loop has moved, at least once a second.
    pub beat: Arc<dyn Beat>,
}

/// Is told that a loop has moved.
pub trait Beat: Send + Sync + std::fmt::Debug {
    /// Notes the move, and whether the coordinator is connected.
    fn beat(&self, connected: bool);
}

/// Says why a session ended or did not come about.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The name leads nowhere.
    #[error("cannot resolve the coordinator {coordinator:?}; check `coordinators` in the settings and DNS")]
    Resolve {
        /// As set.
        coordinator: String,
        /// What the resolver said, if anything.
        #[source]
        source: Option<std::io::Error>,
    },
    /// No local socket.
    #[error("cannot open a UDP socket to dial from")]
    Socket {
        /// What the system said.
        #[source]
        source: sifleet_common::quic::QuicError,
    },
    /// The dial could not begin.
    #[error("cannot dial the coordinator at {address}")]
    Dial {
        /// Where.
        address: SocketAddr,
        /// What QUIC said.
        #[source]
        source: quinn::ConnectError,
    },
    /// Nobody answered.
    #[error("the coordinator at {address} does not answer; is it running and its UDP port open?")]
    Silent {
        /// Where.
        address: SocketAddr,
    },
    /// The connection broke, or was refused.
    #[error("the connection to the coordinator at {address} ended")]
    Connection {
        /// Where.
        address: SocketAddr,
        /// How.
        #[source]
        source: quinn::ConnectionError,
    },
    /// The coordinator ended it, and said why.
    #[error("the coordinator at {address} ended the session: {reason}")]
    Refused {
        /// Where.
        address: SocketAddr,
        /// A `CloseCode` as a number.
        code: u64,
        /// In its words.
        reason: String,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS for the coordinator")]
    Tls {
        /// What is wrong.
        #[source]
        source: sifleet_common::tls::TlsError,
    },
    /// A frame could not be exchanged.
    #[error("the control stream to {address} broke")]
    Frame {
        /// Where.
        address: SocketAddr,
        /// How.
        #[source]
        source: sifleet_common::wire::frame::FrameError,
    },
    /// There is another certificate, which the coordinator has not seen.
    #[error("the node has another certificate")]
    Exchanged,
    /// The agent stops, in the middle of a message.
    #[error("the agent stops")]
    Stopped,
    /// The coordinator ended the stream.
    #[error("the coordinator at {address} ended the control stream")]
    Ended {
        /// Where.
        address: SocketAddr,
    },
}

impl SessionError {
    /// Tells whether the coordinator ended it for this reason.
    fn has_code(&self, why: CloseCode) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == u64::from(why.number()))
    }
}

/// Keeps a session to a coordinator until the agent stops or nobody reports changes any longer.
pub async fn run(config: Config, mut parts: Parts) {
    let about = About {
        build: env!("CARGO_PKG_VERSION").to_owned(),
        arch: config.arch,
        partitions: config.partitions.clone(),
        transfer_port: config.transfer_port,
    };
    let mut reporter = Reporter::new(StreamId(rand::random()), about);
    if !first_scan(&mut reporter, &mut parts, config.patience).await {
        return;
    }
    let mut backoff = Backoff::default();
    let mut attempt = 0usize;
    loop {
        let Some(coordinator) = config.coordinators.get(attempt % config.coordinators.len().max(1)) else {
            return;
        };
        let ended = link::talk(coordinator, &config.credentials, &mut reporter, &mut parts).await;
        match ended {
            Ok(()) => return,
            Err(SessionError::Exchanged) => {
                info!(%coordinator, "the node has another certificate: the session is begun anew with it");
                continue;
            }
            Err(error) => {
                let expired = error.has_code(CloseCode::Expired)
                    || config.credentials.is_over(Clock::start().now().wall);
                let (revoked, error) = (error.has_code(CloseCode::Revoked), chain(&error));
                if revoked {
                    warn!(%coordinator, error, "this node was revoked: enrol it again with a new token");
                } else {
                    warn!(%coordinator, error, "not connected to the coordinator");
                }
                if expired {
                    renew(coordinator, &config.credentials).await;
                }
            }
        }
        if reporter.take_welcomed() {
            backoff = Backoff::default();
        }
        attempt = attempt.wrapping_add(1);
        if !pause(backoff.next(rand::random()), &mut reporter, &mut parts).await {
            return;
        }
    }
}

/// Renews a certificate that has run out; the next dial shows whether that helped.
async fn renew(coordinator: &str, credentials: &Credentials) {
    if let Err(error) = enrol::renew(coordinator, credentials).await {
        let error = chain(&error);
        warn!(%coordinator, error, "the node's certificate has run out and was not renewed");
    }
}

/// Collects the inventory until every root has been scanned once, or patience ends.
///
/// An agent that says hello earlier would seem to have lost everything, and would have to send it all again.
async fn first_scan(reporter: &mut Reporter, parts: &mut Parts, patience: Duration) -> bool {
    let deadline = tokio::time::Instant::now() + patience;
    let mut turns = tokio::time::interval(TURN);
    while !reporter.scanned() {
        tokio::select! {
            () = parts.stop.cancelled() => return false,
            () = tokio::time::sleep_until(deadline) => {
                warn!("the first scan takes long; reporting what is known so far");
                return true;
            }
            _ = turns.tick() => {}
            changes = parts.changes.recv() => match changes {
                Some(changes) => drop(reporter.observe(changes)),
                None => return false,
            },
        }
        parts.beat.beat(false);
    }
    info!(generation = reporter.generation().0, "inventory is known");
    true
}

/// Waits between two dials, taking changes in; returns whether to go on.
async fn pause(wait: Duration, reporter: &mut Reporter, parts: &mut Parts) -> bool {
    let deadline = tokio::time::Instant::now() + wait;
    let mut turns = tokio::time::interval(TURN);
    loop {
        tokio::select! {
            () = parts.stop.cancelled() => return false,
            () = tokio::time::sleep_until(deadline) => return true,
            _ = turns.tick() => {}
            changes = parts.changes.recv() => match changes {
                Some(changes) => drop(reporter.observe(changes)),
                None => return false,
            },
        }
        parts.beat.beat(false);
    }
}

/// Writes an error and everything beneath it in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
