//! How one authority takes over from another while nodes go on: `next`, `switch`, `retire`.
//!
//! `ca.pem` lists every authority that is trusted, `ca.key` is the key of the one that signs. After each step the
//! coordinator reads them again and has its nodes ask for their certificates anew; a step is taken when all that matter
//! have done so. Before `switch` everybody trusts the new authority, before `retire` nobody shows the old one's
//! certificates: so no handshake fails.

use std::fs::rename;
use std::path::Path;

use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use sifleet_common::tls::{pem_of, read_certificates};

use super::authority::{own_certificate, self_signed};
use super::file::{create, exists, file, read_key, replace};
use super::{Authority, CaError, DEFAULT_VALIDITY, IssuedPaths, coordinator_names, issue_coordinator};

/// The key of the authority that is to take over.
const NEXT_KEY: &str = "next.key";
/// Most authorities that are trusted at a time: the old one and the new one.
const MOST: usize = 2;

/// Makes another authority, which is trusted from here on and signs nothing yet.
///
/// # Errors
/// [`CaError::Order`] while one is waiting already, or the last one has not been retired; other [`CaError`]s.
pub fn next(dir: &Path) -> Result<(), CaError> {
    Authority::open(dir)?;
    let mut trusted = trusted(dir)?;
    if trusted.len() >= MOST {
        let why = "two authorities are trusted already: end that change with `ca switch` or `ca retire`";
        return Err(CaError::Order { why: why.to_owned() });
    }
    let key = KeyPair::generate()
        .map_err(|source| CaError::Sign { subject: "the next authority".to_owned(), source })?;
    let certificate = self_signed(&key)?;
    // One that was left by a failed attempt is trusted by nobody.
    drop(std::fs::remove_file(dir.join(NEXT_KEY)));
    create(&dir.join(NEXT_KEY), 0o600, &key.serialize_pem())?;
    trusted.push(certificate.der().clone());
    replace(&dir.join("ca.pem"), &pem_of(&trusted))
}

/// Lets the next authority sign, beginning with the coordinator's own certificate. The old key is gone afterwards.
///
/// # Errors
/// [`CaError::Order`] if there is none; other [`CaError`]s, after which the call may be repeated.
pub fn switch(dir: &Path) -> Result<IssuedPaths, CaError> {
    let waiting = dir.join(NEXT_KEY);
    let names = coordinator_names(dir)?;
    if exists(&waiting)? {
        Authority::with_key(dir, &waiting)?;
        rename(&waiting, dir.join("ca.key")).map_err(|source| file("rename", &waiting, source))?;
    } else if trusted(dir)?.len() < MOST {
        let why = "no authority waits to take over: make one with `ca next`, and let the nodes learn of it";
        return Err(CaError::Order { why: why.to_owned() });
    }
    issue_coordinator(dir, &names, DEFAULT_VALIDITY)
}

/// Ends the trust in every authority but the one that signs.
///
/// # Errors
/// [`CaError::Order`] while an authority waits to take over; other [`CaError`]s.
pub fn retire(dir: &Path) -> Result<(), CaError> {
    if exists(&dir.join(NEXT_KEY))? {
        let why = "an authority waits to take over: let it with `ca switch`, or remove next.key and its certificate";
        return Err(CaError::Order { why: why.to_owned() });
    }
    Authority::open(dir)?;
    let key = read_key(&dir.join("ca.key"), "the authority")?;
    let trusted = trusted(dir)?;
    match own_certificate(&trusted, &key) {
        Some(own) => replace(&dir.join("ca.pem"), &pem_of(std::slice::from_ref(own))),
        None => Ok(()),
    }
}

fn trusted(dir: &Path) -> Result<Vec<CertificateDer<'static>>, CaError> {
    read_certificates(&dir.join("ca.pem"), "authority certificate")
        .map_err(|source| CaError::Unusable { dir: dir.to_owned(), source: Box::new(source) })
}
