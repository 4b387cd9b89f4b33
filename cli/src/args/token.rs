//! The grammar of `sifleet token` and of `sifleet audit`.

use std::time::Duration;

use clap::{Args, Subcommand};
use sifleet_common::nodeset::NodeSet;
use sifleet_common::role::Role;
use sifleet_common::units::Period;

const CREATE_HELP: &str = "\
Examples:
  sifleet token create --role viewer --name dashboard
  sifleet token create --role operator --name 'slurm prolog' --ttl 30d
  (umask 077; sifleet token create --role viewer --name prometheus -o name > token)
  sifleet token create --nodes 'viz[001-004]' --ttl 1h
  sifleet token create --nodes viz001 --from 10.1.0.0/16 -o name > token

The secret is shown this one time; it is stored nowhere. A viewer reads, an operator pushes and removes images too, an \
admin says who may do what. Revoke a token that somebody else may have seen.";

const AUDIT_HELP: &str = "\
Examples:
  sifleet audit
  sifleet audit --who dashboard --since 2026-11-21T10:30:00Z
  sifleet audit --limit 1000 -o csv > audit.csv

Shows who asked for changes and who was refused, newest first. --who takes the id of a token, a name, anonymous, or the \
number of a user as uid:1000. Refusals that are alike are counted for a minute.";

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Makes a token and shows its secret, this one time
    #[command(after_help = CREATE_HELP)]
    Create(Making),
    /// Lists tokens, newest first, without their secrets
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  sifleet token ls\n  sifleet token ls --nodes -o wide"
    )]
    Ls {
        /// Those with which nodes enrol.
        #[arg(long)]
        nodes: bool,
    },
    /// Revokes a token: its bearer is turned away from the next request on
    #[command(
        after_help = "Examples:\n  sifleet token revoke t-000042\n  sifleet token revoke 5f0c3a9e1b7d2468    one for a node"
    )]
    Revoke {
        /// What the token is called, such as t-000042.
        id: String,
    },
}

/// What a token is to be.
#[derive(Debug, Args)]
pub(crate) struct Making {
    /// Lets callers act: as viewer, operator or admin.
    #[arg(long, required_unless_present = "nodes", requires = "name")]
    pub(crate) role: Option<Role>,
    /// What it is for, in words for people.
    #[arg(long, requires = "role")]
    pub(crate) name: Option<String>,
    /// Lets nodes enrol, each once with a token of its own: compute[001-128],viz01.
    #[arg(long, conflicts_with_all = ["role", "name"])]
    pub(crate) nodes: Option<NodeSet>,
    /// Only from this network, such as 10.1.0.0/16 (repeatable).
    #[arg(long, value_name = "NETWORK", requires = "nodes")]
    pub(crate) from: Vec<String>,
    /// How long it is good: 12h, 30d, at most 365d; 90d unless set. For nodes 10m unless set, at most 7d.
    #[arg(long, value_name = "TIME", value_parser = ttl)]
    pub(crate) ttl: Option<Duration>,
}

/// Which entries are asked for.
#[derive(Debug, Args)]
#[command(after_help = AUDIT_HELP)]
pub(crate) struct AuditArgs {
    /// Only since this time, such as 2026-11-21T10:30:00Z.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only of this token or user.
    #[arg(long, value_name = "WHO")]
    pub(crate) who: Option<String>,
    /// At most so many entries.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
}

/// Longest time that a token may be good: a year.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

fn ttl(text: &str) -> Result<Duration, String> {
    let time = text.parse::<Period>().map(Period::get).ok();
    let fits = |time: &Duration| (Duration::from_secs(60)..=LONGEST).contains(time);
    time.filter(fits).ok_or_else(|| "write a time from 1m to 365d, such as 12h or 90d".to_owned())
}
