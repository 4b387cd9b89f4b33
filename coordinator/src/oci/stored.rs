//! Blobs and uploads in the library's hidden folder, beside those of other uploads.

use std::fs::File;
use std::time::{Duration, SystemTime};

use rustix::fs::{
    AtFlags, Dir, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, fstatvfs, futimens, statat, unlinkat,
};
use rustix::io::Errno;
use sifleet_common::beneath;
use tracing::trace;

use super::digest::OciDigest;
use super::error::OciError;
use crate::library::{LibraryError, Place};

/// How files of blobs begin.
const BLOB: &str = "oci-blob-";
/// How files of uploads begin.
pub(super) const UPLOAD: &str = "oci-upload-";
/// How copies and second names on their way into the library begin.
pub(super) const DRAFT: &str = "oci-draft-";
/// A blob that was asked for counts as younger, but not every time.
const TOUCH: Duration = Duration::from_secs(600);

/// A file of ours in the hidden folder.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) touched: SystemTime,
}

impl Entry {
    /// Returns which blob it is.
    pub(super) fn blob(&self) -> Option<OciDigest> {
        self.name.strip_prefix(BLOB)?.replacen('-', ":", 1).parse().ok()
    }
}

/// Names the file of a blob.
pub(super) fn blob_name(digest: &OciDigest) -> String {
    format!("{BLOB}{}", digest.file_name())
}

/// Opens a blob, if it is there. It is kept the longer for that.
pub(super) fn open(place: &Place, digest: &OciDigest) -> Result<Option<File>, OciError> {
    match beneath::open_file(place.folder(), &blob_name(digest), OFlags::RDONLY) {
        Ok(file) => {
            touch(&file);
            Ok(Some(file))
        }
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(place.failed("open a blob")(errno).into()),
    }
}

/// Makes a blob count as younger: somebody is about to name it in a manifest.
fn touch(file: &File) {
    let is_young = |file: &File| file.metadata().ok()?.modified().ok()?.elapsed().ok().map(|age| age < TOUCH);
    if is_young(file) != Some(true) {
        let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let last_modification = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        // What cannot be touched is reaped the sooner, and pushed again.
        if let Err(error) = futimens(file, &Timestamps { last_access, last_modification }) {
            trace!(%error, "a blob keeps its age");
        }
    }
}

/// Lists all files of ours.
pub(super) fn list(place: &Place) -> Result<Vec<Entry>, OciError> {
    let mut found = Vec::new();
    for entry in Dir::read_from(place.folder()).map_err(place.failed("list the blobs"))? {
        let entry = entry.map_err(place.failed("list the blobs"))?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if ![BLOB, UPLOAD, DRAFT].iter().any(|start| name.starts_with(start)) {
            continue;
        }
        found.extend(look(place, name));
    }
    Ok(found)
}

/// Looks at a file of ours, if it is there.
pub(super) fn look(place: &Place, name: &str) -> Option<Entry> {
    let stat = statat(place.folder(), name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let seconds = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or_default());
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    Some(Entry { name: name.to_owned(), size, touched: SystemTime::UNIX_EPOCH + seconds })
}

/// Removes a file of ours; tells whether it was there.
pub(super) fn remove(place: &Place, name: &str) -> Result<bool, OciError> {
    match unlinkat(place.folder(), name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(place.failed("remove a blob")(errno).into()),
    }
}

/// Looks whether more bytes fit.
pub(super) fn check_room(place: &Place, more: u64, (keep_free, quota): (u64, u64)) -> Result<(), OciError> {
    let room = fstatvfs(place.folder()).map_err(place.failed("ask for free space"))?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    if free < more.saturating_add(keep_free) {
        let dir = place.dir().to_owned();
        return Err(LibraryError::NoSpace { dir, free, needed: more, floor: keep_free }.into());
    }
    let used = list(place)?.iter().fold(0_u64, |used, entry| used.saturating_add(entry.size));
    if used.saturating_add(more) > quota {
        Err(OciError::Quota { what: "blobs and uploads", quota })
    } else {
        Ok(())
    }
}
