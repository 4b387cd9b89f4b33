//! A set of spans of one image: a bit for each.

use sifleet_common::chunk::span::SpanId;

const BITS: usize = u64::BITS as usize;

/// Which spans of an image there are, of a fixed number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanSet {
    words: Vec<u64>,
    len: u32,
    count: usize,
}

impl SpanSet {
    /// Makes a set without a span, of an image of `len` spans.
    #[must_use]
    pub fn empty(len: u32) -> Self {
        Self { words: vec![0; (len as usize).div_ceil(BITS)], len, count: 0 }
    }

    /// Makes a set with all spans.
    #[must_use]
    pub fn full(len: u32) -> Self {
        let mut set = Self::empty(len);
        for span in 0..len {
            set.insert(SpanId(span));
        }
        set
    }

    /// Returns how many spans the image has.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Returns how many spans are in the set.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Tells whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Tells whether a span is in the set.
    #[must_use]
    pub fn contains(&self, span: SpanId) -> bool {
        self.words.get(span.index() / BITS).is_some_and(|word| word & bit(span) != 0)
    }

    /// Adds a span; tells whether it was not there. One that the image does not have is not added.
    pub fn insert(&mut self, span: SpanId) -> bool {
        if span.0 >= self.len || self.contains(span) {
            return false;
        }
        if let Some(word) = self.words.get_mut(span.index() / BITS) {
            *word |= bit(span);
            self.count += 1;
        }
        true
    }

    /// Takes a span away; tells whether it was there.
    pub fn remove(&mut self, span: SpanId) -> bool {
        let there = self.contains(span);
        if there && let Some(word) = self.words.get_mut(span.index() / BITS) {
            *word &= !bit(span);
            self.count -= 1;
        }
        there
    }

    /// Lists the spans that another set of the same image has too, in order.
    pub fn common<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = SpanId> + Clone + 'a {
        let words = self.words.iter().zip(&other.words).map(|(word, kept)| word & kept);
        (0_u32..).zip(words).flat_map(|(at, word)| bits(at, word))
    }

    /// Lists the spans, in order.
    pub fn iter(&self) -> impl Iterator<Item = SpanId> {
        (0_u32..).zip(&self.words).flat_map(|(at, word)| bits(at, *word))
    }
}

/// Lists the spans of one word.
fn bits(at: u32, word: u64) -> impl Iterator<Item = SpanId> + Clone {
    let mut left = word;
    std::iter::from_fn(move || {
        let low = (left != 0).then(|| left.trailing_zeros())?;
        left &= left - 1;
        Some(SpanId(at * u64::BITS + low))
    })
}

const fn bit(span: SpanId) -> u64 {
    1 << (span.0 % u64::BITS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_set_of_bits_is_a_set() {
        let (mut bits, mut set) = (SpanSet::empty(150), BTreeSet::new());
        for n in (0..400_u32).map(|n| n * 37 % 151) {
            let span = SpanId(n);
            if n % 3 == 0 {
                assert_eq!(bits.remove(span), set.remove(&span));
            } else if n < 150 {
                assert_eq!(bits.insert(span), set.insert(span));
            }
            assert_eq!(bits.count(), set.len());
        }
        assert!(bits.iter().eq(set.iter().copied()));
        assert!(!bits.insert(SpanId(150)), "the image has no such span");
        assert_eq!(SpanSet::full(150).count(), 150);
        assert!(SpanSet::full(150).common(&bits).eq(bits.iter()));
        assert_eq!(SpanSet::empty(150).common(&bits).count(), 0);
    }
}
