//! Odd directory entries: each is shown for what it is, with a reason, and none stops the others.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use sifleet_common::inventory::{Content, Inventory, ReplicaKey, RootId};
use sifleet_common::name::ImageName;

use crate::harness::{Node, image, is_image, root, write};

/// Makes the corpus; says what each entry is to be shown as, `image` for an image.
fn corpus(root: &Path) -> Vec<(Vec<u8>, &'static str)> {
    let mut entries: Vec<(Vec<u8>, &'static str)> = Vec::new();
    let mut file = |name: &[u8], bytes: &[u8], what: &'static str| {
        fs::write(root.join(OsStr::from_bytes(name)), bytes).unwrap();
        entries.push((name.to_vec(), what));
    };
    file(b"good.sif", &image(1), "image");
    file("한글 이미지.sif".as_bytes(), &image(2), "image");
    file(b"no-extension", &image(3), "image");
    file(b"-rf", &image(4), "image");
    file(b"$(reboot).sif", &image(5), "image");
    file(b"empty.sif", b"", "not_an_image");
    file(b"text.sif", b"#!/bin/sh\n", "not_an_image");
    file(b"cut.sif", &image(6)[..100], "truncated");
    file(b"cut-early.sif", &image(6)[..50], "malformed");
    file(b"bad\xff\xfe.sif", &image(7), "bad_name");
    file(b"new\nline.sif", &image(8), "bad_name");
    file(b"esc\x1b[31m.sif", &image(9), "bad_name");
    file(b"back\\slash.sif", &image(10), "bad_name");
    file("right\u{202e}fis.sif".as_bytes(), &image(11), "bad_name");
    file(&[b'x'; 255], &image(12), "image");
    file(b"private.sif", &image(13), "private");
    fs::set_permissions(root.join("private.sif"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("good.sif", root.join("link.sif")).unwrap();
    symlink("/etc", root.join("etc")).unwrap();
    symlink("loop.sif", root.join("loop.sif")).unwrap();
    symlink("nowhere", root.join("dangling.sif")).unwrap();
    UnixListener::bind(root.join("socket.sif")).unwrap();
    File::create(root.join("sparse.sif")).unwrap().set_len(1 << 40).unwrap();
    fs::create_dir_all(root.join("box/.singularity.d")).unwrap();
    write(root.join("box/inner.sif"), 14);
    fs::create_dir(root.join("dir.sif")).unwrap();
    write(root.join("dir.sif/inside.sif"), 15);
    for (name, what) in [
        ("link.sif", "symlink"),
        ("etc", "symlink"),
        ("loop.sif", "symlink"),
        ("dangling.sif", "symlink"),
        ("socket.sif", "special_file"),
        ("sparse.sif", "sparse"),
        ("box", "sandbox"),
        ("dir.sif/inside.sif", "image"),
    ] {
        entries.push((name.as_bytes().to_vec(), what));
    }
    if Command::new("mkfifo").arg(root.join("fifo.sif")).status().is_ok_and(|status| status.success()) {
        entries.push((b"fifo.sif".to_vec(), "special_file"));
    }
    // What does not count at all.
    write(root.join(".hidden.sif"), 16);
    write(root.join("tmp-copy-123"), 17);
    write(root.join("good.sif.json"), 18);
    fs::create_dir(root.join(".hidden")).unwrap();
    write(root.join(".hidden/a.sif"), 19);
    entries
}

fn check(inventory: &Inventory, path: &[u8], what: &str) {
    let name = ImageName::escape(path).unwrap().0;
    let replica = inventory.replica(&ReplicaKey { root: RootId(0), name: name.clone() });
    match replica.map(|replica| &replica.content) {
        Some(Content::Image(_)) => assert_eq!(what, "image", "{name}"),
        Some(Content::Unusable(unusable)) => {
            assert_eq!(unusable.code.as_str(), what, "{name}");
            assert!(unusable.detail.len() > 10, "{name}: {}", unusable.detail);
        }
        other => panic!("{name}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_entries_are_shown_for_what_they_are() {
    let (_folder, root) = root();
    let entries = corpus(&root);
    assert!(entries.len() > 20);
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    assert_eq!(node.inventory.len(), entries.len());
    for (path, what) in &entries {
        check(&node.inventory, path, what);
    }
    assert!(node.hashing.bytes.hashed() < 1 << 20, "holes were read");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_entries_that_appear_under_a_watching_agent_are_the_same() {
    let (_folder, root) = root();
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    let entries = corpus(&root);
    node.until("all there", |inventory| inventory.len() == entries.len()).await;
    node.until_equal(&root).await;
    for (path, what) in &entries {
        check(&node.inventory, path, what);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_becomes_a_sandbox_and_a_directory_again() {
    let (_folder, root) = root();
    fs::create_dir(root.join("box")).unwrap();
    write(root.join("box/a.sif"), 1);
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    for _ in 0..3 {
        fs::create_dir(root.join("box/.singularity.d")).unwrap();
        node.until("a sandbox", |inventory| inventory.len() == 1 && !is_image(inventory, "box/a.sif")).await;
        node.until_equal(&root).await;
        fs::remove_dir(root.join("box/.singularity.d")).unwrap();
        node.until("a directory", |inventory| is_image(inventory, "box/a.sif") && inventory.len() == 1).await;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_very_deep_directory_makes_the_root_known_in_part_and_hides_nothing_else() {
    let (_folder, root) = root();
    fs::create_dir_all(root.join("d/".repeat(70))).unwrap();
    write(root.join("a.sif"), 1);
    let mut node = Node::start(&root);
    node.until("the others are known", |inventory| is_image(inventory, "a.sif")).await;
    node.until_equal(&root).await;
    assert_eq!(node.state(), Some("partial"));
    assert!(node.reason().contains("64"), "{}", node.reason());
    fs::remove_dir_all(root.join("d")).unwrap();
    node.until_state("watched").await;
    node.stop().await;
}
