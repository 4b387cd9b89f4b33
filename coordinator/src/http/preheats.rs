//! `GET /healthy`, `POST /oapi/v1/jobs` and `GET /oapi/v1/jobs/{id}`: what Harbor asks of whoever preheats images for it.
//!
//! The same is below `/preheat/{partition}`, so that Harbor can be told of one provider for each partition. The shapes are Harbor's,
//! which is why they are not in our document. Credentials that come with a wish are shown to the registry of the catalogue
//! that the wish names, over TLS, and to nobody else.
//! Outside facts: the driver `dragonfly` of Harbor 2.12 and the open API of Dragonfly 2 that it speaks.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, State};
use axum::http::HeaderValue;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sifleet_common::api::pushes::PushNode;
use sifleet_common::name::PartitionName;
use sifleet_common::push::Phase;

use super::App;
use super::extract::Json;
use super::problem::{ApiError, cut};
use crate::registries::preheats::Standing;
use crate::store::push::PushNo;
use crate::view::View;

/// Longest address of a manifest, in bytes.
const MAX_URL: usize = 2_048;
/// Longest credentials, in bytes.
const MAX_PASS: usize = 32 * 1024;
/// Most nodes that are told of a job, of those that have the image and of those that do not: each.
const MAX_TASKS: usize = 1_000;

/// Which partition is meant: the path says it, else the settings do.
pub(super) struct Place(PartitionName);

impl FromRequestParts<Arc<App>> for Place {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let named = segments(parts, app).await?.remove("partition");
        let Some(name) = named.or_else(|| app.limits().preheat_partition.clone()) else {
            let detail = "which partition? Give Harbor the endpoint …/preheat/PARTITION, or set registries.preheat_partition";
            return Err(ApiError::BadQuery { detail: detail.to_owned() });
        };
        let view = app.view();
        let known = view.partition(&name, app.now()).map_err(|error| view.suggest(error))?;
        let parsed = known.summary.name.parse();
        parsed.map(Self).map_err(|_unlike_ours| ApiError::BadQuery { detail: cut(&name) })
    }
}

/// The number of a job.
pub(super) struct JobId(String);

impl FromRequestParts<Arc<App>> for JobId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        Ok(Self(segments(parts, app).await?.remove("id").unwrap_or_default()))
    }
}

async fn segments(parts: &mut Parts, app: &Arc<App>) -> Result<BTreeMap<String, String>, ApiError> {
    match Path::<BTreeMap<String, String>>::from_request_parts(parts, app).await {
        Ok(Path(segments)) => Ok(segments),
        Err(refused) => Err(ApiError::BadQuery { detail: cut(&refused.body_text()) }),
    }
}

/// A wish; fields that say nothing to us are passed over.
#[derive(Deserialize)]
pub(super) struct JobRequest {
    #[serde(rename = "type")]
    kind: String,
    args: Args,
}

#[derive(Deserialize)]
struct Args {
    #[serde(rename = "type")]
    kind: String,
    url: String,
    headers: Option<BTreeMap<String, Value>>,
}

/// How a job stands, as Harbor reads it, with our own words beside it.
#[derive(Serialize)]
pub(super) struct Job {
    id: u64,
    task_id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    state: &'static str,
    created_at: String,
    updated_at: String,
    args: Value,
    result: Outcome,
    partition: String,
    image: Option<String>,
    import: Option<String>,
    push: Option<String>,
}

#[derive(Serialize)]
struct Outcome {
    job_states: [JobState; 1],
}

#[derive(Serialize)]
struct JobState {
    state: &'static str,
    error: String,
    results: Vec<Tasks>,
}

#[derive(Default, Serialize)]
struct Tasks {
    scheduler_cluster_id: u32,
    success_tasks: Vec<Task>,
    failure_tasks: Vec<Task>,
}

#[derive(Serialize)]
struct Task {
    url: String,
    hostname: String,
    ip: String,
    description: String,
}

/// Tells whether images can be preheated here.
pub(super) async fn healthy(
    State(app): State<Arc<App>>,
    Place(partition): Place,
) -> Result<Json<Value>, ApiError> {
    app.library()?;
    Ok(Json(json!({"status": "ok", "partition": partition.to_string()})))
}

/// Begins a job: an image comes into the library, and from there to the nodes of the partition.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Place(partition): Place,
    Json(request): Json<JobRequest>,
) -> Result<Json<Job>, ApiError> {
    app.library()?;
    if request.kind != "preheat" || request.args.kind != "image" {
        let detail = "only jobs of the type \"preheat\" for an \"image\" are done here".to_owned();
        return Err(ApiError::BadJson { detail });
    }
    super::check_length("args.url", &request.args.url, MAX_URL)?;
    let pass = request.args.headers.as_ref().and_then(pass);
    let standing = app.preheats().begin((&request.args.url, pass), partition, app.now().wall)?;
    Ok(Json(job(standing, &app)))
}

/// Tells how a job stands.
pub(super) async fn show(State(app): State<Arc<App>>, JobId(id): JobId) -> Result<Json<Job>, ApiError> {
    Ok(Json(job(app.preheats().look(&id)?, &app)))
}

/// Finds what the registry is to be shown.
fn pass(headers: &BTreeMap<String, Value>) -> Option<HeaderValue> {
    let found = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    let text = found?.1.as_str().filter(|text| text.len() <= MAX_PASS)?;
    let mut pass = HeaderValue::try_from(text).ok()?;
    pass.set_sensitive(true);
    Some(pass)
}

fn job(standing: Standing, app: &App) -> Job {
    let state = match &standing.ended {
        None => "PENDING",
        Some(Ok(())) => "SUCCESS",
        Some(Err(_)) => "FAILURE",
    };
    let error = standing.ended.and_then(Result::err).unwrap_or_default();
    let results =
        standing.push.and_then(|push| tasks(&app.view(), push, &standing.url, app)).into_iter().collect();
    Job {
        id: standing.no,
        task_id: standing.no.to_string(),
        kind: "preheat",
        state,
        created_at: standing.created.to_string(),
        updated_at: standing.changed.to_string(),
        args: json!({"type": "image", "url": standing.url}),
        result: Outcome { job_states: [JobState { state, error, results }] },
        partition: standing.partition.to_string(),
        image: standing.image,
        import: standing.import,
        push: standing.push.map(|push| push.to_string()),
    }
}

/// Tells which nodes have the image and which will not.
fn tasks(view: &View, push: PushNo, url: &str, app: &App) -> Option<Tasks> {
    let mut tasks = Tasks::default();
    for node in view.push_nodes(view.push_info(push)?, app.now()).nodes {
        let list = match node.phase {
            Phase::Done => &mut tasks.success_tasks,
            Phase::Failed | Phase::Cancelled => &mut tasks.failure_tasks,
            Phase::Waiting | Phase::Preparing | Phase::Fetching | Phase::Verifying | Phase::Deferred => {
                continue;
            }
        };
        if list.len() < MAX_TASKS {
            list.push(task(node, url));
        }
    }
    Some(tasks)
}

fn task(node: PushNode, url: &str) -> Task {
    let description = node.message.unwrap_or_default();
    Task { url: url.to_owned(), hostname: node.node, ip: String::new(), description }
}
