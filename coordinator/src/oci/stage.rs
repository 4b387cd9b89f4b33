//! The bytes of a pushed image are read before they get a name: a large image takes minutes, and all other names wait for
//! the one that is being given.

use std::fs::File;
use std::io::Seek as _;

use rustix::fs::{OFlags, fsync};
use rustix::io::Errno;
use sifleet_common::beneath;
use sifleet_common::image::{self, Format};

use super::digest::Algorithm;
use super::error::OciError;
use super::manifest::SifLayer;
use super::{Registry, hash, stored};
use crate::library::{Place, UploadId};

/// Which bytes are to get a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Those of the blob that was pushed, if it is there.
    Blob,
    /// A copy of a file of the library that cannot have a second name: it is somebody else's, it has too many names, or the
    /// file system knows none.
    Copy,
}

/// A file in the hidden folder that was read, and is the image that is meant.
#[derive(Debug)]
pub(super) struct Staged {
    /// Its name there.
    pub(super) name: String,
    pub(super) hashes: hash::Hashes,
    source: Source,
}

impl Staged {
    /// Opens what is to get the name; none if another push of the image has published it.
    ///
    /// It need not be the file that was read: whoever pushes the blob anew puts another in its place, with the same bytes
    /// or it would not have got this name.
    pub(super) fn open(&self, place: &Place) -> Result<Option<File>, OciError> {
        match beneath::open_file(place.folder(), &self.name, OFlags::RDONLY) {
            Ok(there) => Ok(Some(there)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(place.failed("open an image that is to be published")(errno).into()),
        }
    }

    /// Throws a copy away that nobody needed in the end.
    pub(super) fn tidy(self, place: &Place) -> Result<(), OciError> {
        match self.source {
            Source::Blob => Ok(()),
            Source::Copy => stored::remove(place, &self.name).map(drop),
        }
    }
}

impl Registry {
    /// Reads the bytes of an image; none where the library has them and needs them once.
    pub(super) async fn stage(&self, sif: &SifLayer, source: Source) -> Result<Option<Staged>, OciError> {
        let wanted = sif.clone();
        let found = self.on_disk(move |registry| {
            let place = registry.0.library.place()?;
            match source {
                Source::Blob => stored::open(&place, &wanted.digest),
                Source::Copy => Ok(registry.library_file(&place, &wanted.digest)?.map(|(_, file)| file)),
            }
        });
        let Some(file) = found.await? else { return Ok(None) };
        let sif = sif.clone();
        let read = move |registry: &Self| match source {
            Source::Blob => {
                let place = registry.0.library.place()?;
                let (name, hashes) = (stored::blob_name(&sif.digest), verified(&place, &file, &sif)?);
                Ok(Staged { name, hashes, source })
            }
            Source::Copy => registry.copied(&file, &sif),
        };
        self.on_pass(read).await.map(Some)
    }

    fn copied(&self, mut from: &File, sif: &SifLayer) -> Result<Staged, OciError> {
        let place = self.0.library.place()?;
        self.check_room(&place, sif.size)?;
        let name = format!("{}{}", stored::DRAFT, UploadId::random());
        let mut copy = beneath::make_file(place.folder(), &name, OFlags::RDWR | OFlags::EXCL)
            .map_err(place.failed("make a copy of an image"))?;
        let copied = from
            .rewind()
            .and_then(|()| std::io::copy(&mut from, &mut copy))
            .map_err(place.failed_io("copy an image"))
            .and_then(|_bytes| fsync(&copy).map_err(place.failed("make a copy of an image durable")));
        match copied.map_err(OciError::from).and_then(|()| verified(&place, &copy, sif)) {
            Ok(hashes) => Ok(Staged { name, hashes, source: Source::Copy }),
            Err(error) => {
                stored::remove(&place, &name)?;
                Err(error)
            }
        }
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
    match image::runnable(file) {
        Ok(found) if found.format == Format::Sif => Ok(hashes),
        Ok(found) => Err(bad(format!("it is {}", found.format))),
        Err(reason) => Err(bad(reason.to_string())),
    }
}

/// Holds the size that a manifest names against what there is.
pub(super) fn check_size(sif: &SifLayer, size: u64) -> Result<(), OciError> {
    if sif.size == size {
        return Ok(());
    }
    let why = format!("the manifest says that {} has {} bytes, it has {size}", sif.digest, sif.size);
    Err(OciError::BadManifest { why })
}
