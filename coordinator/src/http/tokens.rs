//! `POST /v1/tokens`, `GET /v1/tokens` and `DELETE /v1/tokens/{id}`.
//!
//! A secret is in one answer, once; no list, log or error shows it. What a token is good for beside callers' roles would
//! be a field of its own beside `role`, one of which has to be said.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use sifleet_common::api::tokens::{TokenBody, TokenCreated, TokenList, TokenRequest, TokenState};
use sifleet_common::time::UnixMillis;

use super::App;
use super::extract::{Json, Segment};
use super::problem::{ApiError, cut, problems};
use crate::access::tokens::{TokenError, Wish};
use crate::store::token::TokenRecord;

problems!(CreateProblems: BadToken, BadJson, SlowBody, BodyTooLarge, UnsupportedMediaType, TooManyTokens, NotStored);
problems!(ListProblems:);
problems!(RevokeProblems: BadQuery, UnknownToken, NotStored);

/// Makes a token. Its secret is in this answer and in no other.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "tokens", operation_id = "token",
    request_body = TokenRequest,
    responses(
        (status = 201, description = "The token, with its secret.", body = TokenCreated),
        CreateProblems,
    )
)]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Json(request): Json<TokenRequest>,
) -> Result<Response, ApiError> {
    let detail = "say with which role the bearer of the token acts: viewer, operator or admin";
    let role = request.role.ok_or_else(|| TokenError::Bad { detail: detail.to_owned() })?;
    let wish = Wish { name: request.name, role, ttl: request.ttl_s.map(Duration::from_secs) };
    let now = app.now().wall;
    let (token, secret) = app.access().tokens().create(wish, now).await?;
    let location = format!("/v1/tokens/{}", token.no());
    let created = TokenCreated { token: body(&token.record(), now), secret: secret.reveal() };
    let mut response = Json(created).into_response();
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Lists all tokens that are kept, newest first.
#[utoipa::path(
    get, path = "/v1/tokens", tag = "tokens", operation_id = "tokens",
    responses((status = 200, description = "All tokens, without their secrets.", body = TokenList), ListProblems)
)]
pub(super) async fn list(State(app): State<Arc<App>>) -> Json<TokenList> {
    let now = app.now().wall;
    let tokens = app.access().tokens().list();
    let tokens = tokens.iter().map(|token| body(&token.record(), now)).collect();
    Json(TokenList { tokens, as_of: now.to_string() })
}

/// Revokes a token: its bearer is turned away from the next request on.
#[utoipa::path(
    delete, path = "/v1/tokens/{id}", tag = "tokens", operation_id = "token_revoke",
    params(("id" = String, Path, description = "What the token is called, such as t-000042.")),
    responses((status = 200, description = "The token; one that was revoked before stays as it is.", body = TokenBody),
        RevokeProblems)
)]
pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<TokenBody>, ApiError> {
    let no = id.parse().map_err(|_invalid| TokenError::Unknown { id: cut(&id) })?;
    let now = app.now().wall;
    let token = app.access().tokens().revoke(no, now).await?;
    Ok(Json(body(&token.record(), now)))
}

fn body(token: &TokenRecord, now: UnixMillis) -> TokenBody {
    let state = match token.ended(now) {
        None => TokenState::Good,
        Some(_) if token.revoked.is_some() => TokenState::Revoked,
        Some(_) => TokenState::Expired,
    };
    let time = |at: Option<UnixMillis>| at.map(|at| at.to_string());
    TokenBody {
        id: token.no.to_string(),
        name: token.name.clone(),
        role: token.role,
        state,
        created: token.created.to_string(),
        expires: token.expires.to_string(),
        last_used: time(token.last_used),
        revoked: time(token.revoked),
    }
}
