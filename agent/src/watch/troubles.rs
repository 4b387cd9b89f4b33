//! What could not be looked at below one root, and what that makes of the root.
//!
//! Owns the notes and the verdict; looks at nothing. What is known below a part that cannot be looked at may be
//! wrong, so [`super::entries`] asks here which parts those are.

use std::collections::BTreeMap;
use std::error::Error;

use sifleet_common::inventory::{RootState, reason};
use sifleet_common::name::ImageName;

use crate::scan::{Trouble, show};

/// Parts that cannot be looked at, and why, by their escaped path; the root's own is empty.
pub(super) type Hidden = BTreeMap<String, String>;

/// What could not be looked at.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    hidden: Hidden,
    /// What is nested too deeply or has too long a path, so that nothing was ever known of it.
    beyond: BTreeMap<String, String>,
    /// Says that there are more entries than are reported.
    full: Option<String>,
}

impl Troubles {
    /// Notes a part that could not be looked at.
    pub(super) fn note(&mut self, path: &[u8], trouble: &Trouble) {
        if path.is_empty() {
            let why = trouble.source().map_or_else(|| trouble.to_string(), causes);
            self.hidden.insert(String::new(), why);
            return;
        }
        let name = ImageName::escape(path).map(|(name, _)| name.to_string());
        match (trouble, name) {
            (Trouble::Unreadable { .. } | Trouble::Unseen { .. }, Ok(name)) => {
                self.hidden.insert(name, causes(trouble));
            }
            (Trouble::TooDeep { .. } | Trouble::TooLong { .. }, Ok(name)) => {
                self.beyond.insert(name, causes(trouble));
            }
            (_, Err(_too_long)) => {
                self.beyond.insert(show(path), causes(trouble));
            }
        }
    }

    /// Notes that an entry beyond these has no room.
    pub(super) fn overflow(&mut self, entries: usize) {
        self.full = Some(format!("there are more than {entries} entries, and no more are reported"));
    }

    /// Says why the root itself could not be listed: then nothing is known of what is in it.
    pub(super) fn of_root(&self) -> Option<&str> {
        self.hidden.get("").map(String::as_str)
    }

    /// Returns the parts that cannot be looked at.
    pub(super) fn hidden(&self) -> &Hidden {
        &self.hidden
    }

    /// Tells whether a part cannot be looked at that perhaps can a little later.
    pub(super) fn may_pass(&self) -> bool {
        !self.hidden.is_empty()
    }

    /// Puts what a look through `path` found in place of what was known there.
    pub(super) fn replace(&mut self, path: &str, found: Self) {
        self.forget(path);
        self.hidden.extend(found.hidden);
        self.beyond.extend(found.beyond);
        if found.full.is_some() || path.is_empty() {
            self.full = found.full;
        }
    }

    /// Forgets what was known of `path` and what is below it.
    pub(super) fn forget(&mut self, path: &str) {
        self.hidden.retain(|dir, _| !is_below(dir, path));
        self.beyond.retain(|dir, _| !is_below(dir, path));
    }

    /// Says how far a root is known that was looked through.
    ///
    /// `late` are reasons why changes are found late. What cannot be looked at at all weighs more.
    pub(super) fn state(&self, late: impl Iterator<Item = String>) -> RootState {
        let parts = self.full.iter().chain(self.hidden.values()).chain(self.beyond.values());
        let missed = summary(parts);
        let reasons: Vec<String> = missed.iter().cloned().chain(late).collect();
        let text = reason(reasons.join("; "));
        match missed {
            Some(_) => RootState::Partial { reason: text },
            None if reasons.is_empty() => RootState::Watched,
            None => RootState::Degraded { reason: text },
        }
    }
}

fn summary<'a>(mut parts: impl Iterator<Item = &'a String>) -> Option<String> {
    let first = parts.next()?;
    Some(match parts.count() {
        0 => first.clone(),
        others => format!("{first} (and {others} more such parts)"),
    })
}

/// Returns why `name` cannot be looked at, if it is one of these parts or below one.
pub(super) fn hides<'a>(hidden: &'a Hidden, name: &str) -> Option<&'a str> {
    if hidden.is_empty() {
        return None;
    }
    let ends = name.match_indices('/').map(|(at, _)| at).chain([name.len()]);
    ends.filter_map(|end| hidden.get(name.get(..end)?)).map(String::as_str).next()
}

pub(super) fn is_below(name: &str, dir: &str) -> bool {
    dir.is_empty() || name.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Joins an error with its causes.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn unreadable(path: &str) -> Trouble {
        Trouble::Unreadable { path: path.to_owned(), source: io::Error::other("dead") }
    }

    fn troubles(paths: &[&str]) -> Troubles {
        let mut troubles = Troubles::default();
        paths.iter().for_each(|path| troubles.note(path.as_bytes(), &unreadable(path)));
        troubles
    }

    fn late(reasons: &[&str]) -> impl Iterator<Item = String> {
        reasons.iter().map(ToString::to_string).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn what_cannot_be_looked_at_weighs_more_than_what_is_found_late() {
        let check = |troubles: &Troubles, reasons: &[&str], expected: RootState| {
            assert_eq!(troubles.state(late(reasons)), expected);
        };
        let some = |text: &str| text.to_owned();
        check(&troubles(&[]), &[], RootState::Watched);
        check(&troubles(&[]), &["few watches"], RootState::Degraded { reason: some("few watches") });
        let reason = some("cannot read the directory a: dead; few watches; on NFS");
        check(&troubles(&["a"]), &["few watches", "on NFS"], RootState::Partial { reason });
        let reason = some("cannot read the directory a: dead (and 2 more such parts)");
        check(&troubles(&["a", "b", "c"]), &[], RootState::Partial { reason });
        let mut full = troubles(&[]);
        full.overflow(7);
        let reason = some("there are more than 7 entries, and no more are reported");
        check(&full, &[], RootState::Partial { reason });
    }

    #[test]
    fn only_a_look_at_everything_finds_room_again() {
        let mut full = troubles(&[]);
        full.overflow(7);
        full.replace("a", troubles(&[]));
        assert!(matches!(full.state(late(&[])), RootState::Partial { .. }));
        full.replace("", troubles(&[]));
        assert_eq!(full.state(late(&[])), RootState::Watched);
    }

    #[test]
    fn a_part_hides_what_is_below_it_and_nothing_beside_it() {
        let known = troubles(&["a/b", "d"]);
        for (name, hidden) in
            [("a/b", true), ("a/b/c/d.sif", true), ("a/bc", false), ("a", false), ("d/x", true), ("e", false)]
        {
            assert_eq!(hides(known.hidden(), name).is_some(), hidden, "{name}");
        }
        let mut known = known;
        known.replace("a", troubles(&[]));
        assert_eq!(hides(known.hidden(), "a/b/c"), None);
        assert!(hides(known.hidden(), "d").is_some());
    }

    #[test]
    fn the_root_itself_and_paths_too_long_for_a_name_hide_nothing() {
        let long = "x".repeat(5_000);
        let mut known = Troubles::default();
        known.note(long.as_bytes(), &unreadable(&long));
        known.note(b"a/b", &Trouble::TooLong { path: "a/b".to_owned() });
        assert!(known.hidden().is_empty() && known.of_root().is_none());
        assert!(matches!(known.state(late(&[])), RootState::Partial { .. }));
        known.note(b"", &unreadable(""));
        assert_eq!(known.of_root(), Some("dead"));
    }
}
