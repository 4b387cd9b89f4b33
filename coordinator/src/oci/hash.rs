//! What a file is: every digest that anybody calls it by, in one pass, and which version of it was read.

use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{Advice, fadvise};
use sifleet_common::digest::Digest;
use tracing::trace;

use super::digest::{Algorithm, Hasher, OciDigest};

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// Every digest of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hashes {
    pub(super) size: u64,
    pub(super) blake3: Digest,
    pub(super) sha256: OciDigest,
    pub(super) sha512: Option<OciDigest>,
}

impl Hashes {
    /// Returns the digest of an algorithm, if it was asked for.
    pub(super) const fn of(&self, algorithm: Algorithm) -> Option<&OciDigest> {
        match algorithm {
            Algorithm::Sha256 => Some(&self.sha256),
            Algorithm::Sha512 => self.sha512.as_ref(),
        }
    }
}

/// Tells one state of a file from every other: device, inode, length, and when content and facts last changed.
pub(super) fn version(file: &File) -> io::Result<String> {
    let facts = file.metadata()?;
    Ok(format!(
        "{}:{}:{}:{}.{:09}:{}.{:09}",
        facts.dev(),
        facts.ino(),
        facts.size(),
        facts.mtime(),
        facts.mtime_nsec(),
        facts.ctime(),
        facts.ctime_nsec()
    ))
}

/// Tells whether two versions differ at most in what a rename and a second name change.
pub(super) fn is_same_content(one: &str, other: &str) -> bool {
    let content = |version: &str| version.rsplit_once(':').map(|(content, _)| content.to_owned());
    content(one).is_some() && content(one) == content(other)
}

/// Hashes a file from its beginning.
pub(super) fn pass(mut file: &File, with_sha512: bool) -> io::Result<Hashes> {
    file.rewind()?;
    if let Err(error) = fadvise(file, 0, None, Advice::Sequential) {
        trace!(%error, "a file is hashed without reading ahead");
    }
    let (mut blake3, mut sha256) = (blake3::Hasher::new(), Hasher::new(Algorithm::Sha256));
    let mut sha512 = with_sha512.then(|| Hasher::new(Algorithm::Sha512));
    let (mut piece, mut size) = (vec![0; PIECE], 0_u64);
    loop {
        let read = match file.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let bytes = piece.get(..read).unwrap_or_default();
        blake3.update(bytes);
        sha256.update(bytes);
        sha512.iter_mut().for_each(|hasher| hasher.update(bytes));
        size = size.saturating_add(bytes.len() as u64);
    }
    let (sha256, sha512) = (sha256.finish(), sha512.map(Hasher::finish));
    Ok(Hashes { size, blake3: Digest::from(blake3.finalize()), sha256, sha512 })
}

/// Hashes a file by one algorithm.
pub(super) fn digest(mut file: &File, algorithm: Algorithm) -> io::Result<OciDigest> {
    file.rewind()?;
    let (mut hasher, mut piece) = (Hasher::new(algorithm), vec![0; PIECE]);
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(read) => hasher.update(piece.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    #[test]
    fn one_pass_finds_every_digest() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes = vec![7; 3 * PIECE + 5];
        file.write_all(&bytes).unwrap();
        let found = pass(&file, true).unwrap();
        assert_eq!(found.size, bytes.len() as u64);
        assert_eq!(found.blake3, Digest::of(&bytes));
        assert_eq!(found.of(Algorithm::Sha256), Some(&Algorithm::Sha256.of(&bytes)));
        assert_eq!(found.of(Algorithm::Sha512), Some(&Algorithm::Sha512.of(&bytes)));
        assert_eq!(digest(&file, Algorithm::Sha512).unwrap(), Algorithm::Sha512.of(&bytes));
    }

    #[test]
    fn a_second_name_is_another_version_of_the_same_content_and_a_write_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        fs::write(&one, "bytes").unwrap();
        let file = File::open(&one).unwrap();
        let before = version(&file).unwrap();
        fs::hard_link(&one, &two).unwrap();
        let linked = version(&file).unwrap();
        assert!(is_same_content(&before, &linked));
        fs::write(&one, "other").unwrap();
        let times = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
        File::options().write(true).open(&one).unwrap().set_times(times).unwrap();
        let dated = version(&file).unwrap();
        assert!(!is_same_content(&before, &dated));
    }
}
