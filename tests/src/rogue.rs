//! Nodes of the cluster that do not keep to the transfer protocol: they have a certificate and mean harm.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, TransportConfig};
use sifleet_agent::layout::Layout;
use sifleet_common::chunk::MapDigest;
use sifleet_common::name::NodeName;
use sifleet_common::quic::transfer;
use sifleet_common::task::Tasks;
use sifleet_common::tls::{self, Identity};
use sifleet_common::wire::assignment::{Assignment, Peer};
use sifleet_common::wire::chunk::{
    CHUNK_ALPN, Choice, Offer, Opening, Rest, Run, Turn, Wish, map_parts, numbers, outline_parts, rest_parts,
};
use sifleet_common::wire::frame::{FrameReader, write_frame};
use sifleet_coordinator::ca;

use crate::mover::permit;

/// What a rogue does when it is asked for a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crime {
    /// Sends the bytes with one bit turned over.
    Poison,
    /// Refuses what it offered.
    Lie,
    /// Sends nothing, for ever.
    Stall,
    /// Sends frames that mean nothing instead of offers.
    Garble,
    /// Claims in an outline that all chunks begin like the first one; everything else it does is as told.
    Mislead,
    /// Keeps to the protocol, so that what others do can be seen.
    None,
}

/// What was asked for of a chunk map.
#[derive(Debug, Default)]
pub struct Handed {
    /// How often all of it.
    pub maps: AtomicUsize,
    /// How often its outline.
    pub outlines: AtomicUsize,
    /// How many chunks after an outline.
    pub rest: AtomicUsize,
}

/// A rogue; it is gone when this is dropped.
pub struct Rogue {
    /// How others reach it.
    pub peer: Peer,
    /// How many spans it was asked for.
    pub asked: Arc<AtomicUsize>,
    /// What it was asked for of the chunk map.
    pub handed: Arc<Handed>,
    /// The chunk map of the image it claims to have.
    pub map: MapDigest,
    tasks: Tasks,
    _endpoint: Endpoint,
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.tasks.token().cancel();
    }
}

impl Rogue {
    /// Starts a rogue that claims to have all of an image, below the authority of [`crate::mover::authority`].
    ///
    /// # Errors
    /// When a certificate or a socket cannot be had.
    pub fn start(folder: &Path, node: &str, crime: Crime, image: Arc<[u8]>) -> anyhow::Result<Self> {
        let endpoint = endpoint(folder, node)?;
        let peer = Peer { node: node.parse()?, address: endpoint.local_addr()? };
        let digest = sifleet_common::digest::Digest::from(blake3::hash(&image));
        let map = sifleet_agent::map::make(digest, &*image)?;
        let (tasks, asked, handed) = (Tasks::new(), Arc::new(AtomicUsize::new(0)), Arc::<Handed>::default());
        let layout = Arc::new(Layout::of(Arc::new(map)));
        let map = layout.map_digest();
        let rogue = Acting {
            crime,
            image,
            layout,
            asked: Arc::clone(&asked),
            handed: Arc::clone(&handed),
            tasks: tasks.clone(),
        };
        let (accepting, stop) = (endpoint.clone(), tasks.token());
        tasks.spawn("rogue", async move {
            stop.run_until_cancelled(rogue.accept(accepting)).await;
        });
        Ok(Self { peer, asked, handed, map, tasks, _endpoint: endpoint })
    }
}

/// Opens a socket with a certificate for a node, below the authority of [`crate::mover::authority`].
fn endpoint(folder: &Path, node: &str) -> anyhow::Result<Endpoint> {
    let paths = ca::issue_node(&folder.join("ca"), &node.parse()?, Duration::from_secs(86_400))?;
    let identity = Identity::load(&paths.certificate, &paths.key)?;
    let authorities = tls::load_authorities(&folder.join("ca/ca.pem"))?;
    let server = tls::server_config(&identity, &authorities, CHUNK_ALPN)?;
    let client = tls::client_config(&identity, &authorities, CHUNK_ALPN)?;
    Ok(transfer::endpoint(server, client, ([127, 0, 0, 1], 0).into(), Arc::default())?)
}

/// A node that dials others and says by hand what fetchers say.
pub struct Dialler {
    node: NodeName,
    endpoint: Endpoint,
}

/// One that follows an image, by hand.
pub struct Following {
    /// Where turns come.
    pub connection: Connection,
    /// What it says.
    pub wishes: SendStream,
    /// What it is told.
    pub offers: FrameReader<RecvStream>,
}

impl Dialler {
    /// Makes a node below the authority of [`crate::mover::authority`].
    ///
    /// # Errors
    /// When a certificate or a socket cannot be had.
    pub fn start(folder: &Path, node: &str) -> anyhow::Result<Self> {
        Ok(Self { node: node.parse()?, endpoint: endpoint(folder, node)? })
    }

    /// Makes one that takes no more than so many bytes of what it does not read.
    ///
    /// # Errors
    /// As [`Dialler::start`].
    pub fn start_taking(folder: &Path, node: &str, window: u32) -> anyhow::Result<Self> {
        let mut dialler = Self::start(folder, node)?;
        let identity = Identity::load(
            &folder.join(format!("ca/nodes/{node}.pem")),
            &folder.join(format!("ca/nodes/{node}.key")),
        )?;
        let authorities = tls::load_authorities(&folder.join("ca/ca.pem"))?;
        let crypto = QuicClientConfig::try_from(tls::client_config(&identity, &authorities, CHUNK_ALPN)?)?;
        let mut transport = TransportConfig::default();
        transport.stream_receive_window(window.into());
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport));
        dialler.endpoint.set_default_client_config(config);
        Ok(dialler)
    }

    /// Connects to a peer.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn dial(&self, peer: &Peer) -> anyhow::Result<Connection> {
        Ok(self.endpoint.connect(peer.address, &tls::node_server_name(&peer.node))?.await?)
    }

    /// Follows at a peer what an assignment names, lacking `lacks` of it.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn follow(
        &self,
        peer: &Peer,
        image: &Assignment,
        lacks: Vec<Run>,
    ) -> anyhow::Result<Following> {
        let connection = self.dial(peer).await?;
        let (mut wishes, offers) = connection.open_bi().await?;
        let capability = permit(&self.node, image.image)?;
        let opening = Opening::Follow { image: image.image, map: image.map, lacks, capability };
        write_frame(&mut wishes, &opening).await?;
        Ok(Following { connection, wishes, offers: FrameReader::new(offers) })
    }
}

impl Following {
    /// Waits for an offer, asks for a turn and waits for it, without choosing anything.
    ///
    /// # Errors
    /// When none comes.
    pub async fn turn(&mut self) -> anyhow::Result<(SendStream, RecvStream)> {
        // A wish for what was not offered yet is not heard.
        self.offers.next::<Offer>().await?.context("no offer")?;
        write_frame(&mut self.wishes, &Wish::Want).await?;
        let (send, receive) = self.connection.accept_bi().await?;
        let mut frames = FrameReader::new(receive);
        frames.next::<Turn>().await?.context("no turn")?;
        Ok((send, frames.into_inner()))
    }
}

#[derive(Clone)]
struct Acting {
    crime: Crime,
    image: Arc<[u8]>,
    layout: Arc<Layout>,
    asked: Arc<AtomicUsize>,
    handed: Arc<Handed>,
    tasks: Tasks,
}

impl Acting {
    async fn accept(self, endpoint: Endpoint) {
        while let Some(incoming) = endpoint.accept().await {
            let Ok(connection) = incoming.await else { continue };
            let rogue = self.clone();
            self.tasks.spawn("rogue's victim", async move {
                while let Ok((send, receive)) = connection.accept_bi().await {
                    let (rogue, connection) = (rogue.clone(), connection.clone());
                    rogue.tasks.clone().spawn("rogue's stream", async move {
                        // A victim that has had enough closes the connection.
                        drop(rogue.stream(connection, send, receive).await);
                    });
                }
            });
        }
    }

    async fn stream(
        self,
        connection: Connection,
        mut send: SendStream,
        receive: RecvStream,
    ) -> anyhow::Result<()> {
        let mut frames = FrameReader::new(receive);
        match frames.next::<Opening>().await? {
            Some(Opening::Follow { .. }) => {
                let all = Run { first: 0, count: self.layout.spans().count() };
                if self.crime == Crime::Garble {
                    send.write_all(&[9, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])
                        .await?;
                } else {
                    write_frame(&mut send, &Offer::Spans(vec![all])).await?;
                }
                while let Some(wish) = frames.next::<Wish>().await? {
                    if wish == Wish::Want {
                        let (rogue, connection) = (self.clone(), connection.clone());
                        self.tasks.spawn("rogue's turn", async move { drop(rogue.turn(&connection).await) });
                    }
                }
            }
            Some(Opening::Map { .. }) => {
                self.handed.maps.fetch_add(1, Ordering::Relaxed);
                for part in map_parts(self.layout.map()) {
                    write_frame(&mut send, &part).await?;
                }
                send.finish()?;
            }
            Some(Opening::Outline { .. }) => self.outline(send, frames).await?,
            None => {}
        }
        Ok(())
    }

    async fn outline(&self, mut send: SendStream, mut frames: FrameReader<RecvStream>) -> anyhow::Result<()> {
        self.handed.outlines.fetch_add(1, Ordering::Relaxed);
        for mut part in outline_parts(self.layout.map()) {
            if self.crime == Crime::Mislead
                && let Some(first) = part.prefixes.first().copied()
            {
                part.prefixes.fill(first);
            }
            write_frame(&mut send, &part).await?;
        }
        let Some(rest) = frames.next::<Rest>().await? else { return Ok(()) };
        for part in rest_parts(self.layout.map(), &rest) {
            self.handed.rest.fetch_add(part.chunks.len(), Ordering::Relaxed);
            write_frame(&mut send, &part).await?;
        }
        send.finish()?;
        Ok(())
    }

    async fn turn(&self, connection: &Connection) -> anyhow::Result<()> {
        let (mut send, receive) = connection.open_bi().await?;
        write_frame(&mut send, &Turn { image: self.layout.image() }).await?;
        let Some(Choice::Ask { span, chunks }) = FrameReader::new(receive).next().await? else {
            return Ok(());
        };
        self.asked.fetch_add(1, Ordering::Relaxed);
        match self.crime {
            Crime::Poison | Crime::Mislead | Crime::None => {
                let Some(place) = self.layout.span(span) else { return Ok(()) };
                for chunk in numbers(&chunks, u32::try_from(place.chunks.len())?) {
                    let at = place.chunks.start + chunk as usize;
                    let Some(bytes) = self.layout.bytes(&(at..at + 1)) else { return Ok(()) };
                    let bytes = usize::try_from(bytes.start)?..usize::try_from(bytes.end)?;
                    let mut bytes = self.image.get(bytes).unwrap_or_default().to_vec();
                    if self.crime == Crime::Poison
                        && let Some(byte) = bytes.last_mut()
                    {
                        *byte ^= 1;
                    }
                    send.write_all(&bytes).await?;
                }
                send.finish()?;
            }
            Crime::Lie => send.reset(quinn::VarInt::from_u32(77))?,
            Crime::Stall | Crime::Garble => {
                connection.closed().await;
            }
        }
        Ok(())
    }
}
