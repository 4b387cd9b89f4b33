//! Removals as their callers see them, from the wish to the end.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use sifleet_common::api::removals::RemovalState;
use sifleet_common::inventory::{Change, Generation, ReplicaKey, RootId};
use sifleet_common::wire::assignment::{AssignmentId, RemovalOutcome, Removed, Report};
use sifleet_common::wire::control::{Delta, ToCoordinator};
use sifleet_coordinator::http::Limits;
use sifleet_coordinator::state::{Event, SessionId};

use crate::routes::{check, golden};
use crate::site::Site;

/// The session of `viz001`, which holds `openfoam.sif` as the library has it.
const VIZ001: SessionId = SessionId(2);

fn wish() -> Value {
    json!({"image": "openfoam", "from": {"partition": "viz"}})
}

async fn say(site: &Site, message: ToCoordinator) {
    site.handle.send(Event::Message { session: VIZ001, message }).await.unwrap();
}

async fn refused(site: &Site, body: &Value) -> (u16, String) {
    let answer = site.post("/v1/removals", body).await;
    (answer.status.as_u16(), answer.json()["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_removal_is_shown_from_the_wish_to_the_end() {
    let site = Site::new(Limits::default()).await;
    let answer = site.post("/v1/removals", &wish()).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    assert_eq!(answer.header("location"), "/v1/removals/r-000001");
    golden(&site, "removal", "/v1/removals/r-000001").await;
    let removed = Removed { id: AssignmentId(1), outcome: RemovalOutcome::Gone, detail: String::new() };
    say(&site, ToCoordinator::Report(Box::new(Report::Removed(removed)))).await;
    let key = ReplicaKey { root: RootId(0), name: "openfoam.sif".parse().unwrap() };
    let changes = vec![Change::Remove(key)];
    say(&site, ToCoordinator::Delta(Delta { generation: Generation(2), changes })).await;
    site.until("it is gone", |site| {
        let list = site.handle.views.load().removals(site.handle.clock.now()).removals;
        list[0].state == RemovalState::Partial
    })
    .await;
    golden(&site, "removal_partial", "/v1/removals/r-000001").await;
    let list = site.get("/v1/removals").await.json();
    assert_eq!(list["removals"][0], site.get("/v1/removals/r-000001").await.json());
    let answer = site.get("/v1/availability?image=openfoam&partition=viz").await.json();
    assert_eq!(answer["nodes"]["ready"], "");
    let size = list["removals"][0]["size"].as_u64().unwrap();
    let metrics = site.get("/metrics").await.text();
    for line in [
        "sifleet_removals{state=\"partial\"} 1",
        "sifleet_removals{state=\"running\"} 0",
        "sifleet_removed_files_total 1",
        &format!("sifleet_removed_bytes_total {size}"),
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn a_wish_that_is_sent_again_with_its_key_is_the_same_removal() {
    let site = Site::new(Limits::default()).await;
    let ask = async |body: &Value| {
        let request = Request::post("/v1/removals").header("content-type", "application/json");
        let request = request.header("idempotency-key", "mine").body(Body::from(body.to_string()));
        site.ask(request.unwrap()).await
    };
    let (first, again) = (ask(&wish()).await, ask(&wish()).await);
    assert_eq!((first.status, again.status), (StatusCode::CREATED, StatusCode::CREATED));
    assert_eq!(first.header("location"), again.header("location"));
    let other = ask(&json!({"image": "openfoam", "from": {"nodes": "viz001"}})).await;
    assert_eq!((other.status.as_u16(), &other.json()["code"]), (409, &json!("key_reused")));
    assert_eq!(site.get("/v1/removals").await.json()["removals"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_dry_run_removes_nothing_and_says_what_would_go() {
    let site = Site::new(Limits::default()).await;
    let mut wish = wish();
    wish["dry_run"] = true.into();
    let answer = site.post("/v1/removals", &wish).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    check("removal_plan", answer.json());
    assert_eq!(site.get("/v1/removals").await.json()["removals"], json!([]));
}

#[tokio::test]
async fn the_last_replica_goes_only_by_force_and_a_removal_can_be_cancelled() {
    let site = Site::new(Limits::default()).await;
    let last = json!({"image": "vnc_desktop", "from": {"nodes": "viz001"}});
    assert_eq!(refused(&site, &last).await, (409, "last_replica".to_owned()));
    let dry = json!({"image": "vnc_desktop", "from": {"nodes": "viz001"}, "dry_run": true});
    assert_eq!(site.post("/v1/removals", &dry).await.json()["last"], true);
    let forced = json!({"image": "vnc_desktop", "from": {"nodes": "viz[001,003]"}, "force": true});
    let answer = site.post("/v1/removals", &forced).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    let cancelled = site.post("/v1/removals/r-000001/cancel", &json!({})).await;
    assert_eq!(cancelled.status, StatusCode::OK);
    let phases: Vec<_> = cancelled.json()["phases"].as_array().unwrap().clone();
    assert_eq!(phases[0]["phase"], "removing", "an agent that was told may be at it: {phases:?}");
    assert_eq!((&phases[1]["phase"], &phases[1]["nodes"]), (&json!("cancelled"), &json!("viz003")));
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_with_its_code() {
    let site = Site::new(Limits::default()).await;
    for (body, status, code) in [
        (json!({"image": "nosuchimage", "from": {"nodes": "viz001"}}), 404, "unknown_image"),
        (json!({"image": "openfoam", "from": {"partition": "vis"}}), 404, "unknown_partition"),
        (json!({"image": "openfoam", "from": {"nodes": "viz9"}}), 404, "unknown_node"),
        (json!({"image": "openfoam", "from": {"nodes": "viz["}}), 400, "bad_nodeset"),
        (json!({"image": "openfoam", "from": {"nodes": "viz001"}, "root": "opt"}), 400, "bad_removal"),
        (json!({"image": "openfoam", "from": {"nodes": "viz001"}, "deadline_s": 0}), 400, "bad_removal"),
        (json!({"from": {"nodes": "viz001"}}), 400, "bad_removal"),
        (json!({"image": "openfoam", "from": {"nodes": "viz001"}, "forced": true}), 400, "bad_json"),
    ] {
        assert_eq!(refused(&site, &body).await, (status, code.to_owned()), "{body}");
    }
    for path in ["/v1/removals/r-000077", "/v1/removals/77"] {
        let answer = site.get(path).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (404, &json!("unknown_removal")));
    }
}
