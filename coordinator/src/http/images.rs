//! `GET /v1/images` and `GET /v1/images/{name or digest}`.
//!
//! What an image says of itself is joined in from the store; everything else is the view's.

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;
use sifleet_common::api::images::{Described, ImageDetail, ImageList};
use sifleet_common::digest::Digest;

use super::App;
use super::extract::{Json, Params, Segment};
use super::problem::{ApiError, problems};
use crate::view::images::ImagesFilter;

/// Images on a page, unless asked otherwise.
const PAGE: usize = 100;
/// Most images on a page: some hundred kilobytes.
const MAX_PAGE: usize = 1_000;
/// Longest text of a filter, in bytes: a name of an image as a cursor.
const MAX_FILTER: usize = sifleet_common::name::MAX_IMAGE_NAME;
/// Most digests of a name that are described: half a megabyte of metadata each is possible.
const MAX_DESCRIBED: usize = 16;

problems!(ListProblems: BadQuery, UnknownPartition);
problems!(ShowProblems: BadQuery, BadImage, UnknownImage, AmbiguousImage);

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    partition: Option<String>,
    q: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

/// Lists images in the order of their names, a page at a time.
#[utoipa::path(
    get, path = "/v1/images", tag = "images", operation_id = "images",
    params(
        ("partition" = Option<String>, Query, description = "Only images on nodes of this partition."),
        ("q" = Option<String>, Query, description = "Only names that contain this."),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before."),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000,
            description = "Images on the page: 100 unless said otherwise, at most 1,000."),
    ),
    responses((status = 200, description = "One page of images.", body = ImageList), ListProblems)
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Params(query): Params<ListQuery>,
) -> Result<Json<ImageList>, ApiError> {
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        let detail = format!("limit is {limit}, and must be between 1 and {MAX_PAGE}");
        return Err(ApiError::BadQuery { detail });
    }
    for (name, text) in [("partition", &query.partition), ("q", &query.q), ("cursor", &query.cursor)] {
        super::check_length(name, text.as_deref().unwrap_or_default(), MAX_FILTER)?;
    }
    let ListQuery { partition, q, cursor, .. } = query;
    let filter = ImagesFilter { partition, q, cursor, limit };
    let view = app.view();
    Ok(Json(view.images(&filter, app.now()).map_err(|error| view.suggest(error))?))
}

/// Shows one image: where it is, who disagrees about it, and what it says of itself.
#[utoipa::path(
    get, path = "/v1/images/{*image}", tag = "images", operation_id = "image",
    params(("image" = String, Path, description = "Name or digest, as in the availability question; slashes need \
        no encoding.")),
    responses((status = 200, description = "Everything known of the image.", body = ImageDetail), ShowProblems)
)]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Segment(image): Segment,
) -> Result<Json<ImageDetail>, ApiError> {
    let mut detail = find(&app, &image)?;
    detail.metadata = describe(&app, &detail).await?;
    Ok(Json(detail))
}

fn find(app: &App, image: &str) -> Result<ImageDetail, ApiError> {
    let view = app.view();
    Ok(view.image(image, app.now()).map_err(|error| view.suggest(error))?)
}

/// Reads what the store knows of the image's digests; those it knows nothing of are left out.
async fn describe(app: &App, detail: &ImageDetail) -> Result<Vec<Described>, ApiError> {
    let mut described = Vec::new();
    for used in detail.summary.digests.iter().take(MAX_DESCRIBED) {
        let Ok(digest) = used.digest.parse::<Digest>() else { continue };
        let known = app.store().metadata(digest).await.inspect_err(|_| app.metrics().store_read_failed())?;
        if let Some((metadata, sidecar)) = known {
            described.push(Described { digest: used.digest.clone(), metadata, sidecar });
        }
    }
    Ok(described)
}
