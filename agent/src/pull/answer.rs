//! Answers as OCI clients read them.
//!
//! Outside facts: OCI distribution specification 1.1, "Error Codes"; clients such as apptainer refuse an image whose config
//! cannot be had, which for a SIF is the text `{}`.

use hyper::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST, HeaderName, HeaderValue, RANGE, WARNING,
};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;

use super::desk::{Desk, Layer, Refusal};
use super::download::Content;
use super::range::{self, Wanted};
use super::route::{Route, route};

/// Digest of `{}`.
const EMPTY: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const API: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const BYTES: &str = "application/octet-stream";

/// Answers one request.
pub(super) async fn answer<B>(desk: &Desk, request: &Request<B>) -> Response<Content> {
    let header = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let is_head = *request.method() == Method::HEAD;
    let mut response = match route(request.method(), header(HOST), request.uri().path()) {
        Route::Ping => text(StatusCode::OK, "application/json", "{}"),
        Route::Manifest { repository, reference } => match desk.manifest(repository, reference).await {
            Ok(told) => {
                let manifest = &told.manifest;
                let mut response = text(StatusCode::OK, &manifest.media_type, manifest.body.clone());
                put(&mut response, DIGEST, &manifest.digest);
                if told.is_stale {
                    put(
                        &mut response,
                        WARNING,
                        "110 sifleet \"the coordinator is away: this is what it said last\"",
                    );
                }
                response
            }
            Err(refusal) => refuse("MANIFEST_UNKNOWN", refusal),
        },
        Route::Blob { digest } if digest == EMPTY => {
            let mut response = text(StatusCode::OK, BYTES, "{}");
            put(&mut response, DIGEST, EMPTY);
            response
        }
        Route::Blob { digest } => match desk.layer(&digest) {
            Some(layer) => blob(desk, &layer, &digest, (is_head, header(RANGE))).await,
            None => {
                problem(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "no manifest that was asked for here names it")
            }
        },
        Route::Elsewhere => {
            let words = "this is one node's copy: lists, tags and pushes are for the coordinator";
            problem(StatusCode::NOT_FOUND, "UNSUPPORTED", words)
        }
        Route::WrongMethod => {
            let words = "this node's registry only gives: push to the coordinator";
            problem(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", words)
        }
        Route::BadName => {
            problem(StatusCode::BAD_REQUEST, "NAME_INVALID", "no repository or tag is called so")
        }
        Route::WrongHost => problem(
            StatusCode::MISDIRECTED_REQUEST,
            "DENIED",
            "ask for localhost: this is for jobs of this node",
        ),
    };
    put(&mut response, API, "registry/2.0");
    if is_head
        && let Content::Text(content) = response.body_mut()
        && let Some(content) = content.take()
    {
        put(&mut response, CONTENT_LENGTH, &content.len().to_string());
    }
    response
}

async fn blob(
    desk: &Desk,
    layer: &Layer,
    digest: &str,
    (is_head, range): (bool, Option<&str>),
) -> Response<Content> {
    let (status, part) = match range::wanted(range.filter(|_| !is_head), layer.size) {
        Wanted::All => (StatusCode::OK, 0..layer.size),
        Wanted::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Wanted::Beyond => {
            let mut response =
                problem(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID", "these bytes are beyond its end");
            put(&mut response, CONTENT_RANGE, &format!("bytes */{}", layer.size));
            return response;
        }
    };
    let mut response = if is_head {
        let mut response = Response::new(Content::Text(None));
        put(&mut response, CONTENT_LENGTH, &layer.size.to_string());
        response
    } else {
        match desk.open(layer).await {
            Ok(file) => match desk.downloads.begin(file, part.clone()).await {
                Some(content) => Response::new(content),
                None => {
                    let words = "as many files are sent as can be, and none of them has ended: ask again";
                    return refuse("BLOB_UNKNOWN", Refusal::Unavailable(words.to_owned()));
                }
            },
            Err(refusal) => return refuse("BLOB_UNKNOWN", refusal),
        }
    };
    *response.status_mut() = status;
    put(&mut response, CONTENT_TYPE, BYTES);
    put(&mut response, ACCEPT_RANGES, "bytes");
    put(&mut response, DIGEST, digest);
    if status == StatusCode::PARTIAL_CONTENT {
        let last = part.end.saturating_sub(1);
        put(&mut response, CONTENT_RANGE, &format!("bytes {}-{last}/{}", part.start, layer.size));
    }
    response
}

fn refuse(unknown: &str, refusal: Refusal) -> Response<Content> {
    match refusal {
        Refusal::Unknown => problem(StatusCode::NOT_FOUND, unknown, "the coordinator knows no such image"),
        Refusal::Denied(words) => problem(StatusCode::FORBIDDEN, "DENIED", &words),
        Refusal::Unavailable(words) => problem(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", &words),
    }
}

fn problem(status: StatusCode, code: &str, words: &str) -> Response<Content> {
    let body = json!({ "errors": [{ "code": code, "message": words, "detail": null }] });
    text(status, "application/json", body.to_string())
}

fn text(status: StatusCode, kind: &str, body: impl Into<bytes::Bytes>) -> Response<Content> {
    let mut response = Response::new(Content::text(body));
    *response.status_mut() = status;
    put(&mut response, CONTENT_TYPE, kind);
    response
}

/// Sets a header; what cannot stand in one is left out.
fn put(response: &mut Response<Content>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
