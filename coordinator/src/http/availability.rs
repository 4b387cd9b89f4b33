//! `GET` and `POST /v1/availability`: is this image available on that partition?
//!
//! The GET is the coordinator's busiest route: it reads the newest view, and waits only while others look
//! into the same part of the kept answers.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use sifleet_common::api::availability::{Availability, Batch, BatchAnswer, Query};
use sifleet_common::availability::Require;
use sifleet_common::time::Now;

use super::App;
use super::extract::{self, Json, Params};
use super::problem::{ApiError, problems};
use crate::view::View;
use crate::view::rendered::{Ending, Rendered};

/// Most questions in a batch: a dashboard page shows fewer, and a thousand take some tens of milliseconds.
pub const MAX_QUERIES: usize = 1_000;
/// Bytes that most answers need.
const ANSWER: usize = 1_200;
/// How long a batch is answered before other requests get their turn.
const TURN: Duration = Duration::from_micros(500);
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
        ("image" = String, Query, min_length = 1, description = "`vnc_desktop`, `vnc_desktop.sif`, a path below a root, at least \
            12 digits of a digest, or `name@blake3:…`."),
        ("partition" = String, Query, min_length = 1, description = "Name of the partition."),
        ("require" = Option<String>, Query, pattern = "^(all|any|0*[1-9][0-9]{0,8})$", description = "`all` (default), `any` or a number of nodes."),
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
) -> Result<Response, ApiError> {
    let (view, now) = (app.view(), app.now());
    let mut json = Vec::with_capacity(ANSWER);
    let written = find(&view, &query, now).and_then(|answer| write(&mut json, &answer, &ending(&view, now)?));
    match written {
        Ok(()) => Ok(extract::answer("application/json", json)),
        Err(ApiError::Query(error)) => Err(view.suggest(error).into()),
        Err(error) => Err(error),
    }
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
) -> Result<Response, ApiError> {
    let count = batch.queries.len();
    if count > MAX_QUERIES {
        return Err(ApiError::TooManyQueries { count, max: MAX_QUERIES });
    }
    // One view for all: the answers of a batch belong to the same moment.
    let (view, now) = (app.handle().views.load_full(), app.now());
    // A `BatchAnswer` of the answers' JSON as it was written before: writing them anew would be most of the work.
    let (mut json, ending) = (Vec::with_capacity(count.saturating_mul(ANSWER)), ending(&view, now)?);
    json.extend_from_slice(br#"{"answers":["#);
    let (mut comma, mut begun): (&[u8], _) = (b"", now.mono);
    for query in &batch.queries {
        json.extend_from_slice(comma);
        write_entry(&mut json, find(&view, query, now), &ending)?;
        comma = b",";
        if app.now().mono >= begun.after(TURN) {
            tokio::task::yield_now().await;
            begun = app.now().mono;
        }
    }
    json.extend_from_slice(b"]}");
    Ok(extract::answer("application/json", json))
}

/// Writes a [`BatchEntry`](sifleet_common::api::availability::BatchEntry).
fn write_entry(
    json: &mut Vec<u8>,
    answer: Result<Arc<Rendered>, ApiError>,
    ending: &Ending,
) -> Result<(), ApiError> {
    match answer {
        Ok(answer) => {
            json.extend_from_slice(br#"{"answer":"#);
            write(json, &answer, ending)?;
            json.extend_from_slice(br#","problem":null}"#);
        }
        Err(error) => {
            json.extend_from_slice(br#"{"answer":null,"problem":"#);
            let problem = serde_json::to_vec(&error.problem(None));
            json.extend(problem.map_err(|error| ApiError::Encode { detail: error.to_string() })?);
            json.push(b'}');
        }
    }
    Ok(())
}

/// Answers a question.
fn find(view: &View, query: &Query, now: Now) -> Result<Arc<Rendered>, ApiError> {
    let require = check(query)?;
    Ok(view.cached_availability(&query.image, &query.partition, require, now)?)
}

fn ending(view: &View, now: Now) -> Result<Ending, ApiError> {
    Ending::new(now.wall.to_string(), view.generation)
        .map_err(|error| ApiError::Encode { detail: error.to_string() })
}

fn write(json: &mut Vec<u8>, answer: &Rendered, ending: &Ending) -> Result<(), ApiError> {
    answer.write(json, ending).map_err(|error| ApiError::Encode { detail: error.to_string() })
}

/// Refuses what cannot be meant, and reads the requirement.
fn check(query: &Query) -> Result<Require, ApiError> {
    super::check_length("image", &query.image, MAX_REFERENCE)?;
    super::check_length("partition", &query.partition, MAX_PARTITION)?;
    match &query.require {
        Some(text) => Ok(text.parse()?),
        None => Ok(Require::default()),
    }
}
