//! Authorities in temporary folders, and handshakes in memory.

#![cfg(test)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{ExtendedKeyUsagePurpose, SanType, date_time_ymd};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use sifleet_common::tls::{Identity, client_config, load_authorities, server_config};
use tempfile::TempDir;

use super::file::{read_key, replace};
use super::{Authority, DEFAULT_VALIDITY, IssuedPaths, init, issue_node};

pub(crate) const ALPN: &[u8] = b"test/1";

pub(crate) struct Cluster {
    dir: TempDir,
    pub(crate) coordinator: IssuedPaths,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let coordinator = init(&dir.path().join("ca"), &["head.example.org".into(), "10.0.0.1".into()]);
        Self { dir, coordinator: coordinator.unwrap() }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.path().join("ca")
    }

    pub(crate) fn node(&self, name: &str) -> IssuedPaths {
        issue_node(&self.ca(), &name.parse().unwrap(), DEFAULT_VALIDITY).unwrap()
    }
}

pub(crate) fn server(paths: &IssuedPaths) -> ServerConfig {
    let identity = Identity::load(&paths.certificate, &paths.key).unwrap();
    server_config(&identity, &load_authorities(&paths.authority).unwrap(), ALPN).unwrap()
}

pub(crate) fn client(paths: &IssuedPaths) -> ClientConfig {
    let identity = Identity::load(&paths.certificate, &paths.key).unwrap();
    client_config(&identity, &load_authorities(&paths.authority).unwrap(), ALPN).unwrap()
}

/// Shakes hands in memory; returns the certificate that the server saw, or what one side refused.
pub(crate) fn handshake(
    client: ClientConfig,
    server: ServerConfig,
    name: &str,
) -> Result<Vec<u8>, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(server.peer_certificates().unwrap()[0].to_vec())
}

/// Gives a node a certificate that holds from and until so many seconds from now.
pub(crate) fn certify_for(cluster: &Cluster, node: &IssuedPaths, from: i64, until: i64) {
    let authority = Authority::open(&cluster.ca()).unwrap();
    let mut params = authority.leaf("viz001", DEFAULT_VALIDITY);
    let at = |seconds: i64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        date_time_ymd(1970, 1, 1) + Duration::from_secs(now.checked_add_signed(seconds).unwrap())
    };
    (params.not_before, params.not_after) = (at(from), at(until));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![SanType::URI("sifleet://node/viz001".try_into().unwrap())];
    let key = read_key(&node.key, "viz001").unwrap();
    let made = authority.sign(&params, "viz001", &key).unwrap();
    replace(&node.certificate, &made.pem()).unwrap();
}
