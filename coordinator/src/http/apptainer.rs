//! `POST /api/apptainer/scan`, `GET /api/apptainer/images`, `GET /api/apptainer/images/{id}/metadata` and
//! `GET /api/apptainer/validate/{image_id}`: addresses that dashboards ask already, answered by what nodes hold.
//!
//! Which image stands where is the view's business, what it says of itself is joined in from the store.

mod scan;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;
use sifleet_common::api::apptainer::{
    ApptainerImage, ApptainerImages, ApptainerMetadata, ApptainerValidation,
};
use sifleet_common::availability::{Require, Satisfied};
use sifleet_common::digest::Digest;
use sifleet_common::image::ImageMetadata;
use sifleet_common::name::{MAX_IMAGE_NAME, MAX_PARTITION_NAME};

use super::App;
use super::dashboard::Shown;
use super::extract::{Json, Params, Segment};
use super::language::{Told, Wanted};
use super::problem::{ApiError, problems};
use crate::view::about::About;
use crate::view::apptainer::{MAX_ROWS, Row};
use crate::view::verdict::Question;
use crate::words::Reason;
pub(super) use scan::{__path_scan, scan};

/// Longest partition or kind asked for, in bytes.
const MAX_FILTER: usize = 2 * MAX_PARTITION_NAME;
/// Longest id, in bytes: a name and a digest.
pub(super) const MAX_ID: usize = MAX_IMAGE_NAME + 72;

problems!(ListProblems: UnknownPartition);
problems!(ImageProblems: BadImage, UnknownImage, UnknownPartition, AmbiguousImage);

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    partition: Option<String>,
    r#type: Option<String>,
    is_active: Option<String>,
}

/// On which partition.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OnQuery {
    partition: Option<String>,
}

/// Lists images as dashboards do: one entry for each image on each partition, `is_active` if a node is ready.
#[utoipa::path(
    get, path = "/api/apptainer/images", tag = "dashboard", operation_id = "apptainer_images",
    params(
        ("partition" = Option<String>, Query, description = "Only this partition; `shared` for what only the library holds, \
            unless a partition is called so."),
        ("type" = Option<String>, Query, description = "Only this type: `viz`, `compute` or `custom`."),
        ("is_active" = Option<String>, Query, pattern = "^(true|false|1|0)$", description = "Only images that are ready on a \
            node, or only others."),
    ),
    responses((status = 200, description = "The images; at most 2,000, of which `total` counts all.", body = ApptainerImages), ListProblems)
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Params(query): Params<ListQuery>,
) -> Result<Json<ApptainerImages>, ApiError> {
    check_filter("partition", query.partition.as_deref())?;
    check_filter("type", query.r#type.as_deref())?;
    let active = query.is_active.as_deref().map(read_flag).transpose()?;
    let (view, now) = (app.handle().views.load_full(), app.now());
    let spots = view.spots(query.partition.as_deref()).map_err(|error| view.suggest(error))?;
    let as_of = now.wall.to_string();
    let (mut images, mut total) = (Vec::new(), 0);
    // Filters come before the limit: what they leave is shown, wherever among all it stands.
    for spots in spots.chunks(MAX_ROWS) {
        let is_full = images.len() >= MAX_ROWS;
        if is_full && active.is_none() && query.r#type.is_none() {
            total += spots.len();
            continue;
        }
        let mut rows = view.rows_at(spots, now);
        rows.retain(|row| active.is_none_or(|active| active == (row.counts.ready > 0)));
        if is_full && query.r#type.is_none() {
            total += rows.len();
            continue;
        }
        let abouts = abouts(&app, &rows).await?;
        let about = |row: &Row| row.described.and_then(|digest| abouts.get(&digest));
        let shown = rows.iter().map(|row| image(&app, row, about(row), &as_of));
        let fitting = shown.filter(|image| query.r#type.as_ref().is_none_or(|kind| image.kind == *kind));
        for image in fitting {
            total += 1;
            if images.len() < MAX_ROWS {
                images.push(image);
            }
        }
    }
    Ok(Json(ApptainerImages { truncated: images.len() < total, total, images, as_of }))
}

/// Shows everything known of one image, on the partition where it stands best unless one is named.
#[utoipa::path(
    get, path = "/api/apptainer/images/{id}/metadata", tag = "dashboard", operation_id = "apptainer_metadata",
    params(
        ("id" = String, Path, description = "File name without `.sif`; slashes percent-encoded."),
        ("partition" = Option<String>, Query, description = "On this partition."),
    ),
    responses((status = 200, description = "The image.", body = ApptainerMetadata), ImageProblems)
)]
pub(super) async fn metadata(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Params(query): Params<OnQuery>,
) -> Result<Json<ApptainerMetadata>, ApiError> {
    let (row, as_of) = find(&app, &id, query.partition.as_deref())?;
    let known = match row.described {
        Some(digest) => {
            app.store().metadata(digest).await.inspect_err(|_| app.metrics().store_read_failed())?
        }
        None => None,
    };
    let about = known.as_ref().map(|(metadata, sidecar)| About::read(metadata, sidecar.as_deref()));
    let image = image(&app, &row, about.as_ref(), &as_of);
    let metadata: Option<ImageMetadata> = known.map(|(metadata, _)| metadata);
    let (runscript, env_vars, definition, help) = metadata
        .map(|said| (said.runscript, said.environment, said.definition, said.help))
        .unwrap_or_default();
    let sidecar = about.and_then(|about| about.sidecar);
    Ok(Json(ApptainerMetadata { image, runscript, env_vars, definition, help, sidecar }))
}

/// Says whether every node of a partition has an image that jobs can run; never yes by a guess.
#[utoipa::path(
    get, path = "/api/apptainer/validate/{image_id}", tag = "dashboard", operation_id = "apptainer_validate",
    params(
        ("image_id" = String, Path, description = "File name without `.sif`; slashes percent-encoded."),
        ("partition" = Option<String>, Query, description = "On this partition; where it stands best unless one is named."),
        ("Accept-Language" = Option<String>, Header, description = "`en` or `ko`: the language of sentences."),
    ),
    responses((status = 200, description = "The truthful answer, whatever it is.", body = ApptainerValidation), ImageProblems)
)]
pub(super) async fn validate(
    State(app): State<Arc<App>>,
    Wanted(language): Wanted,
    Segment(image_id): Segment,
    Params(query): Params<OnQuery>,
) -> Result<Told<ApptainerValidation>, ApiError> {
    check(&image_id, query.partition.as_deref())?;
    let (view, now) = (app.handle().views.load_full(), app.now());
    let row = view.row_to_judge(&image_id, query.partition.as_deref(), now);
    let row = row.map_err(|error| view.suggest(error))?;
    let (satisfied, shown) = if row.only_in_library {
        let facts = crate::words::Facts { image: row.name.clone(), ..crate::words::Facts::default() };
        let reason = Reason::OnlyInLibrary;
        let shown = Shown {
            reason: reason.code().to_owned(),
            message: reason.message(language, &facts),
            hint: reason.hint(language, &facts),
            counts: row.counts,
            nodeset: row.nodeset.clone(),
            path: row.path.clone(),
        };
        (Satisfied::No, shown)
    } else {
        // As it was written: a digest that stands in it counts.
        let question = Question {
            image: &image_id,
            partition: &row.partition,
            nodes: None,
            require: Require::All,
            digest: None,
            signer: None,
        };
        let finding = view.verdict(&question, now);
        (finding.satisfied, Shown::of(&finding, language))
    };
    let Shown { reason, message, hint, counts, nodeset, path } = shown;
    let answer = ApptainerValidation {
        image_id,
        valid: satisfied == Satisfied::Yes,
        path,
        message,
        partition: row.partition,
        satisfied,
        reason,
        hint,
        nodeset,
        counts,
        as_of: now.wall.to_string(),
    };
    Ok(Told(language, answer))
}

fn find(app: &App, id: &str, partition: Option<&str>) -> Result<(Row, String), ApiError> {
    check(id, partition)?;
    let (view, now) = (app.view(), app.now());
    let row = view.row_of(id, partition, now).map_err(|error| view.suggest(error))?;
    Ok((row, now.wall.to_string()))
}

fn check(id: &str, partition: Option<&str>) -> Result<(), ApiError> {
    super::check_length("id", id, MAX_ID)?;
    check_filter("partition", partition)
}

fn check_filter(name: &str, text: Option<&str>) -> Result<(), ApiError> {
    super::check_length(name, text.unwrap_or_default(), MAX_FILTER)
}

fn read_flag(text: &str) -> Result<bool, ApiError> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(ApiError::BadQuery { detail: "is_active is true or false".to_owned() }),
    }
}

/// Reads what the images of rows say of themselves, all at once.
pub(super) async fn abouts(app: &App, rows: &[Row]) -> Result<BTreeMap<Digest, About>, ApiError> {
    let mut digests: Vec<Digest> = rows.iter().filter_map(|row| row.described).collect();
    digests.sort_unstable();
    digests.dedup();
    let said = app.store().metadata_of(digests).await.inspect_err(|_| app.metrics().store_read_failed())?;
    let read = said.iter().map(|(digest, said, sidecar)| (*digest, About::read(said, sidecar.as_deref())));
    Ok(read.collect())
}

/// Shows a row as dashboards do.
fn image(app: &App, row: &Row, about: Option<&About>, as_of: &str) -> ApptainerImage {
    let about = about.cloned().unwrap_or_default();
    let vnc = app.dashboard().vnc_partition.as_str();
    let kind = match row.partition.as_str() {
        partition if partition == vnc => "viz",
        _ if row.of_library => "custom",
        _ => "compute",
    };
    ApptainerImage {
        id: row.id.clone(),
        name: row.name.clone(),
        path: row.path.clone(),
        node: row.node.clone(),
        partition: row.partition.clone(),
        kind: about.kind.unwrap_or_else(|| kind.to_owned()),
        size: row.size,
        version: about.version,
        description: about.description,
        labels: about.labels,
        apps: about.apps,
        is_active: row.counts.ready > 0,
        created_at: about.created,
        last_scanned: as_of.to_owned(),
        digest: row.digest.map(|digest| digest.to_string()),
        verdict: row.verdict,
        counts: row.counts,
        nodeset: row.nodeset.clone(),
    }
}
