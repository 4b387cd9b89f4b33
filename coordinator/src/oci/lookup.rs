//! Which manifest a name means.
//!
//! A tag that was pushed means its manifest, as long as the library's file of that tag is the image that was pushed. Otherwise
//! the library's file speaks for itself: it has the manifest that apptainer would push for it. A file is hashed when it is
//! first asked for, once however many ask, and again only when it is another version.

use std::fs::File;
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;
use sifleet_common::beneath;
use sifleet_common::digest::Digest;
use sifleet_common::name::ImageName;
use tracing::info;

use super::digest::{Algorithm, OciDigest};
use super::error::OciError;
use super::manifest::{self, IMAGE, Manifest, SifLayer};
use super::name::{Reference, Repository, Tag, files_of};
use super::{Registry, hash, stored};
use crate::library::Place;
use crate::store::Op;
use crate::store::oci::{FileRow, ManifestRow, OciStep};

/// How often a name is looked at anew, since what was found has changed meanwhile.
const ROUNDS: usize = 4;

/// A manifest, and the image that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Digest of its bytes.
    pub digest: OciDigest,
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The image, if it is about one that the library holds.
    pub layer: Option<Layer>,
}

/// An image of the library, by all the names it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// How OCI clients call its bytes.
    pub digest: OciDigest,
    /// How the rest of the cluster calls them.
    pub blake3: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Its name in the library.
    pub name: ImageName,
}

/// What a look at the store and the disk gave.
pub(super) enum Looked {
    Found(Found),
    /// This file of the library is meant, and has to be hashed first.
    Unhashed(ImageName),
    Nothing,
}

impl Registry {
    /// Finds the manifest that a name means; an image that is on nodes only comes into the library first, if `fetch`.
    ///
    /// # Errors
    /// [`OciError::UnknownManifest`], [`OciError::Unsettled`], [`OciError::NotFetched`].
    pub async fn find(
        &self,
        repository: &Repository,
        reference: &Reference,
        fetch: bool,
    ) -> Result<Found, OciError> {
        let mut may_fetch = fetch;
        for _ in 0..ROUNDS {
            let (of, meant) = (repository.clone(), reference.clone());
            match self.on_disk(move |registry| registry.look(&of, &meant)).await? {
                Looked::Found(found) => return Ok(found),
                Looked::Unhashed(name) => self.hash(&name).await?,
                Looked::Nothing if may_fetch => {
                    may_fetch = false;
                    if !self.fetch(repository, reference).await? {
                        break;
                    }
                }
                Looked::Nothing => break,
            }
        }
        Err(OciError::UnknownManifest { repository: repository.clone(), reference: reference.clone() })
    }

    pub(super) fn look(&self, repository: &Repository, reference: &Reference) -> Result<Looked, OciError> {
        let place = self.0.library.place()?;
        let found = match reference {
            Reference::Tag(tag) => self.pushed_tag(&place, repository, tag)?,
            Reference::Digest(digest) => self.by_digest(&place, repository, digest)?,
        };
        match (found, reference) {
            (Some(found), _) => Ok(Looked::Found(found)),
            (None, Reference::Tag(tag)) => self.file_of_tag(&place, repository, tag),
            (None, Reference::Digest(_)) => Ok(Looked::Nothing),
        }
    }

    /// Finds what was pushed under a tag, if it is still whole.
    fn pushed_tag(
        &self,
        place: &Place,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<Option<Found>, OciError> {
        let row = self.0.store.oci(|rows| match rows.tag(repository.as_str(), tag.as_str())? {
            Some(digest) => rows.manifest(repository.as_str(), &digest),
            None => Ok(None),
        })?;
        let Some(row) = row else { return Ok(None) };
        let Some(sif) = sif_of(&row) else { return Ok(Some(found(row, None))) };
        let Ok(name) = super::name::file_of(repository, tag) else { return Ok(None) };
        let file = self.file_row(&name)?.filter(|file| is_of(file, &sif.digest));
        let Some(file) = file else { return Ok(None) };
        Ok(open_as(place, &file)?.and(layer_of(&file)).map(|layer| found(row, Some(layer))))
    }

    fn by_digest(
        &self,
        place: &Place,
        repository: &Repository,
        digest: &OciDigest,
    ) -> Result<Option<Found>, OciError> {
        let pushed = self.0.store.oci(|rows| rows.manifest(repository.as_str(), digest))?;
        if let Some(row) = pushed {
            let Some(sif) = sif_of(&row) else { return Ok(Some(found(row, None))) };
            if let Some(layer) = self.library_file(place, &sif.digest)?.and_then(|(file, _)| layer_of(&file))
            {
                return Ok(Some(found(row, Some(layer))));
            }
            if stored::open(place, &sif.digest)?.is_some() {
                return Ok(Some(found(row, None)));
            }
        }
        let files = self.0.store.oci(|rows| rows.files_of_manifest(digest))?;
        for file in files.iter().filter(|file| is_file_of(repository, &file.name)) {
            if open_as(place, file)?.is_some() {
                return Ok(by_itself(file));
            }
        }
        Ok(None)
    }

    /// Finds the file of the library that a tag means.
    fn file_of_tag(&self, place: &Place, repository: &Repository, tag: &Tag) -> Result<Looked, OciError> {
        let view = self.0.handle.views.load();
        let names = files_of(repository, tag);
        let exact = names.iter().find(|name| !view.library_image(name).is_empty()).cloned();
        // Repositories have no capitals, files may.
        let is_meant =
            |name: &ImageName| names.iter().any(|wanted| name.as_str().eq_ignore_ascii_case(wanted.as_str()));
        let Some(name) = exact
            .or_else(|| view.library_images().map(|(name, _)| name).find(|name| is_meant(name)).cloned())
        else {
            return Ok(Looked::Nothing);
        };
        let held = view.library_image(&name);
        let file = self.file_row(&name)?.filter(|file| held.contains(&file.blake3));
        let Some(file) = file else { return Ok(Looked::Unhashed(name)) };
        if open_as(place, &file)?.is_none() {
            return Ok(Looked::Unhashed(name));
        }
        Ok(by_itself(&file).map_or(Looked::Nothing, Looked::Found))
    }

    fn file_row(&self, name: &ImageName) -> Result<Option<FileRow>, OciError> {
        Ok(self.0.store.oci(|rows| rows.file(name.as_str()))?)
    }

    /// Finds a file of the library that holds certain bytes, and opens it.
    pub(super) fn library_file(
        &self,
        place: &Place,
        digest: &OciDigest,
    ) -> Result<Option<(FileRow, File)>, OciError> {
        for file in self.0.store.oci(|rows| rows.files_with(digest))? {
            if let Some(open) = open_as(place, &file)? {
                return Ok(Some((file, open)));
            }
        }
        Ok(None)
    }

    /// Hashes a file of the library; whoever wants it at the same time waits for the same pass.
    ///
    /// # Errors
    /// [`OciError::Unsettled`] where it is not what its inventory says.
    pub(super) async fn hash(&self, name: &ImageName) -> Result<(), OciError> {
        let (registry, wanted) = (self.clone(), name.clone());
        let pass = async move {
            registry.on_disk(move |registry| registry.hash_file(&wanted)).await.map_err(Arc::new)
        };
        let done = self.0.hashing.work(name.clone(), pass).await;
        match done {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(match Arc::try_unwrap(error) {
                Ok(error) => error,
                // Others hear of it, too; what they all can do is to ask again.
                Err(_shared) => OciError::Unsettled { name: name.to_string() },
            }),
            None => Err(OciError::Lost),
        }
    }

    fn hash_file(&self, name: &ImageName) -> Result<(), OciError> {
        let place = self.0.library.place()?;
        let unsettled = || OciError::Unsettled { name: name.to_string() };
        let file = match beneath::open_file(place.root(), name.as_str(), OFlags::RDONLY) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Err(unsettled()),
            Err(errno) => return Err(place.failed("open an image")(errno).into()),
        };
        let read = place.failed_io("read an image");
        let known = self.file_row(name)?;
        let before = hash::version(&file).map_err(&read)?;
        let held = self.0.handle.views.load().library_image(name);
        // Whoever looked before the last pass ended asks for one more.
        if known.as_ref().is_some_and(|known| known.version == before && held.contains(&known.blake3)) {
            return Ok(());
        }
        let hashes = hash::pass(&file, known.is_some_and(|known| known.sha512.is_some())).map_err(&read)?;
        let held = self.0.handle.views.load().library_image(name);
        if hash::version(&file).map_err(&read)? != before || !held.contains(&hashes.blake3) {
            return Err(unsettled());
        }
        info!(image = %name, digest = %hashes.sha256.short(), bytes = hashes.size, "an image of the library has its SHA-256");
        self.keep_file(row_of(name, before, hashes))
    }

    /// Keeps what a file was found to be.
    pub(super) fn keep_file(&self, file: FileRow) -> Result<(), OciError> {
        self.commit(vec![OciStep::PutFile(file)])
    }

    /// Hands steps to the store and waits until they are on disk; not to be called where waiting keeps others.
    pub(super) fn commit(&self, steps: Vec<OciStep>) -> Result<(), OciError> {
        let ops = steps.into_iter().map(|step| Op::Oci(Box::new(step))).collect();
        Ok(tokio::runtime::Handle::current().block_on(self.0.store.commit(ops))?)
    }
}

/// Says what a file is from here on.
pub(super) fn row_of(name: &ImageName, version: String, hashes: hash::Hashes) -> FileRow {
    let bytes = manifest::of_file(&hashes.sha256, hashes.size, name.file_name());
    FileRow {
        name: name.as_str().to_owned(),
        version,
        size: hashes.size,
        blake3: hashes.blake3,
        sha256: hashes.sha256,
        sha512: hashes.sha512,
        manifest: Algorithm::Sha256.of(&bytes),
    }
}

/// Opens a file of the library if it is the one that was hashed.
pub(super) fn open_as(place: &Place, row: &FileRow) -> Result<Option<File>, OciError> {
    let file = match beneath::open_file(place.root(), &row.name, OFlags::RDONLY) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => return Ok(None),
        Err(errno) => return Err(place.failed("open an image")(errno).into()),
    };
    let version = hash::version(&file).map_err(place.failed_io("look at an image"))?;
    Ok((version == row.version).then_some(file))
}

/// Reads the SIF that a manifest is about. What is kept was read before, so that it reads again.
pub(super) fn sif_of(row: &ManifestRow) -> Option<SifLayer> {
    read(row).and_then(|manifest| manifest.sif)
}

pub(super) fn read(row: &ManifestRow) -> Option<Manifest> {
    manifest::read(&row.bytes, None).ok()
}

fn is_of(file: &FileRow, digest: &OciDigest) -> bool {
    file.sha256 == *digest || file.sha512.as_ref() == Some(digest)
}

/// Tells whether a file of the library is one of a repository's, whatever its tag.
pub(super) fn is_file_of(repository: &Repository, name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".sif").map(str::to_lowercase) else { return false };
    let rest = stem.strip_prefix(repository.as_str());
    rest.is_some_and(|rest| rest.is_empty() || (rest.starts_with('_') && !rest.contains('/')))
}

fn layer_of(file: &FileRow) -> Option<Layer> {
    let name = file.name.parse().ok()?;
    Some(Layer { digest: file.sha256.clone(), blake3: file.blake3, size: file.size, name })
}

fn found(row: ManifestRow, layer: Option<Layer>) -> Found {
    Found { digest: row.digest, media_type: row.media_type, bytes: row.bytes, layer }
}

/// Makes the manifest that a file has without being pushed.
pub(super) fn by_itself(file: &FileRow) -> Option<Found> {
    let layer = layer_of(file)?;
    let bytes = manifest::of_file(&file.sha256, file.size, layer.name.file_name());
    Some(Found { digest: file.manifest.clone(), media_type: IMAGE.to_owned(), bytes, layer: Some(layer) })
}
