//! What is kept of tokens: whom they are for and until when they are good, and the hash of their secret.
//!
//! A plain hash does: a secret is 256 random bits, so that nobody finds it by trying, however fast. Salts and slow
//! hashes are for words that people choose, and would make every request slow.

use std::fmt;
use std::str::FromStr;

use sifleet_common::role::Role;
use sifleet_common::time::UnixMillis;

/// Numbers tokens in the order in which they were made; shown as `t-000042`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenNo(pub u64);

impl fmt::Display for TokenNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t-{:06}", self.0)
    }
}

/// Says that a text is no number of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token is called t- and a number, such as t-000042; the number alone will do")]
pub struct NotAToken;

impl FromStr for TokenNo {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let digits = text.strip_prefix("t-").unwrap_or(text);
        let digits = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|digits| digits.parse().ok()).map(Self).ok_or(NotAToken)
    }
}

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its number.
    pub no: TokenNo,
    /// What it is for.
    pub name: String,
    /// With which role its bearer acts.
    pub role: Role,
    /// BLAKE3 of its secret; equality takes the same time whatever differs.
    pub hash: blake3::Hash,
    /// When it was made.
    pub created: UnixMillis,
    /// Until when it is good.
    pub expires: UnixMillis,
    /// When it was last used, give or take a minute.
    pub last_used: Option<UnixMillis>,
    /// When it was revoked.
    pub revoked: Option<UnixMillis>,
}

impl TokenRecord {
    /// Tells since when it is not good any longer, if so.
    #[must_use]
    pub fn ended(&self, now: UnixMillis) -> Option<UnixMillis> {
        let expired = Some(self.expires).filter(|end| *end <= now);
        self.revoked.into_iter().chain(expired).min()
    }
}
