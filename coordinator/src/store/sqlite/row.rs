//! Replicas and roots as columns, and back. What does not read back exactly is refused.

use rusqlite::{Row, ToSql};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as WordError, StrDeserializer};
use sifleet_common::digest::Digest;
use sifleet_common::inventory::{Content, Image, Pending, Replica, Root, RootKind, RootState, Unusable};
use sifleet_common::time::UnixMillis;

const BEING_WRITTEN: &str = "being_written";
const HASHING: &str = "hashing";
const IMAGE: &str = "image";
const WATCHED: &str = "watched";
const DEGRADED: &str = "degraded";
const UNKNOWN: &str = "unknown";
const PARTIAL: &str = "partial";

/// Says what is wrong with a stored row.
#[derive(Debug, thiserror::Error)]
pub(super) enum RowError {
    /// The database could not be read at all, or a column has another type.
    #[error("the row cannot be read")]
    Sql(#[from] rusqlite::Error),
    /// A column holds something that was never written there.
    #[error("{column} holds {text:?}")]
    Value {
        /// Which column.
        column: &'static str,
        /// What it holds.
        text: String,
    },
}

/// Reads a word as serde would write it, so that a variant has one text everywhere.
pub(super) fn word<'a, T: Deserialize<'a>>(column: &'static str, text: &'a str) -> Result<T, RowError> {
    let from: StrDeserializer<'a, WordError> = text.into_deserializer();
    T::deserialize(from).map_err(|_unknown| bad(column, text))
}

/// Reads a name or digest from its text.
pub(super) fn parse<T: std::str::FromStr>(column: &'static str, text: &str) -> Result<T, RowError> {
    text.parse().map_err(|_invalid| bad(column, text))
}

pub(super) fn bad(column: &'static str, text: &str) -> RowError {
    RowError::Value { column, text: text.chars().take(80).collect() }
}

/// Binds the columns of a replica that follow its key: size, modified, state, detail, digest, format, arch and
/// mutable, in this order.
pub(super) fn with_replica<R>(replica: &Replica, bind: impl FnOnce([&dyn ToSql; 8]) -> R) -> R {
    let size = replica.size.cast_signed();
    let modified = replica.modified.0;
    match &replica.content {
        Content::Pending(pending) => {
            let state = match pending {
                Pending::BeingWritten => BEING_WRITTEN,
                Pending::Hashing => HASHING,
            };
            bind([&size, &modified, &state, &NONE, &NONE, &NONE, &NONE, &NONE])
        }
        Content::Image(image) => {
            let (digest, format) = (image.digest.as_bytes().as_slice(), image.format.to_string());
            bind([&size, &modified, &IMAGE, &NONE, &digest, &format, &image.arch.as_str(), &image.mutable])
        }
        Content::Unusable(what) => {
            bind([&size, &modified, &what.code.as_str(), &what.detail, &NONE, &NONE, &NONE, &NONE])
        }
    }
}

const NONE: Option<i64> = None;

/// Reads the columns of [`with_replica`], beginning at `at`.
pub(super) fn replica(row: &Row<'_>, at: usize) -> Result<Replica, RowError> {
    let text = |column: usize| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
    let content = match text(at + 2)? {
        BEING_WRITTEN => Content::Pending(Pending::BeingWritten),
        HASHING => Content::Pending(Pending::Hashing),
        IMAGE => Content::Image(Image {
            digest: Digest::from_bytes(row.get(at + 4)?),
            format: word("format", text(at + 5)?)?,
            arch: word("arch", text(at + 6)?)?,
            mutable: row.get(at + 7)?,
        }),
        code => Content::Unusable(Unusable { code: word("state", code)?, detail: row.get(at + 3)? }),
    };
    Ok(Replica {
        size: row.get::<_, i64>(at)?.cast_unsigned(),
        modified: UnixMillis(row.get(at + 1)?),
        content,
    })
}

/// Gives a root's state as the columns `state` and `reason`.
pub(super) fn root_state(state: &RootState) -> (&'static str, Option<&str>) {
    match state {
        RootState::Watched => (WATCHED, None),
        RootState::Degraded { reason } => (DEGRADED, Some(reason)),
        RootState::Unknown { reason } => (UNKNOWN, Some(reason)),
        RootState::Partial { reason } => (PARTIAL, Some(reason)),
    }
}

/// Reads the columns path, library, state and reason, beginning at `at`.
pub(super) fn root(row: &Row<'_>, at: usize) -> Result<Root, RowError> {
    let state = match row.get_ref(at + 2)?.as_str().map_err(rusqlite::Error::from)? {
        WATCHED => RootState::Watched,
        DEGRADED => RootState::Degraded { reason: row.get(at + 3)? },
        UNKNOWN => RootState::Unknown { reason: row.get(at + 3)? },
        PARTIAL => RootState::Partial { reason: row.get(at + 3)? },
        other => return Err(bad("state", other)),
    };
    let number: u8 = row.get(at + 1)?;
    let kind = RootKind::from_number(number).ok_or_else(|| bad("library", &number.to_string()))?;
    Ok(Root { path: row.get(at)?, kind, state })
}

/// Lets failures of the database itself through, and turns what is merely wrong in a row into a text.
pub(super) fn tolerate<T>(read: Result<T, RowError>) -> rusqlite::Result<Result<T, String>> {
    match read {
        Ok(value) => Ok(Ok(value)),
        Err(RowError::Sql(failed @ rusqlite::Error::SqliteFailure(..))) => Err(failed),
        Err(RowError::Sql(unfit)) => Ok(Err(unfit.to_string())),
        Err(invalid @ RowError::Value { .. }) => Ok(Err(invalid.to_string())),
    }
}
