//! Every route's good answer, and its golden JSON.

use axum::http::StatusCode;
use serde_json::json;
use sifleet_common::api::availability::BatchAnswer;
use sifleet_coordinator::http::Limits;

use crate::site::{Site, steady};

/// Compares an answer with the golden one of that name.
pub(crate) async fn golden(site: &Site, name: &str, path: &str) {
    let answer = site.get(path).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
    assert_eq!(answer.header("content-type"), "application/json");
    check(name, answer.json());
}

pub(crate) fn check(name: &str, answer: serde_json::Value) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../golden/http");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_json_snapshot!(name, steady(answer)));
}

#[tokio::test]
async fn availability_says_node_by_node_where_an_image_stands() {
    let site = Site::new(Limits::default()).await;
    golden(&site, "availability", "/v1/availability?image=vnc_desktop&partition=viz").await;
    golden(&site, "availability_any", "/v1/availability?image=openfoam.sif&partition=viz&require=any").await;
    let answer = site.get("/v1/availability?image=openfoam&partition=viz").await.json();
    assert_eq!(answer["counts"], json!({"ready": 1, "outdated": 1, "missing": 0, "unknown": 1}));
}

#[tokio::test]
async fn an_image_nobody_has_is_no_error_while_a_node_is_unknown() {
    let site = Site::new(Limits::default()).await;
    let answer = site.get("/v1/availability?image=no-such-image&partition=viz").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["nodes"]["unknown"], "viz003");
}

#[tokio::test]
async fn a_batch_answers_each_question_by_itself() {
    let site = Site::new(Limits::default()).await;
    let queries = json!({"queries": [
        {"image": "vnc_desktop", "partition": "viz", "require": "1"},
        {"image": "vnc_desktop", "partition": "vis"},
        {"image": "vnc_desktop", "partition": "viz", "require": "some"},
    ]});
    let answer = site.post("/v1/availability", &queries).await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "application/json"));
    let alone = site.get("/v1/availability?image=vnc_desktop&partition=viz&require=1").await;
    assert_eq!(steady(answer.json())["answers"][0]["answer"], steady(alone.json()));
    let body: BatchAnswer = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body.answers.iter().filter(|entry| entry.problem.is_some()).count(), 2);
    check("batch", answer.json());
}

#[tokio::test]
async fn lists_and_details_are_as_the_golden_answers() {
    let site = Site::new(Limits::default()).await;
    golden(&site, "images", "/v1/images").await;
    golden(&site, "images_of_partition", "/v1/images?partition=viz&q=VNC").await;
    golden(&site, "nodes", "/v1/nodes").await;
    golden(&site, "node", "/v1/nodes/viz002").await;
    golden(&site, "partitions", "/v1/partitions").await;
    golden(&site, "partition", "/v1/partitions/viz").await;
    golden(&site, "drift", "/v1/drift").await;
    golden(&site, "healthz", "/healthz").await;
    golden(&site, "readyz", "/readyz").await;
}

#[tokio::test]
async fn an_image_is_shown_with_what_it_says_of_itself() {
    let site = Site::new(Limits::default()).await;
    site.flush().await;
    let digest = format!("blake3:{}", blake3::hash(b"vnc").to_hex());
    let described = |answer: &serde_json::Value| answer["metadata"][0]["digest"] == digest;
    let begun = std::time::Instant::now();
    while !described(&site.get("/v1/images/vnc_desktop").await.json()) {
        assert!(begun.elapsed() < crate::site::LONG, "the metadata should arrive");
        site.flush().await;
    }
    golden(&site, "image", "/v1/images/vnc_desktop.sif").await;
    let same = site.get("/v1/images/vnc_desktop.sif").await.json();
    for other in [format!("/v1/images/{digest}"), format!("/v1/images/vnc_desktop.sif@{digest}")] {
        assert_eq!(site.get(&other).await.json()["metadata"], same["metadata"], "{other}");
    }
}

#[tokio::test]
async fn names_with_slashes_need_no_encoding_and_bear_it() {
    let site = Site::new(Limits::default()).await;
    for path in ["/v1/images/sub/paraview.sif", "/v1/images/sub%2Fparaview.sif"] {
        let answer = site.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        assert_eq!(answer.json()["summary"]["name"], "sub/paraview.sif");
    }
}

#[tokio::test]
async fn pages_of_images_join_without_gap_or_repeat() {
    let site = Site::new(Limits::default()).await;
    let whole = site.get("/v1/images").await.json();
    let (mut names, mut path) = (Vec::new(), "/v1/images?limit=1".to_owned());
    loop {
        let page = site.get(&path).await.json();
        names.extend(page["images"].as_array().unwrap().iter().map(|image| image["name"].clone()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/images?limit=1&cursor={}", cursor.replace('/', "%2F"));
        assert!(names.len() < 100);
    }
    let all: Vec<_> = whole["images"].as_array().unwrap().iter().map(|image| image["name"].clone()).collect();
    assert_eq!(names, all);
}

#[tokio::test]
async fn a_rescan_reaches_those_who_are_there() {
    let site = Site::new(Limits::default()).await;
    let answer = site.post("/v1/nodes/viz%5B001-003%5D,nobody/rescan", &json!({})).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(answer.json(), json!({"told": "viz[001-002]", "offline": "viz003", "unheard_of": "nobody"}));
}

#[tokio::test]
async fn every_answer_carries_an_id_and_is_taken_for_what_it_says() {
    let site = Site::new(Limits::default()).await;
    let paths =
        ["/v1/nodes", "/metrics", "/openapi.json", "/docs/", "/docs/swagger-ui.css", "/healthz", "/none"];
    for path in paths {
        let answer = site.get(path).await;
        assert!(!answer.header("x-request-id").is_empty(), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert!(!answer.header("content-type").is_empty(), "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), "", "{path}");
    }
}

#[tokio::test]
async fn metrics_count_nodes_and_requests_but_name_no_image_and_no_node() {
    let site = Site::new(Limits::default()).await;
    site.get("/v1/availability?image=vnc_desktop&partition=viz").await;
    site.get("/v1/images/vnc_desktop.sif").await;
    site.get("/v1/nodes/viz001").await;
    let answer = site.get("/metrics").await;
    assert_eq!(answer.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = answer.text();
    for line in [
        "sifleet_nodes{state=\"online\"} 3",
        "sifleet_nodes{state=\"never_seen\"} 1",
        "sifleet_nodes_degraded 1",
        "sifleet_sessions 3",
        "sifleet_snapshot_parts_total 3",
        "sifleet_http_requests_total{route=\"/v1/availability\",method=\"GET\",status=\"200\"} 1",
        "sifleet_http_requests_total{route=\"/v1/images/{image}\",method=\"GET\",status=\"200\"} 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("viz001") && !text.contains("vnc_desktop"), "{text}");
    let names = text.lines().filter(|line| !line.starts_with('#'));
    assert!(names.into_iter().all(|line| line.starts_with("sifleet_")), "{text}");
}
