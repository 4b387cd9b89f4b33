//! What is kept for OCI clients: manifests and tags as they were pushed, and the digests of the library's files.
//!
//! The bytes of blobs are files of the library. A row about a file counts only while the file is the one that was hashed.

use sifleet_common::digest::Digest;
use sifleet_common::time::UnixMillis;

use crate::oci::digest::OciDigest;

/// A manifest as it was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestRow {
    /// In which repository.
    pub repository: String,
    /// Digest of its bytes.
    pub digest: OciDigest,
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The manifest that it refers to.
    pub subject: Option<OciDigest>,
    /// When it was pushed.
    pub pushed: UnixMillis,
}

/// A part of a long list of manifests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManifestPage {
    /// Those that read back.
    pub rows: Vec<ManifestRow>,
    /// Digest of the last one, if more follow.
    pub more_behind: Option<String>,
}

/// What a file of the library was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRow {
    /// Its name below the library.
    pub name: String,
    /// Tells the file that was hashed from every other.
    pub version: String,
    /// Its length in bytes.
    pub size: u64,
    /// How the rest of the cluster calls its bytes.
    pub blake3: Digest,
    /// How OCI clients call them.
    pub sha256: OciDigest,
    /// How some call them.
    pub sha512: Option<OciDigest>,
    /// The manifest that it has without being pushed.
    pub manifest: OciDigest,
}

/// One durable step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OciStep {
    /// A manifest was pushed, perhaps under tags.
    PutManifest {
        /// The manifest.
        manifest: ManifestRow,
        /// Blobs that it names.
        blobs: Vec<OciDigest>,
        /// Tags that mean it from here on.
        tags: Vec<String>,
    },
    /// A file of the library was hashed or published.
    PutFile(FileRow),
    /// Files of the library are gone.
    ForgetFiles(Vec<String>),
    /// A tag means nothing any longer.
    ForgetTag {
        /// In which repository.
        repository: String,
        /// Which.
        tag: String,
    },
    /// A manifest is gone, and the tags that meant it.
    ForgetManifest {
        /// In which repository.
        repository: String,
        /// Which.
        digest: OciDigest,
    },
}
