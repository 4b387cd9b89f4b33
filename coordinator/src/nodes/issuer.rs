//! Gives nodes their certificates: the authority in memory, exchanged when its files are read again.
//!
//! Who is entitled to one others have decided. Without a key of its own (a site that brings its certificates along)
//! nothing is issued.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rcgen::{CertificateSigningRequestParams, PublicKeyData, SubjectPublicKeyInfo};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use sifleet_common::epoch::Epoch;
use sifleet_common::name::NodeName;
use sifleet_common::time::UnixMillis;
use sifleet_common::tls::{Pin, TlsError, load_authorities, node_verifier, read_certificates};
use sifleet_common::wire::enrol::{Certificates, MAX_REQUEST};
use tokio::sync::watch;

use crate::ca::{self, Authority, CaError};
use sifleet_common::tls::NodeIdentity;

/// Says why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The site makes its own.
    #[error("this cluster's certificates are made elsewhere: the coordinator has no authority of its own")]
    NoAuthority,
    /// The request is none, or not signed with the key that it holds.
    #[error("the certificate request cannot be used")]
    Request {
        /// What is wrong with it.
        #[source]
        source: rcgen::Error,
    },
    /// The request is longer than any such.
    #[error("the certificate request has {len} bytes, at most {MAX_REQUEST} make sense")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// The authority refused.
    #[error(transparent)]
    Authority(#[from] CaError),
}

/// What signs, and whom nodes are to trust.
#[derive(Debug)]
struct Held {
    authority: Option<Authority>,
    trusted: Vec<CertificateDer<'static>>,
    /// Knows who has a certificate of those.
    verifier: Arc<dyn ClientCertVerifier>,
}

/// Issues certificates; clones share it.
#[derive(Clone, Debug)]
pub struct Issuer {
    held: Arc<ArcSwap<Held>>,
    life: Duration,
    changed: Arc<watch::Sender<()>>,
}

impl Issuer {
    /// Reads the authority of a directory; `life` is how long certificates hold.
    ///
    /// # Errors
    /// [`TlsError`] if nobody is trusted there, [`CaError`] if there is a key that cannot be used.
    pub fn open(dir: &Path, life: Duration) -> Result<Self, IssuerError> {
        let held = Arc::new(ArcSwap::from_pointee(read(dir)?));
        Ok(Self { held, life, changed: Arc::new(watch::Sender::new(())) })
    }

    /// Reads it again; tells whether other authorities are trusted now, or another one signs.
    ///
    /// # Errors
    /// As [`Issuer::open`]; what was read before stays.
    pub fn reload(&self, dir: &Path) -> Result<bool, IssuerError> {
        let read = read(dir)?;
        let before = self.held.swap(Arc::new(read));
        let now = self.held.load();
        let signs = |held: &Held| held.authority.as_ref().map(Authority::pin);
        let changed = before.trusted != now.trusted || signs(&before) != signs(&now);
        if changed {
            self.changed.send_replace(());
        }
        Ok(changed)
    }

    /// Tells from here on when other authorities are trusted, or another one signs.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Tells whether a node's chain leads to an authority that is trusted now, as it did at `then`.
    #[must_use]
    pub fn vouches(&self, chain: &[CertificateDer<'static>], then: UnixMillis) -> bool {
        let Some((own, between)) = chain.split_first() else { return false };
        let then = Duration::from_millis(u64::try_from(then.0).unwrap_or(0));
        let then = UnixTime::since_unix_epoch(then);
        self.held.load().verifier.verify_client_cert(own, between, then).is_ok()
    }

    /// Returns the certificates of all that are trusted.
    #[must_use]
    pub fn trusted(&self) -> Vec<CertificateDer<'static>> {
        self.held.load().trusted.clone()
    }

    /// Returns how nodes that enrol know the authority; nothing if there is none here.
    #[must_use]
    pub fn pin(&self) -> Option<Pin> {
        self.held.load().authority.as_ref().and_then(Authority::pin)
    }

    /// Issues a first certificate for the key of a request that proves that the asker has it.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn enrol(&self, node: &NodeName, epoch: Epoch, request: &[u8]) -> Result<Certificates, IssueError> {
        self.issue(node, epoch, &requested_key(request)?)
    }

    /// Issues a certificate like the one that was shown, for longer.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn renew(&self, shown: &NodeIdentity) -> Result<Certificates, IssueError> {
        let key = SubjectPublicKeyInfo::from_der(&shown.public_key)
            .map_err(|source| IssueError::Request { source })?;
        self.issue(&shown.node, shown.epoch, &key)
    }

    fn issue(
        &self,
        node: &NodeName,
        epoch: Epoch,
        key: &impl PublicKeyData,
    ) -> Result<Certificates, IssueError> {
        let held = self.held.load();
        let authority = held.authority.as_ref().ok_or(IssueError::NoAuthority)?;
        let certificate = authority.certify(node, epoch, key, self.life)?;
        let authorities = held.trusted.iter().map(|certificate| certificate.to_vec()).collect();
        Ok(Certificates { node: node.clone(), chain: vec![certificate.der().to_vec()], authorities })
    }
}

/// Checks a request and takes the public key out of it: nothing else it says counts.
///
/// # Errors
/// [`IssueError::TooLong`], [`IssueError::Request`].
pub fn requested_key(request: &[u8]) -> Result<impl PublicKeyData + use<>, IssueError> {
    if request.len() > MAX_REQUEST {
        return Err(IssueError::TooLong { len: request.len() });
    }
    let parsed = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request));
    parsed.map(|parsed| parsed.public_key).map_err(|source| IssueError::Request { source })
}

/// Says why the authority cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// Nobody is trusted.
    #[error(transparent)]
    Trusted(#[from] TlsError),
    /// The key cannot be used.
    #[error(transparent)]
    Authority(#[from] CaError),
}

fn read(dir: &Path) -> Result<Held, IssuerError> {
    let trusted = read_certificates(&dir.join("ca.pem"), "authority certificate")?;
    let verifier = node_verifier(&load_authorities(&dir.join("ca.pem"))?)?;
    let authority = ca::has_key(dir)?.then(|| Authority::open(dir)).transpose()?;
    Ok(Held { authority, trusted, verifier })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::testing::Cluster;
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, SanType};
    use sifleet_common::tls::node_identity;

    const LIFE: Duration = Duration::from_secs(86_400);

    fn node() -> NodeName {
        "viz001".parse().unwrap()
    }

    fn request(params: &CertificateParams) -> Vec<u8> {
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn of_a_request_nothing_counts_but_the_key() {
        let cluster = Cluster::new();
        let issuer = Issuer::open(&cluster.ca(), LIFE).unwrap();
        let mut greedy = CertificateParams::new(["coordinator.sifleet.internal".to_owned()]).unwrap();
        greedy.subject_alt_names.push(SanType::URI("sifleet://node/viz002".try_into().unwrap()));
        greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let issued = issuer.enrol(&node(), Epoch(3), &request(&greedy)).unwrap();
        let seen = node_identity(&issued.chain[0]).unwrap();
        assert_eq!((seen.node.as_str(), seen.epoch), ("viz001", Epoch(3)));
        assert!(!String::from_utf8_lossy(&issued.chain[0]).contains("coordinator.sifleet"));
        let life = seen.not_after.0 - seen.not_before.0;
        assert_eq!(life, 86_400_000 + 300_000, "a day, and five minutes into the past");
    }

    #[test]
    fn a_request_without_its_private_key_is_refused() {
        let mut bytes = request(&CertificateParams::default());
        let last = bytes.len() - 3;
        bytes[last] ^= 1;
        for bad in [&bytes[..], &bytes[..40], b"", &vec![0x30; MAX_REQUEST + 1]] {
            assert!(requested_key(bad).is_err(), "{} bytes", bad.len());
        }
    }

    #[test]
    fn a_renewal_is_for_the_same_name_epoch_and_key() {
        let cluster = Cluster::new();
        let issuer = Issuer::open(&cluster.ca(), LIFE).unwrap();
        let first = issuer.enrol(&node(), Epoch(3), &request(&CertificateParams::default())).unwrap();
        let shown = node_identity(&first.chain[0]).unwrap();
        let second = node_identity(&issuer.renew(&shown).unwrap().chain[0]).unwrap();
        assert_eq!(
            (second.node, second.epoch, second.public_key),
            (shown.node, shown.epoch, shown.public_key)
        );
        assert_ne!(first.chain, issuer.renew(&node_identity(&first.chain[0]).unwrap()).unwrap().chain);
    }

    #[test]
    fn one_authority_takes_over_from_another() {
        let cluster = Cluster::new();
        let dir = cluster.ca();
        let issuer = Issuer::open(&dir, LIFE).unwrap();
        let issue = || issuer.enrol(&node(), Epoch(1), &request(&CertificateParams::default())).unwrap();
        assert!(ca::switch(&dir).is_err(), "there is none to take over");
        let first = issue();
        let old = first.authorities.clone();
        ca::next(&dir).unwrap();
        assert!(ca::next(&dir).is_err() && ca::retire(&dir).is_err());
        assert!(issuer.reload(&dir).unwrap(), "nodes are to learn of it");
        assert_eq!(issue().authorities.len(), 2);
        assert_eq!(issue().authorities[0], old[0]);
        ca::switch(&dir).unwrap();
        assert!(issuer.reload(&dir).unwrap(), "nodes are to get new certificates");
        assert!(!issuer.reload(&dir).unwrap());
        ca::switch(&dir).expect("may be repeated");
        let of_both = issue();
        ca::retire(&dir).unwrap();
        let before = issuer.changes();
        assert!(issuer.reload(&dir).unwrap() && before.has_changed().unwrap());
        let new = issue().authorities;
        assert!(new.len() == 1 && new != old);
        let vouches = |issued: &Certificates| {
            let chain: Vec<_> = issued.chain.iter().cloned().map(CertificateDer::from).collect();
            issuer.vouches(&chain, node_identity(&issued.chain[0]).unwrap().not_after)
        };
        assert!(vouches(&of_both), "of the authority that signs, as the other one was still trusted");
        assert!(!vouches(&first), "of the one that was retired");
    }

    #[test]
    fn names_of_the_coordinator_outlive_its_authority() {
        let cluster = Cluster::new();
        let names = |text: &[u8]| {
            let text = String::from_utf8_lossy(text).into_owned();
            text.contains("head.example.org")
        };
        let read = || {
            let paths = &cluster.coordinator;
            let identity = sifleet_common::tls::Identity::load(&paths.certificate, &paths.key).unwrap();
            identity.chain()[0].to_vec()
        };
        let before = read();
        ca::next(&cluster.ca()).unwrap();
        ca::switch(&cluster.ca()).unwrap();
        assert!(names(&before) && names(&read()) && before != read());
    }

    #[test]
    fn a_key_that_cannot_be_looked_at_is_not_taken_for_none() {
        let cluster = Cluster::new();
        let key = cluster.ca().join("ca.key");
        std::fs::remove_file(&key).unwrap();
        // Root may read everything, so permissions would show nothing here; a link to itself nobody can follow.
        std::os::unix::fs::symlink(&key, &key).unwrap();
        assert!(matches!(Issuer::open(&cluster.ca(), LIFE), Err(IssuerError::Authority(_))));
    }

    #[test]
    fn a_site_that_brings_its_own_certificates_gets_none() {
        let cluster = Cluster::new();
        std::fs::remove_file(cluster.ca().join("ca.key")).unwrap();
        let issuer = Issuer::open(&cluster.ca(), LIFE).unwrap();
        let refused = issuer.enrol(&node(), Epoch(1), &request(&CertificateParams::default()));
        assert!(matches!(refused, Err(IssueError::NoAuthority)), "{refused:?}");
    }
}
