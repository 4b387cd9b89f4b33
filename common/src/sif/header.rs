//! The first 128 bytes of a SIF.
//!
//! Owns which headers are believed. The launch line is whatever its maker wrote (zeros, any `#!` line):
//! only magic, version and the numbers that lead to the table matter.
//! Outside facts: apptainer/sif v2 pkg/sif/sif.go (`type header`), load.go (`isValidSif`).

use super::{ReadAt, SifError, descriptor, has_magic, read_up_to, take, text_until_nul};
use crate::image::Arch;

pub(crate) const MAGIC_AT: usize = 32;
pub(crate) const MAGIC: &[u8] = b"SIF_MAGIC\0";
/// Length of a header in bytes.
pub(crate) const HEADER_LEN: usize = 128;
/// What Go writes for "no time": the first second of the year 1.
const GO_ZERO_TIME: i64 = -62_135_596_800;

/// The header of a SIF, every number in it checked.
#[derive(Debug, Clone)]
pub struct Header {
    /// The line that `./image.sif` would execute.
    pub launch: String,
    /// The processor of the primary partition.
    pub arch: Arch,
    /// The SIF's own identifier.
    pub uuid: uuid::Uuid,
    /// When it was made, in seconds since 1970; none if its maker left the time out.
    pub created: Option<i64>,
    /// When it was last changed, in seconds since 1970; none if its maker left the time out.
    pub modified: Option<i64>,
    /// Where the object table starts, in bytes.
    pub table_offset: u64,
    /// Slots in the object table, used or not; at most [`super::MAX_OBJECTS`].
    pub slots: usize,
}

impl Header {
    /// Reads and checks the header of a file of `size` bytes.
    pub(crate) fn read(file: &impl ReadAt, size: u64) -> Result<Self, SifError> {
        let bytes = read_up_to(file, "SIF header", 0, HEADER_LEN)?;
        if !has_magic(&bytes) {
            return Err(SifError::NotAnImage { found: "no SIF: the magic is missing" });
        }
        if bytes.len() < HEADER_LEN {
            return Err(SifError::HeaderTruncated { needs: HEADER_LEN as u64, has: bytes.len() as u64 });
        }
        let version = text_until_nul(&take::<3>(&bytes, 42));
        // The reference takes every version up to its own; images of singularity 3.0 say 00.
        if !matches!(version.as_str(), "00" | "01") {
            return Err(SifError::Version { found: version });
        }
        let slots = number(&bytes, 88, "descriptor count")?;
        let free = number(&bytes, 80, "free descriptor count")?;
        if free > slots {
            return Err(bad(&bytes, 80, "free descriptor count", "more are free than exist"));
        }
        if slots > descriptor::MAX_OBJECTS as u64 {
            return Err(bad(&bytes, 88, "descriptor count", "more than an image can have (1,024)"));
        }
        let table_offset = number(&bytes, 96, "descriptor offset")?;
        if slots > 0 && table_offset < HEADER_LEN as u64 {
            return Err(bad(&bytes, 96, "descriptor offset", "the table would lie over the header"));
        }
        number(&bytes, 104, "descriptor size")?;
        number(&bytes, 112, "data offset")?;
        number(&bytes, 120, "data size")?;
        let header = Self {
            launch: text_until_nul(&take::<32>(&bytes, 0)),
            arch: Arch::of_sif_code(&take::<2>(&bytes, 45)),
            uuid: uuid::Uuid::from_bytes(take(&bytes, 48)),
            created: time(&bytes, 64),
            modified: time(&bytes, 72),
            table_offset,
            slots: usize::try_from(slots).unwrap_or(descriptor::MAX_OBJECTS),
        };
        if header.table_end() > size {
            return Err(SifError::TableTruncated { needs: header.table_end(), has: size });
        }
        Ok(header)
    }

    /// Returns where the object table ends, in bytes.
    #[must_use]
    pub fn table_end(&self) -> u64 {
        let len = self.slots.saturating_mul(descriptor::DESCRIPTOR_LEN) as u64;
        self.table_offset.saturating_add(len)
    }
}

fn time(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_le_bytes(take(bytes, at))).filter(|time| *time != GO_ZERO_TIME)
}

/// Reads a number that cannot be negative.
fn number(bytes: &[u8], at: usize, field: &'static str) -> Result<u64, SifError> {
    match u64::try_from(i64::from_le_bytes(take(bytes, at))) {
        Ok(number) => Ok(number),
        Err(_) => Err(bad(bytes, at, field, "it is negative")),
    }
}

fn bad(bytes: &[u8], at: usize, field: &'static str, reason: &'static str) -> SifError {
    SifError::BadHeader { field, value: i64::from_le_bytes(take(bytes, at)), offset: at as u64, reason }
}
