//! Roots that are away, come back, or cannot be watched.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use sifleet_agent::inventory::Command;
use sifleet_agent::memory::Memory;
use sifleet_common::inventory::{Change, Content, Inventory};

use crate::harness::{Node, PATIENCE, content, is_image, root, settings, write};

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_is_not_there_is_unknown_and_is_seen_when_it_comes() {
    let (_folder, root) = root();
    fs::remove_dir(&root).unwrap();
    let mut node = Node::start(&root);
    let text = root.display().to_string();
    let deadline = Instant::now() + PATIENCE;
    while !node.reason().contains("does not exist") {
        assert!(node.receive(deadline).await);
    }
    assert!(node.reason().contains(&text), "{}", node.reason());
    fs::create_dir(&root).unwrap();
    write(root.join("a.sif"), 1);
    node.until("found", |inventory| is_image(inventory, "a.sif")).await;
    node.until_equal(&root).await;
    assert_eq!(node.state(), Some("watched"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_vanishes_is_unknown_and_its_images_are_not_deleted() {
    let (folder, root) = root();
    write(root.join("a.sif"), 1);
    write(root.join("b.sif"), 2);
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    fs::rename(&root, folder.path().join("elsewhere")).unwrap();
    node.until_state("unknown").await;
    assert_eq!(node.inventory.len(), 2);
    assert!(!node.history.iter().any(|change| matches!(change, Change::Remove(_))));
    // Made anew with other contents: then the old ones are gone indeed.
    fs::create_dir(&root).unwrap();
    write(root.join("c.sif"), 3);
    node.until("the other one", |inventory| is_image(inventory, "c.sif") && inventory.len() == 1).await;
    node.until_equal(&root).await;
    write(root.join("d.sif"), 4);
    node.until("it is watched", |inventory| is_image(inventory, "d.sif")).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_removed_and_made_again_at_once_is_watched_again() {
    let (_folder, root) = root();
    for number in 0..20 {
        write(root.join(format!("{number}.sif")), number);
    }
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    for round in 0..3 {
        fs::remove_dir_all(&root).unwrap();
        fs::create_dir_all(root.join("deep")).unwrap();
        write(root.join("deep/a.sif"), round);
        node.until("the other one", |inventory| is_image(inventory, "deep/a.sif") && inventory.len() == 1)
            .await;
        node.until_equal(&root).await;
        write(root.join("deep/b.sif"), round);
        node.until("it is watched", |inventory| is_image(inventory, "deep/b.sif")).await;
        fs::remove_file(root.join("deep/b.sif")).unwrap();
        node.until("gone", |inventory| inventory.len() == 1).await;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_may_not_watch_every_directory_says_so_and_looks_often() {
    let (_folder, root) = root();
    for directory in 0..10 {
        fs::create_dir(root.join(format!("d{directory}"))).unwrap();
    }
    let settings = sifleet_agent::watch::RootSettings { max_watches: 3, ..settings(&root) };
    let mut node = Node::start_with(settings, Memory::volatile(10).unwrap());
    node.until_equal(&root).await;
    assert_eq!(node.state(), Some("degraded"));
    assert!(node.reason().contains("max_watches"), "{}", node.reason());
    for directory in 0..10 {
        write(root.join(format!("d{directory}/a.sif")), directory);
    }
    node.until("found by looking", |inventory| {
        (0..10).all(|directory| is_image(inventory, &format!("d{directory}/a.sif")))
    })
    .await;
    for directory in 0..10 {
        fs::remove_file(root.join(format!("d{directory}/a.sif"))).unwrap();
    }
    node.until("gone by looking", |inventory| inventory.is_empty()).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_outgrows_its_watches_under_a_watching_agent_is_looked_at_often_from_then_on() {
    let (_folder, root) = root();
    let settings = sifleet_agent::watch::RootSettings { max_watches: 3, ..settings(&root) };
    let mut node = Node::start_with(settings, Memory::volatile(10).unwrap());
    node.until_state("watched").await;
    for directory in 0..5 {
        fs::create_dir(root.join(format!("d{directory}"))).unwrap();
    }
    node.until_state("degraded").await;
    for directory in 0..5 {
        write(root.join(format!("d{directory}/a.sif")), directory);
    }
    node.until("found by looking", |inventory| {
        (0..5).all(|directory| is_image(inventory, &format!("d{directory}/a.sif")))
    })
    .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_entries_than_allowed_make_a_root_known_in_part() {
    let (_folder, root) = root();
    (0..20).for_each(|number| write(root.join(format!("{number}.sif")), number));
    let settings = sifleet_agent::watch::RootSettings { max_entries: 15, ..settings(&root) };
    let mut node = Node::start_with(settings, Memory::volatile(100).unwrap());
    let deadline = Instant::now() + PATIENCE;
    while node.state() != Some("partial") || !node.is_settled() {
        assert!(node.receive(deadline).await);
    }
    assert_eq!(node.inventory.len(), 15);
    assert!(node.reason().contains("more than 15 entries"), "{}", node.reason());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_others_may_not_enter_holds_private_images() {
    let (_folder, root) = root();
    fs::create_dir_all(root.join("home/deep")).unwrap();
    write(root.join("home/deep/a.sif"), 1);
    let mut node = Node::start(&root);
    node.until("everybody's", |inventory| is_image(inventory, "home/deep/a.sif")).await;
    fs::set_permissions(root.join("home"), fs::Permissions::from_mode(0o700)).unwrap();
    node.until("private", |inventory| is_private(inventory, "home/deep/a.sif")).await;
    node.until_equal(&root).await;
    fs::set_permissions(root.join("home"), fs::Permissions::from_mode(0o755)).unwrap();
    node.until("everybody's again", |inventory| is_image(inventory, "home/deep/a.sif")).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_only_some_users_may_enter_holds_private_images() {
    let (_folder, root) = root();
    fs::create_dir(root.join("deep")).unwrap();
    write(root.join("deep/a.sif"), 1);
    fs::set_permissions(&root, fs::Permissions::from_mode(0o750)).unwrap();
    let mut node = Node::start(&root);
    node.until("private", |inventory| is_private(inventory, "deep/a.sif")).await;
    write(root.join("b.sif"), 2);
    node.until("private, too", |inventory| is_private(inventory, "b.sif")).await;
    node.until_equal(&root).await;
    // A look at everything judges the root as a look at one path does.
    let before = node.history.len();
    node.command(Command::Rescan).await;
    write(root.join("c.sif"), 3);
    node.until("after a look at everything", |inventory| is_private(inventory, "c.sif")).await;
    let others = |change: &&Change| !matches!(change, Change::Put(key, _) if key.name.as_str() == "c.sif");
    assert_eq!(node.history[before..].iter().find(others), None);
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
    node.until("everybody's", |all| is_image(all, "deep/a.sif") && is_image(all, "b.sif")).await;
    fs::set_permissions(root.join("b.sif"), fs::Permissions::from_mode(0o640)).unwrap();
    node.until("its group's", |inventory| is_private(inventory, "b.sif")).await;
    node.until_equal(&root).await;
    node.stop().await;
}

fn is_private(inventory: &Inventory, name: &str) -> bool {
    matches!(content(inventory, name), Some(Content::Unusable(what)) if what.code.as_str() == "private")
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_asks_gets_a_fresh_look() {
    let (_folder, root) = root();
    write(root.join("a.sif"), 1);
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    let digest = match content(&node.inventory, "a.sif") {
        Some(Content::Image(image)) => image.digest,
        other => panic!("{other:?}"),
    };
    let (reply, answer) = tokio::sync::oneshot::channel();
    node.command(Command::Describe { digest, reply }).await;
    assert_eq!(answer.await.unwrap().unwrap().0.size, 104);
    node.command(Command::Rescan).await;
    write(root.join("b.sif"), 2);
    node.until("found", |inventory| is_image(inventory, "b.sif")).await;
    node.until_equal(&root).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_look_is_told_once_what_it_found_is_among_the_changes() {
    let (_folder, root) = root();
    write(root.join("a.sif"), 1);
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    for round in 0..20 {
        let name = format!("b{round}.sif");
        write(root.join(&name), 2);
        let (reply, answer) = tokio::sync::oneshot::channel();
        node.command(Command::Reconcile { reply }).await;
        tokio::time::timeout(PATIENCE, answer).await.unwrap().unwrap();
        node.receive_what_is_there();
        assert!(content(&node.inventory, &name).is_some(), "{name} was not found by the look");
    }
    node.until_equal(&root).await;
    node.stop().await;
}
