//! Whose certificate this is: the node's name, read from it and from nowhere else.
//!
//! Owns what counts as a node's identity. That the certificate comes from the cluster's authority and is in
//! force was checked by TLS before anybody asks here. Everything unclear is an error, never a guess.
//! Outside facts: RFC 5280 §4.2.1.6 (alternative names).

use crate::epoch::{Epoch, NODE_URI, UriError, parse_node_uri};
use crate::name::NodeName;
use crate::time::UnixMillis;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// Says why a certificate names no node.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The peer showed none.
    #[error("the peer showed no certificate")]
    Absent,
    /// Not a certificate, or one whose names cannot be read.
    #[error("the certificate cannot be read")]
    Unreadable {
        /// What the parser said.
        #[source]
        source: X509Error,
    },
    /// Something stands behind the certificate.
    #[error("{len} bytes stand behind the certificate")]
    Trailing {
        /// How much.
        len: usize,
    },
    /// A certificate of something else, such as the coordinator's.
    #[error("the certificate holds no name that begins with {NODE_URI}")]
    NotANode,
    /// More than one name, so that it could be either.
    #[error("the certificate holds {count} names of nodes, not one")]
    Several {
        /// How many.
        count: usize,
    },
    /// The name, or what stands behind it, is none.
    #[error("the certificate holds a name that no node can have")]
    BadName {
        /// What is wrong with it.
        #[source]
        source: UriError,
    },
}

/// What a certificate says of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    /// Whose it is.
    pub node: NodeName,
    /// Of which enrolment.
    pub epoch: Epoch,
    /// From when on it holds.
    pub not_before: UnixMillis,
    /// When it runs out.
    pub not_after: UnixMillis,
    /// Its public key, as a SubjectPublicKeyInfo in DER form.
    pub public_key: Vec<u8>,
}

/// Reads whose certificate it is, in DER form.
///
/// # Errors
/// [`IdentityError`] unless the certificate holds exactly one URI, and that is a node's.
pub fn node_identity(certificate: &[u8]) -> Result<NodeIdentity, IdentityError> {
    let unreadable = |source| IdentityError::Unreadable { source };
    let (rest, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| unreadable(X509Error::from(error)))?;
    if !rest.is_empty() {
        return Err(IdentityError::Trailing { len: rest.len() });
    }
    let names = parsed.subject_alternative_name().map_err(unreadable)?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
        .collect();
    let uri = match uris.as_slice() {
        [] => return Err(IdentityError::NotANode),
        [uri] => uri,
        several => return Err(IdentityError::Several { count: several.len() }),
    };
    let (node, epoch) = parse_node_uri(uri).map_err(|source| match source {
        UriError::NotANode => IdentityError::NotANode,
        UriError::Name { .. } | UriError::Epoch => IdentityError::BadName { source },
    })?;
    let (from, until) = (parsed.validity().not_before, parsed.validity().not_after);
    let millis = |seconds: i64| UnixMillis(seconds.saturating_mul(1_000));
    let (not_before, not_after) = (millis(from.timestamp()), millis(until.timestamp()));
    Ok(NodeIdentity { node, epoch, not_before, not_after, public_key: parsed.public_key().raw.to_vec() })
}

/// Reads whose certificate a QUIC peer showed.
///
/// # Errors
/// [`IdentityError`]; the connection is to be closed with `CloseCode::NotANode`.
pub fn connected_identity(connection: &quinn::Connection) -> Result<NodeIdentity, IdentityError> {
    node_identity(connected_chain(connection)?.first().ok_or(IdentityError::Absent)?)
}

/// Returns the certificates a QUIC peer showed, its own first.
///
/// # Errors
/// [`IdentityError::Absent`].
pub fn connected_chain(
    connection: &quinn::Connection,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let shown = connection.peer_identity().ok_or(IdentityError::Absent)?;
    shown
        .downcast::<Vec<CertificateDer<'static>>>()
        .map(|chain| *chain)
        .map_err(|_other| IdentityError::Absent)
}

impl NodeIdentity {
    /// Tells whether the certificate holds at this moment.
    #[must_use]
    pub fn is_in_force(&self, now: UnixMillis) -> bool {
        now < self.not_after
    }

    /// Returns when it is to be renewed: at half of its life.
    #[must_use]
    pub fn renew_at(&self) -> UnixMillis {
        let life = self.not_after.0.saturating_sub(self.not_before.0);
        UnixMillis(self.not_before.0.saturating_add(life / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::string::Ia5String;
    use rcgen::{CertificateParams, CustomExtension, KeyPair, SanType};

    fn uri(text: &str) -> SanType {
        SanType::URI(Ia5String::try_from(text).unwrap())
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(Ia5String::try_from(text).unwrap())
    }

    fn der_of(params: &CertificateParams) -> Vec<u8> {
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn certificate(names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        der_of(&params)
    }

    fn check(names: Vec<SanType>, expected: &str) {
        let shown = match node_identity(&certificate(names)) {
            Ok(found) if found.epoch == Epoch(0) => found.node.to_string(),
            Ok(found) => format!("{} of epoch {}", found.node, found.epoch),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_one_name_of_a_node_is_its_identity() {
        check(vec![uri("sifleet://node/viz001")], "viz001");
        check(vec![dns("viz001.node.sifleet.internal"), uri("sifleet://node/viz001")], "viz001");
        check(vec![uri("sifleet://node/viz001/epoch/3")], "viz001 of epoch 3");
        check(vec![uri("sifleet://node/viz001"), dns("other"), dns("sifleet://node/viz002")], "viz001");
    }

    #[test]
    fn a_certificate_without_a_node_in_it_is_none() {
        let none = "error: the certificate holds no name that begins with sifleet://node/";
        check(vec![], none);
        check(vec![dns("coordinator.sifleet.internal")], none);
        check(vec![dns("sifleet://node/viz001")], none);
        for text in
            ["https://node/viz001", "SIFLEET://node/viz001", "sifleet://nodes/viz001", " sifleet://node/a"]
        {
            check(vec![uri(text)], none);
        }
    }

    #[test]
    fn two_names_are_no_identity() {
        let two = "error: the certificate holds 2 names of nodes, not one";
        check(vec![uri("sifleet://node/a"), uri("sifleet://node/b")], two);
        check(vec![uri("sifleet://node/a"), uri("sifleet://node/a")], two);
        check(vec![uri("sifleet://node/a"), uri("https://example.org/")], two);
    }

    #[test]
    fn a_name_that_no_node_can_have_is_refused() {
        let long = "a".repeat(254);
        for name in [
            "",
            "a/b",
            "a/epoch/0",
            "a/epoch/x",
            "a/epoch/1/epoch/2",
            "../a",
            "a b",
            "-a",
            "a%2fb",
            "viz[001-003]",
            "a\0b",
            "a\nb",
            &long,
        ] {
            let names = vec![uri(&format!("sifleet://node/{name}"))];
            assert!(
                matches!(node_identity(&certificate(names)), Err(IdentityError::BadName { .. })),
                "{name}"
            );
        }
    }

    #[test]
    fn names_given_twice_over_are_refused() {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![uri("sifleet://node/a")];
        // A second extension of alternative names, holding the URI sifleet://node/b.
        let second = [b"\x30\x12\x86\x10".as_slice(), b"sifleet://node/b"].concat();
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], second)];
        assert!(matches!(node_identity(&der_of(&params)), Err(IdentityError::Unreadable { .. })));
    }

    #[test]
    fn bytes_that_are_no_certificate_are_refused() {
        let good = certificate(vec![uri("sifleet://node/a")]);
        for cut in 0..good.len() {
            assert!(node_identity(&good[..cut]).is_err(), "cut at {cut}");
        }
        let behind = [good.as_slice(), &[0]].concat();
        assert!(matches!(node_identity(&behind), Err(IdentityError::Trailing { len: 1 })));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_name_or_an_error(at in 0..600_usize, with: u8, noise in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(node_identity(&noise).is_err());
            let mut bent = certificate(vec![uri("sifleet://node/a")]);
            if let Some(byte) = bent.get_mut(at) {
                *byte = with;
            }
            drop(node_identity(&bent));
        }
    }
}
