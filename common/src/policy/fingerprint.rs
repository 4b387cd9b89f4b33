//! What identifies a key: the fingerprint of an OpenPGP key, or the SHA-256 of a plain key's SubjectPublicKeyInfo.
//!
//! Owns its text forms; where keys come from is not known here.
//! Outside facts: RFC 9580 §5.5.4.2 (version 4 fingerprints), RFC 5280 §4.1.2.7.

use std::fmt;
use std::str::FromStr;

/// Identifies a public key. Written as 40 upper-case hexadecimal digits for OpenPGP, 64 lower-case ones for a plain key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fingerprint {
    /// Of an OpenPGP key of version 4: of its primary key, whichever of its subkeys signed.
    Pgp([u8; 20]),
    /// Of a plain key: SHA-256 of its SubjectPublicKeyInfo in DER.
    Plain([u8; 32]),
}

/// Says why a text is not a fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a fingerprint: write the 40 hexadecimal digits of an OpenPGP key, or the 64 of the SHA-256 of a plain one"
)]
pub struct FingerprintError {
    /// What was written, cut to 80 characters.
    pub text: String,
}

impl Fingerprint {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Pgp(bytes) => bytes,
            Self::Plain(bytes) => bytes,
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().iter().try_for_each(|byte| match self {
            Self::Pgp(_) => write!(f, "{byte:02X}"),
            Self::Plain(_) => write!(f, "{byte:02x}"),
        })
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Takes either case, and spaces and colons between digits, as tools print them.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let wrong = || FingerprintError { text: text.chars().take(80).collect() };
        let digits: Vec<char> = text.chars().filter(|c| !matches!(c, ' ' | ':')).take(65).collect();
        let bytes: Option<Vec<u8>> = digits
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => {
                    let value = high.to_digit(16)?.checked_mul(16)?.checked_add(low.to_digit(16)?)?;
                    u8::try_from(value).ok()
                }
                _ => None,
            })
            .collect();
        let bytes = bytes.ok_or_else(wrong)?;
        if let Ok(bytes) = <[u8; 20]>::try_from(bytes.as_slice()) {
            return Ok(Self::Pgp(bytes));
        }
        <[u8; 32]>::try_from(bytes.as_slice()).ok().map(Self::Plain).ok_or_else(wrong)
    }
}

impl serde::Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
