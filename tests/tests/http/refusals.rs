//! What is refused, with which status and code, and in which form.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use futures_util::stream;
use serde_json::json;
use sifleet_coordinator::http::Limits;
use sifleet_coordinator::http::hosts::Hosts;

use crate::site::{Answer, Site};

/// Asserts that an answer is a problem of a code, whole and with its id.
fn check(answer: &Answer, status: u16, code: &str) {
    let text = answer.text();
    assert_eq!(answer.status.as_u16(), status, "{text}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{text}");
    let problem = answer.json();
    assert_eq!(problem["code"], code, "{text}");
    assert_eq!(problem["status"], status, "{text}");
    assert_eq!(problem["request_id"], answer.header("x-request-id"), "{text}");
    for field in ["title", "detail", "hint"] {
        assert!(problem[field].as_str().is_some_and(|words| !words.is_empty()), "{field} of {text}");
    }
}

#[tokio::test]
async fn questions_that_cannot_be_read_are_refused_with_a_reason() {
    let site = Site::new(Limits::default()).await;
    let long = "x".repeat(5_000);
    for (path, status, code) in [
        ("/v1/availability", 400, "bad_query"),
        ("/v1/availability?image=a", 400, "bad_query"),
        ("/v1/availability?image=a&partition=viz&requires=any", 400, "bad_query"),
        ("/v1/availability?image=a&image=b&partition=viz", 400, "bad_query"),
        ("/v1/availability?image=a&partition=viz&require=some", 400, "bad_requirement"),
        ("/v1/availability?image=a&partition=viz&require=0", 400, "bad_requirement"),
        ("/v1/availability?image=..%2Fetc&partition=viz", 400, "bad_image"),
        ("/v1/availability?image=&partition=viz", 400, "bad_image"),
        ("/v1/availability?image=%1B%5B31m&partition=viz", 400, "bad_image"),
        ("/v1/availability?image=a&partition=vis", 404, "unknown_partition"),
        ("/v1/availability?image=a&partition=head", 404, "unknown_image"),
        (&format!("/v1/availability?image={long}&partition=viz"), 400, "bad_query"),
        (&format!("/v1/availability?image=a&partition={long}"), 400, "bad_query"),
        ("/v1/images?limit=0", 400, "bad_query"),
        ("/v1/images?limit=1001", 400, "bad_query"),
        ("/v1/images?limit=many", 400, "bad_query"),
        ("/v1/images?partition=vis", 404, "unknown_partition"),
        ("/v1/images/no_such.sif", 404, "unknown_image"),
        ("/v1/images/%FF", 400, "bad_query"),
        ("/v1/images/..%2F..%2Fetc%2Fpasswd", 400, "bad_image"),
        ("/v1/nodes/viz01", 404, "unknown_node"),
        ("/v1/partitions/vis", 404, "unknown_partition"),
        ("/", 404, "no_route"),
        ("/v1/images/", 404, "no_route"),
        ("/v1/nodes/viz001/roots", 404, "no_route"),
        ("/docs/nothing.js", 404, "no_route"),
        ("/docs/..%2F..%2Fetc%2Fpasswd", 404, "no_route"),
    ] {
        check(&site.get(path).await, status, code);
    }
}

#[tokio::test]
async fn near_names_are_offered() {
    let site = Site::new(Limits::default()).await;
    for (path, near) in [
        ("/v1/availability?image=vnc_desktop&partition=vis", "viz"),
        ("/v1/images/vnc_dekstop.sif", "vnc_desktop.sif"),
        ("/v1/nodes/viz01", "viz001"),
    ] {
        let candidates = site.get(path).await.json()["candidates"].clone();
        assert!(candidates.as_array().unwrap().contains(&near.into()), "{path}: {candidates}");
    }
}

#[tokio::test]
async fn other_methods_are_refused_and_head_is_a_get_without_body() {
    let site = Site::new(Limits::default()).await;
    for (path, method, allow) in [
        ("/v1/availability", "DELETE", "GET,HEAD,POST"),
        ("/v1/nodes", "POST", "GET,HEAD"),
        ("/v1/nodes/viz001/rescan", "GET", "POST"),
        ("/v1/limits", "POST", "GET,HEAD,PATCH"),
        ("/openapi.json", "PUT", "GET,HEAD"),
        ("/healthz", "BREW", "GET,HEAD"),
    ] {
        let answer = site.ask(Request::builder().method(method).uri(path).body(Body::empty()).unwrap()).await;
        check(&answer, 405, "method_not_allowed");
        assert_eq!(answer.header("allow"), allow, "{path}");
    }
    let get = site.get("/v1/nodes/viz001").await;
    let head = site.ask(Request::head("/v1/nodes/viz001").body(Body::empty()).unwrap()).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    assert_eq!(head.header("content-type"), get.header("content-type"));
}

async fn batch(site: &Site, content_type: &str, body: impl Into<Body>) -> Answer {
    let request = Request::post("/v1/availability").header("content-type", content_type);
    site.ask(request.body(body.into()).unwrap()).await
}

#[tokio::test]
async fn bodies_are_read_only_as_json_of_the_right_shape() {
    let site = Site::new(Limits::default()).await;
    for (content_type, body, status, code) in [
        ("text/plain", "{\"queries\":[]}", 415, "unsupported_media_type"),
        ("", "{\"queries\":[]}", 415, "unsupported_media_type"),
        ("application/json", "", 400, "bad_json"),
        ("application/json", "{\"queries\":[", 400, "bad_json"),
        ("application/json", "{\"queries\":[]} {}", 400, "bad_json"),
        ("application/json", "{\"queries\":[{\"image\":\"a\"}]}", 400, "bad_json"),
        ("application/json", "{\"queries\":[],\"more\":1}", 400, "bad_json"),
        ("application/json", "[[]]", 400, "bad_json"),
        (
            "application/json",
            "{\"queries\":[{\"image\":\"a\",\"partition\":\"viz\",\"requires\":\"any\"}]}",
            400,
            "bad_json",
        ),
        ("application/json", &"[".repeat(100_000), 400, "bad_json"),
    ] {
        check(&batch(&site, content_type, body.to_owned()).await, status, code);
    }
    let answer = batch(&site, "Application/JSON; charset=utf-8", "{\"queries\":[]}").await;
    assert_eq!((answer.status, answer.json()), (StatusCode::OK, json!({"answers": []})));
}

#[tokio::test]
async fn a_batch_holds_a_thousand_questions_and_no_more() {
    let site = Site::new(Limits::default()).await;
    let questions =
        |count| json!({"queries": vec![json!({"image": "vnc_desktop", "partition": "viz"}); count]});
    let answer = site.post("/v1/availability", &questions(1_000)).await;
    assert_eq!(answer.json()["answers"].as_array().unwrap().len(), 1_000);
    check(&site.post("/v1/availability", &questions(1_001)).await, 400, "too_many_queries");
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_declared_or_not() {
    let site = Site::new(Limits { max_body: 1_000, ..Limits::default() }).await;
    check(&batch(&site, "application/json", vec![b' '; 1_001]).await, 413, "body_too_large");
    // Without a length, and without an end.
    let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 100])));
    check(&batch(&site, "application/json", Body::from_stream(endless)).await, 413, "body_too_large");
    let request = Request::post("/v1/availability").header("content-type", "application/json");
    let lying = request.header("content-length", "99999999999").body(Body::empty()).unwrap();
    check(&site.ask(lying).await, 413, "body_too_large");
}

#[tokio::test]
async fn a_body_that_does_not_come_or_breaks_off_is_not_waited_for() {
    let tick = Duration::from_millis(20);
    let never = || Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let site = Site::new(Limits { body_timeout: tick, ..Limits::default() }).await;
    check(&batch(&site, "application/json", never()).await, 408, "slow_body");
    let broken = stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("gone"))]);
    check(&batch(&site, "application/json", Body::from_stream(broken)).await, 400, "bad_json");
    let site = Site::new(Limits { request_timeout: tick, ..Limits::default() }).await;
    check(&batch(&site, "application/json", never()).await, 503, "timed_out");
}

#[tokio::test]
async fn node_sets_are_read_with_their_limits() {
    let site = Site::new(Limits::default()).await;
    for nodeset in ["viz%5B1-", "viz001%20viz002", "a%5B1-9%5Db%5B1-999999999%5D", ",", "%40group"] {
        let answer = site.post(&format!("/v1/nodes/{nodeset}/rescan"), &json!({})).await;
        check(&answer, 400, "bad_nodeset");
    }
}

#[tokio::test]
async fn request_ids_of_callers_are_kept_if_harmless() {
    let site = Site::empty(Limits::default());
    for (given, kept) in [("0d0c-77", true), ("a b", false), (&*"x".repeat(65), false)] {
        let request = Request::get("/none").header("x-request-id", given).body(Body::empty()).unwrap();
        let answer = site.ask(request).await;
        check(&answer, 404, "no_route");
        assert_eq!(answer.header("x-request-id") == given, kept, "{given}");
    }
}

#[tokio::test]
async fn not_ready_and_stopping_are_said_as_such() {
    let site = Site::empty(Limits::default());
    check(&site.get("/readyz").await, 503, "not_ready");
    assert_eq!(site.get("/healthz").await.status, StatusCode::OK);
    site.app.readiness().drain();
    check(&site.get("/readyz").await, 503, "stopping");
    site.tasks.shutdown(crate::site::LONG).await;
    check(&site.post("/v1/nodes/viz001/rescan", &json!({})).await, 503, "stopping");
}

#[tokio::test]
async fn web_pages_of_others_cannot_have_a_browser_ask() {
    let hosts = Hosts { listen: None, names: vec!["head01.cluster".to_owned()] };
    let site = Site::new(Limits { hosts, ..Limits::default() }).await;
    let rescan = |headers: [(&str, &str); 2]| {
        let [one, two] = headers;
        let request = Request::post("/v1/nodes/viz001/rescan").header(one.0, one.1).header(two.0, two.1);
        site.ask(request.body(Body::empty()).unwrap())
    };
    let host = ("host", "head01.cluster:7440");
    for foreign in [("origin", "https://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")]
    {
        check(&rescan([host, foreign]).await, 403, "cross_site");
    }
    check(&rescan([("host", "evil.example"), ("accept", "*/*")]).await, 421, "bad_host");
    let own = ("origin", "https://head01.cluster:7440");
    assert_eq!(rescan([host, own]).await.status, StatusCode::OK);
    assert_eq!(rescan([host, ("user-agent", "curl")]).await.status, StatusCode::OK);
    for path in ["/v1/nodes", "/docs/", "/metrics", "/none"] {
        let request = Request::get(path).header("host", "evil.example").body(Body::empty()).unwrap();
        check(&site.ask(request).await, 421, "bad_host");
    }
}
