//! Keeps what is written from filling the page cache, which belongs to jobs.
//!
//! Owns the order in which a staging file was written. The kernel is asked twice to drop what was written a while ago:
//! the first time it drops what is clean and starts to write what is not, the second time it drops the rest. So of an
//! image of any size little more than the last bytes stay cached, for those to whom they are given at once.
//! Outside facts: posix_fadvise(2): `DONTNEED` drops clean pages only; of Linux, that it also starts to write dirty ones.

use std::collections::VecDeque;
use std::fs::File;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Advice, fadvise};
use tracing::trace;

/// Bytes written last that are not touched. What is behind them goes to the disk, so that little is left to wait for when the
/// whole is made durable; being written it stays cached, for whoever is offered it and asks within a second.
const FIRST: u64 = 8 * 1024 * 1024;
/// Bytes written last that may stay: those behind them had the time to reach the disk.
const SECOND: u64 = 256 * 1024 * 1024;

/// What was written, in the order in which it was.
#[derive(Debug)]
pub(super) struct Trail(Mutex<Queues>);

#[derive(Debug)]
struct Queues {
    first: Queue,
    second: Queue,
}

/// Stretches in order, of which only so many bytes stay.
#[derive(Debug)]
struct Queue {
    stretches: VecDeque<Range<u64>>,
    bytes: u64,
    limit: u64,
}

impl Queue {
    const fn of(limit: u64) -> Self {
        Self { stretches: VecDeque::new(), bytes: 0, limit }
    }

    /// Takes a stretch in and returns those that fall out at the other end.
    fn push(&mut self, stretch: Range<u64>) -> Vec<Range<u64>> {
        self.bytes += stretch.end - stretch.start;
        self.stretches.push_back(stretch);
        let mut out = Vec::new();
        while self.bytes > self.limit
            && let Some(oldest) = self.stretches.pop_front()
        {
            self.bytes -= oldest.end - oldest.start;
            out.push(oldest);
        }
        out
    }
}

impl Trail {
    pub(super) const fn new() -> Self {
        Self::of(FIRST, SECOND)
    }

    const fn of(first: u64, second: u64) -> Self {
        Self(Mutex::new(Queues { first: Queue::of(first), second: Queue::of(second) }))
    }

    /// Notes what was written just now, and advises the kernel about what was written before.
    pub(super) fn wrote(&self, file: &File, stretch: Range<u64>) {
        let past = {
            let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let mut past = queues.first.push(stretch.clone());
            past.extend(queues.second.push(stretch));
            past
        };
        for stretch in past {
            let len = NonZeroU64::new(stretch.end - stretch.start);
            if let Err(error) = fadvise(file, stretch.start, len, Advice::DontNeed) {
                trace!(%error, "the kernel takes no advice on a staging file");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::sys;

    #[test]
    fn what_falls_out_was_written_first() {
        let mut queue = Queue::of(10);
        assert_eq!(queue.push(100..106), []);
        assert_eq!(queue.push(0..4), []);
        assert_eq!(queue.push(50..57), [100..106, 0..4]);
        assert_eq!(queue.push(200..300), [50..57, 200..300]);
    }

    #[test]
    fn of_a_large_file_only_what_was_written_last_stays_cached() {
        const MIB: u64 = 1024 * 1024;
        // Not in a tmpfs, whose pages never leave the cache.
        let file = tempfile::tempfile_in(std::env::current_dir().unwrap()).unwrap();
        let trail = Trail::of(4 * MIB, 16 * MIB);
        let bytes = vec![7; 1024 * 1024];
        file.write_all_at(&bytes, 0).unwrap();
        rustix::fs::fdatasync(&file).unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        if sys::resident(&file, 0, bytes.len()).unwrap().contains(&true) {
            println!("skipped: this file system keeps its pages");
            return;
        }
        for at in 0..96 {
            file.write_all_at(&bytes, at * MIB).unwrap();
            if at % 8 == 7 {
                // Stands for the time that a network gives a disk.
                rustix::fs::fdatasync(&file).unwrap();
            }
            trail.wrote(&file, at * MIB..(at + 1) * MIB);
        }
        let cached = sys::resident(&file, 0, 96 * 1024 * 1024).unwrap();
        let share = |pages: &[bool]| pages.iter().filter(|page| **page).count() as f64 / pages.len() as f64;
        let (early, rest) = cached.split_at(cached.len() * 80 / 96);
        assert!(share(early) < 0.1, "{}", share(early));
        let (_, last) = rest.split_at(rest.len() * 12 / 16);
        assert!(share(last) > 0.9, "{}", share(last));
    }
}
