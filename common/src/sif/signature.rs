//! What the signatures in a SIF claim: who signed, in which form, which objects.
//!
//! Verifies nothing. Reads the signed list of objects out of a PGP clear-signed message, a DSSE envelope or
//! the hash line written before SIF 1.0.
//! Outside facts: apptainer/sif v2 pkg/integrity (metadata.go, clearsign.go, dsse.go, legacy), RFC 9580 §7.

use std::collections::BTreeSet;

use super::metadata::cut;
use super::{Descriptor, Link, Sif};
use crate::image::{PartitionRole, Signature, SignatureKind};

/// Longest signature read, in bytes: 48 signed objects take 14 KB in the wordiest form.
pub(crate) const MAX_SIGNATURE: usize = 256 * 1024;
/// Most signers of one envelope.
pub(super) const MAX_KEY_IDS: usize = 8;
const MAX_KEY_ID: usize = 256;
/// What an envelope of a SIF says it holds.
pub(super) const DSSE_PAYLOAD: &str = "application/vnd.sylabs.sif-metadata+json";

/// The signed list: digests of the header and of objects, counted from the lowest id of their group.
#[derive(serde::Deserialize)]
struct Claim {
    #[serde(default)]
    objects: Vec<ClaimedObject>,
}

#[derive(serde::Deserialize)]
struct ClaimedObject {
    #[serde(rename = "relativeId")]
    relative_id: u32,
}

/// A DSSE envelope as it is written.
#[derive(serde::Deserialize)]
pub(super) struct Envelope {
    #[serde(rename = "payloadType")]
    pub(super) payload_type: String,
    pub(super) payload: String,
    #[serde(default)]
    pub(super) signatures: Vec<EnvelopeSigner>,
}

/// One signature in an envelope.
#[derive(serde::Deserialize)]
pub(super) struct EnvelopeSigner {
    #[serde(default)]
    pub(super) keyid: String,
    #[serde(default)]
    #[cfg_attr(not(feature = "node"), expect(dead_code, reason = "only daemons verify"))]
    pub(super) sig: String,
}

/// What the bytes of a signature say: its kind, its key ids, and the objects it names.
struct Content {
    kind: SignatureKind,
    key_ids: Vec<String>,
    /// Relative ids; none where the whole of what it is linked to is meant.
    named: Option<Vec<u32>>,
}

/// Describes one signature; the second value says why its bytes could not be read, if so.
///
/// `bytes` is none when it is longer than [`MAX_SIGNATURE`].
pub(crate) fn describe(sif: &Sif, object: &Descriptor, bytes: Option<&[u8]>) -> (Signature, Option<String>) {
    let content = bytes.ok_or_else(|| format!("it has more than {MAX_SIGNATURE} bytes")).and_then(parse);
    let (content, trouble) = match content {
        Ok(content) => (content, None),
        Err(trouble) => {
            let content =
                Content { kind: SignatureKind::Unreadable, key_ids: Vec::new(), named: Some(Vec::new()) };
            (content, Some(trouble))
        }
    };
    let objects = covered(sif, object.link, content.named.as_deref());
    let covers_data = sif.partitions().any(|(data, partition)| {
        partition.role == PartitionRole::PrimarySystem && objects.contains(&data.id)
    });
    let signature = Signature {
        id: object.id,
        kind: content.kind,
        hash: object.hash(),
        fingerprint: object.fingerprint(),
        key_ids: content.key_ids,
        group: match object.link {
            Link::Group(group) => Some(group),
            Link::None | Link::Object(_) => None,
        },
        objects: objects.into_iter().collect(),
        covers_data,
    };
    (signature, trouble)
}

/// Ids of the objects that a signature names, of those that the SIF has.
fn covered(sif: &Sif, link: Link, named: Option<&[u32]>) -> BTreeSet<u32> {
    let group = match link {
        Link::None => return BTreeSet::new(),
        Link::Group(group) => Some(group),
        Link::Object(id) => sif.objects.iter().find(|object| object.id == id).and_then(|object| object.group),
    };
    let signed = |object: &&Descriptor| object.group == group && object.group.is_some();
    let base = sif.objects.iter().filter(signed).map(|object| object.id).min().unwrap_or(0);
    let ids: BTreeSet<u32> = match (named, link) {
        (Some(relative), _) => relative.iter().filter_map(|id| base.checked_add(*id)).collect(),
        (None, Link::Object(id)) => BTreeSet::from([id]),
        (None, Link::None | Link::Group(_)) => {
            let data = sif.objects.iter().filter(signed);
            data.filter(|object| object.data_type != super::DataType::Signature)
                .map(|object| object.id)
                .collect()
        }
    };
    sif.objects.iter().map(|object| object.id).filter(|id| ids.contains(id)).collect()
}

fn parse(bytes: &[u8]) -> Result<Content, String> {
    let text = String::from_utf8_lossy(bytes);
    if text.starts_with("-----BEGIN PGP SIGNED MESSAGE-----") {
        return parse_clear_signed(&text.replace("\r\n", "\n"));
    }
    if !text.trim_start().starts_with('{') {
        return Err("it is neither a PGP message nor a DSSE envelope".to_owned());
    }
    let envelope: Envelope =
        serde_json::from_str(&text).map_err(|error| format!("its DSSE envelope is damaged ({error})"))?;
    if envelope.payload_type != DSSE_PAYLOAD {
        return Err("its DSSE envelope holds something else than SIF metadata".to_owned());
    }
    let payload = decode_base64(&envelope.payload).ok_or("its DSSE payload is not base64")?;
    let key_ids = envelope.signatures.into_iter().take(MAX_KEY_IDS);
    Ok(Content {
        kind: SignatureKind::Dsse,
        key_ids: key_ids.map(|signer| cut(&signer.keyid, MAX_KEY_ID).to_owned()).collect(),
        named: Some(claimed(&payload)?),
    })
}

fn parse_clear_signed(text: &str) -> Result<Content, String> {
    let signed = text.split_once("\n\n").map(|(_, rest)| rest);
    let signed = signed.and_then(|rest| rest.split_once("\n-----BEGIN PGP SIGNATURE-----"));
    let (signed, _) = signed.ok_or("its PGP message is not complete")?;
    if signed.starts_with("SIFHASH:") {
        return Ok(Content { kind: SignatureKind::Legacy, key_ids: Vec::new(), named: None });
    }
    let named = Some(claimed(signed.as_bytes())?);
    Ok(Content { kind: SignatureKind::Pgp, key_ids: Vec::new(), named })
}

fn claimed(payload: &[u8]) -> Result<Vec<u32>, String> {
    let claim: Claim = serde_json::from_slice(payload)
        .map_err(|error| format!("its signed list of objects is damaged ({error})"))?;
    Ok(claim.objects.into_iter().map(|object| object.relative_id).collect())
}

/// Decodes base64 in either alphabet (RFC 4648 §4 and §5), as the reference does; padding ends it.
pub(super) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in text.bytes().take_while(|byte| *byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte.wrapping_sub(b'A'),
            b'a'..=b'z' => byte.wrapping_sub(b'a').wrapping_add(26),
            b'0'..=b'9' => byte.wrapping_sub(b'0').wrapping_add(52),
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held = held.wrapping_add(6);
        if held >= 8 {
            held = held.wrapping_sub(8);
            decoded.push((bits >> held).to_le_bytes()[0]);
            bits &= (1 << held) - 1;
        }
    }
    Some(decoded)
}
