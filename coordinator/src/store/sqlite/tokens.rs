//! Tokens as rows; the secret of none is among them.

use rusqlite::{Error, Result, Row, Transaction, params};
use sifleet_common::time::UnixMillis;
use tracing::warn;

use super::row::{RowError, parse, tolerate};
use crate::store::token::{TokenNo, TokenRecord};

/// Writes a token, made or changed.
pub(super) fn put(transaction: &Transaction<'_>, token: &TokenRecord) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO token (id, name, role, hash, created, expires, last_used, revoked)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    transaction.prepare_cached(sql)?.execute(params![
        token.no.0.cast_signed(),
        token.name,
        token.role.name(),
        token.hash.as_bytes(),
        token.created.0,
        token.expires.0,
        token.last_used.map(|at| at.0),
        token.revoked.map(|at| at.0),
    ])?;
    Ok(())
}

pub(super) fn touch(transaction: &Transaction<'_>, used: &[(TokenNo, UnixMillis)]) -> Result<()> {
    let mut update = transaction.prepare_cached("UPDATE token SET last_used = ?2 WHERE id = ?1")?;
    for (no, at) in used {
        update.execute(params![no.0.cast_signed(), at.0])?;
    }
    Ok(())
}

pub(super) fn forget(transaction: &Transaction<'_>, tokens: &[TokenNo]) -> Result<()> {
    let mut delete = transaction.prepare_cached("DELETE FROM token WHERE id = ?1")?;
    for no in tokens {
        delete.execute([no.0.cast_signed()])?;
    }
    Ok(())
}

/// Reads all tokens, oldest first. One that does not read back lets nobody in.
pub(super) fn read_all(transaction: &Transaction<'_>) -> Result<Vec<TokenRecord>> {
    let sql = "SELECT id, name, role, hash, created, expires, last_used, revoked FROM token ORDER BY id";
    let mut select = transaction.prepare(sql)?;
    let mut rows = select.query(())?;
    let mut tokens = Vec::new();
    while let Some(row) = rows.next()? {
        match tolerate(token(row))? {
            Ok(token) => tokens.push(token),
            Err(error) => warn!(error, "a stored token is not usable and left out"),
        }
    }
    Ok(tokens)
}

fn token(row: &Row<'_>) -> Result<TokenRecord, RowError> {
    let role = row.get_ref(2)?.as_str().map_err(Error::from)?;
    let hash: [u8; 32] = row.get(3)?;
    Ok(TokenRecord {
        no: TokenNo(row.get::<_, i64>(0)?.cast_unsigned()),
        name: row.get(1)?,
        role: parse("role", role)?,
        hash: hash.into(),
        created: UnixMillis(row.get(4)?),
        expires: UnixMillis(row.get(5)?),
        last_used: row.get::<_, Option<i64>>(6)?.map(UnixMillis),
        revoked: row.get::<_, Option<i64>>(7)?.map(UnixMillis),
    })
}
