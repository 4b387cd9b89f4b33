//! What every answer has in common: request ids, deadlines, headers, panics.

use axum::response::IntoResponse as _;
use axum::routing::{MethodRouter, get};
use sifleet_common::api::problem::Problem;
use tower::ServiceExt as _;

use super::*;

fn doors() -> Arc<Doors> {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = crate::store::sqlite::open(&folder.path().join("coordinator.db")).unwrap();
    let access = Arc::new(Access::new(crate::access::Options::default(), &store, Vec::new()));
    Arc::new(Doors { hosts: Arc::default(), access, clock: Clock::start(), ids: RequestIds::new(7) })
}

async fn ask(router: MethodRouter, deadline: Option<Duration>) -> (Response, Problem) {
    let metrics = RouteMetrics::unregistered("/");
    let edge = EdgeLayer::new("/", gate::get(Need::Public), metrics, deadline, doors());
    let request = Request::get("/").body(Body::empty()).unwrap();
    let router: MethodRouter = router.layer(edge);
    let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
    let body = axum::body::to_bytes(body, 100_000).await.unwrap();
    (Response::from_parts(parts, Body::empty()), serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn a_panic_becomes_an_answer_that_tells_nothing_but_the_request_id() {
    async fn panics() {
        panic!("a secret");
    }
    let (response, problem) = ask(get(panics), None).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
    assert_eq!((problem.code.as_str(), problem.detail.as_str()), ("internal", "internal"));
    assert_eq!(problem.request_id.unwrap().as_bytes(), response.headers()[REQUEST_ID].as_bytes());
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_not_waited_for() {
    let (response, problem) = ask(get(std::future::pending::<()>), Some(Duration::from_millis(10))).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem.code, "timed_out");
}

#[tokio::test]
async fn a_refusal_that_is_not_ours_becomes_ours() {
    let (response, problem) = ask(get(async || StatusCode::IM_A_TEAPOT), None).await;
    assert_eq!((response.status(), problem.code.as_str()), (StatusCode::INTERNAL_SERVER_ERROR, "internal"));
}

#[tokio::test]
async fn headers_of_a_refusal_are_kept_and_its_length_is_true() {
    let refuse = async || {
        let mut refused = ApiError::TooManyStreams { max: 1 }.into_response();
        refused.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
        refused.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        refused
    };
    let (response, problem) = ask(get(refuse), None).await;
    assert_eq!(response.headers()[header::RETRY_AFTER], "10");
    let length = serde_json::to_vec(&problem).unwrap().len().to_string();
    assert_eq!(response.headers()[header::CONTENT_LENGTH], length.as_str());
}

#[tokio::test]
async fn parameters_that_nobody_reads_are_refused() {
    let metrics = RouteMetrics::unregistered("/");
    let edge = EdgeLayer::new("/", gate::get(Need::Public), metrics, None, doors());
    let router: MethodRouter = get(async || "fine").layer(edge.without_query());
    for (path, status) in
        [("/", StatusCode::OK), ("/?", StatusCode::OK), ("/?limit=1", StatusCode::BAD_REQUEST)]
    {
        let request = Request::get(path).body(Body::empty()).unwrap();
        assert_eq!(router.clone().oneshot(request).await.unwrap().status(), status, "{path}");
    }
}

#[test]
fn the_log_shows_an_error_with_its_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);
    assert_eq!(chain(&Outer(std::io::Error::other("inner"))), "outer: inner");
}

#[test]
fn only_short_and_harmless_request_ids_are_taken_from_callers() {
    let ids = RequestIds::new(0xabcd);
    for (given, taken) in [
        ("0d0c7c8e-5f7e-4a43-9a3b-0e9c2f6f8d11", true),
        ("A1", true),
        ("", false),
        ("a b", false),
        ("x\u{1b}[31m", false),
        ("a_b", false),
        (&"a".repeat(64), true),
        (&"a".repeat(65), false),
    ] {
        let request = Request::builder().header(REQUEST_ID, given.as_bytes()).body(Body::empty());
        let Ok(request) = request else {
            assert!(!taken, "{given:?} cannot even be a header");
            continue;
        };
        assert_eq!(ids.of(&request) == given.as_bytes(), taken, "{given:?}");
    }
}

#[test]
fn made_request_ids_differ_and_would_be_taken_again() {
    let ids = RequestIds::new(7);
    let (one, two) = (ids.make(), ids.make());
    assert_eq!((one.as_bytes(), two.as_bytes()), (&b"00000007-1"[..], &b"00000007-2"[..]));
    assert!(is_harmless(one.as_bytes()));
}
