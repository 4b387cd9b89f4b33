//! OpenPGP public keys, and whether one of them made a signature. The only place that uses the crate `pgp`.
//!
//! The crate parses packets and does the arithmetic; it checks neither times nor revocations nor what a key is for,
//! nor which hash functions are to be relied on. All of that is decided here and in `usable.rs`.
//! Outside facts: RFC 9580; the same rules as ProtonMail/go-crypto, which apptainer verifies with.

use pgp::armor::BlockType;
use pgp::composed::{Deserializable, SignedPublicKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Packet, PacketParser, Signature, SignatureType, SignatureVersion};
use pgp::ser::Serialize;
use pgp::types::{KeyDetails, KeyVersion};

use super::usable::{Component, SKEW, fit, knows_what_is_critical, lives, seconds};
use super::{MAX_KEY, MAX_KEYS};
use crate::policy::{Fingerprint, MAX_KEY_NAME, Why};
use crate::time::UnixMillis;

/// Most signature packets of one message that are looked at; apptainer writes one.
const MAX_PACKETS: usize = 8;

/// Why a signature does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is by a key that is not there; how it names the key.
    Unknown(String),
    /// It does not hold.
    Bad(Why),
}

/// An OpenPGP key with its subkeys.
#[derive(Debug)]
pub(super) struct PgpKey {
    pub(super) key: SignedPublicKey,
    fingerprint: [u8; 20],
}

impl PgpKey {
    /// Understands exactly one key in binary form.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut keys = SignedPublicKey::from_bytes_many(bytes).map_err(|error| broken(&error))?;
        let key = keys.next().ok_or("there is no OpenPGP key in it")?.map_err(|error| broken(&error))?;
        if keys.next().is_some() {
            return Err("something follows the key".to_owned());
        }
        Self::of(key)
    }

    fn of(key: SignedPublicKey) -> Result<Self, String> {
        if key.version() != KeyVersion::V4 {
            return Err("images can name OpenPGP keys of version 4 only".to_owned());
        }
        let fingerprint = key.fingerprint();
        let fingerprint = <[u8; 20]>::try_from(fingerprint.as_bytes());
        let fingerprint = fingerprint.ok().ok_or("its fingerprint has not 20 bytes")?;
        Ok(Self { key, fingerprint })
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::Pgp(self.fingerprint)
    }

    /// Returns the keys in it that a signature may mean.
    fn meant_by<'a>(&'a self, signature: &'a Signature) -> impl Iterator<Item = Component<'a>> {
        let meant = |key: &dyn KeyDetails| {
            let (id, fingerprint) = (key.legacy_key_id(), key.fingerprint());
            signature.issuer_key_id().contains(&&id) || signature.issuer_fingerprint().contains(&&fingerprint)
        };
        let primary = meant(&self.key.primary_key).then_some(Component::Primary(&self.key.primary_key));
        let subkeys = self.key.public_subkeys.iter().filter(move |subkey| meant(&subkey.key));
        primary.into_iter().chain(subkeys.map(Component::Subkey))
    }
}

/// Takes the keys out of an armoured file.
pub(super) fn split_armored(text: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    const BEGIN: &[u8] = b"-----BEGIN PGP ";
    let starts: Vec<usize> = text
        .windows(BEGIN.len())
        .enumerate()
        .filter(|(_, window)| *window == BEGIN)
        .map(|(at, _)| at)
        .collect();
    if starts.is_empty() {
        return Err("there is no BEGIN PGP PUBLIC KEY BLOCK in it".to_owned());
    }
    let mut keys = Vec::new();
    for (index, start) in starts.iter().enumerate().take(MAX_KEYS.saturating_add(1)) {
        let end = starts.get(index.saturating_add(1)).copied().unwrap_or(text.len());
        let block = text.get(*start..end).unwrap_or_default();
        let mut dearmor = pgp::armor::Dearmor::new(block);
        dearmor.read_header().map_err(|error| broken(&error))?;
        match dearmor.typ {
            Some(BlockType::PublicKey) => {}
            Some(BlockType::PrivateKey) => return Err(PRIVATE.to_owned()),
            _ => return Err("it holds something else than public keys (gpg --export --armor)".to_owned()),
        }
        let (parsed, _) = SignedPublicKey::from_armor_many_buf(block).map_err(|error| broken(&error))?;
        collect(parsed, &mut keys)?;
    }
    Ok(keys)
}

/// Takes the keys out of a binary file.
pub(super) fn split(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    if bytes.starts_with(b"-----") {
        return Err("it is text: name it *.asc, or export it without --armor".to_owned());
    }
    // The tag of a secret key, in the old and in the new form of packets (RFC 9580 §4.2).
    if bytes.first().is_some_and(|first| first & 0xfc == 0x94 || *first == 0xc5) {
        return Err(PRIVATE.to_owned());
    }
    let mut keys = Vec::new();
    collect(SignedPublicKey::from_bytes_many(bytes).map_err(|error| broken(&error))?, &mut keys)?;
    Ok(keys)
}

const PRIVATE: &str = "it holds a private key, which has no business here: take it away, and export the public one (gpg --export)";

fn collect(
    parsed: impl Iterator<Item = pgp::errors::Result<SignedPublicKey>>,
    keys: &mut Vec<Vec<u8>>,
) -> Result<(), String> {
    let before = keys.len();
    for key in parsed.take(MAX_KEYS.saturating_add(1)) {
        let key = PgpKey::of(key.map_err(|error| broken(&error))?)?;
        let bytes = key.key.to_bytes().map_err(|error| broken(&error))?;
        if bytes.len() > MAX_KEY {
            return Err(format!(
                "key {} has {} bytes, at most {MAX_KEY} are kept: export it without the signatures of others (gpg --export-options export-minimal)",
                key.fingerprint(),
                bytes.len()
            ));
        }
        keys.push(bytes);
    }
    if keys.len() == before { Err("there is no OpenPGP key in it".to_owned()) } else { Ok(()) }
}

fn broken(error: &pgp::errors::Error) -> String {
    let said: String = error.to_string().chars().filter(|c| !c.is_control()).take(120).collect();
    format!("it is not a well-formed OpenPGP key ({said})")
}

/// Finds who made a signature over a text whose lines end in CR LF; `packets` is what was in the armour.
///
/// As the reference does, looks for the first signature whose key is known, and only at that one.
pub(super) fn verify(
    keys: &[PgpKey],
    text: &[u8],
    packets: &[u8],
    now: UnixMillis,
) -> Result<Fingerprint, Fault> {
    let mut unknown = None;
    for packet in PacketParser::new(packets).take(MAX_PACKETS) {
        let Ok(Packet::Signature(signature)) = packet else { return Err(Fault::Bad(Why::Unreadable)) };
        let mut worst = None;
        for key in keys {
            for component in key.meant_by(&signature) {
                match check(key, &component, &signature, text, now) {
                    Ok(()) => return Ok(key.fingerprint()),
                    Err(why) => worst = Some(why),
                }
            }
        }
        if let Some(why) = worst {
            return Err(Fault::Bad(why));
        }
        unknown.get_or_insert_with(|| issuer(&signature));
    }
    Err(unknown.map_or(Fault::Bad(Why::Unreadable), Fault::Unknown))
}

fn check(
    key: &PgpKey,
    component: &Component<'_>,
    signature: &Signature,
    text: &[u8],
    now: UnixMillis,
) -> Result<(), Why> {
    let strong = [HashAlgorithm::Sha224, HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];
    if !signature.hash_alg().is_some_and(|hash| strong.contains(&hash)) {
        return Err(Why::Hash);
    }
    let is_of_text = matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary));
    if signature.version() != SignatureVersion::V4 || !is_of_text || !knows_what_is_critical(signature) {
        return Err(Why::Unreadable);
    }
    fit(component)?;
    component.verify(signature, text)?;
    component.usable(&key.key, now)?;
    let made = signature.created().ok_or(Why::Unreadable)?;
    if u64::from(made.as_secs()) > seconds(now).saturating_add(SKEW) {
        return Err(Why::Time);
    }
    if lives(signature, now) { Ok(()) } else { Err(Why::Expired) }
}

/// Returns how a signature names its key, for people.
fn issuer(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(|key| format!("{key:X}"));
    let mut name = fingerprint
        .or_else(|| signature.issuer_key_id().first().map(|key| key.to_string().to_uppercase()))
        .unwrap_or_default();
    name.truncate(name.floor_char_boundary(MAX_KEY_NAME));
    name
}
