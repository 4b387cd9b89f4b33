//! The grammar of `sifleet push` and `sifleet top`.
//!
//! `push IMAGE` and `push ls` share a place: a verb's name there is the verb. An image of that name is written `./ls` or
//! `ls.sif`.

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand, ValueHint};
use sifleet_common::api::pushes::PushTarget;
use sifleet_common::name::{ImageName, NodeName, PartitionName};
use sifleet_common::nodeset::NodeSet;
use sifleet_common::units::{Period, Rate};

use super::{deadline, rate};

/// Longest time between two looks of `sifleet top`.
const LONGEST: Duration = Duration::from_secs(3_600);

const PUSH_HELP: &str = "\
Examples:
  sifleet push vnc_desktop -p viz                  an image that some node or the library holds
  sifleet push ./vnc_desktop.sif -p viz            a file: into the library, then onto the nodes
  sifleet push vnc_desktop.sif --as viz/vnc_desktop.sif --missing-on viz
  sifleet push vnc_desktop -w 'viz[001-004]' --rate 100M --completion 80%
  sifleet push vnc_desktop -p viz --dry-run        which nodes, how many bytes, how long
  id=$(sifleet push vnc_desktop -p viz --detach -o name); sifleet push watch $id

IMAGE is a file of this machine if it contains a slash or ends in .sif, and is one; else the name or digest of an \
image. An image that is called like a command (ls) is written ./ls or ls.sif.

A FILE that takes the place of another image of the library is asked about on a terminal unless -y is given, and elsewhere \
replaces it at once. Nothing is sent before the coordinator has said that the push can be meant.

Ctrl-C before the push has begun ends with 130, and nothing is pushed; the same command goes on with the upload. Later it only \
stops watching: the push goes on, and ends with 3. Progress is told on standard error, with --progress json as events on \
standard output: hashing, uploading, verifying, published, waiting, plan, begun, push, ended; replaces for an image of the library. \
Ends with 0 when the push is done (with --detach: was begun), 3 when some nodes have the image or nodes that are away will get \
it when they are back, 1 when none has it and none is away.";

pub(super) const TOP_HELP: &str = "\
Examples:
  sifleet top                   q or Ctrl-C ends it
  sifleet top --interval 1s
  sifleet top | cat             once, for logs
  sifleet top -o json           all pushes; the first that run with their nodes, as by_node";

/// Puts an image onto nodes, or tells of pushes.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, after_help = PUSH_HELP)]
pub(crate) struct PushArgs {
    /// What to do with pushes.
    #[command(subcommand)]
    pub(crate) verb: Option<PushVerb>,
    /// What to push.
    #[command(flatten)]
    pub(crate) wish: Wish,
}

/// What to push, where to and how.
#[derive(Debug, Args)]
pub(crate) struct Wish {
    /// Name, digest prefix, NAME@blake3:DIGEST, or a file of this machine.
    #[arg(required = true, value_parser = NonEmptyStringValueParser::new(), value_hint = ValueHint::FilePath)]
    pub(crate) image: Option<String>,
    /// Onto which nodes.
    #[command(flatten)]
    pub(crate) target: Target,
    /// The only node to take it from at first; for a file that is new, only the library's node has it.
    #[arg(long, value_name = "NODE")]
    pub(crate) from: Option<NodeName>,
    /// Name of the file in the library; its own name by default.
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) library_name: Option<ImageName>,
    /// Below which directory of the nodes; the first that agents watch by default.
    #[arg(long, value_name = "PATH")]
    pub(crate) root: Option<String>,
    /// When it counts as done.
    #[arg(long, value_name = "all|N%|best_effort", value_parser = completion)]
    pub(crate) completion: Option<String>,
    /// Nodes that have not got it by then fail: 30m, 2h, at most 30d; a day by default.
    #[arg(long, value_name = "TIME", value_parser = deadline)]
    pub(crate) deadline: Option<Duration>,
    /// Bytes a second that each node may fetch: 100M, 64MiB, at least 100kB.
    #[arg(long, value_parser = rate)]
    pub(crate) rate: Option<Rate>,
    /// Pushes with a higher one come first on each node, 0 to 255; 100 by default.
    #[arg(long, value_name = "N")]
    pub(crate) priority: Option<u8>,
    /// Does not ask whether an image of the library is to be replaced.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Says what would be done, and does nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Does not wait for the end.
    #[arg(long)]
    pub(crate) detach: bool,
    /// How to tell what happens.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) progress: Progress,
}

/// Onto which nodes.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Target {
    /// Every node of this partition.
    #[arg(short, long)]
    pub(crate) partition: Option<PartitionName>,
    /// These nodes, such as viz[001-004].
    #[arg(short = 'w', long, value_name = "NODESET")]
    pub(crate) nodes: Option<NodeSet>,
    /// The nodes of this partition that are not known to have it.
    #[arg(long, value_name = "PARTITION")]
    pub(crate) missing_on: Option<PartitionName>,
}

impl Target {
    /// Says it in the words of the API.
    pub(crate) fn body(&self) -> Option<PushTarget> {
        let partition = self.partition.as_ref().map(|name| PushTarget::Partition(name.to_string()));
        let nodes = self.nodes.as_ref().map(|nodes| PushTarget::Nodes(nodes.to_string()));
        let missing = self.missing_on.as_ref().map(|name| PushTarget::MissingOn(name.to_string()));
        partition.or(nodes).or(missing)
    }
}

/// How to tell what happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Progress {
    /// Bars on a terminal, else lines.
    #[default]
    Auto,
    /// Bars that are drawn anew.
    Bar,
    /// A line for each change, at most one in five seconds.
    Plain,
    /// A line of JSON for each event, on standard output.
    Json,
    /// Nothing until the end.
    None,
}

/// How often to look.
#[derive(Debug, Args)]
pub(crate) struct Interval {
    /// How often to look: 1s to 1h.
    #[arg(long, default_value = "2s", value_name = "TIME", value_parser = interval)]
    pub(crate) interval: Duration,
}

/// What to do with pushes.
#[derive(Debug, Subcommand)]
pub(crate) enum PushVerb {
    /// Lists pushes, newest first
    #[command(visible_alias = "list", after_help = "Examples:\n  sifleet push ls\n  sifleet push ls -o wide")]
    Ls,
    /// Shows how a push stands
    #[command(
        after_help = "Examples:\n  sifleet push show 7\n  sifleet push show 7 --nodes    node by node\n  sifleet push show 7 -o json"
    )]
    Show {
        /// The push.
        id: String,
        /// Node by node.
        #[arg(long)]
        nodes: bool,
    },
    /// Watches a push until its end
    #[command(
        after_help = "Examples:\n  sifleet push watch 7\n  sifleet push watch 7 --progress json\n\nEnds like `sifleet push`."
    )]
    Watch {
        /// The push.
        id: String,
        /// How to tell what happens.
        #[arg(long, value_enum, default_value_t)]
        progress: Progress,
    },
    /// Ends a push; nodes that have the image keep it
    #[command(after_help = "Examples:\n  sifleet push cancel 7")]
    Cancel {
        /// The push.
        id: String,
    },
    /// Tries the nodes again that failed
    #[command(after_help = "Examples:\n  sifleet push retry 7 && sifleet push watch 7")]
    Retry {
        /// The push.
        id: String,
    },
    /// Sets how many bytes a second each node may fetch
    #[command(after_help = "Examples:\n  sifleet push rate 7 50M\n  sifleet push rate 7 none    no limit")]
    Rate {
        /// The push.
        id: String,
        /// Bytes a second: 100M, 64MiB, at least 100kB; or none.
        #[arg(value_parser = rate)]
        rate: Rate,
    },
}

fn completion(text: &str) -> Result<String, String> {
    let share = text.strip_suffix('%').and_then(|share| share.parse().ok());
    match (text, share) {
        ("all" | "best_effort", _) | (_, Some(1..=100_u8)) => Ok(text.to_owned()),
        ("best-effort", _) => Ok("best_effort".to_owned()),
        _ => Err("write all, best_effort or a share of the nodes from 1% to 100%, such as 80%".to_owned()),
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let time = text.parse::<Period>().map(Period::get).ok();
    let fits = |time: &Duration| (Duration::from_secs(1)..=LONGEST).contains(time);
    time.filter(fits).ok_or_else(|| "write a time from 1s to 1h, such as 2s or 1m".to_owned())
}
