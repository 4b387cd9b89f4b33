//! Pushes as rows: one for each, one for each of its nodes; and the digests of chunk maps.

use std::collections::BTreeMap;

use rusqlite::{Connection, Error, Result, Row, Transaction, params};
use sifleet_common::chunk::MapDigest;
use sifleet_common::digest::Digest;
use sifleet_common::name::NodeName;
use sifleet_common::time::UnixMillis;
use sifleet_common::wire::assignment::Moved;
use tracing::warn;

use super::row::{RowError, parse, tolerate, word};
use crate::store::push::{Key, PushNo, PushOutcome, PushRecord, RestoredPush};

pub(super) fn put(transaction: &Transaction<'_>, record: &PushRecord, nodes: &[NodeName]) -> Result<()> {
    change(transaction, record)?;
    let sql = "INSERT OR REPLACE INTO push_node (push, place, node) VALUES (?1, ?2, ?3)";
    let mut insert = transaction.prepare_cached(sql)?;
    for (node, place) in nodes.iter().zip(0_u32..) {
        insert.execute(params![record.no.0.cast_signed(), place, node.as_str()])?;
    }
    Ok(())
}

/// Adds a node behind the others. One of a push that is not there is no longer of interest.
pub(super) fn join(transaction: &Transaction<'_>, push: PushNo, node: &NodeName) -> Result<()> {
    let sql = "INSERT OR IGNORE INTO push_node (push, place, node)
         SELECT id, (SELECT coalesce(max(place), -1) + 1 FROM push_node WHERE push = ?1), ?2 FROM push WHERE id = ?1";
    transaction.prepare_cached(sql)?.execute(params![push.0.cast_signed(), node.as_str()])?;
    Ok(())
}

pub(super) fn change(transaction: &Transaction<'_>, record: &PushRecord) -> Result<()> {
    let sql = "INSERT INTO push (id, image, digest, size, source, root, completion, created, ended, deadline,
             patience, rate, priority, cancelled, key, fingerprint)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
         ON CONFLICT (id) DO UPDATE SET ended = ?9, deadline = ?10, rate = ?12, cancelled = ?14";
    transaction.prepare_cached(sql)?.execute(params![
        record.no.0.cast_signed(),
        record.image.as_str(),
        record.digest.as_bytes(),
        record.size.cast_signed(),
        record.from.as_ref().map(NodeName::as_str),
        record.root,
        record.completion.to_string(),
        record.created.0,
        record.ended.map(|at| at.0),
        record.deadline.0,
        record.patience_ms.cast_signed(),
        record.rate.map(u64::cast_signed),
        record.priority,
        record.cancelled,
        record.key.as_ref().map(|key| &key.text),
        record.key.as_ref().map(|key| key.body.as_bytes()),
    ])?;
    Ok(())
}

pub(super) fn put_outcomes(
    transaction: &Transaction<'_>,
    push: PushNo,
    nodes: &[(NodeName, Option<PushOutcome>)],
) -> Result<()> {
    let sql =
        "UPDATE push_node SET phase = ?3, code = ?4, message = ?5, root = ?6, fetched = ?7, reused = ?8,
             resumed = ?9, wasted = ?10, present = ?11, started = ?12, ended = ?13
         WHERE push = ?1 AND node = ?2";
    let mut update = transaction.prepare_cached(sql)?;
    let open = PushOutcome::waiting();
    for (node, outcome) in nodes {
        let phase = outcome.as_ref().map(|outcome| outcome.phase.name());
        let outcome = outcome.as_ref().unwrap_or(&open);
        update.execute(params![
            push.0.cast_signed(),
            node.as_str(),
            phase,
            outcome.code.map(|code| code.name()),
            outcome.message,
            outcome.root,
            outcome.bytes.fetched.cast_signed(),
            outcome.bytes.reused.cast_signed(),
            outcome.bytes.resumed.cast_signed(),
            outcome.bytes.wasted.cast_signed(),
            outcome.present,
            outcome.started.map(|at| at.0),
            outcome.ended.map(|at| at.0),
        ])?;
    }
    Ok(())
}

pub(super) fn forget(transaction: &Transaction<'_>, pushes: &[PushNo]) -> Result<()> {
    for push in pushes {
        let id = push.0.cast_signed();
        transaction.prepare_cached("DELETE FROM push_node WHERE push = ?1")?.execute([id])?;
        transaction.prepare_cached("DELETE FROM push WHERE id = ?1")?.execute([id])?;
    }
    Ok(())
}

pub(super) fn put_map(transaction: &Transaction<'_>, image: Digest, map: MapDigest) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO chunk_map (image, map) VALUES (?1, ?2)";
    transaction.prepare_cached(sql)?.execute(params![image.as_bytes(), map.as_bytes()])?;
    Ok(())
}

pub(super) fn forget_map(transaction: &Transaction<'_>, image: Digest) -> Result<()> {
    transaction.prepare_cached("DELETE FROM chunk_map WHERE image = ?1")?.execute([image.as_bytes()])?;
    Ok(())
}

pub(super) fn read_maps(connection: &Connection) -> Result<BTreeMap<Digest, MapDigest>> {
    let sql = "SELECT image, map FROM chunk_map WHERE length(image) = 32 AND length(map) = 32";
    let mut select = connection.prepare(sql)?;
    let pair = |row: &Row<'_>| Ok((Digest::from_bytes(row.get(0)?), MapDigest::from_bytes(row.get(1)?)));
    select.query_map((), pair)?.collect()
}

/// Reads all pushes. One that does not read back is left out, on disk too: nobody could tell what it wants.
pub(super) fn read_all(transaction: &Transaction<'_>) -> Result<Vec<RestoredPush>> {
    let sql =
        "SELECT id, image, digest, size, source, root, completion, created, ended, deadline, patience, rate,
             priority, cancelled, key, fingerprint FROM push ORDER BY id";
    let mut select = transaction.prepare(sql)?;
    let mut rows = select.query(())?;
    let mut pushes = Vec::new();
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let read = record(row).and_then(|record| Ok(RestoredPush { nodes: nodes(transaction, id)?, record }));
        match tolerate(read)? {
            Ok(push) => pushes.push(push),
            Err(error) => {
                warn!(error, push = id, "a stored push is not usable and left out");
                forget(transaction, &[PushNo(id.cast_unsigned())])?;
            }
        }
    }
    Ok(pushes)
}

fn record(row: &Row<'_>) -> Result<PushRecord, RowError> {
    let text = |column: usize| row.get_ref(column)?.as_str().map_err(Error::from);
    let from = row.get_ref(4)?.as_str_or_null().map_err(Error::from)?;
    let (key, body) = (row.get::<_, Option<String>>(14)?, row.get::<_, Option<[u8; 32]>>(15)?);
    Ok(PushRecord {
        no: PushNo(row.get::<_, i64>(0)?.cast_unsigned()),
        image: parse("image", text(1)?)?,
        digest: Digest::from_bytes(row.get(2)?),
        size: row.get::<_, i64>(3)?.cast_unsigned(),
        from: from.map(|node| parse("source", node)).transpose()?,
        root: row.get(5)?,
        completion: parse("completion", text(6)?)?,
        created: UnixMillis(row.get(7)?),
        ended: row.get::<_, Option<i64>>(8)?.map(UnixMillis),
        deadline: UnixMillis(row.get(9)?),
        patience_ms: row.get::<_, i64>(10)?.cast_unsigned(),
        rate: row.get::<_, Option<i64>>(11)?.map(i64::cast_unsigned),
        priority: row.get(12)?,
        cancelled: row.get(13)?,
        key: key.zip(body).map(|(text, body)| Key { text, body: Digest::from_bytes(body) }),
    })
}

fn nodes(connection: &Connection, push: i64) -> Result<Vec<(NodeName, Option<PushOutcome>)>, RowError> {
    let sql =
        "SELECT node, phase, code, message, root, fetched, reused, resumed, wasted, present, started, ended
         FROM push_node WHERE push = ?1 ORDER BY place";
    let mut select = connection.prepare_cached(sql)?;
    let mut rows = select.query([push])?;
    let mut nodes = Vec::new();
    while let Some(row) = rows.next()? {
        let node = parse("node", row.get_ref(0)?.as_str().map_err(Error::from)?)?;
        nodes.push((node, outcome(row)?));
    }
    Ok(nodes)
}

fn outcome(row: &Row<'_>) -> Result<Option<PushOutcome>, RowError> {
    let text = |column: usize| row.get_ref(column)?.as_str_or_null().map_err(Error::from);
    let bytes = |column: usize| row.get(column).map(i64::cast_unsigned);
    let Some(phase) = text(1)? else { return Ok(None) };
    Ok(Some(PushOutcome {
        phase: word("phase", phase)?,
        code: text(2)?.map(|code| word("code", code)).transpose()?,
        message: row.get(3)?,
        root: row.get(4)?,
        bytes: Moved { fetched: bytes(5)?, reused: bytes(6)?, resumed: bytes(7)?, wasted: bytes(8)? },
        present: row.get(9)?,
        started: row.get::<_, Option<i64>>(10)?.map(UnixMillis),
        ended: row.get::<_, Option<i64>>(11)?.map(UnixMillis),
    }))
}
