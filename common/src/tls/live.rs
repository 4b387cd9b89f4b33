//! What a program shows and whom it trusts at this moment: exchanged while connections go on, for certificates that hold
//! for a day.
//!
//! Configurations made here ask at every handshake, so whoever made one need not know that a certificate was renewed.
//! Connections that were made before stay.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};

use super::{Identity, TlsError, node_verifier, provider, without_resumption};

/// Holds them; clones share it.
#[derive(Clone)]
pub struct Live(Arc<Shared>);

struct Shared(ArcSwap<Held>);

struct Held {
    shown: Arc<CertifiedKey>,
    servers: Arc<dyn ServerCertVerifier>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl Held {
    fn new(identity: &Identity, authorities: &Arc<RootCertStore>) -> Result<Self, TlsError> {
        let shown = CertifiedKey::from_der(identity.chain.clone(), identity.key.clone_key(), &provider())
            .map_err(|source| identity.mismatch(source))?;
        let servers = WebPkiServerVerifier::builder_with_provider(Arc::clone(authorities), provider())
            .build()
            .map_err(|source| TlsError::Verifier { source })?;
        Ok(Self { shown: Arc::new(shown), servers, clients: node_verifier(authorities)? })
    }
}

impl Live {
    /// Begins with these.
    ///
    /// # Errors
    /// [`TlsError::Mismatch`] for an unusable identity, [`TlsError::Verifier`] for unusable authorities.
    pub fn new(identity: &Identity, authorities: &Arc<RootCertStore>) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(Shared(ArcSwap::from_pointee(Held::new(identity, authorities)?)))))
    }

    /// Shows and trusts others from the next handshake on.
    ///
    /// # Errors
    /// As [`Live::new`]; what was used before stays.
    pub fn set(&self, identity: &Identity, authorities: &Arc<RootCertStore>) -> Result<(), TlsError> {
        self.0.0.store(Arc::new(Held::new(identity, authorities)?));
        Ok(())
    }

    /// Builds the accepting side of mutual TLS 1.3, like [`super::server_config`].
    ///
    /// # Errors
    /// [`TlsError::Provider`].
    pub fn server_config(&self, alpn: &[u8]) -> Result<ServerConfig, TlsError> {
        let shared = Arc::clone(&self.0);
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|source| TlsError::Provider { source })?
            .with_client_cert_verifier(Arc::<Shared>::clone(&shared))
            .with_cert_resolver(shared);
        Ok(without_resumption(config, &[alpn]))
    }

    /// Builds the dialling side of mutual TLS 1.3, like [`super::client_config`].
    ///
    /// # Errors
    /// [`TlsError::Provider`].
    pub fn client_config(&self, alpn: &[u8]) -> Result<ClientConfig, TlsError> {
        let shared = Arc::clone(&self.0);
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|source| TlsError::Provider { source })?
            .dangerous()
            .with_custom_certificate_verifier(Arc::<Shared>::clone(&shared))
            .with_client_cert_resolver(shared);
        config.alpn_protocols = vec![alpn.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_early_data = false;
        Ok(config)
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Live")
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Live")
    }
}

impl ResolvesClientCert for Shared {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().shown))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Shared {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().shown))
    }
}

impl ServerCertVerifier for Shared {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.load().servers.verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.load().servers.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.load().servers.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.load().servers.supported_verify_schemes()
    }
}

impl ClientCertVerifier for Shared {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Hints are for clients that choose between certificates; ours have one.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0.load().clients.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.load().clients.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.load().clients.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.load().clients.supported_verify_schemes()
    }
}
