//! `end-4` to `end-7`, `end-11`, `end-13`, `end-14`: what is pushed, in every way there is.

use sifleet_common::role::Role;
use sifleet_coordinator::oci::digest::{Algorithm, OciDigest};
use sifleet_tests::cluster::COORDINATOR;

use crate::client::{IMAGE, Lab, artifact};

fn is_here(lab: &Lab, repository: &str, digest: &OciDigest, bytes: &[u8]) {
    let found = lab.get(&format!("/v2/{repository}/blobs/{digest}")).is(200);
    assert_eq!(found.body, bytes);
    assert_eq!(found.header("docker-content-digest"), digest.to_string());
}

#[test]
fn end_4a_to_end_6_blobs_are_pushed_in_every_way_by_both_algorithms() {
    let lab = Lab::start("oci_push");
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        for (how, bytes) in
            [("post", &b"one request"[..]), ("post", b""), ("put", b"two requests"), ("patch", b"streamed")]
        {
            let digest = algorithm.of(bytes);
            let uploads = "/v2/a/b/blobs/uploads/";
            let answer = match how {
                "post" => lab.send(("POST", &format!("{uploads}?digest={digest}")), &[], Some(bytes)),
                "put" => {
                    lab.send(("PUT", &format!("{}?digest={digest}", lab.begin("a/b"))), &[], Some(bytes))
                }
                _ => {
                    let patched = lab.send(("PATCH", &lab.begin("a/b")), &[], Some(bytes)).is(202);
                    assert_eq!(patched.header("range"), format!("0-{}", bytes.len() - 1));
                    lab.send(("PUT", &format!("{}?digest={digest}", patched.header("location"))), &[], None)
                }
            };
            assert_eq!(answer.is(201).header("location"), format!("/v2/a/b/blobs/{digest}"), "{how}");
            is_here(&lab, "a/b", &digest, bytes);
        }
    }
}

#[test]
fn end_5_chunks_are_taken_in_order_and_no_other_and_end_13_says_how_far_they_are() {
    let lab = Lab::start("oci_chunks");
    let bytes: Vec<u8> = (0..300_u32).flat_map(u32::to_le_bytes).collect();
    let digest = Algorithm::Sha256.of(&bytes);
    let place = lab.begin("a");
    let chunk = |method: &str, from: usize, to: usize, query: &str| {
        let range = format!("{from}-{}", to - 1);
        lab.send((method, &format!("{place}{query}")), &[("content-range", &range)], Some(&bytes[from..to]))
    };
    assert_eq!(lab.get(&place).is(204).header("range"), "0-0");
    assert_eq!(chunk("PATCH", 0, 400, "").is(202).header("range"), "0-399");
    for (from, to) in [(500, 600), (0, 400), (399, 500)] {
        let refused = chunk("PATCH", from, to, "").says(416, "BLOB_UPLOAD_INVALID");
        assert_eq!((refused.header("range"), refused.header("location")), ("0-399", place.as_str()));
    }
    assert_eq!(lab.get(&place).is(204).header("range"), "0-399", "what was refused changed nothing");
    chunk("PUT", 500, 1_200, &format!("?digest={digest}")).says(416, "BLOB_UPLOAD_INVALID");
    chunk("PATCH", 400, 800, "").is(202);
    let range = "800-1199";
    lab.send(("PATCH", &place), &[("content-range", range)], Some(&bytes[800..900]))
        .says(400, "SIZE_INVALID");
    lab.send(("PATCH", &place), &[("content-range", "x")], Some(b"x")).says(400, "UNSUPPORTED");
    chunk("PUT", 800, 1_200, &format!("?digest={digest}")).is(201);
    is_here(&lab, "a", &digest, &bytes);
    lab.get(&place).says(404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn an_upload_goes_on_after_the_coordinator_was_killed() {
    let mut lab = Lab::start("oci_restart");
    let bytes = vec![7; 3_000_000];
    let digest = Algorithm::Sha256.of(&bytes);
    let place = lab.begin("a");
    lab.send(("PATCH", &place), &[], Some(&bytes[..2_000_000])).is(202);
    lab.cluster.kill(COORDINATOR).unwrap();
    lab.cluster.start_coordinator().unwrap();
    assert_eq!(lab.get(&place).is(204).header("range"), "0-1999999");
    let rest =
        lab.send(("PATCH", &place), &[("content-range", "2000000-2999999")], Some(&bytes[2_000_000..]));
    rest.is(202);
    lab.send(("PUT", &format!("{place}?digest={digest}")), &[], None).is(201);
    is_here(&lab, "a", &digest, &bytes);
}

#[test]
fn end_11_a_blob_that_is_here_is_mounted_and_another_is_asked_for() {
    let lab = Lab::start("oci_mount");
    let digest = lab.push_blob("from", b"mounted");
    for query in [format!("?mount={digest}&from=from"), format!("?mount={digest}")] {
        let mounted = lab.send(("POST", &format!("/v2/to/blobs/uploads/{query}")), &[], None).is(201);
        assert_eq!(mounted.header("location"), format!("/v2/to/blobs/{digest}"));
    }
    is_here(&lab, "to", &digest, b"mounted");
    let other = Algorithm::Sha256.of(b"never pushed");
    let begun =
        lab.send(("POST", &format!("/v2/to/blobs/uploads/?mount={other}&from=from")), &[], None).is(202);
    let place = begun.header("location").to_owned();
    lab.send(("PUT", &format!("{place}?digest={other}")), &[], Some(b"never pushed")).is(201);
    is_here(&lab, "to", &other, b"never pushed");
}

#[test]
fn end_14_an_upload_is_thrown_away_and_end_10_a_blob_too() {
    let lab = Lab::start("oci_cancel");
    let place = lab.begin("a");
    lab.send(("PATCH", &place), &[], Some(b"half")).is(202);
    lab.delete(&place).is(204);
    for method in ["GET", "PATCH", "DELETE"] {
        lab.send((method, &place), &[], None).says(404, "BLOB_UPLOAD_UNKNOWN");
    }
    let digest = lab.push_blob("a", b"gone");
    lab.delete(&format!("/v2/a/blobs/{digest}")).is(202);
    lab.head(&format!("/v2/a/blobs/{digest}")).is(404);
    lab.delete(&format!("/v2/a/blobs/{digest}")).says(404, "BLOB_UNKNOWN");
}

#[test]
fn end_7_a_manifest_is_kept_as_it_came_under_tags_and_digests() {
    let lab = Lab::start("oci_manifest");
    let (bytes, digest) = lab.push_artifact("a/thing", "v1", "first");
    for reference in ["v1", &digest.to_string()] {
        let found = lab.get(&format!("/v2/a/thing/manifests/{reference}")).is(200);
        assert_eq!(found.body, bytes);
        assert_eq!(found.header("content-type"), IMAGE);
        assert_eq!(found.header("docker-content-digest"), digest.to_string());
        let head = lab.head(&format!("/v2/a/thing/manifests/{reference}")).is(200);
        assert_eq!(head.header("content-length"), bytes.len().to_string());
    }
    let path = format!("/v2/a/thing/manifests/{digest}?tag=x&tag=y");
    let tagged = lab.send(("PUT", &path), &[("content-type", IMAGE)], Some(&bytes)).is(201);
    assert_eq!(tagged.header("location"), format!("/v2/a/thing/manifests/{digest}"));
    assert_eq!(lab.get("/v2/a/thing/manifests/y").is(200).body, bytes);
    let long = Algorithm::Sha512.of(&bytes);
    lab.send(("PUT", &format!("/v2/a/thing/manifests/{long}")), &[("content-type", IMAGE)], Some(&bytes))
        .is(201);
    assert_eq!(lab.get(&format!("/v2/a/thing/manifests/{long}")).is(200).body, bytes);
    let (second, _) = lab.push_artifact("a/thing", "v1", "second");
    assert_eq!(lab.get("/v2/a/thing/manifests/v1").is(200).body, second, "a tag moves on");
    assert_eq!(lab.get(&format!("/v2/a/thing/manifests/{digest}")).is(200).body, bytes);
    assert!(!lab.cluster.library().join("a").exists(), "what is no image is no file of the library");
}

#[test]
fn an_upload_is_seen_by_nobody_who_may_not_write() {
    let lab = Lab::start("oci_upload_roles");
    let place = lab.begin("a");
    let viewer = lab.cluster.callers().bearer(Role::Viewer);
    for method in ["GET", "PATCH", "PUT", "DELETE"] {
        lab.send((method, &place), &[("authorization", &viewer)], None).says(403, "DENIED");
    }
    let config = lab.push_blob("a", b"{}");
    let manifest = serde_json::to_vec(&artifact(&config, (&config, 2))).unwrap();
    for (method, path) in [("PUT", "/v2/a/manifests/v1"), ("DELETE", "/v2/a/manifests/v1")] {
        let asked = [("authorization", viewer.as_str()), ("content-type", IMAGE)];
        let body = (method == "PUT").then_some(manifest.as_slice());
        lab.send((method, path), &asked, body).says(403, "DENIED");
    }
}
