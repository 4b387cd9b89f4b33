//! `POST /v1/library/uploads`, and what can be asked of an upload: `GET`, `PATCH`, `DELETE`, `POST …/finish`.
//!
//! Moves bytes between a request and [`crate::library`], a piece at a time, and lets disks be waited for elsewhere than
//! on the threads that answer. These routes have no deadline: reading an image back takes as long as it takes. Whoever
//! sends nothing for too long is dropped all the same.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use sifleet_common::api::library::{Upload, UploadRequest, UploadState};

use super::App;
use super::extract::{Json, Segment};
use super::problem::{ApiError, Code, cut, problems};
use crate::library::{Library, LibraryError, Stage, Standing, UploadId, Writing};

/// Where the bytes of a request begin, and where the next ones should.
const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
/// Most bytes of one request: a client that is cut off has little to ask about, and stopping waits for little.
const MAX_PIECE: usize = 64 * 1024 * 1024;
/// Bytes that are collected before the disk is asked: below it the asking costs more than the writing.
const WRITE: usize = 1024 * 1024;

problems!(BeginProblems: BadUpload, BadJson, SlowBody, InTheWay, UploadBusy, BodyTooLarge,
    UnsupportedMediaType, NoLibrary, TooManyUploads, NoSpace);
problems!(LookProblems: BadQuery, UnknownUpload, NoLibrary, TooManyUploads);
problems!(AppendProblems: BadQuery, UnknownUpload, SlowBody, UploadBusy, WrongOffset, BodyTooLarge,
    NoLibrary, TooManyUploads, NoSpace);
problems!(FinishProblems: BadQuery, UnknownUpload, UploadBusy, WrongOffset, InTheWay, WrongDigest,
    NotAnImage, NoLibrary, TooManyUploads, NoSpace);
problems!(AbandonProblems: BadQuery, UnknownUpload, UploadBusy, NoLibrary, TooManyUploads);

/// Begins an upload, or goes on with one that was broken off. Where the library holds the image already, nothing is
/// to be sent.
#[utoipa::path(
    post, path = "/v1/library/uploads", tag = "library", operation_id = "upload",
    request_body = UploadRequest,
    responses((status = 200, description = "How the upload stands: `open` with `id` and `offset`, or `present` or \
        `deduplicated`.", body = Upload), BeginProblems)
)]
pub(super) async fn begin(
    State(app): State<Arc<App>>,
    Json(request): Json<UploadRequest>,
) -> Result<Json<Upload>, ApiError> {
    let library = app.library()?;
    let bad = |detail: String| ApiError::BadJson { detail };
    let name = request
        .name
        .parse()
        .map_err(|error: sifleet_common::name::NameError| bad(cut(&error.to_string())))?;
    let digest: sifleet_common::digest::Digest = request
        .digest
        .parse()
        .map_err(|error: sifleet_common::digest::DigestError| bad(cut(&error.to_string())))?;
    let size = request.size;
    on_disk(library, move |library| library.begin(name, size, digest)).await.map(body)
}

/// Tells how far an upload is.
#[utoipa::path(
    get, path = "/v1/library/uploads/{id}", tag = "library", operation_id = "upload_offset",
    params(("id" = String, Path, description = "`id` of the upload.")),
    responses((status = 200, description = "How the upload stands.", body = Upload), LookProblems)
)]
pub(super) async fn look(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<Upload>, ApiError> {
    let id = parse(&id)?;
    on_disk(app.library()?, move |library| library.look(id)).await.map(body)
}

/// Sends bytes of an upload, at most 64 MiB at once. What arrived of a request that breaks off is kept.
#[utoipa::path(
    patch, path = "/v1/library/uploads/{id}", tag = "library", operation_id = "upload_bytes",
    params(
        ("id" = String, Path, description = "`id` of the upload."),
        ("Upload-Offset" = u64, Header, description = "Where the bytes begin: the `offset` of the upload."),
    ),
    request_body(content = Option<Vec<u8>>, content_type = "application/octet-stream", description = "The bytes."),
    responses((status = 200, description = "How the upload stands.", body = Upload), AppendProblems)
)]
pub(super) async fn append(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    headers: HeaderMap,
    content: Body,
) -> Response {
    match receive(&app, &id, &headers, content).await {
        Ok(standing) => body(standing).into_response(),
        Err(error) => {
            let has = if let ApiError::Library(LibraryError::WrongOffset { has, .. }) = &error {
                Some(*has)
            } else {
                None
            };
            let mut response = error.into_response();
            response.headers_mut().extend(has.map(|has| (UPLOAD_OFFSET, HeaderValue::from(has))));
            response
        }
    }
}

/// Verifies an upload of which all bytes were sent, and puts it into the library under its name.
#[utoipa::path(
    post, path = "/v1/library/uploads/{id}/finish", tag = "library", operation_id = "upload_finish",
    params(("id" = String, Path, description = "`id` of the upload.")),
    responses((status = 200, description = "The image is in the library, for good.", body = Upload), FinishProblems)
)]
pub(super) async fn finish(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<Upload>, ApiError> {
    let id = parse(&id)?;
    on_disk(app.library()?, move |library| library.finish(id)).await.map(body)
}

/// Throws an upload away. Those that nobody touches for seven days go by themselves.
#[utoipa::path(
    delete, path = "/v1/library/uploads/{id}", tag = "library", operation_id = "upload_abandon",
    params(("id" = String, Path, description = "`id` of the upload.")),
    responses((status = 200, description = "How far it was.", body = Upload), AbandonProblems)
)]
pub(super) async fn abandon(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<Upload>, ApiError> {
    let id = parse(&id)?;
    on_disk(app.library()?, move |library| library.abandon(id)).await.map(body)
}

fn parse(id: &str) -> Result<UploadId, ApiError> {
    id.parse().map_err(|_no_id: std::num::ParseIntError| ApiError::BadQuery {
        detail: format!("{:?} is not the id of an upload", cut(id)),
    })
}

fn body(standing: Standing) -> Json<Upload> {
    let Standing { name, size, expected, digest: _, stage } = standing;
    let (state, id, offset) = match stage {
        Stage::Present => (UploadState::Present, None, size),
        Stage::Deduplicated => (UploadState::Deduplicated, None, size),
        Stage::Published => (UploadState::Published, None, size),
        Stage::Open(id, offset) => (UploadState::Open, Some(id.to_string()), offset),
    };
    Json(Upload { state, id, offset, name: name.into(), size, digest: expected.to_string() })
}

/// Works where blocking is allowed. Who asked may go away; what was begun is done all the same.
async fn on_disk<T: Send + 'static>(
    library: &Library,
    work: impl FnOnce(&Library) -> Result<T, LibraryError> + Send + 'static,
) -> Result<T, ApiError> {
    let (place, library) = (library.enter()?, library.clone());
    let done = tokio::task::spawn_blocking(move || {
        let _place = place;
        work(&library)
    });
    Ok(done.await.map_err(ApiError::Blocking)??)
}

async fn receive(app: &App, id: &str, headers: &HeaderMap, content: Body) -> Result<Standing, ApiError> {
    let (library, id) = (app.library()?, parse(id)?);
    let offset = headers.get(UPLOAD_OFFSET).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let offset = offset.ok_or_else(|| ApiError::BadQuery {
        detail: "the header Upload-Offset is missing, or is no number of bytes".to_owned(),
    })?;
    let mut writing = on_disk(library, move |library| library.write(id, offset)).await?;
    let mut chunks = content.into_data_stream();
    let (mut waiting, mut taken) = (Vec::with_capacity(WRITE), 0_usize);
    let patience = app.limits().server.stall_timeout;
    let ended = loop {
        let chunk = match next(&mut chunks, patience).await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        taken = taken.saturating_add(chunk.len());
        if taken > MAX_PIECE {
            break Err(ApiError::BodyTooLarge { max: MAX_PIECE });
        }
        waiting.extend_from_slice(&chunk);
        if waiting.len() >= WRITE {
            let piece = std::mem::replace(&mut waiting, Vec::with_capacity(WRITE));
            writing = write(library, writing, piece).await?;
        }
    };
    // What came before the end is good, however it ended.
    let writing = write(library, writing, waiting).await?;
    ended.map(|()| writing.standing())
}

async fn write(library: &Library, mut writing: Writing, piece: Vec<u8>) -> Result<Writing, ApiError> {
    on_disk(library, move |_| writing.append(&piece).map(|()| writing)).await
}

/// Waits for the next bytes of a body, but not for ever.
pub(super) async fn next(
    chunks: &mut axum::body::BodyDataStream,
    patience: Duration,
) -> Result<Option<axum::body::Bytes>, ApiError> {
    match tokio::time::timeout(patience, chunks.next()).await {
        Ok(Some(Ok(chunk))) => Ok(Some(chunk)),
        Ok(None) => Ok(None),
        Ok(Some(Err(error))) => {
            Err(ApiError::BadQuery { detail: format!("the bytes ended early: {}", cut(&error.to_string())) })
        }
        Err(_elapsed) => Err(ApiError::SlowBody { seconds: patience.as_secs() }),
    }
}

/// Names what outsiders are told about an error of the library.
pub(crate) fn code(error: &LibraryError) -> Code {
    match error {
        LibraryError::BadName { .. } | LibraryError::BadSize { .. } => Code::BadUpload,
        LibraryError::InTheWay { .. } => Code::InTheWay,
        LibraryError::UnknownUpload { .. } => Code::UnknownUpload,
        LibraryError::Busy { .. } => Code::UploadBusy,
        LibraryError::TooManyUploads { .. } => Code::TooManyUploads,
        LibraryError::WrongOffset { .. } => Code::WrongOffset,
        LibraryError::TooLong { .. } => Code::BodyTooLarge,
        LibraryError::WrongDigest { .. } => Code::WrongDigest,
        LibraryError::NotAnImage { .. } => Code::NotAnImage,
        LibraryError::NoSpace { .. } => Code::NoSpace,
        LibraryError::Disk { .. } if error.is_no_space() => Code::NoSpace,
        LibraryError::Disk { .. } => Code::Internal,
    }
}
