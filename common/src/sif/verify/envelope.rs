//! Opens a DSSE envelope: verifies that plain keys of the keyring signed what it holds.
//!
//! One good signature of a known key is enough, as for the reference; all known keys that signed are told.
//! Outside facts: secure-systems-lab/dsse envelope.md and protocol.md (v1.0), apptainer/sif v2 pkg/integrity/dsse.go.

use std::collections::BTreeSet;

use crate::image::HashAlgorithm;
use crate::keyring::{Fault, KeyName, Keyring};
use crate::policy::{Fingerprint, MAX_KEY_NAME, Why};
use crate::sif::metadata::cut;
use crate::sif::signature::{DSSE_PAYLOAD, Envelope, MAX_KEY_IDS, decode_base64};

/// Returns the keys that signed and what they signed.
pub(super) fn open(
    bytes: &[u8],
    hash: HashAlgorithm,
    keyring: &Keyring,
) -> Result<(BTreeSet<Fingerprint>, Vec<u8>), Fault> {
    let unreadable = || Fault::Bad(Why::Unreadable);
    let envelope: Envelope = serde_json::from_slice(bytes).ok().ok_or_else(unreadable)?;
    if envelope.payload_type != DSSE_PAYLOAD || envelope.signatures.len() > MAX_KEY_IDS {
        return Err(unreadable());
    }
    let payload = decode_base64(&envelope.payload).ok_or_else(unreadable)?;
    let message = pre_authentication(&payload);
    let (mut by, mut is_forged) = (BTreeSet::new(), false);
    for signer in &envelope.signatures {
        let made = decode_base64(&signer.sig).ok_or_else(unreadable)?;
        let name = KeyName { id: &signer.keyid, hash };
        let keys = keyring.verify_plain(&message, &made, name);
        is_forged |= keys.is_empty() && keyring.knows_plain(name);
        by.extend(keys);
    }
    if !by.is_empty() {
        return Ok((by, payload));
    }
    if is_forged {
        return Err(Fault::Bad(Why::Forged));
    }
    let named = envelope.signatures.first().map_or("", |signer| &signer.keyid);
    Err(Fault::Unknown(cut(named, MAX_KEY_NAME).to_owned()))
}

/// Joins type and payload in the way that is signed.
fn pre_authentication(payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {DSSE_PAYLOAD} {} ", DSSE_PAYLOAD.len(), payload.len()).into_bytes();
    message.extend(payload);
    message
}
