//! Secrets with which nodes enrol, as text: `sifleet_enrol_` and 80 hexadecimal digits, of which the first 16 are the
//! token's number and no secret.

use std::fmt;
use std::str::FromStr;

use crate::store::identity::{InviteHash, InviteNo};

/// What tokens begin with, so that people and secret scanners know one when they see it.
const PREFIX: &str = "sifleet_enrol_";
/// Random bytes: 256 bits.
const SECRET: usize = 32;

/// A token with its secret; not shown but by [`EnrolSecret::reveal`].
#[derive(Clone, PartialEq, Eq)]
pub struct EnrolSecret {
    id: InviteNo,
    secret: [u8; SECRET],
}

/// The text is no token. What it was is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("that is no token; it begins with {PREFIX} and is given in full")]
pub struct NotAToken;

impl EnrolSecret {
    /// Makes one out of random bytes.
    #[must_use]
    pub fn new(id: u64, secret: [u8; SECRET]) -> Self {
        Self { id: InviteNo(id), secret }
    }

    /// Returns its number.
    #[must_use]
    pub const fn id(&self) -> InviteNo {
        self.id
    }

    /// Returns what is kept of it.
    #[must_use]
    pub fn hash(&self) -> InviteHash {
        InviteHash(blake3::hash(&self.secret))
    }

    /// Writes it for whoever is to use it.
    #[must_use]
    pub fn reveal(&self) -> String {
        let secret: String = self.secret.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{PREFIX}{}{secret}", self.id)
    }
}

impl fmt::Debug for EnrolSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolSecret").field("id", &self.id).finish_non_exhaustive()
    }
}

impl FromStr for EnrolSecret {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let digits = text.trim().strip_prefix(PREFIX).ok_or(NotAToken)?;
        if digits.len() != 16 + 2 * SECRET || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NotAToken);
        }
        let (id, rest) = digits.split_at(16);
        let mut secret = [0; SECRET];
        for (at, byte) in secret.iter_mut().enumerate() {
            let pair = rest.get(2 * at..2 * at + 2).ok_or(NotAToken)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_no_detail| NotAToken)?;
        }
        Ok(Self { id: id.parse().map_err(|_no_detail| NotAToken)?, secret })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_is_not_shown_by_accident() {
        let token = EnrolSecret::new(0xfedc_ba98_7654_3210, [0xa5; SECRET]);
        let text = token.reveal();
        assert_eq!(text.parse::<EnrolSecret>().as_ref(), Ok(&token));
        assert_eq!(format!("{text}\n").parse::<EnrolSecret>(), Ok(token.clone()));
        assert!(!format!("{token:?}").contains("a5a5"), "{token:?}");
        assert_ne!(token.hash(), EnrolSecret::new(token.id().0, [0xa6; SECRET]).hash());
    }

    #[test]
    fn anything_else_is_no_token() {
        let good = EnrolSecret::new(7, [1; SECRET]).reveal();
        for bad in [
            "",
            "sifleet_enrol_",
            &good[1..],
            &good[..good.len() - 1],
            &format!("{good}0"),
            &good.replace('1', "+"),
            &good.replace('1', "é"),
        ] {
            assert_eq!(bad.parse::<EnrolSecret>(), Err(NotAToken), "{bad}");
        }
    }
}
