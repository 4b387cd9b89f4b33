//! One peer's connection: the streams it opens, to follow an image or to read a chunk map.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream, VarInt};
use sifleet_common::chunk::span::{MAX_SPANS, SpanId};
use sifleet_common::quic::HANDSHAKE_LIMIT;
use sifleet_common::task::Tasks;
use sifleet_common::wire::chunk::{Offer, Opening, StopCode, Wish, map_parts, numbers};
use sifleet_common::wire::frame::{FrameError, FrameReader, write_frame};
use tokio::sync::{Semaphore, mpsc};
use tracing::debug;

use super::find::Finder;
use super::giving::{Event, MAX_FOLLOWERS};
use super::offer::FollowerId;
use super::run::{Follower, Input, Serving};

/// How long a peer may take to say what it wants, or to take what is said.
const PATIENCE: Duration = Duration::from_secs(10);
/// Offers that wait for one follower: with more it does not listen.
const OFFERS: usize = 256;

/// Serves whoever connects, until the tasks are stopped.
pub async fn accept(endpoint: Endpoint, finder: Finder, serving: Serving, tasks: Tasks) {
    let stop = tasks.token();
    let (room, numbers) = (Arc::new(Semaphore::new(MAX_FOLLOWERS)), Arc::new(AtomicU64::new(0)));
    loop {
        let incoming = tokio::select! {
            () = stop.cancelled() => break,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { break };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let peer = Peer {
            finder: finder.clone(),
            serving: serving.clone(),
            numbers: Arc::clone(&numbers),
            tasks: tasks.clone(),
        };
        let stop = stop.clone();
        tasks.spawn("peer", async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = peer.serve(incoming) => {}
            }
            drop(permit);
        });
    }
    endpoint.close(VarInt::from_u32(StopCode::Stopping as u32), b"the agent stops");
}

/// Ends a connection whose peer does not keep to the protocol.
pub(crate) fn close(connection: &Connection) {
    connection.close(VarInt::from_u32(StopCode::Protocol as u32), b"not as told in the protocol");
}

#[derive(Clone)]
struct Peer {
    finder: Finder,
    serving: Serving,
    numbers: Arc<AtomicU64>,
    tasks: Tasks,
}

impl Peer {
    async fn serve(&self, incoming: Incoming) {
        let address = incoming.remote_address();
        let Ok(connecting) = incoming.accept() else { return };
        let connection = match tokio::time::timeout(HANDSHAKE_LIMIT, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                debug!(peer = %address, error = &error as &dyn std::error::Error, "a peer could not connect");
                return;
            }
            Err(_elapsed) => return,
        };
        while let Ok((send, receive)) = connection.accept_bi().await {
            let (peer, connection) = (self.clone(), connection.clone());
            self.tasks.spawn("peer's stream", async move {
                if let Err(error) = peer.stream(&connection, send, receive).await {
                    debug!(peer = %address, error = &error as &dyn std::error::Error, "a peer broke the protocol");
                    close(&connection);
                }
            });
        }
    }

    async fn stream(
        &self,
        connection: &Connection,
        send: SendStream,
        receive: RecvStream,
    ) -> Result<(), FrameError> {
        let mut frames = FrameReader::new(receive);
        let Ok(opening) = tokio::time::timeout(PATIENCE, frames.next::<Opening>()).await else {
            return Ok(());
        };
        match opening? {
            Some(Opening::Follow { image, map, lacks }) => {
                let id = FollowerId(self.numbers.fetch_add(1, Ordering::Relaxed));
                let (offers, receiver) = mpsc::channel(OFFERS);
                let connection = connection.clone();
                let follower = Follower { id, image, map, lacks, connection, offers };
                self.serving.put(Input::Follow(follower)).await;
                let ended = self.follow(id, send, frames, receiver).await;
                self.serving.put(Input::Event(Event::Left(id))).await;
                ended
            }
            Some(Opening::Map { image }) => self.map(image, send).await,
            None => Ok(()),
        }
    }

    /// Passes wishes on and offers back, until either side has enough.
    async fn follow(
        &self,
        id: FollowerId,
        mut send: SendStream,
        mut frames: FrameReader<RecvStream>,
        mut offers: mpsc::Receiver<Offer>,
    ) -> Result<(), FrameError> {
        loop {
            tokio::select! {
                wish = frames.next::<Wish>() => match wish {
                    Ok(Some(Wish::Want)) => self.serving.put(Input::Event(Event::Wanted(id))).await,
                    Ok(Some(Wish::Got(runs))) => {
                        let spans = numbers(&runs, MAX_SPANS).map(SpanId).collect();
                        self.serving.put(Input::Event(Event::Got(id, spans))).await;
                    }
                    // A peer that has everything, or is gone, breaks nothing.
                    Ok(None) | Err(FrameError::Stream { .. }) => return Ok(()),
                    Err(error) => return Err(error),
                },
                offer = offers.recv() => {
                    let Some(offer) = offer else { return Ok(()) };
                    let written = tokio::time::timeout(PATIENCE, write_frame(&mut send, &offer)).await;
                    if !matches!(written, Ok(Ok(()))) || offer == Offer::Absent {
                        drop(send.finish());
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Hands a chunk map out; the end of the stream says that there is none.
    async fn map(
        &self,
        image: sifleet_common::digest::Digest,
        mut send: SendStream,
    ) -> Result<(), FrameError> {
        if let Ok(map) = self.finder.map(image).await {
            for part in map_parts(&map) {
                let written = tokio::time::timeout(PATIENCE, write_frame(&mut send, &part)).await;
                if !matches!(written, Ok(Ok(()))) {
                    return Ok(());
                }
            }
        }
        drop(send.finish());
        Ok(())
    }
}
