//! How QUIC is set up for control connections: every limit, with its reason; [`transfer`] does it for image bytes.
//!
//! Owns transport settings and sockets, knows neither messages nor nodes. One rule: nothing stays at a default
//! that is unbounded or made for the internet; quinn's connection receive window, for one, has no bound unless
//! it is set. Outside facts: RFC 9000 (§4 flow control, §8.1 address validation, §10.1 idle timeout), RFC 9002
//! (§6.2 probe timeout), quinn 0.11.

mod polite;
pub mod rest;
mod socket;
pub mod transfer;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, EndpointConfig, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use quinn_proto::RandomConnectionIdGenerator;
use socket2::SockRef;

/// How often an agent shows that the path works when it has nothing to say.
pub const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Silence after which a connection is given up: four keep-alives, and less than the shortest sensible lease,
/// so that an agent is dialling again before its lease runs out.
pub const MAX_IDLE: Duration = Duration::from_millis(MAX_IDLE_MS as u64);
/// The same as the transport wants it.
const MAX_IDLE_MS: u32 = 20_000;
/// How long a handshake may take before its connection is dropped: many times what a loaded head node needs.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// What one peer may have in flight to us, in bytes.
///
/// A quarter of a frame: at a round trip of 1 ms still 250 MB/s, and if 10,000 nodes filled it at once it
/// would be 2.5 GB, not the 10 GB of a whole frame each.
const WINDOW: u32 = 256 * 1024;
/// Time assumed for a round trip before it was measured.
///
/// A lost first packet is repeated after three times this. The standard's 333 ms is for the internet; much less
/// would make a thousand agents repeat themselves to a coordinator that is busy with their handshakes.
const INITIAL_RTT: Duration = Duration::from_millis(50);
/// Handshake bytes kept while earlier ones are missing: several certificate chains.
const CRYPTO_BUFFER: usize = 32 * 1024;
/// Connections that wait to be accepted; more are refused, and agents come back after their backoff.
const MAX_INCOMING: usize = 4096;
/// Bytes kept for one connection that waits to be accepted: its whole handshake.
const INCOMING_BUFFER: u64 = 16 * 1024;
/// Bytes kept for all of them.
const INCOMING_BUFFER_TOTAL: u64 = 32 * 1024 * 1024;
/// Resets are not spaced: quinn reads a batch of packets at one instant, so any spacing would answer one agent of
/// the batch, and the others probe ever more rarely. A reset is smaller than the packet it answers, so nobody can
/// be flooded with them.
const RESET_SPACING: Duration = Duration::ZERO;
/// Length of a connection number in bytes.
const CONNECTION_NUMBER: usize = 8;
/// Socket buffer asked for, in bytes: a first packet of 1.2 kB from each of some thousand agents. The kernel
/// grants at most `net.core.rmem_max`.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// Says why QUIC cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum QuicError {
    /// The TLS settings lack the cipher that QUIC begins with.
    #[error("the TLS settings cannot be used for QUIC")]
    Tls {
        /// What QUIC said.
        #[source]
        source: NoInitialCipherSuite,
    },
    /// QUIC does not do with packets of this size.
    #[error("packets of {largest} bytes cannot be used for QUIC")]
    Packet {
        /// Bytes of the largest packet the network takes.
        largest: u16,
        /// What QUIC said.
        #[source]
        source: quinn::ConfigError,
    },
    /// The address cannot be used.
    #[error("cannot open UDP socket {address}; is another program using it?")]
    Bind {
        /// The address as set.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Builds the coordinator's side: a peer may open one stream, and only it may.
///
/// # Errors
/// [`QuicError::Tls`].
pub fn server(tls: rustls::ServerConfig) -> Result<ServerConfig, QuicError> {
    let crypto = QuicServerConfig::try_from(tls).map_err(|source| QuicError::Tls { source })?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = transport();
    transport.max_concurrent_bidi_streams(VarInt::from_u32(1));
    config
        .transport_config(Arc::new(transport))
        // A node keeps its address; one that does not simply dials again.
        .migration(false)
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFER_TOTAL);
    Ok(config)
}

/// Builds the agent's side: it opens the one stream and keeps the connection alive.
///
/// # Errors
/// [`QuicError::Tls`].
pub fn client(tls: rustls::ClientConfig) -> Result<ClientConfig, QuicError> {
    let crypto = QuicClientConfig::try_from(tls).map_err(|source| QuicError::Tls { source })?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    let mut transport = transport();
    transport.max_concurrent_bidi_streams(VarInt::from_u32(0)).keep_alive_interval(Some(KEEP_ALIVE));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Opens a UDP socket that accepts connections. Must be called within a tokio runtime.
///
/// `reset_secret` outlives the process: a restarted coordinator resets connections of its former life at their
/// next packet (RFC 9000 §10.3), so agents dial again within a keep-alive instead of after [`MAX_IDLE`].
///
/// # Errors
/// [`QuicError::Bind`]; nothing is left behind.
pub fn listen(
    config: ServerConfig,
    address: SocketAddr,
    reset_secret: &[u8; 32],
) -> Result<Endpoint, QuicError> {
    open(Some(config), resetting(reset_secret), address)
}

/// Lets a restarted endpoint reset the connections of its former life.
///
/// Connection numbers are random over their whole length. Those of quinn's default can be checked for validity but
/// have 24 free bits: after a restart under a thousand agents one in three times a new connection has the number of
/// an old one, whose packets then look like damaged ones and are never answered with a reset.
fn resetting(secret: &[u8; 32]) -> EndpointConfig {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let mut endpoint = EndpointConfig::new(Arc::new(key));
    endpoint
        .cid_generator(|| Box::new(RandomConnectionIdGenerator::new(CONNECTION_NUMBER)))
        .min_reset_interval(RESET_SPACING);
    endpoint
}

/// Opens a UDP socket that only dials. Must be called within a tokio runtime.
///
/// `address` is usually port 0 of the unspecified address of the family that will be dialled.
///
/// # Errors
/// [`QuicError::Bind`]; nothing is left behind.
pub fn dialler(config: ClientConfig, address: SocketAddr) -> Result<Endpoint, QuicError> {
    let mut endpoint = open(None, EndpointConfig::default(), address)?;
    endpoint.set_default_client_config(config);
    Ok(endpoint)
}

fn open(
    config: Option<ServerConfig>,
    endpoint: EndpointConfig,
    address: SocketAddr,
) -> Result<Endpoint, QuicError> {
    let failed = |source| QuicError::Bind { address, source };
    let socket = bind(address, config.is_some()).map_err(failed)?;
    Endpoint::new(endpoint, config, socket, Arc::new(TokioRuntime)).map_err(failed)
}

fn bind(address: SocketAddr, large: bool) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    if large {
        let sizes = SockRef::from(&socket);
        let asked = sizes.set_recv_buffer_size(SOCKET_BUFFER).and(sizes.set_send_buffer_size(SOCKET_BUFFER));
        if let Err(error) = asked {
            tracing::debug!(%error, "socket buffers stay as they are");
        }
    }
    Ok(socket)
}

/// What both sides share. Control messages are small: neither jumbo packets nor large windows would help them,
/// so path MTU discovery keeps its default ceiling of 1,452 bytes, far below the 6,550 above which batches of
/// packets exceed 64 KiB and quinn takes the errors for a dead path.
fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(Some(VarInt::from_u32(MAX_IDLE_MS).into()))
        .stream_receive_window(VarInt::from_u32(WINDOW))
        .receive_window(VarInt::from_u32(WINDOW))
        .send_window(u64::from(WINDOW))
        .initial_rtt(INITIAL_RTT)
        .crypto_buffer_size(CRYPTO_BUFFER)
        .datagram_receive_buffer_size(None)
        .datagram_send_buffer_size(0);
    transport
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_noticed_after_several_keep_alives() {
        assert!(MAX_IDLE >= 3 * KEEP_ALIVE);
    }

    #[test]
    fn no_window_is_left_unbounded() {
        let shown = format!("{:?}", transport());
        for window in ["stream_receive_window", "receive_window", "send_window"] {
            assert!(shown.contains(&format!(" {window}: {WINDOW}")), "{window} in {shown}");
        }
        assert!(shown.contains("max_concurrent_uni_streams: 0"), "{shown}");
        assert!(shown.contains("datagram_receive_buffer_size: None"), "{shown}");
    }
}
