//! Images on their way into the library, as a client sees it.

use std::path::Path;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Request;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use sifleet_coordinator::http::Limits;
use sifleet_coordinator::library::Options;
use sifleet_tests::sif::SifBuilder;

use crate::site::{Answer, Site};

const UPLOADS: &str = "/v1/library/uploads";
const NOBODYS: &str = "/v1/library/uploads/00000000000000000000000000000000";

fn limits(dir: &Path) -> Limits {
    let mut limits = Limits { library: Some(Options::new(dir.to_owned())), ..Limits::default() };
    limits.server.stall_timeout = Duration::from_millis(50);
    limits
}

fn image() -> Vec<u8> {
    SifBuilder::new().label("org.label-schema.usage", "apptainer run").payload_bytes(100_000, 7).bytes()
}

fn wish(name: &str, bytes: &[u8]) -> Value {
    json!({"name": name, "size": bytes.len(), "digest": format!("blake3:{}", blake3::hash(bytes).to_hex())})
}

async fn ask(site: &Site, method: &str, path: &str) -> Answer {
    site.ask(Request::builder().method(method).uri(path).body(Body::empty()).unwrap()).await
}

async fn patch(site: &Site, path: &str, offset: usize, body: Body) -> Answer {
    site.ask(Request::patch(path).header("upload-offset", offset).body(body).unwrap()).await
}

/// Begins an upload that is sent whole, and returns its path.
async fn begun(site: &Site, name: &str, bytes: &[u8]) -> String {
    let answer = site.post(UPLOADS, &wish(name, bytes)).await.json();
    assert_eq!(answer["state"], "open", "{answer}");
    format!("{UPLOADS}/{}", answer["id"].as_str().unwrap())
}

/// Provokes every status that the document names for uploads: the operation, and what it answered.
pub(crate) async fn every_answer() -> Vec<(&'static str, Answer)> {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::empty(limits(dir.path()));
    let (bytes, mut seen) = (image(), Vec::new());
    for (name, path) in [
        ("upload_offset", NOBODYS),
        ("upload_abandon", NOBODYS),
        ("upload_bytes", NOBODYS),
        ("upload_offset", "/v1/library/uploads/x"),
        ("upload_abandon", "/v1/library/uploads/x"),
        ("upload_bytes", "/v1/library/uploads/x"),
    ] {
        let method = match name {
            "upload_offset" => "GET",
            "upload_abandon" => "DELETE",
            _ => "PATCH",
        };
        let request = Request::builder().method(method).uri(path).header("upload-offset", 0);
        seen.push((name, site.ask(request.body(Body::empty()).unwrap()).await));
    }
    for path in [format!("{NOBODYS}/finish"), format!("{UPLOADS}/x/finish")] {
        seen.push(("upload_finish", ask(&site, "POST", &path).await));
    }
    std::fs::create_dir(dir.path().join("taken.sif")).unwrap();
    for name in ["a.sif", "../a.sif", "taken.sif"] {
        seen.push(("upload", site.post(UPLOADS, &wish(name, &bytes)).await));
    }
    let path = begun(&site, "a.sif", &bytes).await;
    seen.push(("upload_offset", ask(&site, "GET", &path).await));
    seen.push(("upload_bytes", patch(&site, &path, 1, Body::empty()).await));
    seen.push(("upload_finish", ask(&site, "POST", &format!("{path}/finish")).await));
    let silent = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    seen.push(("upload_bytes", patch(&site, &path, 0, silent).await));
    seen.push(("upload_bytes", patch(&site, &path, 0, [&bytes[..], b"x"].concat().into()).await));
    seen.extend(while_busy(&site, &path).await);
    seen.push(("upload_bytes", patch(&site, &path, 0, bytes.clone().into()).await));
    seen.push(("upload_finish", ask(&site, "POST", &format!("{path}/finish")).await));
    let path = begun(&site, "b.sif", b"no image").await;
    patch(&site, &path, 0, "no image".into()).await;
    seen.push(("upload_finish", ask(&site, "POST", &format!("{path}/finish")).await));
    let path = begun(&site, "b.sif", b"no image").await;
    seen.push(("upload_abandon", ask(&site, "DELETE", &path).await));
    seen.extend(refused_bodies(dir.path()).await);
    seen.extend(full(dir.path()).await);
    seen
}

async fn while_busy(site: &Site, path: &str) -> Vec<(&'static str, Answer)> {
    // The first piece is known to be taken when the second one is asked for.
    let (taken, first_is_taken) = tokio::sync::oneshot::channel();
    let (go_on, goes_on) = tokio::sync::oneshot::channel::<()>();
    let first = stream::once(async { Ok::<_, std::io::Error>(Bytes::new()) });
    let second = stream::once(async move {
        taken.send(()).unwrap();
        goes_on.await.unwrap();
        Err(std::io::Error::other("the client is gone"))
    });
    let slow = patch(site, path, 0, Body::from_stream(first.chain(second)));
    let others = async {
        first_is_taken.await.unwrap();
        let again = patch(site, path, 0, Body::empty()).await;
        let finish = ask(site, "POST", &format!("{path}/finish")).await;
        let abandon = ask(site, "DELETE", path).await;
        go_on.send(()).unwrap();
        vec![("upload_bytes", again), ("upload_finish", finish), ("upload_abandon", abandon)]
    };
    let (slow, mut seen) = tokio::join!(slow, others);
    for (name, answer) in &seen {
        assert_eq!(answer.json()["code"], "upload_busy", "{name}");
    }
    seen.push(("upload_bytes", slow));
    seen
}

/// Bodies that are none.
async fn refused_bodies(dir: &Path) -> Vec<(&'static str, Answer)> {
    let site = Site::empty(Limits { max_body: 100, body_timeout: Duration::from_millis(10), ..limits(dir) });
    let endless = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let mut seen = Vec::new();
    for (kind, body) in [
        ("text/plain", Body::empty()),
        ("application/json", vec![b' '; 101].into()),
        ("application/json", endless),
    ] {
        let request = Request::post(UPLOADS).header("content-type", kind).body(body).unwrap();
        seen.push(("upload", site.ask(request).await));
    }
    seen
}

/// A disk that is full: from the beginning, and while bytes come.
async fn full(dir: &Path) -> Vec<(&'static str, Answer)> {
    let library = Some(Options { keep_free: u64::MAX / 2, ..Options::new(dir.to_owned()) });
    let site = Site::empty(Limits { library, ..limits(dir) });
    let answer = site.post(UPLOADS, &wish("full.sif", b"full")).await;
    assert_eq!(answer.json()["code"], "no_space");
    // A disk that fills up later cannot be had here; what is told is the same.
    let same = |answer: &Answer| Answer {
        status: answer.status,
        headers: answer.headers.clone(),
        body: answer.body.clone(),
    };
    vec![("upload_bytes", same(&answer)), ("upload_finish", same(&answer)), ("upload", answer)]
}

#[tokio::test]
async fn an_upload_that_breaks_off_goes_on_at_the_offset_that_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::empty(limits(dir.path()));
    let bytes = image();
    let path = begun(&site, "viz/a.sif", &bytes).await;
    let pieces = vec![Ok(Bytes::copy_from_slice(&bytes[..50_000])), Err(std::io::Error::other("gone"))];
    let answer = patch(&site, &path, 0, Body::from_stream(stream::iter(pieces))).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    let answer = patch(&site, &path, 7, Body::empty()).await;
    assert_eq!((answer.status.as_u16(), answer.header("upload-offset")), (409, "50000"), "{}", answer.text());
    // Another life of the coordinator.
    let site = Site::empty(limits(dir.path()));
    let again = site.post(UPLOADS, &wish("viz/a.sif", &bytes)).await.json();
    assert_eq!((&again["offset"], path.ends_with(again["id"].as_str().unwrap())), (&json!(50_000), true));
    let answer = patch(&site, &path, 50_000, bytes[50_000..].to_vec().into()).await;
    assert_eq!(answer.json()["offset"], bytes.len());
    assert!(!dir.path().join("viz").exists());
    let answer = ask(&site, "POST", &format!("{path}/finish")).await;
    assert_eq!(answer.json()["state"], "published", "{}", answer.text());
    assert_eq!(std::fs::read(dir.path().join("viz/a.sif")).unwrap(), bytes);
    let answer = site.post(UPLOADS, &wish("viz/a.sif", &bytes)).await.json();
    assert_eq!((&answer["state"], &answer["id"]), (&json!("present"), &Value::Null));
    let answer = site.post(UPLOADS, &wish("b.sif", &bytes)).await.json();
    assert_eq!(answer["state"], "deduplicated");
}

#[tokio::test]
async fn one_request_takes_no_more_than_64_mebibytes() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::empty(limits(dir.path()));
    let wish = json!({"name": "a.sif", "size": 100 << 20, "digest": format!("blake3:{}", "0".repeat(64))});
    let answer = site.post(UPLOADS, &wish).await.json();
    let path = format!("{UPLOADS}/{}", answer["id"].as_str().unwrap());
    let piece = Bytes::from(vec![0; 1 << 20]);
    let endless = stream::repeat_with(move || Ok::<_, std::io::Error>(piece.clone()));
    let answer = patch(&site, &path, 0, Body::from_stream(endless)).await;
    assert_eq!(answer.json()["code"], "body_too_large");
    assert_eq!(ask(&site, "GET", &path).await.json()["offset"], 64 << 20);
    assert_eq!(ask(&site, "DELETE", &path).await.status, 200);
}

#[tokio::test]
async fn without_a_library_it_is_said_who_can_help() {
    let site = Site::empty(Limits::default());
    let problem = site.post(UPLOADS, &wish("a.sif", b"a")).await.json();
    assert_eq!(problem["code"], "no_library");
    assert!(problem["hint"].as_str().unwrap().contains("library.dir"), "{problem}");
}
