//! Every route and every role: the matrix is made from the document, so that no route is left out of it.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::Request;
use serde_json::Value;
use sifleet_coordinator::http::Limits;

use crate::site::Site;

/// Who asks, from whom nobody knows to whom may everything.
const NOBODY: [&str; 4] = ["none", "wrong", "expired", "revoked"];
const ROLES: [&str; 3] = ["viewer", "operator", "admin"];

/// Lists operations with the role that the document says they need; none for those that are for everybody.
async fn needs(site: &Site) -> BTreeMap<(String, String), Option<usize>> {
    let document: Value = site.get("/openapi.json").await.json();
    let mut needs = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let text = operation["description"].as_str().unwrap_or_default();
            let last = text.lines().last().unwrap_or_default();
            let said = ROLES.iter().position(|role| last == format!("Needs the role `{role}`."));
            let public = last == "For everybody.";
            assert!(said.is_some() != public, "{method} {path} does not say whom it is for: {text:?}");
            let security = operation["security"].as_array().unwrap();
            assert_eq!(security.is_empty(), public, "{method} {path}");
            for status in ["401", "403"] {
                assert_eq!(operation["responses"][status].is_object(), !public, "{method} {path} {status}");
            }
            assert!(operation["responses"]["429"].is_object(), "{method} {path}");
            needs.insert((method.to_uppercase(), path.clone()), said);
        }
    }
    assert!(needs.len() > 30, "{needs:?}");
    needs
}

/// Asks for something that does no harm, whoever asks.
fn request(method: &str, path: &str) -> Request<Body> {
    let uri = path.replace("{id}", "0").replace(['{', '}'], "");
    Request::builder().method(method).uri(uri).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn every_route_lets_in_whoever_has_its_role_and_nobody_else() {
    let site = Site::new(Limits::default()).await;
    for ((method, path), need) in needs(&site).await {
        for who in NOBODY.into_iter().chain(ROLES) {
            let answer = site.ask_as(who, request(&method, &path)).await;
            let (status, code) = (answer.status.as_u16(), problem(&answer.body));
            let has = ROLES.iter().position(|role| *role == who);
            let what = format!("{method} {path} as {who}: {status} {code}");
            match (need, has) {
                (Some(_), None) => assert_eq!((status, &*code), (401, "unauthenticated"), "{what}"),
                (Some(need), Some(has)) if has < need => {
                    assert_eq!((status, &*code), (403, "forbidden"), "{what}");
                    let said = answer.json()["detail"].as_str().unwrap().to_owned();
                    assert!(said.contains(ROLES[need]) && said.contains(who), "{said}");
                }
                (None | Some(_), _) => assert!(![401, 403, 429].contains(&status), "{what}"),
            }
            let asks = answer.header("www-authenticate");
            assert_eq!(asks == "Bearer realm=\"sifleet\"", status == 401, "{what}: {asks:?}");
        }
    }
}

fn problem(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body["code"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn whatever_changes_something_needs_an_operator_and_whoever_says_who_may_an_administrator() {
    let site = Site::empty(Limits::default());
    for ((method, path), need) in needs(&site).await {
        let least = match (method.as_str(), path.as_str()) {
            (_, "/v1/audit" | "/v1/tokens" | "/v1/tokens/{id}") | ("PATCH", "/v1/limits") => Some(2),
            (_, "/v1/enrolments" | "/v1/enrolments/{id}" | "/v1/nodes/{nodeset}/revoke") => Some(2),
            (_, "/v1/registries/{id}/credentials") => Some(2),
            (_, path) if path.starts_with("/v1/library/") => Some(1),
            // A question that does not fit into a query.
            ("GET", _) | ("POST", "/v1/availability" | "/v1/verdicts") => need.map(|_| 0),
            ("POST", "/v1/registries/query" | "/container_registries") => need.map(|_| 0),
            _ => Some(1),
        };
        assert_eq!(need, least, "{method} {path}");
        assert_eq!(need.is_none(), ["/healthz", "/readyz"].contains(&path.as_str()), "{method} {path}");
    }
}

#[tokio::test]
async fn methods_that_a_path_does_not_take_tell_strangers_nothing() {
    let site = Site::new(Limits::default()).await;
    for (path, public) in [("/v1/pushes", false), ("/v1/tokens/1", false), ("/healthz", true)] {
        for method in ["PUT", "OPTIONS", "BREW"] {
            let refused = site.ask_as("none", request(method, path)).await;
            assert_eq!(refused.status.as_u16(), if public { 405 } else { 401 }, "{method} {path}");
            let refused = site.ask_as("admin", request(method, path)).await;
            assert_eq!(refused.status.as_u16(), 405, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn readers_without_a_name_are_let_in_where_the_settings_say_so_and_change_nothing() {
    let mut limits = Limits::default();
    limits.access.anonymous = Some(sifleet_common::role::Role::Viewer);
    let site = Site::new(limits).await;
    for ((method, path), need) in needs(&site).await {
        let status = site.ask_as("none", request(&method, &path)).await.status.as_u16();
        assert_eq!(status == 401, need > Some(0), "{method} {path}: {status}");
    }
}

#[tokio::test]
async fn only_an_administrator_removes_the_last_replica() {
    let site = Site::new(Limits::default()).await;
    let removal = |dry| {
        let body =
            format!(r#"{{"image":"vnc_desktop","from":{{"nodes":"viz001"}},"force":true,"dry_run":{dry}}}"#);
        let request = Request::post("/v1/removals").header("content-type", "application/json");
        request.body(Body::from(body)).unwrap()
    };
    let refused = site.ask_as("operator", removal(false)).await;
    assert_eq!((refused.status.as_u16(), &*problem(&refused.body)), (403, "forbidden"));
    assert_eq!(site.ask_as("operator", removal(true)).await.status.as_u16(), 200);
    assert_eq!(site.ask_as("admin", removal(false)).await.status.as_u16(), 201);
}
