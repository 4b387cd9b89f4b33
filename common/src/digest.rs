//! The digest that identifies an image: BLAKE3-256 of the whole file.
//!
//! Owns its text forms. Hashing itself is done where bytes are read.

use std::fmt;
use std::str::FromStr;

/// Identifies an image by the BLAKE3-256 digest of its bytes; written `blake3:<64 hex>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Shortest digest prefix people may write: 48 bits, so that two of a million images hardly ever share it.
pub const MIN_PREFIX: usize = 12;

/// Says why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Not `blake3:` and 64 hexadecimal digits.
    #[error("{text:?} is not a digest: write blake3: and 64 hexadecimal digits")]
    Malformed {
        /// What was written, cut to 80 characters.
        text: String,
    },
}

impl Digest {
    /// Wraps the 32 bytes of a BLAKE3 hash.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Hashes bytes that are in memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Returns the 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the 64 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// Returns `blake3:` and the first 12 digits, for tables that people read.
    #[must_use]
    pub fn short(&self) -> String {
        let hex = self.hex();
        format!("blake3:{}", hex.get(..MIN_PREFIX).unwrap_or(&hex))
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl FromStr for Digest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        text.strip_prefix("blake3:")
            .filter(|hex| hex.len() == 64)
            .and_then(|hex| blake3::Hash::from_hex(hex).ok())
            .map(Self::from)
            .ok_or_else(|| DigestError::Malformed { text: text.chars().take(80).collect() })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blake3:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_survives_its_text_form() {
        let digest = Digest::from(blake3::hash(b"image"));
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(digest.short().len(), "blake3:".len() + MIN_PREFIX);
    }

    #[test]
    fn only_blake3_with_64_digits_is_a_digest() {
        let hex = "0".repeat(64);
        for bad in [
            hex.clone(),
            format!("sha256:{hex}"),
            format!("blake3:{hex}0"),
            "blake3:".into(),
            format!("blake3:{}", "g".repeat(64)),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
