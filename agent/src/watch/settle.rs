//! When to look again at files that have not settled.
//!
//! Owns the timetable. Pure: it is told the time and never looks at a file.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sifleet_common::name::ImageName;
use sifleet_common::time::Monotonic;

use crate::scan::Print;

/// A file that somebody holds open is looked at again after this long, then twice as long, and so on. The
/// writer's close is an event; this is for writers that come by a hard link outside the root.
const BUSY_FIRST: Duration = Duration::from_secs(1);
/// The longest time between two looks at a file that somebody holds open.
const BUSY_MOST: Duration = Duration::from_secs(16);

#[derive(Clone, Copy, Debug)]
struct Unsettled {
    print: Print,
    since: Monotonic,
    tries: u32,
    at: Option<Monotonic>,
}

/// The timetable.
#[derive(Debug)]
pub struct Settle {
    quiet: Duration,
    files: BTreeMap<ImageName, Unsettled>,
    due: BTreeSet<(Monotonic, ImageName)>,
}

impl Settle {
    /// Makes an empty timetable; `quiet` is how long a file must stay as it is.
    #[must_use]
    pub fn new(quiet: Duration) -> Self {
        Self { quiet, files: BTreeMap::new(), due: BTreeSet::new() }
    }

    /// Tells whether a file has been seen unchanged for long enough, and if not, plans another look.
    pub fn rest(&mut self, name: &ImageName, print: Print, now: Monotonic) -> bool {
        let known = self.files.get(name).copied().filter(|known| known.print == print);
        let unsettled = known.unwrap_or(Unsettled { print, since: now, tries: 0, at: None });
        if now.since(unsettled.since) >= self.quiet {
            return true;
        }
        self.plan(name, unsettled, unsettled.since.after(self.quiet));
        false
    }

    /// Plans another look at a file that somebody writes to, later each time.
    pub fn busy(&mut self, name: &ImageName, print: Print, now: Monotonic) {
        let known = self.files.get(name).copied().filter(|known| known.print == print);
        let mut unsettled = known.unwrap_or(Unsettled { print, since: now, tries: 0, at: None });
        let wait = BUSY_FIRST.saturating_mul(2_u32.saturating_pow(unsettled.tries)).min(BUSY_MOST);
        unsettled.tries = unsettled.tries.saturating_add(1);
        self.plan(name, unsettled, now.after(wait));
    }

    /// Plans a look at a settled file.
    pub fn later(&mut self, name: &ImageName, print: Print, at: Monotonic) {
        self.plan(name, Unsettled { print, since: at, tries: 0, at: None }, at);
    }

    /// Takes a file off the timetable.
    pub fn forget(&mut self, name: &ImageName) {
        if let Some(Unsettled { at: Some(at), .. }) = self.files.remove(name) {
            self.due.remove(&(at, name.clone()));
        }
    }

    /// Takes the files whose time has come; they stay known until settled or forgotten.
    pub fn due(&mut self, now: Monotonic) -> Vec<ImageName> {
        let mut names = Vec::new();
        while let Some((at, _)) = self.due.first() {
            if *at > now {
                break;
            }
            let Some((_, name)) = self.due.pop_first() else { break };
            if let Some(file) = self.files.get_mut(&name) {
                file.at = None;
            }
            names.push(name);
        }
        names
    }

    /// Tells when the next file's time comes.
    #[must_use]
    pub fn next(&self) -> Option<Monotonic> {
        self.due.first().map(|(at, _)| *at)
    }

    fn plan(&mut self, name: &ImageName, mut unsettled: Unsettled, at: Monotonic) {
        self.forget(name);
        unsettled.at = Some(at);
        self.files.insert(name.clone(), unsettled);
        self.due.insert((at, name.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_millis(500);

    fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }

    fn print(size: u64) -> Print {
        Print { dev: 1, ino: 1, size, mtime: 0, ctime: 0 }
    }

    fn name() -> ImageName {
        "a.sif".parse().unwrap()
    }

    #[test]
    fn a_file_settles_when_it_has_stayed_as_it_is() {
        let mut settle = Settle::new(QUIET);
        assert!(!settle.rest(&name(), print(1), at(0)));
        assert!(!settle.rest(&name(), print(2), at(400)));
        assert_eq!(settle.next(), Some(at(900)));
        assert_eq!(settle.due(at(899)), []);
        assert_eq!(settle.due(at(900)), [name()]);
        assert!(settle.rest(&name(), print(2), at(900)));
        assert_eq!(settle.next(), None);
    }

    #[test]
    fn looking_at_it_meanwhile_does_not_begin_again() {
        let mut settle = Settle::new(QUIET);
        assert!(!settle.rest(&name(), print(1), at(0)));
        assert!(!settle.rest(&name(), print(1), at(300)));
        assert_eq!(settle.next(), Some(at(500)));
    }

    #[test]
    fn a_file_held_open_is_looked_at_less_and_less_often() {
        let mut settle = Settle::new(QUIET);
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..6 {
            settle.busy(&name(), print(1), now);
            let next = settle.next().unwrap();
            waits.push(next.since(now).as_secs());
            now = next;
            assert_eq!(settle.due(now), [name()]);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 16]);
        settle.busy(&name(), print(2), now);
        assert_eq!(settle.next(), Some(now.after(BUSY_FIRST)));
    }

    #[test]
    fn a_file_that_is_gone_is_never_due() {
        let mut settle = Settle::new(QUIET);
        settle.later(&name(), print(1), at(10));
        settle.forget(&name());
        assert_eq!((settle.next(), settle.due(at(100))), (None, vec![]));
    }
}
