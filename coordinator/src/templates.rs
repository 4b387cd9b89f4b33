//! Job templates: what a kind of job needs, by the files of a directory and by what was put over the API.
//!
//! Readers find the newest [`Book`] without waiting. Files go before what was put over the API under the same id, and a
//! file with a mistake counts as it was last read; of one that was never read nothing is known, whatever was put over the
//! API. [`folder`] reads the directory, [`mod@file`] one file.

pub mod file;
pub mod folder;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use sifleet_common::api::templates::{Template, TemplateBody, TemplateList, TemplateMistake};
use sifleet_common::clock::Clock;
use sifleet_common::time::Now;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::store::template::{TemplateId, TemplateRecord, Unfit};
use crate::store::{Op, Store, StoreError};
use folder::{Folder, POLL};

/// Most templates that are kept of what was put over the API.
pub const MAX_STORED: usize = 1_000;
/// Most mistakes that are listed.
const MAX_MISTAKES: usize = 200;

/// Says why a template is not put, or not deleted.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// It cannot be meant so.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// There is none of this id.
    #[error("there is no template {id:?}")]
    Unknown {
        /// As written, cut.
        id: String,
        /// Ids that are close.
        candidates: Vec<String>,
    },
    /// It is a file's.
    #[error("the template {id} is the file {file}'s")]
    OfFile {
        /// Which.
        id: TemplateId,
        /// By its name in the directory.
        file: String,
    },
    /// There are enough.
    #[error("{MAX_STORED} templates were put, and that is the limit")]
    TooMany,
    /// It is not on disk.
    #[error("the database cannot be written, and nothing has changed")]
    NotStored {
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
}

/// A template of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filed {
    /// What it needs, as it was last read.
    pub record: TemplateRecord,
    /// The file, by its name in the directory.
    pub file: String,
    /// What is wrong with the file at present.
    pub mistake: Option<TemplateMistake>,
}

/// What a directory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shelf {
    /// Its templates.
    pub filed: BTreeMap<TemplateId, Filed>,
    /// What is wrong with it, file by file.
    pub mistakes: Vec<TemplateMistake>,
    /// Files that were never read, by the names that they go by: theirs without its ending, and the id that seems to stand in them.
    pub unread: BTreeMap<String, TemplateMistake>,
}

/// All templates at one moment.
#[derive(Clone, Debug, Default)]
pub struct Book {
    shelf: Shelf,
    stored: BTreeMap<TemplateId, TemplateRecord>,
}

/// What is known under an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A template.
    Template(TemplateRecord),
    /// A file of that name, which never could be read.
    Unreadable(TemplateMistake),
}

impl Book {
    /// Finds what is called so; a file that goes by that name and cannot be read is told from nothing.
    ///
    /// # Errors
    /// [`TemplateError::Unknown`], with ids that are close.
    pub fn find(&self, id: &str) -> Result<Found, TemplateError> {
        let known: Option<TemplateId> = id.parse().ok();
        if let Some(filed) = known.as_ref().and_then(|id| self.shelf.filed.get(id)) {
            return Ok(Found::Template(filed.record.clone()));
        }
        // What the file hid while it was good says nothing of what it is meant to say now.
        if let Some(mistake) = self.shelf.unread.get(id) {
            return Ok(Found::Unreadable(mistake.clone()));
        }
        if let Some(record) = known.as_ref().and_then(|id| self.stored.get(id)) {
            return Ok(Found::Template(record.clone()));
        }
        let ids = self.shelf.filed.keys().chain(self.stored.keys()).map(TemplateId::as_str);
        let candidates = crate::view::near(id, ids);
        Err(TemplateError::Unknown { id: crate::view::shorten(id), candidates })
    }

    /// Refuses to put over the API what is a file's, or is meant to be.
    fn check_source(&self, id: &TemplateId) -> Result<(), TemplateError> {
        let read = self.shelf.filed.get(id).map(|filed| &filed.file);
        let file = read.or_else(|| self.shelf.unread.get(id.as_str()).map(|mistake| &mistake.file));
        file.map_or(Ok(()), |file| Err(TemplateError::OfFile { id: id.clone(), file: file.clone() }))
    }

    /// Shows one.
    ///
    /// # Errors
    /// [`TemplateError::Unknown`].
    pub fn show(&self, id: &str) -> Result<Template, TemplateError> {
        let known = id.parse().ok().and_then(|id: TemplateId| self.shown(&id));
        known.ok_or_else(|| match self.find(id) {
            Err(unknown) => unknown,
            Ok(_) => TemplateError::Unknown { id: crate::view::shorten(id), candidates: Vec::new() },
        })
    }

    fn shown(&self, id: &TemplateId) -> Option<Template> {
        let template = |record: &TemplateRecord, filed: Option<&Filed>| {
            let TemplateBody { name, description, image, partition, require, digest, signer } = record.body();
            Template {
                id: record.id.to_string(),
                name,
                description,
                image,
                partition,
                require,
                digest,
                signer,
                source: if filed.is_some() { "file" } else { "api" }.to_owned(),
                file: filed.map(|filed| filed.file.clone()),
                mistake: match filed {
                    Some(filed) => filed.mistake.clone(),
                    None => self.shelf.unread.get(record.id.as_str()).cloned(),
                },
                changed: record.changed.to_string(),
            }
        };
        match self.shelf.filed.get(id) {
            Some(filed) => Some(template(&filed.record, Some(filed))),
            None => self.stored.get(id).map(|record| template(record, None)),
        }
    }

    /// Lists all, and what is wrong with files.
    #[must_use]
    pub fn list(&self, now: Now) -> TemplateList {
        let mut ids: Vec<&TemplateId> = self.shelf.filed.keys().chain(self.stored.keys()).collect();
        ids.sort();
        ids.dedup();
        TemplateList {
            templates: ids.into_iter().filter_map(|id| self.shown(id)).collect(),
            mistakes: self.shelf.mistakes.iter().take(MAX_MISTAKES).cloned().collect(),
            as_of: now.wall.to_string(),
        }
    }
}

/// The templates; clones share them.
#[derive(Clone, Debug)]
pub struct Templates(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    book: ArcSwap<Book>,
    /// Held by whoever changes what was put over the API.
    changing: Mutex<()>,
    store: Store,
}

impl Templates {
    /// Starts with none; files are read by [`Templates::follow`].
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self(Arc::new(Inner { book: ArcSwap::default(), changing: Mutex::new(()), store }))
    }

    /// Takes in what the store knows.
    pub fn restore(&self, stored: Vec<TemplateRecord>) {
        let stored: BTreeMap<_, _> = stored.into_iter().map(|record| (record.id.clone(), record)).collect();
        self.change(|book| book.stored.clone_from(&stored));
    }

    /// Borrows all templates as they are.
    #[must_use]
    pub fn book(&self) -> Guard<Arc<Book>> {
        self.0.book.load()
    }

    /// Puts a template; it is on disk when it is found. Tells whether there was none of its id.
    ///
    /// # Errors
    /// [`TemplateError`]; nothing has changed.
    pub async fn put(&self, record: TemplateRecord) -> Result<bool, TemplateError> {
        let _changing = self.0.changing.lock().await;
        let book = self.book();
        let is_new = !book.stored.contains_key(&record.id);
        book.check_source(&record.id)?;
        if is_new && book.stored.len() >= MAX_STORED {
            return Err(TemplateError::TooMany);
        }
        drop(book);
        self.commit(Op::PutTemplate { record: Box::new(record.clone()) }).await?;
        self.change(|book| drop(book.stored.insert(record.id.clone(), record.clone())));
        Ok(is_new)
    }

    /// Deletes a template that was put over the API.
    ///
    /// # Errors
    /// [`TemplateError`]; nothing has changed.
    pub async fn delete(&self, id: &str) -> Result<(), TemplateError> {
        let _changing = self.0.changing.lock().await;
        let book = self.book();
        let id: TemplateId = book.show(id)?.id.parse()?;
        if let Some(filed) = book.shelf.filed.get(&id) {
            return Err(TemplateError::OfFile { id, file: filed.file.clone() });
        }
        drop(book);
        self.commit(Op::ForgetTemplate { id: id.clone() }).await?;
        self.change(|book| drop(book.stored.remove(&id)));
        Ok(())
    }

    async fn commit(&self, op: Op) -> Result<(), TemplateError> {
        let stored = self.0.store.commit(vec![op]).await;
        stored.map_err(|source| TemplateError::NotStored { source: source.into() })
    }

    /// Replaces what the directory holds, and says in the log what is wrong with it.
    pub fn shelve(&self, shelf: &Shelf) {
        for mistake in &shelf.mistakes {
            let (file, line, error) = (&mistake.file, mistake.line.unwrap_or_default(), &mistake.message);
            warn!(path = %file, line, error, "a template cannot be read; what was last read is kept");
        }
        info!(templates = shelf.filed.len(), mistakes = shelf.mistakes.len(), "templates are read");
        self.change(|book| book.shelf.clone_from(shelf));
    }

    fn change(&self, change: impl Fn(&mut Book)) {
        self.0.book.rcu(|book| {
            let mut book = Book::clone(book);
            change(&mut book);
            book
        });
    }

    /// Reads a directory at once, and again whenever something in it changed; a change of `reload` reads all of it.
    pub async fn follow(
        self,
        dir: PathBuf,
        clock: Clock,
        mut reload: watch::Receiver<()>,
        stop: CancellationToken,
    ) {
        let mut folder = Folder::new(dir);
        while !stop.is_cancelled() {
            let now = clock.now().wall;
            let read = tokio::task::spawn_blocking(move || {
                let shelf = folder.read(now);
                (folder, shelf)
            });
            let Ok((back, shelf)) = read.await else { return };
            folder = back;
            if let Some(shelf) = shelf {
                self.shelve(&shelf);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL) => {}
                signalled = reload.changed() => match signalled {
                    Ok(()) => folder.forget(),
                    Err(_gone) => return,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests;
