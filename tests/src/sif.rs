//! Makes SIF images for tests and the demo, byte for byte the same for the same wishes on every machine.
//!
//! Lays a SIF out as apptainer does: definition file, `inspect-metadata.json`, then the primary partition
//! with a squashfs that the kernel mounts (one file, `payload`), if wished an overlay and a signature. Knows
//! nothing of the reader under test, so that the two can disagree.
//! Outside facts: apptainer/sif v2 pkg/sif (create.go), Linux Documentation/filesystems/squashfs.rst.

mod inspect;
pub mod sign;
mod squashfs;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

pub use inspect::as_inspect_prints;
pub use squashfs::Squashfs;

const HEADER_LEN: u64 = 128;
const TABLE_AT: u64 = 4_096;
const DESCRIPTOR_LEN: u64 = 585;
const SLOTS: u64 = 48;
/// Where the first object lies: behind a table of 48 descriptors.
pub const DATA_AT: u64 = TABLE_AT + SLOTS * DESCRIPTOR_LEN;
const ALIGNMENT: u64 = 4_096;
const GROUP_ONE: u32 = 0xf000_0001;
const NO_GROUP: u32 = 0xf000_0000;

const DEFINITION: i32 = 0x4001;
const PARTITION: i32 = 0x4004;
const SIGNATURE: i32 = 0x4005;
const GENERIC_JSON: i32 = 0x4006;

/// Collects what an image shall be and writes it.
#[derive(Debug, Clone)]
pub struct SifBuilder {
    arch: String,
    labels: BTreeMap<String, String>,
    definition: String,
    runscript: String,
    created: i64,
    payload: Squashfs,
    squashfs: Option<(PathBuf, u64)>,
    overlay: Option<u64>,
    signature: Option<(Vec<u8>, [u8; 20])>,
    trailing: u64,
}

impl Default for SifBuilder {
    fn default() -> Self {
        Self {
            arch: "amd64".to_owned(),
            labels: BTreeMap::new(),
            definition: "bootstrap: scratch\n".to_owned(),
            runscript: "#!/bin/sh\n\n    echo hello".to_owned(),
            created: 1_700_000_000,
            payload: Squashfs { payload: 4_096, seed: 0 },
            squashfs: None,
            overlay: None,
            signature: None,
            trailing: 0,
        }
    }
}

/// One object to be laid out.
struct Object {
    data_type: i32,
    name: &'static str,
    group: u32,
    link: u32,
    aligned: bool,
    extra: Vec<u8>,
    content: Content,
}

enum Content {
    Bytes(Vec<u8>),
    Squashfs(Squashfs),
    File(PathBuf, u64),
    Zeros(u64),
}

impl Content {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Squashfs(squashfs) => squashfs.padded_len(),
            Self::File(_, len) | Self::Zeros(len) => *len,
        }
    }
}

impl SifBuilder {
    /// Starts with a runnable amd64 image of one small partition.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the processor by Go's name; a name SIF does not know is written as unknown.
    #[must_use]
    pub fn arch(mut self, arch: &str) -> Self {
        arch.clone_into(&mut self.arch);
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets the definition file.
    #[must_use]
    pub fn definition(mut self, text: &str) -> Self {
        text.clone_into(&mut self.definition);
        self
    }

    /// Sets what running it does.
    #[must_use]
    pub fn runscript(mut self, text: &str) -> Self {
        text.clone_into(&mut self.runscript);
        self
    }

    /// Sets when it claims to be made, in seconds since 1970.
    #[must_use]
    pub fn created(mut self, seconds: i64) -> Self {
        self.created = seconds;
        self
    }

    /// Sets the file inside its squashfs: `len` bytes that do not compress, chosen by `seed`.
    #[must_use]
    pub fn payload_bytes(mut self, len: u32, seed: u64) -> Self {
        self.payload = Squashfs { payload: len, seed };
        self
    }

    /// Takes a squashfs out of a file, in place of one of its own; `seed` makes the image's identifier.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn squashfs(mut self, file: &Path, seed: u64) -> io::Result<Self> {
        self.squashfs = Some((file.to_owned(), file.metadata()?.len()));
        self.payload.seed = seed;
        Ok(self)
    }

    /// Adds an overlay partition of `len` zero bytes, which makes the image mutable.
    #[must_use]
    pub fn overlay(mut self, len: u64) -> Self {
        self.overlay = Some(len);
        self
    }

    /// Adds a signature object over group 1 with these bytes, whatever they are.
    #[must_use]
    pub fn signature(mut self, bytes: &[u8], fingerprint: [u8; 20]) -> Self {
        self.signature = Some((bytes.to_vec(), fingerprint));
        self
    }

    /// Adds zero bytes behind everything, which belong to no object.
    #[must_use]
    pub fn trailing(mut self, len: u64) -> Self {
        self.trailing = len;
        self
    }

    /// Writes the image to a file, replacing its content.
    ///
    /// # Errors
    /// Whatever writing gives; the file is then incomplete.
    pub fn write(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        self.write_to(&mut file)?;
        file.flush()
    }

    /// Returns the image's bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.write_to(&mut bytes) {
            Ok(()) => bytes,
            // Memory takes every write.
            Err(_) => Vec::new(),
        }
    }

    fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let objects = self.objects();
        let mut table = Vec::new();
        let mut starts = Vec::new();
        let mut end = DATA_AT;
        for (id, object) in (1_u32..).zip(&objects) {
            let start = if object.aligned { end.next_multiple_of(ALIGNMENT) } else { end };
            let padded = start - end + object.content.len();
            self.write_descriptor(&mut table, object, (id, start, padded))?;
            starts.push(start);
            end = start + object.content.len();
        }
        self.write_header(out, objects.len() as u64, end - DATA_AT)?;
        zeros(out, TABLE_AT - HEADER_LEN)?;
        out.write_all(&table)?;
        let mut at = TABLE_AT + table.len() as u64;
        for (object, start) in objects.iter().zip(starts) {
            zeros(out, start - at)?;
            match &object.content {
                Content::Bytes(bytes) => out.write_all(bytes)?,
                Content::Squashfs(squashfs) => squashfs.write_to(out)?,
                Content::File(file, len) => copy(file, *len, out)?,
                Content::Zeros(len) => zeros(out, *len)?,
            }
            at = start + object.content.len();
        }
        zeros(out, DATA_AT.saturating_sub(at))?;
        zeros(out, self.trailing)
    }

    fn objects(&self) -> Vec<Object> {
        let plain = |data_type, name, bytes| Object {
            data_type,
            name,
            group: GROUP_ONE,
            link: 0,
            aligned: false,
            extra: Vec::new(),
            content: Content::Bytes(bytes),
        };
        let partition = |name, file_system: i32, role: i32, content| Object {
            data_type: PARTITION,
            name,
            group: GROUP_ONE,
            link: 0,
            aligned: true,
            extra: [&file_system.to_le_bytes()[..], &role.to_le_bytes(), sif_code(&self.arch)].concat(),
            content,
        };
        let inspect = json!({
            "data": {"attributes": {
                "labels": self.labels,
                "runscript": self.runscript,
                "deffile": self.definition,
            }},
            "type": "container",
        });
        let payload = match &self.squashfs {
            Some((file, len)) => Content::File(file.clone(), *len),
            None => Content::Squashfs(self.payload.clone()),
        };
        let mut objects = vec![
            plain(DEFINITION, "", self.definition.clone().into_bytes()),
            plain(GENERIC_JSON, "inspect-metadata.json", inspect.to_string().into_bytes()),
            partition("", 1, 2, payload),
        ];
        if let Some(len) = self.overlay {
            objects.push(partition("overlay.img", 2, 4, Content::Zeros(len)));
        }
        if let Some((bytes, fingerprint)) = &self.signature {
            let extra = [&1_i32.to_le_bytes()[..], fingerprint].concat();
            let signature = plain(SIGNATURE, "", bytes.clone());
            objects.push(Object { group: NO_GROUP, link: GROUP_ONE, extra, ..signature });
        }
        objects
    }

    fn write_header(&self, out: &mut impl Write, used: u64, data_len: u64) -> io::Result<()> {
        out.write_all(b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC\x0001\0")?;
        out.write_all(sif_code(&self.arch))?;
        out.write_all(&self.payload.seed.to_be_bytes())?;
        out.write_all(&u64::from(self.payload.payload).to_be_bytes())?;
        for number in [self.created, self.created] {
            out.write_all(&number.to_le_bytes())?;
        }
        for number in [SLOTS - used, SLOTS, TABLE_AT, SLOTS * DESCRIPTOR_LEN, DATA_AT, data_len] {
            out.write_all(&number.to_le_bytes())?;
        }
        Ok(())
    }

    fn write_descriptor(
        &self,
        out: &mut Vec<u8>,
        object: &Object,
        (id, start, padded): (u32, u64, u64),
    ) -> io::Result<()> {
        let from = out.len();
        out.write_all(&object.data_type.to_le_bytes())?;
        out.write_all(&[1])?;
        for number in [id, object.group, object.link] {
            out.write_all(&number.to_le_bytes())?;
        }
        for number in [start, object.content.len(), padded] {
            out.write_all(&number.to_le_bytes())?;
        }
        for number in [self.created, self.created, 0, 0] {
            out.write_all(&number.to_le_bytes())?;
        }
        out.write_all(object.name.as_bytes())?;
        out.resize(from + 201, 0);
        out.write_all(&object.extra)?;
        out.resize(from + 585, 0);
        Ok(())
    }
}

/// Two digits and a NUL, from the list in apptainer/sif pkg/sif/arch.go.
fn sif_code(arch: &str) -> &'static [u8] {
    match arch {
        "386" => b"01\0",
        "amd64" => b"02\0",
        "arm" => b"03\0",
        "arm64" => b"04\0",
        "ppc64" => b"05\0",
        "ppc64le" => b"06\0",
        "mips" => b"07\0",
        "mipsle" => b"08\0",
        "mips64" => b"09\0",
        "mips64le" => b"10\0",
        "s390x" => b"11\0",
        "riscv64" => b"12\0",
        "loong64" => b"13\0",
        _ => b"00\0",
    }
}

/// A file that shrank meanwhile is an error: its place was laid out.
fn copy(file: &Path, len: u64, out: &mut impl Write) -> io::Result<()> {
    let copied = io::copy(&mut io::Read::take(File::open(file)?, len), out)?;
    if copied == len { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn zeros(out: &mut impl Write, len: u64) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0), len), out).map(drop)
}
