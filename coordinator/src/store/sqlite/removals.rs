//! Removals as rows: one for each, one for each of its nodes.

use std::sync::Arc;

use rusqlite::{Connection, Error, Result, Row, Transaction, params};
use sifleet_common::digest::Digest;
use sifleet_common::name::NodeName;
use sifleet_common::time::UnixMillis;
use tracing::warn;

use super::row::{RowError, parse, tolerate, word};
use crate::store::push::Key;
use crate::store::removal::{RemovalNo, RemovalPart, RemovalRecord, RestoredRemoval};

pub(super) fn put(transaction: &Transaction<'_>, record: &RemovalRecord, nodes: &[NodeName]) -> Result<()> {
    change(transaction, record)?;
    let sql = "INSERT OR REPLACE INTO removal_node (removal, place, node) VALUES (?1, ?2, ?3)";
    let mut insert = transaction.prepare_cached(sql)?;
    for (node, place) in nodes.iter().zip(0_u32..) {
        insert.execute(params![record.no.0.cast_signed(), place, node.as_str()])?;
    }
    Ok(())
}

pub(super) fn change(transaction: &Transaction<'_>, record: &RemovalRecord) -> Result<()> {
    let sql =
        "INSERT INTO removal (id, image, digest, size, root, force, when_idle, created, ended, deadline,
             patience, cancelled, key, fingerprint)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
         ON CONFLICT (id) DO UPDATE SET ended = ?9, cancelled = ?12";
    transaction.prepare_cached(sql)?.execute(params![
        record.no.0.cast_signed(),
        record.image.as_str(),
        record.digest.as_bytes(),
        record.size.cast_signed(),
        record.root,
        record.force,
        record.when_idle,
        record.created.0,
        record.ended.map(|at| at.0),
        record.deadline.0,
        record.patience_ms.cast_signed(),
        record.cancelled,
        record.key.as_ref().map(|key| &key.text),
        record.key.as_ref().map(|key| key.body.as_bytes()),
    ])?;
    Ok(())
}

pub(super) fn put_parts(
    transaction: &Transaction<'_>,
    removal: RemovalNo,
    nodes: &[(NodeName, RemovalPart)],
) -> Result<()> {
    let sql = "UPDATE removal_node SET phase = ?3, code = ?4, message = ?5, files = ?6
         WHERE removal = ?1 AND node = ?2";
    let mut update = transaction.prepare_cached(sql)?;
    for (node, part) in nodes {
        update.execute(params![
            removal.0.cast_signed(),
            node.as_str(),
            part.phase.name(),
            part.code.map(|code| code.name()),
            part.message.as_deref(),
            part.files,
        ])?;
    }
    Ok(())
}

pub(super) fn forget(transaction: &Transaction<'_>, removals: &[RemovalNo]) -> Result<()> {
    for removal in removals {
        let id = removal.0.cast_signed();
        transaction.prepare_cached("DELETE FROM removal_node WHERE removal = ?1")?.execute([id])?;
        transaction.prepare_cached("DELETE FROM removal WHERE id = ?1")?.execute([id])?;
    }
    Ok(())
}

/// Reads all removals. One that does not read back is left out, on disk too: nobody could tell what it wants.
pub(super) fn read_all(transaction: &Transaction<'_>) -> Result<Vec<RestoredRemoval>> {
    let sql = "SELECT id, image, digest, size, root, force, when_idle, created, ended, deadline, patience,
             cancelled, key, fingerprint FROM removal ORDER BY id";
    let mut select = transaction.prepare(sql)?;
    let mut rows = select.query(())?;
    let mut removals = Vec::new();
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let read =
            record(row).and_then(|record| Ok(RestoredRemoval { nodes: nodes(transaction, id)?, record }));
        match tolerate(read)? {
            Ok(removal) => removals.push(removal),
            Err(error) => {
                warn!(error, removal = id, "a stored removal is not usable and left out");
                forget(transaction, &[RemovalNo(id.cast_unsigned())])?;
            }
        }
    }
    Ok(removals)
}

fn record(row: &Row<'_>) -> Result<RemovalRecord, RowError> {
    let (key, body): (Option<String>, Option<[u8; 32]>) = (row.get(12)?, row.get(13)?);
    Ok(RemovalRecord {
        no: RemovalNo(row.get::<_, i64>(0)?.cast_unsigned()),
        image: parse("image", row.get_ref(1)?.as_str().map_err(Error::from)?)?,
        digest: Digest::from_bytes(row.get(2)?),
        size: row.get::<_, i64>(3)?.cast_unsigned(),
        root: row.get(4)?,
        force: row.get(5)?,
        when_idle: row.get(6)?,
        created: UnixMillis(row.get(7)?),
        ended: row.get::<_, Option<i64>>(8)?.map(UnixMillis),
        deadline: UnixMillis(row.get(9)?),
        patience_ms: row.get::<_, i64>(10)?.cast_unsigned(),
        cancelled: row.get(11)?,
        key: key.zip(body).map(|(text, body)| Key { text, body: Digest::from_bytes(body) }),
    })
}

fn nodes(connection: &Connection, removal: i64) -> Result<Vec<(NodeName, Option<RemovalPart>)>, RowError> {
    let sql = "SELECT node, phase, code, message, files FROM removal_node WHERE removal = ?1 ORDER BY place";
    let mut select = connection.prepare_cached(sql)?;
    let mut rows = select.query([removal])?;
    let mut nodes = Vec::new();
    while let Some(row) = rows.next()? {
        let node = parse("node", row.get_ref(0)?.as_str().map_err(Error::from)?)?;
        nodes.push((node, part(row)?));
    }
    Ok(nodes)
}

fn part(row: &Row<'_>) -> Result<Option<RemovalPart>, RowError> {
    let text = |column: usize| row.get_ref(column)?.as_str_or_null().map_err(Error::from);
    let Some(phase) = text(1)? else { return Ok(None) };
    Ok(Some(RemovalPart {
        phase: word("phase", phase)?,
        code: text(2)?.map(|code| word("code", code)).transpose()?,
        message: text(3)?.map(Arc::from),
        files: row.get(4)?,
    }))
}
