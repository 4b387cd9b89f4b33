//! The stream of events, as a reader sees it.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{Request, StatusCode};
use futures_util::StreamExt as _;
use serde_json::Value;
use sifleet_common::inventory::{Generation, RootKind, RootState};
use sifleet_common::wire::control::{Delta, ToCoordinator};
use sifleet_coordinator::http::Limits;
use sifleet_coordinator::state::{Event, SessionId};
use tower::ServiceExt as _;

use crate::site::{LONG, Site, image, root};

/// One reader and what it has not looked at yet.
struct Reader {
    stream: BodyDataStream,
    text: String,
}

/// One event as it was written.
#[derive(Debug)]
struct Told {
    id: String,
    kind: String,
    data: Value,
}

impl Reader {
    async fn follow(site: &Site, last: Option<&str>) -> Self {
        Self::follow_as(site, "viewer", last).await
    }

    async fn follow_as(site: &Site, name: &str, last: Option<&str>) -> Self {
        let request = Request::get("/v1/events").header("authorization", site.bearer(name));
        let request = last.into_iter().fold(request, |request, id| request.header("last-event-id", id));
        let response = site.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut reader = Self { stream: response.into_body().into_data_stream(), text: String::new() };
        assert!(reader.block().await.unwrap().starts_with("retry: "));
        reader
    }

    /// Waits for text up to the next empty line; none at the end.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            let more =
                tokio::time::timeout(LONG, self.stream.next()).await.expect("something should be told");
            self.text.push_str(std::str::from_utf8(&more?.unwrap()).unwrap());
        }
    }

    async fn next(&mut self) -> Told {
        let block = self.block().await.unwrap();
        let [id, kind, data] =
            block.lines().collect::<Vec<_>>().try_into().unwrap_or_else(|_| panic!("{block}"));
        let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        let (id, kind) = (id.strip_prefix("id: ").unwrap(), kind.strip_prefix("event: ").unwrap());
        Told { id: id.to_owned(), kind: kind.to_owned(), data }
    }
}

async fn connect(site: &Site, session: u64, node: &str) {
    let changes =
        vec![root("/opt/apptainers", RootKind::Plain, RootState::Watched), image("vnc_desktop.sif", b"vnc")];
    site.agent(session, node, changes).await;
}

#[tokio::test]
async fn a_reader_hears_of_an_image_and_then_finds_it() {
    let site = Site::empty(Limits::default());
    let mut reader = Reader::follow(&site, None).await;
    connect(&site, 1, "viz001").await;
    while reader.next().await.kind != "node_online" {}
    let delta = Delta { generation: Generation(2), changes: vec![image("openfoam.sif", b"2312")] };
    let message = ToCoordinator::Delta(delta);
    site.handle.send(Event::Message { session: SessionId(1), message }).await.unwrap();
    let told = reader.next().await;
    assert_eq!(told.kind, "image_ready");
    assert!(told.id.ends_with(&format!("-{}", told.data["seq"])), "{told:?}");
    for (field, value) in [("kind", "image_ready"), ("node", "viz001"), ("image", "openfoam.sif")] {
        assert_eq!(told.data[field], value);
    }
    site.until("the image is found", |site| {
        let answer = site.handle.views.load().image("openfoam.sif", site.handle.clock.now());
        answer.is_ok_and(|image| image.summary.nodes == "viz001")
    })
    .await;
}

#[tokio::test]
async fn a_reader_that_missed_nothing_goes_on_and_one_that_did_is_told() {
    let site = Site::empty(Limits::default());
    let mut reader = Reader::follow(&site, None).await;
    connect(&site, 1, "viz001").await;
    let mut last = reader.next().await;
    while last.kind != "node_online" {
        last = reader.next().await;
    }
    // Wait until nothing more happens, so that the last event seen is the last there is.
    site.handle.send(Event::Closed { session: SessionId(99) }).await.unwrap();
    let told = |site: &Site| site.handle.counters.announced.load(std::sync::atomic::Ordering::Acquire);
    while !last.id.ends_with(&format!("-{}", told(&site))) {
        last = reader.next().await;
    }
    drop(reader);

    let mut back = Reader::follow(&site, Some(&last.id)).await;
    connect(&site, 2, "viz002").await;
    let first = back.next().await;
    assert_ne!(first.kind, "missed");
    assert_eq!(first.data["seq"].as_u64(), last.data["seq"].as_u64().map(|seq| seq + 1));
    drop(back);

    for lost in [last.id.as_str(), "00000000-3", "nonsense", "3"] {
        let told = Reader::follow(&site, Some(lost)).await.next().await;
        assert_eq!(told.kind, "missed", "{lost}");
        assert!(told.data["detail"].as_str().unwrap().contains("read the lists again"));
    }
}

#[tokio::test]
async fn readers_are_limited_in_number_and_places_come_free() {
    let site = Site::empty(Limits { max_event_streams: 2, ..Limits::default() });
    let (one, two) = (Reader::follow(&site, None).await, Reader::follow(&site, None).await);
    let refused = site.get("/v1/events").await;
    assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (429, &Value::from("too_many_streams")));
    assert_eq!(refused.header("retry-after"), "10");
    assert!(site.get("/metrics").await.text().contains("sifleet_http_event_streams 2\n"));
    drop(one);
    drop(Reader::follow(&site, None).await);
    drop(two);
    assert!(site.get("/metrics").await.text().contains("sifleet_http_event_streams 0\n"));
}

#[tokio::test]
async fn a_silent_stream_says_that_it_lives() {
    let site = Site::empty(Limits { keep_alive: Duration::from_millis(10), ..Limits::default() });
    assert_eq!(Reader::follow(&site, None).await.block().await.as_deref(), Some(": still here"));
}

#[tokio::test]
async fn streams_end_with_the_coordinator() {
    let site = Site::empty(Limits::default());
    let mut reader = Reader::follow(&site, None).await;
    site.tasks.shutdown(LONG).await;
    assert_eq!(reader.block().await, None);
}

#[tokio::test]
async fn a_stream_ends_with_the_token_that_began_it() {
    let site = Site::empty(Limits::default());
    let (mut viewer, mut admin) =
        (Reader::follow(&site, None).await, Reader::follow_as(&site, "admin", None).await);
    let tokens = site.get("/v1/tokens").await.json()["tokens"].clone();
    let id = tokens.as_array().unwrap().iter().find(|token| token["role"] == "viewer").unwrap()["id"].clone();
    let path = format!("/v1/tokens/{}", id.as_str().unwrap());
    let revoked = site.ask(Request::delete(path).body(Body::empty()).unwrap()).await;
    assert_eq!(revoked.json()["state"], "revoked");
    connect(&site, 1, "viz001").await;
    assert_eq!(viewer.block().await, None, "it is told nothing more");
    assert!(admin.block().await.is_some());
}
