//! An export whose registry goes wrong for some images, and one that was broken off.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use ring::digest::{SHA256, digest};

use super::*;

const LIST: &str = ".sifleet-export.json";
const PART: &str = ".sifleet-export.part";

fn sha256(bytes: &[u8]) -> String {
    let hex: String = digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn manifest(image: &str) -> String {
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.sylabs.sif.config.v1+json", "size": 2, "digest": sha256(b"{}")},
        "layers": [{"mediaType": "application/vnd.sylabs.sif.layer.v1.sif", "size": image.len(),
            "digest": sha256(image.as_bytes())}],
    })
    .to_string()
}

/// A registry with the repositories `a` to `c`, each with a tag `v1` whose image is its name; blobs are given as is said.
fn registry(blob: impl Fn(&str) -> Reply + Send + 'static) -> Stub {
    Stub::http(move |asked| {
        let path = asked.trim_start_matches("GET /");
        let name = path.split('/').nth(1).unwrap_or_default();
        if path.contains("last=") {
            Reply::json(r#"{"repositories": [], "tags": []}"#)
        } else if path.starts_with("v2/_catalog") {
            Reply::json(r#"{"repositories": ["a", "b", "c"]}"#)
        } else if path.contains("/tags/list") {
            Reply::json(r#"{"tags": ["v1"]}"#)
        } else if path.contains("/manifests/") {
            Reply::json(&manifest(name))
        } else if path.contains("/blobs/") {
            blob(name)
        } else {
            let body = json!({"type": "about:blank", "title": "none", "status": 404, "code": "unknown_image", "detail": ""});
            Reply::problem(404, &body.to_string())
        }
    })
}

fn refused() -> Reply {
    Reply::problem(500, r#"{"errors": [{"code": "UNKNOWN", "message": "its disk cannot be read"}]}"#)
}

fn export(stub: &Stub, to: &Path) -> Output {
    let to = to.to_str().unwrap();
    run(&stub.url(), &["export", "--to", to, "--base-url", "https://h", "--blobs", "-o", "json"])
}

fn listed(to: &Path) -> BTreeSet<String> {
    serde_json::from_slice(&fs::read(to.join(LIST)).unwrap()).unwrap()
}

#[test]
fn an_image_that_cannot_be_read_is_left_out_and_the_others_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("www");
    let some = registry(|name| match name {
        "a" => Reply::json("a"),
        "b" => refused(),
        // As long, and something else.
        _ => Reply::json("x"),
    });
    let partly = export(&some, &to);
    assert_eq!(code(&partly), 3, "{}", err(&partly));
    let report: Value = serde_json::from_str(&out(&partly)).unwrap();
    let left_out: Vec<_> =
        report["left_out"].as_array().unwrap().iter().map(|one| &one["repository"]).collect();
    assert_eq!(left_out, ["b", "c"], "{report}");
    let why = report["left_out"][0]["reason"].as_str().unwrap();
    assert!(why.contains("could not be fetched") && why.contains("disk cannot be read"), "{why}");
    assert_eq!((&report["images"], &report["fetched"].as_array().unwrap().len()), (&json!(1), &1));
    assert!(to.join("a/manifests/v1/index.html").exists());
    assert!(!to.join("b").exists() && !to.join("v2/b").exists() && !to.join("v2/c").exists());
    assert!(!fs::read_to_string(to.join("index.html")).unwrap().contains("v2/b/"));
    let known = listed(&to);
    let odd = |path: &&String| path.ends_with(PART) || path.starts_with("b/") || path.starts_with("v2/b/");
    assert_eq!(known.iter().find(odd), None, "{known:?}");

    let all = registry(Reply::json);
    let whole = export(&all, &to);
    assert_eq!(code(&whole), 0, "{}", err(&whole));
    assert_eq!(fs::read_to_string(to.join(format!("v2/c/blobs/{}", sha256(b"c")))).unwrap(), "c");

    // Where nothing can be read any longer, that is no reason to take away what is there.
    fs::remove_dir_all(to.join("v2")).unwrap();
    let none = registry(|_| refused());
    assert_eq!(code(&export(&none, &to)), 1);
    assert!(to.join("a/manifests/v1/index.html").exists());
}

#[test]
fn what_an_export_that_was_broken_off_left_behind_is_known_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let (to, seen) = (folder.path().join("www"), Arc::new(Mutex::new(Vec::new())));
    let (there, looks) = (to.clone(), Arc::clone(&seen));
    let stub = registry(move |name| {
        let part = format!("v2/{name}/blobs/{PART}");
        looks.lock().unwrap().push((listed(&there).contains(&part), there.join(part).exists()));
        Reply::json(name)
    });
    assert_eq!(code(&export(&stub, &to)), 0);
    assert_eq!(*seen.lock().unwrap(), [(true, true); 3], "each is listed before it is there");
    // As if one had been killed while it wrote an image that the library no longer has.
    fs::create_dir_all(to.join("v2/gone/blobs")).unwrap();
    let part = format!("v2/gone/blobs/{PART}");
    fs::write(to.join(&part), "half").unwrap();
    let known: Vec<_> = listed(&to).into_iter().chain([part]).collect();
    fs::write(to.join(LIST), json!(known).to_string()).unwrap();
    assert_eq!(code(&export(&stub, &to)), 0);
    assert!(!to.join("v2/gone").exists() && !listed(&to).iter().any(|path| path.ends_with(PART)));
}

#[test]
fn two_exports_do_not_write_to_one_directory() {
    let folder = tempfile::tempdir().unwrap();
    let root =
        rustix::fs::open(folder.path(), rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    rustix::fs::flock(&root, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let refused = export(&registry(Reply::json), folder.path());
    assert_eq!(code(&refused), 1, "{}", err(&refused));
    assert!(err(&refused).contains("another export is writing"), "{}", err(&refused));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
