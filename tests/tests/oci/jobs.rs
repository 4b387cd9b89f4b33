//! Jobs of a node pull from their own agent, which has the image brought to the node once.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;

use sifleet_coordinator::oci::digest::Algorithm;
use sifleet_tests::cluster::LIMIT;
use sifleet_tests::wait::until;

use crate::client::{Lab, image};

/// A cluster in which jobs of viz001 may pull, and where they do.
fn lab(name: &'static str) -> (Lab, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = format!("[pull]\nport = {port}");
    let lab = Lab::laid_out(name, &[("viz001", &settings)], vec!["head", "viz001"]);
    (lab, format!("http://127.0.0.1:{port}"))
}

#[test]
fn two_hundred_jobs_of_a_node_that_pull_an_image_at_once_cause_one_transfer_and_get_its_bytes() {
    let (lab, own) = lab("oci_jobs");
    let bytes = image(21);
    lab.push_image("compute/openfoam", "v2312", &bytes).is(201);
    lab.wait_for_library("compute/openfoam_v2312.sif");
    let layer = Algorithm::Sha256.of(&bytes).to_string();
    let pull = || {
        lab.get(&format!("{own}/v2/")).is(200);
        let manifest = lab.get(&format!("{own}/v2/compute/openfoam/manifests/v2312")).is(200);
        assert_eq!(manifest.json()["layers"][0]["digest"], layer);
        lab.get(&format!("{own}/v2/compute/openfoam/blobs/{layer}")).is(200).body
    };
    thread::scope(|scope| {
        let jobs: Vec<_> = (0..200).map(|_| scope.spawn(pull)).collect();
        jobs.into_iter().for_each(|job| assert!(job.join().unwrap() == bytes, "wrong bytes"));
    });
    let pushes = lab.cluster.get("/v1/pushes").unwrap()["pushes"].clone();
    assert_eq!(pushes.as_array().unwrap().len(), 1, "{pushes}");
    assert_eq!((&pushes[0]["nodes"], &pushes[0]["state"]), (&1.into(), &"done".into()));
    assert_eq!(pushes[0]["bytes"]["fetched"], bytes.len(), "{pushes}");
    let on_disk = lab.cluster.root("viz001").join("compute/openfoam_v2312.sif");
    assert!(fs::read(on_disk).unwrap() == bytes, "it stays on the node");
    assert!(pull() == bytes);
    assert_eq!(lab.cluster.get("/v1/pushes").unwrap()["pushes"].as_array().unwrap().len(), 1);
}

#[test]
fn a_pull_of_something_nobody_knows_or_that_cannot_come_says_so() {
    let (lab, own) = lab("oci_jobs_refused");
    lab.get(&format!("{own}/v2/nobody/heard/manifests/of-it")).says(404, "MANIFEST_UNKNOWN");
    lab.push_image("foreign", "v1", &image(22)).is(201);
    lab.wait_for_library("foreign_v1.sif");
    let manifest = lab.get(&format!("{own}/v2/foreign/manifests/v1")).is(200);
    let layer = manifest.json()["layers"][0]["digest"].as_str().unwrap().to_owned();
    // In the way of the folder in which the image would be: nothing is brought over it.
    fs::create_dir(lab.cluster.root("viz001").join("foreign_v1.sif")).unwrap();
    let refused = lab.get(&format!("{own}/v2/foreign/blobs/{layer}")).says(503, "UNAVAILABLE");
    assert!(String::from_utf8_lossy(&refused.body).contains("p-0000"), "it names the push");
}

#[test]
fn an_image_that_only_another_node_holds_is_not_brought_for_a_job() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = format!("[pull]\nport = {port}");
    let lab = Lab::laid_out("oci_jobs_licensed", &[("viz001", &settings)], vec!["head", "viz001", "viz002"]);
    let file = lab.cluster.root("viz002").join("lic.sif");
    fs::write(&file, image(23)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    until("the coordinator knows the image", LIMIT, || {
        lab.cluster.get("/v1/images/lic.sif").map(drop).map_err(|error| error.to_string())
    })
    .unwrap();
    lab.get(&format!("http://127.0.0.1:{port}/v2/lic/manifests/latest")).says(404, "MANIFEST_UNKNOWN");
    assert_eq!(lab.cluster.get("/v1/pushes").unwrap()["pushes"].as_array().unwrap().len(), 0);
    assert!(!lab.cluster.library().join("lic.sif").exists());
}
