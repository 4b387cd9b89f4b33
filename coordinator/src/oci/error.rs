//! Why an OCI client does not get what it asks for. What was there before is as it was, unless a variant says so.

use sifleet_common::name::ImageName;

use super::digest::OciDigest;
use super::name::{Reference, Repository};
use crate::library::{LibraryError, UploadId};
use crate::state::pushes::PushError;
use crate::state::run::Stopped;
use crate::store::StoreError;

/// Says why an OCI client does not get what it asks for.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// No repository can be called so, or no file of the library.
    #[error("{name:?} cannot be the name of a repository")]
    BadName {
        /// The name, cut.
        name: String,
    },
    /// No tag can be called so.
    #[error("{tag:?} is no tag: write up to 128 letters, digits, dots, dashes and underscores")]
    BadTag {
        /// The tag, cut.
        tag: String,
    },
    /// Not a digest, or not that of the bytes that came.
    #[error("{why}")]
    BadDigest {
        /// What is wrong.
        why: String,
    },
    /// A manifest cannot be meant so.
    #[error("{why}")]
    BadManifest {
        /// What is wrong.
        why: String,
    },
    /// A parameter or a header cannot be read.
    #[error("{why}")]
    BadRequest {
        /// What is wrong.
        why: String,
    },
    /// Nothing was ever pushed to such a repository, and the library holds no such file.
    #[error("there is no repository {repository}")]
    UnknownName {
        /// Which.
        repository: Repository,
    },
    /// The repository has no such manifest.
    #[error("{repository} has no manifest {reference}")]
    UnknownManifest {
        /// Which repository.
        repository: Repository,
        /// Which manifest.
        reference: Reference,
    },
    /// The library's file is not what its inventory says at present, so that nobody vouches for it.
    #[error("{name} has just changed in the library, and no inventory shows yet what it is")]
    Unsettled {
        /// Which file.
        name: String,
    },
    /// A manifest names bytes that nobody has pushed.
    #[error("the manifest names {digest}, which is not here: push it first")]
    MissingBlob {
        /// Which.
        digest: OciDigest,
    },
    /// There are no such bytes.
    #[error("there is no blob {digest}")]
    UnknownBlob {
        /// Which.
        digest: OciDigest,
    },
    /// Nobody began it, or it has ended.
    #[error("there is no upload {id}")]
    UnknownUpload {
        /// Which, as it was written.
        id: String,
    },
    /// Another request writes the same upload.
    #[error("the upload {id} is being written by another request")]
    Busy {
        /// Which.
        id: UploadId,
    },
    /// Bytes do not follow those that are there.
    #[error("the upload has {has} bytes, and these would begin at {offset}")]
    OutOfOrder {
        /// Which.
        id: UploadId,
        /// How many there are.
        has: u64,
        /// What was said.
        offset: u64,
    },
    /// Fewer or more bytes came than were announced.
    #[error("{announced} bytes were announced, and {came} came")]
    WrongSize {
        /// How many were announced.
        announced: u64,
        /// How many came.
        came: u64,
    },
    /// A blob is too large.
    #[error("a blob that is no SIF image has at most {max} bytes, and a SIF image at most {most}")]
    TooLarge {
        /// What is allowed of others.
        max: u64,
        /// What is allowed of images.
        most: u64,
    },
    /// A manifest is too large.
    #[error("a manifest has at most {max} bytes")]
    ManifestTooLarge {
        /// What is allowed.
        max: usize,
    },
    /// The library's file of a tag is that of another tag.
    #[error("{name} is {by} already: delete that first, or push under another name")]
    NameTaken {
        /// Which file.
        name: ImageName,
        /// Repository and tag that it is.
        by: String,
    },
    /// What OCI clients may keep here besides the library's images is used up.
    #[error("{what} may take {quota} bytes, and these would not fit")]
    Quota {
        /// Of what.
        what: &'static str,
        /// What is allowed, in bytes.
        quota: u64,
    },
    /// As many as are allowed go on.
    #[error("{max} {what} go on, and that is the limit")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// Bytes that are not there.
    #[error("the blob has {size} bytes, and none of those that were asked for")]
    BadRange {
        /// How many there are.
        size: u64,
    },
    /// Not to be done this way.
    #[error("{why}")]
    Unsupported {
        /// What to do instead.
        why: String,
    },
    /// The image is on nodes only, and does not come into the library.
    #[error("{name} is on nodes only, and does not come into the library: {why}")]
    NotFetched {
        /// Which file it would be.
        name: String,
        /// Why not.
        why: String,
    },
    /// The library refuses, or its disk.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The push that would bring the image is refused.
    #[error(transparent)]
    Push(#[from] PushError),
    /// The store does not give what it holds, or does not take something.
    #[error("the store does not answer")]
    Store(#[from] StoreError),
    /// The coordinator is about to end.
    #[error("the coordinator is stopping")]
    Stopping(#[from] Stopped),
    /// Work on the disk broke off.
    #[error("the work on the library broke off")]
    Lost,
}
