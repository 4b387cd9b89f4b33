//! Uploads against real files: whole, resumed, wrong, twice, in the way.
#![cfg(test)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use sifleet_common::beneath::STAGING;

use super::*;

const PIECE: usize = 1000;

/// A squashfs as far as anybody looks: a superblock, then bytes that differ from image to image.
fn image(seed: u8) -> Vec<u8> {
    let mut bytes = vec![seed; 4096];
    bytes[..96].fill(0);
    bytes[..4].copy_from_slice(b"hsqs");
    bytes[28] = 4;
    bytes[40..48].copy_from_slice(&4096_u64.to_le_bytes());
    bytes
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::from(blake3::hash(bytes))
}

fn name(text: &str) -> ImageName {
    text.parse().unwrap()
}

fn library(dir: &Path) -> Library {
    Library::new(Options { keep_free: 0, ..Options::new(dir.to_owned()) })
}

fn begin(library: &Library, as_name: &str, bytes: &[u8]) -> Result<Stage, LibraryError> {
    library.begin(name(as_name), bytes.len() as u64, digest(bytes)).map(|standing| standing.stage)
}

fn opened(library: &Library, as_name: &str, bytes: &[u8]) -> (UploadId, u64) {
    let stage = begin(library, as_name, bytes).unwrap();
    if let Stage::Open(id, offset) = stage { (id, offset) } else { panic!("{stage:?}") }
}

/// Sends bytes from the offset on, in pieces.
fn send(library: &Library, id: UploadId, offset: u64, bytes: &[u8]) {
    let mut writing = library.write(id, offset).unwrap();
    for piece in bytes[usize::try_from(offset).unwrap()..].chunks(PIECE) {
        writing.append(piece).unwrap();
    }
}

fn upload(library: &Library, as_name: &str, bytes: &[u8]) {
    let (id, offset) = opened(library, as_name, bytes);
    send(library, id, offset, bytes);
    assert_eq!(library.finish(id).unwrap().stage, Stage::Published);
}

/// Everything below a directory but directories, with their lengths.
fn files(dir: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let below = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            found
                .extend(files(&entry.path()).into_iter().map(|(name, len)| (format!("{below}/{name}"), len)));
        } else {
            found.push((below, entry.metadata().unwrap().len()));
        }
    }
    found.sort();
    found
}

#[test]
fn an_upload_is_invisible_until_it_is_whole_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (library, bytes) = (library(dir.path()), image(1));
    let (id, offset) = opened(&library, "viz/desktop.sif", &bytes);
    assert_eq!(offset, 0);
    send(&library, id, 0, &bytes);
    assert!(!dir.path().join("viz").exists());
    assert_eq!(library.finish(id).unwrap().stage, Stage::Published);
    assert_eq!(files(dir.path()), [("viz/desktop.sif".to_owned(), 4096)]);
    let file = dir.path().join("viz/desktop.sif");
    assert_eq!(fs::read(&file).unwrap(), bytes);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(fs::metadata(dir.path().join("viz")).unwrap().permissions().mode() & 0o777, 0o755);
    assert!(matches!(library.look(id), Err(LibraryError::UnknownUpload { .. })));
}

#[test]
fn after_a_restart_the_upload_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = image(1);
    let (id, _) = opened(&library(dir.path()), "a.sif", &bytes);
    send(&library(dir.path()), id, 0, &bytes[..2500]);
    // Everything the process knew is gone.
    let after = library(dir.path());
    assert_eq!(after.look(id).unwrap().stage, Stage::Open(id, 2500));
    assert_eq!(opened(&after, "a.sif", &bytes), (id, 2500));
    for offset in [0, 2499, 2501] {
        let error = after.write(id, offset).unwrap_err();
        assert!(matches!(error, LibraryError::WrongOffset { has: 2500, .. }), "{error:?}");
    }
    assert!(matches!(after.finish(id), Err(LibraryError::WrongOffset { has: 2500, .. })));
    send(&after, id, 2500, &bytes);
    after.finish(id).unwrap();
    assert_eq!(fs::read(dir.path().join("a.sif")).unwrap(), bytes);
}

#[test]
fn other_bytes_than_announced_are_thrown_away_and_the_old_image_stays() {
    let dir = tempfile::tempdir().unwrap();
    let library = library(dir.path());
    upload(&library, "a.sif", &image(1));
    let (good, mut bad) = (image(2), image(2));
    bad[4095] ^= 1;
    let (id, _) = opened(&library, "a.sif", &good);
    send(&library, id, 0, &bad);
    assert!(matches!(library.finish(id), Err(LibraryError::WrongDigest { .. })));
    assert_eq!(files(dir.path()), [("a.sif".to_owned(), 4096)]);
    assert_eq!(fs::read(dir.path().join("a.sif")).unwrap(), image(1));
}

#[test]
fn what_is_no_image_or_cut_short_is_thrown_away() {
    let dir = tempfile::tempdir().unwrap();
    let library = library(dir.path());
    for (bytes, part) in
        [(b"#!/bin/sh\nexit\n".to_vec(), "no image"), (image(1)[..200].to_vec(), "cut short")]
    {
        let (id, _) = opened(&library, "a.sif", &bytes);
        send(&library, id, 0, &bytes);
        let error = library.finish(id).unwrap_err();
        assert!(
            matches!(error, LibraryError::NotAnImage { .. }) && error.to_string().contains(part),
            "{error}"
        );
        assert_eq!(files(dir.path()), []);
    }
}

#[test]
fn more_bytes_than_announced_are_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let (library, bytes) = (library(dir.path()), image(1));
    let (id, _) = opened(&library, "a.sif", &bytes);
    let mut writing = library.write(id, 0).unwrap();
    writing.append(&bytes[..4000]).unwrap();
    assert!(matches!(writing.append(&bytes[..97]), Err(LibraryError::TooLong { .. })));
    drop(writing);
    assert_eq!(library.look(id).unwrap().stage, Stage::Open(id, 4000));
}

#[test]
fn an_image_that_is_there_is_not_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let (library, bytes) = (library(dir.path()), image(1));
    upload(&library, "viz/a.sif", &bytes);
    let before = fs::metadata(dir.path().join("viz/a.sif")).unwrap().ino();
    assert_eq!(begin(&library, "viz/a.sif", &bytes).unwrap(), Stage::Present);
    assert_eq!(begin(&library, "shared/b.sif", &bytes).unwrap(), Stage::Deduplicated);
    assert_eq!(begin(&library, "shared/b.sif", &bytes).unwrap(), Stage::Present);
    assert_eq!(fs::metadata(dir.path().join("viz/a.sif")).unwrap().ino(), before);
    assert_eq!(fs::metadata(dir.path().join("shared/b.sif")).unwrap().ino(), before);
    assert_eq!(files(dir.path()).len(), 2);
    // The same length alone is not the same image.
    assert!(matches!(begin(&library, "c.sif", &image(2)).unwrap(), Stage::Open(_, 0)));
}

#[test]
fn a_name_that_holds_other_bytes_gets_the_known_ones_in_one_step() {
    let dir = tempfile::tempdir().unwrap();
    let library = library(dir.path());
    upload(&library, "a.sif", &image(1));
    upload(&library, "b.sif", &image(2));
    let open = fs::File::open(dir.path().join("b.sif")).unwrap();
    assert_eq!(begin(&library, "b.sif", &image(1)).unwrap(), Stage::Deduplicated);
    assert_eq!(fs::read(dir.path().join("b.sif")).unwrap(), image(1));
    assert_eq!(expected::Found::read(&open, digest(&image(2)).into()).unwrap().digest, digest(&image(2)));
}

#[test]
fn too_little_room_is_said_before_the_first_byte() {
    let dir = tempfile::tempdir().unwrap();
    let full = Library::new(Options { keep_free: u64::MAX / 2, ..Options::new(dir.path().to_owned()) });
    let error = begin(&full, "a.sif", &image(1)).unwrap_err();
    assert!(matches!(error, LibraryError::NoSpace { needed: 4096, .. }) && error.is_no_space(), "{error:?}");
    assert_eq!(files(dir.path()), []);
}

#[test]
fn names_that_no_agent_would_report_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let library = library(dir.path());
    for bad in [".hidden.sif", ".sifleet/a.sif", "viz/.a.sif", "a.sif.json", "tmp-copy-a", "a\\x41.sif"] {
        let error = begin(&library, bad, &image(1)).unwrap_err();
        assert!(matches!(error, LibraryError::BadName { .. }), "{bad}: {error:?}");
    }
    for size in [0, MAX_IMAGE + 1] {
        let error = library.begin(name("a.sif"), size, digest(b"")).unwrap_err();
        assert!(matches!(error, LibraryError::BadSize { .. }), "{error:?}");
    }
    assert_eq!(files(dir.path()), []);
}

#[test]
fn nothing_is_written_through_a_link_or_over_a_directory() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let library = library(dir.path());
    symlink(elsewhere.path(), dir.path().join("link")).unwrap();
    symlink("/etc/passwd", dir.path().join("b.sif")).unwrap();
    fs::create_dir(dir.path().join("folder.sif")).unwrap();
    fs::write(dir.path().join("file"), b"").unwrap();
    for bad in ["link/a.sif", "b.sif", "folder.sif", "file/a.sif"] {
        let error = begin(&library, bad, &image(1)).unwrap_err();
        assert!(matches!(error, LibraryError::InTheWay { .. }), "{bad}: {error:?}");
    }
    // The link appears after the upload began.
    let (id, _) = opened(&library, "late/a.sif", &image(1));
    send(&library, id, 0, &image(1));
    symlink(elsewhere.path(), dir.path().join("late")).unwrap();
    assert!(library.finish(id).is_err());
    assert_eq!(files(elsewhere.path()), []);
    fs::remove_dir_all(dir.path().join(STAGING)).unwrap();
    symlink(elsewhere.path(), dir.path().join(STAGING)).unwrap();
    assert!(matches!(begin(&library, "a.sif", &image(1)), Err(LibraryError::Disk { .. })));
    assert_eq!(files(elsewhere.path()), []);
}

#[test]
fn one_writes_at_a_time_and_who_asks_meanwhile_is_told_the_offset() {
    let dir = tempfile::tempdir().unwrap();
    let (library, bytes) = (library(dir.path()), image(1));
    let (id, _) = opened(&library, "a.sif", &bytes);
    let mut writing = library.write(id, 0).unwrap();
    writing.append(&bytes[..10]).unwrap();
    assert!(matches!(library.write(id, 10), Err(LibraryError::Busy { .. })));
    assert!(matches!(library.finish(id), Err(LibraryError::Busy { .. })));
    assert!(matches!(library.abandon(id), Err(LibraryError::Busy { .. })));
    assert_eq!(opened(&library, "a.sif", &bytes), (id, 10));
    drop(writing);
    library.abandon(id).unwrap();
    assert_eq!(files(dir.path()), []);
}

#[test]
fn whoever_asks_for_the_same_image_again_and_again_never_keeps_its_sender_out() {
    let dir = tempfile::tempdir().unwrap();
    let (library, bytes) = (library(dir.path()), image(1));
    // Another file of the same length has to be read by whoever asks.
    upload(&library, "other.sif", &image(2));
    let (id, _) = opened(&library, "a.sif", &bytes);
    let sent = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !sent.load(Ordering::Relaxed) {
                assert_eq!(opened(&library, "a.sif", &bytes).0, id);
            }
        });
        let pieces =
            (0..bytes.len()).try_for_each(|at| library.write(id, at as u64)?.append(&bytes[at..=at]));
        sent.store(true, Ordering::Relaxed);
        pieces.unwrap();
    });
    assert_eq!(library.finish(id).unwrap().stage, Stage::Published);
}

#[test]
fn only_so_many_uploads_go_on_and_forgotten_ones_do_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let two = Library::new(Options { keep_free: 0, max_uploads: 2, ..Options::new(dir.path().to_owned()) });
    let (first, _) = opened(&two, "1.sif", &image(1));
    opened(&two, "2.sif", &image(2));
    assert!(matches!(begin(&two, "3.sif", &image(3)), Err(LibraryError::TooManyUploads { max: 2 })));
    assert_eq!(opened(&two, "1.sif", &image(1)), (first, 0));
    age(dir.path(), first, ACTIVE * 2);
    opened(&two, "3.sif", &image(3));
}

/// Has an upload look as if nobody had touched it for so long.
fn age(dir: &Path, id: UploadId, age: Duration) {
    for end in ["data", "json"] {
        let path = dir.join(STAGING).join(format!("upload-{id}.{end}"));
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }
}

#[test]
fn what_nobody_touched_for_a_week_is_thrown_away() {
    let dir = tempfile::tempdir().unwrap();
    let library = library(dir.path());
    let (old, _) = opened(&library, "old.sif", &image(1));
    let (young, _) = opened(&library, "young.sif", &image(2));
    let foreign = dir.path().join(STAGING).join("something.part");
    fs::write(&foreign, b"of an agent").unwrap();
    age(dir.path(), old, STALE + Duration::from_secs(60));
    age(dir.path(), young, STALE - Duration::from_secs(60));
    opened(&library, "new.sif", &image(3));
    assert!(matches!(library.look(old), Err(LibraryError::UnknownUpload { .. })));
    assert_eq!(library.look(young).unwrap().stage, Stage::Open(young, 0));
    assert!(foreign.exists());
}

#[test]
fn a_note_that_lies_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (library, bytes) = (library(dir.path()), image(1));
    let (id, _) = opened(&library, "a.sif", &bytes);
    send(&library, id, 0, &bytes);
    let note = dir.path().join(STAGING).join(format!("upload-{id}.json"));
    let text = fs::read_to_string(&note).unwrap();
    for lie in [text.replace("a.sif", "b.sif"), text.replace("4096", "4095"), "{".to_owned(), String::new()] {
        fs::write(&note, lie).unwrap();
        assert!(matches!(library.finish(id), Err(LibraryError::UnknownUpload { .. })));
    }
    assert_eq!(opened(&library, "a.sif", &bytes), (id, 0));
}

#[test]
fn a_library_that_is_not_there_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let gone = dir.path().join("not-mounted");
    let error = begin(&library(&gone), "a.sif", &image(1)).unwrap_err();
    assert!(error.to_string().starts_with("cannot open the directory"), "{error}");
    assert!(!gone.exists());
}

#[test]
fn only_what_was_handed_out_is_an_identifier() {
    let (id, _) = opened(&library(tempfile::tempdir().unwrap().path()), "a.sif", &image(1));
    assert_eq!(id.to_string().parse(), Ok(id));
    for bad in
        ["", "../../../../../../../../etc/passwd", "0", "+0000000000000000000000000000000", &"g".repeat(32)]
    {
        assert!(bad.parse::<UploadId>().is_err(), "{bad}");
    }
}
