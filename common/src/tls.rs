//! Who may speak to whom: certificates and keys from files, and mutual TLS 1.3 made from them.
//!
//! Owns the names that keep the roles apart: a node's certificate can never pass for the coordinator's, nor the
//! other way round. Reading the node's name out of a peer's certificate is the coordinator's business
//! (`coordinator::nodes::identity`), issuing certificates too (`coordinator::ca`).
//! The cryptography provider is always passed explicitly; nothing installs a process default.
//! Outside facts: RFC 8446 (TLS 1.3), RFC 5280 §4.2.1.6 and §4.2.1.12 (alternative names, key usages).

mod live;
mod node;
mod pem;
mod pin;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::name::NodeName;
pub use live::Live;
pub use node::{IdentityError, NodeIdentity, connected_chain, connected_identity, node_identity};
use pem::read;
pub use pem::{check_key_file, pem_of, read_certificates};
pub use pin::{NotAPin, Pin, Pinned};

/// The name in the coordinator's certificate, and the only one an agent accepts there.
///
/// It never reaches a resolver: `.internal` is reserved for private use, and agents dial addresses.
pub const COORDINATOR_NAME: &str = "coordinator.sifleet.internal";
/// What all host names of nodes end in.
pub const NODE_DOMAIN: &str = ".node.sifleet.internal";
/// Largest file of certificates or keys, in bytes: hundreds of certificates.
pub const MAX_PEM: u64 = 1024 * 1024;

/// Returns the host name that a node's certificate holds for when it serves others.
#[must_use]
pub fn node_server_name(node: &NodeName) -> String {
    format!("{node}{NODE_DOMAIN}")
}

/// Says why certificates or keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("cannot read the {what} {}", path.display())]
    Read {
        /// What the file should hold.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is longer than any such file.
    #[error("{} is larger than {MAX_PEM} bytes and no {what}", path.display())]
    TooLarge {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Others could read the private key.
    #[error("the private key {} can be read by others (mode {mode:04o}): run `chmod 600 {}`", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file is not PEM, or holds something else.
    #[error("{} holds no {what} in PEM form", path.display())]
    NotPem {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the parser said; absent when the file is well-formed but holds other things.
        #[source]
        source: Option<PemError>,
    },
    /// A certificate authority that cannot vouch for anybody.
    #[error("{} holds a certificate that cannot be an authority", path.display())]
    BadAuthority {
        /// The file.
        path: PathBuf,
        /// What TLS said.
        #[source]
        source: rustls::Error,
    },
    /// Certificate and key do not go together, or the key is of a kind that cannot be used.
    #[error("the certificate {} and the key {} cannot be used together", certificate.display(), key.display())]
    Mismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What TLS said.
        #[source]
        source: rustls::Error,
    },
    /// The authorities cannot be used to check clients.
    #[error("the certificate authorities cannot be used to check clients")]
    Verifier {
        /// What TLS said.
        #[source]
        source: VerifierBuilderError,
    },
    /// The cryptography provider lacks what TLS 1.3 or QUIC needs; an error of ours.
    #[error("the cryptography provider cannot do TLS 1.3")]
    Provider {
        /// What TLS said.
        #[source]
        source: rustls::Error,
    },
}

/// Holds a certificate chain, leaf first, and its private key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    certificate_path: PathBuf,
    key_path: PathBuf,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificate", &self.certificate_path).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads a certificate chain and its key from PEM files.
    ///
    /// # Errors
    /// [`TlsError`]; among others when group or others may read the key file.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Self::load_with_chain(read_certificates(certificate, "certificate")?, certificate, key)
    }

    /// Joins a chain that was just received with a key from its file; `certificate` is where the chain will be.
    ///
    /// # Errors
    /// [`TlsError`] of the key file.
    pub fn load_with_chain(
        chain: Vec<CertificateDer<'static>>,
        certificate: &Path,
        key: &Path,
    ) -> Result<Self, TlsError> {
        let what = "private key";
        let bytes = read(key, what, true)?;
        let key_der = PrivateKeyDer::from_pem_slice(&bytes).map_err(|source| TlsError::NotPem {
            what,
            path: key.to_owned(),
            source: Some(source),
        })?;
        let (certificate_path, key_path) = (certificate.to_owned(), key.to_owned());
        Ok(Self { chain, key: key_der, certificate_path, key_path })
    }

    /// Returns the certificate chain, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Puts certificates of authorities behind the chain, for whoever knows them by a digest only.
    #[must_use]
    pub fn with_authorities(mut self, authorities: &[CertificateDer<'static>]) -> Self {
        self.chain.extend_from_slice(authorities);
        self
    }

    /// Derives a secret for another purpose from the private key: the same as long as the key is.
    ///
    /// `purpose` is a text used nowhere else, as `blake3::derive_key` asks for.
    #[must_use]
    pub fn derive_secret(&self, purpose: &'static str) -> [u8; 32] {
        blake3::derive_key(purpose, self.key.secret_der())
    }

    fn mismatch(&self, source: rustls::Error) -> TlsError {
        TlsError::Mismatch { certificate: self.certificate_path.clone(), key: self.key_path.clone(), source }
    }
}

/// Reads the certificates of the cluster's authority (more than one while it is being replaced).
///
/// # Errors
/// [`TlsError`].
pub fn load_authorities(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in read_certificates(path, "authority certificate")? {
        store.add(certificate).map_err(|source| TlsError::BadAuthority { path: path.to_owned(), source })?;
    }
    Ok(Arc::new(store))
}

/// Returns the cryptography that all connections use.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Builds the accepting side of mutual TLS 1.3: clients without a certificate of the authority are refused.
///
/// No session is ever resumed and no early data taken: every connection proves afresh who it is.
///
/// # Errors
/// [`TlsError::Mismatch`] for an unusable identity, [`TlsError::Verifier`] for unusable authorities.
pub fn server_config(
    identity: &Identity,
    authorities: &Arc<RootCertStore>,
    alpn: &[u8],
) -> Result<ServerConfig, TlsError> {
    server_config_with(identity, node_verifier(authorities)?, &[alpn])
}

/// Builds what checks that a client's certificate comes from the cluster's authority and is in force.
///
/// # Errors
/// [`TlsError::Verifier`] for unusable authorities.
pub fn node_verifier(authorities: &Arc<RootCertStore>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    WebPkiClientVerifier::builder_with_provider(Arc::clone(authorities), provider())
        .build()
        .map_err(|source| TlsError::Verifier { source })
}

/// Builds the accepting side of TLS 1.3 like [`server_config`], for whoever decides otherwise who may connect.
///
/// # Errors
/// [`TlsError::Mismatch`] for an unusable identity.
pub fn server_config_with(
    identity: &Identity,
    verifier: Arc<dyn ClientCertVerifier>,
    alpn: &[&[u8]],
) -> Result<ServerConfig, TlsError> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|source| TlsError::Provider { source })?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(|source| identity.mismatch(source))?;
    Ok(without_resumption(config, alpn))
}

fn without_resumption(mut config: ServerConfig, alpn: &[&[u8]]) -> ServerConfig {
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config
}

/// Builds the dialling side of mutual TLS 1.3.
///
/// The caller names whom it expects when it connects: [`COORDINATOR_NAME`] or [`node_server_name`].
///
/// # Errors
/// [`TlsError::Mismatch`] for an unusable identity.
pub fn client_config(
    identity: &Identity,
    authorities: &Arc<RootCertStore>,
    alpn: &[u8],
) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|source| TlsError::Provider { source })?
        .with_root_certificates(Arc::clone(authorities))
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(|source| identity.mismatch(source))?;
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    fn files() -> (TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed([COORDINATOR_NAME.to_owned()]).unwrap();
        let (certificate, key) = (dir.path().join("c.pem"), dir.path().join("c.key"));
        write(&certificate, made.cert.pem()).unwrap();
        write(&key, made.signing_key.serialize_pem()).unwrap();
        set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        (dir, certificate, key)
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_remedy() {
        let (_dir, certificate, key) = files();
        assert!(Identity::load(&certificate, &key).is_ok());
        for mode in [0o640, 0o604, 0o620, 0o601] {
            set_permissions(&key, Permissions::from_mode(mode)).unwrap();
            let error = Identity::load(&certificate, &key).unwrap_err();
            let remedy = format!("chmod 600 {}", key.display());
            assert!(error.to_string().contains(&remedy), "{mode:o}: {error}");
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (_dir, certificate, _) = files();
        let (_other, authority, key) = files();
        let identity = Identity::load(&certificate, &key).unwrap();
        let authorities = load_authorities(&authority).unwrap();
        let server = server_config(&identity, &authorities, b"test").unwrap_err();
        let client = client_config(&identity, &authorities, b"test").unwrap_err();
        for error in [server, client] {
            assert!(matches!(error, TlsError::Mismatch { .. }), "{error}");
        }
    }

    #[test]
    fn files_that_hold_something_else_are_refused() {
        let (dir, certificate, key) = files();
        let other = dir.path().join("other");
        let long = usize::try_from(MAX_PEM).unwrap() + 1;
        let cut = std::fs::read(&certificate).unwrap()[..100].to_vec();
        for content in [vec![], b"hello".to_vec(), cut, std::fs::read(&key).unwrap(), vec![b'x'; long]] {
            write(&other, content).unwrap();
            set_permissions(&other, Permissions::from_mode(0o600)).unwrap();
            assert!(load_authorities(&other).is_err());
            assert!(Identity::load(&other, &key).is_err());
        }
        assert!(Identity::load(&certificate, &certificate).is_err());
        let missing = load_authorities(&dir.path().join("missing")).unwrap_err();
        assert!(matches!(missing, TlsError::Read { .. }), "{missing}");
    }

    #[test]
    fn nothing_is_resumed_and_no_early_data_is_taken() {
        let (_dir, certificate, key) = files();
        let identity = Identity::load(&certificate, &key).unwrap();
        let authorities = load_authorities(&certificate).unwrap();
        let server = server_config(&identity, &authorities, b"test").unwrap();
        assert_eq!((server.send_tls13_tickets, server.max_early_data_size), (0, 0));
        assert!(!server.session_storage.can_cache());
        assert_eq!(server.alpn_protocols, [b"test"]);
        let client = client_config(&identity, &authorities, b"test").unwrap();
        assert!(!client.enable_early_data);
        assert_eq!(client.alpn_protocols, [b"test"]);
    }

    #[test]
    fn an_identity_does_not_show_its_key() {
        let (_dir, certificate, key) = files();
        let shown = format!("{:?}", Identity::load(&certificate, &key).unwrap());
        assert!(!shown.to_lowercase().contains("key"), "{shown}");
    }

    #[test]
    fn the_names_of_coordinator_and_nodes_never_meet() {
        let node = "coordinator".parse().unwrap();
        assert_eq!(node_server_name(&node), "coordinator.node.sifleet.internal");
        assert_ne!(node_server_name(&node), COORDINATOR_NAME);
    }
}
