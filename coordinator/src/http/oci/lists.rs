//! `end-8` and `end-12`: which tags and repositories there are, and who refers to a manifest.

use axum::http::{HeaderName, Method, header};
use axum::response::Response;
use serde::Serialize;

use super::{Call, bad, set, text};
use crate::http::problem::{ApiError, cut};
use crate::oci::Registry;
use crate::oci::digest::OciDigest;
use crate::oci::manifest::{INDEX, index_of};
use crate::oci::name::Repository;

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
/// Most entries in one answer: some hundred kilobytes.
const MAX_PAGE: usize = 10_000;

#[derive(Serialize)]
struct Catalog {
    repositories: Vec<String>,
}

#[derive(Serialize)]
struct Tags<'a> {
    name: &'a str,
    tags: Vec<String>,
}

pub(super) async fn catalog(registry: &Registry, call: &Call) -> Result<Response, ApiError> {
    reads(call)?;
    let (repositories, next) = page(registry.repositories().await?, call)?;
    list(call, &Catalog { repositories }, ("/v2/_catalog", next))
}

pub(super) async fn tags(registry: &Registry, name: &Repository, call: &Call) -> Result<Response, ApiError> {
    reads(call)?;
    let (tags, next) = page(registry.tags(name).await?, call)?;
    list(call, &Tags { name: name.as_str(), tags }, (&format!("/v2/{name}/tags/list"), next))
}

pub(super) async fn referrers(
    registry: &Registry,
    (name, subject): (&Repository, &OciDigest),
    call: &Call,
) -> Result<Response, ApiError> {
    reads(call)?;
    let kind = call.query("artifactType").map(str::to_owned);
    let last = call.query("last").unwrap_or_default().to_owned();
    let (found, more_behind) = registry.referrers(name, subject, (kind.clone(), last)).await?;
    let next = more_behind.map(|last| {
        let kind = kind.as_deref().map(|kind| format!("&artifactType={}", escaped(kind))).unwrap_or_default();
        format!("</v2/{name}/referrers/{subject}?last={last}{kind}>; rel=\"next\"")
    });
    let mut response = text(call, INDEX, index_of(found));
    if kind.is_some() {
        set(&mut response, FILTERS_APPLIED, "artifactType");
    }
    if let Some(next) = next {
        set(&mut response, header::LINK, &next);
    }
    Ok(response)
}

fn reads(call: &Call) -> Result<(), ApiError> {
    if matches!(call.method, Method::GET | Method::HEAD) { Ok(()) } else { Err(call.not_allowed()) }
}

/// Cuts what a request asks for out of a sorted list; where there is more, the second answer says after what and how many.
fn page(all: Vec<String>, call: &Call) -> Result<(Vec<String>, Option<String>), ApiError> {
    let size = match call.query("n") {
        Some(text) => {
            let size = text.parse::<usize>();
            size.map_err(|_not_a_number| bad(format!("n is {:?}, and must be a number", cut(text))))?
        }
        None => MAX_PAGE,
    }
    .min(MAX_PAGE);
    let last = call.query("last").unwrap_or_default();
    let mut rest = all.into_iter().skip_while(|entry| entry.as_str() <= last && !last.is_empty());
    let shown: Vec<String> = rest.by_ref().take(size).collect();
    let next = match (shown.last(), rest.next()) {
        (Some(last), Some(_)) => Some(format!("n={size}&last={last}")),
        (Some(_) | None, _) => None,
    };
    Ok((shown, next))
}

fn list(
    call: &Call,
    body: &impl Serialize,
    (path, next): (&str, Option<String>),
) -> Result<Response, ApiError> {
    let bytes = serde_json::to_vec(body).map_err(|error| ApiError::Encode { detail: error.to_string() })?;
    let mut response = text(call, "application/json", bytes);
    if let Some(next) = next {
        set(&mut response, header::LINK, &format!("<{path}?{next}>; rel=\"next\""));
    }
    Ok(response)
}

/// Writes a text as a parameter of a path.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let write = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(write).collect()
}
