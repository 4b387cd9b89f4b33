//! What dashboards are answered: which partition is for remote desktops, how long a scan may take, where templates are.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use sifleet_common::availability::Require;
use sifleet_common::name::PartitionName;
use sifleet_common::settings::Period;

use crate::http;

/// Longest wait for a scan: the answer has to be written before the request's deadline.
const MAX_WAIT: Duration = Duration::from_secs(9);
/// Shortest: what an agent takes to look at a directory of images.
const MIN_WAIT: Duration = Duration::from_millis(100);

/// Job templates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, try_from = "RawTemplates")]
pub struct Templates {
    /// A directory of YAML and JSON files, one template each; read again when they change.
    pub dir: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTemplates {
    dir: Option<PathBuf>,
}

impl TryFrom<RawTemplates> for Templates {
    type Error = String;

    fn try_from(raw: RawTemplates) -> Result<Self, String> {
        match raw.dir {
            Some(dir) if !dir.is_absolute() => {
                Err(format!("templates.dir is {dir:?}: write the whole path, from / on"))
            }
            dir => Ok(Self { dir }),
        }
    }
}

/// What the addresses of dashboards answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, try_from = "RawDashboard")]
pub struct Dashboard {
    /// The partition whose images are for remote desktops.
    pub vnc_partition: String,
    /// How many of its nodes must be ready for an image to be offered.
    pub vnc_require: Require,
    /// How long a scan waits for nodes to look at their directories.
    pub scan_wait: Period,
}

impl Default for Dashboard {
    fn default() -> Self {
        let http::dashboard::Options { vnc_partition, vnc_require, .. } = http::dashboard::Options::default();
        Self { vnc_partition, vnc_require, scan_wait: Period::seconds(8) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDashboard {
    vnc_partition: Option<PartitionName>,
    vnc_require: Option<String>,
    scan_wait: Option<Period>,
}

impl TryFrom<RawDashboard> for Dashboard {
    type Error = String;

    fn try_from(raw: RawDashboard) -> Result<Self, String> {
        let default = Self::default();
        let require = raw.vnc_require.map(|text| text.parse::<Require>());
        let require = require.transpose().map_err(|error| format!("dashboard.vnc_require: {error}"))?;
        let scan_wait = raw.scan_wait.unwrap_or(default.scan_wait);
        if !(MIN_WAIT..=MAX_WAIT).contains(&scan_wait.get()) {
            return Err(format!(
                "dashboard.scan_wait is {scan_wait}; a scan waits from {MIN_WAIT:?} to {MAX_WAIT:?}"
            ));
        }
        Ok(Self {
            vnc_partition: raw.vnc_partition.map_or(default.vnc_partition, String::from),
            vnc_require: require.unwrap_or(default.vnc_require),
            scan_wait,
        })
    }
}

impl Dashboard {
    /// Returns what the API needs of it.
    #[must_use]
    pub fn options(&self) -> http::dashboard::Options {
        http::dashboard::Options {
            vnc_partition: self.vnc_partition.clone(),
            vnc_require: self.vnc_require,
            scan_wait: self.scan_wait.get(),
        }
    }
}
