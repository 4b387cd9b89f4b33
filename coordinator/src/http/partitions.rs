//! `GET /v1/partitions` and `GET /v1/partitions/{name}`.

use std::sync::Arc;

use axum::extract::State;
use sifleet_common::api::partitions::{PartitionDetail, PartitionList};

use super::App;
use super::extract::{Json, Segment};
use super::problem::{ApiError, problems};

problems!(ListProblems:);
problems!(ShowProblems: BadQuery, UnknownPartition);

/// Lists the partitions in the order of their names.
#[utoipa::path(
    get, path = "/v1/partitions", tag = "partitions", operation_id = "partitions",
    responses((status = 200, description = "All partitions.", body = PartitionList), ListProblems)
)]
pub(super) async fn list(State(app): State<Arc<App>>) -> Json<PartitionList> {
    Json(app.view().partitions(app.now()))
}

/// Shows one partition and the images on it.
#[utoipa::path(
    get, path = "/v1/partitions/{name}", tag = "partitions", operation_id = "partition",
    params(("name" = String, Path, description = "Name of the partition.")),
    responses(
        (status = 200, description = "The partition and where each image stands on it.", body = PartitionDetail),
        ShowProblems,
    )
)]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Segment(name): Segment,
) -> Result<Json<PartitionDetail>, ApiError> {
    let view = app.view();
    Ok(Json(view.partition(&name, app.now()).map_err(|error| view.suggest(error))?))
}
