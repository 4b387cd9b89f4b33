//! Gets the chunk map of an image from whichever peer hands it out first.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::{Connection, Endpoint};
use rand::seq::SliceRandom;
use sifleet_common::capability::Capability;
use sifleet_common::chunk::{ChunkMap, MapDigest};
use sifleet_common::digest::Digest;
use sifleet_common::wire::assignment::{Assignment, Peer};
use sifleet_common::wire::chunk::{MapPart, Opening};
use sifleet_common::wire::frame::{FrameReader, write_frame};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};

use super::peer::dial;
use crate::map::kept::Joining;

/// Peers asked at once. Most have no map yet when a push begins, and say so at once; a map is fetched so many times at worst.
const AT_ONCE: usize = 4;
/// After so long without an answer another peer is asked as well.
const NEXT: Duration = Duration::from_millis(25);
/// A peer that sends nothing for so long has fallen silent, or makes the map and is asked again in the next round.
const SILENCE: Duration = Duration::from_secs(5);
/// Between two rounds of asking everybody for a map that nobody has yet.
const ROUND: Duration = Duration::from_millis(200);
/// A map that nobody handed out for so long is not to be had.
pub(super) const NO_MAP: Duration = Duration::from_secs(60);

/// Which map is wanted.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) image: Digest,
    pub(super) map: MapDigest,
}

impl Wanted {
    /// Asks those that the assignment names, again and again, for [`NO_MAP`].
    pub(super) async fn get(
        self,
        endpoint: &Endpoint,
        assigned: &mut watch::Receiver<Assignment>,
    ) -> Option<ChunkMap> {
        let asked = async {
            loop {
                let (mut peers, size, capability) = {
                    let assignment = assigned.borrow_and_update();
                    (assignment.peers.clone(), assignment.size, assignment.capability.clone())
                };
                // If everybody began with the same one, it would do nothing else.
                peers.shuffle(&mut rand::rng());
                if let Some(map) = self.round(endpoint, peers, (size, capability)).await {
                    return map;
                }
                tokio::time::sleep(ROUND).await;
            }
        };
        tokio::time::timeout(NO_MAP, asked).await.ok()
    }

    async fn round(
        self,
        endpoint: &Endpoint,
        peers: Vec<Peer>,
        (size, capability): (u64, Capability),
    ) -> Option<ChunkMap> {
        let (mut peers, mut asked) = (peers.into_iter(), JoinSet::new());
        loop {
            if asked.len() < AT_ONCE
                && let Some(peer) = peers.next()
            {
                asked.spawn(self.ask(endpoint.clone(), peer, (size, capability.clone())));
            }
            let more = asked.len() < AT_ONCE && peers.len() > 0;
            tokio::select! {
                answer = asked.join_next() => match answer {
                    Some(Ok(Some(map))) => return Some(map),
                    Some(_) => {}
                    None => return None,
                },
                () = tokio::time::sleep(NEXT), if more => {}
            }
        }
    }

    async fn ask(
        self,
        endpoint: Endpoint,
        peer: Peer,
        (size, capability): (u64, Capability),
    ) -> Option<ChunkMap> {
        let connection = dial(&endpoint, &peer).await?;
        self.read(&connection, size, capability).await
    }

    /// Reads what a peer hands out; none if it has no map, or another one, or falls silent.
    async fn read(self, connection: &Connection, size: u64, capability: Capability) -> Option<ChunkMap> {
        let (mut send, receive) = connection.open_bi().await.ok()?;
        write_frame(&mut send, &Opening::Map { image: self.image, capability }).await.ok()?;
        let (mut frames, mut joining) = (FrameReader::new(Heard::new(receive, SILENCE)), Joining::of(size));
        while let Some(part) = frames.next::<MapPart>().await.ok()? {
            if let Some(map) = joining.take(self.image, part).ok()? {
                return (map.digest() == self.map).then_some(map);
            }
        }
        None
    }
}

/// Reads until nothing comes for so long.
struct Heard<R> {
    from: R,
    silence: Duration,
    limit: Pin<Box<Sleep>>,
}

impl<R> Heard<R> {
    fn new(from: R, silence: Duration) -> Self {
        Self { from, silence, limit: Box::pin(tokio::time::sleep(silence)) }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Heard<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.from).poll_read(context, buffer) {
            Poll::Ready(read) => {
                let silence = self.silence;
                self.limit.as_mut().reset(Instant::now() + silence);
                Poll::Ready(read)
            }
            Poll::Pending => self.limit.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_peer_that_falls_silent_is_not_waited_for_and_a_slow_one_is() {
        const LIMIT: Duration = Duration::from_secs(1);
        let (mut peer, here) = tokio::io::duplex(64);
        let (mut heard, mut byte) = (Heard::new(here, LIMIT), [0; 1]);
        for _ in 0..4 {
            let later = tokio::time::timeout(LIMIT / 3, heard.read(&mut byte)).await;
            assert!(later.is_err(), "nothing came yet");
            peer.write_all(b"x").await.unwrap();
            heard.read_exact(&mut byte).await.unwrap();
        }
        let silent = tokio::time::timeout(60 * LIMIT, heard.read(&mut byte)).await.unwrap();
        assert_eq!(silent.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
