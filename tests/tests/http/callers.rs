//! Tokens over their life, and what is left of secrets: threats, each with a test of its name.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use sifleet_coordinator::http::Limits;

use crate::site::{Answer, Site};

/// Asks with a token as its bearer has it.
async fn with(site: &Site, secret: &str, method: &str, path: &str) -> Answer {
    let request =
        Request::builder().method(method).uri(path).header("authorization", format!("Bearer {secret}"));
    site.ask_bare(request.body(Body::empty()).unwrap()).await
}

async fn make(site: &Site, body: &Value) -> (String, String) {
    let answer = site.post("/v1/tokens", body).await;
    assert_eq!(answer.status.as_u16(), 201, "{}", answer.text());
    let made = answer.json();
    let id = made["token"]["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("location"), format!("/v1/tokens/{id}"));
    (id, made["secret"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn revoked_token() {
    let site = Site::new(Limits::default()).await;
    let (id, secret) = make(&site, &json!({"role": "operator", "name": "dashboard", "ttl_s": 3_600})).await;
    assert_eq!(with(&site, &secret, "GET", "/v1/nodes").await.status.as_u16(), 200);
    let revoked = site.ask(Request::delete(format!("/v1/tokens/{id}")).body(Body::empty()).unwrap()).await;
    assert_eq!(revoked.json()["state"], "revoked");
    let refused = with(&site, &secret, "GET", "/v1/nodes").await;
    assert_eq!(refused.status.as_u16(), 401);
    assert_eq!(refused.json()["detail"], "the token was revoked");
    let again = site.ask(Request::delete(format!("/v1/tokens/{id}")).body(Body::empty()).unwrap()).await;
    assert_eq!(again.json()["revoked"], revoked.json()["revoked"]);
}

#[tokio::test]
async fn expired_token() {
    let site = Site::new(Limits::default()).await;
    let refused = with(&site, site.secret("expired"), "GET", "/v1/nodes").await;
    assert_eq!(refused.status.as_u16(), 401);
    assert_eq!(refused.json()["detail"], "the token has expired");
}

#[tokio::test]
async fn a_list_shows_what_tokens_are_for_and_no_secret() {
    let site = Site::new(Limits::default()).await;
    let (id, secret) = make(&site, &json!({"role": "viewer", "name": "dashboard"})).await;
    with(&site, &secret, "GET", "/v1/nodes").await;
    let list = site.get("/v1/tokens").await;
    assert!(!list.text().contains("sifleet_") && !list.text().contains("hash"), "{}", list.text());
    let list = list.json();
    let newest = &list["tokens"][0];
    assert_eq!((newest["id"].as_str(), newest["role"].as_str()), (Some(&*id), Some("viewer")));
    assert!(newest["last_used"].is_string() && newest["revoked"].is_null());
    let days = |field: &str| newest[field].as_str().unwrap()[..10].parse::<String>().unwrap();
    assert_ne!(days("created"), days("expires"));
    let states: Vec<_> =
        list["tokens"].as_array().unwrap().iter().map(|token| token["state"].clone()).collect();
    assert_eq!(states, ["good", "revoked", "expired", "good", "good", "good"]);
}

#[tokio::test]
async fn a_token_needs_a_role_and_a_name_that_harms_no_terminal() {
    let site = Site::new(Limits::default()).await;
    for (body, code) in [
        (json!({"name": "x"}), "bad_token"),
        (json!({"role": "viewer", "name": "two\nlines"}), "bad_token"),
        (json!({"role": "viewer", "name": "\u{1b}[31mred"}), "bad_token"),
        (json!({"role": "viewer", "name": ""}), "bad_token"),
        (json!({"role": "viewer", "name": "x", "ttl_s": 0}), "bad_token"),
        (json!({"role": "viewer", "name": "x", "ttl_s": u64::MAX}), "bad_token"),
        (json!({"role": "root", "name": "x"}), "bad_json"),
        (json!({"role": "viewer"}), "bad_json"),
        (json!({"role": "viewer", "name": "x", "secret": "mine"}), "bad_json"),
    ] {
        let refused = site.post("/v1/tokens", &body).await;
        assert_eq!((refused.status.as_u16(), refused.json()["code"].as_str()), (400, Some(code)), "{body}");
    }
}
