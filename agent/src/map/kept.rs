//! Chunk maps of images that were seen here, kept on disk so that none is made twice.
//!
//! Owns the folder `maps` of the state directory: one file for each image, named by its digest, oldest thrown away
//! first. What is read is checked like what a stranger sends, and a file that is not right is as good as none: a map
//! can be made again. In memory a map is once, however many use it, and little is kept that nobody uses: that of an image
//! of 50 GB has 55 MB.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use sifleet_common::chunk::{CHUNKER, Chunk, ChunkMap, MAX_CHUNK, MAX_IMAGE, MIN_CHUNK};
use sifleet_common::digest::Digest;
use sifleet_common::wire::chunk::{MapPart, map_parts};
use sifleet_common::wire::frame::{MAX_FRAME, decode, encode};
use tracing::warn;

/// Bytes of maps kept, at most: those of 300 GB of images.
const MAX_KEPT: u64 = 256 * 1024 * 1024;
/// Chunks of maps held in memory for those who ask again: 9 MB, for 8 GB of images.
const HELD: usize = 250_000;

/// The maps of this node.
#[derive(Debug)]
pub struct Maps {
    folder: PathBuf,
    held: Mutex<Held>,
    /// For reading a map: whoever wants the same one meanwhile shares it.
    reading: Mutex<()>,
}

/// What is in memory.
#[derive(Debug, Default)]
struct Held {
    /// Held for the next one who asks, the newest last.
    newest: VecDeque<Arc<ChunkMap>>,
    /// The last one that the disk did not take.
    unwritten: Option<Arc<ChunkMap>>,
    /// In use by somebody.
    used: BTreeMap<Digest, Weak<ChunkMap>>,
}

impl Held {
    fn get(&self, image: &Digest) -> Option<Arc<ChunkMap>> {
        self.used.get(image)?.upgrade()
    }

    fn put(&mut self, map: &Arc<ChunkMap>) {
        self.used.retain(|_, map| map.strong_count() > 0);
        self.used.insert(map.image(), Arc::downgrade(map));
        self.unwritten.take_if(|other| other.image() == map.image());
        self.newest.retain(|other| other.image() != map.image());
        if map.chunks().len() <= HELD {
            self.newest.push_back(Arc::clone(map));
        }
        while self.newest.iter().map(|map| map.chunks().len()).sum::<usize>() > HELD {
            self.newest.pop_front();
        }
    }
}

impl Maps {
    /// Keeps maps in a folder, which is made when there is something to keep.
    #[must_use]
    pub fn within(folder: PathBuf) -> Self {
        Self { folder, held: Mutex::default(), reading: Mutex::default() }
    }

    /// Returns the map of an image, if it is kept. Blocks for the disk.
    #[must_use]
    pub fn get(&self, image: &Digest) -> Option<Arc<ChunkMap>> {
        let held = || self.held().get(image);
        held().or_else(|| {
            let _one = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
            held().or_else(|| {
                let map = Arc::new(read(&self.path(image), *image)?);
                self.held().put(&map);
                Some(map)
            })
        })
    }

    /// Lists the chunks of a kept map in order, without having all in memory; ends too early where the file is not right.
    /// Blocks for the disk.
    #[must_use]
    pub fn chunks(&self, image: &Digest) -> Option<Box<dyn Iterator<Item = Chunk>>> {
        if let Some(map) = self.held().get(image) {
            return Some(Box::new((0..).map_while(move |at| map.chunks().get(at).copied())));
        }
        let parts = Parts::open(&self.path(image))?.take_while(|part| part.chunker == CHUNKER);
        let possible = |chunk: &Chunk| (1..=MAX_CHUNK).contains(&(chunk.len as usize));
        Some(Box::new(parts.flat_map(|part| part.chunks).take_while(possible)))
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
        self.held().put(map);
        if let Err(error) = self.write(map) {
            warn!(digest = %map.image(), error = &error as &dyn std::error::Error, "a chunk map cannot be kept");
            self.held().unwritten = Some(Arc::clone(map));
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

    /// What is held is sound whatever panicked meanwhile.
    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
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

/// The parts of a map in a file, until one is not right.
struct Parts(io::BufReader<File>);

impl Parts {
    fn open(path: &Path) -> Option<Self> {
        Some(Self(io::BufReader::new(File::open(path).ok()?)))
    }
}

impl Iterator for Parts {
    type Item = MapPart;

    fn next(&mut self) -> Option<MapPart> {
        let mut len = [0; size_of::<u32>()];
        self.0.read_exact(&mut len).ok()?;
        let len = usize::try_from(u32::from_le_bytes(len)).ok().filter(|len| *len <= MAX_FRAME)?;
        let mut body = vec![0; len];
        self.0.read_exact(&mut body).ok()?;
        decode(&body).ok()
    }
}

fn read(path: &Path, image: Digest) -> Option<ChunkMap> {
    let mut joining = Joining::of(MAX_IMAGE);
    Parts::open(path)?.find_map(|part| joining.take(image, part).transpose())?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sifleet_common::chunk::ChunkDigest;

    fn map(seed: u32, chunks: u32) -> Arc<ChunkMap> {
        let image = Digest::from(blake3::hash(&seed.to_le_bytes()));
        let chunk = |n: u32| Chunk { digest: ChunkDigest::of(&n.to_le_bytes()), len: 1 + n % 1_000 };
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
        let chunks = u32::try_from(HELD / 4).unwrap();
        for seed in 0..6 {
            maps.put(&map(seed, chunks));
        }
        let in_memory = |seed| maps.held().get(&map(seed, 1).image()).is_some();
        assert_eq!([0, 1, 2, 3, 4, 5].map(in_memory), [false, false, true, true, true, true]);
        assert!(maps.get(&map(0, 1).image()).is_some(), "from the disk");
    }

    #[test]
    fn a_large_map_is_in_memory_once_and_only_while_it_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let maps = Maps::within(folder.path().to_owned());
        let large = map(1, u32::try_from(HELD).unwrap() + 1);
        let image = large.image();
        let small = map(2, 10);
        maps.put(&small);
        maps.put(&large);
        assert!(Arc::ptr_eq(&maps.get(&image).unwrap(), &large));
        let other = small.image();
        drop((large, small));
        assert!(maps.held().get(&image).is_none() && maps.held().get(&other).is_some());
        let read = maps.get(&image).unwrap();
        assert!(Arc::ptr_eq(&maps.get(&image).unwrap(), &read));
    }

    #[test]
    fn a_map_that_the_disk_does_not_take_stays_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("maps"), "no folder").unwrap();
        let maps = Maps::within(folder.path().join("maps"));
        let large = map(1, u32::try_from(HELD).unwrap() + 1);
        maps.put(&large);
        let image = large.image();
        drop(large);
        assert!(maps.get(&image).is_some());
    }

    #[test]
    fn the_chunks_of_a_map_are_the_same_in_memory_and_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let maps = Maps::within(folder.path().to_owned());
        let map = map(1, 40_000);
        maps.put(&map);
        for maps in [&maps, &Maps::within(folder.path().to_owned())] {
            assert!(maps.chunks(&map.image()).unwrap().eq(map.chunks().iter().copied()));
        }
        assert!(maps.chunks(&Digest::from(blake3::hash(b"other"))).is_none());
    }
}
