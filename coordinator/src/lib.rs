//! The coordinator: knows which node holds which image, and answers for it.
//!
//! [`run`] makes the parts, joins their channels and ends them in order:
//!
//! ```text
//! store::sqlite ──► State::restore ──► state::run (the one loop) ──► view ──► http ──► users
//!       ▲                                ▲       ▲     │
//!       └──────────── steps ─────────────┼───────┼─────┘
//!                          nodes (agents, QUIC)  partitions (file, Slurm)
//! ```

pub mod access;
pub mod ca;
pub mod http;
pub mod library;
pub mod nodes;
pub mod oci;
pub mod partitions;
pub mod plan;
pub mod registries;
pub mod settings;
pub mod signatures;
pub mod state;
pub mod store;
pub mod templates;
pub mod view;
pub mod words;

mod listen;
mod reread;
mod waiting;

use std::io;
use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use sifleet_common::clock::Clock;
use sifleet_common::settings::SettingsError;
use sifleet_common::systemd::{self, Heart, Signal, SignalError, Signals};
use sifleet_common::task::{GRACE, Tasks};
use sifleet_common::telemetry::Chain;
use tokio::sync::watch;
use tracing::{error, info, warn};

use http::AppState;
use http::health::Part;
pub use listen::ListenError;
use listen::Listeners;
use partitions::Source;
use settings::Settings;
use signatures::SignaturesError;
use state::run::Handle;
use state::{Event, State};
use store::registry::RegistryRecord;
use store::template::TemplateRecord;
use store::{Restored, Store, StoreError};

/// The loop that the watchdog listens to: without it nothing is taken in and no lease runs out.
const OWNER: &str = "state";
/// How long the store may take to write what it holds: a full queue is far below a second.
const FLUSH: Duration = Duration::from_secs(10);
/// How often it is looked whether the coordinator's certificate is due.
const RENEWALS: Duration = Duration::from_secs(3_600);
/// How often `systemctl status` is told how it goes.
const STATUS: Duration = Duration::from_secs(30);

/// Says why the coordinator does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Signals cannot be heard.
    #[error(transparent)]
    Signals(#[from] SignalError),
    /// The state directory cannot be made.
    #[error("cannot make the state directory {}", path.display())]
    StateDir {
        /// The directory.
        path: std::path::PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A listener cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// What is asked of signatures cannot be taken.
    #[error(transparent)]
    Signatures(#[from] SignaturesError),
    /// A part that must not end has ended.
    #[error("the task {task} failed; the log says why")]
    Failed {
        /// Which.
        task: &'static str,
    },
}

impl RunError {
    /// Tells whether only an admin can help, so that starting again is of no use.
    #[must_use]
    pub fn needs_admin(&self) -> bool {
        match self {
            Self::Listen(error) => error.needs_admin(),
            Self::Store(
                StoreError::Newer { .. } | StoreError::Foreign { .. } | StoreError::Corrupt { .. },
            )
            | Self::Signatures(_) => true,
            Self::Signals(_) | Self::StateDir { .. } | Self::Store(_) | Self::Failed { .. } => false,
        }
    }
}

/// Runs the coordinator until a signal stops it.
///
/// `reload` is called on SIGHUP, reads the settings again and sees to the log. Partitions, certificates, policies and the
/// keyring are then read again too; everything else takes effect at the next start.
///
/// # Errors
/// [`RunError`]. What was taken in before is stored.
pub async fn run(
    settings: Settings,
    reload: impl FnMut() -> Result<Settings, SettingsError>,
) -> Result<(), RunError> {
    let mut signals = Signals::listen()?;
    let (store, restored) = open_store(&settings).await?;
    let ended = Box::pin(serve(settings, reload, &mut signals, (store.clone(), restored))).await;
    match tokio::time::timeout(FLUSH, store.close()).await {
        Ok(Ok(())) => info!("the store is closed"),
        Ok(Err(error)) => warn!(%error, "the store was closed before"),
        Err(_elapsed) => error!(took = ?FLUSH, "the store did not close in time; the last steps may be lost"),
    }
    ended
}

/// Opening reads everything that is known, which takes a second per million replicas.
async fn open_store(settings: &Settings) -> Result<(Store, Restored), RunError> {
    let path = settings.state_dir.clone();
    std::fs::create_dir_all(&path).map_err(|source| RunError::StateDir { path, source })?;
    let database = settings.database();
    let opened = tokio::task::spawn_blocking(move || store::sqlite::open(&database)).await;
    Ok(opened.map_err(|lost| StoreError::Thread { source: lost.into() })??)
}

async fn serve(
    settings: Settings,
    mut reload: impl FnMut() -> Result<Settings, SettingsError>,
    signals: &mut Signals,
    (store, mut restored): (Store, Restored),
) -> Result<(), RunError> {
    info!(nodes = restored.nodes.len(), images = restored.described.len(), "last-known inventories are read");
    let sources = settings.partition_sources();
    let forgotten = restored.forget_sources(&sources.iter().map(Source::name).collect::<Vec<_>>());
    if !forgotten.is_empty() {
        store.submit(forgotten).await?;
    }
    // Who takes in stops first, then the owner of what was taken in.
    let (edges, core, clock) = (Tasks::new(), Tasks::new(), Clock::start());
    let (tokens, templates) = (take(&mut restored.tokens), take(&mut restored.templates));
    let registries = take(&mut restored.registries);
    let state = State::restore(settings.state_limits(), restored)
        .with_transfers(settings.transfers(clock.now().wall))
        .with_signer(listen::signer(&settings)?)
        .with_signatures(signatures::read(&settings)?);
    let (owner, handle) = state::run::prepare(state, store.clone(), clock);
    let app = AppState::new(handle.clone(), store.clone(), tokens, settings.http_limits(), edges.token());
    app.rename(listen::hosts(&settings)?);
    app.readiness().started(Part::Store);
    let listeners = Listeners::bind(&settings)?;
    app.readiness().started(Part::Listeners);

    let heart = Heart::new(&[OWNER]);
    let (beat, stop) = (heart.clone(), core.token());
    core.spawn("owner loop", async move { owner.run(stop, move || beat.beat(OWNER)).await });
    core.spawn("watchdog", heart.feed(core.token()));
    let (reread, rereads) = watch::channel(());
    partitions::spawn(sources, &handle, &rereads, &edges);
    keep_house((&settings, templates, registries), &app, (clock, rereads), &edges);
    let certificates = listeners.serve(&app, (&handle, &store), settings.limits.max_nodes, &edges);
    app.readiness().started(Part::View);
    systemd::ready(&summary(&handle));

    let (mut status, mut renewals) = (tokio::time::interval(STATUS), tokio::time::interval(RENEWALS));
    let ended = loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Stop => break Ok(()),
                Signal::Reload => {
                    systemd::reloading();
                    heed(reload(), &settings, &handle).await;
                    if certificates.reload(&settings, &app)
                        && handle.send(Event::AuthoritiesChanged).await.is_err()
                    {
                        warn!("the nodes were not told that the authorities changed");
                    }
                    reread.send_replace(());
                    systemd::ready(&summary(&handle));
                }
            },
            task = edges.failed() => break Err(RunError::Failed { task }),
            task = core.failed() => break Err(RunError::Failed { task }),
            _ = status.tick() => systemd::status(&summary(&handle)),
            _ = renewals.tick() => certificates.keep_fresh(&settings),
        }
    };
    info!("stopping");
    systemd::stopping();
    app.readiness().drain();
    edges.shutdown(GRACE).await;
    core.shutdown(GRACE).await;
    ended
}

/// Takes in settings that were read again, as far as that is possible while running.
async fn heed(read: Result<Settings, SettingsError>, in_force: &Settings, handle: &Handle) {
    let read = match read {
        Ok(read) => read,
        Err(error) => return warn!(%error, "the settings cannot be read; what was set before is kept"),
    };
    if in_force.needs_restart(&read) {
        warn!("the settings are read; some of what changed takes effect at the next start");
    } else {
        info!("the settings are read");
    }
    match signatures::read(&read) {
        Ok(rules) => {
            let partitions = rules.partitions.len();
            // The owner's queue is closed only while the coordinator stops.
            if handle.send(Event::Signatures(Box::new(rules))).await.is_ok() {
                info!(partitions, "what is asked of signatures is read");
            }
        }
        Err(error) => warn!(error = %Chain(&error), "what is asked of signatures stays as it was"),
    }
}

/// Takes in the job templates that were put, and sees to it that the others are as their files say.
fn read_templates(
    (settings, stored): (&Settings, Vec<TemplateRecord>),
    app: &AppState,
    (clock, reread): (Clock, watch::Receiver<()>),
    tasks: &Tasks,
) {
    app.templates().restore(stored);
    if let Some(dir) = settings.templates.dir.clone() {
        let follow = app.templates().clone().follow(dir, clock, reread, tasks.token());
        tasks.spawn("templates", follow);
    }
}

/// Takes templates and the catalogue in, has images brought in, and sees to what would pile up: uploads and blobs that nobody needs, tokens that
/// ended, old records of the audit; and to the digests by which clients of registries call what the library holds.
fn keep_house(
    (settings, templates, registries): (&Settings, Vec<TemplateRecord>, Vec<RegistryRecord>),
    app: &AppState,
    (clock, reread): (Clock, watch::Receiver<()>),
    tasks: &Tasks,
) {
    read_templates((settings, templates), app, (clock, reread), tasks);
    app.catalogue().restore(registries);
    if let Some(library) = app.library() {
        tasks.spawn("library", library.clone().reap_until(tasks.token()));
    }
    if let Some(registry) = app.registry() {
        tasks.spawn("registry", registry.clone().tend_until(tasks.token()));
    }
    if let Some((imports, parts)) = app.imports() {
        tasks.spawn("imports", imports.run_until(parts, tasks.token()));
    }
    if let Some((preheats, parts)) = app.preheats() {
        tasks.spawn("preheats", preheats.run_until(parts, tasks.token()));
    }
    tasks.spawn("callers", Arc::clone(app.access()).keep_until(clock, tasks.token()));
}

fn summary(handle: &Handle) -> String {
    let known = handle.views.load().stats(handle.clock.now());
    let nodes = known.online + known.syncing + known.offline + known.never_seen;
    format!("{} of {nodes} nodes online, {} images by {} names", known.online, known.digests, known.names)
}
