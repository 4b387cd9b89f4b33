//! The object table of a SIF: which objects it holds and where they lie.
//!
//! Owns the bounds: no object is believed that is not wholly inside the file and apart from all else.
//! Outside facts: apptainer/sif v2 pkg/sif/descriptor.go (`type rawDescriptor`), siftool/siftool list.

use std::collections::BTreeSet;
use std::fmt;

use super::header::HEADER_LEN;
use super::{Header, ReadAt, SifError, read_up_to, take, text_until_nul};
use crate::image::{Arch, FileSystem, HashAlgorithm, PartitionRole};

/// Most descriptors a table may have: apptainer makes tables of 48, and 1,024 are read in 0.6 MB.
pub const MAX_OBJECTS: usize = 1_024;
/// Length of a descriptor in bytes.
pub(crate) const DESCRIPTOR_LEN: usize = 585;
/// Marks a group number in the group and link fields.
const GROUP_MASK: u32 = 0xf000_0000;

/// Tells what an object is; shown as the reference shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataType {
    /// The definition file.
    Definition,
    /// Environment variables.
    Environment,
    /// Labels as JSON.
    Labels,
    /// A partition.
    Partition,
    /// A signature.
    Signature,
    /// A JSON text, told apart by its name.
    GenericJson,
    /// Anything.
    Generic,
    /// The key of an encrypted partition.
    CryptoMessage,
    /// A bill of materials.
    Sbom,
    /// The index of an OCI-SIF.
    OciRootIndex,
    /// A blob of an OCI-SIF.
    OciBlob,
    /// A number that is not on SIF's list.
    Unknown(i32),
}

impl DataType {
    fn of(number: i32) -> Self {
        match number {
            0x4001 => Self::Definition,
            0x4002 => Self::Environment,
            0x4003 => Self::Labels,
            0x4004 => Self::Partition,
            0x4005 => Self::Signature,
            0x4006 => Self::GenericJson,
            0x4007 => Self::Generic,
            0x4008 => Self::CryptoMessage,
            0x4009 => Self::Sbom,
            0x400a => Self::OciRootIndex,
            0x400b => Self::OciBlob,
            other => Self::Unknown(other),
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Definition => "Def.FILE",
            Self::Environment => "Env.Vars",
            Self::Labels => "JSON.Labels",
            Self::Partition => "FS",
            Self::Signature => "Signature",
            Self::GenericJson => "JSON.Generic",
            Self::Generic => "Generic/Raw",
            Self::CryptoMessage => "Cryptographic Message",
            Self::Sbom => "SBOM",
            Self::OciRootIndex => "OCI.RootIndex",
            Self::OciBlob => "OCI.Blob",
            Self::Unknown(_) => "Unknown",
        })
    }
}

/// Tells what an object refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Nothing.
    None,
    /// One object, by its id.
    Object(u32),
    /// A whole group, by its number.
    Group(u32),
}

/// What a partition's descriptor says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// What it holds.
    pub file_system: FileSystem,
    /// What it is for.
    pub role: PartitionRole,
    /// The processor it is made for.
    pub arch: Arch,
}

/// One object of a SIF; its bounds have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// What it is.
    pub data_type: DataType,
    /// Its id, never 0 and unique in its SIF.
    pub id: u32,
    /// The group it belongs to, if any.
    pub group: Option<u32>,
    /// What it refers to.
    pub link: Link,
    /// Where it starts in the file, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub size: u64,
    /// Its name, at most 128 bytes.
    pub name: String,
    /// Where its descriptor stands, in bytes.
    pub descriptor_offset: u64,
    partition: Option<Partition>,
    hash: HashAlgorithm,
    form: &'static str,
    fingerprint: [u8; 20],
}

impl Descriptor {
    /// Returns where it ends in the file, in bytes.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.size)
    }

    /// Returns what the descriptor of a partition says of it; none for other objects.
    #[must_use]
    pub fn partition(&self) -> Option<Partition> {
        self.partition
    }

    /// Returns the hash function that the descriptor of a signature names.
    #[must_use]
    pub fn hash(&self) -> HashAlgorithm {
        self.hash
    }

    /// Returns the PGP fingerprint that the descriptor of a signature names, in upper-case hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> Option<String> {
        let named = self.fingerprint.iter().any(|byte| *byte != 0);
        named.then(|| self.fingerprint.iter().map(|byte| format!("{byte:02X}")).collect())
    }

    fn parse(bytes: &[u8], descriptor_offset: u64, size: u64) -> Result<Self, SifError> {
        let id = u32::from_le_bytes(take(bytes, 5));
        let bad = |field, value, reason| {
            Err(SifError::BadObject { id, offset: descriptor_offset, field, value, reason })
        };
        if id == 0 {
            return bad("id", 0, "an object in use has an id from 1");
        }
        let raw_offset = i64::from_le_bytes(take(bytes, 17));
        let Ok(offset) = u64::try_from(raw_offset) else {
            return bad("offset", raw_offset, "it is negative");
        };
        let raw_size = i64::from_le_bytes(take(bytes, 25));
        let Ok(len) = u64::try_from(raw_size) else {
            return bad("size", raw_size, "it is negative");
        };
        let end = offset.saturating_add(len);
        if end > size {
            return Err(SifError::Truncated { id, needs: end, has: size });
        }
        let data_type = DataType::of(i32::from_le_bytes(take(bytes, 0)));
        let is_signature = data_type == DataType::Signature;
        Ok(Self {
            data_type,
            id,
            group: Some(u32::from_le_bytes(take(bytes, 9)) & !GROUP_MASK).filter(|group| *group != 0),
            link: link(u32::from_le_bytes(take(bytes, 13))),
            offset,
            size: len,
            name: text_until_nul(&take::<128>(bytes, 73)),
            descriptor_offset,
            partition: (data_type == DataType::Partition).then(|| partition(bytes)),
            hash: if is_signature {
                hash(i32::from_le_bytes(take(bytes, 201)))
            } else {
                HashAlgorithm::Unknown
            },
            fingerprint: if is_signature { take(bytes, 205) } else { [0; 20] },
            form: form(data_type, i32::from_le_bytes(take(bytes, 201)), i32::from_le_bytes(take(bytes, 205))),
        })
    }
}

/// Shows an object as a line of `apptainer sif list`, without trailing space.
impl fmt::Display for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<4} ", self.id)?;
        match self.group {
            Some(group) => write!(f, "|{group:<7} ")?,
            None => write!(f, "|{:<7} ", "NONE")?,
        }
        match self.link {
            Link::None => write!(f, "|{:<7} ", "NONE")?,
            Link::Object(id) => write!(f, "|{id:<7} ")?,
            Link::Group(group) => write!(f, "|{group:<3} (G) ")?,
        }
        write!(f, "{:<26} |{}", format!("|{}-{} ", self.offset, self.end()), self.data_type)?;
        match (self.partition, self.data_type) {
            (Some(partition), _) => {
                write!(f, " ({}/{}/{})", partition.file_system, partition.role, partition.arch)
            }
            (None, DataType::Signature) => write!(f, " ({})", self.hash),
            (None, _) if self.form.is_empty() => Ok(()),
            (None, _) => write!(f, " ({})", self.form),
        }
    }
}

fn link(raw: u32) -> Link {
    match (raw & GROUP_MASK == GROUP_MASK, raw & !GROUP_MASK) {
        (_, 0) => Link::None,
        (true, group) => Link::Group(group),
        (false, _) => Link::Object(raw),
    }
}

fn partition(bytes: &[u8]) -> Partition {
    Partition {
        file_system: match i32::from_le_bytes(take(bytes, 201)) {
            1 => FileSystem::Squashfs,
            2 => FileSystem::Ext3,
            3 => FileSystem::Archive,
            4 => FileSystem::Raw,
            5 => FileSystem::EncryptedSquashfs,
            6 => FileSystem::GocryptfsSquashfs,
            _ => FileSystem::Unknown,
        },
        role: match i32::from_le_bytes(take(bytes, 205)) {
            1 => PartitionRole::System,
            2 => PartitionRole::PrimarySystem,
            3 => PartitionRole::Data,
            4 => PartitionRole::Overlay,
            _ => PartitionRole::Unknown,
        },
        arch: Arch::of_sif_code(&take::<2>(bytes, 209)),
    }
}

/// Names the form in which a key or a bill of materials is written, as the reference does.
fn form(data_type: DataType, first: i32, second: i32) -> &'static str {
    match (data_type, first, second) {
        (DataType::Sbom, 1, _) => "cyclonedx-json",
        (DataType::Sbom, 2, _) => "cyclonedx-xml",
        (DataType::Sbom, 3, _) => "github-json",
        (DataType::Sbom, 4, _) => "spdx-json",
        (DataType::Sbom, 5, _) => "spdx-rdf",
        (DataType::Sbom, 6, _) => "spdx-tag-value",
        (DataType::Sbom, 7, _) => "spdx-yaml",
        (DataType::Sbom, 8, _) => "syft-json",
        (DataType::Sbom, _, _) => "unknown",
        (DataType::CryptoMessage, 1, 0x100) => "OpenPGP/Clear Signature",
        (DataType::CryptoMessage, 1, 0x200) => "OpenPGP/RSA-OAEP",
        (DataType::CryptoMessage, 1, _) => "OpenPGP/Unknown",
        (DataType::CryptoMessage, 2, 0x100) => "PEM/Clear Signature",
        (DataType::CryptoMessage, 2, 0x200) => "PEM/RSA-OAEP",
        (DataType::CryptoMessage, 2, _) => "PEM/Unknown",
        (DataType::CryptoMessage, _, 0x100) => "Unknown/Clear Signature",
        (DataType::CryptoMessage, _, 0x200) => "Unknown/RSA-OAEP",
        (DataType::CryptoMessage, _, _) => "Unknown/Unknown",
        _ => "",
    }
}

fn hash(number: i32) -> HashAlgorithm {
    match number {
        1 => HashAlgorithm::Sha256,
        2 => HashAlgorithm::Sha384,
        3 => HashAlgorithm::Sha512,
        4 => HashAlgorithm::Blake2s,
        5 => HashAlgorithm::Blake2b,
        _ => HashAlgorithm::Unknown,
    }
}

/// Reads the objects in use and checks that each lies inside the file and apart from all else.
pub(crate) fn read_table(
    file: &impl ReadAt,
    header: &Header,
    size: u64,
) -> Result<Vec<Descriptor>, SifError> {
    let len = header.slots.saturating_mul(DESCRIPTOR_LEN);
    let table = read_up_to(file, "object table", header.table_offset, len)?;
    if table.len() < len {
        let has = header.table_offset.saturating_add(table.len() as u64);
        return Err(SifError::TableTruncated { needs: header.table_end(), has });
    }
    let mut objects = Vec::new();
    let mut ids = BTreeSet::new();
    for (slot, bytes) in table.chunks_exact(DESCRIPTOR_LEN).enumerate() {
        if take(bytes, 4) == [0_u8] {
            continue;
        }
        let offset = header.table_offset.saturating_add(slot.saturating_mul(DESCRIPTOR_LEN) as u64);
        let object = Descriptor::parse(bytes, offset, size)?;
        if !ids.insert(object.id) {
            let (id, field, value) = (object.id, "id", i64::from(object.id));
            return Err(SifError::BadObject {
                id,
                offset,
                field,
                value,
                reason: "another object has it too",
            });
        }
        objects.push(object);
    }
    check_apart(header, &objects)?;
    Ok(objects)
}

fn check_apart(header: &Header, objects: &[Descriptor]) -> Result<(), SifError> {
    let mut sorted: Vec<&Descriptor> = objects.iter().filter(|object| object.size > 0).collect();
    sorted.sort_unstable_by_key(|object| (object.offset, object.id));
    let mut before: Option<&Descriptor> = None;
    for object in sorted {
        let over = if object.offset < HEADER_LEN as u64 {
            Some("the header".to_owned())
        } else if object.offset < header.table_end() && object.end() > header.table_offset {
            Some("the object table".to_owned())
        } else {
            before.filter(|before| before.end() > object.offset).map(|before| format!("object {}", before.id))
        };
        if let Some(other) = over {
            return Err(SifError::Overlap { id: object.id, offset: object.offset, other });
        }
        before = Some(object);
    }
    Ok(())
}
