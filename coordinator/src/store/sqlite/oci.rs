//! What is kept for OCI clients, as rows.

use rusqlite::{Connection, Result, Row, ToSql, Transaction, params};
use sifleet_common::digest::Digest;
use sifleet_common::time::UnixMillis;

use super::{Store, StoreError};
use crate::oci::digest::OciDigest;
use crate::store::oci::{FileRow, ManifestPage, ManifestRow, OciStep};

/// Most rows that one question reads: a library has hundreds of images, a catalogue some thousand.
const MAX_ROWS: i64 = 100_000;
const WHAT: &str = "what is kept for OCI clients";
const FILE: &str = "name, version, size, blake3, sha256, sha512, manifest";
const MANIFEST: &str = "repository, digest, media_type, bytes, subject, pushed";

pub(super) fn apply(transaction: &Transaction<'_>, step: &OciStep) -> Result<()> {
    match step {
        OciStep::PutManifest { manifest, blobs, tags } => put_manifest(transaction, manifest, (blobs, tags)),
        OciStep::PutFile(file) => put_file(transaction, file),
        OciStep::ForgetFiles(names) => {
            let mut delete = transaction.prepare_cached("DELETE FROM oci_file WHERE name = ?1")?;
            names.iter().try_for_each(|name| delete.execute([name]).map(drop))
        }
        OciStep::ForgetTag { repository, tag } => {
            let sql = "DELETE FROM oci_tag WHERE repository = ?1 AND tag = ?2";
            transaction.prepare_cached(sql)?.execute([repository, tag]).map(drop)
        }
        OciStep::ForgetManifest { repository, digest } => {
            let digest = digest.to_string();
            for sql in [
                "DELETE FROM oci_tag WHERE repository = ?1 AND digest = ?2",
                "DELETE FROM oci_blob_use WHERE repository = ?1 AND manifest = ?2",
                "DELETE FROM oci_manifest WHERE repository = ?1 AND digest = ?2",
            ] {
                transaction.prepare_cached(sql)?.execute([repository, &digest])?;
            }
            Ok(())
        }
    }
}

fn put_manifest(
    transaction: &Transaction<'_>,
    row: &ManifestRow,
    (blobs, tags): (&[OciDigest], &[String]),
) -> Result<()> {
    let digest = row.digest.to_string();
    let sql = "INSERT OR REPLACE INTO oci_manifest (repository, digest, media_type, bytes, subject, pushed)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let subject = row.subject.as_ref().map(ToString::to_string);
    transaction.prepare_cached(sql)?.execute(params![
        row.repository,
        digest,
        row.media_type,
        row.bytes,
        subject,
        row.pushed.0
    ])?;
    let sql = "INSERT OR IGNORE INTO oci_blob_use (repository, manifest, blob) VALUES (?1, ?2, ?3)";
    let mut uses = transaction.prepare_cached(sql)?;
    for blob in blobs {
        uses.execute([&row.repository, &digest, &blob.to_string()])?;
    }
    let sql = "INSERT OR REPLACE INTO oci_tag (repository, tag, digest) VALUES (?1, ?2, ?3)";
    let mut means = transaction.prepare_cached(sql)?;
    tags.iter().try_for_each(|tag| means.execute([&row.repository, tag, &digest]).map(drop))
}

fn put_file(transaction: &Transaction<'_>, file: &FileRow) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO oci_file (name, version, size, blake3, sha256, sha512, manifest)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    transaction.prepare_cached(sql)?.execute(params![
        file.name,
        file.version,
        file.size.cast_signed(),
        file.blake3.as_bytes(),
        file.sha256.to_string(),
        file.sha512.as_ref().map(ToString::to_string),
        file.manifest.to_string(),
    ])?;
    Ok(())
}

/// Reads rows while the store is held; waits for the disk.
pub struct OciRows<'a>(&'a Connection);

impl Store {
    /// Reads what is kept for OCI clients. Blocks: call it where waiting for the disk keeps nobody.
    ///
    /// # Errors
    /// What `read` says.
    pub fn oci<T, E>(
        &self,
        read: impl FnOnce(&OciRows<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        read(&OciRows(&self.reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner)))
    }
}

impl OciRows<'_> {
    /// Finds a manifest by its digest.
    ///
    /// # Errors
    /// [`StoreError::Read`], as all of these.
    pub fn manifest(
        &self,
        repository: &str,
        digest: &OciDigest,
    ) -> std::result::Result<Option<ManifestRow>, StoreError> {
        let sql = format!("SELECT {MANIFEST} FROM oci_manifest WHERE repository = ?1 AND digest = ?2");
        let found = self.list(&sql, &[&repository, &digest.to_string()], manifest);
        found.map(|rows| rows.into_iter().next().flatten())
    }

    /// Finds what a tag means.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn tag(&self, repository: &str, tag: &str) -> std::result::Result<Option<OciDigest>, StoreError> {
        let sql = "SELECT digest FROM oci_tag WHERE repository = ?1 AND tag = ?2";
        let found = self.list(sql, &[&repository, &tag], |row| row.get::<_, String>(0));
        found.map(|rows| rows.into_iter().find_map(|digest| digest.parse().ok()))
    }

    /// Lists the tags of a repository, or of all, each with what it means.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn tags(
        &self,
        repository: Option<&str>,
    ) -> std::result::Result<Vec<(String, String, OciDigest)>, StoreError> {
        let sql = "SELECT repository, tag, digest FROM oci_tag WHERE ?1 IS NULL OR repository = ?1
             ORDER BY repository, tag LIMIT ?2";
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?));
        let rows: Vec<(String, String, String)> = self.list(sql, &[&repository, &MAX_ROWS], read)?;
        let parsed = rows.into_iter();
        Ok(parsed
            .filter_map(|(repository, tag, digest)| Some((repository, tag, digest.parse().ok()?)))
            .collect())
    }

    /// Lists the repositories that hold a manifest.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn repositories(&self) -> std::result::Result<Vec<String>, StoreError> {
        let sql = "SELECT DISTINCT repository FROM oci_manifest ORDER BY repository LIMIT ?1";
        self.list(sql, &[&MAX_ROWS], |row| row.get(0))
    }

    /// Tells whether a repository holds a manifest.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn holds(&self, repository: &str) -> std::result::Result<bool, StoreError> {
        let sql = "SELECT 1 FROM oci_manifest WHERE repository = ?1 LIMIT 1";
        self.list(sql, &[&repository], |row| row.get::<_, i64>(0)).map(|rows| !rows.is_empty())
    }

    /// Lists the manifests that refer to one, those behind `last` in the order of their digests: at most so many, and none
    /// once those before it have so many bytes.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn referrers(
        &self,
        repository: &str,
        (subject, last): (&OciDigest, &str),
        (most, most_bytes): (usize, usize),
    ) -> std::result::Result<ManifestPage, StoreError> {
        let sql = format!(
            "SELECT {MANIFEST} FROM oci_manifest WHERE subject = ?1 AND repository = ?2 AND digest > ?3
             ORDER BY digest"
        );
        let read = || -> Result<ManifestPage> {
            let mut select = self.0.prepare_cached(&sql)?;
            let mut rows = select.query(params![subject.to_string(), repository, last])?;
            let (mut page, mut count, mut bytes) = (ManifestPage::default(), 0_usize, 0_usize);
            let mut behind = None;
            while let Some(row) = rows.next()? {
                if count >= most || bytes >= most_bytes {
                    page.more_behind = behind;
                    break;
                }
                behind = Some(row.get(1)?);
                count = count.saturating_add(1);
                if let Some(row) = manifest(row)? {
                    bytes = bytes.saturating_add(row.bytes.len());
                    page.rows.push(row);
                }
            }
            Ok(page)
        };
        read().map_err(|source| StoreError::Read { what: WHAT, source })
    }

    /// Tells whether a manifest names a blob.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn is_used(&self, blob: &OciDigest) -> std::result::Result<bool, StoreError> {
        let sql = "SELECT 1 FROM oci_blob_use WHERE blob = ?1 LIMIT 1";
        self.list(sql, &[&blob.to_string()], |row| row.get::<_, i64>(0)).map(|rows| !rows.is_empty())
    }

    /// Tells whether a manifest of a repository names a blob.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn is_used_in(&self, repository: &str, blob: &OciDigest) -> std::result::Result<bool, StoreError> {
        let sql = "SELECT 1 FROM oci_blob_use WHERE blob = ?1 AND repository = ?2 LIMIT 1";
        self.list(sql, &[&blob.to_string(), &repository], |row| row.get::<_, i64>(0))
            .map(|rows| !rows.is_empty())
    }

    /// Counts the bytes of all manifests.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn manifest_bytes(&self) -> std::result::Result<u64, StoreError> {
        let sql = "SELECT COALESCE(SUM(LENGTH(bytes)), 0) FROM oci_manifest";
        let total = self.list(sql, &[], |row| row.get::<_, i64>(0))?.into_iter().sum::<i64>();
        Ok(u64::try_from(total).unwrap_or_default())
    }

    /// Finds what a file of the library was.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn file(&self, name: &str) -> std::result::Result<Option<FileRow>, StoreError> {
        let sql = format!("SELECT {FILE} FROM oci_file WHERE name = ?1");
        self.list(&sql, &[&name], file).map(|rows| rows.into_iter().next().flatten())
    }

    /// Lists what all files of the library were.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn files(&self) -> std::result::Result<Vec<FileRow>, StoreError> {
        let sql = format!("SELECT {FILE} FROM oci_file ORDER BY name LIMIT ?1");
        self.list(&sql, &[&MAX_ROWS], file).map(|rows| rows.into_iter().flatten().collect())
    }

    /// Lists the files whose names begin so, in capitals or not.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn files_beginning(&self, start: &str) -> std::result::Result<Vec<FileRow>, StoreError> {
        let start = start.to_ascii_lowercase();
        let sql = format!(
            "SELECT {FILE} FROM oci_file WHERE lower(substr(name, 1, length(?1))) = ?1 ORDER BY name"
        );
        self.list(&sql, &[&start], file).map(|rows| rows.into_iter().flatten().collect())
    }

    /// Lists the files that had certain bytes.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn files_with(&self, blob: &OciDigest) -> std::result::Result<Vec<FileRow>, StoreError> {
        let sql = format!("SELECT {FILE} FROM oci_file WHERE sha256 = ?1 OR sha512 = ?1 ORDER BY name");
        self.list(&sql, &[&blob.to_string()], file).map(|rows| rows.into_iter().flatten().collect())
    }

    /// Lists the files that have a certain manifest without being pushed.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn files_of_manifest(&self, manifest: &OciDigest) -> std::result::Result<Vec<FileRow>, StoreError> {
        let sql = format!("SELECT {FILE} FROM oci_file WHERE manifest = ?1 ORDER BY name");
        self.list(&sql, &[&manifest.to_string()], file).map(|rows| rows.into_iter().flatten().collect())
    }

    fn list<T>(
        &self,
        sql: &str,
        values: &[&dyn ToSql],
        read: impl Fn(&Row<'_>) -> Result<T>,
    ) -> std::result::Result<Vec<T>, StoreError> {
        let run = || -> Result<Vec<T>> {
            let mut select = self.0.prepare_cached(sql)?;
            select.query_map(values, |row| read(row))?.collect()
        };
        run().map_err(|source| StoreError::Read { what: WHAT, source })
    }
}

/// Reads a manifest; none where a row does not read back.
fn manifest(row: &Row<'_>) -> Result<Option<ManifestRow>> {
    let (digest, subject): (String, Option<String>) = (row.get(1)?, row.get(4)?);
    let Ok(digest) = digest.parse() else { return Ok(None) };
    Ok(Some(ManifestRow {
        repository: row.get(0)?,
        digest,
        media_type: row.get(2)?,
        bytes: row.get(3)?,
        subject: subject.and_then(|subject| subject.parse().ok()),
        pushed: UnixMillis(row.get(5)?),
    }))
}

/// Reads a file; none where a row does not read back, and the file is hashed again.
fn file(row: &Row<'_>) -> Result<Option<FileRow>> {
    let (blake3, sha256): ([u8; 32], String) = (row.get(3)?, row.get(4)?);
    let (sha512, manifest): (Option<String>, String) = (row.get(5)?, row.get(6)?);
    let (Ok(sha256), Ok(manifest)) = (sha256.parse(), manifest.parse()) else { return Ok(None) };
    Ok(Some(FileRow {
        name: row.get(0)?,
        version: row.get(1)?,
        size: row.get::<_, i64>(2)?.cast_unsigned(),
        blake3: Digest::from_bytes(blake3),
        sha256,
        sha512: sha512.and_then(|digest| digest.parse().ok()),
        manifest,
    }))
}
