//! `end-2` and `end-10`: blobs, whole or in part, and their deletion.

use std::io;
use std::ops::Range;

use axum::body::{Body, Bytes};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio::task::JoinHandle;

use super::range::{Wanted, wanted};
use super::{CONTENT_DIGEST, Call, bare, set};
use crate::http::problem::ApiError;
use crate::oci::digest::OciDigest;
use crate::oci::error::OciError;
use crate::oci::name::Repository;
use crate::oci::{Blob, Piece, Registry};

/// A piece that is being read.
type Ahead = JoinHandle<(Piece, io::Result<Option<Vec<u8>>>)>;

pub(super) async fn serve(
    registry: &Registry,
    (name, digest): (&Repository, &OciDigest),
    call: &Call,
) -> Result<Response, ApiError> {
    match call.method {
        Method::GET | Method::HEAD => get(registry, registry.blob(name, digest).await?, digest, call).await,
        Method::DELETE => {
            registry.delete_blob(name, digest).await?;
            Ok(bare(StatusCode::ACCEPTED))
        }
        _ => Err(call.not_allowed()),
    }
}

async fn get(registry: &Registry, blob: Blob, digest: &OciDigest, call: &Call) -> Result<Response, ApiError> {
    let size = blob.size;
    let tag = format!("\"{digest}\"");
    // Whoever has a part of something else is given all.
    let is_same = call.header(&header::IF_RANGE).is_none_or(|held| held == tag);
    // A part can only be asked for of what is sent (RFC 9110 section 14.2).
    let asked = call.header(&header::RANGE).filter(|_| is_same && !call.is_head());
    let (status, range) = match wanted(asked, size) {
        Wanted::All => (StatusCode::OK, 0..size),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Nothing => {
            let mut response = ApiError::from(OciError::BadRange { size }).into_response();
            set(&mut response, header::CONTENT_RANGE, &format!("bytes */{size}"));
            return Ok(response);
        }
    };
    let mut response = if call.is_head() { bare(status) } else { send(registry, blob, &range).await? };
    *response.status_mut() = status;
    if status == StatusCode::PARTIAL_CONTENT {
        let last = range.end.saturating_sub(1);
        set(&mut response, header::CONTENT_RANGE, &format!("bytes {}-{last}/{size}", range.start));
    }
    set(&mut response, header::CONTENT_LENGTH, &range.end.saturating_sub(range.start));
    set(&mut response, header::CONTENT_TYPE, "application/octet-stream");
    set(&mut response, header::ACCEPT_RANGES, "bytes");
    set(&mut response, header::ETAG, &tag);
    set(&mut response, CONTENT_DIGEST, digest);
    Ok(response)
}

async fn send(registry: &Registry, blob: Blob, range: &Range<u64>) -> Result<Response, ApiError> {
    let piece = registry.download(blob, range.start, range.end).await?;
    let stream = futures_util::stream::unfold(Some(ahead(piece)), |reading| async {
        match reading?.await {
            Ok((piece, Ok(Some(bytes)))) => Some((Ok(Bytes::from(bytes)), Some(ahead(piece)))),
            Ok((_, Ok(None))) => None,
            // The connection is cut, so that nobody takes a part for the whole.
            Ok((_, Err(error))) => Some((Err(error), None)),
            Err(lost) => Some((Err(io::Error::other(lost)), None)),
        }
    });
    Ok(Response::new(Body::from_stream(stream)))
}

/// Reads a piece while the one before is sent.
fn ahead(mut piece: Piece) -> Ahead {
    tokio::task::spawn_blocking(move || {
        let next = piece.read();
        (piece, next)
    })
}
