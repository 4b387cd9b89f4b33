//! Settings of the coordinator: `/etc/sifleet/coordinator.toml`, its `.d` directory and `SIFLEET_COORDINATOR_…`.
//!
//! Owns names, defaults and what goes together. Each table that has a rule checks it while being read, so that a
//! mistake is shown with its file and line. How files are found and laid over one another is in common.

mod dashboard;
pub mod oci;
pub mod registries;
mod rules;
pub mod signatures;
mod web;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sifleet_common::inventory::MAX_REPLICAS;
use sifleet_common::settings::{self, Loaded, Options, Period, SettingsError};
use sifleet_common::telemetry::Output;
use sifleet_common::time::UnixMillis;

use crate::partitions::{Source, file::PartitionFile, slurm::Sinfo};
use crate::state::pushes;
use crate::{http, library, state};

pub use dashboard::{Dashboard, Templates};
pub use web::{Anonymous, Audit, DEFAULT_SOCKET, Http, HttpRate, HttpTls};

/// Where settings are looked for unless somebody names another file.
pub const DEFAULT_PATH: &str = "/etc/sifleet/coordinator.toml";
/// What environment variables begin with.
pub const ENV_PREFIX: &str = "SIFLEET_COORDINATOR_";

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the database is.
    pub state_dir: PathBuf,
    /// Where the cluster's authority and the coordinator's certificate are; `ca` below the state by default.
    pub ca_dir: Option<PathBuf>,
    /// The side of the agents.
    pub control: Control,
    /// The side of the users.
    pub http: Http,
    /// Who asked for what.
    pub audit: Audit,
    /// Where partitions come from.
    pub partitions: Partitions,
    /// Pushes.
    pub transfer: Transfer,
    /// Where users' images go.
    pub library: Library,
    /// The library as a registry.
    pub oci: oci::Oci,
    /// Job templates.
    pub templates: Templates,
    /// What the addresses of dashboards answer.
    pub dashboard: Dashboard,
    /// External registries.
    pub registries: registries::Registries,
    /// Whose signatures on images count, and who asks for them.
    pub signatures: signatures::Signatures,
    /// Bounds.
    pub limits: Limits,
    /// Logging.
    pub log: Log,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/sifleet/coordinator".into(),
            ca_dir: None,
            control: Control::default(),
            http: Http::default(),
            audit: Audit::default(),
            partitions: Partitions::default(),
            transfer: Transfer::default(),
            library: Library::default(),
            oci: oci::Oci::default(),
            templates: Templates::default(),
            dashboard: Dashboard::default(),
            registries: registries::Registries::default(),
            signatures: signatures::Signatures::default(),
            limits: Limits::default(),
            log: Log::default(),
        }
    }
}

/// The side of the agents.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, try_from = "rules::control::Raw")]
pub struct Control {
    /// The UDP address that agents dial.
    pub listen: SocketAddr,
    /// How long an agent that falls silent is believed; at most an hour.
    pub lease: Period,
    /// How often agents say that they live; at most a third of the lease, so that two may get lost.
    pub heartbeat: Period,
    /// How long nodes' certificates hold; agents renew them at half of it.
    pub certificate_life: Period,
    /// How long after its end a node's certificate is still renewed, for nodes that were switched off.
    pub renewal_grace: Period,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 7441)),
            lease: Period::seconds(30),
            heartbeat: Period::seconds(10),
            certificate_life: Period::seconds(86_400),
            renewal_grace: Period::seconds(7 * 86_400),
        }
    }
}

/// Where partitions come from, besides what agents declare for themselves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Partitions {
    /// A TOML file that lists them.
    pub file: Option<PathBuf>,
    /// Whether to ask Slurm.
    pub slurm: bool,
    /// The program to ask.
    pub sinfo: PathBuf,
    /// How often to ask.
    pub slurm_interval: Period,
    /// How long an answer may take.
    pub slurm_timeout: Period,
}

impl Default for Partitions {
    fn default() -> Self {
        Self {
            file: None,
            slurm: false,
            sinfo: "sinfo".into(),
            slurm_interval: Period::seconds(60),
            slurm_timeout: Period::seconds(10),
        }
    }
}

/// Pushes. How fast their bytes move is said over the API and stored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, try_from = "rules::transfer::Raw")]
pub struct Transfer {
    /// Most pushes that are kept; those that ended first are forgotten first.
    pub max_pushes: usize,
}

impl Default for Transfer {
    fn default() -> Self {
        Self { max_pushes: pushes::Transfers::default().max_pushes }
    }
}

/// Where users' images go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, try_from = "rules::library::Raw")]
pub struct Library {
    /// The cluster's library as this machine sees it: the directory that an agent watches as `library`. Without it
    /// nothing can be uploaded.
    pub dir: Option<PathBuf>,
}

/// Bounds on what is kept and served.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, try_from = "rules::limits::Raw")]
pub struct Limits {
    /// Most nodes that agents speak for; partitions may name others.
    pub max_nodes: usize,
    /// Most replicas of one node.
    pub max_replicas: usize,
    /// Most HTTP connections at once.
    pub max_http_connections: u32,
    /// Most followers of events at once.
    pub max_event_streams: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let (state, http) = (state::Limits::default(), http::Limits::default());
        Self {
            max_nodes: state.max_nodes,
            max_replicas: state.max_replicas,
            max_http_connections: http.server.max_connections,
            max_event_streams: http.max_event_streams,
        }
    }
}

/// Logging; read again on SIGHUP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Where to.
    pub output: Output,
    /// A level, or a list such as `info,sifleet_coordinator=debug`.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { output: Output::Auto, filter: "info".to_owned() }
    }
}

impl Settings {
    /// Loads the settings; without a path from [`DEFAULT_PATH`], which need not exist.
    ///
    /// # Errors
    /// [`SettingsError`] for the first mistake.
    pub fn load(path: Option<&Path>) -> Result<Loaded<Self>, SettingsError> {
        settings::load(&Options {
            path: path.unwrap_or(Path::new(DEFAULT_PATH)),
            explicit: path.is_some(),
            env_prefix: ENV_PREFIX,
        })
    }

    /// Returns the path of the database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.state_dir.join("coordinator.db")
    }

    /// Returns the directory of the authority.
    #[must_use]
    pub fn ca_dir(&self) -> PathBuf {
        self.ca_dir.clone().unwrap_or_else(|| self.state_dir.join("ca"))
    }

    /// Returns what the state is bounded by.
    #[must_use]
    pub fn state_limits(&self) -> state::Limits {
        state::Limits {
            lease: self.control.lease.get(),
            heartbeat: self.control.heartbeat.get(),
            max_nodes: self.limits.max_nodes,
            max_replicas: self.limits.max_replicas.min(MAX_REPLICAS),
        }
    }

    /// Returns what is set of pushes. Assignments are numbered from `now` on, in milliseconds since 1970: agents must not
    /// take one for another of an earlier life.
    #[must_use]
    pub fn transfers(&self, now: UnixMillis) -> pushes::Transfers {
        pushes::Transfers {
            max_pushes: self.transfer.max_pushes,
            first_assignment: u64::try_from(now.0).unwrap_or(0) << 16,
        }
    }

    /// Returns what the API is bounded by.
    #[must_use]
    pub fn http_limits(&self) -> http::Limits {
        let library = self.library.dir.clone().map(library::Options::new);
        let max_event_streams = self.limits.max_event_streams;
        let mut limits = http::Limits { max_event_streams, library, ..http::Limits::default() };
        limits.oci = self.oci.options();
        limits.access = self.access();
        limits.dashboard = self.dashboard.options();
        limits.registries = self.registries.options();
        limits.preheat_partition = self.registries.preheat_partition.clone().map(String::from);
        limits.server.max_connections = self.limits.max_http_connections;
        limits
    }

    /// Makes the sources of partitions.
    #[must_use]
    pub fn partition_sources(&self) -> Vec<Source> {
        let set = &self.partitions;
        let file = set.file.clone().map(|path| Source::File(PartitionFile::new(path)));
        let slurm = set.slurm.then(|| {
            Source::Slurm(Sinfo {
                program: set.sinfo.clone().into(),
                interval: set.slurm_interval.get(),
                limit: set.slurm_timeout.get(),
            })
        });
        file.into_iter().chain(slurm).collect()
    }

    /// Tells whether others differ in something that takes effect only at start.
    #[must_use]
    pub fn needs_restart(&self, other: &Self) -> bool {
        let mut other = other.clone();
        other.log.filter.clone_from(&self.log.filter);
        other.signatures.clone_from(&self.signatures);
        *self != other
    }
}

#[cfg(test)]
mod tests;
