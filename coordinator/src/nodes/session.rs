//! One agent's connection: handshake, hello, then messages both ways until either side ends it.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, Incoming, RecvStream, SendStream, VarInt};
use sifleet_common::name::NodeName;
use sifleet_common::quic::HANDSHAKE_LIMIT;
use sifleet_common::time::{Monotonic, UnixMillis};
use sifleet_common::wire::code::CloseCode;
use sifleet_common::wire::control::{Hello, ToCoordinator};
use sifleet_common::wire::enrol::ENROL_ALPN;
use sifleet_common::wire::frame::{FrameError, FrameReader, write_frame};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Shared;
use super::issuer::Issuer;
use super::pace::{self, Accounts, Seat};
use super::pull::Pulling;
use super::renewing::Renewing;
use crate::oci::Registry;
use crate::state::run::{Handle, OUTBOX, Share, Stopped, ToSession};
use crate::state::{Caller, Event, SessionId};
use sifleet_common::tls::{IdentityError, NodeIdentity, connected_chain, connected_identity};

/// How long a peer may take over its hello, and over taking one message.
const PATIENCE: Duration = Duration::from_secs(10);
/// A node that has to wait longer until its session begins is to come back later.
const LONGEST_DEBT: Duration = Duration::from_secs(10);

/// Says why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionEnd {
    #[error("the handshake took longer than {HANDSHAKE_LIMIT:?}")]
    SlowHandshake,
    #[error("the connection ended")]
    Connection {
        #[source]
        source: quinn::ConnectionError,
    },
    #[error("the certificate names no node")]
    Identity {
        #[source]
        source: IdentityError,
    },
    #[error("the certificate of {node} ran out at {at}")]
    Expired { node: NodeName, at: UnixMillis },
    #[error("the authority of {node}'s certificate was retired: enrol this node again with a new token")]
    Retired { node: NodeName },
    #[error("{node} has too many connections at a time")]
    Crowded { node: NodeName },
    #[error("{node} used up what one node may of the coordinator; it may come back in {} s", after.as_secs())]
    InDebt { node: NodeName, after: Duration },
    #[error("no hello within {PATIENCE:?}")]
    NoHello,
    #[error("the agent broke the protocol")]
    Frame {
        #[source]
        source: FrameError,
    },
    #[error("the first message is not a hello")]
    NotAHello,
    #[error("the agent ended the stream")]
    Ended,
    #[error("the agent does not take messages")]
    Deaf,
    #[error("closed: {why}")]
    Closed { code: CloseCode, why: String },
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl SessionEnd {
    fn code(&self) -> CloseCode {
        match self {
            Self::Identity { .. } => CloseCode::NotANode,
            Self::Expired { .. } => CloseCode::Expired,
            Self::Frame { .. } | Self::NotAHello | Self::NoHello | Self::SlowHandshake => CloseCode::Protocol,
            Self::Retired { .. } => CloseCode::Revoked,
            Self::Deaf | Self::Crowded { .. } | Self::InDebt { .. } => CloseCode::Busy,
            Self::Closed { code, .. } => *code,
            Self::Connection { .. } | Self::Ended | Self::Stopped(_) => CloseCode::Stopping,
        }
    }
}

/// Serves one connection from its first packet to its end.
pub(super) async fn serve(incoming: Incoming, session: SessionId, shared: Shared, stop: CancellationToken) {
    let Shared { handle, enrolling, registry, accounts, door } = shared;
    let peer = incoming.remote_address();
    let connection = match handshake(incoming).await {
        Ok(connection) => connection,
        Err(end) => {
            // A node with a certificate of another authority shows nowhere else; repeats become a count.
            warn!(%peer, error = &end as &dyn Error, "a connection did not come about");
            return;
        }
    };
    if is_enrolment(&connection) {
        stop.run_until_cancelled(enrolling.serve(connection, handle)).await;
        return;
    }
    let shown = match node_of(&connection, &handle) {
        Ok(shown) => shown,
        Err(end) => {
            warn!(%peer, error = &end as &dyn Error, "a connection was refused");
            close(&connection, &end);
            return;
        }
    };
    let seat = match seat(&accounts, &shown.node, handle.clock.now().mono) {
        Ok((seat, wait)) => {
            let gone = async {
                tokio::select! {
                    () = stop.cancelled() => {}
                    _why = connection.closed() => {}
                }
            };
            if tokio::time::timeout(wait, gone).await.is_ok() {
                return;
            }
            seat
        }
        Err(end) => {
            // The same line each time, so that repeats become a count.
            warn!(node = %shown.node, "a node dials more often than it may and is turned away");
            debug!(%peer, error = &end as &dyn Error, "a connection was refused");
            door.shut(peer.ip(), handle.clock.now().mono);
            close(&connection, &end);
            return;
        }
    };
    let talk = Talk { connection: &connection, session, shown: &shown, handle: &handle, registry, seat };
    let end = tokio::select! {
        () = stop.cancelled() => SessionEnd::Stopped(Stopped),
        end = talk.run(enrolling.issuer()) => end,
    };
    let node = &shown.node;
    tell(node, peer, &end);
    close(&connection, &end);
    if handle.send(Event::Closed { session }).await.is_err() {
        debug!(%node, "the session ended after the owner loop");
    }
}

/// Writes into the log why a session ended, loudly if somebody should look.
fn tell(node: &NodeName, peer: SocketAddr, end: &SessionEnd) {
    match end {
        SessionEnd::Frame { .. }
        | SessionEnd::NotAHello
        | SessionEnd::Deaf
        | SessionEnd::Expired { .. }
        | SessionEnd::Retired { .. }
        | SessionEnd::Crowded { .. }
        | SessionEnd::InDebt { .. } => {
            warn!(%node, %peer, error = end as &dyn Error, "a session was ended");
        }
        // Once is a node that came back on another way; again and again are two nodes with one certificate.
        SessionEnd::Closed { code: CloseCode::Superseded, .. } => {
            info!(%node, %peer, "another connection of the node took over");
        }
        SessionEnd::SlowHandshake
        | SessionEnd::Connection { .. }
        | SessionEnd::Identity { .. }
        | SessionEnd::NoHello
        | SessionEnd::Ended
        | SessionEnd::Closed { .. }
        | SessionEnd::Stopped(_) => debug!(%node, %peer, error = end as &dyn Error, "a session ended"),
    }
}

async fn handshake(incoming: Incoming) -> Result<Connection, SessionEnd> {
    let connecting = incoming.accept().map_err(|source| SessionEnd::Connection { source })?;
    match tokio::time::timeout(HANDSHAKE_LIMIT, connecting).await {
        Ok(done) => done.map_err(|source| SessionEnd::Connection { source }),
        Err(_elapsed) => Err(SessionEnd::SlowHandshake),
    }
}

fn is_enrolment(connection: &Connection) -> bool {
    let agreed = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    agreed.is_some_and(|agreed| agreed.protocol.as_deref() == Some(ENROL_ALPN))
}

fn node_of(connection: &Connection, handle: &Handle) -> Result<NodeIdentity, SessionEnd> {
    let shown = connected_identity(connection).map_err(|source| SessionEnd::Identity { source })?;
    if shown.is_in_force(handle.clock.now().wall) {
        Ok(shown)
    } else {
        Err(SessionEnd::Expired { node: shown.node, at: shown.not_after })
    }
}

/// Lets a node in, unless it has used up too much, or has too many connections; tells how long it waits for it.
fn seat(accounts: &Accounts, node: &NodeName, now: Monotonic) -> Result<(Seat, Duration), SessionEnd> {
    let seat = accounts.open(node, now).ok_or_else(|| SessionEnd::Crowded { node: node.clone() })?;
    let begun = seat.begin(LONGEST_DEBT, now);
    let wait = begun.map_err(|after| SessionEnd::InDebt { node: node.clone(), after })?;
    Ok((seat, wait))
}

/// One session, once it is known whose.
struct Talk<'a> {
    connection: &'a Connection,
    session: SessionId,
    shown: &'a NodeIdentity,
    handle: &'a Handle,
    registry: Option<Registry>,
    seat: Seat,
}

impl Talk<'_> {
    async fn run(&self, issuer: &Issuer) -> SessionEnd {
        let Self { connection, session, shown, handle, .. } = self;
        let opened = tokio::time::timeout(PATIENCE, async {
            let (send, receive) =
                connection.accept_bi().await.map_err(|source| SessionEnd::Connection { source })?;
            let mut frames = FrameReader::new(receive);
            let hello = hello(&mut frames).await?;
            Ok((send, frames, hello))
        });
        let (send, frames, hello) = match opened.await {
            Ok(Ok(opened)) => opened,
            Ok(Err(end)) => return end,
            Err(_elapsed) => return SessionEnd::NoHello,
        };
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let caller = Caller {
            node: shown.node.clone(),
            epoch: shown.epoch,
            address: connection.remote_address().ip(),
            reached: connection.local_ip(),
        };
        let chain = match connected_chain(connection) {
            Ok(chain) => chain,
            Err(source) => return SessionEnd::Identity { source },
        };
        // The owner alone keeps the session open: when it drops its end, the session ends.
        let now = handle.clock.now().mono;
        let renewing = Renewing::new(issuer, (shown, chain), outbox.downgrade(), now);
        let whose = ((*handle).clone(), shown.node.clone());
        let pulling = Pulling::new(self.registry.clone(), whose, outbox.downgrade());
        if let Err(stopped) = handle.open(*session, caller, hello, outbox).await {
            return stopped.into();
        }
        tokio::select! {
            end = self.listen(frames, renewing, pulling) => end,
            end = speak(send, messages) => end,
        }
    }

    async fn listen(
        &self,
        mut frames: FrameReader<RecvStream>,
        mut renewing: Renewing<'_>,
        mut pulling: Pulling,
    ) -> SessionEnd {
        let (share, mut held, mut told) = (Share::default(), Held::default(), false);
        loop {
            let message = tokio::select! {
                message = frames.next::<ToCoordinator>() => message,
                () = renewing.due(self.handle) => {
                    match renewing.look(self.handle.clock.now()) {
                        Ok(()) => continue,
                        Err(end) => return end,
                    }
                }
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => return SessionEnd::Ended,
                Err(source) => return SessionEnd::Frame { source },
            };
            let replicas = held.replicas(&message, &self.shown.node, self.handle);
            let wait = self.seat.say(&message, replicas, self.handle.clock.now().mono);
            if !wait.is_zero() && !std::mem::replace(&mut told, true) {
                warn!(node = %self.shown.node, "a node says more than its share and is listened to more slowly");
            }
            if let Err(end) = self.pause(wait, &mut renewing).await {
                return end;
            }
            if matches!(message, ToCoordinator::Renew)
                && let Err(end) = renewing.renew(self.handle)
            {
                return end;
            }
            if let ToCoordinator::Pull(pull) = message {
                pulling.take(*pull);
                continue;
            }
            if let Err(stopped) = self.handle.say(self.session, message, &share).await {
                return stopped.into();
            }
        }
    }

    /// Lets a node that used up its share wait, as long as it is there and may be.
    async fn pause(&self, wait: Duration, renewing: &mut Renewing<'_>) -> Result<(), SessionEnd> {
        if wait.is_zero() {
            return Ok(());
        }
        let until = tokio::time::Instant::now() + wait;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return Ok(()),
                source = self.connection.closed() => return Err(SessionEnd::Connection { source }),
                () = renewing.due(self.handle) => renewing.look(self.handle.clock.now())?,
            }
        }
    }
}

/// Where in the view the node is, once it is there.
#[derive(Default)]
struct Held(Option<usize>);

impl Held {
    /// Tells how many replicas a node has, if the cost of a message depends on it.
    fn replicas(&mut self, message: &ToCoordinator, node: &NodeName, handle: &Handle) -> usize {
        if !pace::depends_on_replicas(message) {
            return 0;
        }
        let view = handle.views.load();
        self.0 = self.0.or_else(|| view.place_of(node));
        self.0.map_or(0, |place| view.replicas_at(place))
    }
}

async fn hello(frames: &mut FrameReader<RecvStream>) -> Result<Hello, SessionEnd> {
    match frames.next().await {
        Ok(Some(ToCoordinator::Hello(hello))) => Ok(hello),
        Ok(Some(_)) => Err(SessionEnd::NotAHello),
        Ok(None) => Err(SessionEnd::Ended),
        Err(source) => Err(SessionEnd::Frame { source }),
    }
}

async fn speak(mut stream: SendStream, mut messages: mpsc::Receiver<ToSession>) -> SessionEnd {
    while let Some(message) = messages.recv().await {
        match message {
            ToSession::Message(message) => {
                match tokio::time::timeout(PATIENCE, write_frame(&mut stream, &message)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(source)) => return SessionEnd::Frame { source },
                    Err(_elapsed) => return SessionEnd::Deaf,
                }
            }
            ToSession::Close(code, why) => return SessionEnd::Closed { code, why },
        }
    }
    SessionEnd::Deaf
}

fn close(connection: &Connection, end: &SessionEnd) {
    connection.close(VarInt::from_u32(end.code().number()), end.to_string().as_bytes());
}
