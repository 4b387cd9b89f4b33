//! What a restart costs.

use std::fs;
use std::time::{Duration, Instant};

use sifleet_agent::memory::Memory;
use sifleet_agent::staging::Staging;
use sifleet_common::beneath::Owner;
use sifleet_common::digest::Digest;
use sifleet_common::inventory::{Change, Content};

use crate::harness::{Node, image, is_image, root, settings, write};

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_reads_no_byte_of_unchanged_files() {
    let (folder, root) = root();
    let db = folder.path().join("memory.db");
    for number in 0..300 {
        write(root.join(format!("{number}.sif")), number);
    }
    fs::write(root.join("text.sif"), "no image").unwrap();
    let open = || Memory::open(&db, 100_000).unwrap();
    let mut node = Node::start_with(settings(&root), open());
    node.until_equal(&root).await;
    assert_eq!(node.hashing.bytes.hashed(), 300 * 104);
    let before = node.inventory.clone();
    node.stop().await;

    let mut node = Node::start_with(settings(&root), open());
    node.until_equal(&root).await;
    assert_eq!((node.hashing.bytes.hashed(), node.hashing.bytes.probed()), (0, 0));
    assert_eq!(node.inventory.digest(), before.digest());
    let pending = |change: &Change| matches!(change, Change::Put(_, replica) if matches!(replica.content, Content::Pending(_)));
    assert!(!node.history.iter().any(pending), "a restart must not make images pending");
    node.stop().await;

    write(root.join("7.sif"), 1_000);
    let mut node = Node::start_with(settings(&root), open());
    node.until_equal(&root).await;
    assert_eq!(node.hashing.bytes.hashed(), 104);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_the_agent_published_itself_is_neither_waited_for_nor_read_again() {
    let (_folder, root) = root();
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    let bytes = image(7);
    let digest = Digest::from(blake3::hash(&bytes));
    let staging = Staging::open(&root, digest, bytes.len() as u64, 0).unwrap();
    staging.write(&bytes, 0).unwrap();
    node.hashing.vouch(staging.reader(), digest);
    staging.publish(&"a.sif".parse().unwrap(), Owner { ids: None, mode: 0o644 }).unwrap();
    node.until("the image is ready", |inventory| is_image(inventory, "a.sif")).await;
    assert_eq!(node.hashing.bytes.hashed(), 0);
    let pending = |change: &Change| matches!(change, Change::Put(_, replica) if matches!(replica.content, Content::Pending(_)));
    assert!(!node.history.iter().any(pending), "it was whole when it was seen");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_memory_costs_a_reading_and_nothing_else() {
    let (folder, root) = root();
    let db = folder.path().join("memory.db");
    write(root.join("a.sif"), 1);
    let mut node = Node::start_with(settings(&root), Memory::open(&db, 10).unwrap());
    node.until_equal(&root).await;
    node.stop().await;
    for entry in fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
        if entry.path().is_file() {
            fs::write(entry.path(), image(1).repeat(100)).unwrap();
        }
    }
    let mut node = Node::start_with(settings(&root), Memory::open(&db, 10).unwrap());
    node.until_equal(&root).await;
    assert_eq!(node.hashing.bytes.hashed(), 104);
    node.stop().await;
}

/// 200,000 once took a dashboard down; a tenth of it where time is short.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_200_000_entries_is_listed() {
    let (_folder, root) = root();
    let count = if std::env::var_os("SIFLEET_LONG").is_some() { 200_000 } else { 20_000 };
    for number in 0..count {
        fs::File::create(root.join(format!("{number}.sif"))).unwrap();
    }
    let started = Instant::now();
    let mut node = Node::start(&root);
    node.until("all listed", |inventory| inventory.len() == count).await;
    node.until_equal(&root).await;
    println!("{count} entries listed within {:?}", started.elapsed());
    let removed = Instant::now();
    fs::remove_file(root.join("77.sif")).unwrap();
    node.until("one gone", |inventory| inventory.len() == count - 1).await;
    println!("a removal among them was known after {:?}", removed.elapsed());
    assert!(removed.elapsed() < Duration::from_secs(10));
    node.stop().await;
}
