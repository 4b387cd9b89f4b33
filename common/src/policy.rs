//! What signatures a partition asks for, what was found in an image, and whether the one meets the other.
//!
//! Owns the words and that one decision; finding out is done by `sif::verify`, asking for it by settings. A verdict
//! travels and is shown: all of it is bounded, and made safe by whoever prints it.
//! Outside facts: what a SIF signature covers, from apptainer/sif v2 pkg/integrity.

mod fingerprint;

use std::collections::BTreeSet;
use std::fmt;

pub use fingerprint::{Fingerprint, FingerprintError};

use crate::push::FailCode;

/// Most keys one policy may name: a site has a handful of people who sign.
pub const MAX_SIGNERS: usize = 32;
/// Most policies that hold for one node at once: one for each partition with a policy of its own.
pub const MAX_POLICIES: usize = 64;
/// Longest name of an unknown key that is repeated, in bytes.
pub const MAX_KEY_NAME: usize = 128;

/// What an image must have to be published on a node. The strictest of its partitions: all of it must hold.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum Policy {
    /// Nothing is asked, nothing is verified.
    #[default]
    Any,
    /// Every object is signed by a key of the keyring.
    Signed,
    /// Beside that, one key out of each of these sets has signed every object.
    SignedBy(BTreeSet<BTreeSet<Fingerprint>>),
}

impl Policy {
    /// Asks for a signature by one of these keys; with none of them for one by any key of the keyring.
    #[must_use]
    pub fn signed_by(keys: BTreeSet<Fingerprint>) -> Self {
        if keys.is_empty() { Self::Signed } else { Self::SignedBy(BTreeSet::from([keys])) }
    }

    /// Tells whether anything is asked.
    #[must_use]
    pub fn asks(&self) -> bool {
        *self != Self::Any
    }

    /// Returns the policy that asks for what both do.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        match (self, other) {
            (Self::SignedBy(mut ours), Self::SignedBy(theirs)) => {
                ours.extend(theirs.iter().cloned());
                Self::SignedBy(ours)
            }
            (Self::SignedBy(ours), Self::Any | Self::Signed) => Self::SignedBy(ours),
            (Self::Signed, Self::Any) => Self::Signed,
            (Self::Any | Self::Signed, other) => other.clone(),
        }
    }

    /// Tells whether it is within the limits that hold for what comes from others.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        match self {
            Self::Any | Self::Signed => true,
            Self::SignedBy(sets) => {
                (1..=MAX_POLICIES).contains(&sets.len())
                    && sets.iter().all(|keys| (1..=MAX_SIGNERS).contains(&keys.len()))
            }
        }
    }

    /// Returns why an image with this verdict may not be published; none if it may.
    #[must_use]
    pub fn refuses(&self, verdict: &Verdict) -> Option<Refusal> {
        if !self.asks() {
            return None;
        }
        let (code, detail) = match verdict {
            Verdict::Unsigned => (FailCode::NotSigned, verdict.to_string()),
            Verdict::Bad { why: Why::GroupNotSigned | Why::NotSigned, .. } => {
                (FailCode::NotSigned, verdict.to_string())
            }
            Verdict::Bad { .. } => (FailCode::SignatureBad, verdict.to_string()),
            Verdict::UnknownKey { .. } => (FailCode::SignerNotTrusted, verdict.to_string()),
            Verdict::Signed { by } => {
                let Self::SignedBy(sets) = self else { return None };
                let missing = sets.iter().find(|keys| !by.iter().any(|key| keys.contains(key)))?;
                let asked = list(missing.iter());
                (FailCode::SignerNotTrusted, format!("{verdict}, and one of {asked} is asked for"))
            }
        };
        Some(Refusal { code, detail })
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Signed => f.write_str("signed"),
            Self::SignedBy(sets) => {
                let sets: Vec<_> = sets.iter().map(|keys| list(keys.iter())).collect();
                write!(f, "signed by {}", sets.join(", and by "))
            }
        }
    }
}

/// Why an image is not published on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The stable reason.
    pub code: FailCode,
    /// The same for people, with what was found.
    pub detail: String,
}

/// What verifying the signatures of an image found out.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Verdict {
    /// It has no signature that counts.
    Unsigned,
    /// All signatures hold, and every object has one.
    Signed {
        /// The keys that signed every object; none where different keys signed different groups.
        by: BTreeSet<Fingerprint>,
    },
    /// A signature does not hold, or does not cover all it should.
    Bad {
        /// The object that is wrong, or the signature; none for the whole image.
        object: Option<u32>,
        /// What is wrong.
        why: Why,
    },
    /// A signature is by a key that the keyring does not have.
    UnknownKey {
        /// The object that is the signature.
        signature: u32,
        /// How the signature names its key, at most [`MAX_KEY_NAME`] bytes; may be empty.
        key: String,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned => f.write_str("not signed"),
            Self::Signed { by } if by.is_empty() => f.write_str("signed, each group by other keys"),
            Self::Signed { by } => write!(f, "signed by {}", list(by.iter())),
            Self::Bad { object: Some(object), why } => write!(f, "object {object}: {why}"),
            Self::Bad { object: None, why } => write!(f, "{why}"),
            Self::UnknownKey { signature, key } if key.is_empty() => {
                write!(f, "signature {signature} is by a key that is not in the keyring")
            }
            Self::UnknownKey { signature, key } => {
                write!(f, "signature {signature} is by key {key}, which is not in the keyring")
            }
        }
    }
}

/// What is wrong with a signature or with what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Why {
    /// The image cannot be read as a SIF.
    NotWhole,
    /// There are more signatures than are verified.
    TooMany,
    /// The signature is longer than one is read.
    TooLong,
    /// The signature cannot be read.
    Unreadable,
    /// The key did not make it.
    Forged,
    /// It uses a hash function that is not to be relied on, or not one that is known.
    Hash,
    /// It is not valid any longer.
    Expired,
    /// It was made later than now, or its key was.
    Time,
    /// Its key was revoked.
    KeyRevoked,
    /// Its key has expired.
    KeyExpired,
    /// Its key is not for signing, is too weak or of an unknown kind.
    KeyUnfit,
    /// The image names another key for it than the one that made it.
    OtherKey,
    /// The header is not the one that was signed.
    Header,
    /// The descriptor is not the one that was signed.
    Descriptor,
    /// The data are not those that were signed.
    Data,
    /// The object is not among those that were signed of its group.
    NotSigned,
    /// The object was signed and is not there.
    Missing,
    /// The object belongs to no group, so that no signature can cover it.
    NoGroup,
    /// Other groups are signed, this one is not.
    GroupNotSigned,
    /// No root file system is there that a signature of before SIF 1.0 could cover.
    NoPrimary,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotWhole => "the image cannot be read as a SIF",
            Self::TooMany => "the image has more signatures than are verified",
            Self::TooLong => "the signature is too long",
            Self::Unreadable => "the signature cannot be read",
            Self::Forged => "the signature was not made by the key it names",
            Self::Hash => "the signature relies on a hash function that is weak or unknown",
            Self::Expired => "the signature has expired",
            Self::Time => "the signature or its key is from the future",
            Self::KeyRevoked => "the signature's key was revoked",
            Self::KeyExpired => "the signature's key has expired",
            Self::KeyUnfit => "the signature's key is not for signing, or too weak",
            Self::OtherKey => "the signature is by another key than the image says",
            Self::Header => "the header was changed after signing",
            Self::Descriptor => "its descriptor was changed after signing",
            Self::Data => "its data were changed after signing",
            Self::NotSigned => "it is not signed: it was added later, or left out",
            Self::Missing => "it was signed and is not there any longer",
            Self::NoGroup => "it belongs to no group, so no signature covers it",
            Self::GroupNotSigned => "a group of objects is not signed",
            Self::NoPrimary => "there is no root file system that a signature covers",
        })
    }
}

fn list<'a>(keys: impl Iterator<Item = &'a Fingerprint>) -> String {
    keys.map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests;
