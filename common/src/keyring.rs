//! The public keys whose signatures on images count: read from the files of an admin, handed to agents, asked.
//!
//! Owns what a key file may hold and how large a keyring may be. Every key is understood when the keyring is made,
//! so that a file that cannot be used is a mistake somebody sees and not a signature that silently never counts.
//! Whether a key is good at this moment (revoked, expired, for signing) is found out when it is used.
//! Outside facts: RFC 9580 (OpenPGP), RFC 7468 (PEM), RFC 5280 §4.1.2.7 (SubjectPublicKeyInfo).

mod openpgp;
mod plain;
mod usable;

use std::collections::BTreeSet;

pub(crate) use openpgp::Fault;
use openpgp::PgpKey;
pub(crate) use plain::KeyName;
use plain::PlainKey;

use crate::digest::Digest;
use crate::policy::Fingerprint;
use crate::time::UnixMillis;

/// Most keys of each kind: a site has a handful of people who sign.
pub const MAX_KEYS: usize = 128;
/// Longest key, in bytes: OpenPGP keys grow with the signatures others put on them.
pub const MAX_KEY: usize = 64 * 1024;
/// Most bytes of all keys together: half of the largest control frame, which carries it whole.
pub const MAX_KEYRING: usize = 512 * 1024;

/// The keys as they travel: every OpenPGP key in binary form, every plain one as SubjectPublicKeyInfo in DER.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KeyMaterial {
    /// Whether signatures of before SIF 1.0 count, which cover only the root file system.
    pub legacy: bool,
    /// OpenPGP keys (RFC 9580 §10.1), one each.
    pub openpgp: Vec<Vec<u8>>,
    /// Plain keys.
    pub plain: Vec<Vec<u8>>,
}

/// Says why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file is not what its name says, or holds no key.
    #[error("{file} holds no usable public key: {reason}")]
    Unusable {
        /// The file's name, or the place in a keyring from elsewhere.
        file: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// More keys, or more bytes of them, than are kept.
    #[error(
        "the keyring is too large: at most {MAX_KEYS} keys of each kind, {MAX_KEY} bytes a key and {MAX_KEYRING} bytes in all"
    )]
    TooLarge,
}

impl KeyMaterial {
    /// Adds the keys of one file: `*.asc` and `*.gpg` hold OpenPGP keys, `*.pem` plain ones; others are left out.
    ///
    /// # Errors
    /// [`KeyringError`] if the file holds no key or one that cannot be used; nothing of it is added.
    pub fn add_file(&mut self, name: &str, bytes: &[u8]) -> Result<(), KeyringError> {
        let unusable = |reason| KeyringError::Unusable { file: name.to_owned(), reason };
        if bytes.len() > MAX_KEYRING {
            return Err(KeyringError::TooLarge);
        }
        match name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("asc") => self.openpgp.extend(openpgp::split_armored(bytes).map_err(unusable)?),
            Some("gpg") => self.openpgp.extend(openpgp::split(bytes).map_err(unusable)?),
            Some("pem") => self.plain.extend(plain::split(bytes).map_err(unusable)?),
            Some(_) | None => {}
        }
        self.check_size()
    }

    /// Brings the keys into one order and drops those that are there twice, so that the same keys have one digest.
    pub fn sort(&mut self) {
        for keys in [&mut self.openpgp, &mut self.plain] {
            keys.sort();
            keys.dedup();
        }
    }

    /// Returns what identifies these keys.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"sifleet keyring 1");
        hasher.update(&[u8::from(self.legacy)]);
        for keys in [&self.openpgp, &self.plain] {
            hasher.update(&(keys.len() as u64).to_le_bytes());
            for key in keys {
                hasher.update(&(key.len() as u64).to_le_bytes());
                hasher.update(key);
            }
        }
        hasher.finalize().into()
    }

    fn check_size(&self) -> Result<(), KeyringError> {
        let all = self.openpgp.iter().chain(&self.plain);
        let fits = self.openpgp.len() <= MAX_KEYS
            && self.plain.len() <= MAX_KEYS
            && all.clone().all(|key| key.len() <= MAX_KEY)
            && all.map(Vec::len).sum::<usize>() <= MAX_KEYRING;
        if fits { Ok(()) } else { Err(KeyringError::TooLarge) }
    }
}

/// Public keys, understood, that verify signatures.
#[derive(Debug)]
pub struct Keyring {
    digest: Digest,
    legacy: bool,
    openpgp: Vec<PgpKey>,
    plain: Vec<PlainKey>,
}

impl Keyring {
    /// Understands every key.
    ///
    /// # Errors
    /// [`KeyringError`] if there are too many, or one cannot be used.
    pub fn new(material: &KeyMaterial) -> Result<Self, KeyringError> {
        material.check_size()?;
        let unusable = |kind: &str, number: usize, reason| KeyringError::Unusable {
            file: format!("{kind} key {number}"),
            reason,
        };
        let mut keyring = Self {
            digest: material.digest(),
            legacy: material.legacy,
            openpgp: Vec::with_capacity(material.openpgp.len()),
            plain: Vec::with_capacity(material.plain.len()),
        };
        for (bytes, number) in material.openpgp.iter().zip(1..) {
            let key = PgpKey::parse(bytes).map_err(|reason| unusable("OpenPGP", number, reason))?;
            keyring.openpgp.push(key);
        }
        for (bytes, number) in material.plain.iter().zip(1..) {
            let key = PlainKey::parse(bytes).map_err(|reason| unusable("plain", number, reason))?;
            keyring.plain.push(key);
        }
        Ok(keyring)
    }

    /// Returns what identifies the keys.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Tells whether signatures of before SIF 1.0 count.
    #[must_use]
    pub fn legacy(&self) -> bool {
        self.legacy
    }

    /// Returns the fingerprints of all its keys.
    #[must_use]
    pub fn fingerprints(&self) -> BTreeSet<Fingerprint> {
        let openpgp = self.openpgp.iter().map(PgpKey::fingerprint);
        openpgp.chain(self.plain.iter().map(PlainKey::fingerprint)).collect()
    }

    /// Finds who made an OpenPGP signature over a text whose lines end in CR LF.
    pub(crate) fn verify_openpgp(
        &self,
        text: &[u8],
        packets: &[u8],
        now: UnixMillis,
    ) -> Result<Fingerprint, Fault> {
        openpgp::verify(&self.openpgp, text, packets, now)
    }

    /// Finds the plain keys that made a signature over a message; `name` is how the signature names its key.
    pub(crate) fn verify_plain(
        &self,
        message: &[u8],
        signature: &[u8],
        name: KeyName<'_>,
    ) -> BTreeSet<Fingerprint> {
        let named = self.plain.iter().filter(|key| key.answers_to(name));
        named.filter(|key| key.verifies(message, signature, name)).map(PlainKey::fingerprint).collect()
    }

    /// Tells whether a plain key goes by this name.
    pub(crate) fn knows_plain(&self, name: KeyName<'_>) -> bool {
        !name.id.is_empty() && self.plain.iter().any(|key| key.answers_to(name))
    }
}
