//! `end-1` to `end-3`, `end-8` to `end-10`: what is pulled, listed and deleted.

use serde_json::json;
use sifleet_common::role::Role;
use sifleet_coordinator::oci::digest::Algorithm;

use crate::client::{IMAGE, Lab};

#[test]
fn end_1_says_how_to_say_who_asks() {
    let lab = Lab::start("oci_ping");
    for path in ["/v2/", "/v2"] {
        assert_eq!(lab.get(path).is(200).header("docker-distribution-api-version"), "registry/2.0");
        let stranger = lab.send(("GET", path), &[("authorization", "")], None).says(401, "UNAUTHORIZED");
        assert_eq!(stranger.header("www-authenticate"), "Basic realm=\"sifleet\"");
    }
    let token = lab.cluster.callers().bearer(Role::Viewer);
    let token = token.strip_prefix("Bearer ").unwrap();
    let basic = |password: &str| {
        let encoded = base64(format!("anybody:{password}").as_bytes());
        lab.send(("GET", "/v2/"), &[("authorization", &format!("Basic {encoded}"))], None)
    };
    basic(token).is(200);
    basic("wrong").says(401, "UNAUTHORIZED");
    let elsewhere = base64(format!("anybody:{token}").as_bytes());
    let elsewhere = [("authorization", &*format!("Basic {elsewhere}"))];
    assert_eq!(
        lab.send(("GET", "/v1/images"), &elsewhere, None).status,
        401,
        "passwords are for registries only"
    );
}

/// Encodes as RFC 4648 says.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let encode = |chunk: &[u8]| {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let digit = |at: usize| char::from(DIGITS[(bits >> (18 - 6 * at) & 63) as usize]);
        (0..4).map(|at| if at <= chunk.len() { digit(at) } else { '=' }).collect::<String>()
    };
    bytes.chunks(3).map(encode).collect()
}

#[test]
fn end_2_blobs_are_read_whole_and_in_part() {
    let lab = Lab::start("oci_ranges");
    let bytes: Vec<u8> = (0..2_000_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    let digest = lab.push_blob("a", &bytes);
    let path = format!("/v2/a/blobs/{digest}");
    let whole = lab.get(&path).is(200);
    assert_eq!(whole.body, bytes);
    assert_eq!((whole.header("accept-ranges"), whole.header("content-length")), ("bytes", "2000000"));
    assert_eq!(lab.head(&path).is(200).header("content-length"), "2000000");
    for (range, from, to) in [
        ("bytes=500-1499", 500, 1_500),
        ("bytes=1999999-", 1_999_999, 2_000_000),
        ("bytes=-700000", 1_300_000, 2_000_000),
        ("bytes=1000000-9999999", 1_000_000, 2_000_000),
    ] {
        let part = lab.send(("GET", &path), &[("range", range)], None).is(206);
        assert_eq!(part.body, &bytes[from..to], "{range}");
        assert_eq!(part.header("content-range"), format!("bytes {from}-{}/2000000", to - 1));
    }
    for range in ["bytes=2000000-", "bytes=5-1"] {
        let none = lab.send(("GET", &path), &[("range", range)], None).is(416);
        assert_eq!(none.header("content-range"), "bytes */2000000");
    }
    let head = lab.send(("HEAD", &path), &[("range", "bytes=0-9")], None).is(200);
    assert_eq!(head.header("content-length"), "2000000", "a part is only ever sent");
    let held = format!("\"{digest}\"");
    let asked =
        |tag: &str| lab.send(("GET", &path), &[("range", "bytes=0-9"), ("if-range", tag)], None).status;
    assert_eq!((asked(&held), asked("\"other\"")), (206, 200));
    lab.get(&format!("/v2/a/blobs/{}", Algorithm::Sha256.of(b"not here"))).says(404, "BLOB_UNKNOWN");
}

#[test]
fn end_8_tags_and_the_catalogue_are_read_page_by_page() {
    let lab = Lab::start("oci_pages");
    lab.get("/v2/a/tags/list").says(404, "NAME_UNKNOWN");
    for tag in ["v3", "v1", "V9", "v2"] {
        lab.push_artifact("a", tag, "x");
    }
    lab.push_artifact("b/c", "v1", "x");
    assert_eq!(
        lab.get("/v2/a/tags/list").is(200).json(),
        json!({"name": "a", "tags": ["V9", "v1", "v2", "v3"]})
    );
    let (mut path, mut seen) = ("/v2/a/tags/list?n=2".to_owned(), Vec::new());
    for _ in 0..3 {
        let page = lab.get(&path).is(200);
        seen.extend(page.json()["tags"].as_array().unwrap().clone());
        let Some(next) = page.header("link").strip_suffix(">; rel=\"next\"") else { break };
        path = next.strip_prefix('<').unwrap().to_owned();
    }
    assert_eq!(json!(seen), json!(["V9", "v1", "v2", "v3"]));
    assert_eq!(path, "/v2/a/tags/list?n=2&last=v1", "two pages");
    let tags = |query: &str| lab.get(&format!("/v2/a/tags/list?{query}")).is(200).json()["tags"].clone();
    assert_eq!(tags("last=v1"), json!(["v2", "v3"]));
    assert_eq!(tags("n=0"), json!([]));
    assert_eq!(tags("last=zzz"), json!([]));
    lab.get("/v2/a/tags/list?n=x").says(400, "UNSUPPORTED");
    let first = lab.get("/v2/_catalog?n=1").is(200);
    assert_eq!(first.json(), json!({"repositories": ["a"]}));
    assert_eq!(first.header("link"), "</v2/_catalog?n=1&last=a>; rel=\"next\"");
    assert_eq!(lab.get("/v2/_catalog?n=1&last=a").is(200).json(), json!({"repositories": ["b/c"]}));
}

#[test]
fn end_9_a_tag_goes_alone_and_a_manifest_with_all_its_tags() {
    let lab = Lab::start("oci_delete");
    let (bytes, digest) = lab.push_artifact("a", "v1", "x");
    for tag in ["v2", "v3"] {
        lab.send(("PUT", &format!("/v2/a/manifests/{tag}")), &[("content-type", IMAGE)], Some(&bytes))
            .is(201);
    }
    lab.delete("/v2/a/manifests/v1").is(202);
    lab.get("/v2/a/manifests/v1").says(404, "MANIFEST_UNKNOWN");
    lab.get(&format!("/v2/a/manifests/{digest}")).is(200);
    lab.delete(&format!("/v2/a/manifests/{digest}")).is(202);
    for reference in ["v2", "v3", &digest.to_string()] {
        lab.get(&format!("/v2/a/manifests/{reference}")).says(404, "MANIFEST_UNKNOWN");
        lab.delete(&format!("/v2/a/manifests/{reference}")).says(404, "MANIFEST_UNKNOWN");
    }
}

#[test]
fn strangers_pull_where_they_are_let_and_push_nowhere() {
    let lab = Lab::with("oci_anonymous", "[oci]\nanonymous_pull = true", vec!["head"]);
    let (bytes, _) = lab.push_artifact("a", "v1", "x");
    let nobody = [("authorization", "")];
    assert_eq!(lab.send(("GET", "/v2/a/manifests/v1"), &nobody, None).is(200).body, bytes);
    lab.send(("GET", "/v2/_catalog"), &nobody, None).is(200);
    // By this refusal those who push learn how to say who they are.
    lab.send(("GET", "/v2/"), &nobody, None).says(401, "UNAUTHORIZED");
    lab.send(("POST", "/v2/a/blobs/uploads/"), &nobody, None).says(401, "UNAUTHORIZED");
    let place = lab.begin("a");
    lab.send(("GET", &place), &nobody, None).says(403, "DENIED");
    assert_eq!(lab.send(("GET", "/v1/images"), &nobody, None).status, 401, "only the registry is open");
}
