//! The grammar of `sifleet image rm` and `sifleet image removals`.

use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use sifleet_common::api::removals::RemovalTarget;
use sifleet_common::name::PartitionName;
use sifleet_common::nodeset::NodeSet;

use super::deadline;

pub(super) const RM_HELP: &str = "\
Examples:
  sifleet image rm vnc_desktop -p viz                  shows what would go, and asks
  sifleet image rm vnc_desktop -w 'viz[001-004]' -y    asks nothing, for scripts
  sifleet image rm vnc_desktop -p viz --dry-run        which nodes, how many bytes
  sifleet image rm openfoam@blake3:5f0c9e1b7a2d -p compute --when-idle --deadline 12h -y

A file that a job has open, mapped or mounted stays; --when-idle tries again until the deadline. The library is not \
removed from, and the last ready replica of an image stays unless it is forced. NAME.sif.json beside an image stays.

Ctrl-C only stops watching: the removal goes on, and ends with 3; `sifleet image removals` tells of it. \
Ends with 0 when no node has the image any longer, 3 when some still have it or are away, 1 when all have.";

pub(super) const REMOVALS_HELP: &str = "\
Examples:
  sifleet image removals
  sifleet image removals --cancel r-000007    nodes that still have the image keep it";

/// What to remove, from where and how.
#[derive(Debug, Args)]
pub(crate) struct Removing {
    /// Name, digest prefix (12 digits or more) or NAME@blake3:DIGEST.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) image: String,
    /// From which nodes.
    #[command(flatten)]
    pub(crate) nodes: From,
    /// Below which directory of the nodes; every one that agents watch but libraries by default.
    #[arg(long, value_name = "PATH")]
    pub(crate) root: Option<String>,
    /// Takes even the last ready replica of the cluster.
    #[arg(long)]
    pub(crate) force: bool,
    /// Tries again, until the deadline, where somebody uses the file.
    #[arg(long)]
    pub(crate) when_idle: bool,
    /// Nodes that still have it by then fail: 30m, 2h, at most 30d; a day by default.
    #[arg(long, value_name = "TIME", value_parser = deadline)]
    pub(crate) deadline: Option<Duration>,
    /// Says what would be done, and does nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Does not ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// From which nodes.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct From {
    /// Every node of this partition.
    #[arg(short, long)]
    pub(crate) partition: Option<PartitionName>,
    /// These nodes, such as viz[001-004].
    #[arg(short = 'w', long = "nodes", value_name = "NODESET")]
    pub(crate) set: Option<NodeSet>,
}

impl From {
    /// Says it in the words of the API.
    pub(crate) fn body(&self) -> Option<RemovalTarget> {
        let partition = self.partition.as_ref().map(|name| RemovalTarget::Partition(name.to_string()));
        partition.or(self.set.as_ref().map(|nodes| RemovalTarget::Nodes(nodes.to_string())))
    }
}
