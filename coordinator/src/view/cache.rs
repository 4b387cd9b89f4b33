//! Answers worked out before, kept while nothing they rest on has changed.
//!
//! A question that comes again in the same words, while no image and no lease has changed, costs one look-up. After a change
//! elsewhere it costs a look at what it means and at the names that the answer rests on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::DefaultLifecycle;
use quick_cache::{DefaultHashBuilder, Equivalent, OptionsBuilder, Weighter, sync};
use sifleet_common::availability::Require;

use super::rendered::Rendered;
use super::resolve::Target;

/// Bytes of memory for answers, about: more than 200 images on 100 partitions take, unless their nodesets are ragged.
const MAX_BYTES: u64 = 128 << 20;
/// Bytes that most answers take.
const USUAL: u64 = 4 << 10;
/// In how many parts they are kept, each with a lock of its own. An answer fits into one part, so more of them on a machine
/// with more processors would leave no room for ragged answers.
const PARTS: usize = 16;

/// Answers by question, shared by all views; those that are asked for least go first.
#[derive(Debug)]
pub struct Cache {
    answers: sync::Cache<Asked<String>, Arc<Answered>, Bytes>,
}

impl Default for Cache {
    fn default() -> Self {
        let usually = usize::try_from(MAX_BYTES / USUAL).unwrap_or_default();
        let mut options = OptionsBuilder::new();
        options.estimated_items_capacity(usually).weight_capacity(MAX_BYTES).shards(PARTS);
        let answers = match options.build() {
            Ok(options) => {
                let (hashes, lives) = (DefaultHashBuilder::default(), DefaultLifecycle::default());
                sync::Cache::with_options(options, Bytes, hashes, lives)
            }
            // It knows no reason: both capacities are there.
            Err(_) => sync::Cache::with_weighter(usually, MAX_BYTES, Bytes),
        };
        Self { answers }
    }
}

/// A question in the words in which it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asked<Text> {
    pub(super) image: Text,
    pub(super) partition: Text,
    pub(super) require: Require,
}

impl Equivalent<Asked<String>> for Asked<&str> {
    fn equivalent(&self, key: &Asked<String>) -> bool {
        self.image == key.image && self.partition == key.partition && self.require == key.require
    }
}

/// An answer, and what it rests on.
#[derive(Debug)]
pub(super) struct Answered {
    target: Target,
    basis: Basis,
    /// The last change of the index that was seen to leave it as it is.
    seen: AtomicU64,
    answer: Arc<Rendered>,
    /// Bytes of memory that it takes, about.
    bytes: usize,
}

/// What an answer rests on: these being the same, the answer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Basis {
    pub(super) liveness: u64,
    /// The versions of the names' entries.
    pub(super) versions: Vec<u64>,
}

impl Answered {
    /// Keeps an answer that is true after so many changes of the index.
    pub(super) fn new(target: Target, basis: Basis, changes: u64, answer: Arc<Rendered>) -> Self {
        let names: usize = target.names.iter().map(|name| name.as_str().len()).sum();
        let lists = size_of_val(target.names.as_slice()) + size_of_val(basis.versions.as_slice());
        // The texts are kept as fields and as JSON.
        let texts = answer.json_len().saturating_mul(2);
        let bytes = size_of::<Self>() + size_of::<Rendered>() + target.shown.len() + names + lists + texts;
        Self { target, basis, seen: AtomicU64::new(changes), answer, bytes }
    }

    /// Returns the answer if nothing at all has changed.
    pub(super) fn at(&self, liveness: u64, changes: u64) -> Option<Arc<Rendered>> {
        let same = self.basis.liveness == liveness && self.seen.load(Ordering::Relaxed) == changes;
        same.then(|| Arc::clone(&self.answer))
    }

    /// Returns the answer if nothing has changed that it rests on.
    pub(super) fn resting_on(&self, target: &Target, basis: &Basis, changes: u64) -> Option<Arc<Rendered>> {
        if self.target != *target || self.basis != *basis {
            return None;
        }
        self.seen.store(changes, Ordering::Relaxed);
        Some(Arc::clone(&self.answer))
    }
}

impl Cache {
    pub(super) fn get(&self, asked: &Asked<&str>) -> Option<Arc<Answered>> {
        self.answers.get(asked)
    }

    pub(super) fn put(&self, asked: &Asked<&str>, answered: Answered) {
        let Asked { image, partition, require } = *asked;
        let asked = Asked { image: image.to_owned(), partition: partition.to_owned(), require };
        self.answers.insert(asked, Arc::new(answered));
    }
}

/// Weighs answers by the memory that they take.
#[derive(Clone, Debug)]
struct Bytes;

impl Weighter<Asked<String>, Arc<Answered>> for Bytes {
    fn weight(&self, asked: &Asked<String>, answered: &Arc<Answered>) -> u64 {
        let question = asked.image.len() + asked.partition.len() + size_of::<Asked<String>>();
        u64::try_from(answered.bytes + question).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
