//! Plain public keys: Ed25519, ECDSA on P-256 and P-384, RSA.
//!
//! Owns which kinds count and how a DSSE envelope names a key. RSA keys below 2,048 bits verify nothing.
//! Outside facts: RFC 5280 §4.1.2.7, RFC 8410, RFC 5480; sigstore's `signature` package, which apptainer signs with:
//! RSA is PKCS#1 v1.5, ECDSA signatures are ASN.1, Ed25519 signs the message itself; go-securesystemslib's
//! `SHA256KeyID`, which names a key by its OpenSSH fingerprint (RFC 4253 §6.6, RFC 5656 §3.1, RFC 8709 §4).

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::MAX_KEYS;
use crate::image::HashAlgorithm;
use crate::policy::Fingerprint;

const ED25519: &str = "1.3.101.112";
const RSA: &str = "1.2.840.113549.1.1.1";
const EC: &str = "1.2.840.10045.2.1";
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";

/// How a signature names its key, and what hash function its descriptor says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyName<'a> {
    /// The OpenSSH fingerprint, `SHA256:` and 43 letters; empty if not named.
    pub(crate) id: &'a str,
    pub(crate) hash: HashAlgorithm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ed25519,
    P256,
    P384,
    Rsa,
}

/// A plain public key.
#[derive(Debug)]
pub(super) struct PlainKey {
    kind: Kind,
    /// What `ring` takes: the point, or the RSAPublicKey.
    key: Vec<u8>,
    fingerprint: [u8; 32],
    id: String,
}

impl PlainKey {
    /// Understands a SubjectPublicKeyInfo in DER.
    pub(super) fn parse(der: &[u8]) -> Result<Self, String> {
        let (rest, info) = SubjectPublicKeyInfo::from_der(der)
            .map_err(|error| format!("it is no SubjectPublicKeyInfo ({error})"))?;
        if !rest.is_empty() {
            return Err("something follows the key".to_owned());
        }
        let algorithm = info.algorithm.algorithm.to_id_string();
        let curve = info.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
        let curve = curve.map(|oid| oid.to_id_string());
        let kind = match (algorithm.as_str(), curve.as_deref()) {
            (ED25519, _) => Kind::Ed25519,
            (RSA, _) => Kind::Rsa,
            (EC, Some(P256)) => Kind::P256,
            (EC, Some(P384)) => Kind::P384,
            _ => return Err("plain keys are Ed25519, ECDSA on P-256 or P-384, or RSA".to_owned()),
        };
        let key = info.subject_public_key.data.to_vec();
        let fields: [&[u8]; 3] = match (kind, info.parsed()) {
            (Kind::Rsa, Ok(PublicKey::RSA(rsa))) => [b"ssh-rsa", rsa.exponent, rsa.modulus],
            (Kind::Rsa, _) => return Err("it is no RSA key, though it says so".to_owned()),
            (Kind::Ed25519, _) => [b"ssh-ed25519", &key, b""],
            (Kind::P256, _) => [b"ecdsa-sha2-nistp256", b"nistp256", &key],
            (Kind::P384, _) => [b"ecdsa-sha2-nistp384", b"nistp384", &key],
        };
        let id = open_ssh_fingerprint(&fields);
        Ok(Self { kind, fingerprint: sha256(der), id, key })
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::Plain(self.fingerprint)
    }

    pub(super) fn answers_to(&self, name: KeyName<'_>) -> bool {
        name.id.is_empty() || name.id == self.id
    }

    pub(super) fn verifies(&self, message: &[u8], made: &[u8], name: KeyName<'_>) -> bool {
        use HashAlgorithm::{Sha256, Sha384, Sha512};
        let algorithm: &'static dyn VerificationAlgorithm = match (self.kind, name.hash) {
            (Kind::Ed25519, Sha256 | Sha384 | Sha512) => &signature::ED25519,
            (Kind::P256, Sha256) => &signature::ECDSA_P256_SHA256_ASN1,
            (Kind::P256, Sha384) => &signature::ECDSA_P256_SHA384_ASN1,
            (Kind::P384, Sha256) => &signature::ECDSA_P384_SHA256_ASN1,
            (Kind::P384, Sha384) => &signature::ECDSA_P384_SHA384_ASN1,
            (Kind::Rsa, Sha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (Kind::Rsa, Sha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (Kind::Rsa, Sha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
            _ => return false,
        };
        UnparsedPublicKey::new(algorithm, &self.key).verify(message, made).is_ok()
    }
}

/// Takes the public keys out of PEM; anything else in it is a mistake.
pub(super) fn split(pem: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut keys = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem).take(MAX_KEYS.saturating_add(1)) {
        let (kind, der) = section.map_err(|error| format!("it is not PEM: {}", reason(&error)))?;
        match kind {
            SectionKind::PublicKey => {
                PlainKey::parse(&der)?;
                keys.push(SubjectPublicKeyInfoDer::from(der).to_vec());
            }
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                return Err(
                    "it holds a private key, which has no business here: take it away, and put the public one there (openssl pkey -pubout)"
                        .to_owned(),
                );
            }
            other @ (SectionKind::Certificate
            | SectionKind::Crl
            | SectionKind::Csr
            | SectionKind::EchConfigList
            | _) => return Err(format!("it holds a {other:?}: write public keys (BEGIN PUBLIC KEY) only")),
        }
    }
    if keys.is_empty() {
        return Err("there is no BEGIN PUBLIC KEY in it".to_owned());
    }
    Ok(keys)
}

/// Tells what is wrong with PEM; the library's own words repeat the file's bytes, as many as there are.
fn reason(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no END line",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line does not end with -----",
        pem::Error::Base64Decode(_) => "what is between BEGIN and END is not base64",
        pem::Error::Io(_) | pem::Error::NoItemsFound | pem::Error::SectionTooLarge | _ => "it cannot be read",
    }
}

/// Names a key as OpenSSH does; an empty field is none.
fn open_ssh_fingerprint(fields: &[&[u8]]) -> String {
    let mut blob = Vec::new();
    for field in fields.iter().filter(|field| !field.is_empty()) {
        blob.extend(u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
        blob.extend(*field);
    }
    format!("SHA256:{}", encode_base64(&sha256(&blob)))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}

/// Encodes in the alphabet of RFC 4648 §4, without padding.
fn encode_base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0_u32, |word, byte| (word << 8) | u32::from(*byte));
        let word = word << (8 * 3_usize.saturating_sub(group.len()));
        for place in 0..=group.len() {
            let index = (word >> (18_usize.saturating_sub(6 * place))) & 63;
            let letter = usize::try_from(index).ok().and_then(|index| ALPHABET.get(index));
            text.push(char::from(letter.copied().unwrap_or(b'A')));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let cases = ["", "Zg", "Zm8", "Zm9v", "Zm9vYg", "Zm9vYmE", "Zm9vYmFy"];
        for (length, expected) in cases.iter().enumerate() {
            assert_eq!(encode_base64(&b"foobar"[..length]), *expected);
        }
    }
}
