//! What there is: repositories, the tags of one, and who refers to a manifest.

use std::collections::BTreeSet;

use super::digest::OciDigest;
use super::error::OciError;
use super::manifest::{self, Descriptor, MAX_MANIFEST};
use super::name::{Repository, Tag, file_of};
use super::{Registry, lookup};
use crate::library::Place;
use crate::store::oci::ManifestRow;

/// Most referrers in one answer: each is an annotated line of some hundred bytes.
const MAX_REFERRERS: usize = 1_000;
/// After so many bytes of manifests an answer ends: it repeats their annotations. One manifest may have as many.
const MAX_BYTES: usize = MAX_MANIFEST;

impl Registry {
    /// Lists the repositories, in the order of their names.
    ///
    /// # Errors
    /// The store's.
    pub async fn repositories(&self) -> Result<Vec<String>, OciError> {
        self.on_disk(|registry| {
            let place = registry.0.library.place()?;
            let (pushed, tags) = registry
                .0
                .store
                .oci(|rows| -> Result<_, OciError> { Ok((rows.repositories()?, rows.tags(None)?)) })?;
            let mut found: BTreeSet<String> = BTreeSet::new();
            let mut files = BTreeSet::new();
            for (repository, tag, digest) in tags {
                if let Some(name) = registry.file_of_pushed(&place, (&repository, &tag), &digest)? {
                    files.insert(name);
                }
            }
            for repository in pushed {
                if registry.has_whole(&place, &repository)? {
                    found.insert(repository);
                }
            }
            let view = registry.0.handle.views.load();
            // A file that was pushed under a tag is that tag, and no repository of its own.
            let own = view.library_images().filter(|(name, _)| !files.contains(name.as_str()));
            found.extend(own.filter_map(|(name, _)| Repository::of(name)).map(|name| name.to_string()));
            Ok(found.into_iter().collect())
        })
        .await
    }

    /// Lists the tags of a repository, in the order of their bytes.
    ///
    /// # Errors
    /// [`OciError::UnknownName`].
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<String>, OciError> {
        let of = repository.clone();
        self.on_disk(move |registry| {
            let place = registry.0.library.place()?;
            let (pushed, is_known) = registry.0.store.oci(|rows| -> Result<_, OciError> {
                Ok((rows.tags(Some(of.as_str()))?, rows.holds(of.as_str())?))
            })?;
            let mut found = BTreeSet::new();
            for (repository, tag, digest) in &pushed {
                if registry.is_whole(&place, (repository, tag), digest)? {
                    found.insert(tag.clone());
                }
            }
            let view = registry.0.handle.views.load();
            let latest = Tag::latest();
            if view.find_in_library(|name| Repository::of(name).as_ref() == Some(&of)).is_some() {
                found.insert(latest.as_str().to_owned());
            }
            if found.is_empty() && !is_known {
                return Err(OciError::UnknownName { repository: of });
            }
            Ok(found.into_iter().collect())
        })
        .await
    }

    /// Tells whether a repository holds anything that could be pulled.
    fn has_whole(&self, place: &Place, repository: &str) -> Result<bool, OciError> {
        let tags = self.0.store.oci(|rows| rows.tags(Some(repository)))?;
        if tags.is_empty() {
            return Ok(true);
        }
        for (repository, tag, digest) in &tags {
            if self.is_whole(place, (repository, tag), digest)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tells whether a tag that was pushed can be pulled: what is no image always, an image while the library has a file
    /// of that name, be it another one by now.
    fn is_whole(&self, place: &Place, tag: (&str, &str), digest: &OciDigest) -> Result<bool, OciError> {
        let row = self.0.store.oci(|rows| rows.manifest(tag.0, digest))?;
        let Some(row) = row else { return Ok(false) };
        if lookup::sif_of(&row).is_none() {
            return Ok(true);
        }
        Ok(self.file_of_pushed(place, tag, digest)?.is_some() || self.view_has(tag))
    }

    fn view_has(&self, (repository, tag): (&str, &str)) -> bool {
        let (Ok(repository), Ok(tag)) = (repository.parse(), tag.parse()) else { return false };
        let name = file_of(&repository, &tag);
        name.is_ok_and(|name| !self.0.handle.views.load().library_image(&name).is_empty())
    }

    /// Finds the library's file of a tag that was pushed, if it is still that image.
    fn file_of_pushed(
        &self,
        place: &Place,
        (repository, tag): (&str, &str),
        digest: &OciDigest,
    ) -> Result<Option<String>, OciError> {
        let (Ok(parsed), Ok(tag)) = (repository.parse(), tag.parse()) else { return Ok(None) };
        let Ok(name) = file_of(&parsed, &tag) else { return Ok(None) };
        let (row, file) = self.0.store.oci(|rows| -> Result<_, OciError> {
            Ok((rows.manifest(repository, digest)?, rows.file(name.as_str())?))
        })?;
        let (Some(row), Some(file)) = (row, file) else { return Ok(None) };
        let Some(sif) = lookup::sif_of(&row) else { return Ok(None) };
        let is_it = file.sha256 == sif.digest || file.sha512.as_ref() == Some(&sif.digest);
        Ok((is_it && lookup::open_as(place, &file)?.is_some()).then(|| name.as_str().to_owned()))
    }

    /// Lists the manifests that refer to one, those behind `last`; the second answer says behind which it goes on.
    ///
    /// # Errors
    /// The store's.
    pub async fn referrers(
        &self,
        repository: &Repository,
        subject: &OciDigest,
        (kind, last): (Option<String>, String),
    ) -> Result<(Vec<Descriptor>, Option<String>), OciError> {
        let (of, subject) = (repository.clone(), subject.clone());
        self.on_disk(move |registry| {
            let bounds = (MAX_REFERRERS, MAX_BYTES);
            let page = registry.0.store.oci(|rows| rows.referrers(of.as_str(), (&subject, &last), bounds))?;
            let found = page.rows.iter().filter_map(descriptor);
            let meant = |found: &Descriptor| kind.is_none() || found.artifact_type == kind;
            Ok((found.filter(meant).collect(), page.more_behind))
        })
        .await
    }
}

/// Describes a manifest to those who ask who refers to another.
fn descriptor(row: &ManifestRow) -> Option<Descriptor> {
    let read = manifest::read(&row.bytes, None).ok()?;
    Some(Descriptor {
        media_type: row.media_type.clone(),
        size: u64::try_from(row.bytes.len()).unwrap_or_default(),
        digest: row.digest.to_string(),
        artifact_type: read.artifact_type,
        annotations: read.annotations,
    })
}
