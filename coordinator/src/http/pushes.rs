//! `POST /v1/pushes`, `GET /v1/pushes`, `GET /v1/pushes/{id}`, its `nodes` and `events`, and what is asked of a push: `cancel`,
//! `retry`, `rate`.
//!
//! What a wish means is the view's business, what becomes of it the state's. An answer is given once the view shows it, so
//! that whoever asks next finds it.

mod stream;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use sifleet_common::api::pushes::{PushBody, PushList, PushNodes, PushPlan, PushRequest, RateRequest};

use super::App;
use super::extract::{Json, Segment, idempotency_key};
use super::problem::{ApiError, cut, problems};
use crate::state::pushes::wish::check_rate;
use crate::state::pushes::{Command, PushError};
use crate::store::push::{Key, PushNo};
use crate::view::meant::MeantError;
pub(super) use stream::{__path_follow, follow};

problems!(CreateProblems: BadPush, BadKey, BadImage, BadNodeset, BadJson, UnknownImage, UnknownPartition, UnknownNode,
    SlowBody, AmbiguousImage, Disagreed, NoHolder, KeyReused, BodyTooLarge, UnsupportedMediaType, TooManyPushes, Stopping);
problems!(ListProblems:);
problems!(ShowProblems: BadQuery, UnknownPush);
problems!(CancelProblems: BadQuery, UnknownPush, Stopping);
problems!(RetryProblems: BadQuery, UnknownPush, PushCancelled, Stopping);
problems!(RateProblems: BadQuery, BadPush, BadJson, UnknownPush, SlowBody, PushCancelled, BodyTooLarge,
    UnsupportedMediaType, Stopping);

/// Brings an image to nodes, or says what that would do.
#[utoipa::path(
    post, path = "/v1/pushes", tag = "pushes", operation_id = "push",
    params(("Idempotency-Key" = Option<String>, Header, pattern = "^[!-~]{1,128}$", description = "At most 128 bytes. The same key with the same \
        body is the same push, however often it is asked for.")),
    request_body = PushRequest,
    responses(
        (status = 200, description = "What a push would do; nothing is done.", body = PushPlan),
        (status = 201, description = "The push; `Location` says where it is found.", body = PushBody),
        CreateProblems,
    )
)]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Json(request): Json<PushRequest>,
) -> Result<Response, ApiError> {
    let key = idempotency_key(&headers, &request)?;
    if let Some(no) = known(&app, key.as_ref())? {
        return created(&app, no);
    }
    let mut wish = {
        let view = app.view();
        view.wish(&request, app.now()).map_err(|error| error.with_near_names(&view))?
    };
    if request.dry_run {
        let view = app.view();
        let upload = request.upload.map(|size| if view.is_in_library(&wish.digest) { 0 } else { size });
        return Ok(Json(PushPlan { upload, ..view.plan(&wish, app.now()) }).into_response());
    }
    if request.upload.is_some() {
        let detail = "upload is said for a dry run only: put the image into the library, then push it";
        return Err(PushError::from(MeantError::bad(detail)).into());
    }
    wish.key = key;
    let no = app.handle().push(Command::Create(Box::new(wish))).await??;
    created(&app, no)
}

fn created(app: &App, no: PushNo) -> Result<Response, ApiError> {
    let mut response = Json(body(app, no)?).into_response();
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(location) = HeaderValue::try_from(format!("/v1/pushes/{no}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Finds the push that a key was used for. What it wanted then may not be possible any longer, and need not be.
fn known(app: &App, key: Option<&Key>) -> Result<Option<PushNo>, ApiError> {
    let Some(key) = key else { return Ok(None) };
    match app.view().push_of_key(&key.text) {
        Some((no, body)) if body == key.body => Ok(Some(no)),
        Some((push, _)) => Err(PushError::KeyReused { push }.into()),
        None => Ok(None),
    }
}

/// Lists all pushes that are kept, newest first.
#[utoipa::path(
    get, path = "/v1/pushes", tag = "pushes", operation_id = "pushes",
    responses((status = 200, description = "All pushes.", body = PushList), ListProblems)
)]
pub(super) async fn list(State(app): State<Arc<App>>) -> Json<PushList> {
    Json(app.view().pushes(app.now()))
}

/// Shows how a push stands.
#[utoipa::path(
    get, path = "/v1/pushes/{id}", tag = "pushes", operation_id = "push_shown",
    params(("id" = String, Path, description = "What the push is called, such as p-000042.")),
    responses((status = 200, description = "The push as a whole.", body = PushBody), ShowProblems)
)]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<PushBody>, ApiError> {
    Ok(Json(body(&app, number(&id)?)?))
}

/// Lists the nodes of a push with how far each is.
#[utoipa::path(
    get, path = "/v1/pushes/{id}/nodes", tag = "pushes", operation_id = "push_nodes",
    params(("id" = String, Path, description = "What the push is called.")),
    responses((status = 200, description = "The nodes, in natural order.", body = PushNodes), ShowProblems)
)]
pub(super) async fn nodes(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<PushNodes>, ApiError> {
    let (view, no) = (app.view(), number(&id)?);
    let info = view.push_info(no).ok_or_else(|| unknown(no))?;
    Ok(Json(view.push_nodes(info, app.now())))
}

/// Ends a push: nodes that have not got the image stop, and forget what they fetched of it.
#[utoipa::path(
    post, path = "/v1/pushes/{id}/cancel", tag = "pushes", operation_id = "push_cancel",
    params(("id" = String, Path, description = "What the push is called.")),
    responses((status = 200, description = "The push; one that ended before stays as it is.", body = PushBody),
        CancelProblems)
)]
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<PushBody>, ApiError> {
    command(&app, Command::Cancel(number(&id)?)).await
}

/// Lets the nodes that failed try once more at once, with the whole time to the deadline.
#[utoipa::path(
    post, path = "/v1/pushes/{id}/retry", tag = "pushes", operation_id = "push_retry",
    params(("id" = String, Path, description = "What the push is called.")),
    responses((status = 200, description = "The push.", body = PushBody), RetryProblems)
)]
pub(super) async fn retry(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<PushBody>, ApiError> {
    command(&app, Command::Retry(number(&id)?)).await
}

/// Changes how fast each node may fetch, while it does.
#[utoipa::path(
    post, path = "/v1/pushes/{id}/rate", tag = "pushes", operation_id = "push_rate",
    params(("id" = String, Path, description = "What the push is called.")),
    request_body = RateRequest,
    responses((status = 200, description = "The push.", body = PushBody), RateProblems)
)]
pub(super) async fn rate(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Json(request): Json<RateRequest>,
) -> Result<Json<PushBody>, ApiError> {
    check_rate(request.rate)?;
    command(&app, Command::Rate(number(&id)?, request.rate)).await
}

async fn command(app: &App, command: Command) -> Result<Json<PushBody>, ApiError> {
    let no = app.handle().push(command).await??;
    Ok(Json(body(app, no)?))
}

fn body(app: &App, no: PushNo) -> Result<PushBody, ApiError> {
    let view = app.view();
    let info = view.push_info(no).ok_or_else(|| unknown(no))?;
    Ok(view.push_body(info).clone())
}

fn number(id: &str) -> Result<PushNo, ApiError> {
    id.parse().map_err(|_invalid| PushError::Unknown { id: cut(id) }.into())
}

fn unknown(no: PushNo) -> ApiError {
    PushError::Unknown { id: no.to_string() }.into()
}
