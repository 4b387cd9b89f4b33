//! How keys and certificates lie on disk: private keys readable by their owner only, made once and never overwritten;
//! certificates replaced whole. What root makes belongs to the directory's owner, who is the coordinator.

use std::fs::{File, OpenOptions, read_to_string, remove_file, rename};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rcgen::KeyPair;
use sifleet_common::inherit;

use super::{CaError, IssuedPaths};

pub(super) fn paths(dir: &Path, own: &Path, name: &str) -> IssuedPaths {
    IssuedPaths {
        certificate: own.join(format!("{name}.pem")),
        key: own.join(format!("{name}.key")),
        authority: dir.join("ca.pem"),
    }
}

pub(super) fn key_at(path: &Path, subject: &str) -> Result<KeyPair, CaError> {
    let key = KeyPair::generate().map_err(|source| CaError::Sign { subject: subject.to_owned(), source })?;
    match create(path, 0o600, &key.serialize_pem()) {
        Err(CaError::File { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
            read_key(path, subject)
        }
        other => other.map(|()| key),
    }
}

pub(super) fn read_key(path: &Path, subject: &str) -> Result<KeyPair, CaError> {
    let text = read_to_string(path).map_err(|source| file("read", path, source))?;
    KeyPair::from_pem(&text).map_err(|source| CaError::Sign { subject: subject.to_owned(), source })
}

/// Tells whether a file is there. One that cannot be looked at is an error, not absent.
pub(super) fn exists(path: &Path) -> Result<bool, CaError> {
    path.try_exists().map_err(|source| file("read", path, source))
}

pub(super) fn make_dir(dir: &Path) -> Result<(), CaError> {
    inherit::make_dir(dir, 0o700).map_err(|source| file("create", dir, source))
}

/// Creates a file that must not exist; its mode holds from the first byte on.
pub(super) fn create(path: &Path, mode: u32, text: &str) -> Result<(), CaError> {
    let options = OpenOptions::new().write(true).create_new(true).mode(mode).clone();
    let mut created = options.open(path).map_err(|source| file("create", path, source))?;
    write(&mut created, path, text)
}

/// Puts a file in place whole, whatever was there.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), CaError> {
    let aside = path.with_extension("pem.part");
    // One that was left behind, or put there by somebody who would like another file to be written.
    drop(remove_file(&aside));
    create(&aside, 0o644, text)?;
    rename(&aside, path).map_err(|source| file("rename", &aside, source))
}

fn write(opened: &mut File, path: &Path, text: &str) -> Result<(), CaError> {
    opened
        .write_all(text.as_bytes())
        .and_then(|()| inherit::from_folder(opened, path))
        .and_then(|()| opened.sync_all())
        .map_err(|source| file("write", path, source))
}

pub(super) fn file(step: &'static str, path: &Path, source: io::Error) -> CaError {
    CaError::File { step, path: path.to_owned(), source }
}
