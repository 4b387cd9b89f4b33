//! The HTTP API: questions about images, nodes, partitions and pushes, answered from the read view; and new pushes.
//!
//! One noun, one file. This file owns what handlers share ([`AppState`]), [`routes`] which path leads where; [`server`] owns
//! sockets, [`edge`] what every request passes, [`gate`] who may, [`problem`] the only table of errors. Nothing here decides who
//! holds what: that is the view's business.

mod apptainer;
mod audit;
pub mod availability;
mod container_registries;
pub mod dashboard;
mod drift;
pub mod edge;
pub mod enrolments;
pub mod events;
mod extract;
mod follower;
mod gate;
pub mod health;
pub mod hosts;
mod images;
mod imports;
mod language;
mod library;
mod limits;
pub mod metrics;
mod nodes;
mod oci;
pub mod openapi;
mod partitions;
mod preheats;
pub mod problem;
mod pushes;
mod registries;
mod removals;
mod routes;
pub mod server;
mod templates;
mod tokens;
mod verdicts;
mod vnc;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use sifleet_common::time::Now;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::access::{self, Access};
use crate::library::{Library, Options};
use crate::oci::Registry;
use crate::registries::Catalogue;
use crate::registries::imports::{Imports, Parts};
use crate::registries::outside::{self, Outside};
use crate::registries::preheats::{self as preheating, Preheats};
use crate::state::run::Handle;
use crate::store::sqlite::Store;
use crate::store::token::TokenRecord;
use crate::templates::Templates;
use crate::view::View;
use enrolments::Door;
use health::Readiness;
use hosts::Hosts;
pub(crate) use library::code as library_code;
use metrics::Metrics;
use problem::ApiError;
pub use routes::router;

/// Most registries that are looked at at once: each takes a connection, for seconds where nobody answers.
const MAX_CHECKS: usize = 8;

/// What may be configured of the HTTP API.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest body of a request, in bytes: a batch of 1,000 long questions is a quarter of it.
    pub max_body: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// How long the answer may take; streams of events are exempt.
    pub request_timeout: Duration,
    /// How many may follow the events at once: each costs a connection and a copy of every event.
    pub max_event_streams: usize,
    /// How often a silent stream of events says that it lives, to keep proxies from closing it.
    pub keep_alive: Duration,
    /// By which names we may be asked.
    pub hosts: Hosts,
    /// Who may ask, and how often.
    pub access: access::Options,
    /// What dashboards are answered.
    pub dashboard: dashboard::Options,
    /// Where users' images go; without it uploads are refused.
    pub library: Option<Options>,
    /// How clients of registries are served.
    pub oci: crate::oci::Options,
    /// Which external registries may be asked.
    pub registries: outside::Options,
    /// Where preheated images go unless the path says it.
    pub preheat_partition: Option<String>,
    /// How the server treats connections.
    pub server: server::Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 1024 * 1024,
            body_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
            max_event_streams: 64,
            keep_alive: Duration::from_secs(15),
            hosts: Hosts::default(),
            access: access::Options::default(),
            dashboard: dashboard::Options::default(),
            library: None,
            oci: crate::oci::Options::default(),
            registries: outside::Options::default(),
            preheat_partition: None,
            server: server::Limits::default(),
        }
    }
}

/// Everything handlers share; clones share it.
#[derive(Clone, Debug)]
pub struct AppState(Arc<App>);

/// What is behind an [`AppState`].
pub(crate) struct App {
    handle: Handle,
    store: Store,
    readiness: Readiness,
    metrics: Metrics,
    limits: Limits,
    library: Option<Library>,
    registry: Option<Registry>,
    templates: Templates,
    catalogue: Arc<Catalogue>,
    outside: Outside,
    imports: Imports,
    preheats: Preheats,
    checks: Semaphore,
    streams: Arc<Semaphore>,
    hosts: Arc<ArcSwap<Hosts>>,
    access: Arc<Access>,
    stop: CancellationToken,
    /// How nodes come in; absent where nobody listens for them.
    door: OnceLock<Door>,
    /// Tells this life of the process from others, in request and event ids.
    process: u32,
}

impl AppState {
    /// Joins what handlers need. Event streams end when `stop` is cancelled.
    #[must_use]
    pub fn new(
        handle: Handle,
        store: Store,
        tokens: Vec<TokenRecord>,
        limits: Limits,
        stop: CancellationToken,
    ) -> Self {
        let access = Arc::new(Access::new(limits.access.clone(), &store, tokens));
        let metrics = Metrics::new(handle.clone(), store.clone());
        let streams = Arc::new(Semaphore::new(limits.max_event_streams.min(Semaphore::MAX_PERMITS)));
        let hosts = Arc::new(ArcSwap::from_pointee(limits.hosts.clone()));
        let library = limits.library.clone().map(Library::new);
        let of = |library| Registry::new(library, limits.oci.clone(), store.clone(), handle.clone());
        let registry = library.clone().map(of);
        let templates = Templates::new(store.clone());
        let (readiness, process) = (Readiness::default(), rand::random());
        let catalogue = Arc::new(Catalogue::new(store.clone()));
        let outside = Outside::new(limits.registries.clone());
        Self(Arc::new(App {
            handle,
            store,
            readiness,
            metrics,
            limits,
            library,
            registry,
            templates,
            catalogue,
            outside,
            imports: Imports::default(),
            preheats: Preheats::default(),
            checks: Semaphore::new(MAX_CHECKS),
            streams,
            hosts,
            access,
            stop,
            door: OnceLock::new(),
            process,
        }))
    }

    /// Borrows the list of what has started, for those who start it.
    #[must_use]
    pub fn readiness(&self) -> &Readiness {
        &self.0.readiness
    }

    /// Borrows the library, for those who keep it tidy.
    #[must_use]
    pub fn library(&self) -> Option<&Library> {
        self.0.library.as_ref()
    }

    /// Borrows the library as clients of registries see it, for those who keep it tidy.
    #[must_use]
    pub fn registry(&self) -> Option<&Registry> {
        self.0.registry.as_ref()
    }

    /// Borrows the job templates, for those who read them.
    #[must_use]
    pub fn templates(&self) -> &Templates {
        &self.0.templates
    }

    /// Borrows the catalogue of external registries, for those who restore it.
    #[must_use]
    pub fn catalogue(&self) -> &Arc<Catalogue> {
        &self.0.catalogue
    }

    /// Returns the imports and what they need, for those who run them; none without a library.
    #[must_use]
    pub fn imports(&self) -> Option<(Imports, Parts)> {
        let app = &self.0;
        let parts = Parts {
            library: app.library.clone()?,
            catalogue: Arc::clone(&app.catalogue),
            outside: app.outside.clone(),
            clock: app.handle.clock,
        };
        Some((app.imports.clone(), parts))
    }

    /// Returns the preheats and what they need, for those who run them; none without a library.
    #[must_use]
    pub fn preheats(&self) -> Option<(Preheats, preheating::Parts)> {
        let app = &self.0;
        app.library.as_ref()?;
        let (catalogue, handle) = (Arc::clone(&app.catalogue), app.handle.clone());
        let parts = preheating::Parts { imports: app.imports.clone(), catalogue, handle };
        Some((app.preheats.clone(), parts))
    }

    /// Borrows what is known of callers, for those who keep it tidy.
    #[must_use]
    pub fn access(&self) -> &Arc<Access> {
        &self.0.access
    }

    /// Tells how nodes come in; the first word counts.
    pub fn open_door(&self, door: Door) {
        drop(self.0.door.set(door));
    }

    /// Replaces the names by which we may be asked, since the certificate has others.
    pub(crate) fn rename(&self, hosts: Hosts) {
        self.0.hosts.store(Arc::new(hosts));
    }

    /// Borrows the metrics, for those who count.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl App {
    fn view(&self) -> Guard<Arc<View>> {
        self.handle.views.load()
    }

    fn door(&self) -> Option<&Door> {
        self.door.get()
    }

    fn now(&self) -> Now {
        self.handle.clock.now()
    }

    fn handle(&self) -> &Handle {
        &self.handle
    }

    fn store(&self) -> &Store {
        &self.store
    }

    fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn access(&self) -> &Access {
        &self.access
    }

    fn templates(&self) -> &Templates {
        &self.templates
    }

    fn dashboard(&self) -> &dashboard::Options {
        &self.limits.dashboard
    }

    fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    fn outside(&self) -> &Outside {
        &self.outside
    }

    fn imports(&self) -> &Imports {
        &self.imports
    }

    fn preheats(&self) -> &Preheats {
        &self.preheats
    }

    fn checks(&self) -> &Semaphore {
        &self.checks
    }

    fn library(&self) -> Result<&Library, ApiError> {
        self.library.as_ref().ok_or(ApiError::NoLibrary)
    }
}

/// Refuses a text that is longer than anything it could name.
fn check_length(name: &str, text: &str, max: usize) -> Result<(), ApiError> {
    if text.len() <= max {
        return Ok(());
    }
    Err(ApiError::BadQuery { detail: format!("{name} has {} bytes, at most {max} make sense", text.len()) })
}
