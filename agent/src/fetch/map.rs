//! Gets the chunk map of an image from whichever peer hands it out first.

use std::time::Duration;

use quinn::{Connection, Endpoint};
use rand::seq::SliceRandom;
use sifleet_common::chunk::{ChunkMap, MapDigest};
use sifleet_common::digest::Digest;
use sifleet_common::wire::assignment::{Assignment, Peer};
use sifleet_common::wire::chunk::{MapPart, Opening};
use sifleet_common::wire::frame::{FrameReader, write_frame};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::peer::dial;
use crate::map::kept::Joining;

/// Peers asked at once. Most have no map yet when a push begins, and say so at once; a map is fetched so many times at worst.
const AT_ONCE: usize = 4;
/// After so long without an answer another peer is asked as well.
const NEXT: Duration = Duration::from_millis(25);
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
                let mut peers = assigned.borrow_and_update().peers.clone();
                // If everybody began with the same one, it would do nothing else.
                peers.shuffle(&mut rand::rng());
                if let Some(map) = self.round(endpoint, peers).await {
                    return map;
                }
                tokio::time::sleep(ROUND).await;
            }
        };
        tokio::time::timeout(NO_MAP, asked).await.ok()
    }

    async fn round(self, endpoint: &Endpoint, peers: Vec<Peer>) -> Option<ChunkMap> {
        let (mut peers, mut asked) = (peers.into_iter(), JoinSet::new());
        loop {
            if asked.len() < AT_ONCE
                && let Some(peer) = peers.next()
            {
                asked.spawn(self.ask(endpoint.clone(), peer));
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

    async fn ask(self, endpoint: Endpoint, peer: Peer) -> Option<ChunkMap> {
        let connection = dial(&endpoint, &peer).await?;
        self.read(&connection).await
    }

    /// Reads what a peer hands out; none if it has no map, or another one.
    async fn read(self, connection: &Connection) -> Option<ChunkMap> {
        let (mut send, receive) = connection.open_bi().await.ok()?;
        write_frame(&mut send, &Opening::Map { image: self.image }).await.ok()?;
        let (mut frames, mut joining) = (FrameReader::new(receive), Joining::default());
        while let Some(part) = frames.next::<MapPart>().await.ok()? {
            if let Some(map) = joining.take(self.image, part).ok()? {
                return (map.digest() == self.map).then_some(map);
            }
        }
        None
    }
}
