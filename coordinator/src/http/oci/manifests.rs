//! `end-3`, `end-7` and `end-9`: manifests, by tag or digest.

use axum::body::Body;
use axum::http::{HeaderName, Method, StatusCode, header};
use axum::response::Response;

use super::{CONTENT_DIGEST, Call, bare, set, text};
use crate::http::App;
use crate::http::library::next;
use crate::http::problem::ApiError;
use crate::oci::error::OciError;
use crate::oci::manifest::MAX_MANIFEST;
use crate::oci::name::{Reference, Repository, Tag};
use crate::oci::{Pushed, Registry};

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
/// Most tags that one push names besides.
const MAX_TAGS: usize = 16;

pub(super) async fn serve(
    app: &App,
    registry: &Registry,
    (name, reference): (Repository, &str),
    (call, body): (Call, Body),
) -> Result<Response, ApiError> {
    let meant = reference.parse::<Reference>();
    match call.method {
        Method::GET | Method::HEAD => {
            let meant = meant.map_err(|error| unknown(error, &name))?;
            get(registry, (&name, &meant), &call).await
        }
        Method::PUT => put(app, registry, (name, meant?), (call, body)).await,
        Method::DELETE => {
            registry.delete_manifest(&name, &meant?).await?;
            Ok(bare(StatusCode::ACCEPTED))
        }
        _ => Err(call.not_allowed()),
    }
}

/// What cannot be a tag is the tag of nothing: clients ask so to learn whether something is there.
fn unknown(error: OciError, name: &Repository) -> OciError {
    if matches!(error, OciError::BadTag { .. }) {
        OciError::UnknownName { repository: name.clone() }
    } else {
        error
    }
}

async fn get(
    registry: &Registry,
    (name, reference): (&Repository, &Reference),
    call: &Call,
) -> Result<Response, ApiError> {
    // Whoever only asks whether it is there moves no image for that.
    let found = registry.find(name, reference, !call.is_head()).await?;
    let mut response = text(call, &found.media_type, found.bytes);
    set(&mut response, header::ETAG, &format!("\"{}\"", found.digest));
    set(&mut response, CONTENT_DIGEST, &found.digest);
    Ok(response)
}

async fn put(
    app: &App,
    registry: &Registry,
    (repository, reference): (Repository, Reference),
    (call, body): (Call, Body),
) -> Result<Response, ApiError> {
    let named = call.query.iter().filter(|(key, _)| key == "tag");
    let tags = named.map(|(_, tag)| tag.parse()).collect::<Result<Vec<Tag>, OciError>>()?;
    if tags.len() > MAX_TAGS {
        return Err(super::bad(format!(
            "{} tags are named, at most {MAX_TAGS} are taken at once",
            tags.len()
        )));
    }
    let content_type = call.header(&header::CONTENT_TYPE).map(str::to_owned);
    let bytes = receive(app, body).await?;
    let said = tags.clone();
    let pushed = Pushed { repository: repository.clone(), reference, tags, content_type, bytes };
    let taken = registry.put_manifest(pushed).await?;
    let mut response = bare(StatusCode::CREATED);
    set(&mut response, header::LOCATION, &format!("/v2/{repository}/manifests/{}", taken.digest));
    set(&mut response, CONTENT_DIGEST, &taken.digest);
    for tag in said {
        set(&mut response, OCI_TAG, &tag);
    }
    if let Some(subject) = taken.subject {
        set(&mut response, OCI_SUBJECT, &subject);
    }
    Ok(response)
}

async fn receive(app: &App, body: Body) -> Result<Vec<u8>, ApiError> {
    let (mut chunks, mut bytes) = (body.into_data_stream(), Vec::new());
    let patience = app.limits().server.stall_timeout;
    while let Some(chunk) = next(&mut chunks, patience).await? {
        if bytes.len().saturating_add(chunk.len()) > MAX_MANIFEST {
            return Err(OciError::ManifestTooLarge { max: MAX_MANIFEST }.into());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
