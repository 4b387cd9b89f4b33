//! Files that this agent put together and verified itself, until they are seen under their names.
//!
//! Nobody else could write to them before, so nothing is gained by waiting for quiet or by reading them again. They are
//! known by everything but the change time, which the rename that shows them changes.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sifleet_common::digest::Digest;
use sifleet_common::image::{ImageMetadata, classify};
use sifleet_common::inventory::Image;

use super::{Hashing, unfit};
use crate::memory::Remembered;
use crate::scan::{Facts, Print};

/// Files that may wait to be seen: more than are published at once.
const MOST: usize = 64;

impl Hashing {
    /// Vouches for an image that this agent put together and held against its digest, and is about to publish.
    pub fn vouch(&self, file: &File, digest: Digest) {
        let (Ok(metadata), Ok(stat)) = (classify(file), rustix::fs::fstat(file)) else { return };
        if unfit(&metadata, self.arch, false).is_some() {
            return;
        }
        let ImageMetadata { format, arch, mutable, .. } = metadata;
        let found = Remembered::Image(Image { digest, format, arch, mutable });
        self.vouched.put(&Facts::from(&stat).print, found);
    }

    /// Tells whether this is a file that was vouched for, and remembers what it holds.
    pub fn is_vouched_for(&self, print: &Print) -> bool {
        let found = self.vouched.take(print);
        found.inspect(|found| self.memory.remember(print, found, self.today())).is_some()
    }
}

/// The files.
#[derive(Debug, Default)]
pub(super) struct Vouched(Mutex<VecDeque<(Print, Remembered)>>);

impl Vouched {
    /// Takes in a file that will be seen soon.
    pub(super) fn put(&self, print: &Print, found: Remembered) {
        let mut files = self.files();
        if files.len() >= MOST {
            files.pop_front();
        }
        files.push_back((lasting(print), found));
    }

    /// Takes out what is known of a file that is seen.
    pub(super) fn take(&self, print: &Print) -> Option<Remembered> {
        let mut files = self.files();
        let at = files.iter().position(|(known, _)| *known == lasting(print))?;
        files.remove(at).map(|(_, found)| found)
    }

    /// A list is sound whatever panicked while it was held.
    fn files(&self) -> MutexGuard<'_, VecDeque<(Print, Remembered)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lasting(print: &Print) -> Print {
    Print { ctime: 0, ..*print }
}

#[cfg(test)]
mod tests {
    use sifleet_common::inventory::{Unusable, UnusableCode};

    use super::*;

    fn print(ino: u64, mtime: i128, ctime: i128) -> Print {
        Print { dev: 1, ino, size: 10, mtime, ctime }
    }

    fn found() -> Remembered {
        Remembered::Unusable(Unusable { code: UnusableCode::NotAnImage, detail: String::new() })
    }

    #[test]
    fn a_file_is_known_after_its_rename_once_and_not_after_a_write() {
        let vouched = Vouched::default();
        vouched.put(&print(1, 5, 5), found());
        assert_eq!(vouched.take(&print(1, 6, 6)), None, "it was written to");
        assert_eq!(vouched.take(&print(1, 5, 9)), Some(found()));
        assert_eq!(vouched.take(&print(1, 5, 9)), None);
    }

    #[test]
    fn files_that_are_never_seen_make_room() {
        let vouched = Vouched::default();
        for ino in 0..=MOST as u64 {
            vouched.put(&print(ino, 5, 5), found());
        }
        assert_eq!(vouched.take(&print(0, 5, 5)), None);
        assert_eq!(vouched.take(&print(1, 5, 5)), Some(found()));
    }
}
