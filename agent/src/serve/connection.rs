//! One peer's connection: the streams it opens, to follow an image or to read a chunk map.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream, VarInt};
use sifleet_common::chunk::span::{MAX_SPANS, SpanId};
use sifleet_common::quic::HANDSHAKE_LIMIT;
use sifleet_common::task::Tasks;
use sifleet_common::time::UnixMillis;
use sifleet_common::tls::connected_identity;
use sifleet_common::wire::chunk::{Offer, Opening, Run, StopCode, Wish, are_sound, numbers};
use sifleet_common::wire::frame::{FrameError, FrameReader, write_frame};
use tokio::sync::{Semaphore, mpsc};
use tracing::debug;

use super::find::Finder;
use super::giving::{Event, MAX_FOLLOWERS};
use super::map;
use super::offer::FollowerId;
use super::permits::Permits;
use super::places::{OF_ONE, Places};
use super::run::{Follower, Input, Serving};
use crate::fetch::set::SpanSet;

/// How long a peer may take to say what it wants, or to take what is said.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Offers that wait for one follower: with more it does not listen.
const OFFERS: usize = 256;

/// Serves whoever connects, until the tasks are stopped.
pub async fn accept(
    endpoint: Endpoint,
    (finder, permits): (Finder, Permits),
    serving: Serving,
    tasks: Tasks,
) {
    let stop = tasks.token();
    let (room, numbers) = (Arc::new(Semaphore::new(MAX_FOLLOWERS)), Arc::new(AtomicU64::new(0)));
    let places = Places::default();
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
            permits: permits.clone(),
            serving: serving.clone(),
            numbers: Arc::clone(&numbers),
            places: places.clone(),
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

/// Says how a peer broke the protocol.
#[derive(Debug, thiserror::Error)]
pub(super) enum PeerError {
    #[error("the peer sent what is no message")]
    Frame {
        #[source]
        source: FrameError,
    },
    #[error("the peer names {count} runs of spans or chunks, too many or not in order or beyond the image")]
    Runs { count: usize },
}

/// Why somebody follows no longer.
enum Parted {
    /// Either side has had enough.
    Enough,
    /// The permission has ended.
    Over,
}

#[derive(Clone)]
struct Peer {
    finder: Finder,
    permits: Permits,
    serving: Serving,
    numbers: Arc<AtomicU64>,
    places: Places,
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
        let place = connected_identity(&connection).ok().and_then(|peer| self.places.take(peer.node));
        let Some(_place) = place else {
            debug!(peer = %address, limit = OF_ONE, "a peer has too many connections");
            connection
                .close(VarInt::from_u32(StopCode::Stopping as u32), b"too many connections of one node");
            return;
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
    ) -> Result<(), PeerError> {
        let mut frames = FrameReader::new(receive);
        let Ok(opening) = tokio::time::timeout(PATIENCE, frames.next::<Opening>()).await else {
            return Ok(());
        };
        match opening.map_err(|source| PeerError::Frame { source })? {
            Some(Opening::Follow { image, map, lacks, capability }) => {
                let lacks = set(&lacks)?;
                let (wanted, image) = (image, self.permits.asked(connection, image, &capability));
                // Whoever may not have it waits for "absent" like everybody else.
                let until = (image == wanted).then(|| Permits::until(connection, &capability));
                let id = FollowerId(self.numbers.fetch_add(1, Ordering::Relaxed));
                let (offers, receiver) = mpsc::channel(OFFERS);
                let connection = connection.clone();
                let follower = Follower { id, image, map, lacks, connection, offers };
                self.serving.put(Input::Follow(follower)).await;
                let over = self.permits.over(until.unwrap_or(UnixMillis(i64::MAX)));
                let ended = self.follow(id, (send, frames), receiver, over).await;
                let gone = if matches!(ended, Ok(Parted::Over)) {
                    Input::Over(id)
                } else {
                    Input::Event(Event::Left(id))
                };
                self.serving.put(gone).await;
                ended.map(drop)
            }
            Some(Opening::Map { image, capability }) => {
                let image = self.permits.asked(connection, image, &capability);
                // Whoever is gone does not keep others from having a map made.
                tokio::select! {
                    _ = connection.closed() => {}
                    () = map::whole(&self.finder, image, send) => {}
                }
                Ok(())
            }
            Some(Opening::Outline { image, capability }) => {
                let image = self.permits.asked(connection, image, &capability);
                tokio::select! {
                    _ = connection.closed() => Ok(()),
                    handed_out = map::outline(&self.finder, image, (send, frames)) => handed_out,
                }
            }
            None => Ok(()),
        }
    }

    /// Passes wishes on and offers back, until either side has enough or the permission is over: that is looked at between
    /// two offers, for half a one and an end would look like harm.
    async fn follow(
        &self,
        id: FollowerId,
        (mut send, mut frames): (SendStream, FrameReader<RecvStream>),
        mut offers: mpsc::Receiver<Offer>,
        over: impl Future<Output = ()>,
    ) -> Result<Parted, PeerError> {
        let mut over = std::pin::pin!(over);
        loop {
            tokio::select! {
                // Whoever is still permitted follows again, with the capability that it was given meanwhile.
                () = &mut over => return Ok(Parted::Over),
                wish = frames.next::<Wish>() => match wish {
                    Ok(Some(Wish::Want)) => self.serving.put(Input::Event(Event::Wanted(id))).await,
                    Ok(Some(Wish::Got(runs))) => {
                        let spans = sound(&runs)?.collect();
                        self.serving.put(Input::Event(Event::Got(id, spans))).await;
                    }
                    // A peer that has everything, or is gone, breaks nothing.
                    Ok(None) | Err(FrameError::Stream { .. }) => return Ok(Parted::Enough),
                    Err(source) => return Err(PeerError::Frame { source }),
                },
                offer = offers.recv() => {
                    let Some(offer) = offer else { return Ok(Parted::Enough) };
                    if !say(&mut send, &offer).await || offer == Offer::Absent {
                        return Ok(Parted::Enough);
                    }
                }
            }
        }
    }
}

/// Says something, unless the peer does not listen. Then the stream is reset: half a frame and an end would look like
/// one that means harm.
pub(super) async fn say<T: serde::Serialize>(send: &mut SendStream, what: &T) -> bool {
    let said = matches!(tokio::time::timeout(PATIENCE, write_frame(send, what)).await, Ok(Ok(())));
    if !said {
        // A stream that is gone needs no reset.
        drop(send.reset(VarInt::from_u32(StopCode::Stopping as u32)));
    }
    said
}

/// Lists the spans of a peer's runs.
fn sound(runs: &[Run]) -> Result<impl Iterator<Item = SpanId> + '_, PeerError> {
    if are_sound(runs, MAX_SPANS) {
        Ok(numbers(runs, MAX_SPANS).map(SpanId))
    } else {
        Err(PeerError::Runs { count: runs.len() })
    }
}

/// Gathers them in a set, which takes 16 KiB at most, however many runs there are.
fn set(runs: &[Run]) -> Result<SpanSet, PeerError> {
    let spans = sound(runs)?;
    let mut set = SpanSet::empty(runs.last().map_or(0, |run| run.first.saturating_add(run.count)));
    for span in spans {
        set.insert(span);
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_follower_lacks_takes_no_more_than_a_bit_for_each_span_and_nonsense_is_refused() {
        let run = |first, count| Run { first, count };
        let lacks = set(&[run(1, 2), run(7, 1)]).unwrap();
        assert_eq!(lacks.len(), 8);
        assert_eq!(lacks.iter().collect::<Vec<_>>(), [1, 2, 7].map(SpanId));
        assert!(set(&[]).unwrap().is_empty());
        assert!(set(&[run(0, MAX_SPANS + 1)]).is_err());
        assert!(set(&[run(3, 1); 2]).is_err());
    }
}
