//! The connection to one peer: dials it, follows the image there, passes on what it offers and when it is our turn.

use std::time::Duration;

use quinn::{Connection, Endpoint, RecvStream, SendStream};
use sifleet_common::capability::Capability;
use sifleet_common::chunk::MapDigest;
use sifleet_common::chunk::span::SpanId;
use sifleet_common::digest::Digest;
use sifleet_common::push::Fault;
use sifleet_common::tls::node_server_name;
use sifleet_common::wire::assignment::Peer;
use sifleet_common::wire::chunk::{Offer, Opening, Run, Wish, numbers};
use sifleet_common::wire::frame::{FrameError, FrameReader, write_frame};
use tokio::sync::mpsc;
use tracing::debug;

use super::PeerId;
use super::receive;
use crate::serve::connection::close;

/// Wishes that wait for one peer: those for turns, and what came from elsewhere since the last one.
const WISHES: usize = 16;
/// How long a dial may take.
const DIAL: Duration = Duration::from_secs(5);

/// What a peer does.
pub(super) enum Heard {
    /// It can be asked.
    Joined(PeerId, mpsc::Sender<Wish>),
    /// It offers spans, perhaps to nobody else.
    Offered(PeerId, Vec<SpanId>, bool),
    /// It is our turn.
    Turn(PeerId, SendStream, RecvStream),
    /// It has nothing of the image.
    Left(PeerId),
    /// Our permission is over there; what was begun goes on.
    Over(PeerId),
    /// It broke its word, or cannot be reached.
    Failed(PeerId, Fault),
}

/// Why a peer is followed no longer.
enum Parted {
    /// It has nothing of the image, or nobody listens.
    Absent,
    /// It has ended what it says: the capability it was shown has run out.
    Over,
}

/// What is wanted of a peer.
#[derive(Clone)]
pub(super) struct Following {
    pub(super) endpoint: Endpoint,
    pub(super) image: Digest,
    pub(super) map: MapDigest,
    pub(super) spans: u32,
    pub(super) lacks: Vec<Run>,
    pub(super) capability: Capability,
}

/// Dials a peer; its certificate must name the node.
pub(super) async fn dial(endpoint: &Endpoint, peer: &Peer) -> Option<Connection> {
    let connecting = endpoint.connect(peer.address, &node_server_name(&peer.node));
    let connecting =
        connecting.inspect_err(|error| debug!(node = %peer.node, %error, "a peer cannot be dialled"));
    match tokio::time::timeout(DIAL, connecting.ok()?).await {
        Ok(Ok(connection)) => Some(connection),
        Ok(Err(error)) => {
            debug!(node = %peer.node, peer = %peer.address, %error, "a peer cannot be reached");
            None
        }
        Err(_elapsed) => None,
    }
}

impl Following {
    /// Follows the image at a peer until the connection ends or nobody listens.
    pub(super) async fn follow(self, id: PeerId, peer: Peer, heard: mpsc::Sender<Heard>) {
        let Some(connection) = dial(&self.endpoint, &peer).await else {
            return say(&heard, Heard::Failed(id, Fault::Unreachable)).await;
        };
        let ended = self.talk(id, &connection, &heard).await;
        match ended {
            Ok(Parted::Absent) => say(&heard, Heard::Left(id)).await,
            Ok(Parted::Over) => say(&heard, Heard::Over(id)).await,
            Err(fault) => {
                if fault == Fault::Garbage {
                    close(&connection);
                }
                say(&heard, Heard::Failed(id, fault)).await;
            }
        }
    }

    async fn talk(
        &self,
        id: PeerId,
        connection: &Connection,
        heard: &mpsc::Sender<Heard>,
    ) -> Result<Parted, Fault> {
        let unreachable = |_lost| Fault::Unreachable;
        let (mut send, receive) = connection.open_bi().await.map_err(unreachable)?;
        let (lacks, capability) = (self.lacks.clone(), self.capability.clone());
        let opening = Opening::Follow { image: self.image, map: self.map, lacks, capability };
        write_frame(&mut send, &opening).await.map_err(|_lost| Fault::Unreachable)?;
        let mut offers = FrameReader::new(receive);
        let (wishes, mut wished) = mpsc::channel(WISHES);
        say(heard, Heard::Joined(id, wishes)).await;
        loop {
            tokio::select! {
                () = heard.closed() => return Ok(Parted::Absent),
                offer = offers.next::<Offer>() => match offer {
                    Ok(Some(Offer::Spans(runs))) => {
                        let spans = numbers(&runs, self.spans).map(SpanId).collect();
                        say(heard, Heard::Offered(id, spans, false)).await;
                    }
                    Ok(Some(Offer::Alone(runs))) => {
                        let spans = numbers(&runs, self.spans).map(SpanId).collect();
                        say(heard, Heard::Offered(id, spans, true)).await;
                    }
                    Ok(Some(Offer::Absent)) => return Ok(Parted::Absent),
                    Ok(None) => return Ok(Parted::Over),
                    Err(FrameError::Stream { .. }) => return Err(Fault::Unreachable),
                    Err(_) => return Err(Fault::Garbage),
                },
                Some(wish) = wished.recv() => {
                    write_frame(&mut send, &wish).await.map_err(|_lost| Fault::Unreachable)?;
                }
                stream = connection.accept_bi() => {
                    let (send, receive) = stream.map_err(unreachable)?;
                    let (turn, receive) = receive::turn(receive).await?;
                    if turn.image != self.image {
                        return Err(Fault::Garbage);
                    }
                    say(heard, Heard::Turn(id, send, receive)).await;
                }
            }
        }
    }
}

/// A fetch that has ended needs to hear nothing.
async fn say(to: &mpsc::Sender<Heard>, what: Heard) {
    drop(to.send(what).await);
}
