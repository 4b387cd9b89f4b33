//! What images say of themselves: stored as JSON, so that it can be inspected with the `sqlite3` program.
//!
//! Owns the bounds: the table outlives the replicas it describes, so that a name can still be explained after its
//! last replica is gone, and is cut back from the oldest such row. What was cut is asked for again when the image
//! reappears after a restart.

use rusqlite::{Connection, OptionalExtension, Result, Transaction, params};
use sifleet_common::digest::Digest;
use sifleet_common::image::ImageMetadata;
use tracing::info;

use super::StoreError;

/// Most rows while some of them describe images that are nowhere.
const MAX_ROWS: i64 = 100_000;
/// Most bytes of texts at all. A row has 5-50 KB; a node that invents images stops here and not at a full disk.
const MAX_BYTES: i64 = 4 << 30;
/// Cutting back leaves a tenth free: it scans all replicas and is not to happen for every row.
const SLACK: i64 = 10;

/// Counts the table, so that no step has to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    max_rows: i64,
    max_bytes: i64,
    rows: i64,
    bytes: i64,
    noted: i64,
    /// Row count below which cutting back is not tried again.
    retry_at: i64,
}

impl Budget {
    pub(super) fn read(connection: &Connection) -> Result<Self> {
        Self::bounded(connection, MAX_ROWS, MAX_BYTES)
    }

    fn bounded(connection: &Connection, max_rows: i64, max_bytes: i64) -> Result<Self> {
        let sql = "SELECT count(*), coalesce(sum(bytes), 0), coalesce(max(noted), 0) FROM image_metadata";
        connection.query_row(sql, (), |row| {
            let (rows, bytes, noted) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(Self { max_rows, max_bytes, rows, bytes, noted, retry_at: 0 })
        })
    }

    fn is_over(&self) -> bool {
        (self.rows > self.max_rows && self.rows > self.retry_at) || self.bytes > self.max_bytes
    }

    fn is_cut(&self) -> bool {
        self.rows <= self.max_rows - self.max_rows / SLACK
            && self.bytes <= self.max_bytes - self.max_bytes / SLACK
    }

    fn remove(&mut self, bytes: i64) {
        self.rows -= 1;
        self.bytes -= bytes;
    }
}

type Described<'a> = (Digest, &'a ImageMetadata, Option<&'a str>);

pub(super) fn put(
    transaction: &Transaction<'_>,
    budget: &mut Budget,
    (digest, metadata, sidecar): Described<'_>,
) -> Result<()> {
    let text = serde_json::to_string(metadata)
        .map_err(|unfit| rusqlite::Error::ToSqlConversionFailure(Box::new(unfit)))?;
    let bytes = i64::try_from(text.len() + sidecar.map_or(0, str::len)).unwrap_or(i64::MAX);
    let mut find = transaction.prepare_cached("SELECT bytes FROM image_metadata WHERE digest = ?1")?;
    if let Some(before) = find.query_row([digest.as_bytes()], |row| row.get(0)).optional()? {
        budget.remove(before);
    }
    budget.noted += 1;
    let sql = "INSERT OR REPLACE INTO image_metadata (digest, noted, bytes, metadata, sidecar)
         VALUES (?1, ?2, ?3, ?4, ?5)";
    let values = params![digest.as_bytes(), budget.noted, bytes, text, sidecar];
    transaction.prepare_cached(sql)?.execute(values)?;
    budget.rows += 1;
    budget.bytes += bytes;
    if budget.is_over() { cut_back(transaction, budget) } else { Ok(()) }
}

/// Removes the oldest rows: first those that no replica refers to, then, while the bytes are too many, any.
fn cut_back(transaction: &Transaction<'_>, budget: &mut Budget) -> Result<()> {
    let before = budget.rows;
    let unused = "SELECT digest, bytes FROM image_metadata
         WHERE digest NOT IN (SELECT digest FROM replica WHERE digest IS NOT NULL) ORDER BY noted";
    remove_oldest(transaction, budget, unused, Budget::is_cut)?;
    let any = "SELECT digest, bytes FROM image_metadata ORDER BY noted";
    remove_oldest(transaction, budget, any, |budget| budget.bytes <= budget.max_bytes)?;
    budget.retry_at = budget.rows + budget.max_rows / SLACK;
    info!(removed = before - budget.rows, "old image metadata removed");
    Ok(())
}

fn remove_oldest(
    transaction: &Transaction<'_>,
    budget: &mut Budget,
    oldest_first: &str,
    enough: impl Fn(&Budget) -> bool,
) -> Result<()> {
    let mut doomed: Vec<[u8; 32]> = Vec::new();
    let mut select = transaction.prepare(oldest_first)?;
    let mut rows = select.query(())?;
    while !enough(budget) {
        let Some(row) = rows.next()? else { break };
        doomed.push(row.get(0)?);
        budget.remove(row.get(1)?);
    }
    let mut delete = transaction.prepare_cached("DELETE FROM image_metadata WHERE digest = ?1")?;
    for digest in doomed {
        delete.execute([digest])?;
    }
    Ok(())
}

pub(super) fn get(
    connection: &Connection,
    digest: Digest,
) -> Result<Option<(ImageMetadata, Option<String>)>, StoreError> {
    let read = || {
        let mut find =
            connection.prepare_cached("SELECT metadata, sidecar FROM image_metadata WHERE digest = ?1")?;
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?));
        find.query_row([digest.as_bytes()], row).optional()
    };
    let what = "image metadata";
    match read().map_err(|source| StoreError::Read { what, source })? {
        None => Ok(None),
        Some((text, sidecar)) => serde_json::from_str(&text)
            .map(|metadata| Some((metadata, sidecar)))
            .map_err(|source| StoreError::BadMetadata { digest, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sifleet_common::image::Format;

    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("migrations/0001.sql")).unwrap();
        connection
    }

    fn digest(n: u32) -> Digest {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        Digest::from_bytes(bytes)
    }

    fn fill(connection: &mut Connection, budget: &mut Budget, count: u32) {
        let transaction = connection.transaction().unwrap();
        for n in 0..count {
            let metadata = ImageMetadata::bare(Format::Sif, u64::from(n));
            put(&transaction, budget, (digest(n), &metadata, None)).unwrap();
        }
        transaction.commit().unwrap();
    }

    fn left(connection: &Connection) -> Vec<u32> {
        (0..100).filter(|n| get(connection, digest(*n)).unwrap().is_some()).collect()
    }

    #[test]
    fn the_oldest_rows_that_nothing_refers_to_go_first() {
        let mut connection = database();
        connection
            .execute_batch(
                "INSERT INTO node (name, build, arch, partitions, last_seen) VALUES ('n', '', '', '', 0)",
            )
            .unwrap();
        for n in [0, 5] {
            connection
                .execute(
                    "INSERT INTO replica (node, root, name, size, modified, state, digest) VALUES (1, 0, ?1, 0, 0, 'image', ?2)",
                    params![n.to_string(), digest(n).as_bytes()],
                )
                .unwrap();
        }
        let mut budget = Budget::bounded(&connection, 10, MAX_BYTES).unwrap();
        fill(&mut connection, &mut budget, 11);
        assert_eq!(left(&connection), [0, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!((budget.rows, budget.bytes), {
            let counted = Budget::read(&connection).unwrap();
            (counted.rows, counted.bytes)
        });
    }

    #[test]
    fn the_bytes_are_bounded_whatever_refers_to_them() {
        let mut connection = database();
        let one = i64::try_from(serde_json::to_string(&ImageMetadata::bare(Format::Sif, 0)).unwrap().len());
        let mut budget = Budget::bounded(&connection, 1_000, one.unwrap() * 10).unwrap();
        fill(&mut connection, &mut budget, 50);
        assert!(budget.bytes <= budget.max_bytes && left(&connection).contains(&49), "{budget:?}");
    }

    #[test]
    fn repeating_a_row_costs_nothing() {
        let mut connection = database();
        let mut budget = Budget::bounded(&connection, 10, MAX_BYTES).unwrap();
        fill(&mut connection, &mut budget, 3);
        let once = budget.bytes;
        fill(&mut connection, &mut budget, 3);
        assert_eq!((budget.rows, budget.bytes), (3, once));
    }
}
