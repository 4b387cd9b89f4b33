//! Names as they stand in certificates; none of those that tell roles apart can be asked for.

use std::net::IpAddr;

use rcgen::SanType;
use rcgen::string::Ia5String;
use rustls::pki_types::DnsName;
use sifleet_common::tls::COORDINATOR_NAME;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::CaError;

/// Names under which other names may not be asked for: those that tell coordinator and nodes apart.
const OWN_DOMAIN: &str = "sifleet.internal";

pub(super) fn ascii(text: &str) -> Result<Ia5String, CaError> {
    Ia5String::try_from(text)
        .map_err(|_no_detail| CaError::Name { name: text.to_owned(), reason: "it is not plain ASCII" })
}

pub(super) fn host_name(text: &str) -> Result<SanType, CaError> {
    if DnsName::try_from(text).is_err() {
        let reason = "it is no host name (letters, digits, `-` and `_` in parts of at most 63)";
        return Err(CaError::Name { name: text.to_owned(), reason });
    }
    ascii(text).map(SanType::DnsName)
}

/// Reads further names of the coordinator; none may be one that tells roles apart.
pub(super) fn other_names(names: &[String]) -> Result<Vec<SanType>, CaError> {
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

/// Reads the further names of a coordinator's certificate, to be kept when it is renewed.
pub(super) fn named_in(certificate: &[u8]) -> Result<Vec<SanType>, CaError> {
    let unreadable = || CaError::Name {
        name: "coordinator.pem".to_owned(),
        reason: "the names of that certificate cannot be read: name them with --name",
    };
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_no_detail| unreadable())?;
    let names = parsed.subject_alternative_name().map_err(|_no_detail| unreadable())?;
    let names = names.into_iter().flat_map(|names| &names.value.general_names);
    let kept = names.filter_map(|name| {
        if let GeneralName::DNSName(name) = name {
            return (*name != COORDINATOR_NAME).then(|| host_name(name));
        }
        let GeneralName::IPAddress(bytes) = name else { return None };
        address(bytes).map(|address| Ok(SanType::IpAddress(address)))
    });
    kept.collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}
