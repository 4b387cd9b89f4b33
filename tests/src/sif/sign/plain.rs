//! Plain keys that sign DSSE envelopes.

use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::json;

const PAYLOAD: &str = "application/vnd.sylabs.sif-metadata+json";
/// What stands before the key itself in a SubjectPublicKeyInfo (RFC 8410 §4, RFC 5480 §2).
const ED25519_INFO: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
const P256_INFO: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";

/// A key that signs.
#[derive(Debug)]
pub enum PlainSigner {
    /// Ed25519, signs the message itself.
    Ed25519(Box<Ed25519KeyPair>),
    /// ECDSA on P-256 with SHA-256.
    P256(Box<EcdsaKeyPair>),
}

impl PlainSigner {
    /// Makes an Ed25519 key out of a number.
    ///
    /// # Panics
    /// Never: any 32 bytes are a key.
    #[must_use]
    pub fn ed25519(seed: u8) -> Self {
        match Ed25519KeyPair::from_seed_unchecked(&[seed; 32]) {
            Ok(pair) => Self::Ed25519(Box::new(pair)),
            Err(error) => panic!("32 bytes are no key: {error}"),
        }
    }

    /// Makes a random key on P-256.
    ///
    /// # Panics
    /// When the system has no random numbers.
    #[must_use]
    pub fn p256() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pair = EcdsaKeyPair::generate_pkcs8(algorithm, &random)
            .ok()
            .and_then(|document| EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).ok());
        match pair {
            Some(pair) => Self::P256(Box::new(pair)),
            None => panic!("no key could be made"),
        }
    }

    /// Returns its public half as SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn public(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(pair) => [ED25519_INFO, pair.public_key().as_ref()].concat(),
            Self::P256(pair) => [P256_INFO, pair.public_key().as_ref()].concat(),
        }
    }

    /// Returns its public half as PEM.
    #[must_use]
    pub fn public_pem(&self) -> String {
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", base64(&self.public()))
    }

    /// Returns how policies name it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let digest = digest(&SHA256, &self.public());
        digest.as_ref().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }

    fn id(&self) -> String {
        // As OpenSSH names keys (RFC 8709 §4, RFC 5656 §3.1).
        let blob = match self {
            Self::Ed25519(pair) => [b"\0\0\0\x0bssh-ed25519\0\0\0\x20", pair.public_key().as_ref()].concat(),
            Self::P256(pair) => {
                let kind = b"\0\0\0\x13ecdsa-sha2-nistp256\0\0\0\x08nistp256\0\0\0\x41";
                [&kind[..], pair.public_key().as_ref()].concat()
            }
        };
        let id = base64(digest(&SHA256, &blob).as_ref());
        format!("SHA256:{}", id.trim_end_matches('='))
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::P256(pair) => match pair.sign(&SystemRandom::new(), message) {
                Ok(made) => made.as_ref().to_vec(),
                Err(error) => panic!("a key does not sign: {error}"),
            },
        }
    }
}

/// Writes an envelope with the signatures of these keys.
pub(super) fn envelope(text: &str, signers: &[&PlainSigner]) -> String {
    let message = format!("DSSEv1 {} {PAYLOAD} {} {text}", PAYLOAD.len(), text.len());
    let signatures: Vec<_> = signers
        .iter()
        .map(|signer| json!({"keyid": signer.id(), "sig": base64(&signer.sign(message.as_bytes()))}))
        .collect();
    json!({"payloadType": PAYLOAD, "payload": base64(text.as_bytes()), "signatures": signatures}).to_string()
}

/// Encodes as RFC 4648 §4 says, with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let word = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        for (place, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let letter = ALPHABET[usize::try_from((word >> shift) & 63).unwrap_or(0)];
            text.push(if place <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}
