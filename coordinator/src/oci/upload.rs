//! Uploads of blobs: a file grows in the hidden folder, is held against its digest, and becomes a blob by one rename.
//!
//! An upload's offset is the length of its file, so that every restart finds it again. Its SHA-256 is kept while it grows in
//! order; after a restart the file is read once more. Everything here waits for the disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::{OFlags, fsync, renameat};
use rustix::io::Errno;
use sifleet_common::beneath;
use sifleet_common::chunk::MAX_IMAGE;
use sifleet_common::image::{Format, PROBE_LEN, probe};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, oneshot};

use super::digest::{Algorithm, Hasher, OciDigest};
use super::error::OciError;
use super::{Registry, hash, stored};
use crate::library::{Busy, Place, Turn, UploadId};

/// An upload that was touched within this time counts as going on.
const ACTIVE: Duration = Duration::from_secs(600);
/// How often an upload that grows looks whether there is room, at most and at least: what all of them write in between
/// has to fit into what is kept free.
const LOOK: (u64, u64) = (1 << 20, 64 << 20);

/// Who writes, and what is hashed so far.
#[derive(Debug)]
pub(super) struct Uploads {
    busy: Arc<Busy>,
    hashers: Mutex<BTreeMap<UploadId, (u64, Hasher)>>,
    /// One upload begins at a time, so that each counts those before it.
    beginning: Mutex<()>,
    /// Requests whose bytes are taken: each takes a thread and some memory.
    writers: Arc<Semaphore>,
}

impl Uploads {
    pub(super) fn new(max: usize) -> Self {
        let writers = Arc::new(Semaphore::new(max.clamp(1, Semaphore::MAX_PERMITS)));
        Self { busy: Arc::default(), hashers: Mutex::default(), beginning: Mutex::default(), writers }
    }

    fn hashers(&self) -> MutexGuard<'_, BTreeMap<UploadId, (u64, Hasher)>> {
        self.hashers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An upload that takes bytes; nobody else writes until it is dropped.
#[derive(Debug)]
pub struct Receiving {
    registry: Registry,
    id: UploadId,
    file: File,
    has: u64,
    /// None once bytes were written that it did not see.
    hasher: Option<Hasher>,
    /// At which length it is looked again whether there is room.
    look_at: u64,
    _turn: Turn,
    _writer: OwnedSemaphorePermit,
}

impl Registry {
    /// Begins an upload.
    ///
    /// # Errors
    /// [`OciError::TooMany`], and where there is no room.
    pub async fn begin_upload(&self) -> Result<UploadId, OciError> {
        self.on_disk(|registry| {
            let place = registry.0.library.place()?;
            let since = SystemTime::now() - ACTIVE;
            let active =
                |entry: &&stored::Entry| entry.name.starts_with(stored::UPLOAD) && entry.touched >= since;
            let max = registry.0.options.max_uploads;
            let _beginning = registry.0.uploads.beginning.lock().unwrap_or_else(PoisonError::into_inner);
            if stored::list(&place)?.iter().filter(active).count() >= max {
                return Err(OciError::TooMany { what: "uploads", max });
            }
            registry.check_room(&place, 0)?;
            let id = UploadId::random();
            beneath::make_file(place.folder(), &file_name(id), OFlags::RDWR | OFlags::EXCL)
                .map_err(place.failed("make the file of an upload"))?;
            registry.0.uploads.hashers().insert(id, (0, Hasher::new(Algorithm::Sha256)));
            Ok(id)
        })
        .await
    }

    /// Tells how many bytes of an upload are here.
    ///
    /// # Errors
    /// [`OciError::UnknownUpload`].
    pub async fn upload_offset(&self, id: UploadId) -> Result<u64, OciError> {
        self.on_disk(move |registry| {
            let place = registry.0.library.place()?;
            length(&place, &open(&place, id)?)
        })
        .await
    }

    /// Opens an upload for the bytes from `offset` on, or for those that follow.
    ///
    /// # Errors
    /// [`OciError::OutOfOrder`], [`OciError::UnknownUpload`], [`OciError::Busy`], [`OciError::TooMany`].
    pub async fn receive(&self, id: UploadId, offset: Option<u64>) -> Result<Receiving, OciError> {
        let max = self.0.options.max_uploads;
        let writer = Arc::clone(&self.0.uploads.writers).try_acquire_owned();
        let writer = writer.map_err(|_full| OciError::TooMany { what: "uploads", max })?;
        self.on_disk(move |registry| {
            let place = registry.0.library.place()?;
            let turn = registry.0.uploads.busy.take(id).ok_or(OciError::Busy { id })?;
            // Opened before its turn, it could be a blob by now that was held against its digest.
            let file = open(&place, id)?;
            let has = length(&place, &file)?;
            if let Some(offset) = offset.filter(|offset| *offset != has) {
                return Err(OciError::OutOfOrder { id, has, offset });
            }
            let hasher = registry.0.uploads.hashers().remove(&id);
            let hasher = hasher.filter(|(seen, _)| *seen == has).map(|(_, hasher)| hasher);
            let registry = registry.clone();
            Ok(Receiving { registry, id, file, has, hasher, look_at: has, _turn: turn, _writer: writer })
        })
        .await
    }

    /// Throws an upload away.
    ///
    /// # Errors
    /// [`OciError::UnknownUpload`], [`OciError::Busy`].
    pub async fn cancel_upload(&self, id: UploadId) -> Result<(), OciError> {
        self.on_disk(move |registry| {
            let place = registry.0.library.place()?;
            let _turn = registry.0.uploads.busy.take(id).ok_or(OciError::Busy { id })?;
            open(&place, id)?;
            registry.discard(&place, id)
        })
        .await
    }

    fn discard(&self, place: &Place, id: UploadId) -> Result<(), OciError> {
        self.0.uploads.hashers().remove(&id);
        stored::remove(place, &file_name(id)).map(drop)
    }

    /// Throws away an upload that nobody touched for long, unless somebody writes it.
    pub(super) fn reap_upload(&self, place: &Place, name: &str) -> Result<bool, OciError> {
        let id = name.strip_prefix(stored::UPLOAD).and_then(|id| id.parse().ok());
        let Some(id) = id else { return stored::remove(place, name) };
        match self.0.uploads.busy.take(id) {
            Some(_turn) => self.discard(place, id).map(|()| true),
            None => Ok(false),
        }
    }

    /// After how many bytes an upload looks again whether there is room.
    pub(super) fn look_every(&self) -> u64 {
        let uploads = u64::try_from(self.0.options.max_uploads).unwrap_or(u64::MAX).max(1);
        let (least, most) = LOOK;
        self.0.library.keep_free().checked_div(uploads).unwrap_or(least).clamp(least, most)
    }

    pub(super) fn check_room(&self, place: &Place, more: u64) -> Result<(), OciError> {
        stored::check_room(place, more, (self.0.library.keep_free(), self.0.options.quota))
    }
}

impl Receiving {
    /// Tells how many bytes are here.
    #[must_use]
    pub const fn has(&self) -> u64 {
        self.has
    }

    /// Returns which upload it is.
    #[must_use]
    pub const fn id(&self) -> UploadId {
        self.id
    }

    /// Appends bytes, where blocking is allowed; what was written before an error stays.
    ///
    /// # Errors
    /// [`OciError::TooLarge`], [`OciError::Quota`], and the disk's.
    pub async fn append(mut self, bytes: Vec<u8>) -> Result<Self, OciError> {
        let done = tokio::task::spawn_blocking(move || self.write(&bytes).map(|()| self));
        done.await.unwrap_or(Err(OciError::Lost))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), OciError> {
        let more = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let length = self.has.saturating_add(more);
        let place = self.registry.0.library.place()?;
        if self.has >= self.look_at {
            self.registry.check_room(&place, more)?;
            self.look_at = self.has.saturating_add(self.registry.look_every());
        }
        let max = self.registry.0.options.max_blob;
        if length > MAX_IMAGE || (length > max && !self.is_sif(bytes)) {
            return Err(OciError::TooLarge { max, most: MAX_IMAGE });
        }
        self.file.write_all_at(bytes, self.has).map_err(place.failed_io("write an upload"))?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.has = length;
        Ok(())
    }

    /// Tells whether the upload, which goes on with `bytes`, begins as a SIF image does.
    fn is_sif(&self, bytes: &[u8]) -> bool {
        let mut head = vec![0; PROBE_LEN];
        let read = if self.has == 0 { Ok(0) } else { self.file.read_at(&mut head, 0) };
        let Ok(read) = read else { return false };
        head.truncate(read);
        head.extend(bytes.iter().take(PROBE_LEN.saturating_sub(read)));
        probe(&head) == Some(Format::Sif)
    }

    /// Holds all bytes against a digest, and makes them a blob. After an error that tells of other bytes the upload is gone.
    ///
    /// # Errors
    /// [`OciError::BadDigest`], and the disk's.
    pub async fn finish(self, digest: OciDigest) -> Result<(), OciError> {
        let (tell, told) = oneshot::channel();
        let tasks = self.registry.0.tasks.clone();
        // Who asked may go away: what took minutes to verify is named all the same.
        tasks.spawn("end of an upload", async move { drop(tell.send(self.end(digest).await)) });
        told.await.unwrap_or(Err(OciError::Lost))
    }

    async fn end(mut self, digest: OciDigest) -> Result<(), OciError> {
        let naming = Arc::clone(&self.registry.0.naming);
        let verified = tokio::task::spawn_blocking(move || {
            self.verify(&digest)?;
            Ok((self, digest))
        });
        let (verified, digest) = verified.await.unwrap_or(Err(OciError::Lost))?;
        // Whoever publishes the blob that is there now names the file that was looked at.
        let turn = naming.lock_owned().await;
        let named = tokio::task::spawn_blocking(move || verified.name(&digest, turn));
        named.await.unwrap_or(Err(OciError::Lost))
    }

    fn verify(&mut self, digest: &OciDigest) -> Result<(), OciError> {
        let registry = self.registry.clone();
        let place = registry.0.library.place()?;
        let running = self.hasher.take().filter(|_| digest.algorithm() == Algorithm::Sha256);
        let found = match running {
            Some(hasher) => hasher.finish(),
            None => hash::digest(&self.file, digest.algorithm())
                .map_err(place.failed_io("read an upload back"))?,
        };
        if found != *digest {
            registry.discard(&place, self.id)?;
            let why = format!("what was sent has the digest {found}, not {digest}; it was thrown away");
            return Err(OciError::BadDigest { why });
        }
        Ok(fsync(&self.file).map_err(place.failed("make a blob durable"))?)
    }

    fn name(self, digest: &OciDigest, turn: OwnedMutexGuard<()>) -> Result<(), OciError> {
        let place = self.registry.0.library.place()?;
        renameat(place.folder(), file_name(self.id), place.folder(), stored::blob_name(digest))
            .map_err(place.failed("name a blob"))?;
        fsync(place.folder()).map_err(place.failed("make a blob's name durable"))?;
        drop(turn);
        self.registry.0.uploads.hashers().remove(&self.id);
        Ok(())
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if let Some(hasher) = self.hasher.take() {
            self.registry.0.uploads.hashers().insert(self.id, (self.has, hasher));
        }
    }
}

fn file_name(id: UploadId) -> String {
    format!("{}{id}", stored::UPLOAD)
}

fn open(place: &Place, id: UploadId) -> Result<File, OciError> {
    match beneath::open_file(place.folder(), &file_name(id), OFlags::RDWR) {
        Ok(file) => Ok(file),
        Err(Errno::NOENT) => Err(OciError::UnknownUpload { id: id.to_string() }),
        Err(errno) => Err(place.failed("open an upload")(errno).into()),
    }
}

fn length(place: &Place, file: &File) -> Result<u64, OciError> {
    Ok(file.metadata().map_err(place.failed_io("look at an upload"))?.len())
}
