//! Writes the smallest squashfs 4.0 that the kernel mounts: a root directory with one file, uncompressed.
//!
//! Needs no mksquashfs, and gives the same bytes for the same length and seed everywhere.
//! Outside facts: Linux Documentation/filesystems/squashfs.rst and fs/squashfs/squashfs_fs.h.

use std::io::{self, Write};

const SUPERBLOCK_LEN: u64 = 96;
const BLOCK: u64 = 128 * 1024;
const METADATA_BLOCK: usize = 8 * 1024;
const NAME: &[u8] = b"payload";
/// Says of a metadata block that it is stored as it is.
const METADATA_UNCOMPRESSED: u16 = 0x8000;
/// Says of a data block that it is stored as it is.
const DATA_UNCOMPRESSED: u32 = 1 << 24;
/// Nothing is compressed, there are no fragments and no extended attributes.
const FLAGS: u16 = 0x1 | 0x2 | 0x8 | 0x10 | 0x200 | 0x800;
const ABSENT: u64 = u64::MAX;
const DIRECTORY_INODE_LEN: u16 = 32;

/// A squashfs with one file, named `payload`.
#[derive(Debug, Clone)]
pub struct Squashfs {
    /// Length of the file in bytes.
    pub payload: u32,
    /// Chooses its bytes.
    pub seed: u64,
}

impl Squashfs {
    /// Returns how many bytes it takes, padded as mksquashfs pads.
    #[must_use]
    pub fn padded_len(&self) -> u64 {
        self.layout().used.next_multiple_of(4_096)
    }

    /// Returns how many bytes it takes without padding.
    #[must_use]
    pub fn used_len(&self) -> u64 {
        self.layout().used
    }

    /// Writes it, padded.
    ///
    /// # Errors
    /// Whatever writing gives.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let layout = self.layout();
        self.write_superblock(out, &layout)?;
        self.write_payload(out)?;
        out.write_all(&layout.inodes)?;
        out.write_all(&layout.directory)?;
        out.write_all(&layout.ids)?;
        out.write_all(&layout.id_block.to_le_bytes())?;
        let padding = layout.used.next_multiple_of(4_096) - layout.used;
        io::copy(&mut io::Read::take(io::repeat(0), padding), out).map(drop)
    }

    fn write_superblock(&self, out: &mut impl Write, layout: &Layout) -> io::Result<()> {
        out.write_all(b"hsqs")?;
        for number in [2, 0, 128 * 1024, 0_u32] {
            out.write_all(&number.to_le_bytes())?;
        }
        for number in [1, 17, FLAGS, 1, 4, 0_u16] {
            out.write_all(&number.to_le_bytes())?;
        }
        let inode_table = SUPERBLOCK_LEN + u64::from(self.payload);
        let directory_table = inode_table + layout.inodes.len() as u64;
        let id_table = layout.used - 8;
        for number in [0, layout.used, id_table, ABSENT, inode_table, directory_table, ABSENT, ABSENT] {
            out.write_all(&number.to_le_bytes())?;
        }
        Ok(())
    }

    fn write_payload(&self, out: &mut impl Write) -> io::Result<()> {
        let mut state = self.seed;
        let mut left = u64::from(self.payload);
        let mut buffer = Vec::with_capacity(64 * 1024);
        while left > 0 {
            buffer.clear();
            while buffer.len() < 64 * 1024 {
                buffer.extend_from_slice(&next(&mut state).to_le_bytes());
            }
            buffer.truncate(usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len()));
            out.write_all(&buffer)?;
            left -= buffer.len() as u64;
        }
        Ok(())
    }

    fn layout(&self) -> Layout {
        let inodes = metadata_blocks(&self.inodes());
        let directory = metadata_blocks(&directory());
        let ids = metadata_blocks(&0_u32.to_le_bytes());
        let id_block = SUPERBLOCK_LEN + u64::from(self.payload) + (inodes.len() + directory.len()) as u64;
        let used = id_block + ids.len() as u64 + 8;
        Layout { inodes, directory, ids, id_block, used }
    }

    /// The inodes of the root directory and of the file, in this order.
    fn inodes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut inode = |kind: u16, mode: u16, number: u32, rest: &[u32]| {
            for part in [kind, mode, 0, 0] {
                bytes.extend_from_slice(&part.to_le_bytes());
            }
            for part in [0, number].iter().chain(rest) {
                bytes.extend_from_slice(&part.to_le_bytes());
            }
        };
        // The listing's length is counted with three bytes for `.` and `..`, and shares a word with its offset.
        let listing = u32::try_from(directory().len()).unwrap_or(0) + 3;
        inode(1, 0o755, 1, &[0, 2, listing, 3]);
        let data_at = 96;
        let mut file = vec![data_at, u32::MAX, 0, self.payload];
        let mut left = u64::from(self.payload);
        while left > 0 {
            let block = left.min(BLOCK);
            file.push(DATA_UNCOMPRESSED | u32::try_from(block).unwrap_or(0));
            left -= block;
        }
        inode(2, 0o644, 2, &file);
        bytes
    }
}

struct Layout {
    inodes: Vec<u8>,
    directory: Vec<u8>,
    ids: Vec<u8>,
    /// Where the block of ids starts.
    id_block: u64,
    used: u64,
}

/// The listing of the root directory: one header, one entry.
fn directory() -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in [0, 0, 2_u32] {
        bytes.extend_from_slice(&part.to_le_bytes());
    }
    for part in [DIRECTORY_INODE_LEN, 0, 2, 6] {
        bytes.extend_from_slice(&part.to_le_bytes());
    }
    bytes.extend_from_slice(NAME);
    bytes
}

fn metadata_blocks(bytes: &[u8]) -> Vec<u8> {
    let mut blocks = Vec::new();
    for block in bytes.chunks(METADATA_BLOCK) {
        let len = u16::try_from(block.len()).unwrap_or(0) | METADATA_UNCOMPRESSED;
        blocks.extend_from_slice(&len.to_le_bytes());
        blocks.extend_from_slice(block);
    }
    blocks
}

/// SplitMix64: any seed gives bytes that no compressor shortens.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
