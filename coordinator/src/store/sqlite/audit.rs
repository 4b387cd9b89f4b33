//! The audit as rows: added at the end, read from it, forgotten from the beginning.
//!
//! Refusals and changes are counted apart: whoever is refused a million times makes no change forgotten.

use rusqlite::{Connection, Result, Row, Transaction, params};
use sifleet_common::time::UnixMillis;

use crate::store::audit::{Actor, Asker, AuditQuery, AuditRecord};

pub(super) fn put(transaction: &Transaction<'_>, record: &AuditRecord) -> Result<()> {
    let sql = "INSERT INTO audit
             (at, refused, kind, actor, name, origin, method, route, target, status, count, request)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    let (kind, actor, name) = match &record.actor {
        Actor::Token { no, name } => ("token", Some(no.cast_signed()), Some(name.as_str())),
        Actor::User { uid, name } => ("user", Some(i64::from(*uid)), name.as_deref()),
        Actor::Anonymous => ("anonymous", None, None),
    };
    transaction.prepare_cached(sql)?.execute(params![
        record.at.0,
        record.refused,
        kind,
        actor,
        name,
        record.origin,
        record.method,
        record.route,
        record.target,
        record.status,
        record.count.cast_signed(),
        record.request,
    ])?;
    Ok(())
}

/// Forgets what is older than `before`, and of either kind all but the newest `keep`.
pub(super) fn prune(transaction: &Transaction<'_>, before: UnixMillis, keep: u32) -> Result<()> {
    transaction.prepare_cached("DELETE FROM audit WHERE at < ?1")?.execute([before.0])?;
    let sql = "DELETE FROM audit WHERE refused = ?1 AND id <=
         (SELECT id FROM audit WHERE refused = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)";
    for refused in [false, true] {
        transaction.prepare_cached(sql)?.execute(params![refused, keep])?;
    }
    Ok(())
}

/// Reads records, newest first, each with its place.
pub(super) fn read(connection: &Connection, query: &AuditQuery) -> Result<Vec<(i64, AuditRecord)>> {
    let (kind, actor, name) = match &query.who {
        None => (None, None, None),
        Some(Asker::Token(no)) => (Some("token"), Some(no.cast_signed()), None),
        Some(Asker::User(uid)) => (Some("user"), Some(i64::from(*uid)), None),
        Some(Asker::Anonymous) => (Some("anonymous"), None, None),
        Some(Asker::Named(name)) => (None, None, Some(name.as_str())),
    };
    let sql =
        "SELECT id, at, refused, kind, actor, name, origin, method, route, target, status, count, request
         FROM audit
         WHERE (?1 IS NULL OR id < ?1) AND (?2 IS NULL OR at >= ?2)
           AND (?3 IS NULL OR kind = ?3) AND (?4 IS NULL OR actor = ?4) AND (?5 IS NULL OR name = ?5)
         ORDER BY id DESC LIMIT ?6";
    let mut select = connection.prepare_cached(sql)?;
    let since = query.since.map(|at| at.0);
    let rows = select.query_map(params![query.before, since, kind, actor, name, query.limit], record)?;
    rows.collect()
}

fn record(row: &Row<'_>) -> Result<(i64, AuditRecord)> {
    let kind: String = row.get(3)?;
    let number: i64 = row.get::<_, Option<i64>>(4)?.unwrap_or_default();
    let name: Option<String> = row.get(5)?;
    let actor = match kind.as_str() {
        "token" => Actor::Token { no: number.cast_unsigned(), name: name.unwrap_or_default() },
        "user" => Actor::User { uid: u32::try_from(number).unwrap_or(u32::MAX), name },
        _ => Actor::Anonymous,
    };
    let record = AuditRecord {
        at: UnixMillis(row.get(1)?),
        actor,
        origin: row.get(6)?,
        method: row.get(7)?,
        route: row.get(8)?,
        target: row.get(9)?,
        refused: row.get(2)?,
        status: row.get(10)?,
        count: row.get::<_, i64>(11)?.cast_unsigned(),
        request: row.get(12)?,
    };
    Ok((row.get(0)?, record))
}
