//! Tells the formats of images apart and reads what their file systems say of themselves.
//!
//! Owns the squashfs and ext3 superblocks; [`crate::sif`] owns the SIF. Judges a file by its first bytes and
//! its length only: whether the whole of it is there, never what the file system holds.
//! Outside facts: Linux fs/squashfs/squashfs_fs.h (version 4.0), Linux fs/ext4/ext4.h, and for the optional
//! launch line and the ext3 features that run, apptainer 1.4 pkg/image (squashfs.go, ext3.go).

use super::{Format, ImageMetadata};
use crate::sif::{self, ReadAt, SifError, read_up_to, take};

/// Bytes at the start of a file that tell what it is: as many as apptainer itself looks at.
pub const PROBE_LEN: usize = 2048;

/// Ends the launch line that may stand before a file system; apptainer looks for the same text.
const LAUNCH_END: &[u8] = b" run-singularity\n";
const SQUASHFS_SUPERBLOCK: usize = 96;
const EXT_SUPERBLOCK: usize = 1024;

/// Tells the format by the first [`PROBE_LEN`] bytes; `None` when it is none of an image.
///
/// A promise about the beginning only: [`classify`] says whether the rest is there.
#[must_use]
pub fn probe(head: &[u8]) -> Option<Format> {
    if sif::has_magic(head) {
        return Some(Format::Sif);
    }
    let body = head.get(launch_len(head)..)?;
    if body.starts_with(b"hsqs") {
        return Some(Format::Squashfs);
    }
    Ext::read(body).is_some_and(|ext| ext.is_ext3()).then_some(Format::Ext3)
}

/// Reads the image's metadata, whichever its format.
///
/// Reads at most [`sif::MAX_READ`] bytes, however long the file. A sandbox is a directory and so never
/// comes here: see [`ImageMetadata::bare`].
///
/// # Errors
/// [`SifError::NotAnImage`] says what the file is instead; the others say what is wrong with the image, and
/// [`SifError::Truncated`] and [`SifError::FileSystemTruncated`] how much of it is missing.
pub fn classify(file: &impl ReadAt) -> Result<ImageMetadata, SifError> {
    let size = file.size().map_err(|source| SifError::Read { what: "length", offset: 0, source })?;
    let head = read_up_to(file, "first bytes", 0, PROBE_LEN)?;
    match probe(&head) {
        Some(Format::Sif) => sif::read(file),
        Some(Format::Squashfs) => bare_squashfs(&head, size),
        Some(Format::Ext3) => bare_ext3(&head, size),
        Some(Format::Sandbox) | None => Err(SifError::NotAnImage { found: what_else(&head) }),
    }
}

/// Reads what an image is, like [`classify`], and refuses one that no job could run.
///
/// # Errors
/// [`SifError::NothingToRun`], and those of [`classify`].
pub fn runnable(file: &impl ReadAt) -> Result<ImageMetadata, SifError> {
    let found = classify(file)?;
    if found.runnable.is_yes() { Ok(found) } else { Err(SifError::NothingToRun { why: found.runnable }) }
}

fn bare_squashfs(head: &[u8], size: u64) -> Result<ImageMetadata, SifError> {
    let start = launch_len(head);
    let superblock = head.get(start..).and_then(Squashfs::read);
    let Some(squashfs) = superblock else {
        return Err(SifError::FileSystem {
            id: None,
            reason: "the file ends inside its squashfs superblock",
        });
    };
    let used = squashfs.checked_used(None, size.saturating_sub(start as u64))?;
    let mut image = ImageMetadata::bare(Format::Squashfs, size);
    image.used = used.saturating_add(start as u64);
    image.created = Some(i64::from(squashfs.made));
    Ok(image)
}

fn bare_ext3(head: &[u8], size: u64) -> Result<ImageMetadata, SifError> {
    let start = launch_len(head);
    let has = size.saturating_sub(start as u64);
    let needs = head.get(start..).and_then(Ext::read).map_or(0, |ext| ext.bytes());
    if needs > has {
        return Err(SifError::FileSystemTruncated { id: None, needs, has });
    }
    let mut image = ImageMetadata::bare(Format::Ext3, size);
    image.used = needs.saturating_add(start as u64);
    Ok(image)
}

/// Length of a launch line such as `#!/usr/bin/env run-singularity` before a bare file system, or 0.
fn launch_len(head: &[u8]) -> usize {
    if !head.starts_with(b"#!") {
        return 0;
    }
    let end = head.windows(LAUNCH_END.len()).position(|window| window == LAUNCH_END);
    end.map_or(0, |at| at.saturating_add(LAUNCH_END.len()))
}

/// A squashfs superblock, as far as it tells whether the file system is all there.
pub(crate) struct Squashfs {
    major: u16,
    minor: u16,
    /// Seconds since 1970.
    made: u32,
    /// Bytes from its start to its end, without the padding that follows.
    used: u64,
}

impl Squashfs {
    /// Reads the superblock at the start of `bytes`; `None` if it is not one.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let block = bytes.get(..SQUASHFS_SUPERBLOCK)?;
        block.starts_with(b"hsqs").then(|| Self {
            made: u32::from_le_bytes(take(block, 8)),
            major: u16::from_le_bytes(take(block, 28)),
            minor: u16::from_le_bytes(take(block, 30)),
            used: u64::from_le_bytes(take(block, 40)),
        })
    }

    /// Returns how many bytes it takes, if it is of the version that runs and `has` holds them all.
    pub(crate) fn checked_used(&self, id: Option<u32>, has: u64) -> Result<u64, SifError> {
        if (self.major, self.minor) != (4, 0) {
            return Err(SifError::FileSystem { id, reason: "it is a squashfs of another version than 4.0" });
        }
        if self.used < SQUASHFS_SUPERBLOCK as u64 {
            return Err(SifError::FileSystem {
                id,
                reason: "its squashfs says to end inside its superblock",
            });
        }
        if self.used > has {
            return Err(SifError::FileSystemTruncated { id, needs: self.used, has });
        }
        Ok(self.used)
    }
}

/// An ext2, ext3 or ext4 superblock, as far as it tells which and how long.
pub(crate) struct Ext {
    blocks: u32,
    log_block_size: u32,
    compat: u32,
    incompat: u32,
    ro_compat: u32,
}

impl Ext {
    /// Reads the superblock 1,024 bytes into `bytes`; `None` if there is none.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let block = bytes.get(EXT_SUPERBLOCK..)?.get(..104)?;
        (take(block, 56) == [0x53, 0xef]).then(|| Self {
            blocks: u32::from_le_bytes(take(block, 4)),
            log_block_size: u32::from_le_bytes(take(block, 24)),
            compat: u32::from_le_bytes(take(block, 92)),
            incompat: u32::from_le_bytes(take(block, 96)),
            ro_compat: u32::from_le_bytes(take(block, 100)),
        })
    }

    /// A journal, and nothing that ext3 does not have: what apptainer accepts as an image.
    pub(crate) fn is_ext3(&self) -> bool {
        const HAS_JOURNAL: u32 = 0x4;
        const FILE_TYPES_RECOVER_META_GROUPS: u32 = 0x2 | 0x4 | 0x10;
        const SPARSE_SUPER_LARGE_FILE_BTREE_DIR: u32 = 0x1 | 0x2 | 0x4;
        self.compat & HAS_JOURNAL != 0
            && self.incompat & !FILE_TYPES_RECOVER_META_GROUPS == 0
            && self.ro_compat & !SPARSE_SUPER_LARGE_FILE_BTREE_DIR == 0
    }

    /// Bytes it takes; absurd block sizes give absurd lengths, which no file has.
    fn bytes(&self) -> u64 {
        let block = 1024_u64.checked_shl(self.log_block_size).filter(|size| *size != 0).unwrap_or(u64::MAX);
        u64::from(self.blocks).saturating_mul(block)
    }
}

/// Names what people do put under an image's name, for the reason why it is none.
fn what_else(head: &[u8]) -> &'static str {
    const SIGNS: [(&[u8], &str); 12] = [
        (b"\x1f\x8b", "a gzip archive"),
        (b"\xfd7zXZ\0", "an xz archive"),
        (b"\x28\xb5\x2f\xfd", "a zstd archive"),
        (b"BZh", "a bzip2 archive"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x7fELF", "a program"),
        (b"QFI\xfb", "a qcow2 disk"),
        (b"LUKS\xba\xbe", "a LUKS volume"),
        (b"sqsh", "a big-endian squashfs"),
        (b"<", "a page of markup: perhaps an error page saved in place of the image"),
        (b"{", "a JSON text"),
        (b"version https://git-lfs", "a Git LFS pointer in place of the image"),
    ];
    if head.is_empty() {
        return "an empty file";
    }
    if let Some((_, found)) = SIGNS.iter().find(|(sign, _)| head.starts_with(sign)) {
        return found;
    }
    if head.get(257..262) == Some(b"ustar") {
        return "a tar archive";
    }
    if Ext::read(head).is_some() {
        return "an ext2 or ext4 file system, of which apptainer runs only ext3";
    }
    if head.iter().all(|byte| *byte == 0) {
        return "a file that begins with zeros: perhaps reserved and not yet written";
    }
    if std::str::from_utf8(head).is_ok() {
        return "a text";
    }
    "none of SIF, squashfs 4.0 and ext3"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn squashfs(used: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        bytes[..4].copy_from_slice(b"hsqs");
        bytes[8..12].copy_from_slice(&7_u32.to_le_bytes());
        bytes[28] = 4;
        bytes[40..48].copy_from_slice(&used.to_le_bytes());
        bytes
    }

    fn ext(blocks: u32, incompat: u32, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        bytes[1028..1032].copy_from_slice(&blocks.to_le_bytes());
        bytes[1080..1082].copy_from_slice(&[0x53, 0xef]);
        bytes[1116] = 4;
        bytes[1120..1124].copy_from_slice(&incompat.to_le_bytes());
        bytes
    }

    fn launched(mut body: Vec<u8>) -> Vec<u8> {
        let mut bytes = b"#!/usr/bin/env run-singularity\n".to_vec();
        bytes.append(&mut body);
        bytes
    }

    #[test]
    fn a_bare_squashfs_is_an_image_when_all_of_it_is_there() {
        for bytes in [squashfs(4000, 4096), launched(squashfs(4000, 4000))] {
            let image = classify(&bytes.as_slice()).unwrap();
            assert_eq!((image.format, image.created, image.mutable), (Format::Squashfs, Some(7), false));
        }
        for bytes in [squashfs(4000, 3999), launched(squashfs(4000, 3999))] {
            let cut = classify(&bytes.as_slice());
            assert!(matches!(cut, Err(SifError::FileSystemTruncated { id: None, needs: 4000, has: 3999 })));
        }
    }

    #[test]
    fn a_squashfs_of_another_version_is_refused() {
        let mut bytes = squashfs(4000, 4096);
        bytes[28] = 3;
        assert!(matches!(classify(&bytes.as_slice()), Err(SifError::FileSystem { .. })));
        assert!(matches!(classify(&&bytes[..40]), Err(SifError::FileSystem { .. })));
    }

    #[test]
    fn an_ext3_file_is_an_image_that_changes() {
        let image = classify(&ext(4, 2, 4096).as_slice()).unwrap();
        assert_eq!((image.format, image.mutable), (Format::Ext3, true));
        assert_eq!(classify(&launched(ext(4, 2, 4096)).as_slice()).unwrap().format, Format::Ext3);
        let cut = classify(&ext(5, 2, 4096).as_slice());
        assert!(matches!(cut, Err(SifError::FileSystemTruncated { needs: 5120, has: 4096, .. })));
    }

    #[test]
    fn anything_else_is_named_for_what_it_is() {
        for (bytes, word) in [
            (Vec::new(), "empty"),
            (b"\x1f\x8b\x08".to_vec(), "gzip"),
            (vec![0; 5000], "zeros"),
            (b"<html>".to_vec(), "markup"),
            (b"{\"a\":1}".to_vec(), "JSON"),
            (b"#!/bin/sh\necho".to_vec(), "text"),
            (vec![0xff; 50], "none of"),
            (ext(4, 0x40, 4096), "ext4"),
        ] {
            let Err(SifError::NotAnImage { found }) = classify(&bytes.as_slice()) else { panic!("{word}") };
            assert!(found.contains(word), "{found:?} does not say {word:?}");
        }
    }
}
