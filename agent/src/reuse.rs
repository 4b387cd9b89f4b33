//! Chunks that are on this node already, in images of other names: copied, never fetched.
//!
//! Every chunk is verified while it is copied, so neither a file that changed nor a map that lies can do harm. Runs on
//! a thread that may wait for the disk.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use sifleet_common::chunk::ChunkDigest;
use sifleet_common::digest::Digest;
use sifleet_common::name::ImageName;
use tracing::{debug, info};

use crate::describe::Candidate;
use crate::fetch::keep::{KeepError, Keeper};
use crate::hash::read::{Sequential, politely};
use crate::map;
use crate::map::kept::Maps;
use crate::staging::StagingError;

/// Images without a known map that one is made of: each has to be read from one end to the other.
const MADE: usize = 2;
/// Bytes of an image that are read at once, at most.
const STRETCH: u64 = 4 * 1024 * 1024;
/// Bytes between two chunks that are read along: to read again elsewhere takes a disk longer.
const GAP: u64 = 128 * 1024;
/// Names that have fewer characters in common at their beginning are not alike.
const ALIKE: usize = 3;

/// Tells how alike two names are: for the same name most, 0 if they have nothing to do with each other.
///
/// Versions of one image mostly begin alike: `openfoam_v2312.sif`, `openfoam_v2406.sif`.
#[must_use]
pub fn likeness(one: &ImageName, other: &ImageName) -> usize {
    if one == other {
        return usize::MAX;
    }
    let common = one.file_name().bytes().zip(other.file_name().bytes()).take_while(|(a, b)| a == b).count();
    if common >= ALIKE { common } else { 0 }
}

/// Leaves the images that have a map, and makes those of the first that have none. Blocks for the disk.
pub fn mapped(
    images: Vec<(Digest, Candidate)>,
    maps: &Maps,
    go_on: impl Fn() -> bool,
) -> Vec<(Digest, Candidate)> {
    let (kept, mut made) = (maps.list(), 0);
    let mut has_map = |(image, candidate): &(Digest, Candidate)| {
        if kept.contains(image) {
            return true;
        }
        if made >= MADE || !go_on() {
            return false;
        }
        let Some((_, file)) = candidate.open() else { return false };
        made += 1;
        match map::make(*image, Sequential::new(&file)) {
            Ok(map) => {
                maps.put(&Arc::new(map));
                true
            }
            Err(error) => {
                debug!(image = %candidate.name, error = &error as &dyn std::error::Error, "no chunks are reused");
                false
            }
        }
    };
    images.into_iter().filter(&mut has_map).collect()
}

/// Copies every missing chunk that one of these images holds, each with its map; returns the bytes that were copied.
///
/// # Errors
/// When the staging file cannot be written. An image that cannot be read is passed over.
pub fn copy(
    keeper: &Keeper,
    images: &[(Digest, Candidate)],
    maps: &Maps,
    go_on: impl Fn() -> bool,
) -> Result<u64, StagingError> {
    let (mut wanted, mut buffer, mut copied) = (Wanted::of(keeper), Vec::new(), 0);
    for (image, candidate) in images {
        if !go_on() || keeper.have().count() == keeper.layout().spans().count() as usize {
            break;
        }
        let Some((_, file)) = candidate.open() else { continue };
        // Not held whole: together with that of the new image it may be large.
        let Some(chunks) = maps.chunks(image) else { continue };
        wanted.begin();
        let (mut stretch, mut at, before) = (Stretch::default(), 0, copied);
        for chunk in chunks {
            if !go_on() {
                return Ok(copied);
            }
            let here = at..at + u64::from(chunk.len);
            at = here.end;
            let places = wanted.plan(keeper, &chunk.digest);
            if places.is_empty() {
                continue;
            }
            if !stretch.has_room(&here) {
                copied += std::mem::take(&mut stretch).copy(keeper, &file, &mut buffer)?;
            }
            stretch
                .add(&here, places.iter().map(|place| *place as usize).filter(|place| keeper.lacks(*place)));
        }
        copied += stretch.copy(keeper, &file, &mut buffer)?;
        if copied > before {
            info!(image = %candidate.name, bytes = copied - before, "chunks are reused");
        }
    }
    Ok(copied)
}

/// Chunks of an image that lie close together: they are read at once, for a disk takes as long for each as for many.
#[derive(Default)]
struct Stretch {
    bytes: Range<u64>,
    /// Where each chunk begins in the image, and where it is wanted.
    chunks: Vec<(u64, usize)>,
}

impl Stretch {
    /// Tells whether a chunk that comes later in the image is close enough.
    fn has_room(&self, chunk: &Range<u64>) -> bool {
        let close = chunk.start - self.bytes.end <= GAP && chunk.end - self.bytes.start <= STRETCH;
        self.chunks.is_empty() || close
    }

    fn add(&mut self, chunk: &Range<u64>, places: impl Iterator<Item = usize>) {
        if self.chunks.is_empty() {
            self.bytes.start = chunk.start;
        }
        self.bytes.end = chunk.end;
        self.chunks.extend(places.map(|place| (chunk.start, place)));
    }

    /// Copies all of them, those that follow one another in both images together.
    fn copy(&self, keeper: &Keeper, file: &File, buffer: &mut Vec<u8>) -> Result<u64, StagingError> {
        buffer.resize(usize::try_from(self.bytes.end - self.bytes.start).unwrap_or(usize::MAX), 0);
        if politely(file, self.bytes.start, buffer).is_err() {
            return Ok(0);
        }
        let layout = keeper.layout();
        let follows = |(from, place): &(u64, usize), (next, next_place): &(u64, usize)| {
            let len = layout.chunk(*place).map(|chunk| u64::from(chunk.len));
            *next_place == place + 1 && len == next.checked_sub(*from)
        };
        let mut copied = 0;
        for run in self.chunks.chunk_by(follows) {
            copied += match self.keep(keeper, run, buffer)? {
                Some(new) => new,
                // A chunk that is not what the map says is left to the network, and not those beside it.
                None => run
                    .iter()
                    .map(|one| Ok(self.keep(keeper, std::slice::from_ref(one), buffer)?.unwrap_or(0)))
                    .sum::<Result<u64, StagingError>>()?,
            };
        }
        Ok(copied)
    }

    /// Keeps chunks that follow one another, unless one is not what the map says.
    fn keep(
        &self,
        keeper: &Keeper,
        run: &[(u64, usize)],
        buffer: &[u8],
    ) -> Result<Option<u64>, StagingError> {
        let [(from, first), ..] = run else { return Ok(Some(0)) };
        let places = *first..first + run.len();
        let bytes = keeper.layout().bytes(&places).and_then(|place| {
            let start = usize::try_from(from - self.bytes.start).ok()?;
            buffer.get(start..start + usize::try_from(place.end - place.start).ok()?)
        });
        match bytes.map(|bytes| keeper.keep(places, bytes)) {
            Some(Ok(new)) => Ok(Some(new)),
            Some(Err(KeepError::Wrong)) | None => Ok(None),
            Some(Err(KeepError::Staging(error))) => Err(error),
        }
    }
}

/// The missing chunks in the order of their digests.
struct Wanted {
    places: Vec<u32>,
    /// Chunks of the image that is looked through which were planned to be copied, each at its first place: one that an
    /// image repeats is copied to all its places once.
    planned: Vec<bool>,
}

impl Wanted {
    fn of(keeper: &Keeper) -> Self {
        let chunks = keeper.layout().map().chunks();
        let all = (0..).take(chunks.len());
        let mut places: Vec<u32> = all.filter(|at| keeper.lacks(*at as usize)).collect();
        places.sort_unstable_by_key(|at| chunks.get(*at as usize).map(|chunk| (chunk.digest, *at)));
        Self { planned: vec![false; places.len()], places }
    }

    /// Begins with another image.
    fn begin(&mut self) {
        self.planned.fill(false);
    }

    /// Lists where a chunk was wanted; nowhere, if it was planned already.
    fn plan(&mut self, keeper: &Keeper, digest: &ChunkDigest) -> &[u32] {
        let digest_of = |at: &u32| keeper.layout().chunk(*at as usize).map(|chunk| chunk.digest);
        let first = self.places.partition_point(|at| digest_of(at) < Some(*digest));
        match self.planned.get_mut(first) {
            Some(planned) if !*planned && self.places.get(first).and_then(digest_of) == Some(*digest) => {
                *planned = true;
            }
            // Not counted again: many images repeat a chunk of zeros without end.
            Some(_) | None => return &[],
        }
        let rest = self.places.get(first..).unwrap_or_default();
        let count = rest.iter().take_while(|at| digest_of(at) == Some(*digest)).count();
        rest.get(..count).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use sifleet_common::chunk::{CHUNKER, Chunk, ChunkMap};

    use super::*;
    use crate::layout::Layout;
    use crate::scan::Facts;
    use crate::staging::Staging;

    fn noise(seed: u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn keeper(root: &Path, bytes: &[u8]) -> Keeper {
        let image = Digest::from(blake3::hash(bytes));
        let layout = Layout::of(Arc::new(map::make(image, bytes).unwrap()));
        Keeper::new(Arc::new(layout), Staging::open(root, image, bytes.len() as u64, 0).unwrap())
    }

    fn put(root: &Path, name: &str, bytes: &[u8]) -> (Digest, Candidate) {
        std::fs::write(root.join(name), bytes).unwrap();
        let facts = Facts::from(&rustix::fs::stat(root.join(name)).unwrap());
        let candidate = Candidate {
            root: root.to_owned(),
            trusted: true,
            name: name.parse().unwrap(),
            size: facts.print.size,
            modified: facts.print.modified(),
        };
        (Digest::from(blake3::hash(bytes)), candidate)
    }

    #[test]
    fn what_an_older_image_holds_is_not_fetched() {
        let root = tempfile::tempdir().unwrap();
        let old = noise(1, 3_000_000);
        let mut new = old.clone();
        new.splice(1_000_000..1_000_010, noise(2, 50_000));
        let keeper = keeper(root.path(), &new);
        let maps = Maps::within(root.path().join("maps"));
        let images = mapped(vec![put(root.path(), "a.sif", &old)], &maps, || true);
        let copied = copy(&keeper, &images, &maps, || true).unwrap();
        assert!(copied > 2_600_000 && copied < 3_000_000, "{copied}");
        assert_eq!(maps.list().len(), 1, "the map that was made is kept");
        let lacking: usize = keeper.layout().spans().iter().map(|(span, _)| keeper.lacking(span).len()).sum();
        assert!((1..=20).contains(&lacking), "{lacking}");
    }

    #[test]
    fn a_file_that_is_not_what_its_map_says_gives_nothing_wrong() {
        let root = tempfile::tempdir().unwrap();
        let bytes = noise(1, 1_000_000);
        let keeper = keeper(root.path(), &bytes);
        let maps = Maps::within(root.path().join("maps"));
        maps.put(keeper.layout().map());
        let mut wrong = bytes.clone();
        wrong[500_000] ^= 1;
        let (_, candidate) = put(root.path(), "a.sif", &wrong);
        let image = keeper.layout().image();
        let copied = copy(&keeper, &[(image, candidate)], &maps, || true).unwrap();
        assert!(copied > 800_000 && copied < 1_000_000, "{copied}");
    }

    #[test]
    fn chunks_that_moved_or_are_repeated_are_all_found() {
        let root = tempfile::tempdir().unwrap();
        let (noise, zeros) = (noise(1, 9_000_000), vec![0; 2_000_000]);
        let old = [&noise[..], &zeros].concat();
        let new = [&zeros[..], &noise[6_000_000..], &zeros, &noise[..6_000_000]].concat();
        let keeper = keeper(root.path(), &new);
        let maps = Maps::within(root.path().join("maps"));
        let images = mapped(vec![put(root.path(), "a.sif", &old)], &maps, || true);
        let copied = copy(&keeper, &images, &maps, || true).unwrap();
        // Around each of the four seams chunks are new.
        assert!(copied > new.len() as u64 - 4 * 256 * 1024, "{copied}");
        assert_eq!(copied, keeper.kept());
        for (span, place) in keeper.layout().spans().iter().filter(|(span, _)| keeper.is_whole(*span)) {
            let mut bytes = vec![0; usize::try_from(place.bytes.end - place.bytes.start).unwrap()];
            keeper.staging().read(&mut bytes, place.bytes.start).unwrap();
            assert!(keeper.layout().is_right(&place.chunks, &bytes), "{span:?}");
        }
    }

    #[test]
    fn a_chunk_that_both_images_repeat_without_end_is_planned_once() {
        let root = tempfile::tempdir().unwrap();
        let (image, digest, count) = (Digest::from(blake3::hash(b"zeros")), ChunkDigest::of(b"0"), 200_000);
        let chunks = vec![Chunk { digest, len: 1 }; count];
        let layout = Layout::of(Arc::new(ChunkMap::new(image, CHUNKER, chunks).unwrap()));
        let staging = Staging::open(root.path(), image, count as u64, 0).unwrap();
        let keeper = Keeper::new(Arc::new(layout), staging);
        let mut wanted = Wanted::of(&keeper);
        assert_eq!(wanted.plan(&keeper, &digest).len(), count);
        // To count them each time would take minutes.
        assert!((0..count).all(|_| wanted.plan(&keeper, &digest).is_empty()));
        assert!(wanted.plan(&keeper, &ChunkDigest::of(b"1")).is_empty());
        wanted.begin();
        assert_eq!(wanted.plan(&keeper, &digest).len(), count);
    }

    #[test]
    fn what_one_file_does_not_hold_any_longer_the_next_one_gives() {
        let root = tempfile::tempdir().unwrap();
        let bytes = noise(1, 1_000_000);
        let keeper = keeper(root.path(), &bytes);
        let maps = Maps::within(root.path().join("maps"));
        maps.put(keeper.layout().map());
        let image = keeper.layout().image();
        let wrong = put(root.path(), "a.sif", &noise(2, 1_000_000)).1;
        let short = put(root.path(), "b.sif", &bytes[..900_000]).1;
        let right = put(root.path(), "c.sif", &bytes).1;
        let images = [wrong, short, right].map(|candidate| (image, candidate));
        assert_eq!(copy(&keeper, &images, &maps, || true).unwrap(), 1_000_000);
    }

    #[test]
    fn names_of_versions_are_alike() {
        let name = |text: &str| text.parse::<ImageName>().unwrap();
        let like = |one: &str, other: &str| likeness(&name(one), &name(other));
        assert_eq!(like("a/b.sif", "a/b.sif"), usize::MAX);
        assert!(
            like("compute/openfoam_v2312.sif", "openfoam_v2406.sif") > like("openfoam_v1.sif", "openmpi.sif")
        );
        assert_eq!(like("vnc.sif", "openfoam.sif"), 0);
    }
}
