//! The library as an OCI registry: what `apptainer pull oras://…` and other clients get, and what they push.
//!
//! Owns which manifest a name means, and the way a pushed SIF takes into the library's directory. What the library holds is
//! said by the inventory of the agent that watches it; bytes are served only from a file that is the one that was hashed.
//! Blobs that are no image of the library, and uploads, lie in its hidden folder under names of their own. HTTP is spoken in
//! [`crate::http`]. Outside facts: OCI distribution specification 1.1 and image specification 1.1.

mod blob;
pub mod digest;
pub mod error;
mod fetch;
mod hash;
mod list;
mod lookup;
pub mod manifest;
pub mod name;
mod place;
mod publish;
mod remove;
mod stage;
mod stored;
mod tend;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use sifleet_common::name::ImageName;
use sifleet_common::once::Once;
use sifleet_common::task::Tasks;
use tokio::sync::{Mutex, Semaphore};

use crate::library::Library;
use crate::state::run::Handle;
use crate::store::Store;
pub use blob::{Blob, Piece};
pub use error::OciError;
use fetch::{Fetching, Waiting};
pub use lookup::{Found, Layer};
pub use place::Placing;
pub use publish::{Pushed, Taken};
pub use upload::Receiving;
use upload::Uploads;

/// Most pieces of work that wait for the disk at once, besides uploads and downloads: each takes a thread.
const MAX_WORK: usize = 64;
/// Most of them that read a whole image.
const MAX_PASSES: usize = 8;

/// What may be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether everybody may pull.
    pub anonymous_pull: bool,
    /// Most bytes of a blob that is no SIF image: parts of other artifacts, such as signatures and lists of parts.
    pub max_blob: u64,
    /// Most bytes of blobs and uploads together, besides the library's images.
    pub quota: u64,
    /// Most bytes of manifests together: they lie in the coordinator's database.
    pub max_manifests: u64,
    /// For how long a blob is kept that no manifest names.
    pub keep_unreferenced: Duration,
    /// How long a client waits for an image that is on nodes only.
    pub fetch_timeout: Duration,
    /// Most uploads at once.
    pub max_uploads: usize,
    /// Most downloads at once; further ones wait.
    pub max_downloads: usize,
    /// Which partitions get what is pushed.
    pub place: Vec<Placing>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            anonymous_pull: false,
            max_blob: 1 << 30,
            quota: 100 << 30,
            // Those of a million images.
            max_manifests: 1 << 30,
            keep_unreferenced: Duration::from_secs(86_400),
            fetch_timeout: Duration::from_secs(600),
            // A push of one image sends two blobs at a time.
            max_uploads: 64,
            // Each holds two pieces of half a megabyte.
            max_downloads: 128,
            place: Vec::new(),
        }
    }
}

/// The library as a registry; clones share it.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    library: Library,
    options: Options,
    store: Store,
    handle: Handle,
    uploads: Uploads,
    downloads: Arc<Semaphore>,
    tasks: Tasks,
    hashing: Once<ImageName, Result<(), Arc<OciError>>>,
    work: Arc<Semaphore>,
    passes: Arc<Semaphore>,
    /// Files of the library and of blobs change their names one at a time, and the next one's turn comes once the store knows.
    naming: Arc<Mutex<()>>,
    fetching: Fetching,
    placing: Waiting,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl Registry {
    /// Joins what it needs.
    #[must_use]
    pub fn new(library: Library, options: Options, store: Store, handle: Handle) -> Self {
        let downloads = Arc::new(Semaphore::new(options.max_downloads.clamp(1, Semaphore::MAX_PERMITS)));
        let (uploads, tasks) = (Uploads::new(options.max_uploads), Tasks::new());
        Self(Arc::new(Inner {
            library,
            options,
            store,
            handle,
            uploads,
            downloads,
            hashing: Once::new(tasks.clone()),
            tasks,
            work: Arc::new(Semaphore::new(MAX_WORK)),
            passes: Arc::new(Semaphore::new(MAX_PASSES)),
            naming: Arc::default(),
            fetching: Fetching::default(),
            placing: Waiting::default(),
        }))
    }

    /// Returns what is configured.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// Works where blocking is allowed. Who asked may go away; what was begun is done all the same.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, OciError> + Send + 'static,
    ) -> Result<T, OciError> {
        let place = Arc::clone(&self.0.work).acquire_owned().await.map_err(|_closed| OciError::Lost)?;
        let registry = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&registry);
            drop(place);
            done
        });
        done.await.unwrap_or(Err(OciError::Lost))
    }

    /// As [`Self::on_disk`], for work that reads a whole image: a few of them at a time leave room for all others.
    async fn on_pass<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, OciError> + Send + 'static,
    ) -> Result<T, OciError> {
        let place = Arc::clone(&self.0.passes).acquire_owned().await.map_err(|_closed| OciError::Lost)?;
        self.on_disk(move |registry| {
            let done = work(registry);
            drop(place);
            done
        })
        .await
    }

    /// As [`Self::on_disk`], while no file of the library and no blob changes its name otherwise and the store knows every name
    /// that was changed. It reads no image, for all others wait.
    async fn on_names<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, OciError> + Send + 'static,
    ) -> Result<T, OciError> {
        let turn = Arc::clone(&self.0.naming).lock_owned().await;
        self.on_disk(move |registry| {
            let done = work(registry);
            drop(turn);
            done
        })
        .await
    }
}

/// Cuts a text from a stranger to what may be repeated of it.
fn cut(text: &str) -> String {
    crate::access::secret::hide(text).chars().take(200).collect()
}

#[cfg(test)]
mod tests;
