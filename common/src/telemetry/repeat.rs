//! Which log entries are repeats of one another, and when their count is due.
//!
//! Pure: time is passed in. Bounded: beyond [`MAX_HELD`] different warnings nothing more is held back, so that a
//! flood of different ones is seen rather than lost.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

use tracing::Level;
use tracing::callsite::Identifier;

use super::Entry;

/// How long repeats are counted before a line says how many there were.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// Most different warnings that are watched for repeats.
pub(super) const MAX_HELD: usize = 512;

/// Tells warnings apart: the place in the program, and what they are about. A hash suffices: a clash of two in
/// 512 costs a line in a log once in 10^13.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(u64);

impl Key {
    pub(super) fn new<'a>(callsite: &Identifier, subjects: impl Iterator<Item = &'a str>) -> Self {
        let mut hasher = DefaultHasher::new();
        callsite.hash(&mut hasher);
        subjects.for_each(|subject| subject.hash(&mut hasher));
        Self(hasher.finish())
    }
}

#[derive(Debug)]
struct Held {
    since: Instant,
    count: u32,
    newest: Option<Entry>,
}

/// Holds back repeats.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    held: BTreeMap<Key, Held>,
}

impl Repeats {
    /// Takes an entry and returns what is to be written: counts that are due, and the entry if it is the first
    /// of its kind for a while.
    pub(super) fn admit(&mut self, key: Key, entry: Entry, at: Instant) -> Vec<Entry> {
        let mut write = self.due(at);
        if entry.level > Level::WARN {
            write.push(entry);
            return write;
        }
        let full = self.held.len() >= MAX_HELD;
        match self.held.get_mut(&key) {
            Some(held) => {
                held.count = held.count.saturating_add(1);
                held.newest = Some(entry);
            }
            None => {
                if !full {
                    self.held.insert(key, Held { since: at, count: 0, newest: None });
                }
                write.push(entry);
            }
        }
        write
    }

    /// Returns everything that was held back, for the end of the program.
    pub(super) fn drain(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.held).into_values().filter_map(summary).collect()
    }

    fn due(&mut self, at: Instant) -> Vec<Entry> {
        let over = self.held.extract_if(.., |_, held| at.saturating_duration_since(held.since) >= WINDOW);
        over.filter_map(|(_, held)| summary(held)).collect()
    }
}

/// One repeat is written as it was; several become the newest of them with a count.
fn summary(held: Held) -> Option<Entry> {
    let mut entry = held.newest?;
    if held.count > 1 {
        entry.fields.push(("repeats", held.count.to_string()));
    }
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(level: Level, message: &str) -> Entry {
        let message = message.to_owned();
        Entry { level, target: "t", module: None, file: None, line: None, message, fields: vec![] }
    }

    fn messages(entries: &[Entry]) -> Vec<String> {
        let show = |entry: &Entry| {
            entry
                .fields
                .iter()
                .fold(entry.message.clone(), |text, (name, value)| format!("{text} {name}={value}"))
        };
        entries.iter().map(show).collect()
    }

    #[test]
    fn repeats_become_one_line_with_a_count() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        let mut at = |seconds, key, message: &str| {
            let entry = entry(Level::WARN, message);
            messages(&repeats.admit(Key(key), entry, start + Duration::from_secs(seconds)))
        };
        assert_eq!(at(0, 1, "a"), ["a"]);
        assert_eq!(at(1, 2, "b"), ["b"]);
        for second in 2..50 {
            assert!(at(second, 1, "a").is_empty());
        }
        assert_eq!(at(60, 3, "c"), ["a repeats=48", "c"]);
        assert_eq!(at(60, 1, "a"), ["a"]);
        assert!(at(61, 1, "a").is_empty());
        assert_eq!(at(120, 2, "b"), ["a", "b"]);
    }

    #[test]
    fn what_is_no_warning_is_never_held_back() {
        let (mut repeats, at) = (Repeats::default(), Instant::now());
        for _ in 0..3 {
            assert_eq!(repeats.admit(Key(1), entry(Level::INFO, "a"), at).len(), 1);
        }
        assert!(repeats.held.is_empty());
    }

    #[test]
    fn a_flood_of_different_warnings_is_bounded_and_all_seen() {
        let (mut repeats, at) = (Repeats::default(), Instant::now());
        for key in 0..2_000 {
            assert_eq!(repeats.admit(Key(key), entry(Level::ERROR, "a"), at).len(), 1);
        }
        assert_eq!(repeats.held.len(), MAX_HELD);
    }

    #[test]
    fn nothing_held_back_is_lost_at_the_end() {
        let (mut repeats, at) = (Repeats::default(), Instant::now());
        for message in ["a", "b", "c"] {
            drop(repeats.admit(Key(1), entry(Level::WARN, message), at));
        }
        assert_eq!(messages(&repeats.drain()), ["c repeats=2"]);
    }
}
