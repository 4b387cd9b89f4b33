//! Every code of the specification's section "Error Codes", and the bounds on what is taken.

use serde_json::json;
use sifleet_coordinator::oci::digest::Algorithm;

use crate::client::{IMAGE, INDEX, Lab, artifact, image, sif};

#[test]
fn every_error_has_the_code_of_the_specification() {
    let lab = Lab::with("oci_refusals", "[oci]\nmax_blob = \"1MiB\"\nquota = \"8MiB\"", vec!["head"]);
    let absent = Algorithm::Sha256.of(b"absent");
    let put =
        |path: &str, kind: &str, body: &[u8]| lab.send(("PUT", path), &[("content-type", kind)], Some(body));
    lab.get(&format!("/v2/a/blobs/{absent}")).says(404, "BLOB_UNKNOWN");
    lab.send(("PATCH", &lab.begin("a")), &[("content-range", "5-6")], Some(b"xy"))
        .says(416, "BLOB_UPLOAD_INVALID");
    let nowhere = "/v2/a/blobs/uploads/00000000000000000000000000000000";
    lab.send(("PATCH", nowhere), &[], Some(b"x")).says(404, "BLOB_UPLOAD_UNKNOWN");
    lab.get("/v2/a/blobs/uploads/x").says(404, "BLOB_UPLOAD_UNKNOWN");
    for (how, path) in [("POST", "/v2/a/blobs/uploads/".to_owned()), ("PUT", lab.begin("a"))] {
        lab.send((how, &format!("{path}?digest={absent}")), &[], Some(b"other")).says(400, "DIGEST_INVALID");
    }
    lab.send(("PUT", &format!("{}?digest=sha256:x", lab.begin("a"))), &[], None).says(400, "DIGEST_INVALID");
    lab.get("/v2/a/blobs/sha256:x").says(400, "DIGEST_INVALID");
    let config = lab.push_blob("a", b"{}");
    let manifest = serde_json::to_vec(&artifact(&config, (&config, 2))).unwrap();
    put(&format!("/v2/a/manifests/{absent}"), IMAGE, &manifest).says(400, "DIGEST_INVALID");
    put("/v2/a/manifests/sha256:baddigeststring", IMAGE, &manifest).says(400, "DIGEST_INVALID");
    for missing in
        [artifact(&config, (&absent, 1)), sif(&config, (&absent, 1)), artifact(&absent, (&config, 2))]
    {
        lab.put_manifest("/v2/a/manifests/v1", IMAGE, &missing).says(404, "MANIFEST_BLOB_UNKNOWN");
    }
    put("/v2/a/manifests/v1", IMAGE, b"{").says(400, "MANIFEST_INVALID");
    put("/v2/a/manifests/v1", INDEX, &manifest).says(400, "MANIFEST_INVALID");
    put("/v2/a/manifests/.v1", IMAGE, &manifest).says(400, "MANIFEST_INVALID");
    lab.get("/v2/a/manifests/v1").says(404, "MANIFEST_UNKNOWN");
    lab.get(&format!("/v2/a/manifests/{absent}")).says(404, "MANIFEST_UNKNOWN");
    for name in ["A", "a..b", "a_", "a//b"] {
        lab.get(&format!("/v2/{name}/tags/list")).says(400, "NAME_INVALID");
        lab.send(("POST", &format!("/v2/{name}/blobs/uploads/")), &[], None).says(400, "NAME_INVALID");
    }
    lab.get("/v2/nowhere/tags/list").says(404, "NAME_UNKNOWN");
    lab.get("/v2/a/elsewhere").says(404, "NAME_UNKNOWN");
    let large = vec![b' '; 4 * 1024 * 1024 + 1];
    put("/v2/a/manifests/v1", IMAGE, &large).says(413, "SIZE_INVALID");
    lab.send(("PATCH", &lab.begin("a")), &[("content-range", "0-1")], Some(b"x")).says(400, "SIZE_INVALID");
    lab.send(("PATCH", "/v2/a/manifests/v1"), &[], None).says(405, "UNSUPPORTED");
    lab.send(("POST", "/v2/_catalog"), &[], None).says(405, "UNSUPPORTED");
}

#[test]
fn a_push_that_would_take_another_tags_file_and_a_blob_that_is_needed_are_refused() {
    let lab = Lab::start("oci_taken");
    lab.push_image("openfoam_dev", "v1", &image(22)).is(201);
    lab.push_image("openfoam", "dev_v1", &image(23)).says(409, "DENIED");
    lab.push_artifact("a", "v1", "x");
    let needed = Algorithm::Sha256.of(b"x");
    lab.delete(&format!("/v2/b/blobs/{needed}")).says(405, "UNSUPPORTED");
    lab.get(&format!("/v2/a/blobs/{needed}")).is(200);
    assert_eq!(lab.get(&format!("/v2/sigs/blobs/{}", Algorithm::Sha256.of(b"{}"))).is(200).body, b"{}");
}

#[test]
fn what_is_taken_is_bounded_and_images_are_larger_than_the_rest() {
    let lab = Lab::with("oci_bounds", "[oci]\nmax_blob = \"100KiB\"\nquota = \"1MiB\"", vec!["head"]);
    let zeros = vec![0; 150_000];
    let digest = Algorithm::Sha256.of(&zeros);
    lab.send(("PUT", &format!("{}?digest={digest}", lab.begin("a"))), &[], Some(&zeros))
        .says(413, "SIZE_INVALID");
    let sif = image(21);
    assert!(sif.len() > 150_000);
    lab.push_image("a", "v1", &sif).is(201);
    let mut refused = 0;
    for seed in 0..16_u8 {
        let blob = vec![seed; 90_000];
        let digest = Algorithm::Sha256.of(&blob);
        let begun = lab.send(("POST", "/v2/a/blobs/uploads/"), &[], None);
        if begun.status != 202 {
            begun.says(507, "DENIED");
            refused += 1;
            continue;
        }
        let put =
            lab.send(("PUT", &format!("{}?digest={digest}", begun.header("location"))), &[], Some(&blob));
        if put.status != 201 {
            put.says(507, "DENIED");
            refused += 1;
        }
    }
    assert!((1..10).contains(&refused), "{refused}");
    let catalog = lab.get("/v2/_catalog").is(200).json();
    assert_eq!(catalog, json!({"repositories": ["a"]}));
}
