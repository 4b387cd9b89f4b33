//! The one table from errors to what OCI clients are told: a status, a code of the specification, and a JSON body.
//!
//! Everything else about errors (what is logged, what outsiders may know) is as elsewhere: see [`super::super::problem`].

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;

use crate::http::problem::{ApiError, Code};
use crate::oci::error::OciError;

/// Codes of the specification's section "Error Codes".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum OciCode {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    Unknown,
}

impl OciCode {
    /// Returns the code as it is written.
    pub(in crate::http) const fn name(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            // Not of the specification, which names none for failures of the registry; clients show it.
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// Returns the status and the code that stand for an error.
pub(in crate::http) fn row(error: &ApiError) -> (StatusCode, OciCode) {
    if let ApiError::Oci(error) = error
        && let Some(row) = row_of(error)
    {
        return row;
    }
    let status = error.code().row().status;
    let code = match status {
        StatusCode::UNAUTHORIZED => OciCode::Unauthorized,
        StatusCode::FORBIDDEN => OciCode::Denied,
        StatusCode::NOT_FOUND => OciCode::NameUnknown,
        StatusCode::TOO_MANY_REQUESTS => OciCode::TooManyRequests,
        StatusCode::PAYLOAD_TOO_LARGE => OciCode::SizeInvalid,
        _ if status.is_server_error() => OciCode::Unknown,
        _ => OciCode::Unsupported,
    };
    (status, code)
}

/// Returns the row of what only OCI clients can meet; none for what others meet too.
fn row_of(error: &OciError) -> Option<(StatusCode, OciCode)> {
    use StatusCode as S;
    Some(match error {
        OciError::BadName { .. } => (S::BAD_REQUEST, OciCode::NameInvalid),
        OciError::BadTag { .. } | OciError::BadManifest { .. } => (S::BAD_REQUEST, OciCode::ManifestInvalid),
        OciError::BadDigest { .. } => (S::BAD_REQUEST, OciCode::DigestInvalid),
        OciError::BadRequest { .. } => (S::BAD_REQUEST, OciCode::Unsupported),
        OciError::UnknownName { .. } => (S::NOT_FOUND, OciCode::NameUnknown),
        OciError::UnknownManifest { .. } | OciError::Unsettled { .. } => {
            (S::NOT_FOUND, OciCode::ManifestUnknown)
        }
        OciError::NotFetched { .. } => (S::SERVICE_UNAVAILABLE, OciCode::ManifestUnknown),
        OciError::MissingBlob { .. } => (S::NOT_FOUND, OciCode::ManifestBlobUnknown),
        OciError::UnknownBlob { .. } => (S::NOT_FOUND, OciCode::BlobUnknown),
        OciError::UnknownUpload { .. } => (S::NOT_FOUND, OciCode::BlobUploadUnknown),
        OciError::Busy { .. } => (S::CONFLICT, OciCode::BlobUploadInvalid),
        OciError::OutOfOrder { .. } => (S::RANGE_NOT_SATISFIABLE, OciCode::BlobUploadInvalid),
        OciError::WrongSize { .. } => (S::BAD_REQUEST, OciCode::SizeInvalid),
        OciError::TooLarge { .. } | OciError::ManifestTooLarge { .. } => {
            (S::PAYLOAD_TOO_LARGE, OciCode::SizeInvalid)
        }
        OciError::NameTaken { .. } => (S::CONFLICT, OciCode::Denied),
        OciError::Quota { .. } => (S::INSUFFICIENT_STORAGE, OciCode::Denied),
        OciError::TooMany { .. } => (S::TOO_MANY_REQUESTS, OciCode::TooManyRequests),
        OciError::BadRange { .. } => (S::RANGE_NOT_SATISFIABLE, OciCode::BlobUnknown),
        OciError::Unsupported { .. } => (S::METHOD_NOT_ALLOWED, OciCode::Unsupported),
        OciError::Library(crate::library::LibraryError::BadName { .. }) => {
            (S::BAD_REQUEST, OciCode::NameInvalid)
        }
        OciError::Library(_)
        | OciError::Push(_)
        | OciError::Store(_)
        | OciError::Stopping(_)
        | OciError::Lost => return None,
    })
}

/// Names what is logged and counted of an error; see [`row`] for what clients are told.
pub(in crate::http) fn code(error: &OciError) -> Code {
    match error {
        OciError::BadName { .. }
        | OciError::BadTag { .. }
        | OciError::BadRequest { .. }
        | OciError::WrongSize { .. }
        | OciError::BadRange { .. }
        | OciError::Unsupported { .. } => Code::BadQuery,
        OciError::BadManifest { .. } => Code::BadJson,
        OciError::BadDigest { .. } => Code::WrongDigest,
        OciError::UnknownName { .. }
        | OciError::UnknownManifest { .. }
        | OciError::Unsettled { .. }
        | OciError::MissingBlob { .. }
        | OciError::UnknownBlob { .. } => Code::UnknownImage,
        OciError::UnknownUpload { .. } => Code::UnknownUpload,
        OciError::Busy { .. } => Code::UploadBusy,
        OciError::OutOfOrder { .. } => Code::WrongOffset,
        OciError::TooLarge { .. } | OciError::ManifestTooLarge { .. } => Code::BodyTooLarge,
        OciError::NameTaken { .. } => Code::InTheWay,
        OciError::Quota { .. } => Code::NoSpace,
        OciError::TooMany { .. } => Code::TooManyUploads,
        OciError::NotFetched { .. } => Code::NoHolder,
        OciError::Library(error) => crate::http::library::code(error),
        OciError::Push(error) => crate::http::problem::code_of_push(error),
        OciError::Stopping(_) => Code::Stopping,
        OciError::Store(crate::store::StoreError::NotWritten) => Code::NotStored,
        OciError::Store(_) | OciError::Lost => Code::Internal,
    }
}

/// Makes the body of a refusal. Of an internal failure it tells nothing but the request's id, which finds it in the log.
pub(in crate::http) fn body(error: &ApiError, request: &str) -> Vec<u8> {
    let problem = error.problem(Some(request));
    let (_, code) = row(error);
    let detail = json!({"code": problem.code, "hint": problem.hint, "request_id": problem.request_id});
    let body = json!({"errors": [{"code": code.name(), "message": problem.detail, "detail": detail}]});
    serde_json::to_vec(&body).unwrap_or_default()
}

/// Returns the header that says how to do better: registry clients take passwords where others take bearers.
pub(in crate::http) fn challenge(error: &ApiError) -> Option<(HeaderName, HeaderValue)> {
    let unknown = matches!(error, ApiError::Unauthenticated { .. });
    let ask = (header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"sifleet\""));
    if unknown { Some(ask) } else { error.header() }
}
