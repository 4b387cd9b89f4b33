//! The secret of a token: what its bearer sends, and its hash, which is what is kept.
//!
//! It is shown once, when it is made; nothing here prints it otherwise.

use std::borrow::Cow;
use std::fmt;

use crate::store::token::TokenNo;

/// What every secret begins with, so that people and scanners know one when they see it.
const PREFIX: &str = "sifleet_";
/// Random bytes of a secret.
const LENGTH: usize = 32;
/// Shown in place of a secret.
const HIDDEN: &str = "…";

/// The secret of a token.
#[derive(Clone)]
pub struct Secret {
    /// Of which token.
    pub no: TokenNo,
    bytes: [u8; LENGTH],
}

impl Secret {
    /// Makes a secret that nobody can guess.
    #[must_use]
    pub fn make(no: TokenNo) -> Self {
        // The generator of the thread is a cryptographic one, seeded by the system.
        Self { no, bytes: rand::random() }
    }

    /// Reads what a bearer sends: `sifleet_`, the number of the token, `_` and 64 digits.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (no, digits) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let no = Some(no).filter(|no| no.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()?;
        let bytes = *blake3::Hash::from_hex(digits).ok()?.as_bytes();
        Some(Self { no: TokenNo(no), bytes })
    }

    /// Returns the hash, which is kept.
    #[must_use]
    pub fn hash(&self) -> blake3::Hash {
        blake3::hash(&self.bytes)
    }

    /// Writes what its bearer sends. The only place where a secret becomes text.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}_{}", self.no.0, blake3::Hash::from_bytes(self.bytes).to_hex())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.no)
    }
}

/// Takes secrets out of a text that a stranger sent, before it is repeated anywhere.
#[must_use]
pub fn hide(text: &str) -> Cow<'_, str> {
    if !text.contains(PREFIX) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut parts = text.split(PREFIX);
    shown.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
        let rest = part.get(end..).unwrap_or_default();
        shown.extend([PREFIX, if end == 0 { "" } else { HIDDEN }, rest]);
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_as_it_was_revealed_and_no_two_are_alike() {
        let secret = Secret::make(TokenNo(42));
        let text = secret.reveal();
        assert!(text.starts_with("sifleet_42_") && text.len() == 11 + 64, "{text}");
        let read = Secret::read(&text).unwrap();
        assert_eq!((read.no, read.hash()), (TokenNo(42), secret.hash()));
        assert_ne!(Secret::make(TokenNo(42)).hash(), secret.hash());
        assert_eq!(format!("{secret:?}"), "Secret(t-000042)");
    }

    #[test]
    fn tokens_for_nodes_are_hidden_like_those_of_callers() {
        let secret = crate::nodes::token::EnrolSecret::new(7, [0xa5; 32]).reveal();
        assert_eq!(hide(&format!("/v1/enrolments/{secret}?x")), "/v1/enrolments/sifleet_…?x");
    }

    #[test]
    fn what_is_no_secret_is_not_read() {
        let digits = "0".repeat(64);
        for text in [
            "",
            "sifleet_",
            "sifleet_1_",
            "sifleet_1_00",
            &format!("sifleet_1_{digits}0"),
            &format!("sifleet__{digits}"),
            &format!("sifleet_+1_{digits}"),
            &format!("sifleet_99999999999999999999_{digits}"),
            &format!("sifleet_1_{}", "g".repeat(64)),
            &format!("Sifleet_1_{digits}"),
        ] {
            assert!(Secret::read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn what_is_repeated_holds_no_secret() {
        let secret = Secret::make(TokenNo(7)).reveal();
        assert_eq!(hide(&format!("/v1/tokens/{secret}/x")), "/v1/tokens/sifleet_…/x");
        assert_eq!(hide(&format!("{secret},{secret}")), "sifleet_…,sifleet_…");
        assert_eq!(hide("/v1/images/sifleet.sif"), "/v1/images/sifleet.sif");
        assert_eq!(hide("a sifleet_"), "a sifleet_");
    }
}
