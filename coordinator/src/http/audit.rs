//! `GET /v1/audit`: who asked for changes, and who was refused.
//!
//! Read from the store, newest first, a page at a time, once it has written what was noted before.

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;
use sifleet_common::api::audit::{AuditEntry, AuditList};
use sifleet_common::time::UnixMillis;

use super::App;
use super::extract::{Json, Params};
use super::problem::{ApiError, cut, problems};
use crate::store::audit::{Actor, Asker, AuditQuery, AuditRecord};
use crate::store::token::TokenNo;

/// Entries on a page, unless asked otherwise.
const PAGE: u32 = 100;
/// Most entries on a page: some hundred kilobytes.
const MAX_PAGE: u32 = 1_000;
/// Longest text of a parameter, in bytes.
const MAX_FILTER: usize = 256;

problems!(ListProblems:);

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    since: Option<String>,
    who: Option<String>,
    cursor: Option<String>,
    limit: Option<u32>,
}

/// Lists who asked for changes, and who was refused; newest first, a page at a time.
#[utoipa::path(
    get, path = "/v1/audit", tag = "tokens", operation_id = "audit",
    params(
        ("since" = Option<String>, Query, format = DateTime, description = "Only since this time, such as 2026-11-21T10:30:00Z."),
        ("who" = Option<String>, Query, description = "Only of this one: the id of a token (`t-000042`), the number of \
            a user (`uid:1000`), `anonymous`, or the name of tokens and users."),
        ("cursor" = Option<String>, Query, pattern = "^[0-9]{1,18}$", description = "`next_cursor` of the page before."),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000,
            description = "Entries on the page: 100 unless said otherwise, at most 1,000."),
    ),
    responses((status = 200, description = "One page of entries.", body = AuditList), ListProblems)
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Params(query): Params<ListQuery>,
) -> Result<Json<AuditList>, ApiError> {
    let query = read(&query)?;
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    // Only whoever reads the audit waits for it.
    app.store().flush().await?;
    let found = app.store().audit(query).await?;
    let next_cursor = found.last().filter(|_| found.len() >= limit).map(|(place, _)| place.to_string());
    Ok(Json(AuditList { entries: found.into_iter().map(|(_, record)| entry(record)).collect(), next_cursor }))
}

fn read(query: &ListQuery) -> Result<AuditQuery, ApiError> {
    let bad = |detail: String| ApiError::BadQuery { detail };
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(bad(format!("limit is {limit}, and must be between 1 and {MAX_PAGE}")));
    }
    for (name, text) in [("since", &query.since), ("who", &query.who), ("cursor", &query.cursor)] {
        super::check_length(name, text.as_deref().unwrap_or_default(), MAX_FILTER)?;
    }
    let since = query.since.as_ref().map(|text| {
        let time = text.parse::<UnixMillis>();
        time.map_err(|_invalid| {
            bad(format!("since is {:?}, which is no time such as 2026-11-21T10:30:00Z", cut(text)))
        })
    });
    let before = query.cursor.as_ref().map(|text| {
        let place = text.parse::<i64>();
        place.map_err(|_invalid| bad(format!("{:?} is no cursor of this list", cut(text))))
    });
    let who = query.who.as_deref().map(asker);
    Ok(AuditQuery { since: since.transpose()?, who, before: before.transpose()?, limit })
}

fn asker(text: &str) -> Asker {
    let user = text.strip_prefix("uid:").and_then(|uid| uid.parse().ok()).map(Asker::User);
    let token = || Some(text).filter(|text| text.starts_with("t-"))?.parse::<TokenNo>().ok();
    match user.or_else(|| token().map(|no| Asker::Token(no.0))) {
        Some(asker) => asker,
        None if text == "anonymous" => Asker::Anonymous,
        None => Asker::Named(text.to_owned()),
    }
}

fn entry(record: AuditRecord) -> AuditEntry {
    let (kind, id, name) = match record.actor {
        Actor::Token { no, name } => ("token", Some(TokenNo(no).to_string()), Some(name)),
        Actor::User { uid, name } => ("user", Some(uid.to_string()), name),
        Actor::Anonymous => ("anonymous", None, None),
    };
    AuditEntry {
        time: record.at.to_string(),
        kind: kind.to_owned(),
        id,
        name,
        from: record.origin,
        method: record.method,
        route: record.route,
        target: record.target,
        status: record.status,
        count: record.count,
        request_id: record.request,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_meant_is_found_by_number_or_by_name() {
        for (text, who) in [
            ("t-000042", Asker::Token(42)),
            ("uid:1000", Asker::User(1_000)),
            ("anonymous", Asker::Anonymous),
            ("dashboard", Asker::Named("dashboard".to_owned())),
            ("42", Asker::Named("42".to_owned())),
            ("t-shirts", Asker::Named("t-shirts".to_owned())),
        ] {
            assert_eq!(asker(text), who, "{text}");
        }
    }
}
