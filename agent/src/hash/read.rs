//! Hashes a file in one pass without evicting what jobs have in the page cache.
//!
//! Looks, before each window is read, which of its pages are cached, and afterwards drops those that were not. It
//! looks one window ahead of what it reads, because the kernel's readahead would make the next window look used.
//! Outside facts: posix_fadvise(2), and of Linux that RWF_NOWAIT itself starts readahead, so it cannot look.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;

use rustix::fs::{Advice, fadvise};
use sifleet_common::digest::Digest;

use crate::sys;

/// Bytes looked at and dropped at once: larger than any readahead, small next to any page cache.
const WINDOW: u64 = 8 * 1024 * 1024;
/// Bytes read at once: stays in the processor's cache between reading and hashing.
const BUFFER: usize = 256 * 1024;

/// Returns the digest of the first `size` bytes; `None` when `go_on`, told of every piece read, says to stop.
///
/// # Errors
/// Whatever reading gives; `UnexpectedEof` when the file is shorter.
pub(super) fn digest(
    file: &File,
    size: u64,
    mut go_on: impl FnMut(u64) -> bool,
) -> io::Result<Option<Digest>> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER];
    let mut window = Window::look(file, 0, size);
    while window.len > 0 {
        let next = Window::look(file, window.end(), size);
        let mut at = window.from;
        while at < window.end() {
            let want = usize::try_from(window.end() - at).map_or(BUFFER, |left| left.min(BUFFER));
            let piece = buffer.get_mut(..want).unwrap_or_default();
            file.read_exact_at(piece, at)?;
            hasher.update(piece);
            at += want as u64;
            if !go_on(want as u64) {
                return Ok(None);
            }
        }
        window.drop_cold(file);
        window = next;
    }
    Ok(Some(Digest::from(hasher.finalize())))
}

/// A stretch of the file and which of its pages were cached before it was read.
struct Window {
    from: u64,
    len: u64,
    /// Empty where the kernel would not say: then nothing is dropped, because evicting others costs more.
    cached: Vec<bool>,
}

impl Window {
    fn look(file: &File, from: u64, size: u64) -> Self {
        let len = size.saturating_sub(from).min(WINDOW);
        let cached = match usize::try_from(len) {
            Ok(len) if len > 0 => sys::resident(file, from, len).unwrap_or_default(),
            _ => Vec::new(),
        };
        Self { from, len, cached }
    }

    fn end(&self) -> u64 {
        self.from + self.len
    }

    /// Drops the pages that only we wanted; a failure leaves them to the kernel.
    fn drop_cold(&self, file: &File) {
        let page = rustix::param::page_size() as u64;
        for (first, count) in runs(&self.cached) {
            let len = NonZeroU64::new(count * page);
            if fadvise(file, self.from + first * page, len, Advice::DontNeed).is_err() {
                return;
            }
        }
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
    fn runs_are_the_stretches_of_false() {
        let check = |cached: &[bool], expected: &[(u64, u64)]| {
            assert_eq!(runs(cached).collect::<Vec<_>>(), expected);
        };
        check(&[], &[]);
        check(&[true], &[]);
        check(&[false, false, true, false], &[(0, 2), (3, 1)]);
    }
}
