//! Lists of partitions, one row a member, so that they can be inspected and joined.
//!
//! A source repeats itself every minute, so a list that is the same only gets its time written.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, Result, Transaction, params};
use sifleet_common::name::{NodeName, PartitionName};
use sifleet_common::time::UnixMillis;
use tracing::warn;

use super::row::{RowError, parse};
use crate::store::RestoredMembers;

type Members = BTreeMap<PartitionName, BTreeSet<NodeName>>;

pub(super) fn put(
    transaction: &Transaction<'_>,
    source: &str,
    at: UnixMillis,
    members: &Members,
) -> Result<()> {
    let sql = "INSERT INTO partition_source (source, at) VALUES (?1, ?2) ON CONFLICT (source) DO UPDATE SET at = ?2";
    transaction.prepare_cached(sql)?.execute(params![source, at.0])?;
    match read(transaction, source) {
        Ok(known) if known == *members => return Ok(()),
        Err(RowError::Sql(error)) => return Err(error),
        Ok(_) | Err(RowError::Value { .. }) => {}
    }
    forget(transaction, source)?;
    let sql = "INSERT INTO partition (source, name) VALUES (?1, ?2)";
    let mut partition = transaction.prepare_cached(sql)?;
    let sql = "INSERT INTO member (source, partition, node) VALUES (?1, ?2, ?3)";
    let mut member = transaction.prepare_cached(sql)?;
    for (name, nodes) in members {
        partition.execute(params![source, name.as_str()])?;
        for node in nodes {
            member.execute(params![source, name.as_str(), node.as_str()])?;
        }
    }
    Ok(())
}

fn forget(connection: &Connection, source: &str) -> Result<()> {
    connection.prepare_cached("DELETE FROM member WHERE source = ?1")?.execute([source])?;
    connection.prepare_cached("DELETE FROM partition WHERE source = ?1")?.execute([source])?;
    Ok(())
}

fn read(connection: &Connection, source: &str) -> Result<Members, RowError> {
    let mut members = Members::new();
    let mut partitions = connection.prepare_cached("SELECT name FROM partition WHERE source = ?1")?;
    let mut rows = partitions.query([source])?;
    while let Some(row) = rows.next()? {
        members.insert(
            parse("partition", row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?,
            BTreeSet::new(),
        );
    }
    let mut nodes =
        connection.prepare_cached("SELECT node FROM member WHERE source = ?1 AND partition = ?2")?;
    for (partition, of) in &mut members {
        let mut rows = nodes.query(params![source, partition.as_str()])?;
        while let Some(row) = rows.next()? {
            of.insert(parse("node", row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?);
        }
    }
    Ok(members)
}

/// Reads all lists. One that does not read back is left out: its source is asked again within a minute.
pub(super) fn read_all(connection: &Connection) -> Result<Vec<RestoredMembers>> {
    let mut sources = connection.prepare("SELECT source, at FROM partition_source ORDER BY source")?;
    let sources: Vec<(String, i64)> =
        sources.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_>>()?;
    let mut all = Vec::with_capacity(sources.len());
    for (source, at) in sources {
        match read(connection, &source) {
            Ok(members) => all.push(RestoredMembers { source, at: UnixMillis(at), members }),
            Err(RowError::Sql(error)) => return Err(error),
            Err(invalid @ RowError::Value { .. }) => {
                warn!(error = %invalid, source, "stored partitions are not usable and left out");
            }
        }
    }
    Ok(all)
}
