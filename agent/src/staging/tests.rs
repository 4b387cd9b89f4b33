//! Staging files on a real file system.

#![cfg(test)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

const PUBLIC: Owner = Owner { ids: None, mode: 0o644 };

fn image() -> Digest {
    Digest::from(blake3::hash(b"image"))
}

fn staged(root: &Path, bytes: &[u8]) -> Staging {
    let staging = Staging::open(root, image(), bytes.len() as u64, 0).unwrap();
    staging.write(bytes, 0).unwrap();
    staging
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn an_image_is_invisible_until_it_is_published_whole() {
    let root = tempfile::tempdir().unwrap();
    let staging = staged(root.path(), b"new image");
    assert_eq!(names(root.path()), [STAGING]);
    assert!(!crate::scan::is_listed(STAGING.as_bytes()));
    let name = "viz/desktop.sif".parse().unwrap();
    staging.publish(&name, PUBLIC).unwrap();
    let file = root.path().join("viz/desktop.sif");
    assert_eq!(fs::read(&file).unwrap(), b"new image");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(fs::metadata(root.path().join("viz")).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(names(&root.path().join(STAGING)), Vec::<String>::new());
}

#[test]
fn who_has_the_old_file_open_keeps_it() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("a.sif");
    fs::write(&file, b"old").unwrap();
    let open = File::open(&file).unwrap();
    staged(root.path(), b"new").publish(&"a.sif".parse().unwrap(), PUBLIC).unwrap();
    let mut bytes = [0; 3];
    open.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!((&bytes, fs::read(&file).unwrap().as_slice()), (b"old", &b"new"[..]));
    assert_eq!(open.metadata().unwrap().nlink(), 0);
}

#[test]
fn what_an_earlier_attempt_left_is_there_again() {
    let root = tempfile::tempdir().unwrap();
    drop(staged(root.path(), b"half"));
    let again = Staging::open(root.path(), image(), 4, 0).unwrap();
    let mut bytes = [0; 4];
    again.read(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"half");
    again.discard().unwrap();
    assert_eq!(names(&root.path().join(STAGING)), Vec::<String>::new());
}

#[test]
fn what_nobody_goes_on_with_is_reaped_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    drop(staged(root.path(), b"half"));
    let folder = root.path().join(STAGING);
    for name in ["upload-1.part", "note.json", "0123.part"] {
        fs::write(folder.join(name), b"of somebody else").unwrap();
    }
    let later = SystemTime::now() + Duration::from_secs(2);
    assert_eq!(Staging::reap(root.path(), SystemTime::UNIX_EPOCH, |_| false).unwrap(), 0, "it is young");
    assert_eq!(Staging::reap(root.path(), later, |wanted| *wanted == image()).unwrap(), 0, "it is wanted");
    assert_eq!(Staging::reap(root.path(), later, |_| false).unwrap(), 1);
    assert_eq!(names(&folder).len(), 3);
    assert_eq!(Staging::reap(&root.path().join("nowhere"), later, |_| false).unwrap(), 0);
}

#[test]
fn too_little_room_is_said_before_anything_is_written() {
    let root = tempfile::tempdir().unwrap();
    let error = Staging::open(root.path(), image(), 10, u64::MAX - 10).unwrap_err();
    assert!(matches!(error, StagingError::NoSpace { needed: 10, .. }), "{error:?}");
    let part = root.path().join(STAGING).join(format!("{}.part", image().hex()));
    assert_eq!(fs::metadata(part).unwrap().len(), 0);
}

#[test]
fn nothing_is_written_through_a_link() {
    let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    symlink(elsewhere.path(), root.path().join("viz")).unwrap();
    let error = staged(root.path(), b"new").publish(&"viz/a.sif".parse().unwrap(), PUBLIC).unwrap_err();
    assert!(error.to_string().contains("make the image's folder"), "{error}");
    symlink(elsewhere.path(), root.path().join(".linked")).unwrap();
    fs::remove_dir_all(root.path().join(STAGING)).unwrap();
    fs::rename(root.path().join(".linked"), root.path().join(STAGING)).unwrap();
    assert!(Staging::open(root.path(), image(), 1, 0).is_err());
    assert_eq!(names(elsewhere.path()), Vec::<String>::new());
}
