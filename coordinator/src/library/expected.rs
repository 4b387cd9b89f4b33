//! What bytes are to be: the BLAKE3 digest that identifies images here, or the SHA-256 by which registries know them.
//!
//! Owns both text forms and the hashing of files. Outside fact: OCI image specification 1.1, digests.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::str::FromStr;

use ring::digest::{Context, SHA256};
use sifleet_common::digest::Digest;

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// A SHA-256, written `sha256:<64 hex>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256([u8; 32]);

/// Says that a text is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("that is not sha256: and 64 hexadecimal digits")]
pub struct NotSha256;

impl Sha256 {
    /// Hashes bytes that are in memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(bytes);
        Self::ended(context)
    }

    /// Returns the 64 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        // A hash of the same length writes itself.
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    fn ended(context: Context) -> Self {
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
        Self(bytes)
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha256 {
    type Err = NotSha256;

    fn from_str(text: &str) -> Result<Self, NotSha256> {
        let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let digits = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.bytes().all(lower));
        let hash = digits.and_then(|hex| blake3::Hash::from_hex(hex).ok());
        hash.map(|hash| Self(*hash.as_bytes())).ok_or(NotSha256)
    }
}

/// What bytes are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expected {
    /// An image as we know it.
    Blake3(Digest),
    /// An image as a registry knows it.
    Sha256(Sha256),
}

impl Expected {
    /// Returns what identifies it, for the name of an upload.
    pub(super) fn bytes(&self) -> &[u8; 32] {
        match self {
            Self::Blake3(digest) => digest.as_bytes(),
            Self::Sha256(digest) => &digest.0,
        }
    }

    /// Returns the algorithm and the first digits, for logs.
    pub(super) fn short(&self) -> String {
        match self {
            Self::Blake3(digest) => digest.short(),
            Self::Sha256(digest) => format!("sha256:{}", digest.hex().get(..12).unwrap_or_default()),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blake3(digest) => digest.fmt(f),
            Self::Sha256(digest) => digest.fmt(f),
        }
    }
}

impl FromStr for Expected {
    type Err = NotSha256;

    fn from_str(text: &str) -> Result<Self, NotSha256> {
        text.parse().map(Self::Blake3).or_else(|_other| text.parse().map(Self::Sha256))
    }
}

impl From<Digest> for Expected {
    fn from(digest: Digest) -> Self {
        Self::Blake3(digest)
    }
}

/// What bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// As we know images.
    pub(super) digest: Digest,
    /// In the words of what was expected.
    pub(super) said: Expected,
}

impl Found {
    /// Reads a file from its beginning, once.
    pub(super) fn read(mut file: &File, expected: Expected) -> io::Result<Self> {
        file.rewind()?;
        let (mut hasher, mut piece) = (blake3::Hasher::new(), vec![0; PIECE]);
        let mut other = matches!(expected, Expected::Sha256(_)).then(|| Context::new(&SHA256));
        loop {
            let read = match file.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => piece.get(..read).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            hasher.update(read);
            if let Some(context) = &mut other {
                context.update(read);
            }
        }
        let digest = Digest::from(hasher.finalize());
        let said = other.map_or(Expected::Blake3(digest), |context| Expected::Sha256(Sha256::ended(context)));
        Ok(Self { digest, said })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn both_are_read_in_one_pass() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abc").unwrap();
        let expected: Expected = ABC.parse().unwrap();
        let found = Found::read(&file, expected).unwrap();
        assert_eq!((found.said, found.digest), (expected, Digest::of(b"abc")));
        let expected = Expected::from(Digest::of(b"abc"));
        assert_eq!(Found::read(&file, expected).unwrap().said, expected);
        assert_eq!(Sha256::of(b"abc").to_string(), ABC);
    }

    #[test]
    fn only_64_small_digits_are_a_sha256() {
        assert_eq!(ABC.parse::<Expected>().unwrap().to_string(), ABC);
        for bad in
            ["", "sha256:", "sha256:00", &ABC.to_uppercase(), &ABC.replace("sha256", "sha512"), &ABC[..70]]
        {
            assert!(bad.parse::<Expected>().is_err(), "{bad}");
        }
    }
}
