//! Templates of files cannot be changed over the API, and there is an end to their number.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::json;
use sifleet_common::api::templates::TemplateBody;
use sifleet_common::time::UnixMillis;
use sifleet_coordinator::http::Limits;
use sifleet_coordinator::store::template::TemplateRecord;
use sifleet_coordinator::templates::{Filed, MAX_STORED, Shelf};

use crate::site::{Answer, Site};

fn record(id: &str) -> TemplateRecord {
    let body = TemplateBody {
        name: None,
        description: None,
        image: "vnc_desktop".to_owned(),
        partition: "viz".to_owned(),
        require: None,
        digest: None,
        signer: None,
    };
    TemplateRecord::read(id.parse().unwrap(), body, UnixMillis(0)).unwrap()
}

fn request(method: &str, path: &str) -> Request<Body> {
    let body = json!({"image": "openfoam", "partition": "viz"}).to_string();
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    request.body(Body::from(body)).unwrap()
}

/// Provokes what needs a file, for whoever compares answers with the document.
pub(crate) async fn every_answer() -> Vec<(&'static str, Answer)> {
    let site = Site::new(Limits::default()).await;
    let filed = Filed { record: record("filed"), file: "filed.yaml".to_owned(), mistake: None };
    let filed = [(filed.record.id.clone(), filed)].into();
    site.app.templates().shelve(&Shelf { filed, ..Shelf::default() });
    let put = site.ask(request("PUT", "/v1/templates/filed")).await;
    let deleted = site.ask(request("DELETE", "/v1/templates/filed")).await;
    assert_eq!((put.status, deleted.status), (StatusCode::CONFLICT, StatusCode::CONFLICT));
    assert_eq!(put.json()["code"], "template_of_file");
    let mut limits = Limits::default();
    limits.dashboard.vnc_partition = "nowhere".parse().unwrap();
    let nowhere = Site::new(limits).await.get("/api/vnc/images").await;
    assert_eq!(nowhere.status, StatusCode::NOT_FOUND);
    vec![("template_put", put), ("template_delete", deleted), ("vnc_images", nowhere)]
}

#[tokio::test]
async fn no_more_templates_are_taken_than_are_kept() {
    let site = Site::empty(Limits::default());
    let many: Vec<TemplateRecord> = (0..MAX_STORED).map(|n| record(&format!("t{n}"))).collect();
    site.app.templates().restore(many);
    let answer = site.ask(request("PUT", "/v1/templates/one-more")).await;
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (StatusCode::TOO_MANY_REQUESTS, Some("too_many_templates"))
    );
    let answer = site.ask(request("PUT", "/v1/templates/t7")).await;
    assert_eq!(answer.status, StatusCode::OK, "one that is there is changed");
}

#[tokio::test]
async fn errors_of_the_old_addresses_have_the_field_that_dashboards_read() {
    let site = Site::new(Limits::default()).await;
    let old = site.get("/api/apptainer/images/nothing/metadata").await;
    assert_eq!((old.status, old.header("content-type")), (StatusCode::NOT_FOUND, "application/problem+json"));
    assert_eq!(old.json()["error"], "No node ever reported such an image");
    assert!(old.json()["message"].as_str().unwrap().contains("nothing"), "{}", old.text());
    let new = site.get("/v1/images/nothing").await;
    assert!(new.json()["error"].is_null(), "{}", new.text());
}

#[tokio::test]
async fn a_verdict_is_for_readers_and_what_it_begins_for_operators_alone() {
    let site = Site::new(Limits::default()).await;
    let ask = |who: &'static str, ensure: bool| {
        let body = json!({"kind": "image", "image": "vnc_desktop", "partition": "viz", "nodes": "viz002",
            "require": "all", "ensure": ensure});
        let request = Request::post("/v1/verdicts").header("content-type", "application/json");
        site.ask_as(who, request.body(Body::from(body.to_string())).unwrap())
    };
    let asked = ask("viewer", false).await;
    assert_eq!(
        (asked.status, asked.json()["reason"].as_str()),
        (StatusCode::OK, Some("missing")),
        "{}",
        asked.text()
    );
    let refused = ask("viewer", true).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (StatusCode::FORBIDDEN, Some("forbidden")));
    let begun = ask("operator", true).await;
    assert_eq!(begun.json()["push"], "p-000001", "{}", begun.text());
    assert_eq!(ask("operator", true).await.json()["push"], "p-000001");
    // Who begins something is written down, whatever the route.
    let audit = site.get("/v1/audit").await.text();
    assert!(audit.contains("/v1/pushes/p-000001") && audit.contains("/v1/verdicts"), "{audit}");
}
