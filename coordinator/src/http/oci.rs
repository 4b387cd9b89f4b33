//! `/v2/`: the OCI distribution API, by which apptainer, oras, skopeo and other registry clients push and pull.
//!
//! Its paths and bodies are the specification's and not ours: names hold slashes, so that one route takes all paths below
//! `/v2/`, and errors have a form of their own ([`refusal`]). What things mean is the business of [`crate::oci`]. Outside
//! facts: OCI distribution specification 1.1, whose end-points (`end-1` to `end-14`) are named where they are served.

mod blobs;
mod lists;
mod manifests;
mod path;
mod range;
pub(super) mod refusal;
mod uploads;

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;

use super::App;
use super::extract::answer;
use super::gate::{Asking, OPERATOR, VIEWER};
use super::problem::{ApiError, cut};
use crate::oci::Registry;
use crate::oci::error::OciError;
use path::Asked;

/// Names bytes on every answer that is about any.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// `end-1`: tells a client that registries are spoken here, and by a refusal how to say who asks.
pub(super) async fn ping(State(app): State<Arc<App>>, method: Method) -> Result<Response, ApiError> {
    app.registry()?;
    if matches!(method, Method::GET | Method::HEAD) {
        Ok(answer("application/json", "{}"))
    } else {
        Err(not_allowed(&method))
    }
}

/// Every other end-point.
pub(super) async fn serve(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let registry = app.registry()?.clone();
    let Some(asked) = path::read(&path)? else {
        return Err(ApiError::NoRoute { path: cut(request.uri().path()) });
    };
    let (call, body) = Call::read(request)?;
    match asked {
        Asked::Catalog => lists::catalog(&registry, &call).await,
        Asked::Tags(name) => lists::tags(&registry, &name, &call).await,
        Asked::Referrers(name, digest) => lists::referrers(&registry, (&name, &digest), &call).await,
        Asked::Manifest(name, reference) => {
            manifests::serve(&app, &registry, (name, &reference), (call, body)).await
        }
        Asked::Blob(name, digest) => blobs::serve(&registry, (&name, &digest), &call).await,
        Asked::Uploads(name) => uploads::begin(&app, &registry, &name, (call, body)).await,
        Asked::Upload(name, id) => uploads::serve(&app, &registry, (&name, &id), (call, body)).await,
    }
}

/// A request without its body, read as far as all end-points need it.
struct Call {
    method: Method,
    headers: HeaderMap,
    query: Vec<(String, String)>,
    asking: Option<Asking>,
}

impl Call {
    fn read(request: Request) -> Result<(Self, Body), ApiError> {
        let (parts, body) = request.into_parts();
        let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let Query(query) = query.map_err(|refused| bad(cut(&refused.body_text())))?;
        let asking = parts.extensions.get().cloned();
        Ok((Self { method: parts.method, headers: parts.headers, query, asking }, body))
    }

    /// Returns a parameter; the first one, if it is named twice.
    fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// Lets only those read who may write: uploads are nobody else's business.
    fn must_be_operator(&self) -> Result<(), ApiError> {
        match (&self.asking, OPERATOR) {
            (Some(asking), super::gate::Need::Role(role)) => asking.must_be(role),
            (None, _) | (Some(_), super::gate::Need::Public | super::gate::Need::Nobody) => {
                Err(ApiError::Shut)
            }
        }
    }

    fn not_allowed(&self) -> ApiError {
        not_allowed(&self.method)
    }
}

fn not_allowed(method: &Method) -> ApiError {
    ApiError::MethodNotAllowed { method: cut(method.as_str()) }
}

fn bad(why: String) -> ApiError {
    OciError::BadRequest { why }.into()
}

/// Makes an answer without a body.
fn bare(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Sets a header, if its value can be one.
fn set(response: &mut Response, name: HeaderName, value: &(impl ToString + ?Sized)) {
    if let Ok(value) = HeaderValue::try_from(value.to_string()) {
        response.headers_mut().append(name, value);
    }
}

/// Makes the answer that is a text, or says how long it would be.
fn text(call: &Call, content_type: &str, bytes: Vec<u8>) -> Response {
    let length = bytes.len();
    let mut response =
        Response::new(if call.is_head() { Body::empty() } else { Body::from(Bytes::from(bytes)) });
    set(&mut response, header::CONTENT_TYPE, content_type);
    set(&mut response, header::CONTENT_LENGTH, &length);
    response
}

impl App {
    fn registry(&self) -> Result<&Registry, ApiError> {
        self.registry.as_ref().ok_or(ApiError::NoLibrary)
    }
}

/// Says who may read: everybody, or whoever has the role for it.
pub(super) const fn readers(anonymous: bool) -> super::gate::Need {
    if anonymous { super::gate::Need::Public } else { VIEWER }
}
