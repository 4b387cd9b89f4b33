//! Images of external registries on their way into the library.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use sifleet_coordinator::http::Limits;
use sifleet_coordinator::library::Options;
use sifleet_tests::sif::SifBuilder;

use crate::registries::{open, send};
use crate::site::{Answer, LONG, Site};
use crate::upstream::{Asked, Reply, Upstream, certificate};

const SIF: &str = "application/vnd.sylabs.sif.layer.v1.sif";

pub(crate) fn image() -> Vec<u8> {
    SifBuilder::new().label("org.label-schema.usage", "apptainer run").payload_bytes(3_000_000, 7).bytes()
}

fn sha256(bytes: &[u8]) -> String {
    let hex: String = digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

pub(crate) fn manifest(bytes: &[u8], kind: &str) -> Vec<u8> {
    let layer = json!({"mediaType": kind, "digest": sha256(bytes), "size": bytes.len()});
    json!({"schemaVersion": 2, "config": {}, "layers": [layer]}).to_string().into_bytes()
}

/// Answers as a registry that holds one image under every name.
pub(crate) fn holding(bytes: &[u8], asked: &Asked) -> Reply {
    if asked.line.contains("/manifests/") {
        return Reply::new(
            200,
            &[("content-type", "application/vnd.oci.image.manifest.v1+json")],
            manifest(bytes, SIF),
        );
    }
    match asked.offset() {
        Some(offset) => {
            let range = format!("bytes {offset}-{}/{}", bytes.len() - 1, bytes.len());
            Reply::new(206, &[("content-range", &range)], &bytes[offset..])
        }
        None => Reply::new(200, &[], bytes),
    }
}

/// Starts a site with a library that runs imports.
fn site(dir: &Path, limits: Limits) -> Site {
    let library = Some(Options { keep_free: 0, ..Options::new(dir.to_owned()) });
    let site = Site::empty(Limits { library, ..limits });
    let (imports, parts) = site.app.imports().unwrap();
    site.tasks.spawn("imports", imports.run_until(parts, site.tasks.token()));
    site
}

async fn catalogued(site: &Site, upstream: &Upstream) {
    let wish = json!({"id": "up", "name": "up", "public_url": upstream.url()});
    assert_eq!(site.post("/v1/registries", &wish).await.status, 201);
}

/// Waits until an import has ended.
async fn ended(site: &Site, id: &str) -> Value {
    let begun = std::time::Instant::now();
    loop {
        let import = site.get(&format!("/v1/imports/{id}")).await.json();
        if ["done", "failed"].contains(&import["state"].as_str().unwrap()) {
            return import;
        }
        assert!(begun.elapsed() < LONG, "{import}");
        tokio::task::yield_now().await;
    }
}

async fn import(site: &Site, upstream: &Upstream, what: &str) -> Value {
    let source = format!("oras://{}/{what}", upstream.host());
    let begun = site.post("/v1/imports", &json!({ "source": source })).await;
    assert_eq!(begun.status, 201, "{}", begun.text());
    ended(site, begun.json()["id"].as_str().unwrap()).await
}

/// Provokes every status that the document names for imports: the operation, and what it answered.
pub(crate) async fn every_answer() -> Vec<(&'static str, Answer)> {
    let dir = tempfile::tempdir().unwrap();
    let library = Some(Options { keep_free: 0, ..Options::new(dir.path().to_owned()) });
    // Nobody runs them, so that they wait.
    let site = Site::empty(Limits { library, ..Limits::default() });
    site.post("/v1/registries", &json!({"name": "up", "public_url": "https://up.example"})).await;
    let wish = |source: &str| json!({ "source": source });
    let mut seen = Vec::new();
    for source in ["oras://up.example/a", "oras://up.example/a", "oras://other.example/a", "nothing"] {
        seen.push(("import", site.post("/v1/imports", &wish(source)).await));
    }
    assert_eq!(seen[0].1.json()["id"], seen[1].1.json()["id"]);
    seen.push(("imports", site.get("/v1/imports").await));
    let id = seen[0].1.json()["id"].as_str().unwrap().to_owned();
    for id in [id.as_str(), "i-000077", "%FF"] {
        seen.push(("import_shown", site.get(&format!("/v1/imports/{id}")).await));
    }
    let without = Site::empty(Limits::default());
    seen.push(("import", without.post("/v1/imports", &wish("oras://up.example/a")).await));
    seen
}

/// Lists what lies in a library, leftovers included.
fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn an_image_comes_from_a_registry_into_the_library_and_is_not_fetched_again() {
    let (dir, bytes) = (tempfile::tempdir().unwrap(), image());
    let site = site(dir.path(), open(None));
    let held = bytes.clone();
    let upstream = Upstream::start(&site.tasks, None, move |asked| holding(&held, asked)).await;
    catalogued(&site, &upstream).await;
    let done = import(&site, &upstream, "team/openfoam:v2312").await;
    assert_eq!(
        (&done["state"], &done["name"]),
        (&json!("done"), &json!("team/openfoam_v2312.sif")),
        "{done}"
    );
    assert_eq!(done["sha256"], sha256(&bytes));
    assert_eq!(done["digest"], format!("blake3:{}", blake3::hash(&bytes).to_hex()));
    assert_eq!((&done["size"], &done["done"]), (&json!(bytes.len()), &json!(bytes.len())));
    assert_eq!(std::fs::read(dir.path().join("team/openfoam_v2312.sif")).unwrap(), bytes);
    // The bytes are there: under the same name, and under another.
    for what in ["team/openfoam:v2312", "team/openfoam"] {
        assert_eq!(import(&site, &upstream, what).await["state"], "done");
    }
    assert_eq!(upstream.count("/blobs/"), 1);
    assert_eq!(files(dir.path()), ["openfoam.sif", "openfoam_v2312.sif"]);
    assert_eq!(site.get("/v1/imports").await.json()["imports"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn an_import_that_breaks_off_goes_on_where_the_bytes_end() {
    for ranges in [true, false] {
        let (dir, bytes) = (tempfile::tempdir().unwrap(), image());
        let site = site(dir.path(), open(None));
        let (held, blobs) = (bytes.clone(), AtomicUsize::new(0));
        let upstream = Upstream::start(&site.tasks, None, move |asked| {
            if !asked.line.contains("/blobs/") {
                return holding(&held, asked);
            }
            let mut reply = if ranges { holding(&held, asked) } else { Reply::new(200, &[], held.clone()) };
            if blobs.fetch_add(1, Ordering::Relaxed) == 0 {
                reply.cut = Some(2_500_000);
            }
            reply
        })
        .await;
        catalogued(&site, &upstream).await;
        assert_eq!(import(&site, &upstream, "a").await["state"], "done");
        assert_eq!(std::fs::read(dir.path().join("a.sif")).unwrap(), bytes);
        let asked: Vec<_> =
            upstream.asked().into_iter().filter(|asked| asked.line.contains("/blobs/")).collect();
        assert_eq!(
            (asked.len(), asked[0].offset(), asked[1].offset()),
            (2, None, Some(2_500_000)),
            "{ranges}"
        );
    }
}

#[tokio::test]
async fn however_many_ask_an_image_comes_once() {
    let (dir, bytes) = (tempfile::tempdir().unwrap(), image());
    let site = site(dir.path(), open(None));
    let upstream = Upstream::start(&site.tasks, None, move |asked| holding(&bytes, asked)).await;
    catalogued(&site, &upstream).await;
    let source = format!("oras://{}/a:1", upstream.host());
    let wish = json!({ "source": source });
    let answers = join_all((0..100).map(|_| site.post("/v1/imports", &wish))).await;
    for answer in &answers {
        assert!([200, 201].contains(&answer.status.as_u16()), "{}", answer.text());
        let done = ended(&site, answer.json()["id"].as_str().unwrap()).await;
        assert_eq!(done["state"], "done", "{done}");
    }
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert_eq!((upstream.count("/manifests/"), upstream.count("/blobs/")), (1, 1));
}

#[tokio::test]
async fn an_image_that_is_asked_for_by_several_references_comes_to_one_name_once() {
    let (dir, bytes) = (tempfile::tempdir().unwrap(), image());
    let site = site(dir.path(), open(None));
    let held = bytes.clone();
    let upstream = Upstream::start(&site.tasks, None, move |asked| holding(&held, asked)).await;
    catalogued(&site, &upstream).await;
    let wish = |tag: &str| {
        let source = format!("oras://{}/a:{tag}", upstream.host());
        json!({ "source": source, "name": "one.sif" })
    };
    let wishes = ["v1", "v2", "latest"].map(wish);
    for answer in join_all(wishes.iter().map(|wish| site.post("/v1/imports", wish))).await {
        assert_eq!(answer.status, 201);
        let done = ended(&site, answer.json()["id"].as_str().unwrap()).await;
        assert_eq!(done["state"], "done", "{done}");
    }
    assert_eq!((files(dir.path()), upstream.count("/blobs/")), (vec!["one.sif".to_owned()], 1));
}

#[tokio::test]
async fn what_is_not_what_was_announced_never_gets_a_name() {
    let wrong = |bytes: &[u8]| [&bytes[..100], &[bytes[100] ^ 1], &bytes[101..]].concat();
    let script = b"#!/bin/sh\necho no image\n".repeat(100);
    let (good, no_image) = (image(), script.clone());
    type Says = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;
    let cases: Vec<(&str, Says)> = vec![
        ("wrong_digest", {
            let good = good.clone();
            Arc::new(move |asked| {
                let mut reply = holding(&good, asked);
                if asked.line.contains("/blobs/") {
                    reply.body = wrong(&reply.body);
                }
                reply
            })
        }),
        ("not_an_image", Arc::new(move |asked| holding(&no_image, asked))),
        (
            "not_a_sif",
            Arc::new(|_| Reply::new(200, &[], manifest(b"x", "application/vnd.oci.image.layer.v1.tar"))),
        ),
        ("registry_has_none", Arc::new(|_| Reply::new(404, &[], ""))),
        ("registry_denied", Arc::new(|_| Reply::new(403, &[], ""))),
        ("not_http", Arc::new(|_| Reply::new(200, &[], vec![b' '; 5 << 20]))),
    ];
    for (code, answer) in cases {
        let dir = tempfile::tempdir().unwrap();
        let site = site(dir.path(), open(None));
        let upstream = Upstream::start(&site.tasks, None, move |asked| answer(asked)).await;
        catalogued(&site, &upstream).await;
        let failed = import(&site, &upstream, "a").await;
        assert_eq!((&failed["state"], &failed["code"]), (&json!("failed"), &json!(code)), "{failed}");
        assert_eq!(files(dir.path()), Vec::<String>::new(), "{code}");
    }
}

#[tokio::test]
async fn only_registries_of_the_catalogue_are_asked_and_only_where_they_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(dir.path(), Limits::default());
    let upstream = Upstream::start(&site.tasks, None, |_| Reply::new(200, &[], "")).await;
    let source = format!("oras://{}/a", upstream.host());
    let refused = site.post("/v1/imports", &json!({ "source": source })).await.json();
    assert_eq!(refused["code"], "unknown_registry");
    catalogued(&site, &upstream).await;
    let failed = import(&site, &upstream, "a").await;
    assert_eq!(
        (&failed["state"], &failed["code"]),
        (&json!("failed"), &json!("refused_address")),
        "{failed}"
    );
    assert_eq!(upstream.asked().len(), 0);
    for bad in ["docker://x/a", "oras://x", "/etc/passwd"] {
        let refused = site.post("/v1/imports", &json!({ "source": bad })).await.json();
        assert_eq!(refused["code"], "bad_import", "{bad}");
    }
    let hidden = json!({"source": source, "name": ".hidden/a.sif"});
    assert_eq!(site.post("/v1/imports", &hidden).await.json()["code"], "bad_upload");
}

#[tokio::test]
async fn a_blob_may_lie_elsewhere_but_nobody_there_learns_who_we_are() {
    let (dir, bytes) = (tempfile::tempdir().unwrap(), image());
    let (tls, ca_file) = certificate(dir.path());
    let library = tempfile::tempdir().unwrap();
    let site = site(library.path(), open(Some(ca_file)));
    let held = bytes.clone();
    let store =
        Upstream::start(&site.tasks, Some(Arc::clone(&tls)), move |asked| holding(&held, asked)).await;
    let place = format!("{}/blobs/elsewhere?signature=1", store.url());
    let held = bytes.clone();
    let upstream = Upstream::start(&site.tasks, Some(tls), move |asked| {
        if !asked.headers.contains_key("authorization") {
            return Reply::new(401, &[("www-authenticate", "Basic realm=\"registry\"")], "");
        }
        if asked.line.contains("/blobs/") {
            return Reply::new(307, &[("location", &place)], "");
        }
        holding(&held, asked)
    })
    .await;
    catalogued(&site, &upstream).await;
    let credentials = json!({"username": "robot", "password": "secret"});
    assert_eq!(send(&site, "PUT", "/v1/registries/up/credentials", &credentials).await.status, 200);
    let done = import(&site, &upstream, "a").await;
    assert_eq!(done["state"], "done", "{done}");
    let seen = upstream.asked();
    assert!(
        seen.iter().any(|asked| asked
            .headers
            .get("authorization")
            .is_some_and(|own| own == "Basic cm9ib3Q6c2VjcmV0"))
    );
    assert!(store.asked().iter().all(|asked| !asked.headers.contains_key("authorization")));
    assert_eq!(store.asked().len(), 1);
}

#[tokio::test]
async fn credentials_go_to_no_other_realm_unless_it_was_named() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), image());
    let (tls, ca_file) = certificate(folder.path());
    let library = tempfile::tempdir().unwrap();
    let site = site(library.path(), open(Some(ca_file)));
    let token = |asked: &Asked| match asked.headers.get("authorization") {
        Some(_) => Reply::new(200, &[], r#"{"token":"good"}"#),
        None => Reply::new(401, &[], ""),
    };
    let realm = Upstream::start(&site.tasks, Some(Arc::clone(&tls)), token).await;
    let challenge = format!("Bearer realm=\"{}/token\",service=\"up\"", realm.url());
    let upstream = Upstream::start(&site.tasks, Some(tls), move |asked| {
        match asked.headers.get("authorization").map(String::as_str) {
            Some("Bearer good") => holding(&bytes, asked),
            _ => Reply::new(401, &[("www-authenticate", &challenge)], ""),
        }
    })
    .await;
    catalogued(&site, &upstream).await;
    let sign_in = |realm: Option<String>| {
        let credentials = json!({"username": "robot", "password": "secret", "realm": realm});
        let (site, path) = (&site, "/v1/registries/up/credentials");
        async move { send(site, "PUT", path, &credentials).await.status.as_u16() }
    };
    assert_eq!(sign_in(None).await, 200);
    let failed = import(&site, &upstream, "a").await;
    assert_eq!(failed["code"], "registry_denied", "{failed}");
    assert!(failed["detail"].as_str().unwrap().contains("name it as realm"), "{failed}");
    assert!(realm.asked().iter().all(|asked| !asked.headers.contains_key("authorization")));
    assert_eq!(sign_in(Some(realm.url())).await, 200);
    assert_eq!(import(&site, &upstream, "a").await["state"], "done");
    let asked = realm.asked().pop().unwrap();
    assert!(
        asked.line.contains("service=up") && asked.line.contains("repository%3Aa%3Apull"),
        "{}",
        asked.line
    );
}

#[tokio::test]
async fn a_registry_cannot_send_us_inside() {
    let dir = tempfile::tempdir().unwrap();
    // Only the registry's own address is open.
    let mut limits = open(None);
    limits.registries.allow = vec!["127.0.0.1/32".parse().unwrap()];
    let site = site(dir.path(), limits);
    let bytes = image();
    let upstream = Upstream::start(&site.tasks, None, move |asked| {
        if asked.line.contains("/blobs/") {
            return Reply::new(307, &[("location", "http://127.0.0.2:1/latest/meta-data/")], "");
        }
        holding(&bytes, asked)
    })
    .await;
    catalogued(&site, &upstream).await;
    let failed = import(&site, &upstream, "a").await;
    assert_eq!(
        (&failed["state"], &failed["code"]),
        (&json!("failed"), &json!("refused_address")),
        "{failed}"
    );
}
