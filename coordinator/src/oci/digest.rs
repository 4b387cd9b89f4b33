//! Digests as the OCI image specification writes them, and the hashes behind them.
//!
//! Outside facts: OCI image specification 1.1, "Digests"; SHA-256 and SHA-512 are its registered algorithms.

use std::fmt;
use std::str::FromStr;

use ring::digest::{Context, SHA256, SHA512};

use super::error::OciError;

/// Says how bytes were hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, which every client speaks.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    const fn digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }

    /// Hashes bytes that are in memory.
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> OciDigest {
        let mut hasher = Hasher::new(self);
        hasher.update(bytes);
        hasher.finish()
    }
}

/// Identifies bytes; written `sha256:<64 hex>` or `sha512:<128 hex>`, always in small letters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OciDigest {
    algorithm: Algorithm,
    hex: String,
}

impl OciDigest {
    /// Returns how the bytes were hashed.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Borrows the hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// Returns the first 12 digits, for logs that people read.
    #[must_use]
    pub fn short(&self) -> String {
        format!("{}:{}", self.algorithm.name(), self.hex.get(..12).unwrap_or(&self.hex))
    }

    /// Names the file that holds such bytes.
    pub(super) fn file_name(&self) -> String {
        format!("{}-{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Display for OciDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl FromStr for OciDigest {
    type Err = OciError;

    fn from_str(text: &str) -> Result<Self, OciError> {
        let bad = || OciError::BadDigest {
            why: format!(
                "{:?} is none: write sha256: and 64, or sha512: and 128 small hexadecimal digits",
                super::cut(text)
            ),
        };
        let (name, hex) = text.split_once(':').ok_or_else(bad)?;
        let known = [Algorithm::Sha256, Algorithm::Sha512];
        let algorithm = known.into_iter().find(|known| known.name() == name).ok_or_else(bad)?;
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if hex.len() == algorithm.digits() && hex.bytes().all(is_hex) {
            Ok(Self { algorithm, hex: hex.to_owned() })
        } else {
            Err(bad())
        }
    }
}

/// Hashes bytes as they come.
#[derive(Clone)]
pub struct Hasher {
    algorithm: Algorithm,
    context: Context,
}

impl Hasher {
    /// Begins.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        let context = match algorithm {
            Algorithm::Sha256 => Context::new(&SHA256),
            Algorithm::Sha512 => Context::new(&SHA512),
        };
        Self { algorithm, context }
    }

    /// Takes bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    /// Tells what all bytes were.
    #[must_use]
    pub fn finish(self) -> OciDigest {
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
        let digits = |byte: &u8| [digit(byte >> 4), digit(byte & 15)];
        let hex = self.context.finish().as_ref().iter().flat_map(digits).collect();
        OciDigest { algorithm: self.algorithm, hex }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_read_back_as_they_are_written() {
        // The examples of FIPS 180-4 for no bytes at all.
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Algorithm::Sha256.of(b"").to_string(), empty);
        assert_eq!(empty.parse::<OciDigest>().unwrap(), Algorithm::Sha256.of(b""));
        let long = Algorithm::Sha512.of(b"").to_string();
        assert!(long.starts_with("sha512:cf83e1357eefb8bdf1542850d66d8007"), "{long}");
        assert_eq!(long.parse::<OciDigest>().unwrap().to_string(), long);
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        let hex = "a".repeat(64);
        for bad in [
            String::new(),
            hex.clone(),
            format!("sha256:{}", "A".repeat(64)),
            format!("sha512:{hex}"),
            format!("md5:{}", "a".repeat(32)),
            format!("sha256:{hex}a"),
            format!("sha256:{}/", "a".repeat(63)),
        ] {
            assert!(bad.parse::<OciDigest>().is_err(), "{bad}");
        }
    }
}
