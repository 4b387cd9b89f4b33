//! Answers worked out before, kept while nothing they rest on has changed.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::rendered::Rendered;
use crate::state::index::NameEntry;

/// Most answers kept: more than 200 images on 100 partitions; beyond it the cache starts over.
const MAX_ANSWERS: usize = 32_768;

/// Answers by question. Shared by all views; an answer carries what it rests on.
#[derive(Debug, Default)]
pub struct Cache {
    answers: RwLock<HashMap<Key, Entry>>,
}

/// What was asked, in resolved form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) image: String,
    pub(super) partition: String,
    pub(super) require: u32,
}

#[derive(Debug)]
struct Entry {
    basis: Basis,
    answer: Arc<Rendered>,
}

/// What an answer rests on: these being the same, the answer is.
#[derive(Clone, Debug)]
pub(super) struct Basis {
    pub(super) liveness: u64,
    pub(super) entries: Vec<Arc<NameEntry>>,
}

impl PartialEq for Basis {
    fn eq(&self, other: &Self) -> bool {
        self.liveness == other.liveness
            && self.entries.len() == other.entries.len()
            && self.entries.iter().zip(&other.entries).all(|(one, other)| Arc::ptr_eq(one, other))
    }
}

impl Cache {
    pub(super) fn get(&self, key: &Key, basis: &Basis) -> Option<Arc<Rendered>> {
        let answers = self.answers.read().unwrap_or_else(PoisonError::into_inner);
        answers.get(key).filter(|entry| entry.basis == *basis).map(|entry| Arc::clone(&entry.answer))
    }

    pub(super) fn put(&self, key: Key, basis: Basis, answer: Arc<Rendered>) {
        let mut answers = self.answers.write().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= MAX_ANSWERS {
            answers.clear();
        }
        answers.insert(key, Entry { basis, answer });
    }
}
