//! A full node of a real cluster: it fails alone, and gets its image as soon as there is room, without anybody asking.

use std::fs;

use anyhow::ensure;
use sifleet_tests::cluster::LIMIT;
use sifleet_tests::wait::until;

use crate::mount::{Mount, skipped};
use crate::site::{Site, image, unfinished};

#[test]
fn a_full_node_fails_alone_and_is_tried_again_when_an_image_is_gone() {
    if skipped("a_full_node_fails_alone_and_is_tried_again_when_an_image_is_gone", &["mount"]) {
        return;
    }
    let mut site = Site::lay_out("faults-room", "viz[1-2]", &["viz1", "viz2"]);
    let root = site.cluster.root("viz1");
    // 16 MiB of it have to stay free.
    let _mount = Mount::tmpfs(&root, "26m");
    let (large, bytes) = (image(6_000_000, 1), image(5_000_000, 2));
    fs::write(root.join("large.sif"), &large).unwrap();
    site.cluster.start_all().unwrap();
    let push = site.push("tool.sif", &bytes, None);
    site.comes_to(&push, "partial");
    let shown = site.shown(&push).unwrap();
    let reason = &shown["reasons"][0];
    assert_eq!((&reason["code"], &reason["nodes"]), (&"no_space".into(), &"viz1".into()), "{shown}");
    assert!(reason["message"].as_str().unwrap().contains("bytes free"), "{shown}");
    assert!(fs::read(site.cluster.root("viz2").join("tool.sif")).unwrap() == bytes);
    assert_eq!((site.node(&push, "viz1").unwrap()["fetched"].as_u64(), unfinished(&root)), (Some(0), 0));
    assert!(fs::read(root.join("large.sif")).unwrap() == large);
    fs::remove_file(root.join("large.sif")).unwrap();
    until("it is tried again by itself", LIMIT, || {
        let shown = site.shown(&push)?;
        ensure!(shown["state"] == "done", "{shown}");
        Ok(())
    })
    .unwrap();
    assert!(fs::read(root.join("tool.sif")).unwrap() == bytes);
}
