//! Files that somebody writes to: never an image before the last writer is gone.

#![expect(unsafe_code, reason = "a shared mapping is what is tested")]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use sifleet_agent::inventory::Command;
use sifleet_common::inventory::{Change, Content};

use crate::harness::{Node, PATIENCE, image, is_being_written, is_image, root, write};

#[tokio::test(flavor = "multi_thread")]
async fn a_file_held_open_for_writing_is_being_written_until_it_is_closed() {
    let (_folder, root) = root();
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    let mut writer = File::create(root.join("a.sif")).unwrap();
    writer.write_all(&image(1)).unwrap();
    node.until("seen", |inventory| is_being_written(inventory, "a.sif")).await;
    // Quiet for much longer than the settle time, and still open.
    let patience = Instant::now() + Duration::from_secs(2);
    while node.receive(patience).await {}
    assert!(is_being_written(&node.inventory, "a.sif"));
    drop(writer);
    node.until("closed", |inventory| is_image(inventory, "a.sif")).await;
    node.until_equal(&root).await;
    assert_eq!(images(&node, "a.sif"), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_opened_again_for_writing_is_being_written() {
    let (_folder, root) = root();
    write(root.join("a.sif"), 1);
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    let mut writer = OpenOptions::new().append(true).open(root.join("a.sif")).unwrap();
    writer.write_all(b"more").unwrap();
    node.until("written to", |inventory| is_being_written(inventory, "a.sif")).await;
    drop(writer);
    node.until("closed", |inventory| is_image(inventory, "a.sif")).await;
    node.until_equal(&root).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_mapped_for_writing_is_being_written_although_it_is_closed() {
    let (_folder, root) = root();
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    write(root.join(".a"), 1);
    let file = OpenOptions::new().read(true).write(true).open(root.join(".a")).unwrap();
    // SAFETY: a fresh mapping of a file of 104 bytes, which nobody cuts.
    let map = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            104,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    assert_ne!(map, libc::MAP_FAILED);
    drop(file);
    fs::rename(root.join(".a"), root.join("a.sif")).unwrap();
    node.until("seen", |inventory| is_being_written(inventory, "a.sif")).await;
    let patience = Instant::now() + Duration::from_secs(2);
    while node.receive(patience).await {}
    assert!(is_being_written(&node.inventory, "a.sif"), "a closed descriptor hides no mapping");
    // SAFETY: byte 100 lies in the mapping, which is unmapped once.
    unsafe {
        *map.cast::<u8>().add(100) = 42;
        libc::munmap(map, 104);
    }
    node.until("unmapped", |inventory| is_image(inventory, "a.sif")).await;
    node.until_equal(&root).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_grows_in_steps_is_an_image_only_when_whole() {
    let (_folder, root) = root();
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    let bytes = image(9);
    for end in (8..=bytes.len()).step_by(8) {
        let mut file = OpenOptions::new().create(true).append(true).open(root.join("a.sif")).unwrap();
        file.write_all(&bytes[end - 8..end]).unwrap();
        drop(file);
        node.receive(Instant::now() + Duration::from_millis(20)).await;
    }
    node.until("whole", |inventory| is_image(inventory, "a.sif")).await;
    node.until_equal(&root).await;
    assert_eq!(images(&node, "a.sif"), 1, "{:?}", node.history);
    node.stop().await;
}

/// Counts how often a name became an image.
fn images(node: &Node, name: &str) -> usize {
    let is = |change: &&Change| {
        matches!(change, Change::Put(key, replica)
            if key.name.as_str() == name && matches!(replica.content, Content::Image(_)))
    };
    node.history.iter().filter(is).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_permissions_or_links_does_not_take_an_image_away() {
    let (_folder, root) = root();
    let path = root.join("a.sif");
    write(&path, 1);
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    let before = node.history.len();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    fs::hard_link(&path, root.join(".linked")).unwrap();
    node.command(Command::Rescan).await;
    let hashed = node.hashing.bytes.hashed();
    write(root.join("b.sif"), 2);
    node.until("another one", |inventory| is_image(inventory, "b.sif")).await;
    let deadline = Instant::now() + PATIENCE;
    while node.hashing.bytes.hashed() < hashed + 2 * 104 {
        node.receive(Instant::now() + Duration::from_millis(20)).await;
        assert!(Instant::now() < deadline, "it was not read again");
    }
    let of_a = |change: &&Change| matches!(change, Change::Put(key, _) if key.name.as_str() == "a.sif");
    assert_eq!(node.history[before..].iter().filter(of_a).count(), 0, "{:?}", &node.history[before..]);
    node.until_equal(&root).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_changed_behind_an_unchanged_modification_time_are_found() {
    let (_folder, root) = root();
    let path = root.join("a.sif");
    write(&path, 1);
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let mut file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all(&image(2)).unwrap();
    file.set_modified(modified).unwrap();
    drop(file);
    let deadline = Instant::now() + PATIENCE;
    while node.hashing.bytes.hashed() < 2 * 104 {
        assert!(node.receive(deadline).await);
    }
    node.until_equal(&root).await;
    node.stop().await;
}
