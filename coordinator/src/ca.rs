//! The cluster's certificate authority, kept as files: who may call itself coordinator or node.
//!
//! Owns which certificates there are; what they say is in [`authority`], how they lie on disk in [`mod@file`], how one
//! authority takes over from another in [`rollover`]. It serves no network.

mod authority;
mod file;
mod name;
mod rollover;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{KeyPair, SanType};
use sifleet_common::epoch::Epoch;
use sifleet_common::name::NodeName;
use sifleet_common::tls::{Identity, Pin, TlsError};

pub use authority::Authority;
use file::{create, exists, key_at, make_dir, paths, replace};
use name::{named_in, other_names};
pub use rollover::{next, retire, switch};

const DAY: Duration = Duration::from_secs(86_400);
/// How long the authority itself holds: about as long as a cluster.
pub const AUTHORITY_VALIDITY: Duration = DAY.saturating_mul(3_650);
/// How long a certificate holds unless set otherwise. Nobody renews it but an admin, so: a year.
pub const DEFAULT_VALIDITY: Duration = DAY.saturating_mul(365);

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
    /// An authority cannot take over in this order.
    #[error("{why}")]
    Order {
        /// What is missing, and what to do.
        why: String,
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
    let key = KeyPair::generate()
        .map_err(|source| CaError::Sign { subject: "the authority".to_owned(), source })?;
    let certificate = authority::self_signed(&key)?;
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

/// Renews the coordinator's certificate; its key is kept, and so are its names unless others are given.
///
/// # Errors
/// [`CaError`]; the previous certificate stays.
pub fn renew_coordinator(dir: &Path, names: &[String], validity: Duration) -> Result<IssuedPaths, CaError> {
    let names = if names.is_empty() { coordinator_names(dir)? } else { other_names(names)? };
    issue_coordinator(dir, &names, validity)
}

/// Returns the digest of the public key of the authority that signs, by which nodes that enrol know it.
///
/// # Errors
/// [`CaError`].
pub fn pin(dir: &Path) -> Result<Pin, CaError> {
    Authority::open(dir)?
        .pin()
        .ok_or(CaError::Broken { dir: dir.to_owned(), reason: "its certificate cannot be read" })
}

/// Tells whether the coordinator's certificate has less than a third of its life before it, and can be renewed here.
#[must_use]
pub fn is_coordinator_due(dir: &Path) -> bool {
    let paths = paths(dir, dir, "coordinator");
    let identity = Identity::load(&paths.certificate, &paths.key).ok();
    let life = identity.and_then(|identity| authority::life_of(identity.chain().first()?));
    // One that cannot be looked at is for the renewal to complain about.
    !matches!(has_key(dir), Ok(false)) && life.is_some_and(|(whole, left)| left < whole / 3)
}

/// Tells whether there is a key to sign with.
///
/// # Errors
/// [`CaError::File`] if that cannot be said: a key that cannot be looked at is not none.
pub fn has_key(dir: &Path) -> Result<bool, CaError> {
    exists(&dir.join("ca.key"))
}

/// Reads which further names the coordinator's certificate has.
fn coordinator_names(dir: &Path) -> Result<Vec<SanType>, CaError> {
    let paths = paths(dir, dir, "coordinator");
    let identity = Identity::load(&paths.certificate, &paths.key)
        .map_err(|source| CaError::Unusable { dir: dir.to_owned(), source: Box::new(source) })?;
    identity.chain().first().map_or_else(|| Ok(Vec::new()), |certificate| named_in(certificate))
}

/// Makes a node's certificate and key in `dir/nodes`; for a node that has a key, renews the certificate only.
///
/// The certificate is of epoch 0: it counts as long as nobody enrolled under the name, and it was not revoked.
///
/// # Errors
/// [`CaError`]; a previous certificate stays, a key made on the way too (the next call uses it).
pub fn issue_node(dir: &Path, node: &NodeName, validity: Duration) -> Result<IssuedPaths, CaError> {
    let authority = Authority::open(dir)?;
    let nodes = dir.join("nodes");
    make_dir(&nodes)?;
    let paths = paths(dir, &nodes, node.as_str());
    let key = key_at(&paths.key, node.as_str())?;
    let certificate = authority.certify(node, Epoch::default(), &key, validity)?;
    replace(&paths.certificate, &certificate.pem())?;
    Ok(paths)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
