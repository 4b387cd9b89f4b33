//! Limits as their callers see them.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use sifleet_coordinator::http::Limits;

use crate::routes::{check, golden};
use crate::site::{Answer, Site};

async fn change(site: &Site, body: &Value) -> Answer {
    let request = Request::patch("/v1/limits").header("content-type", "application/json");
    site.ask(request.body(Body::from(body.to_string())).unwrap()).await
}

#[tokio::test]
async fn limits_are_changed_one_by_one_and_lifted_by_null() {
    let site = Site::new(Limits::default()).await;
    golden(&site, "limits_none", "/v1/limits").await;
    let wish = json!({"total": 2_000_000, "up": 500_000, "busy_down": 100_000, "busy_concurrent": 1});
    let answer = change(&site, &wish).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let busy = site.post("/v1/nodes/viz%5B001-002%5D,nobody/busy", &json!({})).await;
    assert_eq!(busy.json(), json!({"nodes": "viz[001-002]", "unheard_of": "nobody"}));
    let idle = site.post("/v1/nodes/viz002/idle", &json!({})).await;
    assert_eq!(idle.json(), json!({"nodes": "viz002", "unheard_of": ""}));
    let answer = change(&site, &json!({"up": null})).await;
    check("limits", answer.json());
    golden(&site, "limits", "/v1/limits").await;
}

#[tokio::test]
async fn what_a_limit_cannot_be_is_refused_and_nothing_changes() {
    let site = Site::new(Limits::default()).await;
    for (body, status, code, says) in [
        (json!({"up": 1, "down": 500_000}), 400, "bad_limit", "up is 1 bytes a second"),
        (json!({"concurrent": 0}), 400, "bad_limit", "concurrent is 0"),
        (json!({"upp": 1}), 400, "bad_json", "unknown field"),
        (json!({"up": "1G"}), 400, "bad_json", "invalid type"),
    ] {
        let problem = change(&site, &body).await;
        assert_eq!((problem.status.as_u16(), &problem.json()["code"]), (status, &json!(code)), "{body}");
        assert!(problem.json()["detail"].as_str().unwrap().starts_with(says), "{}", problem.text());
    }
    golden(&site, "limits_none", "/v1/limits").await;
}
