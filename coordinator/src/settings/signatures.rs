//! `[signatures]`: whose signatures count, and which partitions ask for them.

use std::path::PathBuf;

use serde::Deserialize;
use sifleet_common::name::PartitionName;
use sifleet_common::policy::{Fingerprint, MAX_POLICIES, MAX_SIGNERS};

/// Whose signatures count, and who asks for them; read again on SIGHUP, as is the keyring.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, try_from = "Raw")]
pub struct Signatures {
    /// A directory of public keys: `*.asc` and `*.gpg` OpenPGP, `*.pem` plain ones.
    pub keyring: PathBuf,
    /// Whether signatures of before SIF 1.0 count, which cover only the root file system.
    pub legacy: bool,
    /// What is asked for; a node asks for all that its partitions do.
    pub policy: Vec<Entry>,
}

impl Default for Signatures {
    fn default() -> Self {
        Self { keyring: "/etc/sifleet/keyring".into(), legacy: false, policy: Vec::new() }
    }
}

/// What one partition asks for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The partition; every node if none is named.
    pub partition: Option<PartitionName>,
    /// How much.
    pub require: Require,
    /// Fingerprints of keys of which one has to have signed; only with `signed-by`.
    #[serde(default)]
    pub by: Vec<Fingerprint>,
}

/// How much is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Require {
    /// Nothing.
    Any,
    /// A signature by any key of the keyring.
    Signed,
    /// A signature by one of those that are named.
    SignedBy,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    keyring: Option<PathBuf>,
    legacy: Option<bool>,
    #[serde(default)]
    policy: Vec<Entry>,
}

impl TryFrom<Raw> for Signatures {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let default = Self::default();
        let keyring = raw.keyring.unwrap_or(default.keyring);
        if !keyring.is_absolute() {
            return Err(format!("signatures.keyring is {keyring:?}: write the whole path, from / on"));
        }
        if raw.policy.len() > MAX_POLICIES {
            return Err(format!("there are more than {MAX_POLICIES} signatures.policy"));
        }
        for entry in &raw.policy {
            let place = entry.partition.as_ref().map_or("every node", |name| name.as_str());
            match (entry.require, entry.by.len()) {
                (Require::SignedBy, 0) => {
                    return Err(format!("the policy of {place} is signed-by and names no key: set by"));
                }
                (Require::SignedBy, keys) if keys > MAX_SIGNERS => {
                    return Err(format!("the policy of {place} names more than {MAX_SIGNERS} keys"));
                }
                (Require::Any | Require::Signed, 1..) => {
                    return Err(format!("the policy of {place} names keys: set require = \"signed-by\""));
                }
                _ => {}
            }
        }
        Ok(Self { keyring, legacy: raw.legacy.unwrap_or(default.legacy), policy: raw.policy })
    }
}
