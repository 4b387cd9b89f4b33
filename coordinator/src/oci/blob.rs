//! Bytes of blobs: from a file of the library that is the one that was hashed, or from one of ours.
//!
//! A download reads half a megabyte ahead of what is sent, on threads where blocking is allowed, and never more. Pages stay
//! in the page cache: what one node pulls, others pull next.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Advice, fadvise};
use tokio::sync::OwnedSemaphorePermit;
use tracing::{debug, trace};

use super::digest::OciDigest;
use super::error::OciError;
use super::manifest::EMPTY;
use super::name::Repository;
use super::{Registry, hash, lookup, stored};
use crate::library::Place;
use crate::view::View;

/// Bytes read at once: enough that handing them over costs nothing, few enough to hold them for every download.
const PIECE: u64 = 512 * 1024;
/// How long a download waits for a place.
const PATIENCE: Duration = Duration::from_secs(120);

/// A blob that can be read.
#[derive(Clone, Debug)]
pub struct Blob {
    source: Source,
    /// Its length in bytes.
    pub size: u64,
}

#[derive(Clone, Debug)]
enum Source {
    /// The configuration that every image has.
    Empty,
    /// A file, and which version of it is meant if somebody else may write it.
    File(Arc<File>, Option<String>),
}

/// A piece of a blob on its way out.
#[derive(Debug)]
pub struct Piece {
    blob: Blob,
    at: u64,
    end: u64,
    _place: OwnedSemaphorePermit,
}

impl Registry {
    /// Finds a blob. They are the same in all repositories: whoever may pull one may pull all. The empty configuration need not
    /// have been pushed where an image or another artifact has it.
    ///
    /// # Errors
    /// [`OciError::UnknownBlob`].
    pub async fn blob(&self, repository: &Repository, digest: &OciDigest) -> Result<Blob, OciError> {
        let wanted = digest.clone();
        if let Some(blob) = self.on_disk(move |registry| registry.find_blob(&wanted)).await? {
            return Ok(blob);
        }
        if is_empty(digest) {
            let (of, wanted) = (repository.clone(), digest.clone());
            let is_needed = self.on_disk(move |registry| registry.needs_empty(&of, &wanted)).await?;
            let empty = Blob { source: Source::Empty, size: EMPTY.len() as u64 };
            return is_needed
                .then_some(empty)
                .ok_or_else(|| OciError::UnknownBlob { digest: digest.clone() });
        }
        // A file that had these bytes may have them still, although its name or its permissions changed.
        let wanted = digest.clone();
        let stale =
            self.on_disk(move |registry| Ok(registry.0.store.oci(|rows| rows.files_with(&wanted))?)).await?;
        if let Some(name) = self.still_held(&stale)
            && let Err(error) = self.hash(&name).await
        {
            debug!(image = %name, %error, "an image that held a blob is not hashed");
        }
        let wanted = digest.clone();
        let found = self.on_names(move |registry| registry.find_blob(&wanted)).await?;
        found.ok_or_else(|| OciError::UnknownBlob { digest: digest.clone() })
    }

    /// Tells whether something in a repository has the empty configuration: what was pushed, or a file of the library. One
    /// that was hashed is served even while the inventory does not show it.
    pub(super) fn needs_empty(&self, repository: &Repository, empty: &OciDigest) -> Result<bool, OciError> {
        let is_of = |name: &str| lookup::is_file_of(repository, name);
        let shown = |view: &View| view.find_in_library(|name| is_of(name.as_str())).is_some();
        if shown(&self.0.handle.views.load())
            || self.0.store.oci(|rows| rows.is_used_in(repository.as_str(), empty))?
        {
            return Ok(true);
        }
        let place = self.0.library.place()?;
        let hashed = self.0.store.oci(|rows| rows.files_beginning(repository.as_str()))?;
        for file in hashed.iter().filter(|file| is_of(&file.name)) {
            if lookup::open_as(&place, file)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tells whether a manifest may name a blob: it is here, or nobody has to push it.
    pub(super) fn has_blob(&self, place: &Place, digest: &OciDigest) -> Result<bool, OciError> {
        Ok(is_empty(digest)
            || stored::open(place, digest)?.is_some()
            || self.library_file(place, digest)?.is_some())
    }

    fn find_blob(&self, digest: &OciDigest) -> Result<Option<Blob>, OciError> {
        let place = self.0.library.place()?;
        if let Some(file) = stored::open(&place, digest)? {
            let size = file.metadata().map_err(place.failed_io("look at a blob"))?.len();
            return Ok(Some(Blob { source: Source::File(Arc::new(file), None), size }));
        }
        Ok(self.library_file(&place, digest)?.map(|(row, file)| {
            let source = Source::File(Arc::new(file), Some(row.version));
            Blob { source, size: row.size }
        }))
    }

    /// Begins a download of the bytes from `at` to before `end`; waits while too many go on.
    ///
    /// # Errors
    /// [`OciError::TooMany`].
    pub async fn download(&self, blob: Blob, at: u64, end: u64) -> Result<Piece, OciError> {
        let max = self.0.options.max_downloads;
        let too_many = || OciError::TooMany { what: "downloads", max };
        let place = Arc::clone(&self.0.downloads).acquire_owned();
        let place = tokio::time::timeout(PATIENCE, place).await.map_err(|_elapsed| too_many())?;
        let place = place.map_err(|_closed| too_many())?;
        if let Source::File(file, _) = &blob.source
            && let Err(error) = fadvise(&**file, at, None, Advice::Sequential)
        {
            trace!(%error, "a blob is read without reading ahead");
        }
        Ok(Piece { blob, at, end, _place: place })
    }
}

impl Piece {
    /// Reads the next bytes; none at the end. Blocks.
    ///
    /// # Errors
    /// The disk's, also where the file is not the one any longer whose bytes were promised.
    pub fn read(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let length = self.end.saturating_sub(self.at).min(PIECE);
        if length == 0 {
            return Ok(None);
        }
        let bytes = match &self.blob.source {
            Source::Empty => {
                let from = usize::try_from(self.at).unwrap_or(usize::MAX);
                let to = usize::try_from(self.end).unwrap_or(usize::MAX);
                EMPTY.get(from..to).unwrap_or_default().to_vec()
            }
            Source::File(file, version) => {
                let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
                file.read_exact_at(&mut bytes, self.at)?;
                // Another name changes the version too, but not the content.
                let changed = |version: &String| {
                    hash::version(file).map(|found| !hash::is_same_content(&found, version))
                };
                if version.as_ref().map_or(Ok(false), changed)? {
                    return Err(std::io::Error::other("the file changed while it was sent"));
                }
                bytes
            }
        };
        self.at = self.at.saturating_add(bytes.len() as u64);
        Ok(Some(bytes))
    }
}

pub(super) fn is_empty(digest: &OciDigest) -> bool {
    digest.algorithm().of(EMPTY) == *digest
}
