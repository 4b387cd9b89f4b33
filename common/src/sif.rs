//! Reads a SIF: header, object table, metadata and signatures, from the regions that hold them.
//!
//! A SIF is a header of 128 bytes, a table of descriptors of 585 bytes each, and the objects they point at:
//! definition file, JSON texts, partitions (the primary one is the root file system), signatures. Whether a
//! SIF is whole is decided by bounds: every object lies inside the file, outside the header and the table,
//! and apart from every other; a squashfs fits its partition. `apptainer inspect` checks none of that, so an
//! image cut inside its squashfs passes there and is [`SifError::Truncated`] here.
//! Trusts no byte: it never panics, reads at most [`MAX_READ`] bytes and verifies no signature; `verify` does that.
//! Outside facts: apptainer/sif v2 pkg/sif (sif.go, descriptor.go, load.go) and pkg/integrity.

mod descriptor;
mod header;
mod metadata;
mod signature;
#[cfg(feature = "node")]
pub mod verify;

use std::io;

pub use descriptor::{DataType, Descriptor, Link, MAX_OBJECTS, Partition};
pub use header::Header;

use crate::image::ImageMetadata;

/// Most bytes that reading one image costs: the largest table, the texts and the signatures.
pub const MAX_READ: u64 = 8 * 1024 * 1024;

/// Reads bytes anywhere in a file, so that only the regions needed are read.
pub trait ReadAt {
    /// Fills `buffer` with what stands at `offset`; returns fewer bytes than asked only for an interruption
    /// or the end of the file, and 0 only for the end.
    ///
    /// # Errors
    /// Whatever the file's own read gives.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Returns the file's length in bytes.
    ///
    /// # Errors
    /// Whatever asking the file gives.
    fn size(&self) -> io::Result<u64>;
}

impl ReadAt for &[u8] {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let copied = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(copied)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

impl ReadAt for std::fs::File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, offset)
    }

    fn size(&self) -> io::Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }
}

/// Says why a file is not an image, or which part of an image is wrong or missing.
#[derive(Debug, thiserror::Error)]
pub enum SifError {
    /// The file could not be read.
    #[error("cannot read the {what} at byte {offset}")]
    Read {
        /// What was to be read.
        what: &'static str,
        /// Where, in bytes from the start.
        offset: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An image that no job could run.
    #[error("there is nothing in it to run: {why}")]
    NothingToRun {
        /// Why not.
        why: crate::image::Runnable,
    },
    /// Not an image of any format.
    #[error("not an image: it is {found}")]
    NotAnImage {
        /// What it is instead, with its article.
        found: &'static str,
    },
    /// The file ends inside the header.
    #[error("the file ends inside its SIF header: {has} of {needs} bytes are there")]
    HeaderTruncated {
        /// Length of a header.
        needs: u64,
        /// Length of the file.
        has: u64,
    },
    /// A SIF of a later version than the one that exists.
    #[error("SIF version {found:?} is unknown: versions up to 01 can be read")]
    Version {
        /// The version as written, at most 3 bytes.
        found: String,
    },
    /// A number in the header that cannot be.
    #[error("the SIF header says {field} = {value} (byte {offset}): {reason}")]
    BadHeader {
        /// The field.
        field: &'static str,
        /// Its value.
        value: i64,
        /// Where it stands.
        offset: u64,
        /// Why it cannot be.
        reason: &'static str,
    },
    /// The file ends inside the object table.
    #[error("the file ends inside its object table: the table ends at byte {needs}, the file at {has}")]
    TableTruncated {
        /// Where the table ends.
        needs: u64,
        /// Length of the file.
        has: u64,
    },
    /// A number in a descriptor that cannot be.
    #[error("the descriptor at byte {offset} (object {id}) says {field} = {value}: {reason}")]
    BadObject {
        /// The object's id.
        id: u32,
        /// Where the descriptor stands.
        offset: u64,
        /// The field.
        field: &'static str,
        /// Its value.
        value: i64,
        /// Why it cannot be.
        reason: &'static str,
    },
    /// Two objects claim the same bytes, or an object claims those of the header or the table.
    #[error("object {id} at byte {offset} lies over {other}")]
    Overlap {
        /// The later object.
        id: u32,
        /// Where it starts.
        offset: u64,
        /// What it lies over: the header, the object table or an object.
        other: String,
    },
    /// The file ends before one of its objects does: an unfinished or broken transfer.
    #[error("the file is cut short: object {id} ends at byte {needs}, the file at {has}")]
    Truncated {
        /// The object's id.
        id: u32,
        /// Where the object ends.
        needs: u64,
        /// Length of the file.
        has: u64,
    },
    /// A file system without its partition, or of a version that cannot be run.
    #[error("{}: {reason}", place(*id))]
    FileSystem {
        /// The partition's object id; none for a bare file system.
        id: Option<u32>,
        /// What is wrong.
        reason: &'static str,
    },
    /// The file system is longer than what holds it.
    #[error("{} is cut short: its file system takes {needs} bytes, {has} are there", place(*id))]
    FileSystemTruncated {
        /// The partition's object id; none for a bare file system.
        id: Option<u32>,
        /// Length of the file system.
        needs: u64,
        /// Length of what holds it.
        has: u64,
    },
}

fn place(id: Option<u32>) -> String {
    id.map_or_else(|| "the file system".to_owned(), |id| format!("the file system of object {id}"))
}

/// A SIF whose header and object table have been read and checked.
#[derive(Debug, Clone)]
pub struct Sif {
    /// Its header.
    pub header: Header,
    /// Its objects in the order of the table.
    pub objects: Vec<Descriptor>,
    /// The file's length in bytes.
    pub size: u64,
}

impl Sif {
    /// Reads header and object table and checks every bound, without looking into any object.
    ///
    /// # Errors
    /// [`SifError`] names the field or object that is wrong.
    pub fn open(file: &impl ReadAt) -> Result<Self, SifError> {
        let size = file.size().map_err(|source| SifError::Read { what: "length", offset: 0, source })?;
        let header = Header::read(file, size)?;
        let objects = descriptor::read_table(file, &header, size)?;
        Ok(Self { header, objects, size })
    }

    /// Returns the partitions with what their descriptors say of them.
    pub fn partitions(&self) -> impl Iterator<Item = (&Descriptor, Partition)> {
        self.objects.iter().filter_map(|object| object.partition().map(|partition| (object, partition)))
    }

    /// Returns where the last object ends, or the table where there is none.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.objects.iter().map(Descriptor::end).fold(self.header.table_end(), u64::max)
    }
}

/// Reads a SIF's metadata.
///
/// A SIF without objects is read like any other; [`crate::image::Runnable`] says that nothing in it runs.
/// What is damaged inside an object that only describes the image becomes a note, not an error.
///
/// # Errors
/// [`SifError`] when the container is malformed or a part of it is missing.
pub fn read(file: &impl ReadAt) -> Result<ImageMetadata, SifError> {
    let sif = Sif::open(file)?;
    metadata::read(file, &sif)
}

/// Tells whether these first bytes of a file are a SIF's, whatever launch line it carries.
#[must_use]
pub fn has_magic(head: &[u8]) -> bool {
    head.get(header::MAGIC_AT..).is_some_and(|rest| rest.starts_with(header::MAGIC))
}

/// Reads `len` bytes at `offset`, or fewer where the file ends.
pub(crate) fn read_up_to(
    file: &impl ReadAt,
    what: &'static str,
    offset: u64,
    len: usize,
) -> Result<Vec<u8>, SifError> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(offset.saturating_add(filled as u64), rest) {
            Ok(0) => break,
            Ok(read) => filled = filled.saturating_add(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(SifError::Read { what, offset, source }),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Copies the `N` bytes at a fixed place of a structure whose length has been checked; zeros beyond its end.
pub(crate) fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

/// Returns the text before the first NUL, with U+FFFD for what is not UTF-8.
pub(crate) fn text_until_nul(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests;
