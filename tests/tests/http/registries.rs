//! External registries: what is written down, who is found, how they are, and that secrets stay inside.

use std::path::PathBuf;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use sifleet_coordinator::http::Limits;
use sifleet_coordinator::registries::outside::Options;

use crate::routes::check;
use crate::site::{Answer, Site};
use crate::upstream::{Reply, Upstream, certificate};

/// Requests that provoke every described status of these routes: operation, URI, body.
pub(crate) const REQUESTS: &[(&str, &str, &str)] = &[
    ("registry_create", "/v1/registries", r#"{"id":"a","name":"a","public_url":"https://a.example"}"#),
    ("registry_create", "/v1/registries", r#"{"id":"a","name":"b","public_url":"https://a.example"}"#),
    ("registry_create", "/v1/registries", r#"{"name":"b","public_url":"file:///etc/passwd"}"#),
    ("registries", "/v1/registries", ""),
    ("registry_query", "/v1/registries/query", r#"{"name":"a"}"#),
    ("registry_query", "/v1/registries/query", r#"{"name":{"$where":"1"}}"#),
    ("registry", "/v1/registries/a", ""),
    ("registry", "/v1/registries/none", ""),
    ("registry", "/v1/registries/%FF", ""),
    ("registry_change", "/v1/registries/a", r#"{"$set":{"metadata.owner":"x"}}"#),
    ("registry_change", "/v1/registries/a", r#"{"$set":{"id":"x"}}"#),
    ("registry_change", "/v1/registries/none", r#"{"$set":{"name":"x"}}"#),
    ("registry_sign_in", "/v1/registries/a/credentials", r#"{"username":"u","password":"p"}"#),
    ("registry_sign_in", "/v1/registries/a/credentials", r#"{"username":"u:","password":"p"}"#),
    ("registry_sign_in", "/v1/registries/none/credentials", r#"{"username":"u","password":"p"}"#),
    ("registry_sign_out", "/v1/registries/a/credentials", ""),
    ("registry_sign_out", "/v1/registries/none/credentials", ""),
    (
        "container_registry_create",
        "/container_registry",
        r#"{"container_registry_id":"b","container_registry_name":"b","container_registry_public_url":"http://127.0.0.1:1"}"#,
    ),
    ("container_registry_create", "/container_registry", r#"{"name":"b","public_url":"http://127.0.0.1:1"}"#),
    ("container_registry_create", "/container_registry", "{}"),
    ("container_registry_list", "/container_registry", ""),
    ("container_registry", "/container_registry/b", ""),
    ("container_registry", "/container_registry/none", ""),
    ("container_registries", "/container_registries", "{}"),
    ("container_registries", "/container_registries", r#"{"x":1}"#),
    ("container_registry_change", "/container_registry/b", r#"{"$set":{"container_registry_name":"c"}}"#),
    ("container_registry_change", "/container_registry/b", r#"{"$set":{"container_registry_name":"a"}}"#),
    ("container_registry_change", "/container_registry/none", r#"{"$set":{"name":"x"}}"#),
    ("registry_change", "/v1/registries/b", r#"{"$set":{"name":"a"}}"#),
    ("registry_health", "/v1/registries/b/health", ""),
    ("registry_health", "/v1/registries/none/health", ""),
    ("check_container_health", "/check_container_health/b", ""),
    ("check_container_health", "/check_container_health/none", ""),
    ("container_registry_forget", "/container_registry/b", ""),
    ("container_registry_forget", "/container_registry/b", ""),
    ("registry_forget", "/v1/registries/a", ""),
    ("registry_forget", "/v1/registries/a", ""),
];

/// Lets a site ask loopback.
pub(crate) fn open(ca_file: Option<PathBuf>) -> Limits {
    let registries = Options { allow: vec!["127.0.0.0/8".parse().unwrap()], ca_file };
    Limits { registries, ..Limits::default() }
}

pub(crate) async fn send(site: &Site, method: &str, path: &str, body: &Value) -> Answer {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    site.ask(request.body(Body::from(body.to_string())).unwrap()).await
}

fn documented() -> Value {
    json!({
        "container_registry_id": "b3c38f52-8f2e-43a3-9aa9-bd9a4c75e509",
        "container_registry_name": "internal-ai-registry",
        "container_registry_metadata": {"environment": "production", "owner": "mlops-team", "region": "us-west-2"},
        "container_registry_tags": ["ai", "training", "internal", "fast-pull"],
        "container_registry_public_url": "http://10.13.21.22:32633",
        "container_registry_image_prefix": "10.13.21.22:32633",
        "container_registry_config": {"auth_required": true, "mirror_enabled": false, "storage_backend": "s3",
            "max_layer_size_mb": 500},
        "container_registry_storage_info": {"storage_type": "s3", "storage_size": -1, "memory_size": 8192,
            "registry_type": "aios"}
    })
}

#[tokio::test]
async fn the_older_paths_answer_as_their_documentation_says() {
    let site = Site::empty(Limits::default());
    let id = "b3c38f52-8f2e-43a3-9aa9-bd9a4c75e509";
    let made = site.post("/container_registry", &documented()).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.json()["data"]["id"], id);
    let shown = site.get(&format!("/container_registry/{id}")).await.json();
    assert_eq!(shown["data"], documented());
    check("container_registry", shown);
    let change = json!({"$set": {"container_registry_name": "updated-name", "container_registry_metadata.owner": "ops"}});
    let changed = send(&site, "PUT", &format!("/container_registry/{id}"), &change).await;
    assert_eq!((changed.status.as_u16(), &changed.json()["success"]), (200, &json!(true)));
    let query = json!({"container_registry_tags": {"$in": ["ai", "internal"]}});
    let found = site.post("/container_registries", &query).await.json();
    assert_eq!(found["data"][0]["container_registry_name"], "updated-name");
    assert_eq!(found["data"][0]["container_registry_metadata"]["owner"], "ops");
    let none = site.post("/container_registries", &json!({"container_registry_tags": "other"})).await.json();
    assert_eq!(none, json!({"success": true, "data": []}));
    let all = site.get("/container_registry").await.json();
    assert_eq!(all["data"].as_array().unwrap().len(), 1);
    let gone = send(&site, "DELETE", &format!("/container_registry/{id}"), &json!({})).await;
    assert_eq!(gone.json()["data"]["message"], "Container registry deleted");
    assert_eq!(site.get(&format!("/container_registry/{id}")).await.json()["code"], "unknown_registry");
}

#[tokio::test]
async fn a_registry_is_written_down_found_changed_and_forgotten() {
    let site = Site::empty(Limits::default());
    let wish = json!({"id": "hub", "name": "Hub", "public_url": "https://Hub.example:443/", "tags": ["a"],
        "metadata": {"owner": {"team": "x"}}});
    let made = site.post("/v1/registries", &wish).await;
    assert_eq!(
        (made.status.as_u16(), made.header("location")),
        (201, "/v1/registries/hub"),
        "{}",
        made.text()
    );
    check("registry", made.json());
    let twin = site.post("/v1/registries", &json!({"name": "Hub", "public_url": "https://x.example"})).await;
    assert_eq!(twin.json()["code"], "registry_exists");
    let change = json!({"$set": {"metadata.owner.team": "y"}});
    let changed = send(&site, "PUT", "/v1/registries/Hub", &change).await.json();
    assert_eq!(changed["metadata"], json!({"owner": {"team": "y"}}));
    let refused = send(&site, "PUT", "/v1/registries/hub", &json!({"$set": {"id": "x"}})).await.json();
    assert_eq!(refused["code"], "bad_registry");
    let refused = send(&site, "PUT", "/v1/registries/hub", &json!({"$inc": {"x": 1}})).await.json();
    assert_eq!(refused["code"], "bad_json");
    let found = site.post("/v1/registries/query", &json!({"metadata.owner.team": "y"})).await.json();
    assert_eq!(found["registries"][0]["id"], "hub");
    let refused = site.post("/v1/registries/query", &json!({"name": {"$where": "1"}})).await.json();
    assert_eq!(refused["code"], "bad_registry_query");
    assert!(refused["detail"].as_str().unwrap().contains("$where"), "{refused}");
    assert_eq!(send(&site, "DELETE", "/v1/registries/hub", &json!({})).await.status, 200);
    assert_eq!(site.get("/v1/registries").await.json()["registries"], json!([]));
}

#[tokio::test]
async fn credentials_come_in_and_are_shown_to_nobody() {
    const PASSWORD: &str = "hunter2-correct-horse";
    let site = Site::empty(Limits::default());
    site.post("/v1/registries", &json!({"id": "hub", "name": "Hub", "public_url": "https://hub.example"}))
        .await;
    let credentials = json!({"username": "robot-ci", "password": PASSWORD});
    let path = "/v1/registries/hub/credentials";
    let request = |who| {
        let request = Request::put(path).header("content-type", "application/json");
        site.ask_as(who, request.body(Body::from(credentials.to_string())).unwrap())
    };
    assert_eq!(request("operator").await.status, 403);
    let set = request("admin").await;
    assert_eq!((set.status.as_u16(), &set.json()["has_credentials"]), (200, &json!(true)));
    site.flush().await;
    let mut said = vec![set.text()];
    for path in [
        "/v1/registries",
        "/v1/registries/hub",
        "/container_registry",
        "/container_registry/hub",
        "/v1/audit",
        "/metrics",
        "/v1/registries/hub/health",
        path,
    ] {
        said.push(site.get(path).await.text());
    }
    for mistaken in
        [json!({"realm": PASSWORD}), json!({"realm": PASSWORD, "else": 1}), json!({"realm": [PASSWORD]})]
    {
        let mut bad = credentials.clone();
        bad.as_object_mut().unwrap().extend(mistaken.as_object().unwrap().clone());
        let refused = send(&site, "PUT", path, &bad).await;
        assert_eq!(refused.status, 400, "{}", refused.text());
        said.push(refused.text());
    }
    let all = json!({"$or": [{"name": {"$regex": "."}}]});
    said.push(site.post("/container_registries", &all).await.text());
    said.push(
        site.post("/v1/registries/query", &json!({"credentials.password": {"$regex": "^h"}})).await.text(),
    );
    for text in said {
        assert!(!text.contains(PASSWORD) && !text.contains("robot-ci"), "{text}");
    }
    // Another address: they are gone, and not sent to whoever is there.
    send(&site, "PUT", "/v1/registries/hub", &json!({"$set": {"public_url": "https://evil.example"}})).await;
    assert_eq!(site.get("/v1/registries/hub").await.json()["has_credentials"], false);
}

/// Writes a registry down and looks at it.
async fn health(site: &Site, url: &str) -> Value {
    let made = site.post("/v1/registries", &json!({"id": "x", "name": "x", "public_url": url})).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let health = site.get("/v1/registries/x/health").await.json();
    let older = site.get("/check_container_health/x").await.json();
    assert_eq!((&older["data"]["problem"], &older["success"]), (&health["problem"], &json!(true)));
    send(site, "DELETE", "/v1/registries/x", &json!({})).await;
    health
}

#[tokio::test]
async fn a_check_tells_how_a_registry_is() {
    let site = Site::empty(open(None));
    let version = ("docker-distribution-api-version", "registry/2.0");
    for (reply, oci, auth, problem) in [
        (Reply::new(200, &[version], "{}"), true, "none", Value::Null),
        (Reply::new(200, &[("content-type", "application/json")], "{}"), true, "none", Value::Null),
        (Reply::new(401, &[("www-authenticate", "Basic realm=\"x\"")], "{}"), true, "basic", Value::Null),
        (
            Reply::new(401, &[version, ("www-authenticate", "Bearer realm=\"https://a/t\"")], ""),
            true,
            "bearer",
            Value::Null,
        ),
        (Reply::new(200, &[("content-type", "text/html")], "<p>"), false, "unknown", json!("not_a_registry")),
        (Reply::new(404, &[], ""), false, "unknown", json!("not_a_registry")),
    ] {
        let status = reply.status;
        let upstream = Upstream::start(&site.tasks, None, move |_| reply.clone()).await;
        let health = health(&site, &upstream.url()).await;
        assert_eq!(
            (&health["oci"], &health["auth"], &health["problem"]),
            (&json!(oci), &json!(auth), &problem),
            "{health}"
        );
        assert_eq!((&health["reachable"], &health["status"]), (&json!(true), &json!(status)));
        assert_eq!(health["address"], upstream.host());
        let asked = upstream.asked();
        assert!(
            asked
                .iter()
                .all(|asked| asked.line == "GET /v2/" && !asked.headers.contains_key("authorization"))
        );
    }
}

#[tokio::test]
async fn a_check_follows_no_redirect_and_says_so() {
    let site = Site::empty(open(None));
    let inside = Upstream::start(&site.tasks, None, |_| Reply::new(200, &[], "secret")).await;
    let target = format!("{}/v2/", inside.url());
    let upstream =
        Upstream::start(&site.tasks, None, move |_| Reply::new(307, &[("location", &target)], "")).await;
    let health = health(&site, &upstream.url()).await;
    assert_eq!((&health["reachable"], &health["problem"]), (&json!(true), &json!("not_a_registry")));
    assert!(health["detail"].as_str().unwrap().contains("not followed"), "{health}");
    assert_eq!(inside.asked().len(), 0);
}

#[tokio::test]
async fn nothing_inside_is_asked_unless_the_settings_name_it() {
    let site = Site::empty(Limits::default());
    let upstream = Upstream::start(&site.tasks, None, |_| Reply::new(200, &[], "secret")).await;
    let port = upstream.host().split(':').next_back().unwrap().to_owned();
    for host in
        ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0.0.0.0", "169.254.169.254"]
    {
        let health = health(&site, &format!("http://{host}:{port}")).await;
        assert_eq!(
            (&health["reachable"], &health["problem"]),
            (&json!(false), &json!("refused_address")),
            "{host}"
        );
        assert_eq!(health["status"], Value::Null);
    }
    assert_eq!(upstream.asked().len(), 0);
}

#[tokio::test]
async fn a_registry_with_an_unknown_certificate_is_not_spoken_to() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, ca_file) = certificate(folder.path());
    let trusting = Site::empty(open(Some(ca_file)));
    let answer = |_: &_| Reply::new(200, &[("content-type", "application/json")], "{}");
    let upstream = Upstream::start(&trusting.tasks, Some(tls), answer).await;
    assert_eq!(health(&trusting, &upstream.url()).await["oci"], true);
    let other = Site::empty(open(None));
    let health = health(&other, &upstream.url()).await;
    assert_eq!((&health["reachable"], &health["problem"]), (&json!(false), &json!("tls")), "{health}");
    assert_eq!(upstream.asked().len(), 2, "those of the site that trusts it");
}
