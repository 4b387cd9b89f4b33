//! Whom to trust for https: a file the user names, else the certificates that the administrator keeps.
//!
//! Never a list compiled in: a cluster decides itself whom it trusts.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::ClientError;

/// Largest file of certificates that is read, in bytes; Debian's whole bundle has 220 KiB.
const MAX_BUNDLE: u64 = 16 * 1024 * 1024;
/// Where distributions keep the bundle: Debian and its kin, Red Hat and its kin, SUSE, Alpine.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Reads the certificates to trust.
pub(super) fn roots(named: Option<&Path>) -> Result<TlsConfig, ClientError> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => {
            BUNDLES.iter().map(PathBuf::from).find(|path| path.exists()).unwrap_or_else(|| BUNDLES[0].into())
        }
    };
    let pem = read(&path).map_err(|source| ClientError::CaFile { path: path.clone(), source })?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(_) => {}
            Err(_) => return Err(ClientError::NoCertificate { path }),
        }
    }
    if certificates.is_empty() {
        return Err(ClientError::NoCertificate { path });
    }
    Ok(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&certificates)).build())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut pem = Vec::new();
    File::open(path)?.take(MAX_BUNDLE + 1).read_to_end(&mut pem)?;
    if u64::try_from(pem.len()).unwrap_or(u64::MAX) > MAX_BUNDLE {
        return Err(io::Error::other(format!("it has more than {MAX_BUNDLE} bytes")));
    }
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named() {
        let missing = roots(Some(Path::new("/does/not/exist.pem"))).err().map(|error| error.to_string());
        assert_eq!(missing.as_deref(), Some("cannot read certificates from /does/not/exist.pem"));
        let other = roots(Some(Path::new("/proc/self/comm"))).err().map(|error| error.to_string());
        assert_eq!(other.as_deref(), Some("/proc/self/comm holds no certificate in PEM form"));
    }
}
