//! Images on their way from external registries into the library: each once, however many ask.
//!
//! Owns the table of imports in memory: what is going on, and what ended lately. The bytes are the library's business, whose
//! staging survives a restart; who asks again then goes on with them. [`run`] is the loop.

mod run;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::HeaderValue;
use sifleet_common::api::imports::{ImportBody, ImportState};
use sifleet_common::clock::Clock;
use sifleet_common::digest::Digest;
use sifleet_common::name::{ImageName, NameError};
use sifleet_common::time::UnixMillis;
use tokio::sync::mpsc;

use super::Catalogue;
use super::outside::Outside;
use super::preheats::MAX_RUNNING as MAX_PREHEATS;
use super::reference::{BadReference, Reference};
use crate::library::{Library, LibraryError, Sha256, check_name};

/// Most imports that go on at once: each has a connection and a thread that writes.
const MAX_RUNNING: usize = 4;
/// Most that wait besides; more are refused.
const MAX_WAITING: usize = 64;
/// Most that ended and are kept.
const MAX_ENDED: usize = 100;

/// Numbers imports in the order in which they were asked for, from the second on in which the first one was: no number of an earlier
/// life of the coordinator stands for something else. Shown as `i-1795363200`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImportNo(pub u64);

impl fmt::Display for ImportNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "i-{:06}", self.0)
    }
}

impl FromStr for ImportNo {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("i-").unwrap_or(text);
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        if plain { digits } else { "" }.parse().map(Self)
    }
}

/// Says why nothing is imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It names no image.
    #[error(transparent)]
    Reference(#[from] BadReference),
    /// It names no image of the library.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The library takes no such name.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// It is no address of a manifest.
    #[error("{url:?} is no address of a manifest, such as https://HOST/v2/PROJECT/REPOSITORY/manifests/TAG")]
    NoManifest {
        /// As written, cut.
        url: String,
    },
    /// Only registries of the catalogue are asked.
    #[error("{host} is no registry of the catalogue")]
    Unlisted {
        /// Which.
        host: String,
    },
    /// There are enough.
    #[error("{MAX_WAITING} imports wait, and that is the limit")]
    TooMany,
    /// There is none of this number.
    #[error("there is no import {id:?}")]
    Unknown {
        /// As written, cut.
        id: String,
    },
    /// There are enough.
    #[error("{MAX_PREHEATS} preheats go on, and that is the limit")]
    TooManyPreheats,
    /// There is none of this number.
    #[error("there is no preheat {id:?}; those from before the coordinator started are forgotten")]
    UnknownPreheat {
        /// As written, cut.
        id: String,
    },
}

/// What somebody asks for.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The image: `oras://HOST/REPOSITORY:TAG`.
    pub source: &'a str,
    /// Its name in the library; made from repository and tag if not said.
    pub name: Option<&'a str>,
    /// What the registry is shown first, if it is asked over TLS; nobody else ever sees it.
    pub pass: Option<HeaderValue>,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wish {
    no: ImportNo,
    reference: Reference,
    name: ImageName,
    /// Id of the registry.
    registry: String,
    pass: Option<HeaderValue>,
}

/// How an import stands.
#[derive(Clone, Debug)]
struct Import {
    wish: Wish,
    state: ImportState,
    layer: Option<(Sha256, u64)>,
    /// Whether it is the one that brings its layer to its name; others with the same wait.
    brings: bool,
    done: u64,
    digest: Option<Digest>,
    failed: Option<(&'static str, String)>,
    created: UnixMillis,
    ended: Option<UnixMillis>,
}

/// All imports; clones share them.
#[derive(Clone, Debug)]
pub struct Imports(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    queue: mpsc::Sender<Wish>,
    /// Taken by the loop.
    waiting: Mutex<Option<mpsc::Receiver<Wish>>>,
}

#[derive(Debug, Default)]
struct Table {
    imports: BTreeMap<ImportNo, Import>,
    last: u64,
}

/// What imports need.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Where images go.
    pub library: Library,
    /// Who may be asked.
    pub catalogue: Arc<Catalogue>,
    /// How.
    pub outside: Outside,
    /// When.
    pub clock: Clock,
}

impl Default for Imports {
    fn default() -> Self {
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        Self(Arc::new(Shared { table: Mutex::default(), queue, waiting: Mutex::new(Some(waiting)) }))
    }
}

impl Imports {
    /// Has an image imported, unless that very image goes to that very name already; tells which import it is, and whether it is
    /// new.
    ///
    /// # Errors
    /// [`ImportError`]; nothing was begun.
    pub fn begin(
        &self,
        catalogue: &Catalogue,
        Wanted { source, name, pass }: Wanted<'_>,
        now: UnixMillis,
    ) -> Result<(ImportBody, bool), ImportError> {
        let reference: Reference = source.parse()?;
        let name = match name {
            Some(name) => name.parse()?,
            None => reference.library_name()?,
        };
        check_name(&name)?;
        let registry = catalogue
            .of_host(&reference.host)
            .ok_or_else(|| ImportError::Unlisted { host: reference.host.clone() })?;
        let mut table = self.table();
        let same = |import: &&Import| {
            import.ended.is_none() && import.wish.reference == reference && import.wish.name == name
        };
        if let Some(same) = table.imports.values().find(same) {
            return Ok((same.body(), false));
        }
        let since = u64::try_from(now.0 / 1_000).unwrap_or(0);
        let no = ImportNo(table.last.saturating_add(1).max(since));
        let wish = Wish { no, reference, name, registry: registry.id.clone(), pass };
        self.0.queue.try_send(wish.clone()).map_err(|_full| ImportError::TooMany)?;
        table.last = no.0;
        let import = Import {
            wish,
            state: ImportState::Waiting,
            layer: None,
            brings: false,
            done: 0,
            digest: None,
            failed: None,
            created: now,
            ended: None,
        };
        let body = import.body();
        table.imports.insert(no, import);
        table.forget();
        Ok((body, true))
    }

    /// Tells how an import stands.
    ///
    /// # Errors
    /// [`ImportError::Unknown`].
    pub fn look(&self, id: &str) -> Result<ImportBody, ImportError> {
        let unknown = || ImportError::Unknown { id: id.chars().take(80).collect() };
        let no: ImportNo = id.parse().map_err(|_no_number| unknown())?;
        self.table().imports.get(&no).map(Import::body).ok_or_else(unknown)
    }

    /// Lists those that are kept, newest first.
    #[must_use]
    pub fn list(&self) -> Vec<ImportBody> {
        self.table().imports.values().rev().map(Import::body).collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has an import bring its layer to its name, unless another one does so at present.
    fn claim(&self, no: ImportNo) -> bool {
        let mut table = self.table();
        let of = |import: &Import| (import.wish.name.clone(), import.layer);
        let Some(wanted) = table.imports.get(&no).map(of) else { return true };
        let others = table.imports.iter().filter(|(other, _)| **other != no);
        let is_brought =
            others.into_iter().any(|(_, other)| other.brings && other.ended.is_none() && of(other) == wanted);
        if let Some(import) = table.imports.get_mut(&no) {
            import.brings = !is_brought;
        }
        !is_brought
    }

    fn change(&self, no: ImportNo, change: impl FnOnce(&mut Import)) {
        if let Some(import) = self.table().imports.get_mut(&no) {
            change(import);
        }
    }
}

impl Table {
    /// Forgets those that ended first.
    fn forget(&mut self) {
        let mut ended: Vec<_> =
            self.imports.iter().filter_map(|(no, import)| import.ended.map(|ended| (ended, *no))).collect();
        ended.sort_unstable();
        let surplus = ended.len().saturating_sub(MAX_ENDED);
        for (_, no) in ended.into_iter().take(surplus) {
            self.imports.remove(&no);
        }
    }
}

impl Import {
    fn body(&self) -> ImportBody {
        ImportBody {
            id: self.wish.no.to_string(),
            source: self.wish.reference.to_string(),
            registry: self.wish.registry.clone(),
            name: self.wish.name.to_string(),
            state: self.state,
            size: self.layer.map(|(_, size)| size),
            done: self.done,
            sha256: self.layer.map(|(digest, _)| digest.to_string()),
            digest: self.digest.map(|digest| digest.to_string()),
            code: self.failed.as_ref().map(|(code, _)| (*code).to_owned()),
            detail: self.failed.as_ref().map(|(_, detail)| detail.clone()),
            created: self.created.to_string(),
            ended: self.ended.map(|at| at.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_number_of_before_a_restart_is_nobody_elses_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = crate::store::sqlite::open(&folder.path().join("coordinator.db")).unwrap();
        let catalogue = Catalogue::new(store);
        let request = serde_json::json!({"name": "r", "public_url": "https://r.example"});
        catalogue.add(serde_json::from_value(request).unwrap(), UnixMillis(0)).await.unwrap();
        let wanted = |tag| Wanted { source: tag, name: None, pass: None };
        let begin = |imports: &Imports, tag, seconds: i64| {
            imports.begin(&catalogue, wanted(tag), UnixMillis(seconds * 1_000)).unwrap().0.id
        };
        let before = Imports::default();
        let ids = ["oras://r.example/a:1", "oras://r.example/a:2"].map(|tag| begin(&before, tag, 50));
        assert_eq!(ids, ["i-000050", "i-000051"]);
        let after = Imports::default();
        begin(&after, "oras://r.example/b", 60);
        assert!(ids.iter().all(|id| matches!(after.look(id), Err(ImportError::Unknown { .. }))));
    }
}
