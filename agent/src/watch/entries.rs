//! What is known of the entries below one root, and what follows when one is looked at.
//!
//! Owns the comparison of an entry with what was known of it, and the list of files waiting to be hashed. It opens
//! files only to ask for writers; reading is for [`crate::hash`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};

use sifleet_common::inventory::{
    Change, Content, Pending, Replica, ReplicaKey, RootId, Unusable, UnusableCode, reason,
};
use sifleet_common::name::ImageName;
use sifleet_common::time::{Monotonic, Now};

use super::settle::Settle;
use super::troubles::{Hidden, hides};
use super::{Output, RootSettings};
use crate::hash::{self, Done, Hashing, Job, Opened, Outcome};
use crate::scan::{Found, Kind, Print, Tree, judge, weigh};
use crate::sys::Writers;

/// How far a known entry has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// On the timetable.
    Settling,
    /// Waiting to be hashed, or being hashed.
    Queued,
    /// An image.
    Image,
    /// The system did not let us read it; it may another time.
    Refused,
    /// Not an image.
    Other,
    /// In a part of the root that cannot be looked at.
    Hidden,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    print: Print,
    private: bool,
    stage: Stage,
    /// Whether it is still shown as the image it was, although it is being read again: only its change time
    /// differs, as after chmod or ln, and nobody writes to it.
    kept: bool,
    /// Its length as shown.
    size: u64,
    /// The look in which it was last seen.
    seen: u32,
}

impl Known {
    /// Tells whether another version of an entry shown as an image differs in its change time alone.
    fn may_be_kept(&self, found: &Found<'_>) -> bool {
        let same_bytes = Print { ctime: self.print.ctime, ..found.facts.print } == self.print;
        (self.stage == Stage::Image || self.kept) && same_bytes && self.private == found.private
    }
}

/// The entries below one root.
#[derive(Debug)]
pub(super) struct Entries {
    root: RootId,
    library: bool,
    recheck: std::time::Duration,
    max_entries: usize,
    settle_time: std::time::Duration,
    known: BTreeMap<ImageName, Known>,
    settle: Settle,
    /// Files to hash, smallest first, so that most of them are soon known.
    waiting: BTreeSet<(u64, ImageName)>,
    in_queue: usize,
    jobs: SyncSender<Job>,
    hashing: Arc<Hashing>,
    out: Output,
    look: u32,
}

impl Entries {
    pub(super) fn new(
        settings: &RootSettings,
        hashing: Arc<Hashing>,
        jobs: SyncSender<Job>,
        out: Output,
    ) -> Self {
        Self {
            root: settings.id,
            library: settings.library,
            recheck: settings.recheck,
            max_entries: settings.max_entries,
            settle_time: settings.settle,
            known: BTreeMap::new(),
            settle: Settle::new(settings.settle),
            waiting: BTreeSet::new(),
            in_queue: 0,
            jobs,
            hashing,
            out,
            look: 0,
        }
    }

    /// Counts the entries.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Tells whether every file has been hashed that settled.
    pub(super) fn is_hashed(&self) -> bool {
        self.waiting.is_empty() && self.in_queue == 0
    }

    /// Tells when the next unsettled file is to be looked at.
    pub(super) fn next_due(&self) -> Option<Monotonic> {
        self.settle.next()
    }

    /// Takes the unsettled files that are to be looked at.
    pub(super) fn due(&mut self, now: Monotonic) -> Vec<ImageName> {
        self.settle.due(now)
    }

    /// Sends changes that belong to no entry.
    pub(super) fn send(&mut self, change: Change) {
        self.out.push(change);
    }

    /// Fills the hashing queue and sends what has gathered.
    pub(super) fn flush(&mut self) {
        while let Some((size, name)) = self.waiting.pop_first() {
            let Some(print) = self.known.get(&name).map(|known| known.print) else { continue };
            match self.jobs.try_send(Job { name: name.clone(), print }) {
                Ok(()) => self.in_queue += 1,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    self.waiting.insert((size, name));
                    break;
                }
            }
        }
        self.out.flush();
    }

    /// Tells whether nobody receives any more.
    pub(super) fn is_closed(&self) -> bool {
        self.out.closed
    }

    /// Begins a look at several entries, after which [`Entries::sweep`] drops those that were not seen.
    pub(super) fn begin(&mut self) {
        self.look = self.look.wrapping_add(1);
    }

    /// Drops what the last look did not see at `path` and below; all for an empty path. Entries in parts that
    /// could not be looked at stay, and are shown as unreadable until they are seen again.
    pub(super) fn sweep(&mut self, path: &str, hidden: &Hidden) {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let below = self.known.range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
        let unseen: Vec<ImageName> = below
            .take_while(|(name, _)| name.as_str().starts_with(&prefix))
            .chain(self.known.get_key_value(path))
            .filter(|(_, known)| known.seen != self.look)
            .map(|(name, _)| name.clone())
            .collect();
        for name in unseen {
            match hides(hidden, name.as_str()) {
                Some(why) => self.hide(&name, why),
                None => self.gone(&name),
            }
        }
    }

    /// Shows an entry as unreadable that nobody can look at: nobody can run it either.
    fn hide(&mut self, name: &ImageName, why: &str) {
        let Some(known) = self.known.get_mut(name).filter(|known| known.stage != Stage::Hidden) else {
            return;
        };
        (known.stage, known.kept) = (Stage::Hidden, false);
        let (print, size) = (known.print, known.size);
        self.waiting.remove(&(print.size, name.clone()));
        self.settle.forget(name);
        let detail = reason(format!("it cannot be looked at: {why}"));
        self.put(name, size, &print, Content::Unusable(Unusable { code: UnusableCode::Unreadable, detail }));
    }

    /// Notes that an entry is not there.
    pub(super) fn gone(&mut self, name: &ImageName) {
        if let Some(known) = self.known.remove(name) {
            self.waiting.remove(&(known.print.size, name.clone()));
            self.settle.forget(name);
            let key = ReplicaKey { root: self.root, name: name.clone() };
            self.out.push(Change::Remove(key));
        }
    }

    /// Notes an entry as it is; false when there is no room for it.
    ///
    /// `closely` asks for writers of images, too, although nothing else changed.
    pub(super) fn see(&mut self, tree: &Tree, found: &Found<'_>, closely: bool) -> bool {
        let is_full = self.known.len() >= self.max_entries;
        let stage = match self.known.get_mut(&found.name) {
            Some(known) if known.print == found.facts.print && known.private == found.private => {
                known.seen = self.look;
                Some(known.stage)
            }
            Some(known) => {
                known.kept = known.may_be_kept(found);
                None
            }
            None if is_full => return false,
            None => None,
        };
        match stage {
            Some(Stage::Queued | Stage::Other) => {}
            Some(Stage::Image | Stage::Refused) if !closely => {}
            Some(Stage::Image) => self.open(tree, found, true),
            Some(Stage::Settling | Stage::Refused | Stage::Hidden) | None => self.consider(tree, found),
        }
        true
    }

    fn consider(&mut self, tree: &Tree, found: &Found<'_>) {
        if let Some(unusable) = judge(found) {
            self.show(found, Content::Unusable(unusable), Stage::Other);
            return;
        }
        let Now { mono, wall } = self.hashing.clock.now();
        let print = found.facts.print;
        let is_settled = self.hashing.is_vouched_for(&print)
            || print.is_older_than(self.settle_time, wall)
            || self.settle.rest(&found.name, print, mono);
        if !is_settled {
            self.pend(found, Pending::BeingWritten, Stage::Settling);
        } else if let Some(unusable) = weigh(&found.facts, self.hashing.max_size) {
            self.show(found, Content::Unusable(unusable), Stage::Other);
        } else {
            self.open(tree, found, false);
        }
    }

    /// Asks for writers; `is_image` says that otherwise nothing changed since it was hashed.
    fn open(&mut self, tree: &Tree, found: &Found<'_>, is_image: bool) {
        let print = found.facts.print;
        let now = self.hashing.clock.now().mono;
        match hash::open(tree, &Job { name: found.name.clone(), print }) {
            Opened::Ready(..) if is_image => self.settle.forget(&found.name),
            Opened::Ready(_, writers) => match self.hashing.recall(&print, self.library) {
                Some(content) => self.finish(found, content),
                None if writers == Writers::None => self.pend(found, Pending::Hashing, Stage::Queued),
                None => self.show(found, Content::Pending(Pending::Hashing), Stage::Queued),
            },
            Opened::BeingWritten => {
                self.show(found, Content::Pending(Pending::BeingWritten), Stage::Settling);
                self.settle.busy(&found.name, print, now);
            }
            Opened::Changed => {
                self.pend(found, Pending::BeingWritten, Stage::Settling);
                self.settle.later(&found.name, print, now.after(self.settle_time));
            }
            Opened::Refused(error) => self.show(found, hash::refused(&error), Stage::Refused),
        }
    }

    fn finish(&mut self, found: &Found<'_>, content: Content) {
        let stage = stage_of(&content);
        self.show(found, content, stage);
    }

    /// Notes how far an entry has come, and sends that it is pending unless it may be kept as it was.
    fn pend(&mut self, found: &Found<'_>, pending: Pending, stage: Stage) {
        if self.known.get(&found.name).is_some_and(|known| known.kept) {
            self.note(found, stage, true);
        } else {
            self.show(found, Content::Pending(pending), stage);
        }
    }

    /// Notes how far an entry has come, and sends it.
    fn show(&mut self, found: &Found<'_>, content: Content, stage: Stage) {
        self.note(found, stage, false);
        self.put(&found.name, shown_size(found), &found.facts.print, content);
    }

    fn note(&mut self, found: &Found<'_>, stage: Stage, kept: bool) {
        let print = found.facts.print;
        let size = shown_size(found);
        let known = Known { print, private: found.private, stage, kept, size, seen: self.look };
        if let Some(before) = self.known.insert(found.name.clone(), known) {
            self.waiting.remove(&(before.print.size, found.name.clone()));
        }
        match stage {
            Stage::Settling => {}
            Stage::Queued => {
                self.settle.forget(&found.name);
                self.waiting.insert((print.size, found.name.clone()));
            }
            Stage::Image | Stage::Refused | Stage::Other | Stage::Hidden => self.settle.forget(&found.name),
        }
    }

    fn put(&mut self, name: &ImageName, size: u64, print: &Print, content: Content) {
        let key = ReplicaKey { root: self.root, name: name.clone() };
        self.out.push(Change::Put(key, Replica { size, modified: print.modified(), content }));
    }

    /// Notes what came of hashing a file; true if it has to be looked at again.
    pub(super) fn hashed(&mut self, done: Done) -> bool {
        self.in_queue = self.in_queue.saturating_sub(1);
        let Done { job: Job { name, print }, outcome } = done;
        let now = self.hashing.clock.now().mono;
        // What changed since it was queued is on the timetable, or queued again.
        let Some(known) = self.known.get_mut(&name) else { return false };
        if known.print != print || known.stage != Stage::Queued {
            return false;
        }
        match outcome {
            Outcome::Content { content, sure } => {
                (known.stage, known.kept) = (stage_of(&content), false);
                if !sure && known.stage == Stage::Image {
                    self.settle.later(&name, print, now.after(self.recheck));
                }
                self.put(&name, print.size, &print, content);
                false
            }
            Outcome::BeingWritten => {
                (known.stage, known.kept) = (Stage::Settling, false);
                self.put(&name, print.size, &print, Content::Pending(Pending::BeingWritten));
                self.settle.busy(&name, print, now);
                false
            }
            Outcome::Changed => {
                known.stage = Stage::Settling;
                true
            }
            Outcome::Stopped => false,
        }
    }
}

fn stage_of(content: &Content) -> Stage {
    match content {
        Content::Image(_) => Stage::Image,
        Content::Unusable(what) if what.code == UnusableCode::Unreadable => Stage::Refused,
        Content::Unusable(_) | Content::Pending(_) => Stage::Other,
    }
}

/// A directory's or link's own length says nothing of an image.
fn shown_size(found: &Found<'_>) -> u64 {
    if found.facts.kind == Kind::File { found.facts.print.size } else { 0 }
}
