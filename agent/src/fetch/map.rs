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
use serde::de::DeserializeOwned;
use sifleet_common::capability::Capability;
use sifleet_common::chunk::{AVERAGE_CHUNK, Chunk, ChunkMap, MapDigest, Outline};
use sifleet_common::digest::Digest;
use sifleet_common::wire::assignment::{Assignment, Peer};
use sifleet_common::wire::chunk::{MAX_RUNS, MapPart, Opening, OutlinePart, Rest, runs};
use sifleet_common::wire::frame::{FrameReader, write_frame};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
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
/// A map that nobody handed out for so long is not to be had, beside the time that its bytes take at [`SLOWEST`].
const NO_MAP: Duration = Duration::from_secs(60);
/// Bytes of a map that come in a second at least, however many ask the only one that has it.
const SLOWEST: u64 = 64 * 1024;
/// KiB of maps that are taken at a time: several peers' of a usual image, one of an image above 14 GB.
const TAKEN: u32 = 16 * 1024;
/// Nobody waits longer to take a map: who is giving another one may be slow, or mean harm.
const IN_TURN: Duration = Duration::from_secs(10);

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

/// Returns how many bytes the chunk map of an image of `size` bytes is likely to have.
const fn likely(size: u64) -> u64 {
    size / AVERAGE_CHUNK as u64 * size_of::<Chunk>() as u64
}

/// Returns after how long the map of an image of `size` bytes is given up.
pub(super) const fn patience(size: u64) -> Duration {
    Duration::from_secs(NO_MAP.as_secs() + likely(size) / SLOWEST)
}

/// Why a peer's outline did not lead to the map.
enum Unfit {
    /// The peer has no map, or is gone.
    Absent,
    /// Too little of it is known, or other chunks begin alike.
    Misleading,
}

impl Wanted {
    /// Asks those that the assignment names, again and again, for as long as [`patience`] has it.
    pub(super) async fn get(
        &self,
        endpoint: &Endpoint,
        assigned: &mut watch::Receiver<Assignment>,
    ) -> Option<ChunkMap> {
        let size = assigned.borrow().size;
        let room = Room::of(size);
        let asked = async {
            loop {
                let (mut peers, capability) = {
                    let assignment = assigned.borrow_and_update();
                    (assignment.peers.clone(), assignment.capability.clone())
                };
                // If everybody began with the same one, it would do nothing else.
                peers.shuffle(&mut rand::rng());
                if let Some(map) = self.round(endpoint, peers, (&room, capability)).await {
                    return map;
                }
                tokio::time::sleep(ROUND).await;
            }
        };
        tokio::time::timeout(patience(size), asked).await.ok()
    }

    async fn round(
        &self,
        endpoint: &Endpoint,
        peers: Vec<Peer>,
        (room, capability): (&Room, Capability),
    ) -> Option<ChunkMap> {
        let (mut peers, mut asked) = (peers.into_iter(), JoinSet::new());
        loop {
            if asked.len() < AT_ONCE
                && let Some(peer) = peers.next()
            {
                let how = (room.clone(), capability.clone());
                asked.spawn(self.clone().ask(endpoint.clone(), peer, how));
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
        (room, capability): (Room, Capability),
    ) -> Option<ChunkMap> {
        let connection = dial(&endpoint, &peer).await?;
        self.read(&connection, &room, capability).await
    }

    /// Reads what a peer hands out; none if it has no map, or another one, or falls silent.
    async fn read(&self, connection: &Connection, room: &Room, capability: Capability) -> Option<ChunkMap> {
        if !self.known.relatives.is_empty() {
            match self.outlined(connection, room, capability.clone()).await {
                Ok(map) => return Some(map),
                Err(Unfit::Absent) => return None,
                Err(Unfit::Misleading) => debug!(digest = %self.image, "an outline is of no use"),
            }
        }
        let opening = Opening::Map { image: self.image, capability };
        let (_, mut parts) = open(connection, &opening, room).await?;
        let map = parts.joined(self.image).await?;
        self.checked(move || Some(map)).await
    }

    /// Reads the outline, and then what no map of this node tells.
    async fn outlined(
        &self,
        connection: &Connection,
        room: &Room,
        capability: Capability,
    ) -> Result<ChunkMap, Unfit> {
        let opening = Opening::Outline { image: self.image, capability };
        let (mut send, mut parts) = open(connection, &opening, room).await.ok_or(Unfit::Absent)?;
        let outline = parts.outline().await.ok_or(Unfit::Absent)?;
        let outline = self.known.fill(outline).await.ok_or(Unfit::Absent)?;
        let rest = Rest { chunks: runs(outline.lacks()) };
        if rest.chunks.len() > MAX_RUNS {
            return Err(Unfit::Misleading);
        }
        write_frame(&mut send, &rest).await.map_err(|_gone| Unfit::Absent)?;
        let (image, rest) = (self.image, parts.joined(self.image).await.ok_or(Unfit::Absent)?);
        let complete = move || outline.complete(image, rest.chunks()).ok();
        self.checked(complete).await.ok_or(Unfit::Misleading)
    }

    /// Leaves the map if it is the one that is wanted. To find out takes a tenth of a second for a large one: not on the
    /// thread that moves bytes.
    async fn checked(&self, map: impl FnOnce() -> Option<ChunkMap> + Send + 'static) -> Option<ChunkMap> {
        let wanted = self.map;
        let check = move || map().filter(|map| map.digest() == wanted);
        tokio::task::spawn_blocking(check).await.ok().flatten()
    }
}

impl Known {
    /// Fills an outline from the maps, on a thread that may wait for the disk.
    async fn fill(&self, mut outline: Outline) -> Option<Outline> {
        let Self { relatives, maps } = self.clone();
        let fill = move || {
            for chunks in relatives.iter().filter_map(|relative| maps.chunks(relative)) {
                outline.fill(chunks);
            }
            outline
        };
        tokio::task::spawn_blocking(fill).await.ok()
    }
}

/// Room for maps that are being taken: each of several peers may hand out one of 50 MB.
#[derive(Clone)]
struct Room {
    /// Of the image, in bytes.
    size: u64,
    free: Arc<Semaphore>,
}

impl Room {
    fn of(size: u64) -> Self {
        Self { size, free: Arc::new(Semaphore::new(TAKEN as usize)) }
    }

    /// Waits until there is room for one more, or until the limit.
    async fn enter(&self, limit: Duration) -> Option<OwnedSemaphorePermit> {
        let share = u32::try_from(likely(self.size) / 1024).unwrap_or(u32::MAX).clamp(1, TAKEN);
        let entered = Arc::clone(&self.free).acquire_many_owned(share);
        tokio::time::timeout(limit, entered).await.ok()?.ok()
    }
}

/// The parts that one peer hands out.
struct Parts<'a> {
    frames: FrameReader<Heard<RecvStream>>,
    room: &'a Room,
    /// Set with the first part: most peers have none.
    entered: Option<Option<OwnedSemaphorePermit>>,
}

async fn open<'a>(
    connection: &Connection,
    opening: &Opening,
    room: &'a Room,
) -> Option<(SendStream, Parts<'a>)> {
    let (mut send, receive) = connection.open_bi().await.ok()?;
    write_frame(&mut send, opening).await.ok()?;
    let frames = FrameReader::new(Heard::new(receive, SILENCE));
    Some((send, Parts { frames, room, entered: None }))
}

impl Parts<'_> {
    async fn next<T: DeserializeOwned>(&mut self) -> Option<T> {
        let part = self.frames.next::<T>().await.ok()??;
        if self.entered.is_none() {
            self.entered = Some(self.room.enter(IN_TURN).await);
        }
        Some(part)
    }

    /// Reads those of a map, or of what is left of one.
    async fn joined(&mut self, image: Digest) -> Option<ChunkMap> {
        let mut joining = Joining::of(self.room.size);
        while let Some(part) = self.next::<MapPart>().await {
            if let Some(map) = joining.take(image, part).ok()? {
                return Some(map);
            }
        }
        None
    }

    /// Reads those of an outline.
    async fn outline(&mut self) -> Option<Outline> {
        let mut outline = Outline::default();
        while let Some(part) = self.next::<OutlinePart>().await {
            if (outline.count() + part.prefixes.len()) as u64 > most_chunks(self.room.size) {
                return None;
            }
            outline.extend(part.prefixes);
            if part.last {
                return Some(outline);
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

    #[tokio::test]
    async fn a_usual_map_is_taken_from_several_at_once_and_a_large_one_from_one_or_from_who_waited_too_long()
    {
        const MOMENT: Duration = Duration::from_millis(1);
        const LONG: Duration = Duration::from_secs(60);
        let usual = Room::of(1_500_000_000);
        let entered = [usual.enter(MOMENT).await, usual.enter(MOMENT).await, usual.enter(MOMENT).await];
        assert!(entered.iter().all(Option::is_some));
        let large = Room::of(50_000_000_000);
        let one = large.enter(MOMENT).await;
        assert!(one.is_some() && large.enter(MOMENT).await.is_none());
        drop(one);
        assert!(large.enter(LONG).await.is_some());
    }

    #[test]
    fn the_larger_an_image_the_longer_its_map_is_waited_for() {
        assert_eq!(patience(0), NO_MAP);
        assert_eq!(patience(1_500_000_000).as_secs(), 60 + 25);
        assert_eq!(patience(50_000_000_000).as_secs(), 60 + 838);
    }
}
