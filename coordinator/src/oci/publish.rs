//! A manifest is pushed; the SIF that it is about becomes a file of the library, by one rename and never in place.

use std::fs::File;
use std::sync::Arc;

use rustix::fs::{AtFlags, OFlags, linkat};
use rustix::io::Errno;
use sifleet_common::beneath;
use sifleet_common::digest::Digest;
use sifleet_common::name::ImageName;
use sifleet_common::time::UnixMillis;
use tracing::info;

use super::digest::{Algorithm, OciDigest};
use super::error::OciError;
use super::manifest::{self, MAX_MANIFEST, Manifest, SifLayer};
use super::name::{Reference, Repository, Tag, file_of, pairs_of};
use super::stage::{Source, Staged, check_size};
use super::{Registry, hash, lookup, stored};
use crate::library::{self, Place, Target, UploadId, check_name};
use crate::store::oci::{FileRow, ManifestRow, OciStep};

/// How often bytes are read anew, since others published or removed them meanwhile.
const ROUNDS: usize = 4;

/// A manifest that came.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// Into which repository.
    pub repository: Repository,
    /// Under which name: a tag, or its own digest.
    pub reference: Reference,
    /// Tags that mean it from here on, besides.
    pub tags: Vec<Tag>,
    /// What it was said to be.
    pub content_type: Option<String>,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Digest of its bytes.
    pub digest: OciDigest,
    /// The manifest that it refers to.
    pub subject: Option<OciDigest>,
    /// Files of the library that it made.
    pub files: Vec<ImageName>,
}

/// A manifest that was read, and what it is to be.
pub(super) struct Wish {
    repository: Repository,
    digest: OciDigest,
    read: Manifest,
    bytes: Vec<u8>,
    tags: Vec<Tag>,
    at: UnixMillis,
}

/// What became of one name, or of all.
pub(super) enum Step<T> {
    Done(T),
    /// These bytes have to be read first.
    Read(Source),
}

impl Registry {
    /// Takes a manifest, and publishes the image that it is about under each of its tags.
    ///
    /// # Errors
    /// [`OciError::BadManifest`], [`OciError::BadDigest`], [`OciError::MissingBlob`], [`OciError::NameTaken`] and those of
    /// the library. What was there under its tags is as it was, unless several tags were named: then the first of them may
    /// be published.
    pub async fn put_manifest(&self, pushed: Pushed) -> Result<Taken, OciError> {
        let at = self.0.handle.clock.now().wall;
        let wish = Arc::new(self.on_disk(move |_| Wish::read(pushed, at)).await?);
        let mut source = Source::Blob;
        for _ in 0..ROUNDS {
            let staged = match wish.read.sif.as_ref().filter(|_| !wish.tags.is_empty()) {
                Some(sif) => self.stage(sif, source).await?,
                None => None,
            };
            let job = Arc::clone(&wish);
            match self.on_names(move |registry| registry.take(&job, staged)).await? {
                Step::Done(taken) => return Ok(taken),
                Step::Read(next) => source = next,
            }
        }
        Err(OciError::Unsettled { name: wish.repository.to_string() })
    }

    pub(super) fn take(&self, wish: &Wish, staged: Option<Staged>) -> Result<Step<Taken>, OciError> {
        let place = self.0.library.place()?;
        let taken = self.take_staged(&place, wish, staged.as_ref());
        let tidied = staged.map_or(Ok(()), |staged| staged.tidy(&place));
        let taken = taken?;
        tidied.map(|()| taken)
    }

    fn take_staged(
        &self,
        place: &Place,
        wish: &Wish,
        staged: Option<&Staged>,
    ) -> Result<Step<Taken>, OciError> {
        self.check_manifests(wish.bytes.len())?;
        let sif = wish.read.sif.as_ref().filter(|_| !wish.tags.is_empty());
        for blob in wish.read.blobs.iter().filter(|blob| sif.is_none_or(|sif| sif.digest != **blob)) {
            if !self.has_blob(place, blob)? {
                return Err(OciError::MissingBlob { digest: blob.clone() });
            }
        }
        let mut made = Vec::new();
        if let Some(sif) = sif {
            let names = wish.tags.iter().map(|tag| self.free_name(place, (&wish.repository, tag)));
            for name in names.collect::<Result<Vec<_>, _>>()? {
                match self.publish(place, (sif, staged), &name)? {
                    Step::Done((image, rows)) => {
                        // Each is kept before the next: a second name changes the version of the file.
                        self.commit(rows.into_iter().map(OciStep::PutFile).collect())?;
                        made.push((name, image));
                    }
                    Step::Read(source) => return Ok(Step::Read(source)),
                }
            }
        }
        let manifest = ManifestRow {
            repository: wish.repository.as_str().to_owned(),
            digest: wish.digest.clone(),
            media_type: wish.read.media_type.clone(),
            bytes: wish.bytes.clone(),
            subject: wish.read.subject.clone(),
            pushed: wish.at,
        };
        let tags = wish.tags.iter().map(|tag| tag.as_str().to_owned()).collect();
        self.commit(vec![OciStep::PutManifest { manifest, blobs: wish.read.blobs.clone(), tags }])?;
        info!(image = %wish.repository, digest = %wish.digest.short(), "a manifest was pushed");
        self.note_placing(&wish.repository, &made);
        let files = made.into_iter().map(|(name, _)| name).collect();
        Ok(Step::Done(Taken { digest: wish.digest.clone(), subject: wish.read.subject.clone(), files }))
    }

    fn check_manifests(&self, more: usize) -> Result<(), OciError> {
        let quota = self.0.options.max_manifests;
        let kept = self.0.store.oci(|rows| rows.manifest_bytes())?;
        if kept.saturating_add(u64::try_from(more).unwrap_or(u64::MAX)) > quota {
            return Err(OciError::Quota { what: "manifests", quota });
        }
        Ok(())
    }

    /// Names the file of a tag, unless it is the file of another tag: `a_b:c` and `a:b_c` would share one.
    fn free_name(
        &self,
        place: &Place,
        (repository, tag): (&Repository, &Tag),
    ) -> Result<ImageName, OciError> {
        let name = file_of(repository, tag)?;
        check_name(&name)?;
        let Some(file) = self.file_row(&name)? else { return Ok(name) };
        let there = beneath::open_file(place.root(), name.as_str(), OFlags::RDONLY);
        if matches!(there, Err(Errno::NOENT | Errno::NOTDIR)) {
            return Ok(name);
        }
        let others = pairs_of(&name).into_iter().filter(|(other, its)| (other, its) != (repository, tag));
        for (other, its) in others {
            let meant = self.0.store.oci(|rows| match rows.tag(other.as_str(), its.as_str())? {
                Some(digest) => rows.manifest(other.as_str(), &digest),
                None => Ok(None),
            })?;
            let sif = meant.as_ref().and_then(lookup::sif_of);
            if sif.is_some_and(|sif| lookup::is_of(&file, &sif.digest)) {
                return Err(OciError::NameTaken { name, by: format!("{other}:{its}") });
            }
        }
        Ok(name)
    }

    /// Gives an image its name in the library; returns which image it is, what its file is, and others that it changed.
    fn publish(
        &self,
        place: &Place,
        (sif, staged): (&SifLayer, Option<&Staged>),
        name: &ImageName,
    ) -> Result<Step<(Digest, Vec<FileRow>)>, OciError> {
        let Some(staged) = staged else { return self.publish_again(place, sif, name) };
        let Some(file) = staged.open(place)? else { return self.publish_again(place, sif, name) };
        let target = Target::look(place, name)?;
        let replaced = self.known(place, name)?;
        library::publish(place, &file, &staged.name, target)?;
        let after = hash::version(&file).map_err(place.failed_io("look at an image"))?;
        let hashes = staged.hashes.clone();
        let (image, size) = (hashes.blake3, hashes.size);
        info!(image = %name, digest = %hashes.sha256.short(), bytes = size, "an image was pushed into the library");
        let mut rows = self.left(place, replaced, name)?;
        rows.push(lookup::row_of(name, after, hashes));
        Ok(Step::Done((image, rows)))
    }

    /// Gives an image that the library holds another name, or leaves it as it is.
    fn publish_again(
        &self,
        place: &Place,
        sif: &SifLayer,
        name: &ImageName,
    ) -> Result<Step<(Digest, Vec<FileRow>)>, OciError> {
        let mut held = Vec::new();
        for row in self.0.store.oci(|rows| rows.files_with(&sif.digest))? {
            if let Some(file) = lookup::open_as(place, &row)? {
                check_size(sif, row.size)?;
                held.push((row, file));
            }
        }
        if let Some((row, _)) = held.iter().find(|(row, _)| row.name == name.as_str()) {
            return Ok(Step::Done((row.blake3, Vec::new())));
        }
        for (row, file) in &held {
            if let Some(rows) = self.link(place, (row, file), name)? {
                info!(image = %name, digest = %row.sha256.short(), "an image of the library got another name");
                return Ok(Step::Done((row.blake3, rows)));
            }
        }
        if !held.is_empty() {
            return Ok(Step::Read(Source::Copy));
        }
        match stored::open(place, &sif.digest)? {
            Some(_) => Ok(Step::Read(Source::Blob)),
            None => Err(OciError::MissingBlob { digest: sif.digest.clone() }),
        }
    }

    /// Gives a file of the library a second name; none if it can have no other.
    fn link(
        &self,
        place: &Place,
        (row, file): (&FileRow, &File),
        name: &ImageName,
    ) -> Result<Option<Vec<FileRow>>, OciError> {
        let target = Target::look(place, name)?;
        let replaced = self.known(place, name)?;
        let draft = format!("{}{}", stored::DRAFT, UploadId::random());
        let (folder, last) =
            beneath::open_parent(place.root(), &row.name).map_err(place.failed("open an image's folder"))?;
        // A file of somebody else, too many names, a file system without links.
        if linkat(&folder, last, place.folder(), &draft, AtFlags::empty()).is_err() {
            return Ok(None);
        }
        let published = self.publish_linked(place, row, (&draft, target));
        // After a rename onto another name of the same file the draft is still there.
        let removed = stored::remove(place, &draft);
        // All names of the file have its new version, even if this one was not given.
        let mut rows = self.renewed(place, (row, file), name.as_str())?;
        if let Err(error) = published.and(removed.map(drop)) {
            self.commit(rows.into_iter().map(OciStep::PutFile).collect())?;
            return Err(error);
        }
        let Some(version) = rows.first().map(|row| row.version.clone()) else {
            return Err(OciError::Unsettled { name: row.name.clone() });
        };
        let hashes = hash::Hashes {
            size: row.size,
            blake3: row.blake3,
            sha256: row.sha256.clone(),
            sha512: row.sha512.clone(),
        };
        rows.push(lookup::row_of(name, version, hashes));
        rows.extend(self.left(place, replaced, name)?);
        Ok(Some(rows))
    }

    fn publish_linked(
        &self,
        place: &Place,
        row: &FileRow,
        (draft, target): (&str, Target),
    ) -> Result<(), OciError> {
        let linked = beneath::open_file(place.folder(), draft, OFlags::RDONLY)
            .map_err(place.failed("open the image's second name"))?;
        let version = hash::version(&linked).map_err(place.failed_io("look at an image"))?;
        if !hash::is_same_content(&version, &row.version) {
            return Err(OciError::Unsettled { name: row.name.clone() });
        }
        Ok(library::publish(place, &linked, draft, target)?)
    }

    /// Opens what is known under a name.
    fn known(&self, place: &Place, name: &ImageName) -> Result<Option<(FileRow, File)>, OciError> {
        let Some(row) = self.file_row(name)? else { return Ok(None) };
        Ok(lookup::open_as(place, &row)?.map(|file| (row, file)))
    }

    /// Says what the other names of a file are from here on that has lost this one.
    fn left(
        &self,
        place: &Place,
        replaced: Option<(FileRow, File)>,
        name: &ImageName,
    ) -> Result<Vec<FileRow>, OciError> {
        replaced
            .map_or_else(|| Ok(Vec::new()), |(row, file)| self.renewed(place, (&row, &file), name.as_str()))
    }
}

impl Wish {
    pub(super) fn read(pushed: Pushed, at: UnixMillis) -> Result<Self, OciError> {
        if pushed.bytes.len() > MAX_MANIFEST {
            return Err(OciError::ManifestTooLarge { max: MAX_MANIFEST });
        }
        let read = manifest::read(&pushed.bytes, pushed.content_type.as_deref())?;
        let digest = digest_of(&pushed)?;
        let Pushed { repository, reference, mut tags, bytes, .. } = pushed;
        if let Reference::Tag(tag) = reference {
            tags.insert(0, tag);
        }
        Ok(Self { repository, digest, read, bytes, tags, at })
    }
}

/// Holds the bytes against the digest under which they came.
fn digest_of(pushed: &Pushed) -> Result<OciDigest, OciError> {
    match &pushed.reference {
        Reference::Tag(_) => Ok(Algorithm::Sha256.of(&pushed.bytes)),
        Reference::Digest(wanted) => {
            let found = wanted.algorithm().of(&pushed.bytes);
            let why = || format!("the manifest has the digest {found}, not {wanted}");
            if found == *wanted { Ok(found) } else { Err(OciError::BadDigest { why: why() }) }
        }
    }
}
