//! The agent: finds the images of a node and keeps telling the coordinator.
//!
//! [`run`] makes the parts, joins their channels and ends them in order:
//!
//! ```text
//!  kernel ──hints──► watch (one owner for each root) ──changes──► inventory ──changes──► session ──QUIC──► coordinator
//!                     │ ▲                                          ▲   │                   │
//!                   jobs│ done                                     │   └─ describe         │
//!                     ▼ │                                          └──────── commands ─────┘
//!                    hash ◄──► memory (SQLite)
//! ```
//!
//! Image bytes move on a thread of their own ([`transfer`]): orders of the coordinator come in through the session and
//! reports go out through it.

pub mod credentials;
pub mod describe;
pub mod enrol;
pub mod fetch;
pub mod hash;
pub mod inventory;
pub mod layout;
pub mod map;
pub mod memory;
pub mod orders;
pub mod pace;
pub mod pull;
pub mod remove;
pub mod reuse;
pub mod scan;
pub mod serve;
pub mod session;
pub mod settings;
mod signatures;
pub mod staging;
pub mod sys;
pub mod thread;
pub mod transfer;
pub mod watch;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sifleet_common::settings::SettingsError;
use sifleet_common::systemd::{self, Heart, Signal, SignalError, Signals};
use sifleet_common::task::{GRACE, Tasks};
use sifleet_common::telemetry::Chain;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use credentials::{Credentials, CredentialsError};
use hash::Hashing;
use memory::{Memory, MemoryError};
use pull::Pulls;
use settings::Settings;
use transfer::{TransferError, Transfers};

/// The loops that the watchdog listens to.
const LOOPS: [&str; 3] = ["inventory", "watch", "session"];
/// The one more there is when images are moved.
const TRANSFER: &str = "transfer";
/// Orders of the coordinator that wait.
const ORDERS: usize = 64;
/// Reports to the coordinator that wait.
const REPORTS: usize = 64;
/// Questions of jobs that wait for the coordinator.
const QUESTIONS: usize = 64;
/// How long the first hello waits for the first scan.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often `systemctl status` is told how it goes.
const STATUS: Duration = Duration::from_secs(30);

/// Says why the agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Signals cannot be heard.
    #[error(transparent)]
    Signals(#[from] SignalError),
    /// The state directory cannot be made.
    #[error("cannot make the state directory {}", path.display())]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// There is no hash memory, not even one that ends with the process.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The node's certificate cannot be used.
    #[error(
        "this node has no usable certificate: `sifleet token create --nodes NODE` on the head node prints how it gets one"
    )]
    Credentials(#[from] CredentialsError),
    /// Images cannot be moved, although they could a moment ago.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// A thread cannot be had.
    #[error("cannot start a thread: raise TasksMax in the unit, or the limit on processes")]
    Thread {
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A part that must not end has ended.
    #[error("the task or thread {task} failed; the log says why")]
    Failed {
        /// Which.
        task: &'static str,
    },
}

impl RunError {
    /// Tells whether only an admin can help, so that starting again is of no use.
    #[must_use]
    pub fn needs_admin(&self) -> bool {
        matches!(self, Self::Credentials(_))
    }
}

/// Runs the agent until a signal stops it.
///
/// `reload` is called on SIGHUP, reads the settings again and sees to the log; everything else takes effect at the
/// next start.
///
/// # Errors
/// [`RunError`]. What was hashed before is remembered.
pub async fn run(
    settings: Settings,
    mut reload: impl FnMut() -> Result<Settings, SettingsError>,
) -> Result<(), RunError> {
    let mut signals = Signals::listen()?;
    let credentials = Credentials::open(&settings.tls)?;
    let tasks = Tasks::new();
    let memory = open_memory(&settings)?;
    let rate = settings.hash.rate.map(|rate| rate.get());
    let hashing = Arc::new(Hashing::new(memory, rate, settings.hash.max_size.get(), tasks.token()));

    let transfers = open_transfers(&settings, &credentials);
    let loops: Vec<_> = LOOPS.into_iter().chain(transfers.as_ref().map(|_| TRANSFER)).collect();
    let pulse = Arc::new(Pulse { heart: Heart::new(&loops), connected: AtomicBool::new(false) });
    let beat = Arc::clone(&pulse);
    let inventory::Parts { changes, commands } =
        inventory::start(settings.root_settings(), &hashing, &tasks, move |moved| beat.watched(moved))
            .map_err(|source| RunError::Thread { source })?;
    let ((orders, ordered), (said, reports)) = (mpsc::channel(ORDERS), mpsc::channel(REPORTS));
    let ends = transfer::Ends { orders: ordered, reports: said, commands: commands.clone() };
    let transfer_port = transfers.as_ref().map_or(0, Transfers::port);
    if let Some(transfers) = transfers {
        let beat = Arc::clone(&pulse);
        transfers.start(&hashing, ends, tasks.token(), move || beat.heart.beat(TRANSFER))?;
    }
    let questions = open_pulls(&settings, (&hashing, &tasks), &pulse, commands.clone());
    let config = session::Config {
        coordinators: settings.coordinators.clone(),
        credentials: credentials.clone(),
        arch: hashing.arch,
        partitions: settings.partitions.clone(),
        transfer_port,
        patience: PATIENCE,
    };
    let beat: Arc<dyn session::Beat> = Arc::<Pulse>::clone(&pulse);
    let parts = session::Parts { changes, commands, orders, reports, questions, stop: tasks.token(), beat };
    tasks.spawn("session", session::run(config, parts));
    tasks.spawn("watchdog", pulse.heart.clone().feed(tasks.token()));
    systemd::ready(&pulse.summary());

    let mut status = tokio::time::interval(STATUS);
    let ended = loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Stop => break Ok(()),
                Signal::Reload => {
                    systemd::reloading();
                    note_reload(&settings, reload());
                    if let Err(error) = credentials.reload() {
                        warn!(error = %Chain(&error), "the certificate cannot be read; the one in use is kept");
                    }
                    systemd::ready(&pulse.summary());
                }
            },
            task = tasks.failed() => break Err(RunError::Failed { task }),
            task = hashing.threads.failed() => break Err(RunError::Failed { task }),
            _ = status.tick() => systemd::status(&pulse.summary()),
        }
    };
    info!("stopping");
    systemd::stopping();
    tasks.shutdown(GRACE).await;
    ended
}

/// A node whose transfer port is taken still says what it holds.
fn open_transfers(settings: &Settings, credentials: &Credentials) -> Option<Transfers> {
    let opened = Transfers::open(settings.transfer()?, credentials.live());
    let refused = |error: &TransferError| {
        error!(error = %Chain(error), "images are neither given nor taken; see `transfer` in the settings");
    };
    opened.inspect_err(refused).ok()
}

/// A node whose port for jobs is taken does everything else. Returns what its jobs will want to know.
fn open_pulls(
    settings: &Settings,
    (hashing, tasks): (&Hashing, &Tasks),
    pulse: &Arc<Pulse>,
    commands: mpsc::Sender<inventory::Command>,
) -> mpsc::Receiver<session::Question> {
    let (questions, asked) = mpsc::channel(QUESTIONS);
    let Some(port) = settings.pull.port else { return asked };
    let seen = Arc::clone(pulse);
    let connected = Arc::new(move || seen.connected.load(Ordering::Relaxed));
    let ends = pull::Ends { questions, commands, connected };
    let opened = Pulls::open(port).and_then(|pulls| pulls.start(&hashing.threads, ends, tasks.token()));
    if let Err(error) = opened {
        error!(error = %Chain(&error), "jobs of this node cannot pull; see `pull` in the settings");
    }
    asked
}

/// A disk that cannot be written costs a reading of all images at each start, not the agent.
fn open_memory(settings: &Settings) -> Result<Memory, RunError> {
    let (path, rows) = (settings.memory(), settings.hash.remember);
    if let Err(source) = std::fs::create_dir_all(&settings.state_dir) {
        let error = RunError::StateDir { path: settings.state_dir.clone(), source };
        warn!(error = %Chain(&error), "nothing will be remembered after a restart");
        return Ok(Memory::volatile(rows)?);
    }
    Memory::open(&path, rows).or_else(|error| {
        warn!(error = %Chain(&error), "nothing will be remembered after a restart");
        Ok(Memory::volatile(rows)?)
    })
}

fn note_reload(settings: &Settings, read: Result<Settings, SettingsError>) {
    match read {
        Ok(read) if settings.needs_restart(&read) => {
            warn!("the settings are read; some of what changed takes effect at the next start");
        }
        Ok(_) => info!("the settings are read"),
        Err(error) => {
            warn!(error = %Chain(&error), "the settings cannot be read; what was set before is kept")
        }
    }
}

/// What the session's loop says of itself.
#[derive(Debug)]
struct Pulse {
    heart: Heart,
    connected: AtomicBool,
}

impl session::Beat for Pulse {
    fn beat(&self, connected: bool) {
        self.heart.beat("session");
        self.connected.store(connected, Ordering::Relaxed);
    }
}

impl Pulse {
    fn watched(&self, moved: inventory::Loop) {
        self.heart.beat(match moved {
            inventory::Loop::Inventory => "inventory",
            inventory::Loop::Watch => "watch",
        });
    }

    fn summary(&self) -> String {
        let connected = self.connected.load(Ordering::Relaxed);
        if connected { "connected to the coordinator" } else { "not connected to the coordinator" }.to_owned()
    }
}
