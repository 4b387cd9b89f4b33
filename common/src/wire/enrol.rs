//! The protocol by which a node gets its certificate; a few messages on a connection of their own.
//!
//! **Participants.** A node that has a token and no certificate, or a certificate that has run out, dials the
//! coordinator at the port of the control connection, ALPN [`ENROL_ALPN`]. It knows the coordinator by the digest of its
//! authority's public key (`--ca-pin`), or by the authority it trusts already; the coordinator knows the node by the
//! token, or by the certificate of late.
//!
//! **Goals.** What a certificate says comes from the coordinator's own record: of the request only the public key is
//! taken, after proof that the asker has its private key. A token is worth nothing after its first use.
//!
//! ```text
//! node                                      coordinator
//!  opens one stream
//!   Ask::Enrol{token, request, name} ──────►            "this token says who I am; here is my public key"
//!   Ask::Renew ────────────────────────────►            "my certificate has run out": only with that certificate
//!         ◄──── Answer::Granted{certificates}
//!         ◄──── Answer::Refused{reason}                 and the connection ends
//! ```
//! A node whose certificate holds renews it in its session (`ToCoordinator::Renew`), and so the same way over.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::NodeName;

/// Application protocol of enrolment; its number is the version of everything in this file.
pub const ENROL_ALPN: &[u8] = b"sifleet-enrol/1";
/// Longest token, in bytes.
pub const MAX_TOKEN: usize = 128;
/// Longest certificate request, in bytes: a few times that of a key of 4,096 bits.
pub const MAX_REQUEST: usize = 8 * 1024;
/// Most certificates in one list.
pub const MAX_CERTIFICATES: usize = 16;
/// Longest certificate, in bytes.
pub const MAX_CERTIFICATE: usize = 16 * 1024;
/// Longest refusal, in bytes.
pub const MAX_REASON: usize = 512;

/// What a node asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// A first certificate.
    Enrol(Enrolment),
    /// The same certificate once more, for the key of the one that was shown.
    Renew,
}

/// Asks for a node's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// The token as text.
    pub token: Secret,
    /// A certificate request (RFC 2986) in DER form; all but its public key is ignored.
    pub request: Vec<u8>,
    /// What the node believes to be called: a token of another node is then refused, and not used up.
    pub name: Option<NodeName>,
}

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What the coordinator answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The node is known from here on.
    Granted(Certificates),
    /// It is not.
    Refused {
        /// Why, and what to do; at most [`MAX_REASON`] bytes.
        reason: String,
    },
}

/// What a node shows, and whom it trusts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificates {
    /// Whose they are.
    pub node: NodeName,
    /// The node's certificate and those that lead to its authority, in DER form, at most [`MAX_CERTIFICATES`].
    pub chain: Vec<Vec<u8>>,
    /// All authorities that count, at most [`MAX_CERTIFICATES`]: more than one while one takes over from another.
    pub authorities: Vec<Vec<u8>>,
}

impl Certificates {
    /// Tells whether the lists keep to their limits and are not empty.
    #[must_use]
    pub fn are_sound(&self) -> bool {
        [&self.chain, &self.authorities].into_iter().all(|list| {
            (1..=MAX_CERTIFICATES).contains(&list.len())
                && list.iter().all(|certificate| certificate.len() <= MAX_CERTIFICATE)
        })
    }
}
