//! The digest of a whole image whose parts arrive in any order, without reading them again.
//!
//! A digest of BLAKE3 is the root of a tree, and every subtree of it can be hashed alone. So what was kept is hashed
//! while it is in memory; only leaves that two parts share are read back in the end. Does no I/O.
//! Outside facts: blake3's module `hazmat`; the BLAKE3 paper, section 2.1: the left child of every parent is a whole
//! subtree, the largest that leaves something to the right.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use sifleet_common::digest::Digest;

/// Bytes of a leaf of ours: what a processor hashes at once in its widest registers.
const LEAF: u64 = 16 * 1024;
/// Bytes read back at once.
const READ: u64 = 512 * 1024;

/// What is known of an image's tree.
#[derive(Debug)]
pub(super) struct Whole {
    /// Of the image, in bytes.
    size: u64,
    known: Mutex<Known>,
}

/// Subtrees that do not overlap, by their first leaf. Two that are siblings become their parent; the root is left to
/// [`Whole::finish`], because it is hashed in another way.
#[derive(Debug)]
struct Known {
    leaves: u64,
    subtrees: BTreeMap<u64, (Place, ChainingValue)>,
}

/// A whole subtree: two to the power of `height` leaves, fewer at the end of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    first: u64,
    height: u32,
}

impl Place {
    const fn end(self) -> u64 {
        self.first + (1 << self.height)
    }

    const fn sibling(self) -> u64 {
        self.first ^ (1 << self.height)
    }

    const fn parent(self) -> Self {
        let height = self.height + 1;
        Self { first: self.first >> height << height, height }
    }
}

impl Whole {
    /// Begins with nothing of an image of so many bytes.
    #[must_use]
    pub(super) const fn of(size: u64) -> Self {
        let known = Known { leaves: size.div_ceil(LEAF), subtrees: BTreeMap::new() };
        Self { size, known: Mutex::new(known) }
    }

    /// Takes in bytes that are kept, from `at` on. May be called by several threads at once, and more than once for the
    /// same bytes.
    pub(super) fn take(&self, bytes: &[u8], at: u64) {
        let end = at.saturating_add(bytes.len() as u64);
        let leaves = at.div_ceil(LEAF)..if end >= self.size { self.size.div_ceil(LEAF) } else { end / LEAF };
        let lacking = self.known().lacking(leaves);
        // Not while the others wait.
        let hashed: Vec<_> = lacking.into_iter().filter_map(|place| self.hash(place, bytes, at)).collect();
        let mut known = self.known();
        for (place, value) in hashed {
            known.insert(place, value);
        }
    }

    /// Returns the digest of the image, when all of it was kept; reads what no single part contained.
    ///
    /// # Errors
    /// Those of `read`, which fills a buffer of at most 512 KiB from a place on.
    pub(super) fn finish<E>(
        &self,
        mut read: impl FnMut(&mut [u8], u64) -> Result<(), E>,
    ) -> Result<Digest, E> {
        let mut buffer = Vec::new();
        let mut fill = |bytes: Range<u64>| {
            buffer.resize(usize::try_from(bytes.end - bytes.start).unwrap_or(usize::MAX), 0);
            read(&mut buffer, bytes.start).map(|()| std::mem::take(&mut buffer))
        };
        if self.size <= LEAF {
            return fill(0..self.size).map(|bytes| Digest::from(blake3::hash(&bytes)));
        }
        let gaps = self.known().gaps();
        for gap in gaps {
            let end = gap.end.saturating_mul(LEAF).min(self.size);
            for from in (gap.start * LEAF..end).step_by(usize::try_from(READ).unwrap_or(usize::MAX)) {
                self.take(&fill(from..end.min(from + READ))?, from);
            }
        }
        Ok(self.known().root())
    }

    fn hash(&self, place: Place, bytes: &[u8], at: u64) -> Option<(Place, ChainingValue)> {
        let (from, end) = (place.first * LEAF, place.end().saturating_mul(LEAF).min(self.size));
        let within = |at_image: u64| usize::try_from(at_image.checked_sub(at)?).ok();
        let part = bytes.get(within(from)?..within(end)?)?;
        Some((place, Hasher::new().set_input_offset(from).update(part).finalize_non_root()))
    }

    /// Subtrees are sound whatever panicked while they were held.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Cuts what is not known of some leaves into the largest subtrees.
    fn lacking(&self, leaves: Range<u64>) -> Vec<Place> {
        let (mut lacking, mut at) = (Vec::new(), leaves.start);
        while at < leaves.end {
            let before = self.subtrees.range(..=at).next_back();
            if let Some((_, (place, _))) = before.filter(|(_, (place, _))| place.end() > at) {
                at = place.end();
                continue;
            }
            let next = self.subtrees.range(at..).next().map_or(leaves.end, |(first, _)| *first);
            let place = self.largest(at, next.min(leaves.end));
            at = place.end();
            lacking.push(place);
        }
        lacking
    }

    /// Returns the largest subtree from a leaf on that ends before another one and is not the root.
    fn largest(&self, first: u64, end: u64) -> Place {
        let most = end.saturating_sub(first).max(1).ilog2();
        let aligned = if first == 0 { most } else { most.min(first.trailing_zeros()) };
        let is_root = first == 0 && 1 << aligned >= self.leaves;
        Place { first, height: if is_root { aligned.saturating_sub(1) } else { aligned } }
    }

    /// Adds a subtree, unless another thread was faster with any of it.
    fn insert(&mut self, mut place: Place, mut value: ChainingValue) {
        let before = self.subtrees.range(..place.end()).next_back();
        if before.is_some_and(|(_, (other, _))| other.end() > place.first) {
            return;
        }
        while place.parent().first > 0 || place.parent().end() < self.leaves {
            let sibling = self.subtrees.get(&place.sibling()).copied();
            let Some((sibling, other)) = sibling.filter(|(sibling, _)| sibling.height == place.height) else {
                break;
            };
            self.subtrees.remove(&sibling.first);
            let (left, right) = if sibling.first < place.first { (other, value) } else { (value, other) };
            value = merge_subtrees_non_root(&left, &right, Mode::Hash);
            place = place.parent();
        }
        self.subtrees.insert(place.first, (place, value));
    }

    /// Lists the leaves that are not known.
    fn gaps(&self) -> Vec<Range<u64>> {
        let (mut gaps, mut at) = (Vec::new(), 0);
        for (place, _) in self.subtrees.values() {
            gaps.push(at..place.first);
            at = place.end();
        }
        gaps.push(at..self.leaves);
        gaps.retain(|gap| !gap.is_empty());
        gaps
    }

    /// Joins what is left, each subtree no larger than the one before it. What is not whole has a digest that nothing has.
    fn root(&self) -> Digest {
        let mut from_the_end = self.subtrees.values().rev().map(|(_, value)| *value);
        let mut right = from_the_end.next().unwrap_or_default();
        let mut left = from_the_end.next().unwrap_or_default();
        for before in from_the_end {
            right = merge_subtrees_non_root(&left, &right, Mode::Hash);
            left = before;
        }
        Digest::from(merge_subtrees_root(&left, &right, Mode::Hash))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    /// Finishes from an image in memory; returns the digest and how many bytes were read back.
    fn finish(whole: &Whole, image: &[u8]) -> (Digest, usize) {
        let mut back = 0;
        let read = |buffer: &mut [u8], at: u64| {
            let at = usize::try_from(at).unwrap();
            back += buffer.len();
            buffer.copy_from_slice(&image[at..at + buffer.len()]);
            Ok::<_, std::convert::Infallible>(())
        };
        (whole.finish(read).unwrap(), back)
    }

    const KIB: usize = 1024;

    #[test]
    fn nothing_that_arrived_in_one_part_is_read_back() {
        for len in [16 * KIB + 1, 32 * KIB, 33 * KIB, 48 * KIB, 64 * KIB, 80 * KIB + 7, 1_024 * KIB] {
            let (image, whole) = (noise(len), Whole::of(len as u64));
            whole.take(&image, 0);
            assert_eq!(finish(&whole, &image), (Digest::from(blake3::hash(&image)), 0), "{len}");
        }
    }

    #[test]
    fn what_never_arrived_is_read() {
        for len in [0, 1, 16 * KIB, 16 * KIB + 1, 3_000 * KIB + 5] {
            let (image, whole) = (noise(len), Whole::of(len as u64));
            assert_eq!(finish(&whole, &image), (Digest::from(blake3::hash(&image)), len), "{len}");
        }
    }

    #[test]
    fn a_wrong_byte_anywhere_is_another_digest() {
        let image = noise(100 * KIB);
        for at in [0, 20 * KIB, 99 * KIB] {
            let (mut wrong, whole) = (image.clone(), Whole::of(100 * 1024));
            wrong[at] ^= 1;
            whole.take(&wrong, 0);
            assert_ne!(finish(&whole, &image).0, Digest::from(blake3::hash(&image)));
        }
    }

    #[test]
    fn siblings_become_their_parent() {
        let (image, whole) = (noise(1_024 * KIB), Whole::of(1_024 * 1024));
        for at in (0..64).rev() {
            whole.take(&image[at * 16 * KIB..(at + 1) * 16 * KIB], (at * 16 * KIB) as u64);
        }
        assert_eq!(whole.known().subtrees.len(), 2, "the root's children");
    }

    #[test]
    fn what_two_threads_hashed_at_once_counts_once() {
        let image = noise(100 * KIB);
        let whole = Whole::of(100 * 1024);
        let slow = whole.known().lacking(1..2);
        whole.take(&image, 0);
        for place in slow {
            let (place, value) = whole.hash(place, &image, 0).unwrap();
            whole.known().insert(place, value);
        }
        assert_eq!(finish(&whole, &image), (Digest::from(blake3::hash(&image)), 0));
    }

    proptest! {
        #[test]
        fn parts_in_any_order_and_overlapping_give_the_digest(
            len in 0_usize..700_000,
            cuts in proptest::collection::vec((0_usize..700_000, 0_usize..200_000), 0..40),
        ) {
            let (image, whole) = (noise(len), Whole::of(len as u64));
            for (from, most) in cuts {
                let from = from % (len + 1);
                let end = len.min(from + most);
                whole.take(&image[from..end], from as u64);
            }
            prop_assert_eq!(finish(&whole, &image).0, Digest::from(blake3::hash(&image)));
        }
    }
}
