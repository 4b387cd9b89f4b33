//! Why the library does not take an image. What was there before under its name is as it was.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;
use sifleet_common::name::ImageName;
use sifleet_common::sif::SifError;

use super::{Expected, UploadId};

/// Says why the library does not take an image.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// No agent would report an image of this name.
    #[error("{name} cannot be the name of an image in the library: {reason}")]
    BadName {
        /// The name.
        name: ImageName,
        /// Why.
        reason: &'static str,
    },
    /// Not the length of an image.
    #[error("{name} is said to have {size} bytes; an image has at least one and at most {max}")]
    BadSize {
        /// The name.
        name: ImageName,
        /// Its length in bytes.
        size: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// Something that is no file lies where the image would.
    #[error("{name} cannot be put into the library: {obstacle} is in its way")]
    InTheWay {
        /// The image.
        name: ImageName,
        /// What.
        obstacle: &'static str,
    },
    /// Nobody began it, or it has ended.
    #[error("there is no upload {id}")]
    UnknownUpload {
        /// Which.
        id: UploadId,
    },
    /// Somebody else sends bytes of the same image, or it is being published.
    #[error("the upload {id} is being written or published by another request")]
    Busy {
        /// Which.
        id: UploadId,
    },
    /// As many as are allowed go on.
    #[error("{max} uploads go on, and that is the limit")]
    TooManyUploads {
        /// The limit.
        max: usize,
    },
    /// The bytes do not follow those that are there.
    #[error("the upload has {has} of {size} bytes, and these would begin at {offset}")]
    WrongOffset {
        /// How many there are.
        has: u64,
        /// Length of the image.
        size: u64,
        /// What was said.
        offset: u64,
    },
    /// More bytes than the image has.
    #[error("the upload has {has} of {size} bytes, and more came than are missing")]
    TooLong {
        /// How many there were.
        has: u64,
        /// Length of the image.
        size: u64,
    },
    /// The bytes are others than were announced.
    #[error("what was sent of {name} has the digest {found}, not {digest}; it was thrown away")]
    WrongDigest {
        /// The image.
        name: ImageName,
        /// What was announced.
        digest: Expected,
        /// What it is.
        found: Expected,
    },
    /// The bytes are those announced, and no image.
    #[error("{name} is no image that can be run, and was thrown away: {reason}")]
    NotAnImage {
        /// The name.
        name: ImageName,
        /// What is wrong with it; part of what is said, for whoever sent it has to know.
        reason: SifError,
    },
    /// There is too little room, before a byte was sent.
    #[error(
        "the library {} has {free} bytes free, the image needs {needed} and {floor} are to stay free",
        dir.display()
    )]
    NoSpace {
        /// The library.
        dir: PathBuf,
        /// In bytes.
        free: u64,
        /// In bytes.
        needed: u64,
        /// In bytes.
        floor: u64,
    },
    /// The system refused a step.
    #[error("cannot {step} in the library {}", dir.display())]
    Disk {
        /// What was being done.
        step: &'static str,
        /// The library.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl LibraryError {
    /// Tells whether the bytes that were sent are of no use to anybody.
    pub(super) const fn condemns(&self) -> bool {
        matches!(self, Self::WrongDigest { .. } | Self::NotAnImage { .. })
    }

    /// Tells whether the disk was full, which may happen in the middle where space cannot be reserved.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        let full = |error: &io::Error| {
            [Errno::NOSPC, Errno::DQUOT]
                .iter()
                .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
        };
        match self {
            Self::NoSpace { .. } => true,
            Self::Disk { source, .. } => full(source),
            Self::BadName { .. }
            | Self::BadSize { .. }
            | Self::InTheWay { .. }
            | Self::UnknownUpload { .. }
            | Self::Busy { .. }
            | Self::TooManyUploads { .. }
            | Self::WrongOffset { .. }
            | Self::TooLong { .. }
            | Self::WrongDigest { .. }
            | Self::NotAnImage { .. } => false,
        }
    }
}
