//! `POST /v1/enrolments`, `GET /v1/enrolments` and `DELETE /v1/enrolments/{id}`: tokens with which nodes enrol.
//!
//! A secret is in one answer, once. The tokens themselves are the state's business.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use sifleet_common::api::enrolments::{
    EnrolmentBody, EnrolmentCreated, EnrolmentList, EnrolmentRequest, EnrolmentsCreated,
};
use sifleet_common::name::NodeName;
use sifleet_common::nodeset::NodeSet;
use sifleet_common::time::UnixMillis;

use super::App;
use super::extract::{Json, Segment};
use super::problem::{ApiError, cut, problems};
use crate::access::tokens::TokenError;
use crate::nodes::issuer::Issuer;
use crate::nodes::token::EnrolSecret;
use crate::state::identities::{IdentityAnswer, IdentityCommand, IdentityError};
use crate::store::identity::{Invite, InviteNo, Network};

/// Most nodes in one request.
const MAX_NODES: usize = 10_000;
/// Most networks of one token.
const MAX_NETWORKS: usize = 16;
/// How long a token may be good, in seconds.
const TTL_S: std::ops::RangeInclusive<u64> = 60..=604_800;
/// How long it is good unless said otherwise: as long as it takes to log in to a node.
const DEFAULT_TTL_S: u64 = 600;

problems!(CreateProblems: BadToken, BadNodeset, BadJson, SlowBody, BodyTooLarge, UnsupportedMediaType, TooManyTokens,
    NoAuthority, Stopping);
problems!(ListProblems:);
problems!(WithdrawProblems: BadQuery, UnknownToken, Stopping, NotStored);

/// How nodes find the coordinator and know it.
#[derive(Clone, Debug)]
pub struct Door {
    /// What gives them certificates.
    pub issuer: Issuer,
    /// Where they dial.
    pub port: u16,
}

/// Makes one token for each node, with which it gets its certificate, once. The secrets are in this answer and in no other.
#[utoipa::path(
    post, path = "/v1/enrolments", tag = "tokens", operation_id = "enrolment",
    request_body = EnrolmentRequest,
    responses((status = 201, description = "The tokens, with their secrets.", body = EnrolmentsCreated), CreateProblems)
)]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Json(request): Json<EnrolmentRequest>,
) -> Result<(StatusCode, Json<EnrolmentsCreated>), ApiError> {
    let door = app.door().ok_or(ApiError::NoAuthority)?;
    let pin = door.issuer.pin().ok_or(ApiError::NoAuthority)?;
    let nodes = request.nodes.parse::<NodeSet>()?.into_names();
    let (ttl, from) = (ttl_of(request.ttl_s)?, networks(&request.from)?);
    if nodes.len() > MAX_NODES {
        return Err(bad(format!("{} nodes are named, at most {MAX_NODES} at a time", nodes.len())));
    }
    let now = app.now().wall;
    let until = UnixMillis(now.0.saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)));
    let made: Vec<(EnrolSecret, Invite)> =
        nodes.into_iter().map(|node| make(node, &from, (now, until))).collect();
    let invites = made.iter().map(|(_, invite)| invite.clone()).collect();
    app.handle().identify(IdentityCommand::Invite { invites }).await?.map_err(|error| refused(&error))?;
    let tokens = made
        .iter()
        .map(|(secret, invite)| EnrolmentCreated { token: body(invite, now), secret: secret.reveal() });
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let (tokens, coordinator) = (tokens.collect(), format!("{host}:{}", door.port));
    Ok((StatusCode::CREATED, Json(EnrolmentsCreated { tokens, ca_pin: pin.to_string(), coordinator })))
}

/// Lists the tokens with which nodes enrol, without their secrets.
#[utoipa::path(
    get, path = "/v1/enrolments", tag = "tokens", operation_id = "enrolments",
    responses((status = 200, description = "All tokens for nodes.", body = EnrolmentList), ListProblems)
)]
pub(super) async fn list(State(app): State<Arc<App>>) -> Json<EnrolmentList> {
    let now = app.now().wall;
    let mut invites = app.view().invites.to_vec();
    invites.sort_by(|a, b| a.node.cmp(&b.node).then(b.created.cmp(&a.created)));
    let tokens = invites.iter().map(|invite| body(invite, now)).collect();
    Json(EnrolmentList { tokens, as_of: now.to_string() })
}

/// Withdraws a token for a node: nobody enrols with it from then on.
#[utoipa::path(
    delete, path = "/v1/enrolments/{id}", tag = "tokens", operation_id = "enrolment_withdraw",
    params(("id" = String, Path, description = "What the token is called: 16 hexadecimal digits.")),
    responses((status = 200, description = "The token that was.", body = EnrolmentBody), WithdrawProblems)
)]
pub(super) async fn withdraw(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<EnrolmentBody>, ApiError> {
    let unknown = || TokenError::Unknown { id: cut(&id) };
    let invite: InviteNo = id.parse().map_err(|_invalid| unknown())?;
    let now = app.now().wall;
    let known = app.view().invites.iter().find(|known| known.id == invite).map(|known| body(known, now));
    let mut token = known.ok_or_else(unknown)?;
    let done = app.handle().identify(IdentityCommand::Withdraw { invite }).await?;
    if let IdentityAnswer::Withdrawn(steps) = done.map_err(|_unknown| unknown())? {
        let what = "the token is not good any longer, and may be again after a restart";
        let stored = app.store().commit(steps).await;
        stored.map_err(|source| TokenError::NotStored { what, source: source.into() })?;
    }
    "withdrawn".clone_into(&mut token.state);
    Ok(Json(token))
}

fn make(node: NodeName, from: &[Network], (now, until): (UnixMillis, UnixMillis)) -> (EnrolSecret, Invite) {
    let secret = EnrolSecret::new(rand::random(), rand::random());
    let invite = Invite {
        id: secret.id(),
        hash: secret.hash(),
        node,
        from: from.to_vec(),
        created: now,
        expires: until,
        used: None,
    };
    (secret, invite)
}

fn ttl_of(seconds: Option<u64>) -> Result<Duration, ApiError> {
    let seconds = seconds.unwrap_or(DEFAULT_TTL_S);
    if TTL_S.contains(&seconds) {
        return Ok(Duration::from_secs(seconds));
    }
    Err(bad(format!(
        "ttl_s is {seconds}; tokens for nodes are good for {} to {} s",
        TTL_S.start(),
        TTL_S.end()
    )))
}

fn networks(texts: &[String]) -> Result<Vec<Network>, ApiError> {
    if texts.len() > MAX_NETWORKS {
        return Err(bad(format!("{} networks are named, at most {MAX_NETWORKS}", texts.len())));
    }
    texts.iter().map(|text| text.parse().map_err(|error| bad(format!("{error}")))).collect()
}

fn bad(detail: String) -> ApiError {
    TokenError::Bad { detail }.into()
}

fn refused(error: &IdentityError) -> ApiError {
    if *error == IdentityError::TooMany { TokenError::TooMany.into() } else { bad(error.to_string()) }
}

fn body(invite: &Invite, now: UnixMillis) -> EnrolmentBody {
    let state = match invite.used {
        Some(_) => "used",
        None if now >= invite.expires => "expired",
        None => "waiting",
    };
    EnrolmentBody {
        id: invite.id.to_string(),
        node: invite.node.to_string(),
        state: state.to_owned(),
        from: invite.from.iter().map(ToString::to_string).collect(),
        created: invite.created.to_string(),
        expires: invite.expires.to_string(),
        used: invite.used.map(|(at, _)| at.to_string()),
        used_from: invite.used.map(|(_, from)| from.to_string()),
    }
}
