//! `POST /v1/removals`, `GET /v1/removals`, `GET /v1/removals/{id}` and `POST /v1/removals/{id}/cancel`.
//!
//! What a wish means is the view's business, what becomes of it the state's. An answer is given once the view shows it, so
//! that whoever asks next finds it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use sifleet_common::api::removals::{RemovalBody, RemovalList, RemovalPlan, RemovalRequest};
use sifleet_common::role::Role;

use super::App;
use super::extract::{Json, Segment, idempotency_key};
use super::gate::Asking;
use super::problem::{ApiError, cut, problems};
use crate::state::removals::{RemovalCommand, RemovalError};
use crate::store::removal::RemovalNo;

problems!(CreateProblems: BadRemoval, BadKey, KeyReused, BadImage, BadNodeset, BadJson, UnknownImage, UnknownPartition, UnknownNode,
    SlowBody, AmbiguousImage, Disagreed, NoHolder, LastReplica, BodyTooLarge, UnsupportedMediaType, TooManyRemovals,
    Stopping);
problems!(ListProblems:);
problems!(ShowProblems: BadQuery, UnknownRemoval);
problems!(CancelProblems: BadQuery, UnknownRemoval, Stopping);

/// Removes an image from nodes, or says what that would do. `force` needs the role `admin`.
#[utoipa::path(
    post, path = "/v1/removals", tag = "removals", operation_id = "removal",
    params(("Idempotency-Key" = Option<String>, Header, pattern = "^[!-~]{1,128}$", description = "At most 128 bytes. The same key with the same \
        body is the same removal, however often it is asked for.")),
    request_body = RemovalRequest,
    responses(
        (status = 200, description = "What a removal would do; nothing is done.", body = RemovalPlan),
        (status = 201, description = "The removal; `Location` says where it is found.", body = RemovalBody),
        CreateProblems,
    )
)]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    asking: Asking,
    headers: HeaderMap,
    Json(request): Json<RemovalRequest>,
) -> Result<Response, ApiError> {
    if request.force && !request.dry_run {
        asking.must_be(Role::Admin)?;
    }
    let key = idempotency_key(&headers, &request)?;
    // What it wanted then may not be possible any longer, and need not be.
    match key.as_ref().and_then(|key| Some((app.view().removal_of_key(&key.text)?, key))) {
        Some(((no, body), key)) if body == key.body => return created(&app, no),
        Some(((removal, _), _)) => return Err(RemovalError::KeyReused { removal }.into()),
        None => {}
    }
    let mut wish = {
        let view = app.view();
        view.removal_wish(&request, app.now()).map_err(|error| error.with_near_names(&view))?
    };
    if request.dry_run {
        return Ok(Json(app.view().removal_plan(&wish, app.now())).into_response());
    }
    wish.key = key;
    let no = app.handle().remove(RemovalCommand::Create(Box::new(wish))).await??;
    created(&app, no)
}

fn created(app: &App, no: RemovalNo) -> Result<Response, ApiError> {
    let mut response = Json(body(app, no)?).into_response();
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(location) = HeaderValue::try_from(format!("/v1/removals/{no}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Lists all removals that are kept, newest first.
#[utoipa::path(
    get, path = "/v1/removals", tag = "removals", operation_id = "removals",
    responses((status = 200, description = "All removals.", body = RemovalList), ListProblems)
)]
pub(super) async fn list(State(app): State<Arc<App>>) -> Json<RemovalList> {
    Json(app.view().removals(app.now()))
}

/// Shows how a removal stands.
#[utoipa::path(
    get, path = "/v1/removals/{id}", tag = "removals", operation_id = "removal_shown",
    params(("id" = String, Path, description = "What the removal is called, such as r-000042.")),
    responses((status = 200, description = "The removal.", body = RemovalBody), ShowProblems)
)]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<RemovalBody>, ApiError> {
    Ok(Json(body(&app, number(&id)?)?))
}

/// Ends a removal: nodes that still have the image keep it.
#[utoipa::path(
    post, path = "/v1/removals/{id}/cancel", tag = "removals", operation_id = "removal_cancel",
    params(("id" = String, Path, description = "What the removal is called.")),
    responses((status = 200, description = "The removal; one that ended before stays as it is.", body = RemovalBody),
        CancelProblems)
)]
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<RemovalBody>, ApiError> {
    let no = app.handle().remove(RemovalCommand::Cancel(number(&id)?)).await??;
    Ok(Json(body(&app, no)?))
}

fn body(app: &App, no: RemovalNo) -> Result<RemovalBody, ApiError> {
    let view = app.view();
    let info = view.removal_info(no).ok_or_else(|| RemovalError::Unknown { id: no.to_string() })?;
    Ok(view.removal_body(info))
}

fn number(id: &str) -> Result<RemovalNo, ApiError> {
    id.parse().map_err(|_invalid| RemovalError::Unknown { id: cut(id) }.into())
}
