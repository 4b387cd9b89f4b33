//! `GET /v1/drift`.

use std::sync::Arc;

use axum::extract::State;
use sifleet_common::api::drift::DriftList;

use super::App;
use super::extract::Json;
use super::problem::problems;

problems!(Problems:);

/// Lists every name under which current nodes hold different bytes.
#[utoipa::path(
    get, path = "/v1/drift", tag = "drift", operation_id = "drift",
    responses((status = 200, description = "The names; none is good.", body = DriftList), Problems)
)]
pub(super) async fn list(State(app): State<Arc<App>>) -> Json<DriftList> {
    Json(app.view().drift(app.now()))
}
