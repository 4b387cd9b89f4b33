//! One agent's connection: handshake, hello, then messages both ways until either side ends it.

use std::error::Error;
use std::time::Duration;

use quinn::{Connection, Incoming, RecvStream, SendStream, VarInt};
use sifleet_common::name::NodeName;
use sifleet_common::quic::HANDSHAKE_LIMIT;
use sifleet_common::wire::code::CloseCode;
use sifleet_common::wire::control::{Hello, ToCoordinator};
use sifleet_common::wire::frame::{FrameError, FrameReader, write_frame};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::identity::{self, IdentityError};
use crate::state::run::{Handle, OUTBOX, Share, Stopped, ToSession};
use crate::state::{Caller, Event, SessionId};

/// How long a peer may take over its hello, and over taking one message.
const PATIENCE: Duration = Duration::from_secs(10);

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
            Self::Frame { .. } | Self::NotAHello | Self::NoHello | Self::SlowHandshake => CloseCode::Protocol,
            Self::Deaf => CloseCode::Busy,
            Self::Closed { code, .. } => *code,
            Self::Connection { .. } | Self::Ended | Self::Stopped(_) => CloseCode::Stopping,
        }
    }
}

/// Serves one connection from its first packet to its end.
pub(super) async fn serve(incoming: Incoming, session: SessionId, handle: Handle, stop: CancellationToken) {
    let peer = incoming.remote_address();
    let connection = match handshake(incoming).await {
        Ok(connection) => connection,
        Err(end) => {
            // A node with a certificate of another authority shows nowhere else; repeats become a count.
            warn!(%peer, error = &end as &dyn Error, "a connection did not come about");
            return;
        }
    };
    let node = match node_of(&connection) {
        Ok(node) => node,
        Err(end) => {
            warn!(%peer, error = &end as &dyn Error, "a connection was refused");
            close(&connection, &end);
            return;
        }
    };
    let end = tokio::select! {
        () = stop.cancelled() => SessionEnd::Stopped(Stopped),
        end = talk(&connection, session, &node, &handle) => end,
    };
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

fn node_of(connection: &Connection) -> Result<NodeName, SessionEnd> {
    identity::connected_node_name(connection).map_err(|source| SessionEnd::Identity { source })
}

async fn talk(connection: &Connection, session: SessionId, node: &NodeName, handle: &Handle) -> SessionEnd {
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
        node: node.clone(),
        address: connection.remote_address().ip(),
        reached: connection.local_ip(),
    };
    if let Err(stopped) = handle.open(session, caller, hello, outbox).await {
        return stopped.into();
    }
    tokio::select! {
        end = listen(frames, session, handle) => end,
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

async fn listen(mut frames: FrameReader<RecvStream>, session: SessionId, handle: &Handle) -> SessionEnd {
    let share = Share::default();
    loop {
        let message = match frames.next::<ToCoordinator>().await {
            Ok(Some(message)) => message,
            Ok(None) => return SessionEnd::Ended,
            Err(source) => return SessionEnd::Frame { source },
        };
        if let Err(stopped) = handle.say(session, message, &share).await {
            return stopped.into();
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
