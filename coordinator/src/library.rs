//! The library's directory on this machine, and how users' images get into it.
//!
//! Owns uploads: an image grows in a file that nobody sees, is held against its digest, looked at as an image, and
//! published by one rename, never in place. It keeps nothing in memory but who writes at the moment: an upload's
//! identifier follows from name and digest, its offset is the length of its file, so that every restart finds both
//! again. What the library holds is still said by the inventory of the agent that watches it, and by nobody else.
//! Everything here waits for the disk: call it where blocking is allowed.

mod error;
mod expected;
mod place;
mod publish;
mod same;
mod upload;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sifleet_common::chunk::MAX_IMAGE;
use sifleet_common::digest::Digest;
use sifleet_common::name::ImageName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use error::LibraryError;
pub use expected::{Expected, NotSha256, Sha256};
pub(crate) use place::Place;
pub(crate) use publish::{Target, check_name, publish};
use upload::Wish;
pub(crate) use upload::{Busy, Turn};
pub use upload::{UploadId, Writing};

/// An upload that nobody touched for so long is thrown away.
pub const STALE: Duration = Duration::from_secs(7 * 24 * 3_600);
/// An upload that was touched within this time counts as going on: far longer than a client pauses between attempts.
const ACTIVE: Duration = Duration::from_secs(600);
/// How often stale uploads are looked for.
const REAP: Duration = Duration::from_secs(3_600);

/// Most requests that wait for the disk, whatever is set: each takes a thread.
const MAX_PLACES: usize = 128;

/// What may be configured of the library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The directory.
    pub dir: PathBuf,
    /// So many bytes stay free on its file system, for those who share it.
    pub keep_free: u64,
    /// Most uploads that go on at once.
    pub max_uploads: usize,
}

impl Options {
    /// Takes a directory, with the default bounds.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, keep_free: 256 * 1024 * 1024, max_uploads: 16 }
    }
}

/// How an upload stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Name of the image.
    pub name: ImageName,
    /// Its length in bytes.
    pub size: u64,
    /// What its bytes are to be.
    pub expected: Expected,
    /// Its digest, as soon as its bytes were read.
    pub digest: Option<Digest>,
    /// How far it is.
    pub stage: Stage,
}

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The library held the image under this name before.
    Present,
    /// It held it under another name.
    Deduplicated,
    /// Bytes from this offset on are waited for.
    Open(UploadId, u64),
    /// The image was published.
    Published,
}

/// The library; clones share it.
#[derive(Clone, Debug)]
pub struct Library {
    options: Options,
    busy: Arc<Busy>,
    /// Only one caller at a time has files of the library read, so that requests cannot keep all disks busy.
    reading: Arc<Mutex<()>>,
    /// Who waits for the disk takes one: threads that wait are few.
    places: Arc<Semaphore>,
}

impl Library {
    /// Names a directory; it need not be there yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        // Each upload has one request that writes, and another that asks about it.
        let places = Arc::new(Semaphore::new(options.max_uploads.saturating_mul(2).min(MAX_PLACES)));
        Self { options, busy: Arc::default(), reading: Arc::default(), places }
    }

    /// Opens the directory.
    ///
    /// # Errors
    /// [`LibraryError::Disk`].
    pub(crate) fn place(&self) -> Result<Place, LibraryError> {
        Place::open(&self.options.dir)
    }

    /// Returns how many bytes stay free on its file system.
    pub(crate) const fn keep_free(&self) -> u64 {
        self.options.keep_free
    }

    /// Begins an upload, or goes on with it; ends it at once where the library holds the image already.
    ///
    /// # Errors
    /// [`LibraryError`]; nothing is visible, and what an earlier attempt sent stays.
    pub fn begin(
        &self,
        name: ImageName,
        size: u64,
        expected: impl Into<Expected>,
    ) -> Result<Standing, LibraryError> {
        check_name(&name)?;
        if size == 0 || size > MAX_IMAGE {
            return Err(LibraryError::BadSize { name, size, max: MAX_IMAGE });
        }
        let place = Place::open(&self.options.dir)?;
        self.reap(&place);
        let target = Target::look(&place, &name)?;
        let wish = Wish { name, size, expected: expected.into() };
        let standing = |stage, digest| Ok(wish.standing(stage, digest));
        let id = wish.id();
        // The turn is taken for what changes files, and never while files are read: whoever sends that very image
        // piece by piece would be refused meanwhile.
        if let Some(found) = self.find(&place, &wish)
            && let Some(_turn) = self.busy.take(id)
        {
            if found.name == wish.name.as_str() {
                upload::discard(&place, id)?;
                return standing(Stage::Present, Some(found.digest));
            }
            if publish::link(&place, &found, id, target)? {
                info!(image = %wish.name, digest = %found.digest.short(), "an image of the library got another name");
                upload::discard(&place, id)?;
                return standing(Stage::Deduplicated, Some(found.digest));
            }
        }
        let offset = match upload::offset(&place, &wish)? {
            Some(offset) => offset,
            None => self.create(&place, &wish)?,
        };
        standing(Stage::Open(id, offset), None)
    }

    /// Finds the bytes in the library, unless somebody sends them: then there is nothing to search for.
    fn find(&self, place: &Place, wish: &Wish) -> Option<same::Same> {
        if self.busy.holds(wish.id()) {
            return None;
        }
        let _one = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        same::find(place, wish)
    }

    fn create(&self, place: &Place, wish: &Wish) -> Result<u64, LibraryError> {
        let id = wish.id();
        let _turn = self.busy.take(id).ok_or(LibraryError::Busy { id })?;
        // Another request may have begun it since.
        if let Some(offset) = upload::offset(place, wish)? {
            return Ok(offset);
        }
        let max = self.options.max_uploads;
        if upload::count_since(place, SystemTime::now() - ACTIVE)? >= max {
            return Err(LibraryError::TooManyUploads { max });
        }
        upload::create(place, wish, self.options.keep_free)
    }

    /// Lets a caller wait for the disk, unless too many do; the place is given back when the result is dropped.
    ///
    /// # Errors
    /// [`LibraryError::TooManyUploads`].
    pub fn enter(&self) -> Result<OwnedSemaphorePermit, LibraryError> {
        let full = |_: TryAcquireError| LibraryError::TooManyUploads { max: self.options.max_uploads };
        Arc::clone(&self.places).try_acquire_owned().map_err(full)
    }

    /// Waits for a place at the disk, for work that nobody waits for; none only if there are no places at all.
    pub async fn wait(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// Tells how far an upload is.
    ///
    /// # Errors
    /// [`LibraryError::UnknownUpload`] and those of the disk.
    pub fn look(&self, id: UploadId) -> Result<Standing, LibraryError> {
        let place = Place::open(&self.options.dir)?;
        let wish = upload::wish(&place, id)?;
        let offset = upload::offset(&place, &wish)?.ok_or(LibraryError::UnknownUpload { id })?;
        Ok(wish.standing(Stage::Open(id, offset), None))
    }

    /// Opens an upload for the bytes from `offset` on; nobody else writes until the result is dropped.
    ///
    /// # Errors
    /// [`LibraryError::WrongOffset`] names the right one; [`LibraryError::Busy`] where somebody else writes.
    pub fn write(&self, id: UploadId, offset: u64) -> Result<Writing, LibraryError> {
        let place = Place::open(&self.options.dir)?;
        let wish = upload::wish(&place, id)?;
        let turn = self.busy.take(id).ok_or(LibraryError::Busy { id })?;
        Writing::open(&place, wish, offset, turn)
    }

    /// Holds an upload against its digest, looks whether it is an image, and publishes it.
    ///
    /// # Errors
    /// After [`LibraryError::WrongDigest`] and [`LibraryError::NotAnImage`] the upload is gone. After every other it is
    /// as it was, and so is the library, unless the very last sync failed: then the image is published, and may be
    /// gone after a loss of power.
    pub fn finish(&self, id: UploadId) -> Result<Standing, LibraryError> {
        let place = Place::open(&self.options.dir)?;
        let wish = upload::wish(&place, id)?;
        let _turn = self.busy.take(id).ok_or(LibraryError::Busy { id })?;
        let file = upload::open(&place, &wish)?;
        let digest = match upload::verify(&place, &wish, &file) {
            Ok(digest) => digest,
            Err(error) => {
                if error.condemns() {
                    warn!(image = %wish.name, digest = %wish.expected.short(), %error, "an upload was thrown away");
                    upload::discard(&place, id)?;
                }
                return Err(error);
            }
        };
        let target = Target::look(&place, &wish.name)?;
        publish(&place, &file, &upload::data_name(id), target)?;
        upload::discard(&place, id)?;
        info!(image = %wish.name, digest = %digest.short(), bytes = wish.size, "an image came into the library");
        Ok(wish.standing(Stage::Published, Some(digest)))
    }

    /// Throws an upload away.
    ///
    /// # Errors
    /// [`LibraryError::UnknownUpload`], [`LibraryError::Busy`] and those of the disk.
    pub fn abandon(&self, id: UploadId) -> Result<Standing, LibraryError> {
        let standing = self.look(id)?;
        let _turn = self.busy.take(id).ok_or(LibraryError::Busy { id })?;
        upload::discard(&Place::open(&self.options.dir)?, id)?;
        Ok(standing)
    }

    /// Throws away what nobody touched for [`STALE`], now and then until `stop`.
    pub async fn reap_until(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(REAP);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let library = self.clone();
            let reaped = tokio::task::spawn_blocking(move || {
                Place::open(&library.options.dir).map(|place| library.reap(&place))
            });
            match reaped.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => warn!(%error, "cannot look for stale uploads"),
                Err(error) => warn!(%error, "looking for stale uploads broke off"),
            }
        }
    }

    fn reap(&self, place: &Place) {
        let reaped = upload::stale(place, SystemTime::now() - STALE).and_then(|stale| {
            stale.into_iter().try_for_each(|id| match self.busy.take(id) {
                Some(_turn) => upload::discard(place, id)
                    .inspect(|()| info!(upload = %id, "a stale upload was thrown away")),
                None => Ok(()),
            })
        });
        if let Err(error) = reaped {
            warn!(%error, "cannot throw a stale upload away");
        }
    }
}

#[cfg(test)]
mod tests;
