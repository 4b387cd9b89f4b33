//! The catalogue of external registries: who they are, how they are, and what is brought in from them.
//!
//! Owns the table in memory, read without waiting and changed only once the store has the change. What may be written down is in
//! [`record`], questions in [`query`]; [`address`] decides whom we ask and [`outside`] is the only way we do;
//! [`health`] looks at a registry, [`imports`] bring images into the library, [`preheats`] on to a partition. Credentials leave this module only towards the
//! host for which they were stored.

pub mod address;
pub mod auth;
pub mod health;
pub mod imports;
pub mod outside;
mod own;
pub mod preheats;
pub mod query;
pub mod record;
pub mod reference;
pub mod source;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::{Map, Value};
use sifleet_common::api::registries::{CredentialsRequest, RegistryRequest};
use sifleet_common::time::UnixMillis;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tracing::info;

use crate::store::registry::{Credentials, RegistryRecord};
use crate::store::{Op, Store, StoreError};
use address::Origin;
use query::{BadQuery, Query};
use record::BadRecord;

/// Most registries.
pub const MAX_REGISTRIES: usize = 1_000;
/// Most questions that are answered at once: each takes a processor for a second or two at worst.
const MAX_QUESTIONS: usize = 2;
/// Longest user name, in characters.
const MAX_USER: usize = 256;
/// Longest password, in bytes: tokens of clouds have some thousands.
const MAX_PASSWORD: usize = 4_096;

/// Says why the catalogue does not do it.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It cannot be meant so.
    #[error(transparent)]
    Bad(#[from] BadRecord),
    /// The question is none.
    #[error(transparent)]
    Query(#[from] BadQuery),
    /// There is none of this id or name.
    #[error("there is no registry {id:?}")]
    Unknown {
        /// As written, cut.
        id: String,
    },
    /// There is one.
    #[error("there is a registry with the {what} {text:?} already")]
    Exists {
        /// Whether the id or the name.
        what: &'static str,
        /// Which.
        text: String,
    },
    /// There are enough.
    #[error("{MAX_REGISTRIES} registries are written down, and that is the limit")]
    TooMany,
    /// It is not on disk.
    #[error("nothing was changed, for the database cannot be written")]
    NotStored(#[source] Box<StoreError>),
}

type Table = BTreeMap<String, Arc<RegistryRecord>>;

/// All registries.
#[derive(Debug)]
pub struct Catalogue {
    table: ArcSwap<Table>,
    /// Held by whoever changes something.
    changing: Mutex<()>,
    /// Places for questions.
    asking: Arc<Semaphore>,
    store: Store,
}

impl Catalogue {
    /// Begins with none.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let asking = Arc::new(Semaphore::new(MAX_QUESTIONS));
        Self { table: ArcSwap::default(), changing: Mutex::new(()), asking, store }
    }

    /// Takes in what was found in the store; before anybody asks.
    pub fn restore(&self, records: Vec<RegistryRecord>) {
        let table = records.into_iter().map(|record| (record.id.clone(), Arc::new(record))).collect();
        self.table.store(Arc::new(table));
    }

    /// Lists all, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<RegistryRecord>> {
        let mut all: Vec<_> = self.table.load().values().cloned().collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// Waits until a question may be answered with [`Catalogue::find`]. Whoever answers it keeps what this returns until then: an asker
    /// who goes away ends nothing.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // None if there are no places any longer, which does not happen.
        Arc::clone(&self.asking).acquire_owned().await.ok()
    }

    /// Lists those that a question is about, by name.
    ///
    /// # Errors
    /// [`RegistryError::Query`].
    pub fn find(&self, filter: &Map<String, Value>) -> Result<Vec<RegistryRecord>, RegistryError> {
        let (query, all) = (Query::read(filter)?, self.list());
        Ok(query.pick(all.iter().map(|record| &**record))?.into_iter().cloned().collect())
    }

    /// Finds one by its id, or by its name.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`].
    pub fn get(&self, id: &str) -> Result<Arc<RegistryRecord>, RegistryError> {
        let table = self.table.load();
        let named = || table.values().find(|record| record.name == id);
        let found = table.get(id).or_else(named).cloned();
        found.ok_or_else(|| RegistryError::Unknown { id: id.chars().take(80).collect() })
    }

    /// Finds the one that answers under a host as names of images have it, `registry.example:5000`; of several one that
    /// is at that very address, then one with credentials, then the oldest.
    #[must_use]
    pub fn of_host(&self, host: &str) -> Option<Arc<RegistryRecord>> {
        let table = self.table.load();
        let answers = |record: &RegistryRecord| {
            let own = record.public_url.parse::<Origin>().map(|origin| origin.authority());
            own.is_ok_and(|own| own.eq_ignore_ascii_case(host))
        };
        let begins = |record: &RegistryRecord| {
            let prefix = record.image_prefix.split('/').next().unwrap_or_default();
            !prefix.is_empty() && prefix.eq_ignore_ascii_case(host)
        };
        let is_meant = |record: &&Arc<RegistryRecord>| answers(record) || begins(record);
        let best =
            |record: &&Arc<RegistryRecord>| (!answers(record), record.credentials.is_none(), record.created);
        table.values().filter(is_meant).min_by_key(best).cloned()
    }

    /// Writes a registry down. It is on disk when this returns.
    ///
    /// # Errors
    /// [`RegistryError`]; nothing was changed.
    pub async fn add(
        &self,
        request: RegistryRequest,
        now: UnixMillis,
    ) -> Result<Arc<RegistryRecord>, RegistryError> {
        let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string();
        let record = record::make(request, id, now)?;
        let _changing = self.changing.lock().await;
        let table = self.table.load();
        if table.len() >= MAX_REGISTRIES {
            return Err(RegistryError::TooMany);
        }
        if table.contains_key(&record.id) {
            return Err(RegistryError::Exists { what: "id", text: record.id });
        }
        self.put(record).await
    }

    /// Changes a registry by `$set`. Credentials for another host than its own are forgotten.
    ///
    /// # Errors
    /// [`RegistryError`]; nothing was changed.
    pub async fn set(
        &self,
        id: &str,
        changes: &Map<String, Value>,
        now: UnixMillis,
    ) -> Result<Arc<RegistryRecord>, RegistryError> {
        let _changing = self.changing.lock().await;
        let known = self.get(id)?;
        let record = record::set(&known, changes, now)?;
        if known.credentials.is_some() && record.credentials.is_none() {
            info!(registry = %record.id, "the credentials of a registry were forgotten, for it has another address");
        }
        self.put(record).await
    }

    /// Sets or takes away the credentials of a registry.
    ///
    /// # Errors
    /// [`RegistryError`]; nothing was changed.
    pub async fn sign_in(
        &self,
        id: &str,
        request: Option<CredentialsRequest>,
        now: UnixMillis,
    ) -> Result<Arc<RegistryRecord>, RegistryError> {
        let _changing = self.changing.lock().await;
        let mut record = RegistryRecord::clone(&*self.get(id)?);
        record.credentials = request.map(|request| credentials(&record, request)).transpose()?;
        record.changed = now;
        self.put(record).await
    }

    /// Forgets a registry and its credentials.
    ///
    /// # Errors
    /// [`RegistryError`]; nothing was changed.
    pub async fn forget(&self, id: &str) -> Result<Arc<RegistryRecord>, RegistryError> {
        let _changing = self.changing.lock().await;
        let known = self.get(id)?;
        self.commit(Op::ForgetRegistry { id: known.id.clone() }).await?;
        self.change(|table| drop(table.remove(&known.id)));
        Ok(known)
    }

    async fn put(&self, record: RegistryRecord) -> Result<Arc<RegistryRecord>, RegistryError> {
        // Ids and names are asked for in one breath, so neither may be the other's.
        for known in self.table.load().values().filter(|known| known.id != record.id) {
            if known.name == record.name || known.id == record.name {
                return Err(RegistryError::Exists { what: "name", text: record.name });
            }
            if known.name == record.id {
                return Err(RegistryError::Exists { what: "name", text: record.id });
            }
        }
        self.commit(Op::PutRegistry { record: Box::new(record.clone()) }).await?;
        let record = Arc::new(record);
        self.change(|table| drop(table.insert(record.id.clone(), Arc::clone(&record))));
        Ok(record)
    }

    async fn commit(&self, op: Op) -> Result<(), RegistryError> {
        self.store.commit(vec![op]).await.map_err(|source| RegistryError::NotStored(Box::new(source)))
    }

    fn change(&self, change: impl Fn(&mut Table)) {
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            change(&mut table);
            table
        });
    }
}

/// Looks whether credentials can be kept, and binds them to where the registry is.
fn credentials(record: &RegistryRecord, request: CredentialsRequest) -> Result<Credentials, BadRecord> {
    let CredentialsRequest { username, password, realm } = request;
    let bad = |detail: String| Err(BadRecord(detail));
    let plain = |text: &str| !text.chars().any(char::is_control);
    if !(1..=MAX_USER).contains(&username.chars().count()) || username.contains(':') || !plain(&username) {
        return bad(format!("a user name has 1 to {MAX_USER} characters, none of them : or a control one"));
    }
    if !(1..=MAX_PASSWORD).contains(&password.len()) || !plain(&password) {
        return bad(format!("a password has 1 to {MAX_PASSWORD} bytes, none of them a control character"));
    }
    let is_secure = |text: &str| text.parse::<Origin>().is_ok_and(|origin| origin.is_secure());
    if !is_secure(&record.public_url) {
        return bad(
            "credentials would go over the network in the clear: give the registry an address with https"
                .into(),
        );
    }
    if realm.as_deref().is_some_and(|realm| !is_secure(realm)) {
        // It is not repeated: who mistakes one field for another writes a password here.
        return bad("realm is written like https://auth.example".into());
    }
    let realm = realm.and_then(|realm| realm.parse::<Origin>().ok()).map(|origin| origin.to_string());
    Ok(Credentials { username, password, origin: record.public_url.clone(), realm })
}

#[cfg(test)]
mod tests;
