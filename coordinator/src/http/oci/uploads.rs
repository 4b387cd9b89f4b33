//! `end-4` to `end-6`, `end-11`, `end-13` and `end-14`: blobs on their way here.

use axum::body::Body;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tracing::debug;

use super::range::chunk;
use super::{CONTENT_DIGEST, Call, bad, bare, set};
use crate::http::App;
use crate::http::library::next;
use crate::http::problem::ApiError;
use crate::library::UploadId;
use crate::oci::digest::OciDigest;
use crate::oci::error::OciError;
use crate::oci::name::Repository;
use crate::oci::{Receiving, Registry};

/// Bytes that are collected before the disk is asked: below it the asking costs more than the writing.
const WRITE: usize = 1024 * 1024;

/// `POST …/blobs/uploads/`: begins an upload, takes a whole blob at once, or finds one that is here already.
pub(super) async fn begin(
    app: &App,
    registry: &Registry,
    name: &Repository,
    (call, body): (Call, Body),
) -> Result<Response, ApiError> {
    if call.method != Method::POST {
        return Err(call.not_allowed());
    }
    if let Some(mounted) = call.query("mount") {
        let digest: OciDigest = mounted.parse()?;
        // Blobs are the same in all repositories, so that it does not matter from which.
        match registry.blob(name, &digest).await {
            Ok(_) => return Ok(created(name, &digest)),
            Err(OciError::UnknownBlob { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let whole = call.query("digest").map(str::parse::<OciDigest>).transpose()?;
    let id = registry.begin_upload().await?;
    let Some(digest) = whole else { return Ok(standing(StatusCode::ACCEPTED, name, (id, 0))) };
    let receiving = registry.receive(id, Some(0)).await?;
    let taken = take(app, receiving, (call.headers, body)).await;
    let ended = match taken {
        Ok(receiving) => receiving.finish(digest.clone()).await.map_err(ApiError::from),
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        // Nobody knows its identifier, so that nobody could go on with it; a digest that differs threw it away already.
        if let Err(left) = registry.cancel_upload(id).await {
            debug!(error = %left, "an upload is left to be reaped, or gone");
        }
        return Err(error);
    }
    Ok(created(name, &digest))
}

/// `…/blobs/uploads/ID`: more bytes, the end, how far it is, or nothing more of it.
pub(super) async fn serve(
    app: &App,
    registry: &Registry,
    (name, id): (&Repository, &str),
    (call, body): (Call, Body),
) -> Result<Response, ApiError> {
    let id: UploadId = id.parse().map_err(|_no_id: std::num::ParseIntError| OciError::UnknownUpload {
        id: crate::http::problem::cut(id),
    })?;
    match call.method {
        Method::GET | Method::HEAD => {
            call.must_be_operator()?;
            let has = registry.upload_offset(id).await?;
            Ok(standing(StatusCode::NO_CONTENT, name, (id, has)))
        }
        Method::PATCH => match append(app, registry, id, (call.headers, body)).await {
            Ok(receiving) => Ok(standing(StatusCode::ACCEPTED, name, (id, receiving.has()))),
            Err(error) => Ok(refused(error, name)),
        },
        Method::PUT => {
            let digest =
                call.query("digest").ok_or_else(|| bad("the parameter digest is missing".to_owned()))?;
            let digest: OciDigest = digest.parse()?;
            match append(app, registry, id, (call.headers, body)).await {
                Ok(receiving) => {
                    receiving.finish(digest.clone()).await?;
                    Ok(created(name, &digest))
                }
                Err(error) => Ok(refused(error, name)),
            }
        }
        Method::DELETE => {
            registry.cancel_upload(id).await?;
            Ok(bare(StatusCode::NO_CONTENT))
        }
        _ => Err(call.not_allowed()),
    }
}

async fn append(
    app: &App,
    registry: &Registry,
    id: UploadId,
    (headers, body): (HeaderMap, Body),
) -> Result<Receiving, ApiError> {
    let text = |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    let range = match text(header::CONTENT_RANGE) {
        Some(said) => {
            Some(chunk(said).ok_or_else(|| bad(format!("Content-Range is {said:?}: write FIRST-LAST")))?)
        }
        None => None,
    };
    let receiving = registry.receive(id, range.map(|(first, _)| first)).await?;
    let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    match (range, length) {
        (Some((_, announced)), Some(came)) if announced != came => {
            Err(OciError::WrongSize { announced, came }.into())
        }
        _ => take(app, receiving, (headers, body)).await,
    }
}

/// Moves the bytes of a request into an upload. What arrived of a request that breaks off is kept.
async fn take(
    app: &App,
    mut receiving: Receiving,
    (headers, body): (HeaderMap, Body),
) -> Result<Receiving, ApiError> {
    let said = headers.get(header::CONTENT_RANGE).and_then(|value| chunk(value.to_str().ok()?));
    let most = said.map_or(u64::MAX, |(_, length)| length);
    let mut chunks = body.into_data_stream();
    let (mut waiting, mut came) = (Vec::with_capacity(WRITE), 0_u64);
    let patience = app.limits().server.stall_timeout;
    let ended = loop {
        let chunk = match next(&mut chunks, patience).await {
            Ok(Some(chunk)) => chunk,
            Ok(None) if said.is_some() && came != most => {
                break Err(OciError::WrongSize { announced: most, came }.into());
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        came = came.saturating_add(chunk.len() as u64);
        if came > most {
            break Err(OciError::WrongSize { announced: most, came }.into());
        }
        waiting.extend_from_slice(&chunk);
        if waiting.len() >= WRITE {
            let piece = std::mem::replace(&mut waiting, Vec::with_capacity(WRITE));
            receiving = receiving.append(piece).await?;
        }
    };
    let receiving = receiving.append(waiting).await?;
    ended.map(|()| receiving)
}

/// Says how an upload stands.
fn standing(status: StatusCode, name: &Repository, (id, has): (UploadId, u64)) -> Response {
    let mut response = bare(status);
    locate(&mut response, name, (id, has));
    response
}

fn locate(response: &mut Response, name: &Repository, (id, has): (UploadId, u64)) {
    set(response, header::LOCATION, &format!("/v2/{name}/blobs/uploads/{id}"));
    // The end is the last byte, so that an upload without any looks as one with a single byte: clients expect that.
    set(response, header::RANGE, &format!("0-{}", has.saturating_sub(1)));
}

/// Refuses bytes; those that do not follow are told where to go on.
fn refused(error: ApiError, name: &Repository) -> Response {
    let at = if let ApiError::Oci(OciError::OutOfOrder { id, has, .. }) = &error {
        Some((*id, *has))
    } else {
        None
    };
    let mut response = error.into_response();
    if let Some(at) = at {
        locate(&mut response, name, at);
    }
    response
}

fn created(name: &Repository, digest: &OciDigest) -> Response {
    let mut response = bare(StatusCode::CREATED);
    set(&mut response, header::LOCATION, &format!("/v2/{name}/blobs/{digest}"));
    set(&mut response, CONTENT_DIGEST, digest);
    response
}
