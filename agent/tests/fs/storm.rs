//! Many changes at once.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{Node, is_image, root, write};

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_files_behind_fresh_directories_are_all_found() {
    let (_folder, root) = root();
    let mut node = Node::start(&root);
    node.until_state("watched").await;
    let there = root.clone();
    let making = std::thread::spawn(move || {
        for directory in 0..500_u64 {
            let path = there.join(format!("d{directory}/a/b"));
            fs::create_dir_all(&path).unwrap();
            for file in 0..20 {
                write(path.join(format!("{file}.sif")), directory * 100 + file);
            }
        }
    });
    making.join().unwrap();
    node.until("all known", |inventory| inventory.len() == 10_000).await;
    node.until_equal(&root).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_renamed_over_each_other_end_up_as_they_are() {
    let (_folder, root) = root();
    for number in 0..200 {
        write(root.join(format!("{number}.sif")), number);
    }
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    for round in 0..5_u64 {
        for number in 0..200_u64 {
            let hidden = root.join(format!(".{number}.sif.tmp"));
            write(&hidden, 1_000 * round + number);
            fs::rename(&hidden, root.join(format!("{}.sif", (number + round) % 200))).unwrap();
        }
    }
    for number in 0..100 {
        fs::rename(root.join(format!("{number}.sif")), root.join(format!("{}.sif", number + 100))).unwrap();
    }
    node.until("half are gone", |inventory| inventory.len() == 100).await;
    node.until_equal(&root).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_moved_in_out_and_about_take_their_files_along() {
    let (folder, root) = root();
    let outside = folder.path().join("outside");
    for tree in 0..10_u64 {
        let path = outside.join(format!("t{tree}/x/y"));
        fs::create_dir_all(&path).unwrap();
        (0..10).for_each(|file| write(path.join(format!("{file}.sif")), tree * 10 + file));
    }
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    for tree in 0..10 {
        fs::rename(outside.join(format!("t{tree}")), root.join(format!("t{tree}"))).unwrap();
    }
    node.until("all moved in", |inventory| inventory.len() == 100).await;
    node.until_equal(&root).await;
    for tree in 0..5 {
        fs::rename(root.join(format!("t{tree}")), outside.join(format!("t{tree}"))).unwrap();
    }
    for tree in 5..10 {
        fs::rename(root.join(format!("t{tree}/x")), root.join(format!("x{tree}"))).unwrap();
        write(root.join(format!("x{tree}/y/late.sif")), tree);
    }
    // A directory that takes the place of one that just left.
    fs::create_dir_all(root.join("t0/x/y")).unwrap();
    write(root.join("t0/x/y/other.sif"), 77);
    node.until("moved about", |inventory| {
        inventory.len() == 56
            && is_image(inventory, "t0/x/y/other.sif")
            && is_image(inventory, "x9/y/late.sif")
    })
    .await;
    node.until_equal(&root).await;
    write(root.join("x7/y/later.sif"), 78);
    node.until("a moved directory is still watched", |inventory| is_image(inventory, "x7/y/later.sif")).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_becomes_a_file_and_back_leaves_nothing_behind() {
    let (_folder, root) = root();
    fs::create_dir(root.join("a")).unwrap();
    write(root.join("a/b.sif"), 1);
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    for round in 0..5 {
        fs::remove_dir_all(root.join("a")).unwrap();
        write(root.join("a"), round);
        node.until("a file", |inventory| is_image(inventory, "a") && inventory.len() == 1).await;
        fs::remove_file(root.join("a")).unwrap();
        fs::create_dir(root.join("a")).unwrap();
        write(root.join("a/b.sif"), round);
        node.until("a directory", |inventory| is_image(inventory, "a/b.sif") && inventory.len() == 1).await;
    }
    node.until_equal(&root).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hard_links_count_like_files_and_are_read_once() {
    let (folder, root) = root();
    let outside = folder.path().join("outside.sif");
    write(&outside, 5);
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    for number in 0..50 {
        fs::hard_link(&outside, root.join(format!("{number}.sif"))).unwrap();
    }
    node.until("all linked", |inventory| (0..50).all(|number| is_image(inventory, &format!("{number}.sif"))))
        .await;
    node.until_equal(&root).await;
    fs::remove_file(root.join("7.sif")).unwrap();
    node.until("one gone", |inventory| inventory.len() == 49).await;
    node.until_equal(&root).await;
    node.stop().await;
}

/// Makes files while this whole process is stopped, so that the kernel's queue of 16,384 events must overflow.
fn make_while_stopped(root: &Path, files: u32) -> bool {
    let script = "kill -STOP $PPID; cd \"$1\" && seq -f %g.sif \"$2\" | xargs touch; kill -CONT $PPID";
    let done = Command::new("sh").args(["-c", script, "sh"]).arg(root).arg(files.to_string()).status();
    done.is_ok_and(|status| status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overflow_of_the_queue_loses_nothing() {
    let (_folder, root) = root();
    write(root.join("1.sif"), 1);
    fs::create_dir(root.join("kept")).unwrap();
    write(root.join("kept/a.sif"), 2);
    let mut node = Node::start(&root);
    node.until_equal(&root).await;
    assert!(make_while_stopped(&root, 20_000), "sh, seq, xargs and touch are needed");
    node.until("all known", |inventory| inventory.len() == 20_001).await;
    node.until_equal(&root).await;
    write(root.join("after.sif"), 3);
    node.until("still watched", |inventory| is_image(inventory, "after.sif")).await;
    node.stop().await;
}
