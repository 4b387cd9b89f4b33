//! The embedded database: one SQLite file, one thread that writes it, one connection that reads beside it.
//!
//! All of it is a memory aid: agents report their inventories again, so losing the file costs a snapshot per node
//! and what was last known of nodes that are away. That is why WAL with `synchronous = NORMAL` is right: a crash
//! of the process loses nothing, a power cut at most the last transactions, and either leaves a consistent file in
//! which each node's position agrees with its replicas. Syncing every commit would cost a disk flush per batch. What
//! somebody is told to hold for good ([`Store::commit`]: identities, callers' tokens) is synced.
//! Outside facts: sqlite.org/wal.html, sqlite.org/pragma.html, for SQLite 3.53 as bundled.

mod audit;
mod connect;
mod identities;
mod limits;
mod members;
mod metadata;
mod oci;
mod pushes;
mod registries;
mod removals;
mod restore;
mod row;
mod templates;
mod tokens;
mod write;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use sifleet_common::digest::Digest;
use sifleet_common::image::ImageMetadata;
use sifleet_common::name::NodeName;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::audit::{AuditQuery, AuditRecord};
use super::{Op, Restored};
pub use oci::OciRows;
use writer::{Command, Shared, Writer};

/// Most submissions that wait for the writer. When it is full, steps of the owner loop are lost and mended later
/// ([`Store::try_submit`]), rather than waited for or piled up.
const QUEUE: usize = 1_024;

/// What an image says of itself, and the text of its sidecar.
pub type Said = (Digest, ImageMetadata, Option<String>);

/// Says why something is not stored or found again.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened or made.
    #[error("cannot open the database {}: check that its directory exists, is writable and has space", path.display())]
    Open {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The file, or the lock beside it, cannot be made.
    #[error("cannot write {}: check that its directory exists, is writable and has space", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another coordinator uses it.
    #[error("the database {} is in use by another coordinator: stop that one, or give this one its own state directory", path.display())]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// A newer version wrote it.
    #[error("the database {} has schema {found}, this version knows schemas up to {known}: start the version that wrote it, or move the file away (agents report their inventories again)", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema this build knows.
        known: i64,
    },
    /// Somebody else's database.
    #[error("{} is a database of another program: give the coordinator its own state directory", path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// Not a database any more.
    #[error("the database {} is damaged: stop the coordinator and move the file and its -wal away; agents report their inventories again, only the last-known state of nodes that are away is lost", path.display())]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The schema cannot be brought up to date; the file is as it was.
    #[error("cannot bring the schema of the database {} up to date", path.display())]
    Migrate {
        /// The database.
        path: PathBuf,
        /// What went wrong.
        source: rusqlite_migration::Error,
    },
    /// A read failed.
    #[error("cannot read {what} from the database")]
    Read {
        /// What was to be read.
        what: &'static str,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// What was read is not what was written.
    #[error("the stored metadata of {digest} cannot be read; it is asked for again after a restart")]
    BadMetadata {
        /// Of which image.
        digest: Digest,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The thread that writes, or one that reads, cannot run.
    #[error("a thread of the store cannot run")]
    Thread {
        /// What the system says.
        source: io::Error,
    },
    /// The writer is behind: so much waits for the disk that nothing more is taken.
    #[error("the store is {QUEUE} submissions behind; the inventories concerned are written anew")]
    Behind,
    /// Steps that somebody waits for were not written; the log says why.
    #[error("the database cannot be written")]
    NotWritten,
    /// The store was closed, or its writer is gone.
    #[error("the store is closed")]
    Closed,
}

/// A handle to the database; clones share it.
///
/// Dropping the last one writes what was submitted and ends the writer, without waiting for it; use
/// [`Store::close`] to wait.
#[derive(Clone, Debug)]
pub struct Store {
    queue: mpsc::Sender<Command>,
    reader: Arc<Mutex<Connection>>,
    shared: Arc<Shared>,
}

/// How the writer fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreStats {
    /// Transactions committed.
    pub commits: u64,
    /// Steps in them.
    pub ops: u64,
    /// Transactions that failed.
    pub failures: u64,
    /// Submissions that wait.
    pub waiting: usize,
}

/// Opens the database, or makes it, and reads what it knows.
///
/// Blocks for as long as reading takes: about a second per million replicas.
///
/// # Errors
/// [`StoreError`]; the file is left as it was.
pub fn open(path: &Path) -> Result<(Store, Restored), StoreError> {
    let lock = connect::lock(path)?;
    let mut connection = connect::writer(path)?;
    let restored = restore::read(&mut connection).map_err(|source| connect::blame(path, source))?;
    let reader = Arc::new(Mutex::new(connect::reader(path)?));
    let (queue, commands) = mpsc::channel(QUEUE);
    let shared = Arc::new(Shared::default());
    Writer::start(connection, lock, Arc::clone(&shared), commands)?;
    Ok((Store { queue, reader, shared }, restored))
}

impl Store {
    /// Hands steps over; they are committed together, in order, after everything handed over before.
    ///
    /// Waits while the queue is full. A step that later fails to be written is logged, counted in
    /// [`Store::stats`] and its node is listed by [`Store::take_lost`].
    ///
    /// # Errors
    /// [`StoreError::Closed`]; nothing was stored.
    pub async fn submit(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        let place = self.queue.reserve().await.map_err(|_closed| StoreError::Closed)?;
        place.send(Command::Apply { missed: self.shared.take_missed(), ops });
        Ok(())
    }

    /// Hands steps over like [`Store::submit`], but never waits.
    ///
    /// # Errors
    /// [`StoreError::Behind`]: nothing was stored, the nodes of the steps are listed by [`Store::take_lost`], and their
    /// further steps are skipped until they are replaced as a whole. [`StoreError::Closed`].
    pub fn try_submit(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        match self.queue.try_reserve() {
            Ok(place) => {
                place.send(Command::Apply { missed: self.shared.take_missed(), ops });
                Ok(())
            }
            Err(TrySendError::Full(())) => {
                self.shared.miss(&ops);
                Err(StoreError::Behind)
            }
            Err(TrySendError::Closed(())) => Err(StoreError::Closed),
        }
    }

    /// Hands steps over and waits until they are on disk, where a loss of power leaves them.
    ///
    /// # Errors
    /// [`StoreError::NotWritten`], [`StoreError::Closed`]; nothing was stored.
    pub async fn commit(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        let (done, wait) = oneshot::channel();
        let commit = Command::Commit { ops, done };
        self.queue.send(commit).await.map_err(|_closed| StoreError::Closed)?;
        let written = wait.await.map_err(|_gone| StoreError::Closed)?;
        if written { Ok(()) } else { Err(StoreError::NotWritten) }
    }

    /// Waits until everything submitted before is committed, or has failed.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    pub async fn flush(&self) -> Result<(), StoreError> {
        let (done, wait) = oneshot::channel();
        self.queue.send(Command::Flush(done)).await.map_err(|_closed| StoreError::Closed)?;
        wait.await.map_err(|_gone| StoreError::Closed)
    }

    /// Commits what was submitted, folds the write-ahead log into the file and ends the writer.
    ///
    /// Other handles are refused from then on.
    ///
    /// # Errors
    /// [`StoreError::Closed`] if it was closed already.
    pub async fn close(self) -> Result<(), StoreError> {
        let (done, wait) = oneshot::channel();
        self.queue.send(Command::Close(done)).await.map_err(|_closed| StoreError::Closed)?;
        wait.await.map_err(|_gone| StoreError::Closed)
    }

    /// Looks up what an image says of itself, and the text of its sidecar.
    ///
    /// # Errors
    /// [`StoreError::Read`], [`StoreError::BadMetadata`].
    pub async fn metadata(
        &self,
        digest: Digest,
    ) -> Result<Option<(ImageMetadata, Option<String>)>, StoreError> {
        self.read(move |connection| metadata::get(connection, digest)).await
    }

    /// Looks up what images say of themselves, all at once; those of which nothing is known, or nothing readable, are
    /// left out.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub async fn metadata_of(&self, digests: Vec<Digest>) -> Result<Vec<Said>, StoreError> {
        self.read(move |connection| {
            let mut known = Vec::with_capacity(digests.len());
            for digest in digests {
                match metadata::get(connection, digest) {
                    Ok(Some((metadata, sidecar))) => known.push((digest, metadata, sidecar)),
                    Ok(None) | Err(StoreError::BadMetadata { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(known)
        })
        .await
    }

    /// Looks records of the audit up, newest first, each with its place.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub async fn audit(&self, query: AuditQuery) -> Result<Vec<(i64, AuditRecord)>, StoreError> {
        let what = "the audit";
        let read = move |connection: &Connection| audit::read(connection, &query);
        self.read(move |connection| read(connection).map_err(|source| StoreError::Read { what, source }))
            .await
    }

    /// Reads on a thread where waiting for the disk keeps nobody.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reader = Arc::clone(&self.reader);
        let read = move || read(&reader.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(read).await.map_err(|lost| StoreError::Thread { source: lost.into() })?
    }

    /// Lists the nodes whose steps could not be written, and forgets the list.
    ///
    /// The disk keeps what it had of such a node until the next [`Op::Replace`]. A coordinator that never sends one
    /// is right all the same: its successor merely asks the agent for more.
    #[must_use]
    pub fn take_lost(&self) -> Vec<NodeName> {
        self.shared.take_lost()
    }

    /// Tells whether steps that keep what people asked for could not be written, and forgets it.
    #[must_use]
    pub fn take_asked_lost(&self) -> bool {
        self.shared.take_asked_lost()
    }

    /// Tells how the writer fares.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        self.shared.stats(self.queue.max_capacity() - self.queue.capacity())
    }
}

#[cfg(test)]
mod tests;
