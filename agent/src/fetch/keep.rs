//! What is there already of an image that is being fetched, chunk by chunk, and the only way more gets there: verified.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sifleet_common::chunk::span::SpanId;
use sifleet_common::digest::Digest;

use super::set::SpanSet;
use super::whole::Whole;
use crate::layout::Layout;
use crate::staging::{Staging, StagingError};

/// Bytes read at once when what an earlier attempt left is looked at.
const STRETCH: u64 = 1024 * 1024;

/// Says why bytes were not kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// They are not those of the chunk map.
    #[error("the bytes are not those of the chunk map")]
    Wrong,
    /// The disk failed.
    #[error(transparent)]
    Staging(#[from] StagingError),
}

/// An image that grows.
#[derive(Debug)]
pub struct Keeper {
    layout: Arc<Layout>,
    staging: Staging,
    missing: Mutex<Missing>,
    whole: Whole,
}

#[derive(Debug)]
struct Missing {
    /// By chunk.
    chunks: Vec<bool>,
    /// How many chunks each span lacks.
    left: Vec<usize>,
    /// Bytes that are there.
    kept: u64,
}

impl Keeper {
    /// Begins with nothing.
    #[must_use]
    pub fn new(layout: Arc<Layout>, staging: Staging) -> Self {
        let chunks = vec![true; layout.map().chunks().len()];
        let left = layout.spans().iter().map(|(_, span)| span.chunks.len()).collect();
        let whole = Whole::of(layout.size());
        Self { layout, staging, missing: Mutex::new(Missing { chunks, left, kept: 0 }), whole }
    }

    /// Returns where everything lies.
    #[must_use]
    pub const fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Returns the file.
    #[must_use]
    pub const fn staging(&self) -> &Staging {
        &self.staging
    }

    /// Gives the file back, for publishing it.
    #[must_use]
    pub fn into_staging(self) -> Staging {
        self.staging
    }

    /// Looks at what an earlier attempt left; returns how many bytes of it are right. Blocks for the disk.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn resume(&self, go_on: impl Fn() -> bool) -> Result<u64, StagingError> {
        let (mut kept, mut buffer) = (0, Vec::new());
        let all = 0..self.layout.map().chunks().len();
        for stretch in self.layout.stretches(all, STRETCH) {
            let Some(bytes) = self.layout.bytes(&stretch) else { break };
            if !go_on() {
                break;
            }
            buffer.resize(usize::try_from(bytes.end - bytes.start).unwrap_or(usize::MAX), 0);
            self.staging.read(&mut buffer, bytes.start)?;
            for chunk in stretch {
                let Some(place) = self.layout.bytes(&(chunk..chunk + 1)) else { break };
                let within = |at: u64| usize::try_from(at - bytes.start).unwrap_or(usize::MAX);
                let piece = buffer.get(within(place.start)..within(place.end)).unwrap_or_default();
                if self.layout.is_right(&(chunk..chunk + 1), piece) {
                    kept += place.end - place.start;
                    self.whole.take(piece, place.start);
                    self.mark(chunk..chunk + 1);
                }
            }
        }
        Ok(kept)
    }

    /// Keeps consecutive chunks if they are right; returns the bytes that were not there before. Blocks for the disk.
    ///
    /// # Errors
    /// [`KeepError`]; nothing was kept.
    pub fn keep(&self, chunks: Range<usize>, bytes: &[u8]) -> Result<u64, KeepError> {
        if !self.layout.is_right(&chunks, bytes) {
            return Err(KeepError::Wrong);
        }
        let place = self.layout.bytes(&chunks).ok_or(KeepError::Wrong)?;
        self.staging.write(bytes, place.start)?;
        self.whole.take(bytes, place.start);
        Ok(self.mark(chunks))
    }

    /// Returns the digest of all that was kept, when nothing is missing. Blocks for the disk.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn digest(&self) -> Result<Digest, StagingError> {
        self.whole.finish(|buffer, at| self.staging.read(buffer, at))
    }

    fn mark(&self, chunks: Range<usize>) -> u64 {
        let (mut missing, mut new) = (self.missing(), 0);
        let Missing { chunks: by_chunk, left, kept } = &mut *missing;
        for at in chunks {
            let span = self.layout.span_of(at).and_then(|span| left.get_mut(span.index()));
            if let (Some(is_missing), Some(left), Some(chunk)) =
                (by_chunk.get_mut(at), span, self.layout.chunk(at))
                && std::mem::take(is_missing)
            {
                *left -= 1;
                new += u64::from(chunk.len);
            }
        }
        *kept += new;
        new
    }

    /// Returns how many bytes are there.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.missing().kept
    }

    /// Tells whether a chunk is missing.
    #[must_use]
    pub fn lacks(&self, chunk: usize) -> bool {
        self.missing().chunks.get(chunk).copied().unwrap_or(false)
    }

    /// Lists the missing chunks of a span, counted from its first.
    #[must_use]
    pub fn lacking(&self, span: SpanId) -> Vec<u32> {
        let Some(place) = self.layout.span(span) else { return Vec::new() };
        let missing = self.missing();
        let chunks = missing.chunks.get(place.chunks.clone()).unwrap_or_default();
        (0..).zip(chunks).filter(|(_, missing)| **missing).map(|(at, _)| at).collect()
    }

    /// Tells whether all of a span is there.
    #[must_use]
    pub fn is_whole(&self, span: SpanId) -> bool {
        self.missing().left.get(span.index()) == Some(&0)
    }

    /// Returns the spans that are there.
    #[must_use]
    pub fn have(&self) -> SpanSet {
        let mut have = SpanSet::empty(self.layout.spans().count());
        for (span, left) in (0..).map(SpanId).zip(&self.missing().left) {
            if *left == 0 {
                have.insert(span);
            }
        }
        have
    }

    /// Lists are sound whatever panicked while they were held.
    fn missing(&self) -> MutexGuard<'_, Missing> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    fn keeper(root: &std::path::Path, bytes: &[u8]) -> Keeper {
        let image = Digest::from(blake3::hash(bytes));
        let layout = Layout::of(Arc::new(crate::map::make(image, bytes).unwrap()));
        let staging = Staging::open(root, image, bytes.len() as u64, 0).unwrap();
        Keeper::new(Arc::new(layout), staging)
    }

    fn piece<'a>(keeper: &Keeper, bytes: &'a [u8], chunks: &Range<usize>) -> &'a [u8] {
        let place = keeper.layout().bytes(chunks).unwrap();
        &bytes[usize::try_from(place.start).unwrap()..usize::try_from(place.end).unwrap()]
    }

    #[test]
    fn what_is_kept_is_there_after_a_restart_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let bytes = noise(2_000_000);
        let first = keeper(root.path(), &bytes);
        let new = first.keep(3..9, piece(&first, &bytes, &(3..9))).unwrap();
        assert_eq!(first.keep(3..9, piece(&first, &bytes, &(3..9))).unwrap(), 0, "twice is once");
        assert_eq!(first.kept(), new);
        drop(first);
        let second = keeper(root.path(), &bytes);
        assert_eq!(second.resume(|| true).unwrap(), new);
        let count = second.layout().map().chunks().len();
        let kept: Vec<usize> = (0..count).filter(|at| !second.lacks(*at)).collect();
        assert_eq!(kept, [3, 4, 5, 6, 7, 8]);
        let within =
            |id| second.layout().span(id).is_some_and(|span| span.chunks.start >= 3 && span.chunks.end <= 9);
        assert!(second.have().iter().all(within), "{:?}", second.have());
        for rest in [0..3, 9..count] {
            second.keep(rest.clone(), piece(&second, &bytes, &rest)).unwrap();
        }
        assert_eq!(second.digest().unwrap(), second.layout().image());
    }

    #[test]
    fn wrong_bytes_are_not_kept() {
        let root = tempfile::tempdir().unwrap();
        let bytes = noise(500_000);
        let keeper = keeper(root.path(), &bytes);
        let mut wrong = piece(&keeper, &bytes, &(0..2)).to_vec();
        wrong[7] ^= 1;
        assert!(matches!(keeper.keep(0..2, &wrong), Err(KeepError::Wrong)));
        assert!(keeper.lacks(0) && keeper.lacks(1));
    }

    #[test]
    fn a_span_is_whole_with_its_last_chunk() {
        let root = tempfile::tempdir().unwrap();
        let bytes = noise(2_000_000);
        let keeper = keeper(root.path(), &bytes);
        let span = keeper.layout().span(SpanId(1)).unwrap().clone();
        let last = span.chunks.end - 1;
        let most = span.chunks.start..last;
        keeper.keep(most.clone(), piece(&keeper, &bytes, &most)).unwrap();
        assert!(!keeper.is_whole(SpanId(1)));
        assert_eq!(keeper.lacking(SpanId(1)), [u32::try_from(most.len()).unwrap()]);
        keeper.keep(last..last + 1, piece(&keeper, &bytes, &(last..last + 1))).unwrap();
        assert!(keeper.is_whole(SpanId(1)) && keeper.have().contains(SpanId(1)));
    }
}
