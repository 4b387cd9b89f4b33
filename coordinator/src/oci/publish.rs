//! A manifest is pushed; the SIF that it is about becomes a file of the library, by one rename and never in place.

use std::fs::File;
use std::sync::PoisonError;

use rustix::fs::{AtFlags, OFlags, linkat};
use sifleet_common::beneath;
use sifleet_common::image::{self, Format};
use sifleet_common::name::ImageName;
use sifleet_common::time::UnixMillis;
use tracing::info;

use super::digest::{Algorithm, OciDigest};
use super::error::OciError;
use super::manifest::{self, MAX_MANIFEST, SifLayer};
use super::name::{Reference, Repository, Tag, file_of};
use super::{Registry, hash, lookup, stored};
use crate::library::{self, Place, Target, UploadId, check_name};
use crate::store::oci::{FileRow, ManifestRow, OciStep};

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

impl Registry {
    /// Takes a manifest, and publishes the image that it is about under each of its tags.
    ///
    /// # Errors
    /// [`OciError::BadManifest`], [`OciError::BadDigest`], [`OciError::MissingBlob`] and those of the library. What was
    /// there under its tags is as it was, unless several tags were named: then the first of them may be published.
    pub async fn put_manifest(&self, pushed: Pushed) -> Result<Taken, OciError> {
        let (repository, at) = (pushed.repository.clone(), self.0.handle.clock.now().wall);
        let taken = self.on_disk(move |registry| registry.take(pushed, at)).await?;
        self.note_placing(&repository, &taken.files);
        Ok(taken)
    }

    fn take(&self, pushed: Pushed, at: UnixMillis) -> Result<Taken, OciError> {
        if pushed.bytes.len() > MAX_MANIFEST {
            return Err(OciError::ManifestTooLarge { max: MAX_MANIFEST });
        }
        let read = manifest::read(&pushed.bytes, pushed.content_type.as_deref())?;
        let digest = digest_of(&pushed)?;
        let place = self.0.library.place()?;
        let more = u64::try_from(pushed.bytes.len()).unwrap_or(u64::MAX);
        let kept = self.0.store.oci(|rows| rows.manifest_bytes())?;
        self.check_room(&place, more.saturating_add(kept))?;
        for blob in &read.blobs {
            if !self.has_blob(&place, blob)? {
                return Err(OciError::MissingBlob { digest: blob.clone() });
            }
        }
        let Pushed { repository, reference, tags, bytes, .. } = pushed;
        let mut tags = tags;
        if let Reference::Tag(tag) = reference {
            tags.insert(0, tag);
        }
        let mut files = Vec::new();
        if let Some(sif) = &read.sif {
            for tag in &tags {
                let name = file_of(&repository, tag)?;
                check_name(&name)?;
                let rows = self.publish(&place, sif, &name)?;
                // Each is kept before the next: a second name changes the version of the file.
                self.commit(rows.into_iter().map(OciStep::PutFile).collect())?;
                files.push(name);
            }
        }
        let subject = read.subject.clone();
        let manifest = ManifestRow {
            repository: repository.as_str().to_owned(),
            digest: digest.clone(),
            media_type: read.media_type,
            bytes,
            subject: read.subject,
            pushed: at,
        };
        let tags = tags.iter().map(|tag| tag.as_str().to_owned()).collect();
        self.commit(vec![OciStep::PutManifest { manifest, blobs: read.blobs, tags }])?;
        info!(image = %repository, digest = %digest.short(), "a manifest was pushed");
        Ok(Taken { digest, subject, files })
    }

    /// Gives an image its name in the library; returns what its file is, and others that it changed.
    fn publish(&self, place: &Place, sif: &SifLayer, name: &ImageName) -> Result<Vec<FileRow>, OciError> {
        let Some(file) = stored::open(place, &sif.digest)? else {
            return self.publish_again(place, sif, name);
        };
        // Read before its turn comes: a large image takes seconds.
        let before = hash::version(&file).map_err(place.failed_io("look at a blob"))?;
        let hashes = verified(place, &file, sif)?;
        let _turn = self.0.naming.lock().unwrap_or_else(PoisonError::into_inner);
        let staged = stored::blob_name(&sif.digest);
        let target = Target::look(place, name)?;
        let is_there = beneath::open_file(place.folder(), &staged, OFlags::RDONLY).is_ok_and(|there| {
            hash::version(&there).is_ok_and(|version| hash::is_same_content(&version, &before))
        });
        if !is_there {
            // Another push of the same image has published it meanwhile.
            drop(_turn);
            return self.publish_again(place, sif, name);
        }
        library::publish(place, &file, &staged, target)?;
        let after = hash::version(&file).map_err(place.failed_io("look at an image"))?;
        if !hash::is_same_content(&before, &after) {
            return Err(OciError::Unsettled { name: name.to_string() });
        }
        info!(image = %name, digest = %hashes.sha256.short(), bytes = hashes.size, "an image was pushed into the library");
        Ok(vec![lookup::row_of(name, after, hashes)])
    }

    /// Gives an image that the library holds another name, or leaves it as it is.
    fn publish_again(
        &self,
        place: &Place,
        sif: &SifLayer,
        name: &ImageName,
    ) -> Result<Vec<FileRow>, OciError> {
        let missing = || OciError::MissingBlob { digest: sif.digest.clone() };
        let _turn = self.0.naming.lock().unwrap_or_else(PoisonError::into_inner);
        let (row, file) = self.library_file(place, &sif.digest)?.ok_or_else(missing)?;
        check_size(sif, row.size)?;
        if self.0.store.oci(|rows| rows.file(name.as_str()))?.is_some_and(|known| {
            known.sha256 == row.sha256 && lookup::open_as(place, &known).is_ok_and(|open| open.is_some())
        }) {
            return Ok(Vec::new());
        }
        let target = Target::look(place, name)?;
        let draft = format!("{}{}", stored::DRAFT, UploadId::random());
        let published = match linkat(place.root(), &row.name, place.folder(), &draft, AtFlags::empty()) {
            Ok(()) => self.publish_linked(place, (&row, &file), (&draft, target), name),
            // A file of somebody else, too many names, a file system without links: then it is copied.
            Err(_refused) => self.publish_copy(place, (sif, &file), (&draft, target), name),
        };
        // After a rename onto another name of the same file the draft is still there.
        let removed = stored::remove(place, &draft);
        let rows = published?;
        removed?;
        info!(image = %name, digest = %row.sha256.short(), "an image of the library got another name");
        Ok(rows)
    }

    fn publish_linked(
        &self,
        place: &Place,
        (row, file): (&FileRow, &File),
        (draft, target): (&str, Target),
        name: &ImageName,
    ) -> Result<Vec<FileRow>, OciError> {
        let look = place.failed_io("look at an image");
        let linked = beneath::open_file(place.folder(), draft, OFlags::RDONLY)
            .map_err(place.failed("open the image's second name"))?;
        let is_same = |version: &str| hash::is_same_content(version, &row.version);
        if !is_same(&hash::version(&linked).map_err(&look)?) {
            return Err(OciError::Unsettled { name: row.name.clone() });
        }
        library::publish(place, &linked, draft, target)?;
        stored::remove(place, draft)?;
        let after = hash::version(file).map_err(&look)?;
        if !is_same(&after) {
            return Err(OciError::Unsettled { name: row.name.clone() });
        }
        // All names of the file have its new version.
        let others = self.0.store.oci(|rows| rows.files_with(&row.sha256))?;
        let mut rows: Vec<FileRow> = others.into_iter().filter(|other| is_same(&other.version)).collect();
        let hashes = hash::Hashes {
            size: row.size,
            blake3: row.blake3,
            sha256: row.sha256.clone(),
            sha512: row.sha512.clone(),
        };
        rows.retain(|other| other.name != name.as_str());
        rows.push(lookup::row_of(name, after.clone(), hashes));
        rows.iter_mut().for_each(|row| row.version.clone_from(&after));
        Ok(rows)
    }

    fn publish_copy(
        &self,
        place: &Place,
        (sif, file): (&SifLayer, &File),
        (draft, target): (&str, Target),
        name: &ImageName,
    ) -> Result<Vec<FileRow>, OciError> {
        self.check_room(place, sif.size)?;
        let mut copy = beneath::make_file(place.folder(), draft, OFlags::RDWR | OFlags::EXCL)
            .map_err(place.failed("make a copy of an image"))?;
        let mut from = file;
        std::io::Seek::rewind(&mut from).map_err(place.failed_io("read an image"))?;
        std::io::copy(&mut from, &mut copy).map_err(place.failed_io("copy an image"))?;
        let hashes = verified(place, &copy, sif)?;
        library::publish(place, &copy, draft, target)?;
        let version = hash::version(&copy).map_err(place.failed_io("look at an image"))?;
        Ok(vec![lookup::row_of(name, version, hashes)])
    }
}

/// Holds a file against the digest that a manifest names, and looks whether it is a SIF image.
fn verified(place: &Place, file: &File, sif: &SifLayer) -> Result<hash::Hashes, OciError> {
    let algorithm = sif.digest.algorithm();
    let hashes = hash::pass(file, algorithm == Algorithm::Sha512).map_err(place.failed_io("read a blob"))?;
    if hashes.of(algorithm) != Some(&sif.digest) {
        return Err(OciError::BadDigest {
            why: format!("the blob {} is damaged on disk: push it again", sif.digest),
        });
    }
    check_size(sif, hashes.size)?;
    let bad = |why: String| OciError::BadManifest { why: format!("the layer is no SIF image: {why}") };
    match image::classify(file) {
        Ok(found) if found.format == Format::Sif => Ok(hashes),
        Ok(found) => Err(bad(format!("it is {}", found.format))),
        Err(reason) => Err(bad(reason.to_string())),
    }
}

fn check_size(sif: &SifLayer, size: u64) -> Result<(), OciError> {
    if sif.size == size {
        return Ok(());
    }
    let why = format!("the manifest says that {} has {} bytes, it has {size}", sif.digest, sif.size);
    Err(OciError::BadManifest { why })
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
