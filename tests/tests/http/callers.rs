//! Tokens over their life, and what is left of secrets: threats, each with a test of its name.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use sifleet_coordinator::access::Peer;
use sifleet_coordinator::access::pace::Rate;
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
async fn a_revoked_token_lets_nobody_in() {
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
async fn an_expired_token_lets_nobody_in() {
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

fn from(address: [u8; 4]) -> Peer {
    Peer::Net(address.into())
}

/// Asks with a token from an address.
async fn ask_from(site: &Site, address: [u8; 4], secret: Option<&str>) -> Answer {
    let mut request = Request::get("/v1/nodes").extension(from(address));
    if let Some(secret) = secret {
        request = request.header("authorization", format!("Bearer {secret}"));
    }
    site.ask_bare(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_thousand_token_guesses_are_not_looked_at() {
    let site = Site::new(Limits::default()).await;
    let mut refused = 0;
    for guess in 0..1_000_u64 {
        let guess = format!("sifleet_3_{guess:064x}");
        let answer = ask_from(&site, [192, 0, 2, 1], Some(&guess)).await;
        match answer.status.as_u16() {
            401 => refused += 1,
            429 => assert!((1..=3).contains(&answer.header("retry-after").parse::<u64>().unwrap())),
            status => panic!("{status}"),
        }
    }
    assert!((20..=25).contains(&refused), "{refused} guesses were looked at");
    // Whoever has a token is not shut out by a neighbour, and others guess for themselves.
    let good = site.secret("viewer").to_owned();
    assert_eq!(ask_from(&site, [192, 0, 2, 1], Some(&good)).await.status.as_u16(), 200);
    assert_eq!(ask_from(&site, [192, 0, 2, 2], Some("nothing")).await.status.as_u16(), 401);
    let entries = audit(&site, "").await;
    assert!(entries.len() < 10, "{}", entries.len());
}

#[tokio::test]
async fn a_flood_of_one_client_hurts_no_other() {
    let mut limits = Limits::default();
    limits.access.known = Rate::a_second(1, 5);
    limits.access.unknown = Rate::a_second(1, 2);
    let site = Site::new(limits).await;
    let [viewer, operator] = ["viewer", "operator"].map(|name| site.secret(name).to_owned());
    let flood = async |address: u8, secret: Option<&str>| {
        let mut answered = Vec::new();
        for _ in 0..8 {
            answered.push(ask_from(&site, [192, 0, 2, address], secret).await.status.as_u16());
        }
        answered
    };
    assert_eq!(flood(1, Some(&viewer)).await, [200, 200, 200, 200, 200, 429, 429, 429]);
    assert_eq!(flood(2, Some(&viewer)).await[0], 429, "a token is one client, from wherever it asks");
    assert_eq!(flood(1, Some(&operator)).await[0], 200, "another one is not hurt");
    assert_eq!(flood(3, None).await[..3], [401, 401, 429]);
    assert_eq!(flood(4, None).await[0], 401);
}

/// Reads the audit.
async fn audit(site: &Site, query: &str) -> Vec<Value> {
    let body = site.get(&format!("/v1/audit?limit=1000{query}")).await;
    body.json()["entries"].as_array().unwrap_or_else(|| panic!("{}", body.text())).clone()
}

#[tokio::test]
async fn the_audit_says_who_changed_what_and_who_was_refused() {
    let site = Site::new(Limits::default()).await;
    let push = |dry: bool| {
        let body = format!(
            r#"{{"image":"openfoam","to":{{"nodes":"viz003"}},"digest":"{}","dry_run":{dry}}}"#,
            digest()
        );
        let request = Request::post("/v1/pushes").header("content-type", "application/json");
        request
            .header("x-request-id", "mine-1")
            .extension(from([192, 0, 2, 7]))
            .body(Body::from(body))
            .unwrap()
    };
    assert_eq!(site.ask_as("viewer", push(false)).await.status.as_u16(), 403);
    assert_eq!(site.ask_as("none", push(false)).await.status.as_u16(), 401);
    assert_eq!(site.ask_as("operator", push(false)).await.status.as_u16(), 201);
    site.ask_as("viewer", Request::get("/v1/nodes").body(Body::empty()).unwrap()).await;
    let entries = audit(&site, "").await;
    let told: Vec<_> = entries
        .iter()
        .map(|entry| {
            let text = |field: &str| entry[field].as_str().unwrap_or("-").to_owned();
            (text("kind"), text("id"), text("name"), entry["status"].as_u64().unwrap(), text("target"))
        })
        .collect();
    let is = |kind: &str, id: &str, name: &str, status, target: &str| {
        (kind.to_owned(), id.to_owned(), name.to_owned(), status, target.to_owned())
    };
    assert_eq!(
        told,
        [
            is("token", "t-000002", "operator", 201, "/v1/pushes/p-000001"),
            is("anonymous", "-", "-", 401, "/v1/pushes"),
            is("token", "t-000001", "viewer", 403, "/v1/pushes"),
        ]
    );
    for entry in &entries {
        assert_eq!(
            (entry["from"].as_str(), entry["request_id"].as_str()),
            (Some("192.0.2.7"), Some("mine-1"))
        );
        assert_eq!((entry["method"].as_str(), entry["route"].as_str()), (Some("POST"), Some("/v1/pushes")));
    }
    assert_eq!(audit(&site, "&who=t-000002").await.len(), 1);
    assert_eq!(audit(&site, "&who=viewer").await.len(), 1);
    assert_eq!(audit(&site, "&since=2100-01-01T00:00:00Z").await.len(), 0);
    let first = site.get("/v1/audit?limit=2").await.json();
    let rest = site
        .get(&format!("/v1/audit?limit=2&cursor={}", first["next_cursor"].as_str().unwrap()))
        .await
        .json();
    assert_eq!((rest["entries"].as_array().unwrap().len(), rest["next_cursor"].is_null()), (1, true));
}

fn digest() -> String {
    format!("blake3:{}", blake3::hash(b"2312").to_hex())
}

#[tokio::test]
async fn names_with_newline_and_escape_codes_harm_no_reader() {
    let site = Site::new(Limits::default()).await;
    // Decoded they would be a line of their own, and red.
    for path in ["/v1/nodes/%0Aevil%1B%5B31m/rescan", "/v1/pushes/%0A%1B%5B2J/cancel", "/v1/tokens/%0D%0A%1B"]
    {
        for (who, method) in [("admin", "POST"), ("none", "POST"), ("admin", "DELETE")] {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            let answer = site.ask_as(who, request).await;
            assert!(answer.status.is_client_error(), "{path} as {who}: {}", answer.status);
            assert!(!answer.text().contains(['\n', '\r', '\u{1b}']), "{}", answer.text());
        }
    }
    let told = site.get("/v1/audit?limit=1000").await.text();
    assert!(!told.contains(['\n', '\u{1b}']), "{told}");
    assert!(audit(&site, "").await.iter().any(|entry| entry["target"].as_str().unwrap().contains("%1B")));
}

#[tokio::test]
async fn secrets_that_got_into_a_path_are_repeated_nowhere() {
    let site = Site::new(Limits::default()).await;
    let secret = site.secret("operator").to_owned();
    let digits = secret.rsplit('_').next().unwrap();
    for (method, path) in [
        ("DELETE", format!("/v1/tokens/{secret}")),
        ("GET", format!("/v1/nodes/{secret}")),
        ("GET", format!("/{secret}")),
        ("GET", format!("/v1/nodes?token={secret}")),
    ] {
        let request = Request::builder().method(method).uri(&path).body(Body::empty()).unwrap();
        let answer = site.ask(request).await;
        assert!(answer.status.is_client_error(), "{path}");
        assert!(!answer.text().contains(digits), "{}", answer.text());
    }
    let told = Value::from(audit(&site, "").await).to_string();
    assert!(told.contains("/v1/tokens/sifleet_…") && !told.contains(digits), "{told}");
    for value in [format!("{:?}", site.app), format!("{:?}", site.app.access())] {
        assert!(!value.contains(digits), "{value}");
    }
}

#[tokio::test]
async fn a_foreign_origin_reads_only_what_is_public() {
    let site = Site::new(Limits::default()).await;
    for (path, public) in [
        ("/v1/nodes", false),
        ("/metrics", false),
        ("/healthz", true),
        ("/docs/", true),
        ("/openapi.json", true),
    ] {
        for (header, value) in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            let request = Request::get(path).header("host", "localhost").header(header, value);
            let answer = site.ask(request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status.as_u16(), if public { 200 } else { 403 }, "{path} {header}: {value}");
            for name in answer.headers.keys() {
                assert!(!name.as_str().starts_with("access-control-"), "{path}: {name}");
            }
        }
    }
}

#[tokio::test]
async fn a_foreign_host_is_not_answered() {
    let site = Site::new(Limits::default()).await;
    for path in ["/v1/nodes", "/healthz", "/docs/", "/openapi.json", "/v1/tokens"] {
        let request = Request::get(path).header("host", "evil.example").body(Body::empty()).unwrap();
        assert_eq!(site.ask(request).await.status.as_u16(), 421, "{path}");
    }
}
