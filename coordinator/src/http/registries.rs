//! `/v1/registries`: who the external registries are, how they are, and with what we sign in there.
//!
//! The older paths for the same are in [`super::container_registries`]. Credentials come in here and never go out.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use sifleet_common::api::registries::{
    CredentialsRequest, RegistryBody, RegistryChange, RegistryHealth, RegistryList, RegistryQuery,
    RegistryRequest,
};

use super::App;
use super::extract::{Json, Segment};
use super::problem::{ApiError, problems};
use crate::registries::health;
use crate::store::registry::RegistryRecord;

problems!(ListProblems:);
problems!(CreateProblems: BadRegistry, BadJson, SlowBody, BodyTooLarge, UnsupportedMediaType, RegistryExists,
    TooManyRegistries, NotStored);
problems!(QueryProblems: BadRegistryQuery, BadJson, SlowBody, BodyTooLarge, UnsupportedMediaType);
problems!(ShowProblems: BadQuery, UnknownRegistry);
problems!(ChangeProblems: BadRegistry, BadJson, SlowBody, BodyTooLarge, UnsupportedMediaType, UnknownRegistry,
    RegistryExists, NotStored);
problems!(ForgetProblems: BadQuery, UnknownRegistry, NotStored);
problems!(SignInProblems: BadRegistry, BadJson, SlowBody, BodyTooLarge, UnsupportedMediaType, UnknownRegistry,
    NotStored);
problems!(CheckProblems: BadQuery, UnknownRegistry, TooManyChecks);

/// Lists all registries, by name.
#[utoipa::path(
    get, path = "/v1/registries", tag = "registries", operation_id = "registries",
    responses((status = 200, description = "All registries.", body = RegistryList), ListProblems)
)]
pub(super) async fn list(State(app): State<Arc<App>>) -> Json<RegistryList> {
    let all = app.catalogue().list();
    Json(listed(&app, all.iter().map(|record| &**record)))
}

/// Writes a registry down.
#[utoipa::path(
    post, path = "/v1/registries", tag = "registries", operation_id = "registry_create",
    request_body = RegistryRequest,
    responses((status = 201, description = "The registry.", body = RegistryBody), CreateProblems)
)]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Json(request): Json<RegistryRequest>,
) -> Result<Response, ApiError> {
    let record = app.catalogue().add(request, app.now().wall).await?;
    Ok(created(&format!("/v1/registries/{}", record.id), Json(body(&record)).into_response()))
}

/// Finds registries.
#[utoipa::path(
    post, path = "/v1/registries/query", tag = "registries", operation_id = "registry_query",
    request_body(content = std::collections::BTreeMap<String, serde_json::Value>, description = "The question; `{}` asks for all."),
    responses((status = 200, description = "The registries that match.", body = RegistryList), QueryProblems)
)]
pub(super) async fn query(
    State(app): State<Arc<App>>,
    Json(query): Json<RegistryQuery>,
) -> Result<Json<RegistryList>, ApiError> {
    let found = find(&app, query).await?;
    Ok(Json(listed(&app, &found)))
}

/// Shows a registry; its name will do as well as its id.
#[utoipa::path(
    get, path = "/v1/registries/{id}", tag = "registries", operation_id = "registry",
    params(("id" = String, Path, description = "Id or name of the registry.")),
    responses((status = 200, description = "The registry.", body = RegistryBody), ShowProblems)
)]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<RegistryBody>, ApiError> {
    Ok(Json(body(&*app.catalogue().get(&id)?)))
}

/// Changes a registry. Credentials are forgotten where it gets another address.
#[utoipa::path(
    put, path = "/v1/registries/{id}", tag = "registries", operation_id = "registry_change",
    params(("id" = String, Path, description = "Id or name of the registry.")),
    request_body = RegistryChange,
    responses((status = 200, description = "The registry as it is from here on.", body = RegistryBody),
        ChangeProblems)
)]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Json(change): Json<RegistryChange>,
) -> Result<Json<RegistryBody>, ApiError> {
    Ok(Json(body(&*app.catalogue().set(&id, &change.set, app.now().wall).await?)))
}

/// Forgets a registry and its credentials.
#[utoipa::path(
    delete, path = "/v1/registries/{id}", tag = "registries", operation_id = "registry_forget",
    params(("id" = String, Path, description = "Id or name of the registry.")),
    responses((status = 200, description = "The registry as it was.", body = RegistryBody), ForgetProblems)
)]
pub(super) async fn forget(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<RegistryBody>, ApiError> {
    Ok(Json(body(&*app.catalogue().forget(&id).await?)))
}

/// Sets with what we sign in at a registry. Nobody is shown it again, and it goes to the registry's present host alone.
#[utoipa::path(
    put, path = "/v1/registries/{id}/credentials", tag = "registries", operation_id = "registry_sign_in",
    params(("id" = String, Path, description = "Id or name of the registry.")),
    request_body = CredentialsRequest,
    responses((status = 200, description = "The registry, without the credentials.", body = RegistryBody),
        SignInProblems)
)]
pub(super) async fn sign_in(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Json(request): Json<CredentialsRequest>,
) -> Result<Json<RegistryBody>, ApiError> {
    Ok(Json(body(&*app.catalogue().sign_in(&id, Some(request), app.now().wall).await?)))
}

/// Forgets with what we sign in at a registry.
#[utoipa::path(
    delete, path = "/v1/registries/{id}/credentials", tag = "registries", operation_id = "registry_sign_out",
    params(("id" = String, Path, description = "Id or name of the registry.")),
    responses((status = 200, description = "The registry.", body = RegistryBody), ForgetProblems)
)]
pub(super) async fn sign_out(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<RegistryBody>, ApiError> {
    Ok(Json(body(&*app.catalogue().sign_in(&id, None, app.now().wall).await?)))
}

/// Looks how a registry is at this moment: one request to its `/v2/`, without credentials, of which no redirect is followed.
#[utoipa::path(
    get, path = "/v1/registries/{id}/health", tag = "registries", operation_id = "registry_health",
    params(("id" = String, Path, description = "Id or name of the registry.")),
    responses((status = 200, description = "What came of it; that nobody answered, too.", body = RegistryHealth),
        CheckProblems)
)]
pub(super) async fn check(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<RegistryHealth>, ApiError> {
    look(&app, &id).await.map(Json)
}

/// Looks at a registry, unless too many are looked at.
pub(super) async fn look(app: &App, id: &str) -> Result<RegistryHealth, ApiError> {
    let record = app.catalogue().get(id)?;
    let _place = app.checks().try_acquire().map_err(|_full| ApiError::TooManyChecks)?;
    Ok(Box::pin(health::check(app.outside(), &record, app.now().wall)).await)
}

/// Finds registries where a question may take its time.
pub(super) async fn find(app: &Arc<App>, query: RegistryQuery) -> Result<Vec<RegistryRecord>, ApiError> {
    let (app, turn) = (Arc::clone(app), app.catalogue().turn().await);
    let found = tokio::task::spawn_blocking(move || {
        // Kept to the end of the work, not of the request.
        let _turn = turn;
        app.catalogue().find(&query.filter)
    });
    Ok(found.await.map_err(ApiError::Blocking)??)
}

/// Makes an answer one about something new.
pub(super) fn created(location: &str, mut response: Response) -> Response {
    if response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::CREATED;
        response.headers_mut().extend(HeaderValue::try_from(location).ok().map(|at| (header::LOCATION, at)));
    }
    response
}

fn listed<'a>(app: &App, records: impl IntoIterator<Item = &'a RegistryRecord>) -> RegistryList {
    let registries = records.into_iter().map(body).collect();
    RegistryList { registries, as_of: app.now().wall.to_string() }
}

/// Shows a record to people: all but its credentials.
pub(super) fn body(record: &RegistryRecord) -> RegistryBody {
    RegistryBody {
        id: record.id.clone(),
        name: record.name.clone(),
        metadata: record.metadata.clone(),
        tags: record.tags.clone(),
        public_url: record.public_url.clone(),
        image_prefix: record.image_prefix.clone(),
        config: record.config.clone(),
        storage_info: record.storage_info.clone(),
        has_credentials: record.credentials.is_some(),
        created: record.created.to_string(),
        changed: record.changed.to_string(),
    }
}
