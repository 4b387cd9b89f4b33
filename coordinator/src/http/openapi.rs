//! The OpenAPI document of the API (`/openapi.json`) and pages that show it (`/docs`).
//!
//! The document is made from the handlers once, at start. The pages are Swagger UI out of this binary: they
//! fetch nothing from elsewhere, for clusters have no way out.
//! Outside facts: OpenAPI Specification 3.1.1, Swagger UI 5 configuration.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use sifleet_common::api::problem::Problem;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_swagger_ui::Config;

use super::App;
use super::extract::answer;
use super::gate::SCHEME;
use super::problem::old::OldProblem;
use super::problem::{ApiError, cut};

/// The document without its paths.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Sifleet coordinator",
        description = "Knows which node holds which image and answers for it. Every error is a `Problem` \
            (`application/problem+json`) with a stable `code`; every answer carries `x-request-id`.",
        license(name = "Apache-2.0 OR MIT", identifier = "Apache-2.0 OR MIT"),
    ),
    components(schemas(Problem, OldProblem)),
    tags(
        (name = "availability", description = "Is this image available on that partition?"),
        (name = "images", description = "The images found on the nodes."),
        (name = "nodes", description = "The nodes and what is on them."),
        (name = "partitions", description = "The partitions and the images on them."),
        (name = "drift", description = "Names under which nodes disagree."),
        (name = "pushes", description = "Images on their way to nodes."),
        (name = "removals", description = "Images that leave nodes."),
        (name = "limits", description = "How fast images may move."),
        (name = "events", description = "Changes, as they happen."),
        (name = "registries", description = "External registries, and how they are."),
        (name = "library", description = "Images that users bring."),
        (name = "verdicts", description = "Would a job that needs this image run?"),
        (name = "templates", description = "What kinds of jobs need."),
        (name = "dashboard", description = "The addresses that dashboards ask already."),
        (name = "tokens", description = "Who may ask what, and who did."),
        (name = "service", description = "How the coordinator itself is."),
    )
)]
struct Base;

/// Returns the document without its paths.
pub(super) fn base() -> OpenApi {
    let mut document = Base::openapi();
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "A token, as `sifleet token create` shows it. Root and users of the coordinator's machine need \
            none over its unix socket.",
        ))
        .build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(SCHEME, SecurityScheme::Http(token));
    document
}

/// Makes the routes that show the document.
pub(super) fn pages(mut document: OpenApi) -> Router<Arc<App>> {
    // axum writes a path that may contain slashes as `{*image}`; OpenAPI has no such thing.
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    let text = serde_json::to_vec(&document).map(Bytes::from).map_err(|error| error.to_string());
    let config = Arc::new(Config::from("/openapi.json").validator_url("none").try_it_out_enabled(true));
    let page = move |State(_): State<Arc<App>>, request: Request| {
        let config = Arc::clone(&config);
        async move { page(&request, config) }
    };
    Router::new()
        .route("/openapi.json", get(move || async move { document_answer(text) }))
        .route("/docs", get(|| async { Redirect::permanent("/docs/") }))
        .route("/docs/", get(page.clone()))
        .route("/docs/{*file}", get(page))
}

fn document_answer(text: Result<Bytes, String>) -> Response {
    match text {
        Ok(text) => answer("application/json", text),
        Err(detail) => ApiError::Encode { detail }.into_response(),
    }
}

fn page(request: &Request, config: Arc<Config<'static>>) -> Response {
    let path = request.uri().path();
    let file = path.strip_prefix("/docs/").unwrap_or_default();
    match utoipa_swagger_ui::serve(file, config) {
        Ok(Some(file)) => {
            let mut response = Response::new(file.bytes.into_owned().into());
            if let Ok(kind) = HeaderValue::try_from(file.content_type) {
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
            }
            response
        }
        Ok(None) => ApiError::NoRoute { path: cut(path) }.into_response(),
        Err(error) => ApiError::Encode { detail: error.to_string() }.into_response(),
    }
}
