//! What can be set of the agent, and the defaults.
//!
//! Owns the names, units and rules of the settings; [`sifleet_common::settings`] owns where they come from. A
//! setting that would make the agent lie (two roots that hold the same files) is refused here.

mod rules;

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use sifleet_common::beneath::Owner;
use sifleet_common::inventory::{MAX_REPLICAS, MAX_ROOTS, RootId};
use sifleet_common::name::PartitionName;
use sifleet_common::settings::{self, Loaded, Options, Period, SettingsError, Size};
use sifleet_common::telemetry::Output;

use crate::memory;
use crate::transfer;
use crate::watch::RootSettings;

/// Where the settings are unless somebody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/sifleet/agent.toml";
/// What environment variables begin with.
pub const ENV_PREFIX: &str = "SIFLEET_AGENT_";
/// A longer settle time is a mistake: writers on other nodes that pause for a minute have failed. Whoever wants finished
/// images to be known within two seconds stays below one and a half.
const MAX_SETTLE: Period = Period::milliseconds(60_000);
/// A lower rate would leave the images of a node unknown for days: at this one, 10 GB take three hours.
const MIN_HASH_RATE: Size = Size::bytes(1 << 20);
/// Threads that hash files of one root at the same time, at most: beyond this they only get in jobs' way.
const MAX_HASH_THREADS: usize = 16;

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Coordinators as `host:port`, tried in turn.
    #[serde(deserialize_with = "rules::coordinators")]
    pub coordinators: Vec<String>,
    /// Where the hash memory is.
    pub state_dir: PathBuf,
    /// Partitions that this node says it is in, besides what the coordinator knows.
    pub partitions: Vec<PartitionName>,
    /// The watched directories.
    #[serde(rename = "root", deserialize_with = "rules::roots")]
    pub roots: Vec<Root>,
    /// The node's certificate.
    pub tls: Tls,
    /// How roots are watched.
    pub watch: Watch,
    /// How files are hashed.
    pub hash: Hash,
    /// How images come from other nodes, and go to them.
    pub transfer: Transfer,
    /// How jobs of this node pull images.
    pub pull: Pull,
    /// Logging.
    pub log: Log,
}

impl Default for Settings {
    fn default() -> Self {
        let root = |path: &str| Root { path: path.into(), library: false, receive: false, trusted: None };
        Self {
            coordinators: vec!["localhost:7441".to_owned()],
            state_dir: "/var/lib/sifleet/agent".into(),
            partitions: Vec::new(),
            roots: vec![root("/opt/apptainers"), root("/scratch/apptainer")],
            tls: Tls::default(),
            watch: Watch::default(),
            hash: Hash::default(),
            transfer: Transfer::default(),
            pull: Pull::default(),
            log: Log::default(),
        }
    }
}

/// A watched directory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// Its absolute path.
    pub path: PathBuf,
    /// Whether it is the cluster's library, which says what is expected elsewhere.
    #[serde(default)]
    pub library: bool,
    /// Whether a library takes images that are pushed to its path: those of other nodes that a client of registries asks for.
    #[serde(default)]
    pub receive: bool,
    /// Whether other nodes may get images from it; unless set, they may if only root and the agent can write to it.
    pub trusted: Option<bool>,
}

/// PEM files of the node's certificate, as `sifleet-agent enrol` writes them. The agent writes them anew when it renews its
/// certificate; a site that brings its own has them read again on SIGHUP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The cluster's authority.
    pub authority: PathBuf,
    /// The node's certificate, which names it.
    pub certificate: PathBuf,
    /// Its private key, readable by the agent alone.
    pub key: PathBuf,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            authority: "/var/lib/sifleet/agent/tls/ca.pem".into(),
            certificate: "/var/lib/sifleet/agent/tls/node.pem".into(),
            key: "/var/lib/sifleet/agent/tls/node.key".into(),
        }
    }
}

/// How roots are watched.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Watch {
    /// How long a file must stay as it is before it counts; at most a minute.
    #[serde(deserialize_with = "rules::settle")]
    pub settle: Period,
    /// How often everything is looked at although nothing says so, give or take a fifth.
    pub reconcile: Period,
    /// How often everything is looked at where the kernel does not report everything.
    pub degraded_rescan: Period,
    /// How often everything is looked at on file systems that other nodes change, such as NFS: each look asks the
    /// file server for every entry.
    pub remote_rescan: Period,
    /// How long after hashing a file is looked at again where read leases do not work.
    pub recheck: Period,
    /// Directories watched in each root, at most: the kernel's watches are shared with everybody on the node.
    pub max_watches: usize,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            settle: Period::milliseconds(500),
            reconcile: Period::seconds(600),
            degraded_rescan: Period::seconds(5),
            remote_rescan: Period::seconds(60),
            recheck: Period::seconds(10),
            max_watches: 100_000,
        }
    }
}

/// How files are hashed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hash {
    /// Files of one root hashed at the same time, at most 16.
    #[serde(deserialize_with = "rules::threads")]
    pub threads: usize,
    /// Bytes read each second for all roots together, at least 1 MiB; no limit unless set.
    #[serde(deserialize_with = "rules::rate")]
    pub rate: Option<Size>,
    /// Larger files are listed and not read.
    pub max_size: Size,
    /// Files remembered, at most.
    pub remember: u64,
}

impl Default for Hash {
    fn default() -> Self {
        Self { threads: 1, rate: None, max_size: Size::bytes(4 << 40), remember: memory::DEFAULT_ROWS }
    }
}

/// How images come from other nodes, and go to them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Transfer {
    /// Whether this node gives images to others and takes images that are pushed.
    pub enabled: bool,
    /// The UDP address at which other nodes fetch; port 0 for any.
    pub listen: SocketAddr,
    /// Images fetched at the same time, at most.
    pub concurrent: usize,
    /// Space that stays free below each root.
    pub keep_free: Size,
    /// Numbers of the user and the group whose published images are, such as `[0, 0]`; the agent's own unless set.
    pub owner: Option<(u32, u32)>,
    /// Permissions of published images, in octal, such as `"644"`.
    #[serde(deserialize_with = "rules::mode")]
    pub mode: u32,
}

impl Default for Transfer {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: SocketAddr::from(([0, 0, 0, 0], 7442)),
            concurrent: 2,
            keep_free: Size::bytes(1 << 30),
            owner: None,
            mode: 0o644,
        }
    }
}

/// How jobs of this node pull images: `apptainer run oras://localhost:PORT/…`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pull {
    /// The TCP port on loopback; nobody is answered unless it is set. Any user of the node may have any image of the library
    /// brought here.
    pub port: Option<u16>,
}

/// Logging; read again on SIGHUP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Where to.
    pub output: Output,
    /// A level, or a list such as `info,sifleet_agent=debug`.
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

    /// Returns the path of the hash memory.
    #[must_use]
    pub fn memory(&self) -> PathBuf {
        self.state_dir.join("memory.db")
    }

    /// Returns how each root is watched.
    #[must_use]
    pub fn root_settings(&self) -> Vec<RootSettings> {
        let ids = (0..=u8::MAX).map(RootId);
        let of = |(id, root): (RootId, &Root)| RootSettings {
            id,
            path: root.path.clone(),
            library: root.library,
            trusted: root.trusted,
            settle: self.watch.settle.get(),
            reconcile: self.watch.reconcile.get(),
            degraded_rescan: self.watch.degraded_rescan.get(),
            remote_rescan: self.watch.remote_rescan.get(),
            recheck: self.watch.recheck.get(),
            max_watches: self.watch.max_watches,
            max_entries: MAX_REPLICAS / self.roots.len().max(1),
            hash_threads: self.hash.threads,
        };
        ids.zip(&self.roots).map(of).collect()
    }

    /// Returns how images are moved; nothing if they are not.
    #[must_use]
    pub fn transfer(&self) -> Option<transfer::Config> {
        let Transfer { enabled, listen, concurrent, keep_free, owner, mode } = self.transfer.clone();
        let ids = (0..=u8::MAX).map(RootId);
        let paths = |takes: fn(&Root) -> bool| {
            let roots = ids.clone().zip(&self.roots).filter(|(_, root)| takes(root));
            roots.map(|(id, root)| (id, root.path.clone())).collect()
        };
        enabled.then(|| transfer::Config {
            listen,
            roots: paths(|root| !root.library),
            libraries: paths(|root| root.library && root.receive),
            owner: Owner { ids: owner, mode },
            floor: keep_free.get(),
            concurrent,
            maps: self.state_dir.join("maps"),
        })
    }

    /// Tells whether others differ in something that takes effect only at start.
    #[must_use]
    pub fn needs_restart(&self, other: &Self) -> bool {
        let mut other = other.clone();
        other.log.filter.clone_from(&self.log.filter);
        *self != other
    }
}

#[cfg(test)]
mod tests;
