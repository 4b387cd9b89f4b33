//! Tests of reading files: what is refused, what is remembered, what counts as still.

use super::*;
use sifleet_common::digest::Digest;
use sifleet_common::image::Format;
use std::fs;

struct Root {
    folder: tempfile::TempDir,
    hashing: Hashing,
}

impl Root {
    fn new() -> Self {
        let memory = Memory::volatile(10).unwrap();
        let hashing = Hashing::new(memory, None, 1 << 40, CancellationToken::new());
        Self { folder: tempfile::tempdir().unwrap(), hashing }
    }

    /// Makes a squashfs of 104 bytes.
    fn image(&self, name: &str) -> Vec<u8> {
        let mut bytes = vec![0; 104];
        bytes[..4].copy_from_slice(b"hsqs");
        bytes[28] = 4;
        bytes[40..48].copy_from_slice(&104_u64.to_le_bytes());
        fs::write(self.folder.path().join(name), &bytes).unwrap();
        bytes
    }

    fn job(&self, name: &str) -> Job {
        let tree = Tree::open(self.folder.path()).unwrap();
        let file = tree.open_file(name.as_bytes()).unwrap();
        let print = Facts::from(&rustix::fs::fstat(&file).unwrap()).print;
        Job { name: name.parse().unwrap(), print }
    }

    fn read(&self, job: &Job) -> Outcome {
        self.hashing.read(self.folder.path(), false, job)
    }
}

fn image_of(bytes: &[u8], arch: Arch) -> Image {
    Image { digest: Digest::from(blake3::hash(bytes)), format: Format::Squashfs, arch, mutable: false }
}

fn foreign(node: Arch) -> Arch {
    if node == Arch::Arm64 { Arch::Amd64 } else { Arch::Arm64 }
}

#[test]
fn an_image_is_read_once() {
    let root = Root::new();
    let bytes = root.image("a.sif");
    fs::hard_link(root.folder.path().join("a.sif"), root.folder.path().join("b.sif")).unwrap();
    let expected = Content::Image(image_of(&bytes, Arch::Unknown));
    for name in ["a.sif", "b.sif"] {
        match root.read(&root.job(name)) {
            Outcome::Content { content, sure: true } => assert_eq!(content, expected),
            Outcome::Content { sure: false, .. } => {
                println!("skipped: no leases in {}", root.folder.path().display())
            }
            other @ (Outcome::Changed | Outcome::BeingWritten | Outcome::Stopped) => panic!("{other:?}"),
        }
    }
    assert_eq!(root.hashing.bytes.hashed(), 104);
    assert_eq!(root.hashing.recall(&root.job("a.sif").print, false), Some(expected));
}

#[test]
fn another_version_than_the_one_that_settled_is_not_read() {
    let root = Root::new();
    root.image("a.sif");
    let job = root.job("a.sif");
    let older = Job { print: Print { ctime: job.print.ctime - 1, ..job.print }, ..job.clone() };
    assert_eq!(root.read(&older), Outcome::Changed);
    fs::remove_file(root.folder.path().join("a.sif")).unwrap();
    assert_eq!(root.read(&job), Outcome::Changed);
    std::os::unix::fs::symlink("/etc/passwd", root.folder.path().join("a.sif")).unwrap();
    assert_eq!(root.read(&job), Outcome::Changed);
    assert_eq!(root.hashing.bytes.hashed() + root.hashing.bytes.probed(), 0);
}

#[test]
fn a_file_that_somebody_writes_to_is_not_read() {
    let root = Root::new();
    root.image("a.sif");
    let writer = fs::OpenOptions::new().append(true).open(root.folder.path().join("a.sif")).unwrap();
    let job = root.job("a.sif");
    if sys::writers(&File::open(root.folder.path().join("a.sif")).unwrap()) == Writers::CannotTell {
        println!("skipped: no leases in {}", root.folder.path().display());
        return;
    }
    assert_eq!(root.read(&job), Outcome::BeingWritten);
    drop(writer);
    assert!(matches!(root.read(&job), Outcome::Content { .. }));
}

#[test]
fn a_refused_lease_says_nothing_where_a_server_decides() {
    for (said, remote, expected) in [
        (Writers::Some, false, Writers::Some),
        (Writers::Some, true, Writers::CannotTell),
        (Writers::None, true, Writers::None),
        (Writers::CannotTell, false, Writers::CannotTell),
    ] {
        assert_eq!(believe(said, || remote), expected, "{said:?} {remote}");
    }
}

#[test]
fn a_file_that_ends_too_early_and_does_not_change_is_not_read_for_ever() {
    let root = Root::new();
    root.image("a.sif");
    let job = root.job("a.sif");
    let file = File::open(root.folder.path().join("a.sif")).unwrap();
    let Outcome::Content { content: Content::Unusable(what), .. } = cut_short(&file, &job) else {
        panic!("no content")
    };
    assert_eq!(what.code, UnusableCode::Unreadable);
    assert!(what.detail.contains("104 bytes"), "{}", what.detail);
    let older = Job { print: Print { ctime: job.print.ctime - 1, ..job.print }, ..job };
    assert_eq!(cut_short(&file, &older), Outcome::Changed);
}

#[test]
fn an_agent_that_stops_does_not_finish_reading() {
    let root = Root::new();
    root.image("a.sif");
    root.hashing.stop.cancel();
    assert_eq!(root.read(&root.job("a.sif")), Outcome::Stopped);
    assert!(root.hashing.memory.is_empty());
}

#[test]
fn only_a_library_holds_images_for_other_processors() {
    let node = Arch::Amd64;
    let image = image_of(b"x", foreign(node));
    let unusable = Unusable { code: UnusableCode::WrongArch, detail: "x".to_owned() };
    let shown = present(Remembered::Image(image.clone()), node, false);
    assert!(matches!(shown, Some(Content::Unusable(what)) if what.code == UnusableCode::WrongArch));
    assert_eq!(present(Remembered::Image(image.clone()), node, true), Some(Content::Image(image)));
    assert_eq!(present(Remembered::Unusable(unusable.clone()), node, true), None);
    assert_eq!(
        present(Remembered::Unusable(unusable.clone()), node, false),
        Some(Content::Unusable(unusable))
    );
    let unknown = image_of(b"x", Arch::Unknown);
    assert_eq!(present(Remembered::Image(unknown.clone()), node, false), Some(Content::Image(unknown)));
}

#[test]
fn what_is_no_image_is_not_read_whole() {
    let root = Root::new();
    fs::write(root.folder.path().join("a"), vec![b'x'; 1 << 20]).unwrap();
    let outcome = root.read(&root.job("a"));
    assert!(
        matches!(&outcome, Outcome::Content { content: Content::Unusable(what), .. }
            if what.code == UnusableCode::NotAnImage),
        "{outcome:?}"
    );
    assert_eq!(root.hashing.bytes.hashed(), 0);
    assert!(root.hashing.bytes.probed() <= 4096);
}
