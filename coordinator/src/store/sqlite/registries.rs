//! External registries as rows.

use rusqlite::{Error, Result, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sifleet_common::time::UnixMillis;
use tracing::warn;

use super::row::{RowError, bad, tolerate};
use crate::store::registry::{Credentials, RegistryRecord};

/// What nobody looks for with SQL.
#[derive(Serialize, Deserialize)]
struct Rest {
    metadata: Map<String, Value>,
    tags: Vec<String>,
    config: Map<String, Value>,
    storage_info: Map<String, Value>,
}

/// Writes a registry, new or changed.
pub(super) fn put(transaction: &Transaction<'_>, record: &RegistryRecord) -> Result<()> {
    let rest = Rest {
        metadata: record.metadata.clone(),
        tags: record.tags.clone(),
        config: record.config.clone(),
        storage_info: record.storage_info.clone(),
    };
    let rest =
        serde_json::to_string(&rest).map_err(|error| Error::ToSqlConversionFailure(Box::new(error)))?;
    let credentials = record.credentials.as_ref();
    let sql =
        "INSERT OR REPLACE INTO registry (id, name, url, prefix, rest, created, changed, username, password,
             origin, realm)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    transaction.prepare_cached(sql)?.execute(params![
        record.id,
        record.name,
        record.public_url,
        record.image_prefix,
        rest,
        record.created.0,
        record.changed.0,
        credentials.map(|own| own.username.as_str()),
        credentials.map(|own| own.password.as_str()),
        credentials.map(|own| own.origin.as_str()),
        credentials.and_then(|own| own.realm.as_deref()),
    ])?;
    Ok(())
}

pub(super) fn forget(transaction: &Transaction<'_>, id: &str) -> Result<()> {
    transaction.prepare_cached("DELETE FROM registry WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// Reads all registries by id. One that does not read back is left out.
pub(super) fn read_all(transaction: &Transaction<'_>) -> Result<Vec<RegistryRecord>> {
    let sql = "SELECT id, name, url, prefix, rest, created, changed, username, password, origin, realm
         FROM registry ORDER BY id";
    let mut select = transaction.prepare(sql)?;
    let mut rows = select.query(())?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        match tolerate(record(row))? {
            Ok(record) => records.push(record),
            Err(error) => warn!(error, "a stored registry is not usable and left out"),
        }
    }
    Ok(records)
}

fn record(row: &Row<'_>) -> Result<RegistryRecord, RowError> {
    let rest = row.get_ref(4)?.as_str().map_err(Error::from)?;
    let rest: Rest = serde_json::from_str(rest).map_err(|_invalid| bad("rest", rest))?;
    let (username, password, origin): (Option<String>, Option<String>, Option<String>) =
        (row.get(7)?, row.get(8)?, row.get(9)?);
    let realm = row.get(10)?;
    let credentials = match (username, password, origin) {
        (Some(username), Some(password), Some(origin)) => {
            Some(Credentials { username, password, origin, realm })
        }
        _ => None,
    };
    Ok(RegistryRecord {
        id: row.get(0)?,
        name: row.get(1)?,
        metadata: rest.metadata,
        tags: rest.tags,
        public_url: row.get(2)?,
        image_prefix: row.get(3)?,
        config: rest.config,
        storage_info: rest.storage_info,
        credentials,
        created: UnixMillis(row.get(5)?),
        changed: UnixMillis(row.get(6)?),
    })
}
