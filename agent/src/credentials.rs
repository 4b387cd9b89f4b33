//! The node's certificate: its files, what is shown at this moment, and when it is to be renewed.
//!
//! Owns the three files of `tls` in the settings. A certificate that came from the coordinator is used at once and
//! written for the next start; it is for the key and the name that this node has, or it is not taken.

pub(crate) mod establish;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use sifleet_common::telemetry::Chain;
use sifleet_common::time::UnixMillis;
use sifleet_common::tls::{
    self, Identity, IdentityError, Live, NodeIdentity, TlsError, node_identity, pem_of,
};
use sifleet_common::wire::enrol::Certificates;
use tracing::{info, warn};

use crate::settings;
use establish::replace;

/// A certificate is asked for at most this often while it is due.
const SPACING_MS: i64 = 60_000;

/// Says why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The files cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The certificate is not a node's.
    #[error("the node's certificate cannot be used")]
    Identity {
        /// What is wrong with it.
        #[source]
        source: IdentityError,
    },
    /// The coordinator sent lists beyond their limits.
    #[error("the coordinator sent certificates that cannot be used: {reason}")]
    Unsound {
        /// What is wrong with them.
        reason: &'static str,
    },
    /// A file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What this node shows and whom it trusts; clones share it.
#[derive(Clone, Debug)]
pub struct Credentials {
    files: settings::Tls,
    live: Live,
    shown: Arc<Mutex<Shown>>,
}

/// The certificate in use.
#[derive(Debug)]
struct Shown {
    identity: NodeIdentity,
    /// When it was last asked for anew.
    asked: Option<UnixMillis>,
    /// Whether the coordinator wants it to be.
    wanted: bool,
    /// How many times another one was found in the files.
    exchanged: u64,
}

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn open(files: &settings::Tls) -> Result<Self, CredentialsError> {
        let (identity, authorities) = read(files)?;
        let shown = leaf(&identity)?;
        let live = Live::new(&identity, &authorities)?;
        let shown = Arc::new(Mutex::new(Shown { identity: shown, asked: None, wanted: false, exchanged: 0 }));
        Ok(Self { files: files.clone(), live, shown })
    }

    /// Reads the files again, for sites that bring their own.
    ///
    /// # Errors
    /// [`CredentialsError`]; what was used before stays.
    pub fn reload(&self) -> Result<(), CredentialsError> {
        let (identity, authorities) = read(&self.files)?;
        let new = leaf(&identity)?;
        self.live.set(&identity, &authorities)?;
        let mut shown = self.shown();
        let exchanged = shown.exchanged + u64::from(shown.identity != new);
        *shown = Shown { identity: new, asked: None, wanted: false, exchanged };
        Ok(())
    }

    /// Returns how many times another certificate was found in the files. The coordinator knows nothing of such a one, and
    /// ends a session with the certificate that it was begun with.
    #[must_use]
    pub fn exchanged(&self) -> u64 {
        self.shown().exchanged
    }

    /// Borrows what handshakes ask.
    #[must_use]
    pub const fn live(&self) -> &Live {
        &self.live
    }

    /// Tells whether the certificate has run out.
    #[must_use]
    pub fn is_over(&self, now: UnixMillis) -> bool {
        !self.shown().identity.is_in_force(now)
    }

    /// Tells whether to ask for the certificate anew, and takes it for asked.
    #[must_use]
    pub fn take_due(&self, now: UnixMillis) -> bool {
        let mut shown = self.shown();
        let asked = shown.asked.is_some_and(|asked| now.0.saturating_sub(asked.0).abs() < SPACING_MS);
        let due = (shown.wanted || now >= shown.identity.renew_at()) && !asked;
        if due {
            shown.asked = Some(now);
        }
        due
    }

    /// Has the certificate asked for at once, because the coordinator says so.
    pub fn want(&self) {
        let mut shown = self.shown();
        (shown.wanted, shown.asked) = (true, None);
    }

    /// Takes certificates that the coordinator sent.
    ///
    /// # Errors
    /// [`CredentialsError`]; what was used before stays. Files that cannot be written are only told of.
    pub fn take(&self, sent: &Certificates) -> Result<(), CredentialsError> {
        if !sent.are_sound() {
            return Err(CredentialsError::Unsound { reason: "too many, too long, or none" });
        }
        let (chain, authorities) = (certificates(&sent.chain), certificates(&sent.authorities));
        let first = chain.first().map(AsRef::as_ref).unwrap_or_default();
        let new = node_identity(first).map_err(|source| CredentialsError::Identity { source })?;
        {
            let old = &self.shown().identity;
            if new.node != old.node || new.public_key != old.public_key {
                return Err(CredentialsError::Unsound { reason: "for another node or key" });
            }
        }
        let identity = Identity::load_with_chain(chain.clone(), &self.files.certificate, &self.files.key)?;
        self.live.set(&identity, &trust(&authorities)?)?;
        info!(node = %new.node, until = %new.not_after, "the node's certificate was renewed");
        let mut shown = self.shown();
        *shown = Shown { identity: new, asked: None, wanted: false, exchanged: shown.exchanged };
        drop(shown);
        // The authorities first: they are those before and perhaps others, so that any two files go together.
        let written = replace(&self.files.authority, &pem_of(&authorities))
            .and_then(|()| replace(&self.files.certificate, &pem_of(&chain)));
        if let Err(error) = written {
            warn!(error = %Chain(&error), "the renewed certificate is used, and lost at the next start");
        }
        Ok(())
    }

    fn shown(&self) -> std::sync::MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(files: &settings::Tls) -> Result<(Identity, Arc<RootCertStore>), TlsError> {
    Ok((Identity::load(&files.certificate, &files.key)?, tls::load_authorities(&files.authority)?))
}

fn leaf(identity: &Identity) -> Result<NodeIdentity, CredentialsError> {
    let first = identity.chain().first().map(AsRef::as_ref).unwrap_or_default();
    node_identity(first).map_err(|source| CredentialsError::Identity { source })
}

fn certificates(list: &[Vec<u8>]) -> Vec<CertificateDer<'static>> {
    list.iter().cloned().map(CertificateDer::from).collect()
}

fn trust(authorities: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, CredentialsError> {
    let mut store = RootCertStore::empty();
    for certificate in authorities {
        let refused = CredentialsError::Unsound { reason: "an authority is none" };
        store.add(certificate.clone()).map_err(|_no_detail| refused)?;
    }
    Ok(Arc::new(store))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rcgen::string::Ia5String;
    use rcgen::{CertificateParams, KeyPair, SanType};
    use sifleet_common::epoch::{Epoch, node_uri};

    use super::*;

    /// Writes a certificate of the node's key, as a site with its own authority does.
    fn certify(files: &settings::Tls, key: &KeyPair, day: u8) {
        let mut params = CertificateParams::default();
        let uri = node_uri(&"viz001".parse().unwrap(), Epoch::default());
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(uri).unwrap())];
        params.not_after = rcgen::date_time_ymd(2100, 1, day);
        let certificate = params.self_signed(key).unwrap().pem();
        std::fs::write(&files.certificate, &certificate).unwrap();
        std::fs::write(&files.authority, &certificate).unwrap();
    }

    fn written(folder: &Path) -> (settings::Tls, KeyPair) {
        let at = |name: &str| folder.join(name);
        let files = settings::Tls { authority: at("ca.pem"), certificate: at("n.pem"), key: at("n.key") };
        let key = KeyPair::generate().unwrap();
        replace(&files.key, &key.serialize_pem()).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&files.key, private).unwrap();
        certify(&files, &key, 1);
        (files, key)
    }

    #[test]
    fn another_certificate_in_the_files_is_noticed_and_the_same_one_read_again_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (files, key) = written(folder.path());
        let credentials = Credentials::open(&files).unwrap();
        credentials.reload().unwrap();
        assert_eq!(credentials.exchanged(), 0);
        certify(&files, &key, 2);
        credentials.reload().unwrap();
        assert_eq!(credentials.exchanged(), 1);
        std::fs::write(&files.certificate, "no certificate").unwrap();
        assert!(credentials.reload().is_err());
        assert_eq!(credentials.exchanged(), 1);
    }
}
