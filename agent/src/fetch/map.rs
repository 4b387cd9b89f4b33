//! Gets the chunk map of an image from whichever peer hands it out first.
//!
//! Where this node has images that may be like it, most of the map is in theirs: its outline is asked for, a quarter of its
//! bytes, and then the digests of chunks that are new.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::{Connection, Endpoint, RecvStream, SendStream};
use rand::seq::SliceRandom;
use sifleet_common::capability::Capability;
use sifleet_common::chunk::{ChunkMap, ChunkPrefix, MapDigest, Outline};
use sifleet_common::digest::Digest;
use sifleet_common::wire::assignment::{Assignment, Peer};
use sifleet_common::wire::chunk::{MAX_RUNS, MapPart, Opening, OutlinePart, Rest, runs};
use sifleet_common::wire::frame::{FrameReader, write_frame};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};
use tracing::debug;

use super::peer::dial;
use crate::map::kept::{Joining, Maps, most_chunks};

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
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) image: Digest,
    pub(super) map: MapDigest,
    pub(super) known: Known,
}

/// Maps of this node that may tell most of it.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) relatives: Arc<[Digest]>,
    pub(super) maps: Arc<Maps>,
}

/// Why a peer's outline did not lead to the map.
enum Unfit {
    /// The peer has no map, or is gone.
    Absent,
    /// Too little of it is known, or other chunks begin alike.
    Misleading,
}

impl Wanted {
    /// Asks those that the assignment names, again and again, for [`NO_MAP`].
    pub(super) async fn get(
        &self,
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
        &self,
        endpoint: &Endpoint,
        peers: Vec<Peer>,
        (size, capability): (u64, Capability),
    ) -> Option<ChunkMap> {
        let (mut peers, mut asked) = (peers.into_iter(), JoinSet::new());
        loop {
            if asked.len() < AT_ONCE
                && let Some(peer) = peers.next()
            {
                asked.spawn(self.clone().ask(endpoint.clone(), peer, (size, capability.clone())));
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
    async fn read(&self, connection: &Connection, size: u64, capability: Capability) -> Option<ChunkMap> {
        if !self.known.relatives.is_empty() {
            match self.outlined(connection, size, capability.clone()).await {
                Ok(map) => return Some(map),
                Err(Unfit::Absent) => return None,
                Err(Unfit::Misleading) => debug!(digest = %self.image, "an outline is of no use"),
            }
        }
        let (_, receive) = open(connection, &Opening::Map { image: self.image, capability }).await?;
        let map = joined(receive, self.image, size).await?;
        (map.digest() == self.map).then_some(map)
    }

    /// Reads the outline, and then what no map of this node tells.
    async fn outlined(
        &self,
        connection: &Connection,
        size: u64,
        capability: Capability,
    ) -> Result<ChunkMap, Unfit> {
        let opening = Opening::Outline { image: self.image, capability };
        let (mut send, mut frames) = open(connection, &opening).await.ok_or(Unfit::Absent)?;
        let prefixes = prefixes(&mut frames, size).await.ok_or(Unfit::Absent)?;
        let outline = self.known.fill(prefixes).await.ok_or(Unfit::Absent)?;
        let rest = Rest { chunks: runs(outline.lacks()) };
        if rest.chunks.len() > MAX_RUNS {
            return Err(Unfit::Misleading);
        }
        write_frame(&mut send, &rest).await.map_err(|_gone| Unfit::Absent)?;
        let rest = joined(frames, self.image, size).await.ok_or(Unfit::Absent)?;
        let map = outline.complete(self.image, rest.chunks()).ok();
        map.filter(|map| map.digest() == self.map).ok_or(Unfit::Misleading)
    }
}

impl Known {
    /// Fills an outline from the maps, on a thread that may wait for the disk.
    async fn fill(&self, prefixes: Vec<ChunkPrefix>) -> Option<Outline> {
        let Self { relatives, maps } = self.clone();
        let fill = move || {
            let mut outline = Outline::new(prefixes);
            for map in relatives.iter().filter_map(|relative| maps.get(relative)) {
                outline.fill(&map);
            }
            outline
        };
        tokio::task::spawn_blocking(fill).await.ok()
    }
}

type Frames = FrameReader<Heard<RecvStream>>;

async fn open(connection: &Connection, opening: &Opening) -> Option<(SendStream, Frames)> {
    let (mut send, receive) = connection.open_bi().await.ok()?;
    write_frame(&mut send, opening).await.ok()?;
    Some((send, FrameReader::new(Heard::new(receive, SILENCE))))
}

/// Reads the parts of a map of `size` bytes, or of fewer.
async fn joined(mut frames: Frames, image: Digest, size: u64) -> Option<ChunkMap> {
    let mut joining = Joining::of(size);
    while let Some(part) = frames.next::<MapPart>().await.ok()? {
        if let Some(map) = joining.take(image, part).ok()? {
            return Some(map);
        }
    }
    None
}

/// Reads the parts of an outline of an image of `size` bytes.
async fn prefixes(frames: &mut Frames, size: u64) -> Option<Vec<ChunkPrefix>> {
    let mut prefixes = Vec::new();
    while let Some(part) = frames.next::<OutlinePart>().await.ok()? {
        if (prefixes.len() + part.prefixes.len()) as u64 > most_chunks(size) {
            return None;
        }
        prefixes.extend(part.prefixes);
        if part.last {
            return Some(prefixes);
        }
    }
    None
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
