//! Lets in, as far as TLS goes, also those who have no certificate yet and those whose certificate has run out a while
//! ago: they may enrol, or renew. Everybody who calls [`super::session`] decides by
//! `connected_identity` and the certificate's end; nothing here lets anybody say what a node holds.
//!
//! Outside facts: rustls tells that a chain is good but too late by `Expired` and `ExpiredContext`; it checks the chain's
//! signatures before the times of its leaf. RFC 5280 §4.1.2.5 (validity).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use sifleet_common::tls::node_identity;

/// Checks clients as the cluster's authority asks for, but for being late.
pub struct LateVerifier {
    strict: Arc<dyn ClientCertVerifier>,
    /// How long a certificate may have run out.
    grace: Duration,
}

impl fmt::Debug for LateVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateVerifier").field("grace", &self.grace).finish_non_exhaustive()
    }
}

impl LateVerifier {
    /// Wraps the verifier that knows the authorities.
    #[must_use]
    pub fn new(strict: Arc<dyn ClientCertVerifier>, grace: Duration) -> Self {
        Self { strict, grace }
    }
}

impl ClientCertVerifier for LateVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.strict.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let judged = self.strict.verify_client_cert(end_entity, intermediates, now);
        let Err(Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) = &judged
        else {
            return judged;
        };
        let Ok(shown) = node_identity(end_entity) else { return judged };
        let end = u64::try_from(shown.not_after.0 / 1_000).unwrap_or(0);
        if now.as_secs().saturating_sub(end) > self.grace.as_secs() {
            return judged;
        }
        // As it would have been judged in its last second: the whole chain, at that moment.
        let last = UnixTime::since_unix_epoch(Duration::from_secs(end));
        self.strict.verify_client_cert(end_entity, intermediates, last)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.strict.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::testing::{ALPN, Cluster, certify_for, client, handshake};
    use rustls::ServerConfig;
    use sifleet_common::tls::{
        COORDINATOR_NAME, Identity, load_authorities, node_verifier, server_config_with,
    };

    const DAY: i64 = 86_400;

    fn lenient(cluster: &Cluster) -> ServerConfig {
        let paths = &cluster.coordinator;
        let strict = node_verifier(&load_authorities(&paths.authority).unwrap()).unwrap();
        let late = LateVerifier::new(strict, Duration::from_secs(7 * 86_400));
        let identity = Identity::load(&paths.certificate, &paths.key).unwrap();
        server_config_with(&identity, Arc::new(late), &[ALPN]).unwrap()
    }

    fn is_let_in(from: i64, until: i64) -> bool {
        let cluster = Cluster::new();
        let node = cluster.node("viz001");
        certify_for(&cluster, &node, from, until);
        handshake(client(&node), lenient(&cluster), COORDINATOR_NAME).is_ok()
    }

    #[test]
    fn a_certificate_that_ran_out_within_the_grace_may_knock() {
        assert!(is_let_in(-DAY, DAY));
        assert!(is_let_in(-2 * DAY, -25 * 3_600 + DAY));
        assert!(is_let_in(-9 * DAY, -7 * DAY + 60));
    }

    #[test]
    fn one_that_ran_out_long_ago_or_does_not_hold_yet_may_not() {
        assert!(!is_let_in(-9 * DAY, -7 * DAY - 60));
        assert!(!is_let_in(DAY, 2 * DAY));
    }

    #[test]
    fn being_late_excuses_nothing_else() {
        let (ours, theirs) = (Cluster::new(), Cluster::new());
        let mut stranger = theirs.node("viz001");
        certify_for(&theirs, &stranger, -2 * DAY, -DAY);
        stranger.authority.clone_from(&ours.coordinator.authority);
        let intruder = handshake(client(&stranger), lenient(&ours), COORDINATOR_NAME);
        assert!(matches!(intruder, Err(Error::InvalidCertificate(_))), "{intruder:?}");
        let wrong_use = handshake(client(&ours.coordinator), lenient(&ours), COORDINATOR_NAME);
        assert!(matches!(wrong_use, Err(Error::InvalidCertificate(_))), "{wrong_use:?}");
    }
}
