//! Images on nodes: one that the library lacks comes into it, and one that is pushed goes on to a partition.

use std::fs;
use std::thread;

use sifleet_common::role::Role;
use sifleet_coordinator::oci::digest::Algorithm;

use crate::client::{Lab, image};

#[test]
fn an_image_that_is_on_nodes_only_comes_into_the_library_once_however_many_pull_it() {
    let lab = Lab::with("oci_from_nodes", "", vec!["head", "viz001"]);
    let bytes = image(11);
    fs::write(lab.cluster.root("viz001").join("vnc.sif"), &bytes).unwrap();
    lab.cluster.wait_for_nodes("vnc", "viz", &[("ready", "viz001")]).unwrap();
    lab.head("/v2/vnc/manifests/latest").is(404);
    let bearer = lab.cluster.callers().bearer(Role::Viewer);
    let answers: Vec<_> = thread::scope(|scope| {
        let ask = || lab.send(("GET", "/v2/vnc/manifests/latest"), &[("authorization", &bearer)], None);
        let asking: Vec<_> = (0..20).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|asked| asked.join().unwrap().is(200)).collect()
    });
    let layer = Algorithm::Sha256.of(&bytes).to_string();
    assert!(answers.iter().all(|answer| answer.json()["layers"][0]["digest"] == layer));
    assert_eq!(lab.get(&format!("/v2/vnc/blobs/{layer}")).is(200).body, bytes);
    assert_eq!(lab.cluster.get("/v1/pushes").unwrap()["pushes"].as_array().unwrap().len(), 1);
}

#[test]
fn an_image_that_is_pushed_goes_on_to_the_partition_that_is_to_have_it() {
    let settings = "[[oci.place]]\nrepositories = \"apps/*\"\npartition = \"viz\"";
    let lab = Lab::with("oci_placing", settings, vec!["head", "viz001"]);
    lab.push_image("apps/vnc", "v1", &image(12)).is(201);
    lab.push_image("other", "v1", &image(13)).is(201);
    lab.cluster.wait_for_nodes("apps/vnc_v1", "viz", &[("ready", "viz001")]).unwrap();
    lab.wait_for_library("other_v1.sif");
    assert!(!lab.cluster.root("viz001").join("other_v1.sif").exists());
}
