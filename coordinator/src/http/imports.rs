//! `POST /v1/imports`, `GET /v1/imports` and `GET /v1/imports/{id}`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use sifleet_common::api::imports::{ImportBody, ImportList, ImportRequest};

use super::App;
use super::extract::{Json, Segment};
use super::problem::{ApiError, Code, problems};
use super::registries::created;
use crate::registries::imports::{ImportError, Wanted};

problems!(CreateProblems: BadImport, BadUpload, BadJson, SlowBody, BodyTooLarge, UnsupportedMediaType,
    UnknownRegistry, NoLibrary, TooManyImports);
problems!(ListProblems:);
problems!(ShowProblems: BadQuery, UnknownImport);

/// Has the library take in an image of a registry in the catalogue. However many ask for it at once, it comes once: they are told of
/// the same import.
#[utoipa::path(
    post, path = "/v1/imports", tag = "library", operation_id = "import",
    request_body = ImportRequest,
    responses(
        (status = 200, description = "The import, which goes on already.", body = ImportBody),
        (status = 201, description = "The import.", body = ImportBody),
        CreateProblems,
    )
)]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Json(request): Json<ImportRequest>,
) -> Result<Response, ApiError> {
    app.library()?;
    let wish = Wanted { source: &request.source, name: request.name.as_deref(), pass: None };
    let (import, is_new) = app.imports().begin(app.catalogue(), wish, app.now().wall)?;
    let location = format!("/v1/imports/{}", import.id);
    let response = Json(import).into_response();
    Ok(if is_new { created(&location, response) } else { response })
}

/// Lists imports, newest first.
#[utoipa::path(
    get, path = "/v1/imports", tag = "library", operation_id = "imports",
    responses((status = 200, description = "Those that go on, and the last that ended.", body = ImportList),
        ListProblems)
)]
pub(super) async fn list(State(app): State<Arc<App>>) -> Json<ImportList> {
    Json(ImportList { imports: app.imports().list(), as_of: app.now().wall.to_string() })
}

/// Tells how an import stands.
#[utoipa::path(
    get, path = "/v1/imports/{id}", tag = "library", operation_id = "import_shown",
    params(("id" = String, Path, description = "What the import is called, such as i-1795363200.")),
    responses((status = 200, description = "How it stands.", body = ImportBody), ShowProblems)
)]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<ImportBody>, ApiError> {
    Ok(Json(app.imports().look(&id)?))
}

/// Names what outsiders are told about an import that is not begun, or not found.
pub(super) fn code(error: &ImportError) -> Code {
    match error {
        ImportError::Reference(_) | ImportError::Name(_) | ImportError::NoManifest { .. } => Code::BadImport,
        ImportError::Library(error) => super::library::code(error),
        ImportError::Unlisted { .. } => Code::UnknownRegistry,
        ImportError::TooMany | ImportError::TooManyPreheats => Code::TooManyImports,
        ImportError::Unknown { .. } => Code::UnknownImport,
        ImportError::UnknownPreheat { .. } => Code::UnknownPreheat,
    }
}
