//! A user of the node who exchanges files and folders for links while the agent looks, reads and publishes.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use sifleet_agent::scan::Tree;
use sifleet_agent::staging::Staging;
use sifleet_common::beneath::Owner;
use sifleet_common::digest::Digest;

/// How often each is tried.
const ROUNDS: u32 = 100_000;

/// A root, and what lies outside of it; in memory, so that a round costs no disk.
struct Ward {
    _folder: tempfile::TempDir,
    root: PathBuf,
    outside: PathBuf,
}

fn ward() -> Ward {
    let memory = Path::new("/dev/shm");
    let within = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = tempfile::tempdir_in(within).unwrap();
    let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(root.join("sub/a.sif"), "inside").unwrap();
    fs::write(outside.join("a.sif"), "secret").unwrap();
    Ward { _folder: folder, root, outside }
}

/// Exchanges the folder, and the file in it, for links that lead outside, and back, until it is done; counts the turns.
fn exchange(ward: &Ward, done: &AtomicBool, turns: &AtomicU32) {
    let (sub, kept) = (ward.root.join("sub"), ward.root.join(".kept"));
    let (file, aside) = (sub.join("a.sif"), ward.root.join(".aside"));
    while !done.load(Ordering::Relaxed) {
        // What the other side has just made or removed is in the way at times.
        drop(fs::rename(&sub, &kept).and_then(|()| symlink(&ward.outside, &sub)));
        drop(fs::remove_file(&sub));
        drop(fs::rename(&kept, &sub));
        drop(fs::rename(&file, &aside).and_then(|()| symlink(ward.outside.join("a.sif"), &file)));
        drop(fs::rename(&aside, &file));
        turns.fetch_add(1, Ordering::Relaxed);
    }
}

/// Tries something again and again while links come and go.
fn while_links_come_and_go(ward: &Ward, mut round: impl FnMut(u32)) {
    let (done, turns) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| exchange(ward, &done, &turns));
        while turns.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        // Whatever fails, the other thread has to end.
        let tried =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (0..ROUNDS).for_each(&mut round)));
        done.store(true, Ordering::Relaxed);
        tried.unwrap();
    });
    assert!(turns.load(Ordering::Relaxed) > 1_000, "links were exchanged too seldom to prove anything");
}

#[test]
fn nothing_outside_a_root_is_read_however_often_its_folders_become_links() {
    let ward = ward();
    let tree = Tree::open(&ward.root).unwrap();
    let mut read = 0_u32;
    while_links_come_and_go(&ward, |_round| {
        let Ok(mut file) = tree.open_file(b"sub/a.sif") else { return };
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "inside");
        read += 1;
    });
    assert!(read > 100, "it was read {read} times");
}

#[test]
fn nothing_is_published_outside_a_root_however_often_its_folders_become_links() {
    let ward = ward();
    let bytes = b"pushed";
    let image = Digest::from(blake3::hash(bytes));
    let owner = Owner { ids: None, mode: 0o644 };
    let name = "sub/pushed.sif".parse().unwrap();
    let mut published = 0_u32;
    while_links_come_and_go(&ward, |round| {
        let Ok(staging) = Staging::open(&ward.root, image, bytes.len() as u64, 0) else { return };
        staging.write(bytes, 0).unwrap();
        published += u32::from(staging.publish(&name, owner).is_ok());
        if round % 100 == 0 {
            let outside: Vec<_> =
                fs::read_dir(&ward.outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(outside, ["a.sif"]);
            assert_eq!(fs::read_to_string(ward.outside.join("a.sif")).unwrap(), "secret");
        }
    });
    assert!(published > 100, "it was published {published} times");
    assert_eq!(fs::read_dir(&ward.outside).unwrap().count(), 1);
}
