//! What was signed: the digests of header, descriptors and data, as a JSON text; or one digest, before SIF 1.0.
//!
//! SHA-256 is what apptainer writes; SHA-384, SHA-512 and SHA-512/256 are taken too. SHA-1 and the 224-bit ones, which
//! the format also names, are refused as unknown.
//! Outside facts: apptainer/sif v2 pkg/integrity (metadata.go, digest.go).

use std::collections::BTreeMap;

use super::objects::HashFunction;
use crate::image::HashAlgorithm;
use crate::policy::Why;
use crate::sif::MAX_OBJECTS;

/// How a text that was signed before SIF 1.0 begins.
pub(super) const LEGACY: &[u8] = b"SIFHASH:\n";

/// A digest and the function that makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Digest {
    pub(super) function: HashFunction,
    pub(super) value: Vec<u8>,
}

impl Digest {
    /// Tells whether these bytes have this digest.
    pub(super) fn matches(&self, bytes: &[u8]) -> bool {
        ring::digest::digest(self.function.algorithm(), bytes).as_ref() == self.value
    }

    fn new(function: HashFunction, hex: &str) -> Result<Self, Why> {
        let value = decode_hex(hex).filter(|value| value.len() == function.algorithm().output_len());
        value.map(|value| Self { function, value }).ok_or(Why::Unreadable)
    }

    fn parse(text: &str) -> Result<Self, Why> {
        let (name, hex) = text.split_once(':').ok_or(Why::Unreadable)?;
        Self::new(HashFunction::of_name(name).ok_or(Why::Hash)?, hex)
    }
}

/// What a signature says of one object.
pub(super) struct Claimed {
    pub(super) descriptor: Digest,
    pub(super) data: Digest,
}

/// What a signature says of its group.
pub(super) struct Claim {
    header: Digest,
    objects: BTreeMap<u32, Claimed>,
}

#[derive(serde::Deserialize)]
struct Text {
    version: u32,
    header: TextHeader,
    #[serde(default)]
    objects: Vec<TextObject>,
}

#[derive(serde::Deserialize)]
struct TextHeader {
    digest: String,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct TextObject {
    relative_id: u32,
    descriptor_digest: String,
    object_digest: String,
}

impl Claim {
    /// Reads a signed text.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, Why> {
        let text: Text = serde_json::from_slice(payload).ok().ok_or(Why::Unreadable)?;
        if text.version != 1 || text.objects.len() > MAX_OBJECTS {
            return Err(Why::Unreadable);
        }
        let mut objects = BTreeMap::new();
        for object in text.objects {
            let descriptor = Digest::parse(&object.descriptor_digest)?;
            let data = Digest::parse(&object.object_digest)?;
            if objects.insert(object.relative_id, Claimed { descriptor, data }).is_some() {
                return Err(Why::Unreadable);
            }
        }
        Ok(Self { header: Digest::parse(&text.header.digest)?, objects })
    }

    pub(super) fn header(&self) -> &Digest {
        &self.header
    }

    /// Returns what is said of the object at this distance from the first of its group.
    pub(super) fn object(&self, relative_id: u32) -> Option<&Claimed> {
        self.objects.get(&relative_id)
    }

    pub(super) fn relative_ids(&self) -> impl Iterator<Item = u32> {
        self.objects.keys().copied()
    }
}

/// Reads a text that was signed before SIF 1.0; the descriptor of the signature names the function.
pub(super) fn legacy(text: &[u8], hash: HashAlgorithm) -> Result<Digest, Why> {
    let function = HashFunction::of_descriptor(hash).ok_or(Why::Hash)?;
    let hex =
        text.strip_prefix(LEGACY).and_then(|hex| std::str::from_utf8(hex).ok()).ok_or(Why::Unreadable)?;
    Digest::new(function, hex.strip_suffix('\n').unwrap_or(hex))
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => {
                let value = digit(*high)?.checked_mul(16)?.checked_add(digit(*low)?)?;
                u8::try_from(value).ok()
            }
            _ => None,
        })
        .collect()
}
