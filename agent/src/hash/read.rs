//! Hashes a file in one pass without evicting what jobs have in the page cache.
//!
//! Looks, before each window is read, which of its pages are cached, and afterwards drops those that were not. The
//! kernel's own readahead is turned off for the file, because it may reach further than any window and would make pages
//! look used that only we caused to be read; instead the next windows are asked for as soon as they were looked at.
//! Outside facts: posix_fadvise(2), and of Linux that RWF_NOWAIT itself starts readahead, so it cannot look.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;

use rustix::fs::{Advice, fadvise};
use sifleet_common::digest::Digest;
use tracing::trace;

use crate::sys;

/// Bytes looked at, read ahead and dropped at once: keeps a disk busy, small next to any page cache.
const WINDOW: usize = 8 * 1024 * 1024;
/// Windows read ahead of the one being hashed: with one, a fast disk waits for the processor and the other way round.
const AHEAD: usize = 3;
/// Bytes read at once: stays in the processor's cache between reading and hashing.
const BUFFER: usize = 256 * 1024;

/// Returns the digest of the first `size` bytes; `None` when `go_on`, told of every piece read, says to stop.
///
/// # Errors
/// Whatever reading gives; `UnexpectedEof` when the file is shorter.
pub(crate) fn digest(
    file: &File,
    size: u64,
    mut go_on: impl FnMut(u64) -> bool,
) -> io::Result<Option<Digest>> {
    advise(file, 0, None, Advice::Random);
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER];
    let mut windows = (0..size).step_by(WINDOW).map(|from| Window::look(file, from, size)).fuse();
    let mut ahead = VecDeque::with_capacity(AHEAD + 1);
    loop {
        ahead.extend(windows.by_ref().take(AHEAD + 1 - ahead.len()));
        let Some(window) = ahead.pop_front() else { return Ok(Some(Digest::from(hasher.finalize()))) };
        let read = window.read(file, &mut buffer, |bytes| {
            hasher.update(bytes);
            go_on(bytes.len() as u64)
        });
        window.drop_cold(file);
        if !matches!(read, Ok(true)) {
            ahead.iter().for_each(|window| window.drop_cold(file));
            return read.map(|_stopped| None);
        }
    }
}

/// Reads a part of a file for others, leaving the page cache as it was. At most a window (8 MiB) at once; blocks for the disk.
///
/// # Errors
/// Whatever reading gives; `UnexpectedEof` when the file is shorter.
pub(crate) fn politely(file: &File, from: u64, buffer: &mut [u8]) -> io::Result<()> {
    advise(file, 0, None, Advice::Random);
    let window = Window::look(file, from, from.saturating_add(buffer.len() as u64));
    let read = file.read_exact_at(buffer, from);
    window.drop_cold(file);
    read
}

/// Reads a file from its beginning to its end, leaving the page cache as it was.
pub(crate) struct Sequential<'a> {
    file: &'a File,
    at: u64,
    /// The one being read, and those read ahead.
    windows: VecDeque<Window>,
}

impl<'a> Sequential<'a> {
    pub(crate) fn new(file: &'a File) -> Self {
        advise(file, 0, None, Advice::Random);
        Self { file, at: 0, windows: VecDeque::with_capacity(AHEAD + 1) }
    }

    /// Looks as far ahead as it may; a file that grows meanwhile is read to its new end.
    fn look_ahead(&mut self) -> io::Result<()> {
        let size = self.file.metadata()?.len();
        while self.windows.len() <= AHEAD {
            let from = self.windows.back().map_or(self.at, Window::end);
            if from >= size {
                break;
            }
            self.windows.push_back(Window::look(self.file, from, size));
        }
        Ok(())
    }
}

impl io::Read for Sequential<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(read) = self.windows.pop_front_if(|window| window.end() <= self.at) {
            read.drop_cold(self.file);
        }
        if self.windows.is_empty() || self.windows.front().is_some_and(|window| window.from == self.at) {
            self.look_ahead()?;
        }
        let Some(window) = self.windows.front() else { return Ok(0) };
        let left = usize::try_from(window.end() - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(buffer.get_mut(..left).unwrap_or_default(), self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Drop for Sequential<'_> {
    fn drop(&mut self) {
        self.windows.iter().for_each(|window| window.drop_cold(self.file));
    }
}

/// A stretch of the file and which of its pages were cached before it was read.
struct Window {
    from: u64,
    len: u64,
    /// By page, from the one that `from` lies in. Empty where the kernel would not say: then nothing is dropped, because
    /// evicting others costs more.
    cached: Vec<bool>,
}

impl Window {
    /// Looks at a stretch, then has it read in the background.
    fn look(file: &File, from: u64, size: u64) -> Self {
        let len = size.saturating_sub(from).min(WINDOW as u64);
        // The kernel tells of whole pages only, and chunks do not begin with one.
        let into_page = from % rustix::param::page_size() as u64;
        let cached = match usize::try_from(len + into_page) {
            Ok(within) if len > 0 => sys::resident(file, from - into_page, within).unwrap_or_default(),
            _ => Vec::new(),
        };
        if let Some(ahead) = NonZeroU64::new(len) {
            advise(file, from, Some(ahead), Advice::WillNeed);
        }
        Self { from, len, cached }
    }

    /// Hands the bytes over in pieces, until `take` wants no more; tells whether it took all.
    fn read(&self, file: &File, buffer: &mut [u8], mut take: impl FnMut(&[u8]) -> bool) -> io::Result<bool> {
        let mut at = self.from;
        while at < self.end() {
            let want = usize::try_from(self.end() - at).map_or(BUFFER, |left| left.min(BUFFER));
            let piece = buffer.get_mut(..want).unwrap_or_default();
            file.read_exact_at(piece, at)?;
            if !take(piece) {
                return Ok(false);
            }
            at += want as u64;
        }
        Ok(true)
    }

    fn end(&self) -> u64 {
        self.from + self.len
    }

    /// Drops the pages that only we wanted.
    fn drop_cold(&self, file: &File) {
        let page = rustix::param::page_size() as u64;
        let start = self.from - self.from % page;
        for (first, count) in runs(&self.cached) {
            let len = NonZeroU64::new(count * page);
            advise(file, start + first * page, len, Advice::DontNeed);
        }
    }
}

/// Advises the kernel. Where it does not take advice, reading is slower or leaves more behind, and no less right.
fn advise(file: &File, from: u64, len: Option<NonZeroU64>, advice: Advice) {
    if let Err(error) = fadvise(file, from, len, advice) {
        trace!(%error, "the kernel takes no advice on a file");
    }
}

/// Lists the stretches of `false` as (first, count).
fn runs(cached: &[bool]) -> impl Iterator<Item = (u64, u64)> {
    let mut at = 0;
    cached.chunk_by(|a, b| a == b).filter_map(move |run| {
        let first = at;
        at += run.len() as u64;
        (run.first() == Some(&false)).then_some((first, run.len() as u64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(len: usize) -> (tempfile::TempDir, File, Digest) {
        // Not in a tmpfs, whose pages never leave the cache.
        let folder = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
        let path = folder.path().join("a");
        let bytes: Vec<u8> = (0..=250).cycle().take(len).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = File::open(&path).unwrap();
        rustix::fs::fsync(&file).unwrap();
        (folder, file, Digest::from(blake3::hash(&bytes)))
    }

    fn cached(file: &File, len: usize) -> usize {
        sys::resident(file, 0, len).unwrap().into_iter().filter(|page| *page).count()
    }

    #[test]
    fn the_digest_is_that_of_the_whole_file() {
        for len in [0, 1, BUFFER, BUFFER + 1, 8 * 1024 * 1024, 8 * 1024 * 1024 + 1] {
            let (_folder, file, expected) = file(len);
            let mut seen = 0;
            let digest = digest(&file, len as u64, |bytes| {
                seen += bytes;
                true
            });
            assert_eq!((digest.unwrap(), seen), (Some(expected), len as u64), "{len}");
        }
    }

    #[test]
    fn a_file_that_shrank_is_an_error_and_a_stop_is_none() {
        let (_folder, file, _) = file(10);
        assert_eq!(digest(&file, 11, |_| true).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(digest(&file, 10, |_| false).unwrap(), None);
    }

    #[test]
    fn pages_that_jobs_had_stay_and_the_others_go() {
        let len = 20 * 1024 * 1024;
        let (_folder, file, expected) = file(len);
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        let before = cached(&file, len);
        if before > 0 {
            println!("skipped: this file system keeps {before} pages");
            return;
        }
        fadvise(&file, 0, None, Advice::Random).unwrap();
        for at in [0_u64, 9 * 1024 * 1024, 19 * 1024 * 1024] {
            file.read_exact_at(&mut [0; 100_000], at).unwrap();
        }
        fadvise(&file, 0, None, Advice::Normal).unwrap();
        let used = sys::resident(&file, 0, len).unwrap();
        assert_eq!(digest(&file, len as u64, |_| true).unwrap(), Some(expected));
        let after = sys::resident(&file, 0, len).unwrap();
        assert!(
            used.iter().zip(&after).all(|(before, after)| after >= before),
            "pages of others were dropped"
        );
        let ours = used.iter().zip(&after).filter(|(before, after)| after > before).count();
        // The kernel may keep a page that it is still busy with.
        assert!(ours <= after.len() / 50, "{ours} pages were left behind");
    }

    #[test]
    fn what_is_read_in_order_leaves_the_cache_as_it_was() {
        let len = 20 * 1024 * 1024 + 77;
        let (_folder, file, expected) = file(len);
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        if cached(&file, len) > 0 {
            println!("skipped: this file system keeps pages");
            return;
        }
        let mut hasher = blake3::Hasher::new();
        let read = io::copy(&mut Sequential::new(&file), &mut hasher).unwrap();
        assert_eq!((read, Digest::from(hasher.finalize())), (len as u64, expected));
        let left = cached(&file, len);
        assert!(left <= len / 4096 / 50, "{left} pages were left behind");
    }

    #[test]
    fn what_is_read_in_chunks_leaves_the_cache_as_it_was() {
        let len = 8 * 1024 * 1024;
        let (_folder, file, _) = file(len);
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        if cached(&file, len) > 0 {
            println!("skipped: this file system keeps pages");
            return;
        }
        for from in (1_001..len - 500_001).step_by(500_001) {
            politely(&file, from as u64, &mut vec![0; 500_001]).unwrap();
        }
        let left = cached(&file, len);
        assert!(left <= len / 4096 / 20, "{left} pages were left behind");
    }

    #[test]
    fn runs_are_the_stretches_of_false() {
        let check = |cached: &[bool], expected: &[(u64, u64)]| {
            assert_eq!(runs(cached).collect::<Vec<_>>(), expected);
        };
        check(&[], &[]);
        check(&[true], &[]);
        check(&[false, false, true, false], &[(0, 2), (3, 1)]);
    }
}
