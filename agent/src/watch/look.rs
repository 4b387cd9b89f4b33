//! One look through a directory of a root: what is met goes where it belongs.
//!
//! Owns nothing but the notes taken on the way; [`super::root`] decides what follows from them.

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use sifleet_common::name::ImageName;

use super::Pulse;
use super::entries::Entries;
use super::hints::Hints;
use super::notifier::Notifier;
use crate::hash::Hashing;
use crate::scan::{Found, Tree, Trouble, Visitor, show};

/// A look through a directory.
pub(super) struct Look<'a> {
    pub(super) tree: &'a Tree,
    pub(super) closely: bool,
    pub(super) entries: &'a mut Entries,
    pub(super) notifier: Option<&'a mut Notifier>,
    pub(super) hints: &'a Hints,
    pub(super) pulse: &'a Pulse,
    pub(super) hashing: &'a Hashing,
    pub(super) troubles: BTreeMap<String, String>,
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
            let count = self.entries.len();
            let text = format!("there are more than {count} entries, and no more are reported");
            self.troubles.insert(String::new(), text);
        }
    }

    fn trouble(&mut self, path: &[u8], trouble: Trouble) {
        let path = ImageName::escape(path).map_or_else(|_| show(path), |(name, _)| name.to_string());
        self.troubles.insert(path, causes(&trouble));
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

/// Joins an error with its causes.
pub(super) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
