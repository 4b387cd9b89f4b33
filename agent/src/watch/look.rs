//! One look through a directory of a root: what is met goes where it belongs.
//!
//! Owns nothing but the notes taken on the way; [`super::root`] decides what follows from them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::Pulse;
use super::entries::Entries;
use super::hints::Hints;
use super::notifier::Notifier;
use super::troubles::Troubles;
use crate::hash::Hashing;
use crate::scan::{Found, Tree, Trouble, Visitor};

/// A look through a directory.
pub(super) struct Look<'a> {
    pub(super) tree: &'a Tree,
    pub(super) closely: bool,
    pub(super) entries: &'a mut Entries,
    pub(super) notifier: Option<&'a mut Notifier>,
    pub(super) hints: &'a Hints,
    pub(super) pulse: &'a Pulse,
    pub(super) hashing: &'a Hashing,
    pub(super) troubles: Troubles,
    /// Which part other nodes may change unnoticed, in words.
    pub(super) remote: Option<String>,
}

impl Visitor for Look<'_> {
    fn enter(&mut self, path: &[u8]) {
        if let Some(notifier) = &mut self.notifier {
            notifier.watch(&self.tree.path().join(OsStr::from_bytes(path)));
        }
    }

    fn entry(&mut self, found: Found<'_>) {
        if !self.entries.see(self.tree, &found, self.closely) {
            self.troubles.overflow(self.entries.len());
        }
    }

    fn trouble(&mut self, path: &[u8], trouble: Trouble) {
        self.troubles.note(path, &trouble);
    }

    fn remote(&mut self, path: &[u8], kind: &'static str) {
        let path = self.tree.path().join(OsStr::from_bytes(path));
        self.remote.get_or_insert_with(|| format!("{} is on {kind}", path.display()));
    }

    fn go_on(&mut self) -> bool {
        self.pulse.beat(self.hashing.clock.now().mono);
        !self.hints.is_stopping() && !self.entries.is_closed()
    }
}
