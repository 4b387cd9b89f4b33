//! What Harbor asks of whoever preheats images for it.

use std::collections::BTreeSet;
use std::path::Path;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use sifleet_common::inventory::{RootKind, RootState};
use sifleet_coordinator::http::Limits;
use sifleet_coordinator::library::Options;
use sifleet_coordinator::state::Event;

use crate::imports::{holding, image as bytes_of_image, manifest};
use crate::registries::open;
use crate::site::{LONG, Site, image, root};
use crate::upstream::{Reply, Upstream, certificate};

/// What Harbor sends for a tag, as its driver for Dragonfly does.
fn wish(url: &str, token: Option<&str>) -> Value {
    let headers = token.map(|token| json!({ "Authorization": token }));
    json!({"type": "preheat", "args": {"type": "image", "url": url, "headers": headers, "scope": "single_peer"},
        "scheduler_cluster_ids": [1]})
}

/// Starts a site with a library and two nodes, which brings images in and sends them on.
async fn site(dir: &Path, limits: Limits) -> Site {
    let library = Some(Options { keep_free: 0, ..Options::new(dir.to_owned()) });
    let site = Site::new(Limits { library, ..limits }).await;
    let (imports, parts) = site.app.imports().unwrap();
    site.tasks.spawn("imports", imports.run_until(parts, site.tasks.token()));
    let members = [("one".parse().unwrap(), BTreeSet::from(["viz001".parse().unwrap()]))].into();
    site.handle.send(Event::Members { source: "test", members }).await.unwrap();
    let (preheats, parts) = site.app.preheats().unwrap();
    site.tasks.spawn("preheats", preheats.run_until(parts, site.tasks.token()));
    site
}

async fn catalogued(site: &Site, upstream: &Upstream) {
    let wish = json!({"id": "harbor", "name": "harbor", "public_url": upstream.url()});
    assert_eq!(site.post("/v1/registries", &wish).await.status, 201);
}

/// Looks at a job until it is as wanted.
async fn until(site: &Site, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let begun = std::time::Instant::now();
    loop {
        let job = site.get(path).await.json();
        if holds(&job) {
            return job;
        }
        assert!(begun.elapsed() < LONG, "{job}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn harbor_has_an_image_on_a_partition_and_sees_when_it_is_there() {
    let (dir, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bytes = bytes_of_image();
    let (tls, ca_file) = certificate(folder.path());
    let site = site(dir.path(), open(Some(ca_file))).await;
    let held = bytes.clone();
    let upstream = Upstream::start(&site.tasks, Some(tls), move |asked| {
        match asked.headers.get("authorization").map(String::as_str) {
            Some("Bearer of-harbor") => holding(&held, asked),
            _ => Reply::new(401, &[], ""),
        }
    })
    .await;
    catalogued(&site, &upstream).await;
    assert_eq!(site.get("/preheat/one/healthy").await.status, 200);
    let url = format!("{}/v2/team/openfoam/manifests/v2406", upstream.url());
    let wish = wish(&url, Some("Bearer of-harbor"));
    let begun = site.post("/preheat/one/oapi/v1/jobs", &wish).await;
    assert_eq!(begun.status, 200, "{}", begun.text());
    let begun = begun.json();
    let (id, again) = (begun["id"].as_u64().unwrap(), site.post("/preheat/one/oapi/v1/jobs", &wish).await);
    assert_eq!((&begun["state"], again.json()["id"].as_u64()), (&json!("PENDING"), Some(id)));
    let path = format!("/preheat/one/oapi/v1/jobs/{id}");
    until(&site, &path, |_| dir.path().join("team/openfoam_v2406.sif").exists()).await;
    assert!(!site.get(&path).await.text().contains("of-harbor"), "credentials come in and never go out");
    // The agents show the file: that of the library, and then the node.
    let library = root("/shared/apptainer/images", RootKind::Library, RootState::Watched);
    site.agent(11, "head", vec![library, image("team/openfoam_v2406.sif", &bytes)]).await;
    let pushed = until(&site, &path, |job| job["push"].is_string()).await;
    let push = site.get(&format!("/v1/pushes/{}", pushed["push"].as_str().unwrap())).await.json();
    assert_eq!(
        (&push["image"], &push["digest"]),
        (&json!("team/openfoam_v2406.sif"), &json!(format!("blake3:{}", blake3::hash(&bytes).to_hex())))
    );

    let local = root("/opt/apptainers", RootKind::Plain, RootState::Watched);
    site.agent(12, "viz001", vec![local, image("team/openfoam_v2406.sif", &bytes)]).await;
    let done = until(&site, &path, |job| job["state"] != "PENDING").await;
    assert_eq!(done["state"], "SUCCESS", "{done}");
    let state = &done["result"]["job_states"][0];
    assert_eq!(
        (&state["results"][0]["success_tasks"][0]["hostname"], &state["error"]),
        (&json!("viz001"), &json!(""))
    );
}

#[tokio::test]
async fn a_job_that_cannot_be_done_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(dir.path(), open(None)).await;
    let oci = "application/vnd.oci.image.layer.v1.tar";
    let upstream =
        Upstream::start(&site.tasks, None, move |_| Reply::new(200, &[], manifest(b"x", oci))).await;
    catalogued(&site, &upstream).await;
    let url = format!("{}/v2/a/manifests/b", upstream.url());
    let job = site.post("/preheat/viz/oapi/v1/jobs", &wish(&url, None)).await.json();
    let path = format!("/preheat/viz/oapi/v1/jobs/{}", job["id"]);
    let failed = until(&site, &path, |job| job["state"] != "PENDING").await;
    assert_eq!(failed["state"], "FAILURE");
    let error = failed["result"]["job_states"][0]["error"].as_str().unwrap();
    assert!(error.contains("cannot be brought into the library"), "{error}");
    let stranger =
        site.post("/preheat/viz/oapi/v1/jobs", &wish("https://other.example/v2/a/manifests/b", None)).await;
    let path = format!("/preheat/viz/oapi/v1/jobs/{}", stranger.json()["id"]);
    let failed = until(&site, &path, |job| job["state"] != "PENDING").await;
    assert_eq!(failed["result"]["job_states"][0]["error"], "other.example is no registry of the catalogue");
}

#[tokio::test]
async fn credentials_of_a_wish_are_shown_to_no_registry_without_tls() {
    let (dir, bytes) = (tempfile::tempdir().unwrap(), bytes_of_image());
    let site = site(dir.path(), open(None)).await;
    let upstream = Upstream::start(&site.tasks, None, move |asked| holding(&bytes, asked)).await;
    catalogued(&site, &upstream).await;
    let url = format!("{}/v2/a/manifests/b", upstream.url());
    let job = site.post("/preheat/one/oapi/v1/jobs", &wish(&url, Some("Bearer of-harbor"))).await.json();
    let path = format!("/preheat/one/oapi/v1/jobs/{}", job["id"]);
    until(&site, &path, |_| dir.path().join("a_b.sif").exists()).await;
    assert!(upstream.asked().iter().all(|asked| !asked.headers.contains_key("authorization")));
}

#[tokio::test]
async fn what_is_no_job_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(dir.path(), Limits::default()).await;
    let good = "https://h.example/v2/a/manifests/b";
    let of = |kind: &str| json!({"type": kind, "args": {"type": "image", "url": good}});
    for (path, body, status, code) in [
        ("/preheat/vis/oapi/v1/jobs", wish(good, None), 404, "unknown_partition"),
        ("/oapi/v1/jobs", wish(good, None), 400, "bad_query"),
        ("/preheat/viz/oapi/v1/jobs", of("sync_peers"), 400, "bad_json"),
        ("/preheat/viz/oapi/v1/jobs", json!({}), 400, "bad_json"),
        ("/preheat/viz/oapi/v1/jobs", wish("https://h.example/a", None), 400, "bad_import"),
    ] {
        let answer = site.post(path, &body).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (status, &json!(code)), "{body}");
    }
    for (path, status, code) in [
        ("/oapi/v1/jobs/7", 404, "unknown_preheat"),
        ("/preheat/viz/oapi/v1/jobs/x", 404, "unknown_preheat"),
        ("/preheat/vis/healthy", 404, "unknown_partition"),
        ("/healthy", 400, "bad_query"),
    ] {
        let answer = site.get(path).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (status, &json!(code)), "{path}");
    }
    let without = Site::new(Limits::default()).await;
    assert_eq!(without.get("/preheat/viz/healthy").await.json()["code"], "no_library");
}

#[tokio::test]
async fn only_operators_have_images_preheated_and_only_those_who_may_look_see_how_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { preheat_partition: Some("viz".to_owned()), ..Limits::default() };
    let site = site(dir.path(), limits).await;
    let body = || Body::from(wish("https://h.example/v2/a/manifests/b", None).to_string());
    let create =
        || Request::post("/oapi/v1/jobs").header("content-type", "application/json").body(body()).unwrap();
    for (who, status) in [("none", 401), ("viewer", 403), ("operator", 200)] {
        assert_eq!(site.ask_as(who, create()).await.status, status, "{who}");
    }
    let healthy = || Request::get("/healthy").body(Body::empty()).unwrap();
    for (who, status) in [("none", 401), ("viewer", 200)] {
        assert_eq!(site.ask_as(who, healthy()).await.status, status, "{who}");
    }
}
