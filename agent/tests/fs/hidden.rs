//! Parts of a root that cannot be looked at: nothing there is taken for gone, and nothing there for ready.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use sifleet_common::inventory::Change;

use crate::harness::{Node, is_image, is_unreadable, root, write};

/// Takes root's powers from this thread, and from those that it starts, until dropped: then permissions count.
struct Powerless(Option<CapabilitySets>);

impl Powerless {
    fn begin() -> Self {
        let before = capabilities(None).unwrap();
        set_capabilities(None, CapabilitySets { effective: CapabilitySet::empty(), ..before }).unwrap();
        Self(Some(before))
    }
}

impl Drop for Powerless {
    fn drop(&mut self) {
        if let Some(before) = self.0.take() {
            set_capabilities(None, before).unwrap();
        }
    }
}

fn allow(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn removals(node: &Node) -> usize {
    node.history.iter().filter(|change| matches!(change, Change::Remove(_))).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_opens_and_cannot_be_listed_is_unknown_and_loses_no_entry() {
    let _powerless = Powerless::begin();
    let (_folder, root) = root();
    fs::create_dir(root.join("d")).unwrap();
    write(root.join("a.sif"), 1);
    write(root.join("d/b.sif"), 2);
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    // It opens for reading, but nothing can be resolved in it.
    allow(&root, 0o444);
    node.until_state("unknown").await;
    assert!(node.reason().contains(root.to_str().unwrap()), "{}", node.reason());
    assert_eq!((node.inventory.len(), removals(&node)), (2, 0));
    allow(&root, 0o755);
    node.until_state("watched").await;
    write(root.join("c.sif"), 3);
    node.until("watched again", |inventory| is_image(inventory, "c.sif")).await;
    node.until_equal(&root).await;
    assert_eq!(removals(&node), 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_below_a_directory_that_cannot_be_read_are_not_ready_until_they_are_seen_again() {
    let _powerless = Powerless::begin();
    let (_folder, root) = root();
    fs::create_dir_all(root.join("d/deep")).unwrap();
    write(root.join("a.sif"), 1);
    write(root.join("d/b.sif"), 2);
    write(root.join("d/deep/c.sif"), 3);
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    let hashed = node.hashing.bytes.hashed();
    allow(root.join("d"), 0o000);
    node.until("hidden", |all| is_unreadable(all, "d/b.sif") && is_unreadable(all, "d/deep/c.sif")).await;
    node.until_state("partial").await;
    assert!(node.reason().contains("cannot read the directory d"), "{}", node.reason());
    assert!(is_image(&node.inventory, "a.sif"));
    allow(root.join("d"), 0o755);
    node.until("seen again", |all| is_image(all, "d/b.sif") && is_image(all, "d/deep/c.sif")).await;
    node.until_state("watched").await;
    assert_eq!((removals(&node), node.hashing.bytes.hashed()), (0, hashed));
    write(root.join("d/late.sif"), 4);
    fs::remove_file(root.join("d/deep/c.sif")).unwrap();
    node.until("watched again", |all| is_image(all, "d/late.sif") && all.len() == 3).await;
    node.until_equal(&root).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_cannot_be_looked_at_hides_no_removal_beside_it() {
    let _powerless = Powerless::begin();
    let (_folder, root) = root();
    fs::create_dir(root.join("d")).unwrap();
    write(root.join("d/a.sif"), 1);
    write(root.join("d/b.sif"), 2);
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    fs::remove_file(root.join("d/b.sif")).unwrap();
    // Names can be listed, and nothing be told of them.
    allow(root.join("d"), 0o444);
    node.until("one is hidden", |all| is_unreadable(all, "d/a.sif") && all.len() == 1).await;
    node.until_state("partial").await;
    assert!(node.reason().contains("cannot look at d/a.sif"), "{}", node.reason());
    allow(root.join("d"), 0o755);
    node.until_equal(&root).await;
    assert_eq!(node.state(), Some("watched"));
    node.stop().await;
}
