//! Reads what an admin asks of signatures: the keyring's directory, and the policies of the settings.
//!
//! All or nothing: a key file that cannot be used, or a policy that names a key which is not there, is a mistake that is
//! told with its place; what was in force before stays in force.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sifleet_common::keyring::{KeyMaterial, Keyring, KeyringError, MAX_KEYRING};
use sifleet_common::policy::{Fingerprint, Policy};

use crate::settings::Settings;
use crate::settings::signatures::{Require, Signatures};
use crate::state::pushes::Rules;

/// Most files of the directory that are looked at.
const MAX_FILES: usize = 1_024;

/// Says why the rules cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum SignaturesError {
    /// The keyring cannot be read.
    #[error("cannot read the keyring {}: make the directory, and let the coordinator's user read it", path.display())]
    Read {
        /// The directory, or a file in it.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The directory holds more than a keyring.
    #[error("{} holds more than {MAX_FILES} files: is it a keyring?", path.display())]
    TooMany {
        /// The directory.
        path: PathBuf,
    },
    /// A key cannot be used.
    #[error("the keyring {} cannot be used", path.display())]
    Keyring {
        /// The directory.
        path: PathBuf,
        /// Which file, and why.
        #[source]
        source: KeyringError,
    },
    /// A policy names a key that is not in the keyring.
    #[error(
        "the policy of {place} names the key {key}, which is not in {}: put its public half there as *.asc, *.gpg or *.pem",
        path.display()
    )]
    UnknownKey {
        /// The partition, or every node.
        place: String,
        /// The key.
        key: Fingerprint,
        /// The directory.
        path: PathBuf,
    },
    /// Signatures are asked for, and there is no key.
    #[error("signatures are asked for, and {} holds no key: put public keys there as *.asc, *.gpg or *.pem", path.display())]
    Empty {
        /// The directory.
        path: PathBuf,
    },
}

/// Reads the rules. Where no policy asks for anything, the keyring is not looked at.
///
/// # Errors
/// [`SignaturesError`] for the first mistake.
pub fn read(settings: &Settings) -> Result<Rules, SignaturesError> {
    let set = &settings.signatures;
    let mut rules = Rules::default();
    if set.policy.iter().all(|entry| entry.require == Require::Any) {
        return Ok(rules);
    }
    let path = || set.keyring.clone();
    let material = read_keyring(set)?;
    let keyring =
        Keyring::new(&material).map_err(|source| SignaturesError::Keyring { path: path(), source })?;
    let known = keyring.fingerprints();
    if known.is_empty() {
        return Err(SignaturesError::Empty { path: path() });
    }
    for entry in &set.policy {
        if let Some(key) = entry.by.iter().find(|key| !known.contains(*key)) {
            let place =
                entry.partition.as_ref().map_or("every node".to_owned(), |name| format!("partition {name}"));
            return Err(SignaturesError::UnknownKey { place, key: *key, path: path() });
        }
        let policy = match entry.require {
            Require::Any => Policy::Any,
            Require::Signed => Policy::Signed,
            Require::SignedBy => Policy::signed_by(entry.by.iter().copied().collect::<BTreeSet<_>>()),
        };
        let place = match &entry.partition {
            None => &mut rules.everywhere,
            Some(name) => rules.partitions.entry(name.clone()).or_default(),
        };
        *place = std::mem::take(place).and(&policy);
    }
    rules.keyring = Arc::new(material);
    Ok(rules)
}

fn read_keyring(set: &Signatures) -> Result<KeyMaterial, SignaturesError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SignaturesError::Read { path, source }
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(&set.keyring).map_err(failed(&set.keyring))? {
        files.push(entry.map_err(failed(&set.keyring))?.file_name());
        if files.len() > MAX_FILES {
            return Err(SignaturesError::TooMany { path: set.keyring.clone() });
        }
    }
    files.sort();
    let mut material = KeyMaterial { legacy: set.legacy, ..KeyMaterial::default() };
    for name in files {
        let path = set.keyring.join(&name);
        let is_key = path.extension().is_some_and(|kind| kind == "asc" || kind == "gpg" || kind == "pem");
        let Some(name) = name.to_str().filter(|name| is_key && !name.starts_with('.')) else { continue };
        let mut bytes = Vec::new();
        let most = MAX_KEYRING as u64 + 1;
        let read = fs::File::open(&path).and_then(|file| file.take(most).read_to_end(&mut bytes));
        read.map_err(failed(&path))?;
        material
            .add_file(name, &bytes)
            .map_err(|source| SignaturesError::Keyring { path: set.keyring.clone(), source })?;
    }
    material.sort();
    Ok(material)
}

#[cfg(test)]
mod tests;
