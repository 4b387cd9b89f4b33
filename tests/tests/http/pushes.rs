//! Pushes as their callers see them, from the wish to the end.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use sifleet_common::api::pushes::PushState;
use sifleet_common::inventory::Generation;
use sifleet_common::push::Phase;
use sifleet_common::wire::assignment::{AssignmentId, Moved, Progress, Report};
use sifleet_common::wire::control::{Delta, ToCoordinator};
use sifleet_coordinator::http::Limits;
use sifleet_coordinator::state::{Event, SessionId};

use crate::routes::{check, golden};
use crate::site::{Answer, Site, image};

/// The session of `viz002`, the only node that lacks `openfoam.sif` as the library has it and is there.
const VIZ002: SessionId = SessionId(3);
/// Its assignment: that of `viz001`, which needs nothing, was the first.
const ASSIGNMENT: AssignmentId = AssignmentId(2);

fn wish() -> Value {
    json!({"image": "openfoam", "to": {"partition": "viz"}})
}

async fn say(site: &Site, message: ToCoordinator) {
    site.handle.send(Event::Message { session: VIZ002, message }).await.unwrap();
}

async fn with_key(site: &Site, key: &str, body: &Value) -> Answer {
    let request = Request::post("/v1/pushes").header("content-type", "application/json");
    let request = request.header("idempotency-key", key).body(Body::from(body.to_string()));
    site.ask(request.unwrap()).await
}

/// Pushes, and waits until the chunk map is made and agents know what to do.
async fn pushed(site: &Site) {
    let answer = site.post("/v1/pushes", &wish()).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    assert_eq!(answer.header("location"), "/v1/pushes/p-000001");
    site.until("the chunk map is made", |site| {
        let pushes = site.handle.views.load().pushes(site.handle.clock.now()).pushes;
        pushes[0].reasons.iter().all(|reason| reason.code != "waiting")
    })
    .await;
}

/// Lets the node report that the image is there.
async fn arrive(site: &Site) {
    let bytes = Moved { fetched: 3_000, reused: 1_000, resumed: 90, wasted: 5 };
    let progress = Progress {
        id: ASSIGNMENT,
        phase: Phase::Done,
        bytes,
        sources: vec![("viz001".parse().unwrap(), 1_000), ("head".parse().unwrap(), 2_000)],
        dropped: Vec::new(),
        failure: None,
    };
    say(site, ToCoordinator::Report(Box::new(Report::Progress(progress)))).await;
    let changes = vec![image("openfoam.sif", b"2312")];
    say(site, ToCoordinator::Delta(Delta { generation: Generation(2), changes })).await;
    site.until("viz002 has it", |site| {
        let pushes = site.handle.views.load().pushes(site.handle.clock.now()).pushes;
        pushes[0].state == PushState::Partial
    })
    .await;
}

#[tokio::test]
async fn a_push_is_shown_from_the_wish_to_the_end() {
    let site = Site::new(Limits::default()).await;
    pushed(&site).await;
    golden(&site, "push", "/v1/pushes/p-000001").await;
    arrive(&site).await;
    golden(&site, "push_partial", "/v1/pushes/p-000001").await;
    golden(&site, "push_nodes", "/v1/pushes/p-000001/nodes").await;
    let list = site.get("/v1/pushes").await.json();
    assert_eq!(list["pushes"][0], site.get("/v1/pushes/p-000001").await.json());
    let metrics = site.get("/metrics").await.text();
    for line in [
        "sifleet_pushes{state=\"partial\"} 1",
        "sifleet_pushes{state=\"running\"} 0",
        "sifleet_push_bytes_total{from=\"network\"} 3000",
        "sifleet_push_bytes_total{from=\"local\"} 1000",
        "sifleet_push_bytes_total{from=\"resumed\"} 90",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn a_dry_run_does_nothing_and_says_what_would_be_done() {
    let site = Site::new(Limits::default()).await;
    let mut wish = wish();
    wish["dry_run"] = true.into();
    wish["rate"] = 100_000.into();
    let answer = site.post("/v1/pushes", &wish).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    check("push_plan", answer.json());
    assert_eq!(site.get("/v1/pushes").await.json()["pushes"], json!([]));
}

#[tokio::test]
async fn a_wish_that_is_sent_again_with_its_key_is_the_same_push() {
    let site = Site::new(Limits::default()).await;
    let first = with_key(&site, "a key of mine", &wish()).await;
    let again = with_key(&site, "a key of mine", &wish()).await;
    assert_eq!((first.status, again.status), (StatusCode::CREATED, StatusCode::CREATED));
    assert_eq!(first.header("location"), again.header("location"));
    let other =
        with_key(&site, "a key of mine", &json!({"image": "openfoam", "to": {"nodes": "viz001"}})).await;
    assert_eq!((other.status.as_u16(), &other.json()["code"]), (409, &json!("key_reused")));
    assert!(other.json()["detail"].as_str().unwrap().contains("p-000001"));
    for key in ["", &"k".repeat(129)] {
        let refused = with_key(&site, key, &wish()).await;
        assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (400, &json!("bad_key")));
    }
    assert_eq!(site.get("/v1/pushes").await.json()["pushes"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_push_cannot_mean_is_refused_with_what_to_do() {
    let site = Site::new(Limits::default()).await;
    let viz = json!({"partition": "viz"});
    for (wish, status, code, candidates) in [
        (json!({"image": "open_foam", "to": viz}), 404, "unknown_image", json!(["openfoam.sif"])),
        (json!({"image": "openfoam", "to": {"partition": "vis"}}), 404, "unknown_partition", json!(["viz"])),
        (
            json!({"image": "openfoam", "to": {"nodes": "viz01"}}),
            404,
            "unknown_node",
            json!(["viz001", "viz002", "viz003"]),
        ),
        (json!({"image": "openfoam", "to": {"nodes": "viz["}}), 400, "bad_nodeset", json!([])),
        (
            json!({"image": "openfoam", "to": viz, "from": "viz002"}),
            409,
            "no_holder",
            json!(["head", "viz001"]),
        ),
        (json!({"to": viz}), 400, "bad_push", json!([])),
        (json!({"image": "openfoam", "to": viz, "deadline_s": 99_999_999}), 400, "bad_push", json!([])),
        (json!({"image": "openfoam", "to": viz, "unheard": 1}), 400, "bad_json", json!([])),
    ] {
        let answer = site.post("/v1/pushes", &wish).await;
        let problem = answer.json();
        assert_eq!((answer.status.as_u16(), problem["code"].as_str()), (status, Some(code)), "{problem}");
        assert_eq!(problem.get("candidates").cloned().unwrap_or_default(), candidates, "{problem}");
    }
    let answer = site.get("/v1/pushes/p-000009").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (404, &json!("unknown_push")));
}

#[tokio::test]
async fn a_push_can_be_slowed_and_ended_while_it_runs() {
    let site = Site::new(Limits::default()).await;
    pushed(&site).await;
    let slower = site.post("/v1/pushes/p-000001/rate", &json!({"rate": 5_000_000})).await;
    assert_eq!((slower.status, &slower.json()["rate"]), (StatusCode::OK, &json!(5_000_000)));
    let ended = site.post("/v1/pushes/p-000001/cancel", &json!({})).await;
    assert_eq!((ended.status, &ended.json()["state"]), (StatusCode::OK, &json!("cancelled")));
    for action in ["retry", "rate"] {
        let refused = site.post(&format!("/v1/pushes/p-000001/{action}"), &json!({})).await;
        assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (409, &json!("push_cancelled")));
    }
    let again = site.post("/v1/pushes/p-000001/cancel", &json!({})).await;
    assert_eq!(again.json()["state"], "cancelled");
}

#[tokio::test]
async fn whoever_follows_a_push_hears_how_it_stands_and_of_its_end() {
    let site = Site::new(Limits::default()).await;
    pushed(&site).await;
    let (heard, ()) = tokio::join!(site.get("/v1/pushes/p-000001/events"), arrive(&site));
    assert_eq!(heard.header("content-type"), "text/event-stream");
    let text = heard.text();
    let blocks: Vec<&str> = text.split_terminator("\n\n").collect();
    let data = |block: &str| -> Value {
        serde_json::from_str(block.strip_prefix("event: push\ndata: ").unwrap()).unwrap()
    };
    let (first, last) = (data(blocks[0]), data(blocks.last().unwrap()));
    assert_eq!((&first["state"], &last["state"]), (&json!("running"), &json!("partial")));
    assert_eq!(last["bytes"]["fetched"], 3_000);
    let after = site.get("/v1/pushes/p-000001/events").await.text();
    assert_eq!(after.matches("event: push").count(), 1, "an end is told at once to who comes late");
}
