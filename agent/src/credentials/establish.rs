//! How keys and certificates get onto the disk: beside the file first, then in its place by one rename.
//!
//! Whoever enrols begins with empty files of full size, so that a directory that cannot be written to, or a disk without
//! room, is known before a token is used up. Root enrols for an agent that is another user: what is made belongs to
//! whom the directory belongs.

use std::fs::{File, OpenOptions, Permissions, rename};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use sifleet_common::inherit;
use sifleet_common::tls::pem_of;
use sifleet_common::wire::enrol::Certificates;

use super::{CredentialsError, certificates};
use crate::settings;

/// Room that is taken for a file before its content is known, in bytes: several times a key, or a chain with its
/// authority.
const ROOM: usize = 16 * 1024;
/// A part that nobody touched for so long is left from a crash: an enrolment takes seconds.
const STALE: Duration = Duration::from_secs(3_600);

/// The files of a node that is about to enrol; what was not ended leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Establishing {
    authority: Part,
    certificate: Part,
    key: Part,
}

impl Establishing {
    /// Makes the directories, and finds out that all three files can be written.
    ///
    /// # Errors
    /// [`CredentialsError::Write`]; directories that were made stay.
    pub(crate) fn begin(files: &settings::Tls) -> Result<Self, CredentialsError> {
        for path in [&files.authority, &files.certificate, &files.key] {
            if let Some(dir) = path.parent() {
                inherit::make_dir(dir, 0o755)
                    .map_err(|source| CredentialsError::Write { path: dir.to_owned(), source })?;
            }
        }
        let part = |path: &Path, mode| {
            let mut part = Part::open(path, mode)?;
            part.reserve()?;
            Ok::<_, CredentialsError>(part)
        };
        Ok(Self {
            authority: part(&files.authority, 0o644)?,
            certificate: part(&files.certificate, 0o644)?,
            key: part(&files.key, 0o600)?,
        })
    }

    /// Puts a new key in place with its first certificate, and whom to trust.
    ///
    /// # Errors
    /// [`CredentialsError::Write`]; what was there before may be gone in part.
    pub(crate) fn end(self, key: &str, sent: &Certificates) -> Result<(), CredentialsError> {
        let pem = |list: &[Vec<u8>]| -> String {
            let list: Vec<CertificateDer<'static>> = certificates(list);
            pem_of(&list)
        };
        self.authority.end(&pem(&sent.authorities))?;
        self.key.end(key)?;
        self.certificate.end(&pem(&sent.chain))
    }
}

/// Puts a file that everybody may read in place whole.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), CredentialsError> {
    Part::open(path, 0o644)?.end(text)
}

/// Puts a file that everybody may read in place whole, whatever the umask is.
///
/// # Errors
/// What the system said; the file that was there before is as it was.
pub(crate) fn replace_for_all(path: &Path, text: &str) -> Result<(), CredentialsError> {
    let part = Part::open(path, 0o644)?;
    part.file.set_permissions(Permissions::from_mode(0o644)).map_err(|source| part.failed(source))?;
    part.end(text)
}

/// A file beside the one that it is to become.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    aside: PathBuf,
    file: File,
    done: bool,
}

impl Part {
    fn open(path: &Path, mode: u32) -> Result<Self, CredentialsError> {
        let failed = |source| CredentialsError::Write { path: path.to_owned(), source };
        sweep(path, SystemTime::now() - STALE);
        // Root may enrol the node while its agent renews: neither may take what the other writes.
        let mut aside = path.to_owned().into_os_string();
        aside.push(format!(".{:016x}.part", rand::random::<u64>()));
        let aside = PathBuf::from(aside);
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(mode).open(&aside).map_err(failed)?;
        let part = Self { path: path.to_owned(), aside, file, done: false };
        inherit::from_folder(&part.file, path).map_err(failed)?;
        Ok(part)
    }

    /// Takes as much of the disk as the content will.
    fn reserve(&mut self) -> Result<(), CredentialsError> {
        if self.path.is_dir() {
            return Err(self.failed(io::ErrorKind::IsADirectory.into()));
        }
        self.file.write_all(&[0; ROOM]).map_err(|source| self.failed(source))
    }

    fn end(mut self, text: &str) -> Result<(), CredentialsError> {
        let written = self
            .file
            .rewind()
            .and_then(|()| self.file.write_all(text.as_bytes()))
            .and_then(|()| self.file.set_len(text.len() as u64))
            .and_then(|()| self.file.sync_all())
            .and_then(|()| rename(&self.aside, &self.path));
        written.map_err(|source| self.failed(source))?;
        self.done = true;
        Ok(())
    }

    fn failed(&self, source: io::Error) -> CredentialsError {
        CredentialsError::Write { path: self.path.clone(), source }
    }
}

/// Removes what crashes left beside a file before a moment: it may hold a part of a key. What cannot be removed stays, and
/// nobody reads it.
fn sweep(path: &Path, before: SystemTime) {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let is_part = |found: &[u8]| {
        let random =
            found.strip_prefix(name).and_then(|rest| rest.strip_prefix(b".")?.strip_suffix(b".part"));
        random.is_some_and(|digits| digits.len() == 16 && digits.iter().all(u8::is_ascii_hexdigit))
    };
    let beside = path.parent().and_then(|dir| std::fs::read_dir(dir).ok());
    for entry in beside.into_iter().flatten().flatten() {
        let touched = || entry.metadata().and_then(|facts| facts.modified());
        if is_part(entry.file_name().as_encoded_bytes()) && touched().is_ok_and(|touched| touched < before) {
            drop(std::fs::remove_file(entry.path()));
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.done {
            // What cannot be removed is read by nobody.
            drop(std::fs::remove_file(&self.aside));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path) -> settings::Tls {
        let at = |name: &str| dir.join("tls").join(name);
        settings::Tls { authority: at("ca.pem"), certificate: at("node.pem"), key: at("node.key") }
    }

    fn listed(dir: &Path) -> Vec<String> {
        let names = std::fs::read_dir(dir.join("tls")).unwrap();
        let mut names: Vec<String> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_put_in_place_whole_and_the_key_is_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let sent = Certificates {
            node: "a".parse().unwrap(),
            chain: vec![vec![1; 100]],
            authorities: vec![vec![2; 100]],
        };
        Establishing::begin(&files).unwrap().end("a key", &sent).unwrap();
        assert_eq!(listed(dir.path()), ["ca.pem", "node.key", "node.pem"]);
        assert_eq!(std::fs::read_to_string(&files.key).unwrap(), "a key");
        assert_eq!(std::fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
        let certificate = std::fs::read_to_string(&files.certificate).unwrap();
        assert!(certificate.starts_with("-----BEGIN") && certificate.ends_with("-----\n"), "{certificate}");
    }

    #[test]
    fn whoever_is_refused_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        drop(Establishing::begin(&files).unwrap());
        assert_eq!(listed(dir.path()), Vec::<String>::new());
        std::fs::write(&files.key, "the old one").unwrap();
        drop(Establishing::begin(&files).unwrap());
        assert_eq!(std::fs::read_to_string(&files.key).unwrap(), "the old one");
        assert_eq!(listed(dir.path()), ["node.key"]);
    }

    #[test]
    fn two_that_write_at_once_do_not_take_each_others_files() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let sent = |byte| Certificates {
            node: "a".parse().unwrap(),
            chain: vec![vec![byte; 100]],
            authorities: vec![vec![2; 100]],
        };
        let enrolling = Establishing::begin(&files).unwrap();
        replace(&files.certificate, "renewed").unwrap();
        let other = Establishing::begin(&files).unwrap();
        enrolling.end("one key", &sent(1)).unwrap();
        assert_eq!(std::fs::read_to_string(&files.key).unwrap(), "one key");
        other.end("another key", &sent(3)).unwrap();
        assert_eq!(std::fs::read_to_string(&files.key).unwrap(), "another key");
        assert_eq!(listed(dir.path()), ["ca.pem", "node.key", "node.pem"]);
    }

    #[test]
    fn what_a_crash_left_is_removed_an_hour_later() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        drop(Establishing::begin(&files).unwrap());
        let left = [
            "node.key.0123456789abcdef.part",
            "node.key.0123456789abcdee.part",
            "node.key.old.part",
            "mine.part",
        ];
        for name in left {
            let file = File::create(dir.path().join("tls").join(name)).unwrap();
            let age = if name.contains("abcdee") { 60 } else { 7_200 };
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        drop(Establishing::begin(&files).unwrap());
        assert_eq!(listed(dir.path()), ["mine.part", "node.key.0123456789abcdee.part", "node.key.old.part"]);
    }

    #[test]
    fn what_cannot_be_written_is_known_at_the_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        std::fs::create_dir_all(&files.key).unwrap();
        let refused = Establishing::begin(&files).unwrap_err().to_string();
        assert!(refused.contains("node.key"), "{refused}");
        std::fs::remove_dir(&files.key).unwrap();
        std::fs::remove_dir(dir.path().join("tls")).unwrap();
        std::fs::write(dir.path().join("tls"), "no directory").unwrap();
        assert!(Establishing::begin(&files).is_err());
    }
}
