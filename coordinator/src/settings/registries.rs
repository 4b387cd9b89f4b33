//! External registries: whom the coordinator may ask.

use std::path::PathBuf;

use serde::Deserialize;
use sifleet_common::name::PartitionName;

use crate::registries::outside;
use crate::store::identity::Network;

/// Widest network of IPv4 that may be opened, in bits; 10.0.0.0/8 is the widest private one.
const WIDEST_V4: u8 = 8;
/// Widest network of IPv6 that may be opened, in bits; fc00::/7 is the widest private one.
const WIDEST_V6: u8 = 7;

/// External registries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, try_from = "Raw")]
pub struct Registries {
    /// Networks in which registries may be though they are private, this machine's, or otherwise no part of the Internet.
    pub allow: Vec<Network>,
    /// PEM file with authorities of registries' certificates, besides those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// Where images go that Harbor has preheated without saying where.
    pub preheat_partition: Option<PartitionName>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    allow: Vec<String>,
    ca_file: Option<PathBuf>,
    preheat_partition: Option<PartitionName>,
}

impl TryFrom<Raw> for Registries {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let mut allow = Vec::new();
        for text in raw.allow {
            let network: Network = text.parse().map_err(|error| format!("registries.allow: {error}"))?;
            let widest = if network.is_ipv4() { WIDEST_V4 } else { WIDEST_V6 };
            if network.bits() < widest {
                return Err(format!(
                    "registries.allow opens {network}, wider than /{widest}: name networks of registries"
                ));
            }
            allow.push(network);
        }
        match raw.ca_file {
            Some(path) if !path.is_absolute() => {
                Err(format!("registries.ca_file is {path:?}: write the whole path, from / on"))
            }
            ca_file => Ok(Self { allow, ca_file, preheat_partition: raw.preheat_partition }),
        }
    }
}

impl Registries {
    /// Returns what may be asked.
    pub(super) fn options(&self) -> outside::Options {
        outside::Options { allow: self.allow.clone(), ca_file: self.ca_file.clone() }
    }
}
