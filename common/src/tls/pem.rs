//! Certificates and keys as PEM files (RFC 7468): bounded when read, and no key that others may read.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pem::{EncodeConfig, LineEnding, Pem};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{MAX_PEM, TlsError};

/// Writes certificates one after the other.
#[must_use]
pub fn pem_of(certificates: &[CertificateDer<'_>]) -> String {
    let blocks: Vec<_> =
        certificates.iter().map(|certificate| Pem::new("CERTIFICATE", certificate.as_ref())).collect();
    pem::encode_many_config(&blocks, EncodeConfig::new().set_line_ending(LineEnding::LF))
}

/// Looks whether a private key can be used as far as its file goes.
///
/// # Errors
/// [`TlsError::Read`], [`TlsError::Exposed`], [`TlsError::TooLarge`].
pub fn check_key_file(path: &Path) -> Result<(), TlsError> {
    read(path, "private key", true).map(drop)
}

/// Reads certificates in the order in which they stand in a PEM file; `what` they are is said in errors.
///
/// # Errors
/// [`TlsError`]; among others if there is none.
pub fn read_certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path, what, false)?;
    let not_pem = |source| TlsError::NotPem { what, path: path.to_owned(), source };
    let found = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| not_pem(Some(source)))?;
    if found.is_empty() { Err(not_pem(None)) } else { Ok(found) }
}

pub(super) fn read(path: &Path, what: &'static str, secret: bool) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { what, path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if secret && mode & 0o077 != 0 {
        return Err(TlsError::Exposed { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    let len = file.take(MAX_PEM + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(len).is_ok_and(|len| len <= MAX_PEM) {
        Ok(bytes)
    } else {
        Err(TlsError::TooLarge { what, path: path.to_owned() })
    }
}
