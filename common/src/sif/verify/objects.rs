//! The bytes that signatures cover: of the header, of descriptors, and data, hashed as they are read.
//!
//! Outside facts: apptainer/sif v2 pkg/sif (`GetHeaderIntegrityReader`, `GetIntegrityReader`).

use ring::digest::{Algorithm, Context, SHA256, SHA384, SHA512, SHA512_256};

use super::read_exact;
use crate::image::HashAlgorithm;
use crate::sif::descriptor::{DESCRIPTOR_LEN, Descriptor};
use crate::sif::header::HEADER_LEN;
use crate::sif::{ReadAt, SifError};

/// How much is read at once, in bytes: memory stays the same for an image of any size.
const PIECE: usize = 1024 * 1024;

/// Hash functions that are relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum HashFunction {
    Sha256,
    Sha384,
    Sha512,
    Sha512Of256,
}

impl HashFunction {
    /// Finds a function by the name it has in signed texts.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        match name {
            "sha256" => Some(Self::Sha256),
            "sha384" => Some(Self::Sha384),
            "sha512" => Some(Self::Sha512),
            "sha512_256" => Some(Self::Sha512Of256),
            _ => None,
        }
    }

    /// Finds a function by the number it has in descriptors.
    pub(super) fn of_descriptor(hash: HashAlgorithm) -> Option<Self> {
        match hash {
            HashAlgorithm::Sha256 => Some(Self::Sha256),
            HashAlgorithm::Sha384 => Some(Self::Sha384),
            HashAlgorithm::Sha512 => Some(Self::Sha512),
            HashAlgorithm::Unknown | HashAlgorithm::Blake2s | HashAlgorithm::Blake2b => None,
        }
    }

    pub(super) fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Sha256 => &SHA256,
            Self::Sha384 => &SHA384,
            Self::Sha512 => &SHA512,
            Self::Sha512Of256 => &SHA512_256,
        }
    }
}

/// What the data of an object must have as digest.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) object: Descriptor,
    pub(super) value: Vec<u8>,
}

/// Returns what is signed of the header: launch line, magic, version and identifier.
pub(super) fn signed_header(file: &impl ReadAt) -> Result<Vec<u8>, SifError> {
    let header = read_exact(file, "SIF header", 0, HEADER_LEN)?;
    Ok([0..45, 48..64].into_iter().filter_map(|range| header.get(range)).flatten().copied().collect())
}

/// Returns what is signed of a descriptor: all but its number, group, place, padding and change time.
pub(super) fn signed_descriptor(
    file: &impl ReadAt,
    object: &Descriptor,
    relative_id: u32,
) -> Result<Vec<u8>, SifError> {
    let raw = read_exact(file, "descriptor", object.descriptor_offset, DESCRIPTOR_LEN)?;
    let part = |range: std::ops::Range<usize>| raw.get(range).unwrap_or_default();
    // In use is written as 1, whatever else than 0 stands there.
    let (data_type, link, size, created) = (part(0..4), part(13..17), part(25..33), part(41..49));
    let (owner, name_and_extra) = (part(57..73), part(73..DESCRIPTOR_LEN));
    Ok([data_type, &[1], &relative_id.to_le_bytes(), link, size, created, owner, name_and_extra].concat())
}

/// Reads an object's data once and tells whether they have all of these digests.
pub(super) fn data_match(
    file: &impl ReadAt,
    expected: &[(HashFunction, &Expected)],
) -> Result<bool, SifError> {
    let Some(object) = expected.first().map(|(_, one)| &one.object) else { return Ok(true) };
    let mut contexts: Vec<Context> =
        expected.iter().map(|(function, _)| Context::new(function.algorithm())).collect();
    let (mut at, end) = (object.offset, object.end());
    while at < end {
        let len = usize::try_from(end.saturating_sub(at)).unwrap_or(PIECE).min(PIECE);
        let bytes = read_exact(file, "object", at, len)?;
        contexts.iter_mut().for_each(|context| context.update(&bytes));
        at = at.saturating_add(len as u64);
    }
    Ok(contexts.into_iter().zip(expected).all(|(context, (_, one))| context.finish().as_ref() == one.value))
}
