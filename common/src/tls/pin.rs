//! An authority known by the digest of its public key alone: how a node that enrols knows the coordinator.
//!
//! Outside facts: RFC 7469 §2.4 (why the public key and not the certificate), RFC 5280 (chains).

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::{TlsError, provider};

const PREFIX: &str = "sha256:";

/// SHA-256 of an authority's public key (its SubjectPublicKeyInfo), written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pin([u8; 32]);

/// The text is no pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("that is no pin; it is sha256: and 64 hexadecimal digits, as `sifleet token create` prints it")]
pub struct NotAPin;

impl Pin {
    /// Computes the pin of an authority; nothing for what is no certificate.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let digest = ring::digest::digest(&ring::digest::SHA256, parsed.public_key().raw);
        digest.as_ref().try_into().ok().map(Self)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Pin {
    type Err = NotAPin;

    fn from_str(text: &str) -> Result<Self, NotAPin> {
        let digits = text.trim().strip_prefix(PREFIX).ok_or(NotAPin)?;
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NotAPin);
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let pair = digits.get(2 * at..2 * at + 2).ok_or(NotAPin)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_no_detail| NotAPin)?;
        }
        Ok(Self(bytes))
    }
}

/// Trusts the one authority with this key, if the server shows it behind its own certificate.
#[derive(Debug)]
pub struct Pinned {
    pin: Pin,
    /// The authority of a server that did not show it, if that one showed any.
    instead: OnceLock<Option<Pin>>,
}

impl Pinned {
    /// Trusts the authority with this pin.
    #[must_use]
    pub fn new(pin: Pin) -> Arc<Self> {
        Arc::new(Self { pin, instead: OnceLock::new() })
    }

    /// Builds the dialling side of TLS 1.3 for a client without a certificate.
    ///
    /// # Errors
    /// [`TlsError::Provider`].
    pub fn client_config(self: &Arc<Self>, alpn: &[u8]) -> Result<ClientConfig, TlsError> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|source| TlsError::Provider { source })?
            .dangerous()
            .with_custom_certificate_verifier(Arc::<Self>::clone(self))
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }

    /// Tells that a server did not show the authority, and which one it showed at the end of its chain instead, if any.
    #[must_use]
    pub fn instead(&self) -> Option<Option<Pin>> {
        self.instead.get().copied()
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned = intermediates.iter().find(|certificate| Pin::of(certificate) == Some(self.pin));
        let pinned = pinned.ok_or_else(|| {
            self.instead.get_or_init(|| intermediates.last().and_then(|authority| Pin::of(authority)));
            Error::InvalidCertificate(CertificateError::UnknownIssuer)
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let schemes = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_as_it_was_written() {
        let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let pin = Pin::of(made.cert.der()).unwrap();
        assert_eq!(pin.to_string().parse::<Pin>(), Ok(pin));
        assert_eq!(pin.to_string().len(), 7 + 64);
        assert_eq!(Pin::of(b"no certificate"), None);
        for bad in ["", "sha256:", "sha256:00", &pin.to_string()[7..], &format!("{pin}0"), "md5:00"] {
            assert_eq!(bad.parse::<Pin>(), Err(NotAPin), "{bad}");
        }
    }
}
