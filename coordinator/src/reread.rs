//! Files that people edit while the coordinator runs: read again when they changed.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// What tells that a file changed, whether it was edited in place or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    dev: u64,
    ino: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(about: &Metadata) -> Self {
        Self {
            dev: about.dev(),
            ino: about.ino(),
            size: about.size(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        }
    }
}

/// Reads a file unless it is as it was seen; of a longer one `max` bytes and one more, which shows it. Waits for the disk.
///
/// # Errors
/// When it cannot be read or is no regular file.
pub(crate) fn read_if_changed(
    path: &Path,
    seen: Option<Stamp>,
    max: u64,
) -> io::Result<Option<(Vec<u8>, Stamp)>> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    // A FIFO in place of a file must not hold the reader.
    let file = File::options().read(true).custom_flags(nonblocking).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let stamp = Stamp::of(&about);
    if seen == Some(stamp) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(Some((bytes, stamp)))
}
