//! `GET` and `POST /v1/availability`: is this image available on that partition?
//!
//! The GET is the coordinator's busiest route: it reads the newest view, never waits and never locks.

use std::sync::Arc;

use axum::extract::State;
use sifleet_common::api::availability::{Availability, Batch, BatchAnswer, BatchEntry, Query};
use sifleet_common::availability::Require;
use sifleet_common::time::Now;

use super::App;
use super::extract::{Json, Params};
use super::problem::{ApiError, problems};
use crate::view::View;

/// Most questions in a batch: a dashboard page shows fewer, and a thousand take some tens of milliseconds.
pub const MAX_QUERIES: usize = 1_000;
/// Answers of a batch between which other requests get their turn.
const TURN: usize = 32;
/// Longest image reference, in bytes: a path, `@` and a digest.
const MAX_REFERENCE: usize = sifleet_common::name::MAX_IMAGE_NAME + 72;
/// Longest partition asked about, in bytes: twice what a partition's name may have.
const MAX_PARTITION: usize = 2 * sifleet_common::name::MAX_PARTITION_NAME;

problems!(GetProblems:
    BadQuery, BadRequirement, BadImage, UnknownImage, UnknownPartition, AmbiguousImage);
problems!(PostProblems: BadJson, TooManyQueries, SlowBody, BodyTooLarge, UnsupportedMediaType);

/// Answers where an image stands on a partition, node by node.
#[utoipa::path(
    get, path = "/v1/availability", tag = "availability", operation_id = "availability",
    params(
        ("image" = String, Query, description = "`vnc_desktop`, `vnc_desktop.sif`, a path below a root, at least \
            12 digits of a digest, or `name@blake3:…`."),
        ("partition" = String, Query, description = "Name of the partition."),
        ("require" = Option<String>, Query, description = "`all` (default), `any` or a number of nodes."),
    ),
    responses(
        (status = 200, description = "The truthful answer, whatever it is; `satisfied` sums it up.",
            body = Availability),
        GetProblems,
    )
)]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Params(query): Params<Query>,
) -> Result<Json<Availability>, ApiError> {
    answer(&app.view(), &query, app.now()).map(Json)
}

/// Answers several questions at once; what is wrong with one does not hold up the others.
#[utoipa::path(
    post, path = "/v1/availability", tag = "availability", operation_id = "availability_batch",
    request_body(content = Batch, description = "The questions."),
    responses(
        (status = 200, description = "One entry for each question, in their order.", body = BatchAnswer),
        PostProblems,
    )
)]
pub(super) async fn post(
    State(app): State<Arc<App>>,
    Json(batch): Json<Batch>,
) -> Result<Json<BatchAnswer>, ApiError> {
    let count = batch.queries.len();
    if count > MAX_QUERIES {
        return Err(ApiError::TooManyQueries { count, max: MAX_QUERIES });
    }
    // One view for all: the answers of a batch belong to the same moment.
    let (view, now) = (app.handle().views.load_full(), app.now());
    let mut answers = Vec::with_capacity(count);
    for turn in batch.queries.chunks(TURN) {
        answers.extend(turn.iter().map(|query| entry(&view, query, now)));
        tokio::task::yield_now().await;
    }
    Ok(Json(BatchAnswer { answers }))
}

fn entry(view: &View, query: &Query, now: Now) -> BatchEntry {
    match answer(view, query, now) {
        Ok(answer) => BatchEntry { answer: Some(answer), problem: None },
        Err(error) => BatchEntry { answer: None, problem: Some(error.problem(None)) },
    }
}

fn answer(view: &View, query: &Query, now: Now) -> Result<Availability, ApiError> {
    super::check_length("image", &query.image, MAX_REFERENCE)?;
    super::check_length("partition", &query.partition, MAX_PARTITION)?;
    let require = match &query.require {
        Some(text) => text.parse()?,
        None => Require::default(),
    };
    Ok(view.availability(&query.image, &query.partition, require, now)?)
}
