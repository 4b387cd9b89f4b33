//! One agent's connection: handshake, hello, then messages both ways until either side ends it.

use std::error::Error;
use std::time::Duration;

use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, Incoming, RecvStream, SendStream, VarInt};
use sifleet_common::name::NodeName;
use sifleet_common::quic::HANDSHAKE_LIMIT;
use sifleet_common::time::{Monotonic, Now, UnixMillis};
use sifleet_common::wire::code::CloseCode;
use sifleet_common::wire::control::{Hello, ToAgent, ToCoordinator};
use sifleet_common::wire::enrol::ENROL_ALPN;
use sifleet_common::wire::frame::{FrameError, FrameReader, write_frame};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::enrol::Enrolling;
use super::issuer::{IssueError, Issuer};
use crate::state::run::{Handle, OUTBOX, Share, Stopped, ToSession};
use crate::state::{Caller, Event, SessionId};
use sifleet_common::tls::{IdentityError, NodeIdentity, connected_identity, node_identity};

/// How long a peer may take over its hello, and over taking one message.
const PATIENCE: Duration = Duration::from_secs(10);
/// A session's certificate is renewed at most this often.
const RENEWAL_SPACING: Duration = Duration::from_millis(500);

/// Says why a session ended.
#[derive(Debug, thiserror::Error)]
enum SessionEnd {
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
            Self::Deaf => CloseCode::Busy,
            Self::Closed { code, .. } => *code,
            Self::Connection { .. } | Self::Ended | Self::Stopped(_) => CloseCode::Stopping,
        }
    }
}

/// Serves one connection from its first packet to its end.
pub(super) async fn serve(
    incoming: Incoming,
    session: SessionId,
    (handle, enrolling): (Handle, Enrolling),
    stop: CancellationToken,
) {
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
    let end = tokio::select! {
        () = stop.cancelled() => SessionEnd::Stopped(Stopped),
        end = talk(&connection, session, &shown, (&handle, enrolling.issuer())) => end,
    };
    let node = &shown.node;
    match &end {
        SessionEnd::Frame { .. } | SessionEnd::NotAHello | SessionEnd::Deaf => {
            warn!(%node, %peer, error = &end as &dyn Error, "a session was ended");
        }
        // Once is a node that came back on another way; again and again are two nodes with one certificate.
        SessionEnd::Closed { code: CloseCode::Superseded, .. } => {
            info!(%node, %peer, "another connection of the node took over");
        }
        SessionEnd::SlowHandshake
        | SessionEnd::Connection { .. }
        | SessionEnd::Identity { .. }
        | SessionEnd::Expired { .. }
        | SessionEnd::NoHello
        | SessionEnd::Ended
        | SessionEnd::Closed { .. }
        | SessionEnd::Stopped(_) => debug!(%node, %peer, error = &end as &dyn Error, "a session ended"),
    }
    close(&connection, &end);
    if handle.send(Event::Closed { session }).await.is_err() {
        debug!(%node, "the session ended after the owner loop");
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

async fn talk(
    connection: &Connection,
    session: SessionId,
    shown: &NodeIdentity,
    (handle, issuer): (&Handle, &Issuer),
) -> SessionEnd {
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
    // The owner alone keeps the session open: when it drops its end, the session ends.
    let renewing =
        Renewing { issuer, shown, until: shown.not_after, answers: outbox.downgrade(), last: None };
    if let Err(stopped) = handle.open(session, caller, hello, outbox).await {
        return stopped.into();
    }
    tokio::select! {
        end = listen(frames, session, handle, renewing) => end,
        end = speak(send, messages) => end,
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

async fn listen(
    mut frames: FrameReader<RecvStream>,
    session: SessionId,
    handle: &Handle,
    mut renewing: Renewing<'_>,
) -> SessionEnd {
    let share = Share::default();
    loop {
        let message = match frames.next::<ToCoordinator>().await {
            Ok(Some(message)) => message,
            Ok(None) => return SessionEnd::Ended,
            Err(source) => return SessionEnd::Frame { source },
        };
        if matches!(message, ToCoordinator::Renew) {
            renewing.renew(handle);
        }
        if let Err(stopped) = handle.say(session, message, &share).await {
            return stopped.into();
        }
    }
}

/// Renews the certificate of a session: for the name, epoch and key that it was opened with.
struct Renewing<'a> {
    issuer: &'a Issuer,
    shown: &'a NodeIdentity,
    /// Until when the newest certificate of the session holds.
    until: UnixMillis,
    answers: mpsc::WeakSender<ToSession>,
    last: Option<Monotonic>,
}

impl Renewing<'_> {
    fn renew(&mut self, handle: &Handle) {
        let Now { mono: now, wall } = handle.clock.now();
        let node = &self.shown.node;
        if wall >= self.until || self.shown.epoch < handle.views.load().epoch(node) {
            return debug!(%node, "a certificate that has run out, or was revoked, is not renewed in a session");
        }
        // Signing costs: an agent that asks more often than it has reason to is not answered.
        if self.last.is_some_and(|last| now.since(last) < RENEWAL_SPACING) {
            return;
        }
        self.last = Some(now);
        match self.issuer.renew(self.shown) {
            Ok(certificates) => {
                let first = certificates.chain.first().and_then(|chain| node_identity(chain).ok());
                self.until = first.map_or(self.until, |issued| issued.not_after);
                let answer = ToSession::Message(ToAgent::Renewed(Box::new(certificates)));
                let sent = self.answers.upgrade().is_some_and(|answers| answers.try_send(answer).is_ok());
                debug!(%node, sent, "the certificate was renewed");
            }
            // A site that brings its own certificates: said once a day by an agent that does not know it.
            Err(IssueError::NoAuthority) => debug!(%node, "certificates are made elsewhere"),
            Err(error) => warn!(%node, error = &error as &dyn Error, "a certificate could not be renewed"),
        }
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
