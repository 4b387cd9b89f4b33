//! The certificate of the HTTP API, read from PEM files and exchanged while running.
//!
//! This is the certificate that browsers and command lines see, from whichever authority the site trusts; the
//! cluster's own CA, which agents prove themselves with, is in `common::tls`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// What handshakes start with; storing another one applies to connections accepted afterwards.
pub type Tls = Arc<ArcSwap<ServerConfig>>;

/// Says why there is no certificate to show.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("cannot read {what} from {}: it must be a readable PEM file", path.display())]
    Pem {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// The certificate and the key do not go together, or cannot be used.
    #[error("the certificate {} and the key {} cannot be used together", certificate.display(), key.display())]
    Pair {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
}

/// Lists the names and addresses that a certificate stands for, in lower case.
///
/// # Errors
/// [`TlsError::Pem`]. A certificate whose names cannot be read has none.
pub fn names(certificate: &Path) -> Result<Vec<String>, TlsError> {
    let unreadable = |source| TlsError::Pem { what: "a certificate", path: certificate.to_owned(), source };
    let der = CertificateDer::from_pem_file(certificate).map_err(unreadable)?;
    let parsed = X509Certificate::from_der(&der).map(|(_, parsed)| parsed);
    let names = parsed.as_ref().ok().and_then(|parsed| parsed.subject_alternative_name().ok().flatten());
    let names = names.iter().flat_map(|names| &names.value.general_names);
    Ok(names.filter_map(name).collect())
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    if let GeneralName::DNSName(name) = name {
        return Some(name.to_ascii_lowercase());
    }
    let GeneralName::IPAddress(bytes) = name else { return None };
    let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
    let address = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
    address.ok().map(|address| address.to_string())
}

/// Reads a certificate chain and its key for HTTP/1.1 over TLS 1.2 or 1.3.
///
/// # Errors
/// [`TlsError`].
pub fn read(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let unreadable = |what, path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Pem { what, path, source }
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unreadable("a certificate", certificate))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(unreadable("a private key", key))?;
    let pair = |source| TlsError::Pair { certificate: certificate.to_owned(), key: key.to_owned(), source };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_certificate_tells_by_which_names_it_may_be_asked() {
        let given = ["Head01.cluster", "*.example.org", "10.0.0.1", "::1"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(given).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.pem");
        std::fs::write(&path, made.cert.pem()).unwrap();
        assert_eq!(names(&path).unwrap(), ["head01.cluster", "*.example.org", "10.0.0.1", "::1"]);
        std::fs::write(&path, "no certificate").unwrap();
        assert!(names(&path).is_err());
    }
}
