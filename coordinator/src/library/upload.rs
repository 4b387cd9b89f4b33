//! Uploads on the disk: the growing file, and the small one beside it that says what it is to become.
//!
//! Both are found by the upload's identifier. Nothing in them is believed: the note is checked when read, the bytes
//! when all are there.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustix::fs::{
    AtFlags, Dir, FallocateFlags, OFlags, fallocate, fstatvfs, ftruncate, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use sifleet_common::api::library::UploadRequest;
use sifleet_common::beneath;
use sifleet_common::digest::Digest;
use sifleet_common::image;
use sifleet_common::name::ImageName;

use super::expected::{Expected, Found};
use super::place::Place;
use super::{LibraryError, Stage, Standing, publish};

/// Longest note that is read, in bytes: a name of 4 KiB may be thrice as long in JSON.
const MAX_NOTE: u64 = 32 * 1024;
const PREFIX: &str = "upload-";

/// Names an upload: half of the digest of its image's name and digest, so that whoever comes back finds it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UploadId(u128);

impl UploadId {
    /// Makes one that nobody guesses, for an upload of which nothing is known before.
    #[must_use]
    pub(crate) fn random() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for UploadId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        u128::from_str_radix(if digits { text } else { "" }, 16).map(Self)
    }
}

/// What an upload is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) name: ImageName,
    pub(super) size: u64,
    pub(super) expected: Expected,
}

impl Wish {
    pub(super) fn id(&self) -> UploadId {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(self.expected.bytes())
            .update(&self.size.to_le_bytes())
            .update(self.name.as_str().as_bytes());
        let bytes = *hasher.finalize().as_bytes();
        UploadId(bytes.first_chunk().copied().map_or(0, u128::from_be_bytes))
    }

    pub(super) fn standing(&self, stage: Stage, digest: Option<Digest>) -> Standing {
        Standing { name: self.name.clone(), size: self.size, expected: self.expected, digest, stage }
    }
}

/// Who writes: each upload has one turn, which ends when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Busy(Mutex<BTreeSet<UploadId>>);

/// The turn of one upload.
#[derive(Debug)]
pub(crate) struct Turn(Arc<Busy>, UploadId);

impl Busy {
    pub(crate) fn take(self: &Arc<Self>, id: UploadId) -> Option<Turn> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        free.then(|| Turn(Arc::clone(self), id))
    }

    pub(super) fn holds(&self, id: UploadId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

pub(super) fn data_name(id: UploadId) -> String {
    format!("{PREFIX}{id}.data")
}

fn note_name(id: UploadId) -> String {
    format!("{PREFIX}{id}.json")
}

/// Reads what an upload is to become.
pub(super) fn wish(place: &Place, id: UploadId) -> Result<Wish, LibraryError> {
    let unknown = || LibraryError::UnknownUpload { id };
    let file = match beneath::open_file(place.folder(), &note_name(id), OFlags::RDONLY) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Err(unknown()),
        Err(errno) => return Err(place.failed("open an upload's note")(errno)),
    };
    let mut text = Vec::new();
    file.take(MAX_NOTE).read_to_end(&mut text).map_err(place.failed_io("read an upload's note"))?;
    let note: UploadRequest = serde_json::from_slice(&text).map_err(|_torn| unknown())?;
    let (Ok(name), Ok(expected)) = (note.name.parse(), note.digest.parse()) else { return Err(unknown()) };
    let wish = Wish { name, size: note.size, expected };
    if wish.id() == id && publish::check_name(&wish.name).is_ok() { Ok(wish) } else { Err(unknown()) }
}

/// Opens the bytes that are there.
pub(super) fn open(place: &Place, wish: &Wish) -> Result<File, LibraryError> {
    match beneath::open_file(place.folder(), &data_name(wish.id()), OFlags::RDWR) {
        Ok(file) => Ok(file),
        Err(Errno::NOENT) => Err(LibraryError::UnknownUpload { id: wish.id() }),
        Err(errno) => Err(place.failed("open an upload")(errno)),
    }
}

/// Tells how many bytes are there; none where the upload was not begun.
pub(super) fn offset(place: &Place, wish: &Wish) -> Result<Option<u64>, LibraryError> {
    match (self::wish(place, wish.id()), open(place, wish)) {
        (Err(LibraryError::UnknownUpload { .. }), _) | (_, Err(LibraryError::UnknownUpload { .. })) => {
            Ok(None)
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
        (Ok(_), Ok(file)) => length(place, &file).map(Some),
    }
}

fn length(place: &Place, file: &File) -> Result<u64, LibraryError> {
    file.metadata().map(|facts| facts.len()).map_err(place.failed_io("look at an upload"))
}

/// Makes both files, with room for all that is to come, and returns the offset.
pub(super) fn create(place: &Place, wish: &Wish, floor: u64) -> Result<u64, LibraryError> {
    let room = fstatvfs(place.folder()).map_err(place.failed("ask for free space"))?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    if free < wish.size.saturating_add(floor) {
        return Err(LibraryError::NoSpace { dir: place.dir().to_owned(), free, needed: wish.size, floor });
    }
    let id = wish.id();
    let file = beneath::make_file(place.folder(), &data_name(id), OFlags::RDWR)
        .map_err(place.failed("make the file of an upload"))?;
    let made = reserve(place, &file, wish).and_then(|()| note(place, wish));
    if made.is_err() {
        discard(place, id)?;
    }
    made?;
    length(place, &file)
}

fn reserve(place: &Place, file: &File, wish: &Wish) -> Result<(), LibraryError> {
    // Bytes without a note are of an attempt that never began.
    ftruncate(file, 0).map_err(place.failed("empty the file of an upload"))?;
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, wish.size) {
        // Not every file system can; then a full disk is found out later.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(errno) => Err(place.failed("reserve space for an upload")(errno)),
    }
}

fn note(place: &Place, wish: &Wish) -> Result<(), LibraryError> {
    let note = UploadRequest {
        name: wish.name.as_str().to_owned(),
        size: wish.size,
        digest: wish.expected.to_string(),
    };
    let draft = format!("{PREFIX}{}.draft", wish.id());
    let how = OFlags::WRONLY | OFlags::TRUNC;
    let mut file =
        beneath::make_file(place.folder(), &draft, how).map_err(place.failed("make an upload's note"))?;
    let written =
        serde_json::to_vec(&note).map_err(std::io::Error::from).and_then(|text| file.write_all(&text));
    written.map_err(place.failed_io("write an upload's note"))?;
    renameat(place.folder(), &draft, place.folder(), note_name(wish.id()))
        .map_err(place.failed("name an upload's note"))
}

/// Removes whatever there is of an upload, its bytes first: without them nobody goes on with it.
pub(super) fn discard(place: &Place, id: UploadId) -> Result<(), LibraryError> {
    for end in ["data", "json", "draft", "link"] {
        match unlinkat(place.folder(), format!("{PREFIX}{id}.{end}"), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(place.failed("remove an upload")(errno)),
        }
    }
    Ok(())
}

/// Lists uploads with the time at which they were last touched.
fn list(place: &Place) -> Result<Vec<(UploadId, SystemTime)>, LibraryError> {
    let mut uploads = std::collections::BTreeMap::new();
    for entry in Dir::read_from(place.folder()).map_err(place.failed("list the uploads"))? {
        let entry = entry.map_err(place.failed("list the uploads"))?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        let id = name.strip_prefix(PREFIX).and_then(|rest| rest.split('.').next()).map(str::parse);
        let Some(Ok(id)) = id else { continue };
        let Ok(stat) = statat(place.folder(), name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let seconds = std::time::Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or_default());
        let touched = SystemTime::UNIX_EPOCH + seconds;
        let latest = uploads.entry(id).or_insert(touched);
        *latest = touched.max(*latest);
    }
    Ok(uploads.into_iter().collect())
}

/// Lists those that nobody touched since.
pub(super) fn stale(place: &Place, since: SystemTime) -> Result<Vec<UploadId>, LibraryError> {
    Ok(list(place)?.into_iter().filter(|(_, touched)| *touched < since).map(|(id, _)| id).collect())
}

/// Counts those that somebody touched since.
pub(super) fn count_since(place: &Place, since: SystemTime) -> Result<usize, LibraryError> {
    Ok(list(place)?.into_iter().filter(|(_, touched)| *touched >= since).count())
}

/// Holds all bytes against what they are to be, then looks whether they are an image; returns its digest.
pub(super) fn verify(place: &Place, wish: &Wish, file: &File) -> Result<Digest, LibraryError> {
    let has = length(place, file)?;
    if has != wish.size {
        return Err(LibraryError::WrongOffset { has, size: wish.size, offset: wish.size });
    }
    let found = Found::read(file, wish.expected).map_err(place.failed_io("read an upload back"))?;
    if found.said != wish.expected {
        let (name, digest) = (wish.name.clone(), wish.expected);
        return Err(LibraryError::WrongDigest { name, digest, found: found.said });
    }
    match image::runnable(file) {
        Ok(_) => Ok(found.digest),
        Err(reason) => Err(LibraryError::NotAnImage { name: wish.name.clone(), reason }),
    }
}

/// An upload that takes bytes.
#[derive(Debug)]
pub struct Writing {
    place: std::path::PathBuf,
    file: File,
    has: u64,
    wish: Wish,
    _turn: Turn,
}

impl Writing {
    pub(super) fn open(place: &Place, wish: Wish, offset: u64, turn: Turn) -> Result<Self, LibraryError> {
        let file = open(place, &wish)?;
        let has = length(place, &file)?;
        if has != offset || has > wish.size {
            return Err(LibraryError::WrongOffset { has, size: wish.size, offset });
        }
        Ok(Self { place: place.dir().to_owned(), file, has, wish, _turn: turn })
    }

    /// Appends bytes; what was written before an error stays.
    ///
    /// # Errors
    /// [`LibraryError::TooLong`], or the disk's.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), LibraryError> {
        let (has, size) = (self.has, self.wish.size);
        let more = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if more > size.saturating_sub(has) {
            return Err(LibraryError::TooLong { has, size });
        }
        let failed = |source| LibraryError::Disk { step: "write an upload", dir: self.place.clone(), source };
        self.file.write_all_at(bytes, has).map_err(failed)?;
        self.has = has.saturating_add(more);
        Ok(())
    }

    /// Tells how far the upload is.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.wish.standing(Stage::Open(self.wish.id(), self.has), None)
    }
}
