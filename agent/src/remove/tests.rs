//! Tests of the last look: what is removed, what stays because somebody uses it, what is not touched in doubt.
#![cfg(test)]

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::*;
use crate::memory::Memory;

struct Root {
    folder: tempfile::TempDir,
    hashing: Hashing,
    candidate: Candidate,
    image: Digest,
}

impl Root {
    /// Makes a root with `viz/a.sif` in it, as the inventory would know it.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("viz")).unwrap();
        fs::write(folder.path().join("viz/a.sif"), IMAGE).unwrap();
        let memory = Memory::volatile(10).unwrap();
        let hashing = Hashing::new(memory, None, 1 << 40, tokio_util::sync::CancellationToken::new());
        let candidate = candidate(folder.path(), "viz/a.sif");
        Self { folder, hashing, candidate, image: Digest::of(IMAGE) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("viz/a.sif")
    }

    fn remove(&self) -> Result<String, Kept> {
        remove(&self.candidate, self.image, &self.hashing, || true)
    }

    /// Tells whether the kernel gives leases here; says so if not.
    fn has_leases(&self) -> bool {
        let file = File::open(self.path()).unwrap();
        let has = !matches!(sys::users(&file), Users::CannotTell(_));
        if !has {
            println!("skipped: no leases in {}", self.folder.path().display());
        }
        has
    }

    fn is_busy(&self, how: &str) {
        let kept = self.remove().unwrap_err();
        assert!(matches!(kept, Kept::Busy { .. }), "{how}: {kept:?}");
        assert_eq!(kept.outcome(), RemovalOutcome::Busy);
        assert!(self.path().exists(), "{how}");
    }
}

const IMAGE: &[u8] = &[7; 100_000];

fn candidate(root: &Path, name: &str) -> Candidate {
    let facts = Facts::from(&rustix::fs::stat(root.join(name)).unwrap());
    Candidate {
        root: root.to_owned(),
        trusted: true,
        name: name.parse().unwrap(),
        size: facts.print.size,
        modified: facts.print.modified(),
    }
}

/// Another process that has a file open, until it is dropped.
struct Reader(Child);

impl Reader {
    fn of(path: &Path) -> Self {
        Self(Command::new("sleep").arg("600").stdin(File::open(path).unwrap()).spawn().unwrap())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_file_that_nobody_uses_is_removed_and_its_neighbours_are_not() {
    let root = Root::new();
    if !root.has_leases() {
        return;
    }
    fs::write(root.folder.path().join("viz/a.sif.json"), "{}").unwrap();
    fs::write(root.folder.path().join("viz/b.sif"), IMAGE).unwrap();
    let said = root.remove().unwrap();
    assert!(said.contains("a.sif.json stays"), "{said}");
    let mut left: Vec<_> = fs::read_dir(root.folder.path().join("viz"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["a.sif.json", "b.sif"]);
    assert_eq!(root.remove().unwrap_err().outcome(), RemovalOutcome::Absent, "it is gone by now");
}

#[test]
fn a_file_that_somebody_has_open_stays_until_nobody_has() {
    let root = Root::new();
    if !root.has_leases() {
        return;
    }
    let reader = Reader::of(&root.path());
    root.is_busy("open");
    drop(reader);
    root.remove().unwrap();
}

#[test]
fn a_file_that_is_mounted_through_a_loop_device_stays() {
    let root = Root::new();
    if !root.has_leases() {
        return;
    }
    let made = Command::new("losetup").args(["--find", "--show", "--read-only"]).arg(root.path()).output();
    let Some(device) = made.ok().filter(|made| made.status.success()) else {
        println!("skipped: loop devices need root");
        return;
    };
    let device = String::from_utf8(device.stdout).unwrap();
    let kept = root.remove();
    assert!(Command::new("losetup").args(["--detach", device.trim()]).status().unwrap().success());
    assert!(matches!(kept, Err(Kept::Busy { .. })), "{kept:?}");
    assert!(root.path().exists());
}

#[test]
fn a_file_that_is_running_stays() {
    let root = Root::new();
    let path = root.folder.path().join("run");
    fs::copy("/bin/sleep", &path).unwrap();
    if !root.has_leases() {
        return;
    }
    let mut child = Command::new(&path).arg("600").spawn().unwrap();
    let image = Digest::of(&fs::read(&path).unwrap());
    let kept = remove(&candidate(root.folder.path(), "run"), image, &root.hashing, || true);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(kept, Err(Kept::Busy { .. })), "{kept:?}");
}

#[test]
fn what_the_agent_itself_reads_is_told_apart() {
    let root = Root::new();
    if !root.has_leases() {
        return;
    }
    let own = File::open(root.path()).unwrap();
    assert!(matches!(root.remove(), Err(Kept::Ours { .. })));
    drop(own);
    root.remove().unwrap();
}

#[test]
fn another_image_under_the_name_is_not_touched() {
    let root = Root::new();
    let mut other = OpenOptions::new().write(true).open(root.path()).unwrap();
    other.write_all(b"another").unwrap();
    drop(other);
    // As if nothing but the bytes had changed: the digest has the last word.
    let now = candidate(root.folder.path(), "viz/a.sif");
    let kept = remove(&now, root.image, &root.hashing, || true).unwrap_err();
    assert_eq!((kept.outcome(), root.path().exists()), (RemovalOutcome::Absent, true), "{kept}");
    let longer = Candidate { size: now.size + 1, ..now };
    let kept = remove(&longer, root.image, &root.hashing, || true).unwrap_err();
    assert_eq!((kept.outcome(), root.path().exists()), (RemovalOutcome::Absent, true), "{kept}");
}

#[test]
fn nothing_is_removed_through_a_link() {
    let root = Root::new();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::rename(root.path(), elsewhere.path().join("a.sif")).unwrap();
    symlink(elsewhere.path().join("a.sif"), root.path()).unwrap();
    assert_eq!(root.remove().unwrap_err().outcome(), RemovalOutcome::Absent);
    assert!(root.path().is_symlink());
    fs::remove_file(root.path()).unwrap();
    fs::remove_dir(root.folder.path().join("viz")).unwrap();
    symlink(elsewhere.path(), root.folder.path().join("viz")).unwrap();
    assert_eq!(root.remove().unwrap_err().outcome(), RemovalOutcome::Absent);
    assert_eq!(fs::read(elsewhere.path().join("a.sif")).unwrap(), IMAGE);
}

#[test]
fn other_names_of_the_file_stay() {
    let root = Root::new();
    if !root.has_leases() {
        return;
    }
    let other = root.folder.path().join("b.sif");
    fs::hard_link(root.path(), &other).unwrap();
    let said = root.remove().unwrap();
    assert!(said.contains("1 other names"), "{said}");
    assert_eq!((root.path().exists(), fs::read(other).unwrap().as_slice()), (false, IMAGE));
}

#[test]
fn a_directory_that_cannot_be_written_is_told_as_such() {
    let root = Root::new();
    let code = |errno: Errno| {
        let candidate = &root.candidate;
        Meant { path: "a".into(), candidate, image: root.image }.disk("remove", errno.into()).outcome()
    };
    assert_eq!(code(Errno::ROFS), RemovalOutcome::Failed(RemovalCode::ReadOnly));
    assert_eq!(code(Errno::ACCESS), RemovalOutcome::Failed(RemovalCode::Permission));
    assert_eq!(code(Errno::IO), RemovalOutcome::Failed(RemovalCode::Io));
    assert_eq!(Kept::NoRoot { root: 9 }.outcome(), RemovalOutcome::Failed(RemovalCode::NoRoot));
}

#[test]
fn what_was_ordered_long_ago_is_not_touched() {
    let root = Root::new();
    if !root.has_leases() {
        return;
    }
    let kept = remove(&root.candidate, root.image, &root.hashing, || false).unwrap_err();
    assert_eq!(kept.outcome(), RemovalOutcome::Failed(RemovalCode::Silent), "{kept}");
    assert!(root.path().exists());
}
