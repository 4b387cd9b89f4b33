//! The OpenAPI document against the truth: what is served is described, and what is described is served.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Request;
use futures_util::stream;
use serde_json::{Value, json};
use sifleet_common::inventory::{RootKind, RootState};
use sifleet_coordinator::http::Limits;
use sifleet_coordinator::http::enrolments::Door;
use sifleet_coordinator::nodes::issuer::Issuer;

use crate::schema::{faults, resolve};
use crate::site::{Answer, Site, image, root};

/// Requests that together provoke every described status but those of [`UNPROVOKED`]: operation, URI, body.
const REQUESTS: &[(&str, &str, &str)] = &[
    ("availability", "/v1/availability?image=vnc_desktop&partition=viz", ""),
    ("availability", "/v1/availability?image=openfoam.sif&partition=viz&require=2", ""),
    ("availability", "/v1/availability?image=broken&partition=viz", ""),
    ("availability", "/v1/availability?image=sub/paraview.sif&partition=viz", ""),
    ("availability", "/v1/availability?image=a&partition=vis", ""),
    ("availability", "/v1/availability?image=a", ""),
    ("availability", "/v1/availability?image=twin.sif&partition=head", ""),
    ("availability_batch", "/v1/availability", r#"{"queries":[{"image":"vnc_desktop","partition":"viz"}]}"#),
    ("availability_batch", "/v1/availability", r#"{"queries":[{"image":"vnc_desktop","partition":"vis"}]}"#),
    ("availability_batch", "/v1/availability", "no JSON"),
    ("images", "/v1/images", ""),
    ("images", "/v1/images?limit=1", ""),
    ("images", "/v1/images?limit=0", ""),
    ("images", "/v1/images?partition=vis", ""),
    ("image", "/v1/images/vnc_desktop.sif", ""),
    ("image", "/v1/images/sub/paraview.sif", ""),
    ("image", "/v1/images/broken.sif", ""),
    ("image", "/v1/images/nothing.sif", ""),
    ("image", "/v1/images/..%2F", ""),
    ("image", "/v1/images/twin.sif", ""),
    ("nodes", "/v1/nodes", ""),
    ("node", "/v1/nodes/viz002", ""),
    ("node", "/v1/nodes/viz003", ""),
    ("node", "/v1/nodes/viz009", ""),
    ("node", "/v1/nodes/%FF", ""),
    ("rescan", "/v1/nodes/viz001/rescan", "{}"),
    ("rescan", "/v1/nodes/,/rescan", "{}"),
    ("busy", "/v1/nodes/viz001/busy", "{}"),
    ("busy", "/v1/nodes/,/busy", "{}"),
    ("idle", "/v1/nodes/viz001,nobody/idle", "{}"),
    ("idle", "/v1/nodes/,/idle", "{}"),
    ("limits_change", "/v1/limits", r#"{"total":1000000,"busy_concurrent":1}"#),
    ("limits_change", "/v1/limits", r#"{"total":null}"#),
    ("limits_change", "/v1/limits", r#"{"total":1}"#),
    ("limits_change", "/v1/limits", r#"{"totally":1}"#),
    ("limits", "/v1/limits", ""),
    ("partitions", "/v1/partitions", ""),
    ("partition", "/v1/partitions/viz", ""),
    ("partition", "/v1/partitions/vis", ""),
    ("partition", "/v1/partitions/%FF", ""),
    ("drift", "/v1/drift", ""),
    ("push", "/v1/pushes", r#"{"image":"openfoam","to":{"partition":"viz"},"dry_run":true}"#),
    ("push", "/v1/pushes", r#"{"image":"openfoam","to":{"missing_on":"viz"}}"#),
    ("push", "/v1/pushes", r#"{"image":"openfoam","to":{"nodes":"viz[001-002]"},"completion":"most"}"#),
    ("push", "/v1/pushes", r#"{"image":"nothing","to":{"partition":"viz"}}"#),
    ("push", "/v1/pushes", r#"{"image":"twin.sif","to":{"partition":"head"}}"#),
    ("removal", "/v1/removals", r#"{"image":"openfoam","from":{"partition":"viz"},"dry_run":true}"#),
    ("removal", "/v1/removals", r#"{"image":"openfoam","from":{"nodes":"viz001"}}"#),
    ("removal", "/v1/removals", r#"{"image":"vnc_desktop","from":{"nodes":"viz001"}}"#),
    ("removal", "/v1/removals", r#"{"image":"openfoam","from":{"nodes":"viz["}}"#),
    ("removal", "/v1/removals", r#"{"image":"openfoam","from":{"partition":"nothing"}}"#),
    ("removals", "/v1/removals", ""),
    ("removal_shown", "/v1/removals/r-000001", ""),
    ("removal_shown", "/v1/removals/r-000077", ""),
    ("removal_shown", "/v1/removals/%FF", ""),
    ("removal_cancel", "/v1/removals/r-000001/cancel", ""),
    ("removal_cancel", "/v1/removals/r-000077/cancel", ""),
    ("removal_cancel", "/v1/removals/%FF/cancel", ""),
    ("pushes", "/v1/pushes", ""),
    ("push_shown", "/v1/pushes/p-000001", ""),
    ("push_shown", "/v1/pushes/p-000077", ""),
    ("push_shown", "/v1/pushes/%FF", ""),
    ("push_nodes", "/v1/pushes/p-000001/nodes", ""),
    ("push_nodes", "/v1/pushes/77/nodes", ""),
    ("push_nodes", "/v1/pushes/%FF/nodes", ""),
    ("push_rate", "/v1/pushes/p-000001/rate", r#"{"rate":1000000}"#),
    ("push_rate", "/v1/pushes/p-000001/rate", r#"{"rate":0}"#),
    ("push_rate", "/v1/pushes/p-000077/rate", "{}"),
    ("push_retry", "/v1/pushes/p-000001/retry", ""),
    ("push_retry", "/v1/pushes/p-000077/retry", ""),
    ("push_retry", "/v1/pushes/%FF/retry", ""),
    ("push_cancel", "/v1/pushes/p-000001/cancel", ""),
    ("push_cancel", "/v1/pushes/p-000077/cancel", ""),
    ("push_cancel", "/v1/pushes/%FF/cancel", ""),
    ("push_retry", "/v1/pushes/p-000001/retry", ""),
    ("push_rate", "/v1/pushes/p-000001/rate", "{}"),
    ("push_events", "/v1/pushes/p-000001/events", ""),
    ("push_events", "/v1/pushes/p-000077/events", ""),
    ("push_events", "/v1/pushes/%FF/events", ""),
    ("upload", "/v1/library/uploads", r#"{"name":"a.sif","size":1,"digest":""}"#),
    ("upload_offset", "/v1/library/uploads/00000000000000000000000000000000", ""),
    ("upload_bytes", "/v1/library/uploads/00000000000000000000000000000000", ""),
    ("upload_finish", "/v1/library/uploads/00000000000000000000000000000000/finish", ""),
    ("upload_abandon", "/v1/library/uploads/00000000000000000000000000000000", ""),
    (
        "verdict",
        "/v1/verdicts",
        r#"{"kind":"image","image":"vnc_desktop","partition":"viz","require":"any"}"#,
    ),
    ("verdict", "/v1/verdicts", r#"{"kind":"vnc","ref":"openfoam","nodes":"viz[001-002]"}"#),
    ("verdict", "/v1/verdicts", r#"{"kind":"template","ref":"nothing"}"#),
    ("template_put", "/v1/templates/drop", r#"{"image":"vnc_desktop","partition":"viz","require":"1"}"#),
    ("template_put", "/v1/templates/drop", r#"{"image":"openfoam","partition":"viz"}"#),
    ("template_put", "/v1/templates/drop", r#"{"image":"","partition":"viz"}"#),
    ("templates", "/v1/templates", ""),
    ("template", "/v1/templates/drop", ""),
    ("template", "/v1/templates/nothing", ""),
    ("template_validate", "/api/v2/templates/drop/validate", ""),
    ("template_validate", "/api/v2/templates/nothing/validate", ""),
    ("template_delete", "/v1/templates/drop", ""),
    ("template_delete", "/v1/templates/drop", ""),
    ("apptainer_scan", "/api/apptainer/scan", r#"{"partitions":["head","nothing"]}"#),
    ("apptainer_images", "/api/apptainer/images", ""),
    ("apptainer_images", "/api/apptainer/images?partition=viz&type=viz&is_active=true", ""),
    ("apptainer_images", "/api/apptainer/images?partition=nothing", ""),
    ("apptainer_metadata", "/api/apptainer/images/vnc_desktop/metadata", ""),
    ("apptainer_metadata", "/api/apptainer/images/nothing/metadata", ""),
    ("apptainer_metadata", "/api/apptainer/images/twin/metadata", ""),
    ("apptainer_validate", "/api/apptainer/validate/openfoam?partition=viz", ""),
    ("apptainer_validate", "/api/apptainer/validate/nothing", ""),
    ("apptainer_validate", "/api/apptainer/validate/twin", ""),
    ("vnc_images", "/api/vnc/images", ""),
    ("token", "/v1/tokens", r#"{"role":"viewer","name":"dashboard","ttl_s":3600}"#),
    ("token", "/v1/tokens", r#"{"role":"viewer","name":"dashboard","ttl_s":1}"#),
    ("tokens", "/v1/tokens", ""),
    ("token_revoke", "/v1/tokens/t-000006", ""),
    ("token_revoke", "/v1/tokens/t-000077", ""),
    ("token_revoke", "/v1/tokens/%FF", ""),
    ("audit", "/v1/audit?limit=3", ""),
    ("audit", "/v1/audit?since=2020-01-01T00:00:00Z&who=admin", ""),
    ("audit", "/v1/audit?since=yesterday", ""),
    ("healthz", "/healthz", ""),
    ("readyz", "/readyz", ""),
    ("metrics", "/metrics", ""),
];

/// What no single request can bring about: failures of ours (`internal`, `timed_out`, `stopping`), and too many.
const UNPROVOKED: [&str; 3] = ["429", "500", "503"];

/// Operations that take a JSON body and nothing else that could be wrong before it is read.
const BODIES: [&str; 18] = [
    "availability_batch",
    "enrolment",
    "limits_change",
    "push",
    "push_rate",
    "removal",
    "token",
    "template_put",
    "apptainer_scan",
    "verdict",
    "registry_create",
    "registry_query",
    "registry_change",
    "registry_sign_in",
    "container_registry_create",
    "container_registries",
    "container_registry_change",
    "import",
];

/// One operation of the document.
struct Operation {
    path: String,
    method: String,
    responses: BTreeMap<String, Value>,
    security: Vec<Value>,
}

async fn document(site: &Site) -> Value {
    site.get("/openapi.json").await.json()
}

fn operations(document: &Value) -> BTreeMap<String, Operation> {
    let mut operations = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let responses = serde_json::from_value(operation["responses"].clone()).unwrap();
            let operation_id = operation["operationId"].as_str().unwrap().to_owned();
            let security = operation["security"].as_array().unwrap().clone();
            let own = Operation { path: path.clone(), method: method.clone(), responses, security };
            assert!(operations.insert(operation_id, own).is_none(), "{method} {path} has somebody else's id");
        }
    }
    operations
}

/// Lists the document's faults about one answer.
fn check(document: &Value, operation: &Operation, answer: &Answer) -> Vec<String> {
    let Some(response) = operation.responses.get(answer.status.as_str()) else {
        return vec![format!("status {} is not described", answer.status)];
    };
    let content = response["content"].as_object().unwrap();
    let kind = answer.header("content-type");
    match content.get(kind) {
        None => vec![format!("{kind} is not described")],
        Some(described) if kind.contains("json") => faults(document, &described["schema"], &answer.json()),
        Some(_) => Vec::new(),
    }
}

#[tokio::test]
async fn every_answer_is_as_the_document_says_and_every_status_it_names_occurs() {
    let site = Site::new(Limits::default()).await;
    let twins = ["a/twin.sif", "b/twin.sif"].map(|name| image(name, name.as_bytes()));
    let changes = [vec![root("/opt/apptainers", RootKind::Plain, RootState::Watched)], twins.into()].concat();
    site.agent(9, "twins", changes).await;
    site.until("the twins are known", |site| {
        site.handle.views.load().stats(site.handle.clock.now()).digests == 5
    })
    .await;
    let document = document(&site).await;
    let operations = operations(&document);
    let mut seen: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut faults = Vec::new();
    for (id, uri, body) in REQUESTS.iter().chain(crate::registries::REQUESTS) {
        let operation = &operations[*id];
        let request = Request::builder().method(operation.method.to_uppercase().as_str()).uri(*uri);
        let request = request.header("content-type", "application/json").body(Body::from(*body)).unwrap();
        let answer = site.ask(request).await;
        faults
            .extend(check(&document, operation, &answer).iter().map(|fault| format!("{id} {uri}: {fault}")));
        seen.entry(id).or_default().insert(answer.status.as_str().to_owned());
    }
    assert_eq!(faults, Vec::<String>::new());
    for (id, answer) in enrolments().await.into_iter().chain(crate::templates::every_answer().await) {
        assert_eq!(check(&document, &operations[id], &answer), Vec::<String>::new(), "{id}");
        seen.entry(id).or_default().insert(answer.status.as_str().to_owned());
    }
    for id in BODIES {
        seen.entry(id).or_default().extend(bodies_refused(&operations[id]).await);
    }
    seen.entry("events").or_default().insert("200".to_owned());
    let uploads = crate::uploads::every_answer().await.into_iter();
    for (id, answer) in uploads.chain(crate::imports::every_answer().await) {
        assert_eq!(check(&document, &operations[id], &answer), Vec::<String>::new(), "{id}");
        seen.entry(id).or_default().insert(answer.status.as_str().to_owned());
    }
    for (id, operation) in &operations {
        let odd = [
            ("host", "evil.example", ""),
            ("origin", "https://evil.example", ""),
            ("accept", "*/*", "?nobody-reads-this=1"),
            ("authorization", "Bearer nothing", ""),
        ];
        for (header, value, query) in odd {
            if header == "origin" && operation.security.is_empty() {
                continue;
            }
            let uri = operation.path.replace(['{', '}'], "") + query;
            let request = Request::builder().method(operation.method.to_uppercase().as_str()).uri(uri);
            let answer = site.ask(request.header(header, value).body(Body::empty()).unwrap()).await;
            assert_eq!(check(&document, operation, &answer), Vec::<String>::new(), "{id} with {header}");
            seen.entry(id).or_default().insert(answer.status.as_str().to_owned());
        }
    }
    for (id, operation) in &operations {
        let described: BTreeSet<_> = operation.responses.keys().cloned().collect();
        let mut occurring = seen.remove(id.as_str()).unwrap_or_default();
        occurring.extend(UNPROVOKED.map(str::to_owned));
        assert_eq!(described, occurring, "{id}");
    }
}

/// Provokes what depends on whether there is an authority.
async fn enrolments() -> Vec<(&'static str, Answer)> {
    let site = Site::new(Limits::default()).await;
    let wish = json!({ "nodes": "viz[001-002]" });
    let without = site.post("/v1/enrolments", &wish).await;
    let folder = tempfile::tempdir().unwrap();
    sifleet_coordinator::ca::init(&folder.path().join("ca"), &[]).unwrap();
    let issuer = Issuer::open(&folder.path().join("ca"), Duration::from_secs(86_400)).unwrap();
    site.app.open_door(Door { issuer, port: 7_441 });
    let made = site.post("/v1/enrolments", &wish).await;
    let id = made.json()["tokens"][0]["token"]["id"].as_str().unwrap().to_owned();
    let bad = site.post("/v1/enrolments", &json!({ "nodes": "viz001", "ttl_s": 1 })).await;
    let delete = |id: &str| {
        let request = Request::delete(format!("/v1/enrolments/{id}"));
        site.ask(request.body(Body::empty()).unwrap())
    };
    let (gone, unknown) = (delete(&id).await, delete(&id).await);
    vec![
        ("enrolment", without),
        ("enrolment", made),
        ("enrolment", bad),
        ("enrolment_withdraw", gone),
        ("enrolment_withdraw", unknown),
        ("enrolments", site.get("/v1/enrolments").await),
        ("revoke", site.post("/v1/nodes/stranger/revoke", &json!({})).await),
    ]
}

/// Provokes the statuses that need an odd body, and returns them.
async fn bodies_refused(operation: &Operation) -> Vec<String> {
    let limits = Limits { max_body: 100, body_timeout: Duration::from_millis(10), ..Limits::default() };
    let site = Site::new(limits).await;
    let document = document(&site).await;
    let mut statuses = Vec::new();
    let endless = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    for (kind, body) in [
        ("text/plain", Body::empty()),
        ("application/json", vec![b' '; 101].into()),
        ("application/json", endless),
    ] {
        let uri = operation.path.replace(['{', '}'], "");
        let request = Request::builder().method(operation.method.to_uppercase().as_str()).uri(uri);
        let request = request.header("content-type", kind).body(body).unwrap();
        let answer = site.ask(request).await;
        assert_eq!(check(&document, operation, &answer), Vec::<String>::new());
        statuses.push(answer.status.as_str().to_owned());
    }
    statuses
}

#[tokio::test]
async fn the_document_is_whole() {
    let site = Site::empty(Limits::default());
    let document = document(&site).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    for (id, operation) in operations(&document) {
        assert!(!operation.path.contains('*'), "{id}");
        for (status, response) in operation.responses {
            assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{id} {status}");
            let is_problem = response["content"]["application/problem+json"].is_object();
            assert_eq!(is_problem, !status.starts_with('2'), "{id} {status}");
        }
    }
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 50, "{}", references.len());
    for reference in references {
        resolve(&document, &reference);
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(
            schema["description"].as_str().is_some_and(|text| !text.is_empty()),
            "{name} is not described"
        );
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            references.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|field| collect(field, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn every_path_parameter_is_described() {
    let site = Site::empty(Limits::default());
    let document = document(&site).await;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let described = operation["parameters"].as_array().into_iter().flatten();
            let described: BTreeSet<_> = described
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
                .collect();
            let variable = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
            assert_eq!(described, variable.map(str::to_owned).collect(), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn the_pages_work_without_the_internet() {
    let site = Site::empty(Limits::default());
    assert_eq!(site.get("/docs").await.header("location"), "/docs/");
    let page = site.get("/docs/").await;
    assert!(page.header("content-type").starts_with("text/html"));
    let page = page.text();
    let linked: Vec<_> =
        page.split('"').filter(|text| text.ends_with(".js") || text.ends_with(".css")).collect();
    assert!(linked.len() >= 3, "{page}");
    for link in linked {
        assert!(!link.contains("//"), "{link} is elsewhere");
        let file = site.get(&format!("/docs/{}", link.trim_start_matches("./"))).await;
        assert_eq!(file.status.as_u16(), 200, "{link}");
        assert!(!file.body.is_empty(), "{link}");
    }
    let start = site.get("/docs/swagger-initializer.js").await.text();
    assert!(start.contains("/openapi.json") && !start.contains("http"), "{start}");
}
