//! `GET /v1/limits` and `PATCH /v1/limits`.
//!
//! What limits mean is the state's business. An answer is given once the view shows it, and agents are told by then.

use std::sync::Arc;

use axum::extract::State;
use sifleet_common::api::limits::{LimitsBody, LimitsChange};

use super::App;
use super::extract::Json;
use super::problem::{ApiError, problems};
use crate::state::limits::{LimitCommand, check};

problems!(ShowProblems:);
problems!(ChangeProblems: BadLimit, BadJson, SlowBody, BodyTooLarge, UnsupportedMediaType, Stopping);

/// Shows how fast bytes of images may move, and who is held to less.
#[utoipa::path(
    get, path = "/v1/limits", tag = "limits", operation_id = "limits",
    responses((status = 200, description = "All limits.", body = LimitsBody), ShowProblems)
)]
pub(super) async fn show(State(app): State<Arc<App>>) -> Json<LimitsBody> {
    Json(app.view().limits(app.now()))
}

/// Changes limits, while bytes move too.
#[utoipa::path(
    patch, path = "/v1/limits", tag = "limits", operation_id = "limits_change",
    request_body = LimitsChange,
    responses((status = 200, description = "All limits as they are from here on.", body = LimitsBody), ChangeProblems)
)]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    Json(change): Json<LimitsChange>,
) -> Result<Json<LimitsBody>, ApiError> {
    check(&change).map_err(|detail| ApiError::BadLimit { detail })?;
    app.handle().limit(LimitCommand::Change(change)).await?;
    Ok(Json(app.view().limits(app.now())))
}
