//! The HTTP API: questions about images, nodes, partitions and pushes, answered from the read view; and new pushes.
//!
//! One noun, one file. This file owns the routes and what handlers share ([`AppState`]); [`server`] owns
//! sockets, [`edge`] what every request passes, [`problem`] the only table of errors. Nothing here decides who
//! holds what: that is the view's business.

pub mod availability;
mod drift;
pub mod edge;
pub mod events;
mod extract;
pub mod health;
pub mod hosts;
mod images;
mod library;
mod limits;
pub mod metrics;
mod nodes;
pub mod openapi;
mod partitions;
pub mod problem;
mod pushes;
mod removals;
pub mod server;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use axum::Router;
use axum::extract::Request;
use sifleet_common::time::Now;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa::openapi::RefOr;
use utoipa::openapi::path::ParameterIn;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;

use crate::library::{Library, Options};
use crate::state::run::Handle;
use crate::store::sqlite::Store;
use crate::view::View;
use edge::{EdgeLayer, RequestIds};
use health::Readiness;
use hosts::Hosts;
use metrics::Metrics;
use problem::ApiError;

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
    /// Where users' images go; without it uploads are refused.
    pub library: Option<Options>,
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
            library: None,
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
    streams: Arc<Semaphore>,
    hosts: Arc<ArcSwap<Hosts>>,
    stop: CancellationToken,
    /// Tells this life of the process from others, in request and event ids.
    process: u32,
}

impl AppState {
    /// Joins what handlers need. Event streams end when `stop` is cancelled.
    #[must_use]
    pub fn new(handle: Handle, store: Store, limits: Limits, stop: CancellationToken) -> Self {
        let metrics = Metrics::new(handle.clone(), store.clone());
        let streams = Arc::new(Semaphore::new(limits.max_event_streams.min(Semaphore::MAX_PERMITS)));
        let hosts = Arc::new(ArcSwap::from_pointee(limits.hosts.clone()));
        let library = limits.library.clone().map(Library::new);
        let (readiness, process) = (Readiness::default(), rand::random());
        Self(Arc::new(App {
            handle,
            store,
            readiness,
            metrics,
            limits,
            library,
            streams,
            hosts,
            stop,
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

/// Makes the router of the whole API. It needs no sockets: [`server`] serves it, tests call it.
pub fn router(state: &AppState) -> Router {
    let edges = Edges { app: Arc::clone(&state.0), ids: Arc::new(RequestIds::new(state.0.process)) };
    let within = Some(state.0.limits.request_timeout);
    let documented = OpenApiRouter::with_openapi(openapi::base())
        .routes(edges.wrap("/v1/availability", within, routes!(availability::get, availability::post)))
        .routes(edges.wrap("/v1/images", within, routes!(images::list)))
        .routes(edges.wrap("/v1/images/{image}", within, routes!(images::show)))
        .routes(edges.wrap("/v1/nodes", within, routes!(nodes::list)))
        .routes(edges.wrap("/v1/nodes/{name}", within, routes!(nodes::show)))
        .routes(edges.wrap("/v1/nodes/{nodeset}/rescan", within, routes!(nodes::rescan)))
        .routes(edges.wrap("/v1/nodes/{nodeset}/busy", within, routes!(nodes::busy)))
        .routes(edges.wrap("/v1/nodes/{nodeset}/idle", within, routes!(nodes::idle)))
        .routes(edges.wrap("/v1/partitions", within, routes!(partitions::list)))
        .routes(edges.wrap("/v1/partitions/{name}", within, routes!(partitions::show)))
        .routes(edges.wrap("/v1/drift", within, routes!(drift::list)))
        .routes(edges.wrap("/v1/pushes", within, routes!(pushes::create, pushes::list)))
        .routes(edges.wrap("/v1/pushes/{id}", within, routes!(pushes::show)))
        .routes(edges.wrap("/v1/pushes/{id}/nodes", within, routes!(pushes::nodes)))
        .routes(edges.wrap("/v1/pushes/{id}/events", None, routes!(pushes::follow)))
        .routes(edges.wrap("/v1/pushes/{id}/cancel", within, routes!(pushes::cancel)))
        .routes(edges.wrap("/v1/pushes/{id}/retry", within, routes!(pushes::retry)))
        .routes(edges.wrap("/v1/pushes/{id}/rate", within, routes!(pushes::rate)))
        .routes(edges.wrap("/v1/removals", within, routes!(removals::create, removals::list)))
        .routes(edges.wrap("/v1/removals/{id}", within, routes!(removals::show)))
        .routes(edges.wrap("/v1/removals/{id}/cancel", within, routes!(removals::cancel)))
        .routes(edges.wrap("/v1/limits", within, routes!(limits::show, limits::change)))
        .routes(edges.wrap("/v1/events", None, routes!(events::follow)))
        .routes(edges.wrap("/v1/library/uploads", None, routes!(library::begin)))
        .routes(edges.wrap(
            "/v1/library/uploads/{id}",
            None,
            routes!(library::look, library::append, library::abandon),
        ))
        .routes(edges.wrap("/v1/library/uploads/{id}/finish", None, routes!(library::finish)))
        .routes(edges.wrap("/healthz", within, routes!(health::live)))
        .routes(edges.wrap("/readyz", within, routes!(health::ready)))
        .routes(edges.wrap("/metrics", within, routes!(metrics::scrape)));
    let (router, document) = documented.split_for_parts();
    let pages = openapi::pages(document).layer(edges.layer("/docs", within));
    let elsewhere = axum::routing::any(no_route).layer(edges.layer("unmatched", within));
    router.merge(pages).fallback_service(elsewhere).with_state(Arc::clone(&state.0))
}

/// Makes the edge of each path.
struct Edges {
    app: Arc<App>,
    ids: Arc<RequestIds>,
}

impl Edges {
    fn wrap(
        &self,
        route: &'static str,
        deadline: Option<Duration>,
        routes: UtoipaMethodRouter<Arc<App>>,
    ) -> UtoipaMethodRouter<Arc<App>> {
        let layer = self.layer(route, deadline);
        let layer = if takes_query(&routes) { layer } else { layer.without_query() };
        routes.layer(layer)
    }

    fn layer(&self, route: &'static str, deadline: Option<Duration>) -> EdgeLayer {
        let (ids, hosts) = (Arc::clone(&self.ids), Arc::clone(&self.app.hosts));
        EdgeLayer::new(route, self.app.metrics.route(route), ids, deadline, hosts)
    }
}

/// Tells whether any handler of a path is described as one that reads the query.
fn takes_query((_, paths, _): &UtoipaMethodRouter<Arc<App>>) -> bool {
    let operations = paths.paths.values().flat_map(|item| [&item.get, &item.post, &item.patch, &item.delete]);
    let mut parameters = operations.flatten().flat_map(|operation| operation.parameters.iter().flatten());
    parameters.any(|parameter| match parameter {
        RefOr::T(parameter) => parameter.parameter_in == ParameterIn::Query,
        // Elsewhere in the document: nothing of ours is.
        RefOr::Ref(_) => true,
    })
}

async fn no_route(request: Request) -> ApiError {
    ApiError::NoRoute { path: problem::cut(request.uri().path()) }
}
