//! Manifests, tags and blobs are deleted, and with the last name of an image its file in the library.
//!
//! Other nodes keep their replicas: those are removed by removals, which look that one is left.

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;
use sifleet_common::beneath;
use tracing::info;

use super::digest::OciDigest;
use super::error::OciError;
use super::name::{Reference, Repository, Tag, file_of};
use super::{Registry, blob, lookup, stored};
use crate::library::Place;
use crate::store::oci::{FileRow, OciStep};

impl Registry {
    /// Deletes a tag, or a manifest with all its tags. The library's files that were theirs go too.
    ///
    /// # Errors
    /// [`OciError::UnknownManifest`].
    pub async fn delete_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<(), OciError> {
        // A file that was never asked for has no manifest yet that could be compared with.
        let found = self.find(repository, reference, false).await?;
        let (repository, reference) = (repository.clone(), reference.clone());
        self.on_names(move |registry| {
            let place = registry.0.library.place()?;
            match reference {
                Reference::Tag(tag) => registry.delete_tag(&place, &repository, (&tag, &found)),
                Reference::Digest(digest) => registry.delete_all(&place, &repository, (&digest, &found)),
            }
        })
        .await
    }

    fn delete_tag(
        &self,
        place: &Place,
        repository: &Repository,
        (tag, found): (&Tag, &lookup::Found),
    ) -> Result<(), OciError> {
        let (name, text) = (repository.as_str(), tag.as_str());
        let (pushed, tags) = self
            .0
            .store
            .oci(|rows| -> Result<_, OciError> { Ok((rows.tag(name, text)?, rows.tags(Some(name))?)) })?;
        let mut steps = vec![OciStep::ForgetTag { repository: name.to_owned(), tag: text.to_owned() }];
        if let Some(layer) = &found.layer {
            steps.extend(self.unlink(place, (layer.name.as_str(), &layer.digest))?);
            let others =
                tags.iter().any(|(_, other, digest)| other != text && Some(digest) == pushed.as_ref());
            // An image that has no name any longer is of no use to anybody.
            if let Some(digest) = pushed.filter(|_| !others) {
                steps.push(OciStep::ForgetManifest { repository: name.to_owned(), digest });
            }
        }
        self.commit(steps)?;
        info!(image = %repository, tag = text, "a tag was deleted");
        Ok(())
    }

    fn delete_all(
        &self,
        place: &Place,
        repository: &Repository,
        (digest, found): (&OciDigest, &lookup::Found),
    ) -> Result<(), OciError> {
        let name = repository.as_str();
        let (tags, files) = self.0.store.oci(|rows| -> Result<_, OciError> {
            Ok((rows.tags(Some(name))?, rows.files_of_manifest(digest)?))
        })?;
        if let Some(layer) = &found.layer {
            let mine = tags.iter().filter(|(_, _, means)| means == digest);
            let pushed = mine.filter_map(|(_, tag, _)| file_of(repository, &tag.parse().ok()?).ok());
            let own = files.iter().filter(|file| lookup::is_file_of(repository, &file.name));
            let names = pushed.map(|name| name.as_str().to_owned()).chain(own.map(|file| file.name.clone()));
            for name in names.collect::<std::collections::BTreeSet<_>>() {
                // Each is kept before the next: a name less changes the version of the file.
                let steps = self.unlink(place, (&name, &layer.digest))?;
                self.commit(steps)?;
            }
        }
        self.commit(vec![OciStep::ForgetManifest { repository: name.to_owned(), digest: digest.clone() }])?;
        info!(image = %repository, digest = %digest.short(), "a manifest was deleted");
        Ok(())
    }

    /// Removes a file of the library, if it is still the one that was hashed, and holds these bytes: somebody may have put
    /// another image under the name of a tag.
    fn unlink(&self, place: &Place, (name, digest): (&str, &OciDigest)) -> Result<Vec<OciStep>, OciError> {
        let row: Option<FileRow> = self.0.store.oci(|rows| rows.file(name))?;
        let Some(row) = row.filter(|row| lookup::is_of(row, digest)) else { return Ok(Vec::new()) };
        let Some(file) = lookup::open_as(place, &row)? else { return Ok(Vec::new()) };
        let remove = place.failed("remove an image");
        let (folder, last) = beneath::open_parent(place.root(), name).map_err(&remove)?;
        match unlinkat(&folder, last, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(remove(errno).into()),
        }
        info!(image = name, digest = %row.sha256.short(), "an image was deleted from the library");
        let mut steps = vec![OciStep::ForgetFiles(vec![name.to_owned()])];
        steps.extend(self.renewed(place, (&row, &file), name)?.into_iter().map(OciStep::PutFile));
        Ok(steps)
    }

    /// Deletes a blob that is no image of the library and that no manifest names, in whatever repository; but the empty
    /// configuration is not kept for other repositories, which have it without its being pushed.
    ///
    /// # Errors
    /// [`OciError::UnknownBlob`]; [`OciError::Unsupported`] for blobs that go with manifests.
    pub async fn delete_blob(&self, repository: &Repository, digest: &OciDigest) -> Result<(), OciError> {
        let (of, wanted) = (repository.clone(), digest.clone());
        let removed = self.on_names(move |registry| {
            let place = registry.0.library.place()?;
            let is_needed = if blob::is_empty(&wanted) {
                registry.needs_empty(&of, &wanted)?
            } else {
                registry.0.store.oci(|rows| rows.is_used(&wanted))?
            };
            if is_needed {
                return Ok(false);
            }
            stored::remove(&place, &stored::blob_name(&wanted))
        });
        if removed.await? {
            return Ok(());
        }
        self.blob(repository, digest).await?;
        let why =
            format!("{digest} belongs to an image or another artifact: delete the manifests that name it");
        Err(OciError::Unsupported { why })
    }
}
