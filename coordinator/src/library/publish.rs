//! Under which names images may be published in the library, and a second name for an image that is there already.
//!
//! Outside facts: linkat(2); rename(2): onto another name of the same file it does nothing.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, OFlags, linkat, statat, unlinkat};
use rustix::io::Errno;
use sifleet_common::beneath::{self, Owner};
use sifleet_common::name::ImageName;

use super::place::Place;
use super::same::{self, Same};
use super::{LibraryError, UploadId};

/// Everybody may read an image of the library; nobody changes it, for it is replaced and never written.
const OWNER: Owner = Owner { ids: None, mode: 0o644 };

/// Refuses names that agents do not list, and those that stand for what cannot be written.
pub(crate) fn check_name(name: &ImageName) -> Result<(), LibraryError> {
    let reason = if name.as_str().split('/').any(|part| part.starts_with('.')) {
        "a part of it is hidden"
    } else if name.as_str().split('/').any(|part| part.starts_with("tmp-copy-")) {
        "what begins with tmp-copy- is an unfinished pull"
    } else if name.as_str().ends_with(".sif.json") {
        "what ends in .sif.json describes an image"
    } else if name.as_str().contains('\\') {
        "it has a backslash"
    } else {
        return Ok(());
    };
    Err(LibraryError::BadName { name: name.clone(), reason })
}

/// Where an image will be, with nothing in the way at present.
#[derive(Debug)]
pub(crate) struct Target(ImageName);

impl Target {
    /// Looks whether the name is free or a file's.
    pub(crate) fn look(place: &Place, name: &ImageName) -> Result<Self, LibraryError> {
        let blocked = |obstacle| Err(LibraryError::InTheWay { name: name.clone(), obstacle });
        let (folders, file) = beneath::split(name);
        let mut above: Option<OwnedFd> = None;
        for part in folders {
            let here = above.as_ref().map_or(place.root(), AsFd::as_fd);
            match beneath::open_folder(here, part) {
                Ok(next) => above = Some(next),
                Err(Errno::NOENT) => return Ok(Self(name.clone())),
                Err(Errno::NOTDIR) => return blocked("a file with the name of one of its folders"),
                Err(Errno::LOOP) => return blocked("a link with the name of one of its folders"),
                Err(errno) => return Err(place.failed("look at the image's folder")(errno)),
            }
        }
        let here = above.as_ref().map_or(place.root(), AsFd::as_fd);
        match statat(here, file, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(Self(name.clone())),
            Err(errno) => Err(place.failed("look at the image's name")(errno)),
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Ok(Self(name.clone())),
                FileType::Directory => blocked("a directory"),
                FileType::Symlink => blocked("a link"),
                FileType::Fifo
                | FileType::Socket
                | FileType::CharacterDevice
                | FileType::BlockDevice
                | FileType::Unknown => blocked("something that is no file"),
            },
        }
    }
}

/// Gives the staged file, held open, its name in the library.
pub(crate) fn publish(place: &Place, file: &File, staged: &str, target: Target) -> Result<(), LibraryError> {
    let Target(name) = target;
    beneath::publish(file, (place.folder(), staged), place.root(), &name, OWNER)
        .map_err(|error| place.refused(&error))
}

/// Publishes a file of the library under another name as well; tells whether the file system took part.
pub(super) fn link(place: &Place, same: &Same, id: UploadId, target: Target) -> Result<bool, LibraryError> {
    let staged = format!("upload-{id}.link");
    match linkat(place.root(), &same.name, place.folder(), &staged, AtFlags::empty()) {
        Ok(()) => {}
        // A file of somebody else, too many names, a file system without links: then the bytes have to come.
        Err(_) => return Ok(false),
    }
    let linked = beneath::open_file(place.folder(), &staged, OFlags::RDONLY);
    let published = linked.map_err(place.failed("open the image's second name")).and_then(|file| {
        let is_same = same::identity(&file).is_ok_and(|found| found == same.identity);
        if is_same { publish(place, &file, &staged, target).map(|()| true) } else { Ok(false) }
    });
    // After a rename onto another name of the same file the old one is still there.
    match unlinkat(place.folder(), &staged, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => published,
        Err(errno) => published.and(Err(place.failed("remove the image's second name")(errno))),
    }
}
