//! What an image is: the words for a SIF's content, whoever shows them.
//!
//! Owns the vocabulary and its limits; [`probe()`] tells the formats apart, [`crate::sif`] reads a SIF. Every
//! type here travels as JSON and as bincode alike, so no field is ever left out and no enum is guessed from
//! its content. Texts come from strangers: they are bounded here and made safe by whoever prints them.
//! Outside facts: apptainer/sif pkg/sif (arch.go, sif.go), apptainer pkg/inspect.

mod arch;
mod probe;

use std::collections::BTreeMap;
use std::fmt;

pub use arch::Arch;
pub(crate) use probe::{Ext, Squashfs};
pub use probe::{PROBE_LEN, classify, probe, runnable};

/// Longest text kept, in bytes: the longest definition files seen are a fifth of it.
pub const MAX_TEXT: usize = 64 * 1024;
/// Most labels, and most environment files, kept of an image or of one app: seen are about 30.
pub const MAX_ENTRIES: usize = 1_024;
/// Longest key kept, in bytes: names of labels, apps and environment files.
pub const MAX_KEY: usize = 512;
/// Most bytes of texts and lists kept of one image: half of the largest wire frame, which is 1 MiB.
pub const MAX_METADATA: usize = 512 * 1024;
/// Most partitions listed: a SIF has room for 48 objects unless somebody asked for more.
pub const MAX_PARTITIONS: usize = 64;
/// Most signatures listed: one for each signer, and each costs a read of up to 256 KiB.
pub const MAX_SIGNATURES: usize = 16;
/// Most notes kept: one for each thing that can be cut or be unreadable, with room for damaged images.
pub const MAX_NOTES: usize = 32;

/// Tells in which form an image is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A Singularity Image Format file.
    Sif,
    /// A squashfs file system without a container around it.
    Squashfs,
    /// An ext3 file system in a file; writable.
    Ext3,
    /// A directory that holds the image's root file system.
    Sandbox,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sif => "sif",
            Self::Squashfs => "squashfs",
            Self::Ext3 => "ext3",
            Self::Sandbox => "sandbox",
        })
    }
}

/// Tells what a SIF partition holds; shown as the reference shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum FileSystem {
    /// A number that is not on SIF's list.
    Unknown,
    /// Squashfs, read-only.
    Squashfs,
    /// Ext3, writable.
    Ext3,
    /// An archive of immutable objects.
    Archive,
    /// Raw data.
    Raw,
    /// Squashfs inside a LUKS2 volume.
    EncryptedSquashfs,
    /// Squashfs inside gocryptfs.
    GocryptfsSquashfs,
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "Unknown",
            Self::Squashfs => "Squashfs",
            Self::Ext3 => "Ext3",
            Self::Archive => "Archive",
            Self::Raw => "Raw",
            Self::EncryptedSquashfs => "Encrypted squashfs",
            Self::GocryptfsSquashfs => "Gocryptfs squashfs",
        })
    }
}

/// Tells what a SIF partition is for; shown as the reference shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PartitionRole {
    /// A number that is not on SIF's list.
    Unknown,
    /// A root file system beside the primary one.
    System,
    /// The root file system that runs.
    PrimarySystem,
    /// Data only.
    Data,
    /// A layer above the primary one, which running writes to.
    Overlay,
}

impl fmt::Display for PartitionRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "Unknown",
            Self::System => "System",
            Self::PrimarySystem => "*System",
            Self::Data => "Data",
            Self::Overlay => "Overlay",
        })
    }
}

/// Describes one partition inside a SIF (not one of Slurm's).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SifPartition {
    /// Its object id inside the SIF.
    pub id: u32,
    /// What it holds.
    pub file_system: FileSystem,
    /// What it is for.
    pub role: PartitionRole,
    /// The processor it is made for.
    pub arch: Arch,
    /// Where it starts in the file, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub size: u64,
}

/// Tells how a signature is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SignatureKind {
    /// A PGP clear-signed list of object digests.
    Pgp,
    /// A DSSE envelope around the same list, signed with plain keys.
    Dsse,
    /// A PGP clear-signed hash, as written before SIF 1.0.
    Legacy,
    /// None of these; a note says why.
    Unreadable,
}

/// Names the hash function of a signature; shown as the reference shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum HashAlgorithm {
    /// A number that is not on SIF's list.
    Unknown,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
    /// BLAKE2s-256.
    Blake2s,
    /// BLAKE2b-256.
    Blake2b,
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "Unknown",
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
            Self::Blake2s => "BLAKE2s-256",
            Self::Blake2b => "BLAKE2b-256",
        })
    }
}

/// Describes one signature as it is written in the SIF: what it claims. Nothing here has been verified.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Signature {
    /// Its object id inside the SIF.
    pub id: u32,
    /// How it is written.
    pub kind: SignatureKind,
    /// The hash function its descriptor names.
    pub hash: HashAlgorithm,
    /// The PGP key's fingerprint in 40 upper-case hexadecimal digits; none for DSSE.
    pub fingerprint: Option<String>,
    /// The key ids of a DSSE envelope, one a signer; at most 8 of at most 256 bytes.
    pub key_ids: Vec<String>,
    /// The object group it is linked to, if to a whole group.
    pub group: Option<u32>,
    /// The ids of the objects it names, of those that the SIF has.
    pub objects: Vec<u32>,
    /// Whether the primary partition, which is what runs, is among them.
    pub covers_data: bool,
}

/// Tells whether apptainer could run the image; the processor is another question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Runnable {
    /// It has one root file system of a kind that runs.
    Yes,
    /// No partition is marked as the one to run: a container of data, an OCI-SIF, or one not yet finished.
    NoPrimaryPartition,
    /// Several partitions are marked as the one to run.
    SeveralPrimaryPartitions,
    /// The primary partition's kind of file system cannot be run.
    UnsupportedFileSystem,
    /// The primary partition does not begin like the file system it is said to hold.
    DamagedFileSystem,
}

impl Runnable {
    /// Tells whether it is [`Runnable::Yes`].
    #[must_use]
    pub fn is_yes(self) -> bool {
        self == Self::Yes
    }
}

impl fmt::Display for Runnable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yes => "runnable",
            Self::NoPrimaryPartition => "no partition in it is marked as the system to run",
            Self::SeveralPrimaryPartitions => "several partitions in it are marked as the system to run",
            Self::UnsupportedFileSystem => "its file system is of a kind that apptainer cannot run",
            Self::DamagedFileSystem => "its partition does not begin like the file system it is said to hold",
        })
    }
}

/// Describes one app inside an image (the SCIF sections `%apprun`, `%applabels` and so on).
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct App {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its environment scripts, by their path inside the image.
    pub environment: BTreeMap<String, String>,
    /// What running it does.
    pub runscript: Option<String>,
    /// Its own test.
    pub test: Option<String>,
    /// Its help.
    pub help: Option<String>,
}

/// Everything about an image that is worth showing, read from its file without running anything.
///
/// Texts and lists together take at most [`MAX_METADATA`] bytes; whatever was cut is said in `notes`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImageMetadata {
    /// In which form it is stored.
    pub format: Format,
    /// Whether apptainer could run it.
    pub runnable: Runnable,
    /// Whether running it may change the file: an overlay partition, or a writable file system.
    pub mutable: bool,
    /// The processor it is made for.
    pub arch: Arch,
    /// The file's length in bytes; 0 for a sandbox.
    pub size: u64,
    /// Where its last object ends, in bytes; whatever follows up to `size` belongs to nothing.
    pub used: u64,
    /// A SIF's own identifier, which survives signing; all zero where it was made reproducibly.
    pub uuid: Option<String>,
    /// When it was made, in seconds since 1970, as the image says.
    pub created: Option<i64>,
    /// When it was last changed, in seconds since 1970, as the image says.
    pub modified: Option<i64>,
    /// How many objects a SIF holds.
    pub objects: u32,
    /// A SIF's partitions, at most [`MAX_PARTITIONS`].
    pub partitions: Vec<SifPartition>,
    /// The definition file it was built from.
    pub definition: Option<String>,
    /// Its labels: `org.label-schema.*`, `org.opencontainers.image.*` and its author's own.
    pub labels: BTreeMap<String, String>,
    /// Its environment scripts, by their path inside the image.
    pub environment: BTreeMap<String, String>,
    /// What `apptainer run` does.
    pub runscript: Option<String>,
    /// What `apptainer instance start` does.
    pub startscript: Option<String>,
    /// What `apptainer test` does.
    pub test: Option<String>,
    /// What `apptainer run-help` prints.
    pub help: Option<String>,
    /// Its apps by name.
    pub apps: BTreeMap<String, App>,
    /// Its signatures, at most [`MAX_SIGNATURES`], unverified.
    pub signatures: Vec<Signature>,
    /// The configuration of the OCI image it was made from, as JSON text; none if longer than [`MAX_TEXT`].
    pub oci_config: Option<String>,
    /// What could not be read or was cut, in sentences; at most [`MAX_NOTES`].
    pub notes: Vec<String>,
}

impl ImageMetadata {
    /// Makes the metadata of a runnable image of which nothing more is known.
    #[must_use]
    pub fn bare(format: Format, size: u64) -> Self {
        Self {
            format,
            runnable: Runnable::Yes,
            mutable: matches!(format, Format::Ext3 | Format::Sandbox),
            arch: Arch::Unknown,
            size,
            used: size,
            uuid: None,
            created: None,
            modified: None,
            objects: 0,
            partitions: Vec::new(),
            definition: None,
            labels: BTreeMap::new(),
            environment: BTreeMap::new(),
            runscript: None,
            startscript: None,
            test: None,
            help: None,
            apps: BTreeMap::new(),
            signatures: Vec::new(),
            oci_config: None,
            notes: Vec::new(),
        }
    }
}
