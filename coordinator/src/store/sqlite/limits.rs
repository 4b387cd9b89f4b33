//! Limits of transfers as one row, and nodes that are marked as busy as one each.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension as _, Result, Row, Transaction, params};
use sifleet_common::name::NodeName;
use tracing::warn;

use crate::store::limits::{Caps, LimitSet};

pub(super) fn put(transaction: &Transaction<'_>, set: &LimitSet) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO limits
             (id, total, up, down, concurrent, busy_up, busy_down, busy_concurrent)
         VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let rate = |rate: Option<u64>| rate.map(u64::cast_signed);
    transaction.prepare_cached(sql)?.execute(params![
        rate(set.total),
        rate(set.node.up),
        rate(set.node.down),
        set.node.concurrent,
        rate(set.busy.up),
        rate(set.busy.down),
        set.busy.concurrent,
    ])?;
    Ok(())
}

pub(super) fn mark(transaction: &Transaction<'_>, nodes: &BTreeSet<NodeName>, busy: bool) -> Result<()> {
    let sql = if busy {
        "INSERT OR IGNORE INTO busy_node (node) VALUES (?1)"
    } else {
        "DELETE FROM busy_node WHERE node = ?1"
    };
    let mut statement = transaction.prepare_cached(sql)?;
    for node in nodes {
        statement.execute([node.as_str()])?;
    }
    Ok(())
}

/// Reads the limits; none were ever set if there is no row.
pub(super) fn read(transaction: &Transaction<'_>) -> Result<LimitSet> {
    let sql =
        "SELECT total, up, down, concurrent, busy_up, busy_down, busy_concurrent FROM limits WHERE id = 1";
    Ok(transaction.query_row(sql, (), set).optional()?.unwrap_or_default())
}

fn set(row: &Row<'_>) -> Result<LimitSet> {
    let rate = |column: usize| -> Result<Option<u64>> {
        Ok(row.get::<_, Option<i64>>(column)?.map(i64::cast_unsigned))
    };
    let caps = |first: usize| -> Result<Caps> {
        Ok(Caps { up: rate(first)?, down: rate(first + 1)?, concurrent: row.get(first + 2)? })
    };
    Ok(LimitSet { total: rate(0)?, node: caps(1)?, busy: caps(4)? })
}

/// Reads who is marked. A name that does not read back is left out.
pub(super) fn read_busy(transaction: &Transaction<'_>) -> Result<BTreeSet<NodeName>> {
    let mut select = transaction.prepare("SELECT node FROM busy_node")?;
    let names: Vec<String> = select.query_map((), |row| row.get(0))?.collect::<Result<_>>()?;
    let usable = names.into_iter().filter_map(|name| match name.parse() {
        Ok(node) => Some(node),
        Err(error) => {
            warn!(%error, name, "a stored busy node is not usable and left out");
            None
        }
    });
    Ok(usable.collect())
}
