//! Reads what a request brings and writes what an answer takes, so that every refusal is one of ours.
//!
//! Owns the limits on bodies. axum's own extractors answer refusals in plain text and read bodies without a
//! deadline, which is why handlers use these.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sifleet_common::digest::Digest;

use super::problem::{ApiError, cut};
use super::{App, Limits};
use crate::store::push::{Key, MAX_KEY};

/// What is taken for a body before its length is known to be true.
const FIRST_BUFFER: usize = 16 * 1024;
/// What most answers fit into.
const ANSWER_BUFFER: usize = 1024;

/// Lets a caller ask again without asking for more.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Reads the caller's key of a wish, and what its body says.
pub(super) fn idempotency_key(headers: &HeaderMap, body: &impl Serialize) -> Result<Option<Key>, ApiError> {
    let Some(text) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let fits = |text: &&str| (1..=MAX_KEY).contains(&text.len());
    let Some(text) = text.to_str().ok().filter(fits) else {
        return Err(ApiError::BadKey);
    };
    let body = serde_json::to_vec(body).map_err(|error| ApiError::Encode { detail: error.to_string() })?;
    Ok(Some(Key { text: text.to_owned(), body: Digest::of(&body) }))
}

/// The query of a request; unknown parameters are refused by the type, for they would change nothing silently.
pub(super) struct Params<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(query)) => Ok(Self(query)),
            Err(refused) => Err(ApiError::BadQuery { detail: cut(&refused.body_text()) }),
        }
    }
}

/// The one variable part of a path, decoded.
pub(super) struct Segment(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(segment)) => Ok(Self(segment)),
            Err(refused) => Err(ApiError::BadQuery { detail: cut(&refused.body_text()) }),
        }
    }
}

/// A JSON body: of a request, read within the limits of size and time; of an answer, never cached by anybody.
pub(super) struct Json<T>(pub(super) T);

/// A JSON body that may be left out: `curl -X POST` sends neither it nor its type, browsers send the type.
pub(super) struct MaybeJson<T>(pub(super) Option<T>);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for MaybeJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        if parts.headers.contains_key(header::CONTENT_TYPE) {
            check_content_type(&parts.headers)?;
        }
        let bytes = read_in_time(&parts.headers, body, app.limits()).await?;
        if bytes.is_empty() {
            return Ok(Self(None));
        }
        check_content_type(&parts.headers)?;
        parse(&bytes).map(|body| Self(Some(body)))
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        check_content_type(&parts.headers)?;
        let bytes = read_in_time(&parts.headers, body, app.limits()).await?;
        parse(&bytes).map(Self)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // Every body is an object; serde would take a list of its fields as well.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(ApiError::BadJson { detail: "it is a list, and has to be an object".to_owned() });
    }
    serde_json::from_slice(bytes).map_err(|refused| ApiError::BadJson { detail: cut(&refused.to_string()) })
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let mut text = Vec::with_capacity(ANSWER_BUFFER);
        match serde_json::to_writer(&mut text, &self.0) {
            Ok(()) => answer("application/json", text),
            Err(error) => ApiError::Encode { detail: error.to_string() }.into_response(),
        }
    }
}

/// Makes a successful answer that is true at this moment only.
pub(super) fn answer(content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let declared =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = declared.split(';').next().unwrap_or_default().trim();
    let is_json = kind.eq_ignore_ascii_case("application/json");
    if is_json { Ok(()) } else { Err(ApiError::UnsupportedMediaType { found: cut(declared) }) }
}

async fn read_in_time(headers: &HeaderMap, body: Body, limits: &Limits) -> Result<Vec<u8>, ApiError> {
    tokio::time::timeout(limits.body_timeout, read(headers, body, limits.max_body))
        .await
        .unwrap_or(Err(ApiError::SlowBody { seconds: limits.body_timeout.as_secs() }))
}

async fn read(headers: &HeaderMap, body: Body, max: usize) -> Result<Vec<u8>, ApiError> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let declared: usize = declared.and_then(|value| value.parse().ok()).unwrap_or(0);
    if declared > max {
        return Err(ApiError::BodyTooLarge { max });
    }
    let mut bytes = Vec::with_capacity(declared.min(FIRST_BUFFER));
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| ApiError::BadJson {
            detail: format!("the body ended early: {}", cut(&error.to_string())),
        })?;
        if bytes.len().saturating_add(chunk.len()) > max {
            return Err(ApiError::BodyTooLarge { max });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
