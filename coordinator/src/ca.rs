//! The cluster's certificate authority, kept as files: who may call itself coordinator or node.
//!
//! Owns what certificates say and how their files are written: private keys readable by their owner only, made
//! once and never overwritten. It serves no network. [`Authority::certify`] takes a public key, so that nodes
//! which enrol with a key of their own use the same path. Outside facts: RFC 5280 (§4.1.2.2 serial numbers,
//! §4.2.1.3 key usage, §4.2.1.9 basic constraints, §4.2.1.12 extended key usage).

use std::fs::{DirBuilder, File, OpenOptions, read_to_string, rename};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::DnsName;
use sifleet_common::name::NodeName;
use sifleet_common::tls::{COORDINATOR_NAME, Identity, NODE_URI, TlsError, node_server_name};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

const DAY: Duration = Duration::from_secs(86_400);
/// How long the authority itself holds: about as long as a cluster.
pub const AUTHORITY_VALIDITY: Duration = DAY.saturating_mul(3_650);
/// How long a certificate holds unless set otherwise. Nobody renews it but an admin, so: a year.
pub const DEFAULT_VALIDITY: Duration = DAY.saturating_mul(365);
/// How far certificates begin in the past, for nodes whose clocks are slow.
const BACKDATED: Duration = Duration::from_secs(300);
/// Names under which other names may not be asked for: those that tell coordinator and nodes apart.
const OWN_DOMAIN: &str = "sifleet.internal";

/// Says why a certificate was not made. Unless said otherwise nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// There is an authority already; making another one would cut off every node.
    #[error("{} exists already; an authority is made once (remove its directory to begin anew, which cuts off all nodes)", path.display())]
    Exists {
        /// The private key of the authority.
        path: PathBuf,
    },
    /// There is no usable authority in the directory.
    #[error("there is no usable authority in {}; make one with `sifleet-coordinator ca init`", dir.display())]
    Unusable {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with its files.
        #[source]
        source: Box<TlsError>,
    },
    /// Key and certificate of the authority do not belong together, or it has expired.
    #[error("the authority in {} cannot sign: {reason}", dir.display())]
    Broken {
        /// The directory.
        dir: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// A file could not be written or read; files written before it remain.
    #[error("cannot {step} {}", path.display())]
    File {
        /// What was attempted: "create", "write", "read" or "rename".
        step: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A name that cannot stand in a certificate.
    #[error("{name:?} cannot be a name in this certificate: {reason}")]
    Name {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The signature failed.
    #[error("the certificate of {subject} could not be made")]
    Sign {
        /// Whose.
        subject: String,
        /// What the library said.
        #[source]
        source: rcgen::Error,
    },
}

/// Tells where a certificate, its key, and the authority that nodes trust were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedPaths {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key, mode 0600.
    pub key: PathBuf,
    /// The certificate of the authority.
    pub authority: PathBuf,
}

/// Makes the authority of a cluster and the coordinator's certificate in `dir`, which is created if need be.
///
/// `names` are further host names and addresses of the head node, for browsers.
///
/// # Errors
/// [`CaError::Exists`] if there is one; other [`CaError`]s may leave a part of the files behind.
pub fn init(dir: &Path, names: &[String]) -> Result<IssuedPaths, CaError> {
    let names = other_names(names)?;
    make_dir(dir)?;
    let key_path = dir.join("ca.key");
    let subject = "the authority";
    let signed = |source| CaError::Sign { subject: subject.to_owned(), source };
    let key = KeyPair::generate().map_err(signed)?;
    let mut params = params(subject, AUTHORITY_VALIDITY);
    let id: String = params.key_identifier(&key).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    // Two clusters with authorities of the same name would be hard to tell apart in error messages.
    params.distinguished_name = common_name(&format!("sifleet authority {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).map_err(signed)?;
    match create(&key_path, 0o600, &key.serialize_pem()) {
        Err(CaError::File { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
            return Err(CaError::Exists { path: key_path });
        }
        other => other?,
    }
    replace(&dir.join("ca.pem"), &certificate.pem())?;
    issue_coordinator(dir, &names, DEFAULT_VALIDITY)
}

/// Makes or renews the coordinator's certificate; a key that exists is kept.
fn issue_coordinator(dir: &Path, names: &[SanType], validity: Duration) -> Result<IssuedPaths, CaError> {
    let authority = Authority::open(dir)?;
    let paths = paths(dir, dir, "coordinator");
    let key = key_at(&paths.key, "the coordinator")?;
    let certificate = authority.certify_coordinator(&key, names, validity)?;
    replace(&paths.certificate, &certificate.pem())?;
    Ok(paths)
}

/// Renews the coordinator's certificate with these further names; its key is kept.
///
/// # Errors
/// [`CaError`]; the previous certificate stays.
pub fn renew_coordinator(dir: &Path, names: &[String], validity: Duration) -> Result<IssuedPaths, CaError> {
    issue_coordinator(dir, &other_names(names)?, validity)
}

/// Makes a node's certificate and key in `dir/nodes`; for a node that has a key, renews the certificate only.
///
/// # Errors
/// [`CaError`]; a previous certificate stays, a key made on the way too (the next call uses it).
pub fn issue_node(dir: &Path, node: &NodeName, validity: Duration) -> Result<IssuedPaths, CaError> {
    let authority = Authority::open(dir)?;
    let nodes = dir.join("nodes");
    make_dir(&nodes)?;
    let paths = paths(dir, &nodes, node.as_str());
    let key = key_at(&paths.key, node.as_str())?;
    let certificate = authority.certify(node, &key, validity)?;
    replace(&paths.certificate, &certificate.pem())?;
    Ok(paths)
}

/// Signs certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    expires: SystemTime,
}

impl Authority {
    /// Opens the authority in a directory.
    ///
    /// # Errors
    /// [`CaError::Unusable`] or [`CaError::Broken`].
    pub fn open(dir: &Path) -> Result<Self, CaError> {
        let broken = |reason| CaError::Broken { dir: dir.to_owned(), reason };
        let key_path = dir.join("ca.key");
        let identity = Identity::load(&dir.join("ca.pem"), &key_path)
            .map_err(|source| CaError::Unusable { dir: dir.to_owned(), source: Box::new(source) })?;
        let key = read_key(&key_path, "the authority")?;
        let der = identity.chain().first().ok_or_else(|| broken("its certificate is missing"))?;
        let (_, parsed) =
            X509Certificate::from_der(der).map_err(|_no_detail| broken("its certificate cannot be read"))?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(broken("its key belongs to another certificate"));
        }
        let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        let expires = UNIX_EPOCH + Duration::from_secs(seconds);
        if expires <= SystemTime::now() {
            return Err(broken("its certificate has expired"));
        }
        let issuer = Issuer::from_ca_cert_der(der, key)
            .map_err(|source| CaError::Sign { subject: "the authority".to_owned(), source })?;
        Ok(Self { issuer, expires })
    }

    /// Certifies that a public key is a node's. Whether it is, the caller has made sure of.
    ///
    /// # Errors
    /// [`CaError::Name`] if the node's name cannot be a host name, [`CaError::Sign`].
    pub fn certify(
        &self,
        node: &NodeName,
        key: &impl PublicKeyData,
        validity: Duration,
    ) -> Result<Certificate, CaError> {
        let uri = SanType::URI(ascii(&format!("{NODE_URI}{node}"))?);
        let mut params = self.leaf(node.as_str(), validity);
        params.subject_alt_names = vec![uri, host_name(&node_server_name(node))?];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&params, node.as_str(), key)
    }

    /// The coordinator only ever accepts, so its certificate cannot be used to dial: it can be no node.
    fn certify_coordinator(
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

    fn leaf(&self, subject: &str, validity: Duration) -> CertificateParams {
        let left = self.expires.duration_since(SystemTime::now()).unwrap_or_default();
        let mut params = params(subject, validity.min(left));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params
    }

    fn sign(
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

fn ascii(text: &str) -> Result<Ia5String, CaError> {
    Ia5String::try_from(text)
        .map_err(|_no_detail| CaError::Name { name: text.to_owned(), reason: "it is not plain ASCII" })
}

fn host_name(text: &str) -> Result<SanType, CaError> {
    if DnsName::try_from(text).is_err() {
        let reason = "it is no host name (letters, digits, `-` and `_` in parts of at most 63)";
        return Err(CaError::Name { name: text.to_owned(), reason });
    }
    ascii(text).map(SanType::DnsName)
}

/// Reads further names of the coordinator; none may be one that tells roles apart.
fn other_names(names: &[String]) -> Result<Vec<SanType>, CaError> {
    let one = |name: &String| {
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(SanType::IpAddress(address));
        }
        let plain = name.trim_end_matches('.').to_ascii_lowercase();
        if plain == OWN_DOMAIN || plain.ends_with(&format!(".{OWN_DOMAIN}")) {
            return Err(CaError::Name {
                name: name.clone(),
                reason: "names below sifleet.internal are taken",
            });
        }
        host_name(name)
    };
    names.iter().map(one).collect()
}

fn paths(dir: &Path, own: &Path, name: &str) -> IssuedPaths {
    IssuedPaths {
        certificate: own.join(format!("{name}.pem")),
        key: own.join(format!("{name}.key")),
        authority: dir.join("ca.pem"),
    }
}

fn key_at(path: &Path, subject: &str) -> Result<KeyPair, CaError> {
    let key = KeyPair::generate().map_err(|source| CaError::Sign { subject: subject.to_owned(), source })?;
    match create(path, 0o600, &key.serialize_pem()) {
        Err(CaError::File { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
            read_key(path, subject)
        }
        other => other.map(|()| key),
    }
}

fn read_key(path: &Path, subject: &str) -> Result<KeyPair, CaError> {
    let text = read_to_string(path).map_err(|source| file("read", path, source))?;
    KeyPair::from_pem(&text).map_err(|source| CaError::Sign { subject: subject.to_owned(), source })
}

fn make_dir(dir: &Path) -> Result<(), CaError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| file("create", dir, source))
}

/// Creates a file that must not exist; its mode holds from the first byte on.
fn create(path: &Path, mode: u32, text: &str) -> Result<(), CaError> {
    let options = OpenOptions::new().write(true).create_new(true).mode(mode).clone();
    let mut created = options.open(path).map_err(|source| file("create", path, source))?;
    write(&mut created, path, text)
}

/// Puts a file in place whole, whatever was there.
fn replace(path: &Path, text: &str) -> Result<(), CaError> {
    let aside = path.with_extension("pem.part");
    let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).clone();
    let mut opened = options.open(&aside).map_err(|source| file("create", &aside, source))?;
    write(&mut opened, &aside, text)?;
    rename(&aside, path).map_err(|source| file("rename", &aside, source))
}

fn write(opened: &mut File, path: &Path, text: &str) -> Result<(), CaError> {
    opened
        .write_all(text.as_bytes())
        .and_then(|()| opened.sync_all())
        .map_err(|source| file("write", path, source))
}

fn file(step: &'static str, path: &Path, source: io::Error) -> CaError {
    CaError::File { step, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
