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
    /// How OCI clients call its bytes: as the manifest does.
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
            match self.look_surely(repository, reference).await? {
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

    /// Looks; what is not found is looked for once more when no file is just changing its name.
    async fn look_surely(&self, repository: &Repository, reference: &Reference) -> Result<Looked, OciError> {
        let (of, meant) = (repository.clone(), reference.clone());
        match self.on_disk(move |registry| registry.look(&of, &meant)).await? {
            Looked::Nothing => {
                let (of, meant) = (repository.clone(), reference.clone());
                self.on_names(move |registry| registry.look(&of, &meant)).await
            }
            looked @ (Looked::Found(_) | Looked::Unhashed(_)) => Ok(looked),
        }
    }

    fn look(&self, repository: &Repository, reference: &Reference) -> Result<Looked, OciError> {
        let place = self.0.library.place()?;
        match reference {
            Reference::Tag(tag) => match self.pushed_tag(&place, repository, tag)? {
                Some(found) => Ok(Looked::Found(found)),
                None => self.file_of_tag(&place, repository, tag),
            },
            Reference::Digest(digest) => self.by_digest(&place, repository, digest),
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
        Ok(open_as(place, &file)?.and(layer_of(&file, &sif.digest)).map(|layer| found(row, Some(layer))))
    }

    fn by_digest(
        &self,
        place: &Place,
        repository: &Repository,
        digest: &OciDigest,
    ) -> Result<Looked, OciError> {
        let pushed = self.0.store.oci(|rows| rows.manifest(repository.as_str(), digest))?;
        let mut stale = Vec::new();
        if let Some(row) = pushed {
            let Some(sif) = sif_of(&row) else { return Ok(Looked::Found(found(row, None))) };
            let held = self.library_file(place, &sif.digest)?;
            if let Some(layer) = held.and_then(|(file, _)| layer_of(&file, &sif.digest)) {
                return Ok(Looked::Found(found(row, Some(layer))));
            }
            if stored::open(place, &sif.digest)?.is_some() {
                return Ok(Looked::Found(found(row, None)));
            }
            stale = self.0.store.oci(|rows| rows.files_with(&sif.digest))?;
        }
        let files = self.0.store.oci(|rows| rows.files_of_manifest(digest))?;
        for file in files.into_iter().filter(|file| is_file_of(repository, &file.name)) {
            if open_as(place, &file)?.is_some() {
                return Ok(by_itself(&file).map_or(Looked::Nothing, Looked::Found));
            }
            stale.push(file);
        }
        Ok(self.still_held(&stale).map_or(Looked::Nothing, Looked::Unhashed))
    }

    /// Finds a file that is another version than was hashed, and of which the inventory says that its bytes are the same.
    pub(super) fn still_held(&self, stale: &[FileRow]) -> Option<ImageName> {
        let view = self.0.handle.views.load();
        let held = |row: &FileRow| {
            row.name.parse().ok().filter(|name| view.library_image(name).contains(&row.blake3))
        };
        stale.iter().find_map(held)
    }

    /// Finds the file of the library that a tag means.
    fn file_of_tag(&self, place: &Place, repository: &Repository, tag: &Tag) -> Result<Looked, OciError> {
        let view = self.0.handle.views.load();
        let names = files_of(repository, tag);
        let exact = names.iter().find(|name| !view.library_image(name).is_empty()).cloned();
        let is_meant = |name: &ImageName| {
            names.iter().any(|wanted| is_but_for_capitals(repository, name.as_str(), wanted.as_str()))
        };
        let Some(name) = exact.or_else(|| view.find_in_library(is_meant).cloned()) else {
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

    pub(super) fn file_row(&self, name: &ImageName) -> Result<Option<FileRow>, OciError> {
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
        let pass = async move { registry.hash_file(wanted).await.map_err(Arc::new) };
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

    async fn hash_file(&self, name: ImageName) -> Result<(), OciError> {
        let wanted = name.clone();
        // Whoever looked before the last pass ended asks for one more, and whoever looked while a name changed.
        if self.on_names(move |registry| registry.is_hashed(&wanted)).await? {
            return Ok(());
        }
        let wanted = name.clone();
        let row = self.on_pass(move |registry| registry.pass(&wanted)).await?;
        self.on_names(move |registry| {
            let place = registry.0.library.place()?;
            // A name that was given or taken meanwhile is known; this pass knows less.
            if registry.is_hashed(&name)? {
                return Ok(());
            }
            if open_as(&place, &row)?.is_none() {
                return Err(OciError::Unsettled { name: name.to_string() });
            }
            info!(image = %name, digest = %row.sha256.short(), bytes = row.size, "an image of the library has its SHA-256");
            registry.commit(vec![OciStep::PutFile(row)])
        })
        .await
    }

    /// Tells whether what is known of a file is what it is, and what its inventory says.
    fn is_hashed(&self, name: &ImageName) -> Result<bool, OciError> {
        let Some(row) = self.file_row(name)? else { return Ok(false) };
        let held = self.0.handle.views.load().library_image(name).contains(&row.blake3);
        Ok(held && open_as(&self.0.library.place()?, &row)?.is_some())
    }

    fn pass(&self, name: &ImageName) -> Result<FileRow, OciError> {
        let place = self.0.library.place()?;
        let unsettled = || OciError::Unsettled { name: name.to_string() };
        let file = match beneath::open_file(place.root(), name.as_str(), OFlags::RDONLY) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Err(unsettled()),
            Err(errno) => return Err(place.failed("open an image")(errno).into()),
        };
        let read = place.failed_io("read an image");
        let before = hash::version(&file).map_err(&read)?;
        let with_sha512 = self.file_row(name)?.is_some_and(|known| known.sha512.is_some());
        let hashes = hash::pass(&file, with_sha512).map_err(&read)?;
        if !self.0.handle.views.load().library_image(name).contains(&hashes.blake3) {
            return Err(unsettled());
        }
        Ok(row_of(name, before, hashes))
    }

    /// Says of a file's other names that it is another version from here on: a name more or less changes that, and no byte.
    pub(super) fn renewed(
        &self,
        place: &Place,
        (row, file): (&FileRow, &File),
        but_for: &str,
    ) -> Result<Vec<FileRow>, OciError> {
        let after = hash::version(file).map_err(place.failed_io("look at an image"))?;
        if !hash::is_same_content(&after, &row.version) {
            return Ok(Vec::new());
        }
        let mut rows = self.0.store.oci(|rows| rows.files_with(&row.sha256))?;
        rows.retain(|other| other.name != but_for && hash::is_same_content(&other.version, &after));
        rows.iter_mut().for_each(|row| row.version.clone_from(&after));
        Ok(rows)
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

pub(super) fn is_of(file: &FileRow, digest: &OciDigest) -> bool {
    file.sha256 == *digest || file.sha512.as_ref() == Some(digest)
}

/// Tells whether a file of the library is one of a repository's, whatever its tag.
pub(super) fn is_file_of(repository: &Repository, name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".sif").map(str::to_lowercase) else { return false };
    let rest = stem.strip_prefix(repository.as_str());
    rest.is_some_and(|rest| rest.is_empty() || (rest.starts_with('_') && !rest.contains('/')))
}

/// Tells whether a name is the wanted one. Repositories have no capitals and files may; a tag is what it is.
fn is_but_for_capitals(repository: &Repository, name: &str, wanted: &str) -> bool {
    let at = repository.as_str().len();
    match (name.split_at_checked(at), wanted.split_at_checked(at)) {
        (Some((above, tag)), Some((wanted, its))) => above.eq_ignore_ascii_case(wanted) && tag == its,
        (Some(_) | None, Some(_) | None) => false,
    }
}

fn layer_of(file: &FileRow, digest: &OciDigest) -> Option<Layer> {
    let name = file.name.parse().ok()?;
    Some(Layer { digest: digest.clone(), blake3: file.blake3, size: file.size, name })
}

fn found(row: ManifestRow, layer: Option<Layer>) -> Found {
    Found { digest: row.digest, media_type: row.media_type, bytes: row.bytes, layer }
}

/// Makes the manifest that a file has without being pushed.
pub(super) fn by_itself(file: &FileRow) -> Option<Found> {
    let layer = layer_of(file, &file.sha256)?;
    let bytes = manifest::of_file(&file.sha256, file.size, layer.name.file_name());
    Some(Found { digest: file.manifest.clone(), media_type: IMAGE.to_owned(), bytes, layer: Some(layer) })
}
