//! File systems mounted over a root and into it. Needs root: skipped with a word otherwise.

use std::fs;
use std::path::Path;
use std::process::Command;

use sifleet_common::inventory::Change;

use crate::harness::{Node, is_image, root, write};

/// A tmpfs, unmounted when dropped.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn over(path: &'a Path) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(path).status();
        if mounted.is_ok_and(|status| status.success()) {
            Some(Self(path))
        } else {
            println!("skipped: mounting needs root");
            None
        }
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // A file that is just being looked at makes it busy for a moment.
        let gone =
            (0..50).any(|_| Command::new("umount").arg(self.0).status().is_ok_and(|status| status.success()));
        assert!(gone, "cannot unmount {}", self.0.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_mounted_over_a_root_and_unmounted_again_is_noticed() {
    let (_folder, root) = root();
    write(root.join("below.sif"), 1);
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    let Some(mounted) = Mounted::over(&root) else { return };
    write(root.join("above.sif"), 2);
    node.until("mounted", |inventory| is_image(inventory, "above.sif") && inventory.len() == 1).await;
    node.until_equal(&root).await;
    write(root.join("more.sif"), 3);
    node.until("watched", |inventory| is_image(inventory, "more.sif")).await;
    drop(mounted);
    node.until("unmounted", |inventory| is_image(inventory, "below.sif") && inventory.len() == 1).await;
    node.until_equal(&root).await;
    write(root.join("last.sif"), 4);
    node.until("watched again", |inventory| is_image(inventory, "last.sif")).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_mounted_inside_a_root_is_part_of_it() {
    let (_folder, root) = root();
    let inside = root.join("inside");
    fs::create_dir(&inside).unwrap();
    write(inside.join("below.sif"), 1);
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    let Some(mounted) = Mounted::over(&inside) else { return };
    write(inside.join("above.sif"), 2);
    node.until("mounted", |inventory| is_image(inventory, "inside/above.sif") && inventory.len() == 1).await;
    drop(mounted);
    node.until("unmounted", |inventory| is_image(inventory, "inside/below.sif") && inventory.len() == 1)
        .await;
    node.until_equal(&root).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmounted_root_that_leaves_an_empty_directory_is_unknown() {
    let (_folder, root) = root();
    let Some(mounted) = Mounted::over(&root) else { return };
    write(root.join("a.sif"), 1);
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    drop(mounted);
    node.until_state("unknown").await;
    assert!(node.reason().contains("not mounted"), "{}", node.reason());
    assert_eq!(node.inventory.len(), 1);
    assert!(!node.history.iter().any(|change| matches!(change, Change::Remove(_))));
    let again = Mounted::over(&root).unwrap();
    write(root.join("b.sif"), 2);
    node.until("mounted again", |inventory| is_image(inventory, "b.sif") && inventory.len() == 1).await;
    node.stop().await;
    drop(again);
}
