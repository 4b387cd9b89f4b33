//! Signs images made for tests, as apptainer does and as it never would: keys that expired, were revoked, sign nothing.
//!
//! Works out what a signature covers from the bytes of the image, apart from the verifier under test.
//! Outside facts: apptainer/sif v2 pkg/integrity, RFC 9580, secure-systems-lab/dsse v1.

mod pgp;
mod plain;

use serde_json::{Value, json};

pub use self::pgp::{PgpSigner, PgpWish};
pub use self::plain::PlainSigner;
use super::{DESCRIPTOR_LEN, GROUP_ONE, NO_GROUP, SIGNATURE, SifBuilder, TABLE_AT};

/// Where the descriptor of the object with this id stands in images made here.
#[must_use]
pub fn descriptor_at(id: u32) -> usize {
    let at = TABLE_AT + DESCRIPTOR_LEN * u64::from(id.saturating_sub(1));
    usize::try_from(at).unwrap_or(usize::MAX)
}

/// Returns an object's offset and length.
///
/// # Panics
/// When the image is too short: a mistake in a test.
#[must_use]
pub fn object_at(image: &[u8], id: u32) -> (usize, usize) {
    let number = |at: usize| {
        let bytes = image.get(descriptor_at(id) + at..).and_then(<[u8]>::first_chunk);
        usize::try_from(i64::from_le_bytes(*known(bytes))).unwrap_or(usize::MAX)
    };
    (number(17), number(25))
}

#[track_caller]
fn known<T>(value: Option<T>) -> T {
    match value {
        Some(value) => value,
        None => panic!("a test takes an image for longer than it is"),
    }
}

/// Returns what is signed of group 1 of an image made here.
#[must_use]
pub fn claim(image: &[u8]) -> String {
    let hash = |bytes: &[u8]| {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        digest.as_ref().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
    };
    let mut objects = Vec::new();
    for id in 1.. {
        let raw = known(image.get(descriptor_at(id)..descriptor_at(id + 1)));
        let data_type = i32::from_le_bytes(*known(raw.first_chunk()));
        if known(raw.get(4)) == &0 {
            break;
        }
        if data_type == SIGNATURE {
            continue;
        }
        let relative = (id - 1).to_le_bytes();
        let parts = [&raw[..5], &relative[..], &raw[13..17], &raw[25..33], &raw[41..49], &raw[57..]];
        let (offset, len) = object_at(image, id);
        objects.push(json!({
            "relativeId": id - 1,
            "descriptorDigest": hash(&parts.concat()),
            "objectDigest": hash(known(image.get(offset..offset + len))),
        }));
    }
    let header = [known(image.get(..45)), known(image.get(48..64))].concat();
    let text: Value = json!({"version": 1, "header": {"digest": hash(&header)}, "objects": objects});
    text.to_string()
}

/// Returns the image with a signature of its one group by an OpenPGP key.
#[must_use]
pub fn signed_by_pgp(image: &SifBuilder, signer: &PgpSigner) -> SifBuilder {
    let message = signer.clear_sign(&claim(&image.bytes()));
    image.clone().signature(message.as_bytes(), signer.fingerprint_bytes())
}

/// Returns the image with a signature of its one group by plain keys.
#[must_use]
pub fn signed_by_plain(image: &SifBuilder, signers: &[&PlainSigner]) -> SifBuilder {
    let envelope = plain::envelope(&claim(&image.bytes()), signers);
    image.clone().signature(envelope.as_bytes(), [0; 20])
}

/// Returns the bytes of the image with a signature of its primary partition, as written before SIF 1.0.
#[must_use]
pub fn signed_as_before(image: &SifBuilder, signer: &PgpSigner) -> Vec<u8> {
    let plain = image.bytes();
    let (offset, len) = object_at(&plain, 3);
    let digest = ring::digest::digest(&ring::digest::SHA384, known(plain.get(offset..offset + len)));
    let hex = digest.as_ref().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let message = signer.clear_sign(&format!("SIFHASH:\n{hex}"));
    let mut signed = image.clone().signature(message.as_bytes(), signer.fingerprint_bytes()).bytes();
    let at = descriptor_at(4);
    for (place, number) in [(9, GROUP_ONE), (13, 3), (201, 2)] {
        write(&mut signed, at + place, &number.to_le_bytes());
    }
    signed
}

/// Overwrites bytes of an image.
///
/// # Panics
/// When the image is too short: a mistake in a test.
pub fn write(image: &mut [u8], at: usize, bytes: &[u8]) {
    known(image.get_mut(at..at + bytes.len())).copy_from_slice(bytes);
}

/// Takes an object out of every group.
pub fn ungroup(image: &mut [u8], id: u32) {
    write(image, descriptor_at(id) + 9, &NO_GROUP.to_le_bytes());
}
