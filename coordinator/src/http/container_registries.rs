//! The older paths of the catalogue: `/container_registry[/{id}]`, `/container_registries`, `/check_container_health/{id}`.
//!
//! They answer as the catalogue does that people know from AIOS: longer names of fields, and every answer wrapped in `success` and
//! `data`. What goes wrong is a problem document like everywhere.
//! Outside fact: the container registry DB of AIOS v1, its documented schema and paths.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use sifleet_common::api::registries::{
    ContainerHealthAnswer, ContainerRegistriesAnswer, ContainerRegistryAnswer, ContainerRegistryDone,
    ContainerRegistryMessage, RegistryChange, RegistryQuery, RegistryRequest,
};

use super::App;
use super::extract::{Json, Segment};
use super::problem::{ApiError, problems};
use super::registries::{body, created, find, look};

problems!(ListProblems:);
problems!(CreateProblems: BadRegistry, BadJson, SlowBody, BodyTooLarge, UnsupportedMediaType, RegistryExists,
    TooManyRegistries, NotStored);
problems!(QueryProblems: BadRegistryQuery, BadJson, SlowBody, BodyTooLarge, UnsupportedMediaType);
problems!(ShowProblems: BadQuery, UnknownRegistry);
problems!(ChangeProblems: BadRegistry, BadJson, SlowBody, BodyTooLarge, UnsupportedMediaType, UnknownRegistry,
    RegistryExists, NotStored);
problems!(ForgetProblems: BadQuery, UnknownRegistry, NotStored);
problems!(CheckProblems: BadQuery, UnknownRegistry, TooManyChecks);

/// Lists all registries, by name.
#[utoipa::path(
    get, path = "/container_registry", tag = "registries", operation_id = "container_registry_list",
    responses((status = 200, description = "All registries.", body = ContainerRegistriesAnswer), ListProblems)
)]
pub(super) async fn list(State(app): State<Arc<App>>) -> Json<ContainerRegistriesAnswer> {
    let data = app.catalogue().list().iter().map(|record| body(record).into()).collect();
    Json(ContainerRegistriesAnswer { success: true, data })
}

/// Writes a registry down.
#[utoipa::path(
    post, path = "/container_registry", tag = "registries", operation_id = "container_registry_create",
    request_body = RegistryRequest,
    responses((status = 201, description = "Its id.", body = ContainerRegistryDone), CreateProblems)
)]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Json(request): Json<RegistryRequest>,
) -> Result<Response, ApiError> {
    let record = app.catalogue().add(request, app.now().wall).await?;
    let done = done("Container registry created", &record.id);
    Ok(created(&format!("/container_registry/{}", record.id), done.into_response()))
}

/// Shows a registry.
#[utoipa::path(
    get, path = "/container_registry/{id}", tag = "registries", operation_id = "container_registry",
    params(("id" = String, Path, description = "Id of the registry.")),
    responses((status = 200, description = "The registry.", body = ContainerRegistryAnswer), ShowProblems)
)]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<ContainerRegistryAnswer>, ApiError> {
    let record = app.catalogue().get(&id)?;
    Ok(Json(ContainerRegistryAnswer { success: true, data: body(&record).into() }))
}

/// Changes a registry by `$set`.
#[utoipa::path(
    put, path = "/container_registry/{id}", tag = "registries", operation_id = "container_registry_change",
    params(("id" = String, Path, description = "Id of the registry.")),
    request_body = RegistryChange,
    responses((status = 200, description = "What was done.", body = ContainerRegistryDone), ChangeProblems)
)]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Json(change): Json<RegistryChange>,
) -> Result<Json<ContainerRegistryDone>, ApiError> {
    let record = app.catalogue().set(&id, &change.set, app.now().wall).await?;
    Ok(done("Container registry updated", &record.id))
}

/// Forgets a registry.
#[utoipa::path(
    delete, path = "/container_registry/{id}", tag = "registries", operation_id = "container_registry_forget",
    params(("id" = String, Path, description = "Id of the registry.")),
    responses((status = 200, description = "What was done.", body = ContainerRegistryDone), ForgetProblems)
)]
pub(super) async fn forget(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<ContainerRegistryDone>, ApiError> {
    let record = app.catalogue().forget(&id).await?;
    Ok(done("Container registry deleted", &record.id))
}

/// Finds registries.
#[utoipa::path(
    post, path = "/container_registries", tag = "registries", operation_id = "container_registries",
    request_body(content = std::collections::BTreeMap<String, serde_json::Value>, description = "The question; `{}` asks for all."),
    responses((status = 200, description = "The registries that match.", body = ContainerRegistriesAnswer),
        QueryProblems)
)]
pub(super) async fn query(
    State(app): State<Arc<App>>,
    Json(query): Json<RegistryQuery>,
) -> Result<Json<ContainerRegistriesAnswer>, ApiError> {
    let data = find(&app, query).await?.iter().map(|record| body(record).into()).collect();
    Ok(Json(ContainerRegistriesAnswer { success: true, data }))
}

/// Looks how a registry is at this moment.
#[utoipa::path(
    get, path = "/check_container_health/{id}", tag = "registries", operation_id = "check_container_health",
    params(("id" = String, Path, description = "Id of the registry.")),
    responses((status = 200, description = "What came of it.", body = ContainerHealthAnswer), CheckProblems)
)]
pub(super) async fn check(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<ContainerHealthAnswer>, ApiError> {
    let data = look(&app, &id).await?;
    Ok(Json(ContainerHealthAnswer { success: true, data }))
}

fn done(message: &str, id: &str) -> Json<ContainerRegistryDone> {
    let data = ContainerRegistryMessage { message: message.to_owned(), id: id.to_owned() };
    Json(ContainerRegistryDone { success: true, data })
}
