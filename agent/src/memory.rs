//! Remembers what was found in files, so that nothing unchanged is read twice, not even after a restart.
//!
//! Owns one SQLite file in the state directory and all of the agent's SQL. A row says that a file with this
//! device, inode, size, modification and change time had this content. It decides nothing about when to trust
//! that: [`crate::hash`] stores only what it is sure of. Losing the file costs one reading of the images, so
//! whatever looks odd (another version, a damaged page, a row that does not match its seal) is thrown away.
//! Outside facts: SQLite 3 pragmas, "WAL mode", "Result codes".

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use sifleet_common::inventory::{Image, Unusable};
use tracing::warn;

use crate::scan::Print;

/// Version of the table and of what parsing makes of a file: raise it whenever either changes, so that old
/// answers are not believed.
const VERSION: i32 = 2;
/// Rows kept by default: far more than the images of any node, 30 MB on disk.
pub const DEFAULT_ROWS: u64 = 100_000;
/// One row in this many goes when there are too many, so that throwing away is rare.
const EVICTED_SHARE: u64 = 16;
/// SQLite's page cache in KiB.
const CACHE_KIB: i32 = 256;
/// Another process that holds the file (an agent that is just ending) gets this long.
const BUSY: Duration = Duration::from_secs(5);

/// What a file was found to hold.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Remembered {
    /// An image, hashed whole.
    Image(Image),
    /// Something no job can run, for a reason that lies in its bytes.
    Unusable(Unusable),
}

/// Says why there is no memory on disk.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// SQLite cannot use the file.
    #[error("cannot keep the hash memory in {}: check that the state directory exists and is writable", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Distrust,
    },
}

/// Says why a memory file cannot be believed.
#[derive(Debug, thiserror::Error)]
pub enum Distrust {
    /// SQLite cannot use it.
    #[error("SQLite cannot use it")]
    Sqlite(#[from] rusqlite::Error),
    /// Written by another version of the agent.
    #[error("it has version {0}, this agent writes version {VERSION}")]
    Version(i32),
    /// Its pages contradict each other.
    #[error("it is damaged: {0}")]
    Damaged(String),
}

/// The hash memory. Its methods never fail: a memory that does not answer costs a reading, nothing more.
#[derive(Debug)]
pub struct Memory {
    store: Mutex<Store>,
}

#[derive(Debug)]
struct Store {
    db: Connection,
    rows: u64,
    max_rows: u64,
}

impl Memory {
    /// Opens the memory in a file, or starts an empty one where that file cannot be believed.
    ///
    /// # Errors
    /// [`MemoryError`] when not even an empty one can be made; nothing is left behind then.
    pub fn open(path: &Path, max_rows: u64) -> Result<Self, MemoryError> {
        let opened = Store::open(path, max_rows).or_else(|distrust| {
            warn!(path = %path.display(), error = &distrust as &dyn std::error::Error, "hash memory is thrown away and begun again");
            for suffix in ["", "-wal", "-shm"] {
                let mut file = path.as_os_str().to_owned();
                file.push(suffix);
                if let Err(error) = std::fs::remove_file(&file)
                    && error.kind() != std::io::ErrorKind::NotFound
                {
                    warn!(path = %PathBuf::from(file).display(), %error, "cannot remove a part of the hash memory");
                }
            }
            Store::open(path, max_rows)
        });
        let store = opened.map_err(|source| MemoryError::Open { path: path.to_owned(), source })?;
        Ok(Self { store: Mutex::new(store) })
    }

    /// Makes a memory that ends with the process.
    ///
    /// # Errors
    /// [`MemoryError`] when SQLite cannot even do that.
    pub fn volatile(max_rows: u64) -> Result<Self, MemoryError> {
        let path = Path::new(":memory:");
        let store = Store::open(path, max_rows)
            .map_err(|source| MemoryError::Open { path: path.to_owned(), source })?;
        Ok(Self { store: Mutex::new(store) })
    }

    /// Looks up what a version of a file held. `today` counts days since 1970.
    #[must_use]
    pub fn recall(&self, print: &Print, today: i64) -> Option<Remembered> {
        self.with(|store| store.recall(print, today)).flatten()
    }

    /// Stores what a version of a file holds. `today` counts days since 1970.
    pub fn remember(&self, print: &Print, content: &Remembered, today: i64) {
        self.with(|store| store.remember(print, content, today));
    }

    /// Looks up where the file system was mounted that held a root's files when it last held any.
    #[must_use]
    pub fn mount_point(&self, root: &Path) -> Option<PathBuf> {
        self.with(|store| store.mount_point(root)).flatten()
    }

    /// Stores where the file system is mounted that holds a root's files.
    pub fn set_mount_point(&self, root: &Path, point: &Path) {
        self.with(|store| store.set_mount_point(root, point));
    }

    /// Counts the rows.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.with(|store| Ok(store.rows)).unwrap_or(0)
    }

    /// Tells whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn with<T>(&self, work: impl FnOnce(&mut Store) -> rusqlite::Result<T>) -> Option<T> {
        // SQLite's own state is sound whatever panicked between two statements.
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut store).map_err(|error| warn!(%error, "hash memory does not answer")).ok()
    }
}

impl Store {
    fn open(path: &Path, max_rows: u64) -> Result<Self, Distrust> {
        let db = Connection::open(path)?;
        db.busy_timeout(BUSY)?;
        let version: i32 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version != 0 && version != VERSION {
            return Err(Distrust::Version(version));
        }
        db.pragma_update(None, "journal_mode", "WAL")?;
        // Without a sync for each row: a crash may lose the last rows, never damage the others.
        db.pragma_update(None, "synchronous", "NORMAL")?;
        db.pragma_update(None, "cache_size", -CACHE_KIB)?;
        db.pragma_update(None, "journal_size_limit", 1 << 20)?;
        let verdict: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if verdict != "ok" {
            return Err(Distrust::Damaged(verdict));
        }
        db.execute_batch(
            "CREATE TABLE IF NOT EXISTS files (
                 print BLOB PRIMARY KEY, used INTEGER NOT NULL, content TEXT NOT NULL, seal BLOB NOT NULL
             ) WITHOUT ROWID, STRICT;
             CREATE INDEX IF NOT EXISTS files_used ON files (used);
             CREATE TABLE IF NOT EXISTS roots (path BLOB PRIMARY KEY, point BLOB NOT NULL) WITHOUT ROWID, STRICT;",
        )?;
        db.pragma_update(None, "user_version", VERSION)?;
        let rows: i64 = db.query_row("SELECT count(*) FROM files", [], |row| row.get(0))?;
        Ok(Self { db, rows: rows.unsigned_abs(), max_rows })
    }

    fn recall(&mut self, print: &Print, today: i64) -> rusqlite::Result<Option<Remembered>> {
        let key = key(print);
        let row = self
            .db
            .prepare_cached("SELECT used, content, seal FROM files WHERE print = ?1")?
            .query_row(params![key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((used, content, sealed)): Option<(i64, String, Vec<u8>)> = row else { return Ok(None) };
        if sealed != seal(&key, &content) {
            warn!("a row of the hash memory does not match its seal and is ignored");
            return Ok(None);
        }
        if used != today {
            self.db
                .prepare_cached("UPDATE files SET used = ?2 WHERE print = ?1")?
                .execute(params![key, today])?;
        }
        Ok(serde_json::from_str(&content).ok())
    }

    fn remember(&mut self, print: &Print, content: &Remembered, today: i64) -> rusqlite::Result<()> {
        let key = key(print);
        let Ok(content) = serde_json::to_string(content) else { return Ok(()) };
        let replaced = self.db.prepare_cached("DELETE FROM files WHERE print = ?1")?.execute(params![key])?;
        self.db
            .prepare_cached("INSERT INTO files (print, used, content, seal) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![key, today, content, seal(&key, &content)])?;
        self.rows = self.rows.saturating_sub(replaced as u64).saturating_add(1);
        if self.rows > self.max_rows { self.evict() } else { Ok(()) }
    }

    fn mount_point(&mut self, root: &Path) -> rusqlite::Result<Option<PathBuf>> {
        let root = root.as_os_str().as_bytes();
        let point: Option<Vec<u8>> = self
            .db
            .query_row("SELECT point FROM roots WHERE path = ?1", params![root], |row| row.get(0))
            .optional()?;
        Ok(point.map(|point| PathBuf::from(OsString::from_vec(point))))
    }

    fn set_mount_point(&mut self, root: &Path, point: &Path) -> rusqlite::Result<()> {
        let (root, point) = (root.as_os_str().as_bytes(), point.as_os_str().as_bytes());
        let same = "INSERT INTO roots (path, point) VALUES (?1, ?2)
                    ON CONFLICT (path) DO UPDATE SET point = excluded.point WHERE point <> excluded.point";
        self.db.execute(same, params![root, point]).map(drop)
    }

    fn evict(&mut self) -> rusqlite::Result<()> {
        let surplus = self.rows.saturating_sub(self.max_rows) + self.max_rows / EVICTED_SHARE;
        let gone = self.db.execute(
            "DELETE FROM files WHERE print IN (SELECT print FROM files ORDER BY used LIMIT ?1)",
            params![i64::try_from(surplus).unwrap_or(i64::MAX)],
        )?;
        self.rows = self.rows.saturating_sub(gone as u64);
        Ok(())
    }
}

fn key(print: &Print) -> Vec<u8> {
    let mut key = Vec::with_capacity(56);
    for number in [print.dev, print.ino, print.size] {
        key.extend_from_slice(&number.to_be_bytes());
    }
    for time in [print.mtime, print.ctime] {
        key.extend_from_slice(&time.to_be_bytes());
    }
    key
}

/// Catches rows that were damaged in a way that SQLite does not see: a wrong digest would be a wrong answer.
fn seal(key: &[u8], content: &str) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key).update(content.as_bytes());
    hasher.finalize().as_bytes().get(..16).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sifleet_common::digest::Digest;
    use sifleet_common::image::{Arch, Format};

    fn print(ino: u64) -> Print {
        Print { dev: 1, ino, size: 3, mtime: -4, ctime: 5 }
    }

    fn image() -> Remembered {
        let digest = Digest::from(blake3::hash(b"image"));
        Remembered::Image(Image { digest, format: Format::Sif, arch: Arch::Amd64, mutable: false })
    }

    fn file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.db");
        (folder, path)
    }

    #[test]
    fn what_was_found_is_known_after_a_restart() {
        let (_folder, path) = file();
        Memory::open(&path, 10).unwrap().remember(&print(1), &image(), 7);
        let memory = Memory::open(&path, 10).unwrap();
        assert_eq!(memory.recall(&print(1), 8), Some(image()));
        for other in [
            Print { dev: 2, ..print(1) },
            print(2),
            Print { size: 4, ..print(1) },
            Print { mtime: 4, ..print(1) },
            Print { ctime: 6, ..print(1) },
        ] {
            assert_eq!(memory.recall(&other, 8), None, "{other:?}");
        }
    }

    #[test]
    fn a_root_keeps_its_last_mount_point() {
        let (_folder, path) = file();
        let root = Path::new("/scratch/apptainer");
        let memory = Memory::open(&path, 10).unwrap();
        assert_eq!(memory.mount_point(root), None);
        for point in ["/scratch", "/", "/"] {
            memory.set_mount_point(root, Path::new(point));
            assert_eq!(memory.mount_point(root), Some(PathBuf::from(point)));
        }
    }

    #[test]
    fn the_longest_unused_go_first() {
        let memory = Memory::volatile(32).unwrap();
        for ino in 0..32 {
            memory.remember(&print(ino), &image(), 1);
        }
        for ino in 8..32 {
            assert!(memory.recall(&print(ino), 2).is_some());
        }
        memory.remember(&print(32), &image(), 2);
        assert_eq!(memory.len(), 30);
        assert!((8..=32).all(|ino| memory.recall(&print(ino), 2).is_some()));
    }

    #[test]
    fn a_row_replaced_is_not_counted_twice() {
        let memory = Memory::volatile(10).unwrap();
        memory.remember(&print(1), &image(), 1);
        memory.remember(&print(1), &image(), 1);
        assert_eq!(memory.len(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_believed_is_begun_again() {
        let (_folder, path) = file();
        for damage in
            ["UPDATE files SET content = replace(content, 'amd64', 'arm64')", "PRAGMA user_version = 99"]
        {
            Memory::open(&path, 10).unwrap().remember(&print(1), &image(), 7);
            Connection::open(&path).unwrap().execute_batch(damage).unwrap();
            let memory = Memory::open(&path, 10).unwrap();
            assert_eq!(memory.recall(&print(1), 7), None, "{damage}");
            memory.remember(&print(1), &image(), 7);
            assert_eq!(memory.recall(&print(1), 7), Some(image()), "{damage}");
        }
        std::fs::write(&path, "this is no database, and long enough to be looked at as one".repeat(100))
            .unwrap();
        let memory = Memory::open(&path, 10).unwrap();
        assert!(memory.is_empty());
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error() {
        assert!(Memory::open(Path::new("/nonexistent/memory.db"), 10).is_err());
    }
}
