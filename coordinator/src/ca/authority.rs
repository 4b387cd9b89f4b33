//! What signs, and what certificates say.
//!
//! [`Authority::certify`] takes a public key, so that nodes which enrol with a key of their own and those whose key is
//! made here use the same path. Outside facts: RFC 5280 (§4.1.2.2 serial numbers, §4.2.1.3 key usage, §4.2.1.9 basic
//! constraints, §4.2.1.12 extended key usage).

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use sifleet_common::epoch::{Epoch, node_uri};
use sifleet_common::name::NodeName;
use sifleet_common::tls::{COORDINATOR_NAME, Pin, node_server_name, read_certificates};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::file::read_key;
use super::name::{ascii, host_name};
use super::{AUTHORITY_VALIDITY, CaError};

/// How far certificates begin in the past, for nodes whose clocks are slow.
const BACKDATED: Duration = Duration::from_secs(300);

/// Signs certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pin: Option<Pin>,
    pub(super) expires: SystemTime,
}

impl Authority {
    /// Opens the authority in a directory: `ca.key`, and that certificate of `ca.pem` which belongs to it.
    ///
    /// # Errors
    /// [`CaError::Unusable`] or [`CaError::Broken`].
    pub fn open(dir: &Path) -> Result<Self, CaError> {
        Self::with_key(dir, &dir.join("ca.key"))
    }

    /// Opens an authority whose key is elsewhere.
    pub(super) fn with_key(dir: &Path, key_path: &Path) -> Result<Self, CaError> {
        let broken = |reason| CaError::Broken { dir: dir.to_owned(), reason };
        let unusable = |source| CaError::Unusable { dir: dir.to_owned(), source: Box::new(source) };
        let trusted = read_certificates(&dir.join("ca.pem"), "authority certificate").map_err(unusable)?;
        sifleet_common::tls::check_key_file(key_path).map_err(unusable)?;
        let key = read_key(key_path, "the authority")?;
        let own = own_certificate(&trusted, &key);
        let der = own.ok_or_else(|| broken("its key belongs to another certificate"))?;
        let (_, parsed) =
            X509Certificate::from_der(der).map_err(|_no_detail| broken("its certificate cannot be read"))?;
        let expires = expiry(&parsed);
        if expires <= SystemTime::now() {
            return Err(broken("its certificate has expired"));
        }
        let pin = Pin::of(der);
        let issuer = Issuer::from_ca_cert_der(der, key)
            .map_err(|source| CaError::Sign { subject: "the authority".to_owned(), source })?;
        Ok(Self { issuer, pin, expires })
    }

    /// Returns the digest of its public key: tells authorities apart, and is how nodes that enrol know it.
    #[must_use]
    pub const fn pin(&self) -> Option<Pin> {
        self.pin
    }

    /// Certifies that a public key is a node's. Whether it is, the caller has made sure of.
    ///
    /// # Errors
    /// [`CaError::Name`] if the node's name cannot be a host name, [`CaError::Sign`].
    pub fn certify(
        &self,
        node: &NodeName,
        epoch: Epoch,
        key: &impl PublicKeyData,
        validity: Duration,
    ) -> Result<Certificate, CaError> {
        let uri = SanType::URI(ascii(&node_uri(node, epoch))?);
        let mut params = self.leaf(node.as_str(), validity);
        params.subject_alt_names = vec![uri, host_name(&node_server_name(node))?];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&params, node.as_str(), key)
    }

    /// The coordinator only ever accepts, so its certificate cannot be used to dial: it can be no node.
    pub(super) fn certify_coordinator(
        &self,
        key: &impl PublicKeyData,
        names: &[SanType],
        validity: Duration,
    ) -> Result<Certificate, CaError> {
        let mut params = self.leaf("sifleet coordinator", validity);
        params.subject_alt_names = vec![host_name(COORDINATOR_NAME)?];
        params.subject_alt_names.extend_from_slice(names);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&params, "the coordinator", key)
    }

    pub(super) fn leaf(&self, subject: &str, validity: Duration) -> CertificateParams {
        let left = self.expires.duration_since(SystemTime::now()).unwrap_or_default();
        let mut params = params(subject, validity.min(left));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params
    }

    pub(super) fn sign(
        &self,
        params: &CertificateParams,
        subject: &str,
        key: &impl PublicKeyData,
    ) -> Result<Certificate, CaError> {
        params
            .signed_by(key, &self.issuer)
            .map_err(|source| CaError::Sign { subject: subject.to_owned(), source })
    }
}

/// Makes the certificate of a new authority.
pub(super) fn self_signed(key: &KeyPair) -> Result<Certificate, CaError> {
    let subject = "the authority";
    let mut params = params(subject, AUTHORITY_VALIDITY);
    let id: String = params.key_identifier(key).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    // Two clusters with authorities of the same name would be hard to tell apart in error messages.
    params.distinguished_name = common_name(&format!("sifleet authority {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.self_signed(key).map_err(|source| CaError::Sign { subject: subject.to_owned(), source })
}

/// Finds the certificate that belongs to a key.
pub(super) fn own_certificate<'a>(
    trusted: &'a [CertificateDer<'static>],
    key: &KeyPair,
) -> Option<&'a CertificateDer<'static>> {
    let own = key.subject_public_key_info();
    trusted
        .iter()
        .find(|der| X509Certificate::from_der(der).is_ok_and(|(_, parsed)| parsed.public_key().raw == own))
}

/// Returns when a certificate ends.
fn expiry(parsed: &X509Certificate<'_>) -> SystemTime {
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Returns how long a certificate holds in all, and from now on.
pub(super) fn life_of(certificate: &[u8]) -> Option<(Duration, Duration)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let end = expiry(&parsed);
    let begin = u64::try_from(parsed.validity().not_before.timestamp()).unwrap_or(0);
    let whole = end.duration_since(UNIX_EPOCH + Duration::from_secs(begin)).unwrap_or_default();
    Some((whole, end.duration_since(SystemTime::now()).unwrap_or_default()))
}

fn params(subject: &str, validity: Duration) -> CertificateParams {
    let epoch = date_time_ymd(1970, 1, 1);
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut params = CertificateParams::default();
    params.not_before = epoch + since_epoch.saturating_sub(BACKDATED);
    params.not_after = epoch + since_epoch.saturating_add(validity.min(AUTHORITY_VALIDITY));
    params.distinguished_name = common_name(subject);
    // Positive, as RFC 5280 wants it: the highest bit is off.
    let mut serial = rand::random::<[u8; 16]>();
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params
}

fn common_name(text: &str) -> DistinguishedName {
    // RFC 5280 allows 64 characters; the identity stands in the alternative names, so cutting is harmless.
    let short: String = text.chars().take(64).collect();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, short);
    name
}
