//! Chunk maps of images that were seen here, kept on disk so that none is made twice.
//!
//! Owns the folder `maps` of the state directory: one file for each image, named by its digest, oldest thrown away
//! first. What is read is checked like what a stranger sends, and a file that is not right is as good as none: a map
//! can be made again.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sifleet_common::chunk::{Chunk, ChunkMap, MAX_IMAGE, MIN_CHUNK};
use sifleet_common::digest::Digest;
use sifleet_common::wire::chunk::{MapPart, map_parts};
use sifleet_common::wire::frame::{MAX_FRAME, decode, encode};
use tracing::warn;

/// Bytes of maps kept, at most: those of 300 GB of images.
const MAX_KEPT: u64 = 256 * 1024 * 1024;
/// Maps held in memory for those who ask again.
const HELD: usize = 4;

/// The maps of this node.
#[derive(Debug)]
pub struct Maps {
    folder: PathBuf,
    held: Mutex<VecDeque<Arc<ChunkMap>>>,
}

impl Maps {
    /// Keeps maps in a folder, which is made when there is something to keep.
    #[must_use]
    pub fn within(folder: PathBuf) -> Self {
        Self { folder, held: Mutex::default() }
    }

    /// Returns the map of an image, if it is kept. Blocks for the disk.
    #[must_use]
    pub fn get(&self, image: &Digest) -> Option<Arc<ChunkMap>> {
        if let Some(map) = self.held().iter().find(|map| map.image() == *image) {
            return Some(Arc::clone(map));
        }
        let map = Arc::new(read(&self.path(image), *image)?);
        self.hold(&map);
        Some(map)
    }

    /// Lists the images whose maps are kept. Blocks for the disk.
    #[must_use]
    pub fn list(&self) -> BTreeSet<Digest> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return BTreeSet::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let of = |name: String| format!("blake3:{}", name.strip_suffix(".map")?).parse().ok();
        names.filter_map(of).collect()
    }

    /// Keeps a map. Blocks for the disk; one that cannot be written is kept in memory for a while.
    pub fn put(&self, map: &Arc<ChunkMap>) {
        self.hold(map);
        if let Err(error) = self.write(map) {
            warn!(digest = %map.image(), error = &error as &dyn std::error::Error, "a chunk map cannot be kept");
        }
    }

    fn write(&self, map: &ChunkMap) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let path = self.path(&map.image());
        let unfinished = path.with_extension("part");
        let mut file = io::BufWriter::new(File::create(&unfinished)?);
        for part in map_parts(map) {
            let body = encode(&part).map_err(io::Error::other)?;
            file.write_all(&u32::try_from(body.len()).map_err(io::Error::other)?.to_le_bytes())?;
            file.write_all(&body)?;
        }
        file.into_inner().map_err(io::IntoInnerError::into_error)?;
        fs::rename(&unfinished, &path)?;
        self.thin_out()
    }

    /// Throws the oldest maps away while there are too many.
    fn thin_out(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let facts = entry.metadata()?;
            files.push((facts.modified()?, facts.len(), entry.path()));
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, len, _)| len).sum();
        for (_, len, path) in files {
            if total <= MAX_KEPT {
                break;
            }
            fs::remove_file(path)?;
            total -= len;
        }
        Ok(())
    }

    fn path(&self, image: &Digest) -> PathBuf {
        self.folder.join(format!("{}.map", image.hex()))
    }

    fn hold(&self, map: &Arc<ChunkMap>) {
        let mut held = self.held();
        held.retain(|other| other.image() != map.image());
        held.push_back(Arc::clone(map));
        if held.len() > HELD {
            held.pop_front();
        }
    }

    /// A list of maps is sound whatever panicked while it was held.
    fn held(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<ChunkMap>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns how many chunks an image of `size` bytes can have: all but the last one are of [`MIN_CHUNK`] bytes at least.
#[must_use]
pub const fn most_chunks(size: u64) -> u64 {
    size / MIN_CHUNK as u64 + 1
}

/// Puts a map together from its parts, wherever they come from.
#[derive(Debug)]
pub struct Joining {
    chunks: Vec<Chunk>,
    /// Bytes that these chunks are.
    bytes: u64,
    /// Bytes that all of them may be.
    size: u64,
}

impl Joining {
    /// Begins a map of an image of `size` bytes, or of fewer.
    #[must_use]
    pub const fn of(size: u64) -> Self {
        Self { chunks: Vec::new(), bytes: 0, size }
    }

    /// Takes the next part; the map when it was the last one, `Err` when these are no parts of a map.
    ///
    /// # Errors
    /// In words.
    pub fn take(&mut self, image: Digest, part: MapPart) -> Result<Option<ChunkMap>, String> {
        if (self.chunks.len() + part.chunks.len()) as u64 > most_chunks(self.size) {
            return Err(format!("the map has more chunks than an image of {} bytes can have", self.size));
        }
        self.bytes += part.chunks.iter().map(|chunk| u64::from(chunk.len)).sum::<u64>();
        if self.bytes > self.size {
            return Err(format!("the map is one of more than {} bytes", self.size));
        }
        self.chunks.extend(part.chunks);
        if !part.last {
            return Ok(None);
        }
        let chunks = std::mem::take(&mut self.chunks);
        ChunkMap::new(image, part.chunker, chunks).map(Some).map_err(|error| error.to_string())
    }
}

fn read(path: &Path, image: Digest) -> Option<ChunkMap> {
    let mut file = io::BufReader::new(File::open(path).ok()?);
    let mut joining = Joining::of(MAX_IMAGE);
    loop {
        let mut len = [0; size_of::<u32>()];
        file.read_exact(&mut len).ok()?;
        let len = usize::try_from(u32::from_le_bytes(len)).ok().filter(|len| *len <= MAX_FRAME)?;
        let mut body = vec![0; len];
        file.read_exact(&mut body).ok()?;
        if let Some(map) = joining.take(image, decode(&body).ok()?).ok()? {
            return Some(map);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sifleet_common::chunk::{CHUNKER, ChunkDigest};

    fn map(seed: u32, chunks: u32) -> Arc<ChunkMap> {
        let image = Digest::from(blake3::hash(&seed.to_le_bytes()));
        let chunk = |n: u32| Chunk { digest: ChunkDigest::of(&n.to_le_bytes()), len: 1 + n };
        Arc::new(ChunkMap::new(image, CHUNKER, (0..chunks).map(chunk).collect()).unwrap())
    }

    #[test]
    fn a_kept_map_is_found_by_the_next_life() {
        let folder = tempfile::tempdir().unwrap();
        let map = map(1, 40_000);
        Maps::within(folder.path().join("maps")).put(&map);
        let again = Maps::within(folder.path().join("maps"));
        assert_eq!(again.list(), [map.image()].into());
        assert_eq!(again.get(&map.image()).unwrap(), map);
        assert!(again.get(&Digest::from(blake3::hash(b"other"))).is_none());
    }

    #[test]
    fn a_damaged_map_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let map = map(1, 100);
        Maps::within(folder.path().to_owned()).put(&map);
        let path = folder.path().join(format!("{}.map", map.image().hex()));
        let whole = fs::read(&path).unwrap();
        for cut in [0, 3, 4, whole.len() - 1] {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(Maps::within(folder.path().to_owned()).get(&map.image()).is_none(), "{cut}");
        }
        fs::write(&path, [0xff; 64]).unwrap();
        assert!(Maps::within(folder.path().to_owned()).get(&map.image()).is_none());
    }

    #[test]
    fn a_map_of_more_than_the_image_is_refused_before_it_is_whole() {
        let image = Digest::from(blake3::hash(b"image"));
        let part = |lens: &[u32]| MapPart {
            chunker: CHUNKER,
            chunks: lens.iter().map(|len| Chunk { digest: ChunkDigest::of(b"x"), len: *len }).collect(),
            last: false,
        };
        let mut joining = Joining::of(100_000);
        assert_eq!(joining.take(image, part(&[50_000, 50_000])), Ok(None));
        assert!(joining.take(image, part(&[1])).unwrap_err().contains("more than 100000 bytes"));
        let mut joining = Joining::of(100_000);
        assert_eq!(joining.take(image, part(&[1; 13])), Ok(None));
        assert!(joining.take(image, part(&[1])).unwrap_err().contains("more chunks"));
    }

    #[test]
    fn memory_holds_a_few() {
        let folder = tempfile::tempdir().unwrap();
        let maps = Maps::within(folder.path().to_owned());
        for seed in 0..20 {
            maps.put(&map(seed, 3));
        }
        assert_eq!(maps.held().len(), HELD);
        assert!(maps.get(&map(0, 3).image()).is_some(), "from the disk");
    }
}
