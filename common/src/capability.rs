//! A node's permission to fetch one image for a while: signed by the coordinator, checked by whoever gives.
//!
//! So a node can fetch what it was assigned and nothing else, although every node of the cluster can prove who it is.
//! A giver needs the coordinator's public key and a clock, and no list. Outside facts: Ed25519, RFC 8032.

use std::fmt;
use std::sync::Arc;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::name::NodeName;
use crate::time::UnixMillis;

/// What every signed text begins with, so that it can be no other signed thing.
const PURPOSE: &[u8] = b"sifleet capability 1\0";
/// Length of a signature, in bytes.
const SIGNATURE: usize = 64;

/// Permits one node to fetch one image; which node and image is not said, for whoever checks knows both. The default permits
/// nothing.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// From when on it permits nothing.
    pub until: UnixMillis,
    /// The coordinator's signature of node, image and end.
    signature: Vec<u8>,
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Capability(until {})", self.until)
    }
}

/// Checks capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityKey([u8; 32]);

impl CapabilityKey {
    /// Tells whether a node may fetch an image now.
    #[must_use]
    pub fn permits(&self, shown: &Capability, node: &NodeName, image: Digest, now: UnixMillis) -> bool {
        let signed = signed_text(node, image, shown.until);
        let key = UnparsedPublicKey::new(&ED25519, &self.0);
        now < shown.until
            && shown.signature.len() == SIGNATURE
            && key.verify(&signed, &shown.signature).is_ok()
    }
}

/// Signs capabilities; clones share the key, which is not shown.
#[derive(Clone)]
pub struct Signer(Arc<Ed25519KeyPair>);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

/// The key pair cannot be made; an error of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key for capabilities cannot be made")]
pub struct BadSeed;

impl Signer {
    /// Makes the key pair of a secret seed.
    ///
    /// # Errors
    /// [`BadSeed`].
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, BadSeed> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_no_detail| BadSeed)?;
        Ok(Self(Arc::new(pair)))
    }

    /// Returns what checks its signatures.
    ///
    /// # Errors
    /// [`BadSeed`].
    pub fn key(&self) -> Result<CapabilityKey, BadSeed> {
        self.0.public_key().as_ref().try_into().map(CapabilityKey).map_err(|_no_detail| BadSeed)
    }

    /// Permits a node to fetch an image.
    #[must_use]
    pub fn permit(&self, node: &NodeName, image: Digest, until: UnixMillis) -> Capability {
        let signature = self.0.sign(&signed_text(node, image, until)).as_ref().to_vec();
        Capability { until, signature }
    }
}

/// Writes what is signed: parts of fixed length first, so that no two meanings have one text.
fn signed_text(node: &NodeName, image: Digest, until: UnixMillis) -> Vec<u8> {
    [PURPOSE, image.as_bytes(), &until.0.to_le_bytes(), node.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    #[test]
    fn a_capability_is_for_one_node_one_image_and_a_while() {
        let signer = Signer::from_seed(&[7; 32]).unwrap();
        let key = signer.key().unwrap();
        let (image, other) = (Digest::from_bytes([1; 32]), Digest::from_bytes([2; 32]));
        let shown = signer.permit(&node("viz001"), image, UnixMillis(1_000));
        assert!(key.permits(&shown, &node("viz001"), image, UnixMillis(999)));
        assert!(!key.permits(&shown, &node("viz001"), image, UnixMillis(1_000)), "late");
        assert!(!key.permits(&shown, &node("viz002"), image, UnixMillis(999)), "another node");
        assert!(!key.permits(&shown, &node("viz001"), other, UnixMillis(999)), "another image");
        let longer = Capability { until: UnixMillis(2_000), ..shown.clone() };
        assert!(!key.permits(&longer, &node("viz001"), image, UnixMillis(999)), "prolonged by hand");
        let foreign = Signer::from_seed(&[8; 32]).unwrap().permit(&node("viz001"), image, UnixMillis(1_000));
        assert!(!key.permits(&foreign, &node("viz001"), image, UnixMillis(999)), "signed by somebody else");
    }

    #[test]
    fn nonsense_for_a_signature_permits_nothing() {
        let key = Signer::from_seed(&[7; 32]).unwrap().key().unwrap();
        for len in [0, 1, 63, 64, 65, 10_000] {
            let shown = Capability { until: UnixMillis(i64::MAX), signature: vec![0; len] };
            assert!(!key.permits(&shown, &node("viz001"), Digest::from_bytes([1; 32]), UnixMillis(0)));
        }
    }

    #[test]
    fn a_signer_does_not_show_its_key() {
        assert_eq!(format!("{:?}", Signer::from_seed(&[7; 32]).unwrap()), "Signer");
    }
}
