//! Opening the database file: the lock beside it, pragmas, schema, and what an error means for an admin.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use rusqlite_migration::{M, Migrations};

use super::StoreError;

/// Marks the file as ours (`SIFL`), so that no other program's database is ever migrated.
const APPLICATION_ID: i32 = 0x5349_464c;
/// Each applied once, in order, ever: append only.
const MIGRATIONS: &[M<'static>] = &[
    M::up(include_str!("migrations/0001.sql")),
    M::up(include_str!("migrations/0002.sql")),
    M::up(include_str!("migrations/0003.sql")),
    M::up(include_str!("migrations/0004.sql")),
    M::up(include_str!("migrations/0005.sql")),
    M::up(include_str!("migrations/0006.sql")),
    M::up(include_str!("migrations/0007.sql")),
    M::up(include_str!("migrations/0008.sql")),
    M::up(include_str!("migrations/0009.sql")),
];
/// More than the number of distinct statements.
const STATEMENTS: usize = 96;
/// 16 MiB of pages: hot pages are written to the log many times between two folds, and folding costs a sync.
const CHECKPOINT_PAGES: i64 = 4_096;
/// The log is cut back to this after a burst.
const LOG_BYTES: i64 = 64 * 1024 * 1024;
/// Only the fold of the log can make the reader wait.
const BUSY: Duration = Duration::from_secs(5);

/// Makes sure that no second coordinator writes the same database, for as long as the file is held.
///
/// SQLite's own locks are taken per transaction and would let two of them take turns.
pub(super) fn lock(database: &Path) -> Result<File, StoreError> {
    let path = beside(database, "lock");
    let at = |path: &Path, source| StoreError::Lock { path: path.to_owned(), source };
    let open = |path: &Path| {
        // Definition files may hold secrets, and SQLite gives its side files the mode of the database.
        OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(|source| at(path, source))
    };
    let lock = open(&path)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { path: database.to_owned() }),
        Err(TryLockError::Error(source)) => return Err(at(&path, source)),
    }
    open(database)?;
    Ok(lock)
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.to_owned().into_os_string();
    path.push("-");
    path.push(suffix);
    path.into()
}

/// Opens the connection that writes, and brings the schema up to date.
pub(super) fn writer(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(|source| blame(path, source))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let blank = check_owner(&connection, path, known)?;
    let pragmas = || {
        connection.busy_timeout(BUSY)?;
        if blank {
            connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        }
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES)
    };
    pragmas().map_err(|source| blame(path, source))?;
    Migrations::from_slice(MIGRATIONS)
        .to_latest(&mut connection)
        .map_err(|source| StoreError::Migrate { path: path.to_owned(), source })?;
    Ok(connection)
}

/// Refuses what another program, or a newer version of this one, has written; tells whether the file is blank.
fn check_owner(connection: &Connection, path: &Path, known: i64) -> Result<bool, StoreError> {
    let number = |pragma: &str| {
        connection.pragma_query_value(None, pragma, |row| row.get(0)).map_err(|source| blame(path, source))
    };
    let owner: i64 = number("application_id")?;
    let found: i64 = number("user_version")?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))
        .map_err(|source| blame(path, source))?;
    // A file that is empty, or was left empty by a crash between two pragmas, is as good as none.
    let blank = tables == 0 && found == 0 && owner == 0;
    if owner != i64::from(APPLICATION_ID) && !blank {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    Ok(blank)
}

/// Opens the connection that only reads.
pub(super) fn reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|source| blame(path, source))?;
    connection.busy_timeout(BUSY).map_err(|source| blame(path, source))?;
    Ok(connection)
}

/// Tells damage, which asks for another remedy, from everything else.
pub(super) fn blame(path: &Path, source: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Corrupt { path, source },
        _ => StoreError::Open { path, source },
    }
}
