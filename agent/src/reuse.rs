//! Chunks that are on this node already, in images of other names: copied, never fetched.
//!
//! Every chunk is verified while it is copied, so neither a file that changed nor a map that lies can do harm. Runs on
//! a thread that may wait for the disk.

use std::fs::File;
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
    let wanted = Wanted::of(keeper);
    let mut copied = 0;
    for (image, candidate) in images {
        if !go_on() || keeper.have().count() == keeper.layout().spans().count() as usize {
            break;
        }
        let Some((_, file)) = candidate.open() else { continue };
        let Some(map) = maps.get(image) else { continue };
        let mut at = 0;
        let before = copied;
        for chunk in map.chunks() {
            if !go_on() {
                return Ok(copied);
            }
            let mut places = wanted.places(keeper, &chunk.digest).peekable();
            // A chunk that an image repeats was copied to all its places the first time.
            if places.peek().is_some_and(|first| keeper.lacks(*first)) {
                for place in places {
                    copied += one(keeper, &file, at, place)?;
                }
            }
            at += u64::from(chunk.len);
        }
        if copied > before {
            info!(image = %candidate.name, bytes = copied - before, "chunks are reused");
        }
    }
    Ok(copied)
}

/// Copies one chunk; a chunk that is not what the map says is left to the network.
fn one(keeper: &Keeper, file: &File, at: u64, place: usize) -> Result<u64, StagingError> {
    let Some(chunk) = keeper.layout().chunk(place).filter(|_| keeper.lacks(place)) else { return Ok(0) };
    let mut bytes = vec![0; chunk.len as usize];
    if politely(file, at, &mut bytes).is_err() {
        return Ok(0);
    }
    match keeper.keep(place..place + 1, &bytes) {
        Ok(new) => Ok(new),
        Err(KeepError::Wrong) => Ok(0),
        Err(KeepError::Staging(error)) => Err(error),
    }
}

/// The missing chunks in the order of their digests.
struct Wanted(Vec<usize>);

impl Wanted {
    fn of(keeper: &Keeper) -> Self {
        let chunks = keeper.layout().map().chunks();
        let mut places: Vec<usize> = (0..chunks.len()).filter(|at| keeper.lacks(*at)).collect();
        places.sort_by_key(|at| chunks.get(*at).map(|chunk| chunk.digest));
        Self(places)
    }

    /// Lists where a chunk is wanted.
    fn places<'a>(&'a self, keeper: &'a Keeper, digest: &'a ChunkDigest) -> impl Iterator<Item = usize> + 'a {
        let digest_of = |at: &usize| keeper.layout().chunk(*at).map(|chunk| chunk.digest);
        let first = self.0.partition_point(|at| digest_of(at) < Some(*digest));
        let rest = self.0.get(first..).unwrap_or_default().iter().copied();
        rest.take_while(move |at| digest_of(at) == Some(*digest))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

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
