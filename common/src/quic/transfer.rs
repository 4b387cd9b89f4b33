//! How QUIC is set up between agents, where it moves image bytes.
//!
//! The cost of QUIC is per packet, so packets are as large as the network takes, sent in batches, and acknowledged by
//! the dozen. Windows are large enough for 10 Gbit/s within a cluster and small enough that a peer which floods us, or
//! which does not read, costs megabytes.
//! Outside facts: quinn 0.11 sends ten packets with one system call (GSO), which fails above 64 KiB in all; it takes the
//! failures for a black hole and falls to packets of 1,200 bytes. Acknowledgement frequency: draft-ietf-quic-ack-frequency.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AckFrequencyConfig, ClientConfig, Endpoint, EndpointConfig, MtuDiscoveryConfig, ServerConfig,
    TokioRuntime, TransportConfig, VarInt,
};

use super::polite::Polite;
use super::rest::Rests;
use super::socket::Counted;
use super::{KEEP_ALIVE, MAX_IDLE_MS, QuicError, bind};

/// What may be in flight on one stream, in bytes: at a round trip of 1 ms two gigabytes a second.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
/// The same for one connection, both ways: two streams' worth, which up to five turns share.
const WINDOW: u32 = 4 * 1024 * 1024;
/// Streams that either side may have open: what it follows or maps, or turns.
const STREAMS: u32 = 8;
/// What may be in flight to us on a stream that a peer opened, in bytes: wishes are small, and 256 peers may send them.
const ASKING_STREAM_WINDOW: u32 = 64 * 1024;
/// The same for its connection: all streams but a little.
const ASKING_WINDOW: u32 = 128 * 1024;
/// Streams that a peer which dialled us may have open: what it follows or maps, one for each connection, and one besides.
const ASKING_STREAMS: u32 = 2;
/// Time assumed for a round trip before it was measured: a cluster's is far below, a busy node's answer is not.
const INITIAL_RTT: Duration = Duration::from_millis(10);
/// Packets that may arrive before one acknowledgement is sent.
const ACK_THRESHOLD: u32 = 20;
/// The longest time that an acknowledgement may wait.
const ACK_DELAY: Duration = Duration::from_millis(10);
/// Connections that wait to be accepted; more are refused, and the peers find others.
const MAX_INCOMING: usize = 256;
/// Bytes kept for one connection that waits to be accepted: its whole handshake.
const INCOMING_BUFFER: u64 = 16 * 1024;
/// Bytes kept for all of them.
const INCOMING_BUFFER_TOTAL: u64 = MAX_INCOMING as u64 * INCOMING_BUFFER;
/// Bytes of headers around a packet: IPv6 and UDP.
const HEADERS: u16 = 48;
/// Largest packet: ten of them stay below 64 KiB.
const LARGEST: u16 = 6_500;
/// Largest packet where nothing is known of the network.
const USUAL: u16 = 1_500 - HEADERS;

/// Opens the socket at which peers fetch from this node and from which it fetches from them. Must be called within a
/// tokio runtime, whose thread may rest between packets as `rests` has it.
///
/// # Errors
/// [`QuicError`]; nothing is left behind.
pub fn endpoint(
    server: rustls::ServerConfig,
    client: rustls::ClientConfig,
    address: SocketAddr,
    rests: Arc<Rests>,
) -> Result<Endpoint, QuicError> {
    let largest = largest_packet(Path::new("/sys/class/net"), address.ip().is_loopback());
    let crypto = QuicServerConfig::try_from(server).map_err(|source| QuicError::Tls { source })?;
    let mut accepting = ServerConfig::with_crypto(Arc::new(crypto));
    accepting
        .transport_config(Arc::new(asked(largest)))
        .migration(false)
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFER_TOTAL);
    let crypto = QuicClientConfig::try_from(client).map_err(|source| QuicError::Tls { source })?;
    let mut dialling = ClientConfig::new(Arc::new(crypto));
    dialling.transport_config(Arc::new(transport(largest)));
    let failed = |source| QuicError::Bind { address, source };
    let socket = bind(address, true).and_then(|socket| Counted::new(socket, rests)).map_err(failed)?;
    let (mut config, runtime) = (EndpointConfig::default(), Arc::new(TokioRuntime));
    // Peers find out what the network takes only up to what we say that we take.
    config
        .max_udp_payload_size(largest.max(USUAL))
        .map_err(|source| QuicError::Packet { largest, source })?;
    let mut endpoint = Endpoint::new_with_abstract_socket(config, Some(accepting), Arc::new(socket), runtime)
        .map_err(failed)?;
    endpoint.set_default_client_config(dialling);
    Ok(endpoint)
}

/// The side that is dialled: image bytes only leave it.
fn asked(largest_packet: u16) -> TransportConfig {
    let mut transport = transport(largest_packet);
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(ASKING_STREAMS))
        .stream_receive_window(VarInt::from_u32(ASKING_STREAM_WINDOW))
        .receive_window(VarInt::from_u32(ASKING_WINDOW));
    transport
}

fn transport(largest_packet: u16) -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(largest_packet);
    let mut acknowledging = AckFrequencyConfig::default();
    acknowledging.ack_eliciting_threshold(VarInt::from_u32(ACK_THRESHOLD)).max_ack_delay(Some(ACK_DELAY));
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS))
        .max_idle_timeout(Some(VarInt::from_u32(MAX_IDLE_MS).into()))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(WINDOW))
        .send_window(u64::from(WINDOW))
        .initial_rtt(INITIAL_RTT)
        .congestion_controller_factory(Arc::new(Polite))
        .mtu_discovery_config(Some(discovery))
        .ack_frequency_config(Some(acknowledging))
        .datagram_receive_buffer_size(None)
        .datagram_send_buffer_size(0);
    transport
}

/// Returns the largest packet that any interface of this node takes, but never one that breaks batches. The loopback
/// counts for whoever is reached by it only (`looped`): it would make every node look like one with jumbo frames.
///
/// Larger packets than the way to a peer takes are found out by the path's discovery.
fn largest_packet(interfaces: &Path, looped: bool) -> u16 {
    let Ok(entries) = std::fs::read_dir(interfaces) else { return USUAL };
    let read = |path: &Path| std::fs::read_to_string(path).ok()?.trim().parse::<u32>().ok();
    let of = |folder: &Path| {
        let loopback = read(&folder.join("type")) == Some(LOOPBACK);
        (loopback == looped).then(|| read(&folder.join("mtu"))).flatten()
    };
    let largest = entries.filter_map(|entry| of(&entry.ok()?.path())).max();
    let packet = largest.and_then(|mtu| mtu.checked_sub(u32::from(HEADERS)));
    packet.map_or(USUAL, |packet| u16::try_from(packet).unwrap_or(u16::MAX).clamp(1_200, LARGEST))
}

/// `ARPHRD_LOOPBACK` of include/uapi/linux/if_arp.h.
const LOOPBACK: u32 = 772;

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(interfaces: &[(&str, &str, &str)]) -> u16 {
        packet_of(interfaces, false)
    }

    fn packet_of(interfaces: &[(&str, &str, &str)], looped: bool) -> u16 {
        let folder = tempfile::tempdir().unwrap();
        for (name, kind, mtu) in interfaces {
            let of = folder.path().join(name);
            std::fs::create_dir(&of).unwrap();
            std::fs::write(of.join("type"), kind).unwrap();
            std::fs::write(of.join("mtu"), mtu).unwrap();
        }
        largest_packet(folder.path(), looped)
    }

    #[test]
    fn packets_are_as_large_as_the_network_and_batches_of_them_allow() {
        assert_eq!(packet(&[("lo", "772\n", "65536\n"), ("eth0", "1\n", "1500\n")]), 1_452);
        assert_eq!(packet(&[("eth0", "1\n", "9000\n"), ("eth1", "1\n", "1500\n")]), 6_500);
        assert_eq!(packet(&[("ib0", "32\n", "4092\n")]), 4_044);
        assert_eq!(packet(&[("lo", "772\n", "65536\n")]), 1_452);
        assert_eq!(packet(&[("odd", "1\n", "no number")]), 1_452);
        assert_eq!(packet(&[("odd", "1\n", "0\n"), ("tiny", "1\n", "576\n")]), 1_200);
        assert_eq!(largest_packet(Path::new("/nowhere"), false), 1_452);
        assert!(10 * u32::from(LARGEST) < 65_536);
    }

    #[test]
    fn on_the_loopback_packets_are_as_large_as_it_takes() {
        let interfaces = [("lo", "772\n", "65536\n"), ("eth0", "1\n", "1500\n")];
        assert_eq!(packet_of(&interfaces, true), LARGEST);
        assert_eq!(packet_of(&interfaces[1..], true), USUAL);
    }

    #[test]
    fn no_window_is_left_unbounded() {
        let shown = format!("{:?}", transport(USUAL));
        assert!(shown.contains(&format!(" stream_receive_window: {STREAM_WINDOW}")), "{shown}");
        assert!(shown.contains(&format!(" receive_window: {WINDOW}")), "{shown}");
        assert!(shown.contains(&format!(" send_window: {WINDOW}")), "{shown}");
        assert!(shown.contains("datagram_receive_buffer_size: None"), "{shown}");
        let shown = format!("{:?}", asked(USUAL));
        assert!(shown.contains(&format!(" stream_receive_window: {ASKING_STREAM_WINDOW}")), "{shown}");
        assert!(shown.contains(&format!(" receive_window: {ASKING_WINDOW}")), "{shown}");
    }
}
