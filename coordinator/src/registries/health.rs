//! Looks how a registry is: one request to its `/v2/`, without credentials, answered within seconds or not at all.
//!
//! Outside facts: OCI distribution specification 1.1, end-1.

use std::time::{Duration, Instant};

use axum::http::{HeaderName, StatusCode, header};
use sifleet_common::api::registries::{RegistryAuth, RegistryHealth};
use sifleet_common::time::UnixMillis;

use super::address::Origin;
use super::auth::Challenge;
use super::outside::{Outside, Reply, Trouble};
use crate::store::registry::RegistryRecord;

/// How long all of it may take: less than an answer of ours may.
const LIMIT: Duration = Duration::from_secs(8);
/// Most that is repeated of what a stranger said.
const MAX_SAID: usize = 200;
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Looks at a registry.
pub async fn check(outside: &Outside, record: &RegistryRecord, now: UnixMillis) -> RegistryHealth {
    let mut health = RegistryHealth {
        id: record.id.clone(),
        url: record.public_url.clone(),
        reachable: false,
        oci: false,
        auth: RegistryAuth::Unknown,
        status: None,
        api_version: None,
        address: None,
        latency_ms: None,
        problem: None,
        detail: None,
        as_of: now.to_string(),
    };
    let begun = Instant::now();
    match ask(outside, record).await {
        Ok(reply) => {
            health.latency_ms = Some(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
            health.address = Some(reply.address.to_string());
            tell(&mut health, &reply);
        }
        Err((word, detail)) => {
            (health.problem, health.detail) = (Some(word.to_owned()), Some(said(&detail)));
        }
    }
    health
}

async fn ask(outside: &Outside, record: &RegistryRecord) -> Result<Reply, (&'static str, String)> {
    let told = |trouble: Trouble| (trouble.word(), trouble.to_string());
    // What was written down was read as an address then.
    let origin: Origin =
        record.public_url.parse().map_err(|_changed| ("unreachable", "it has no address".to_owned()))?;
    match tokio::time::timeout(LIMIT, outside.get(&origin, "/v2/", &[])).await {
        Ok(reply) => reply.map_err(told),
        Err(_elapsed) => Err(("timed_out", format!("there was no answer within {} s", LIMIT.as_secs()))),
    }
}

/// Says what an answer shows.
fn tell(health: &mut RegistryHealth, reply: &Reply) {
    health.reachable = true;
    health.status = Some(reply.status.as_u16());
    health.api_version = reply.header(&API_VERSION).map(said);
    let challenge = Challenge::read(&reply.headers);
    let json = reply.header(&header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
    (health.oci, health.auth) = match (reply.status, challenge) {
        (StatusCode::OK, _) if json || health.api_version.is_some() => (true, RegistryAuth::None),
        (StatusCode::UNAUTHORIZED, Some(challenge)) => (true, challenge.kind()),
        _ => (false, RegistryAuth::Unknown),
    };
    if !health.oci {
        health.problem = Some("not_a_registry".to_owned());
        let redirected = reply.status.is_redirection();
        let where_to = reply.header(&header::LOCATION).filter(|_| redirected);
        health.detail = Some(match where_to {
            Some(place) => said(&format!(
                "GET /v2/ was answered with {} to {place}, which is not followed",
                reply.status
            )),
            None => format!("GET /v2/ was answered with {}, and not as a registry does", reply.status),
        });
    }
}

fn said(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_SAID).collect()
}
