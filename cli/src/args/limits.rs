//! The grammar of `sifleet limits`.

use clap::{Args, Subcommand};
use sifleet_common::api::limits::{LimitsChange, Said};
use sifleet_common::units::Rate;

use super::rate;

const SET_HELP: &str = "\
Examples:
  sifleet limits set --total 2G                   all nodes together fetch 2 GB a second at most
  sifleet limits set --up 500M --down 500M        each node sends and fetches so much at most
  sifleet limits set --busy-up 50M --busy-down 50M --busy-concurrent 1
  sifleet limits set --total none                 no limit any longer

What is not named stays as it is. It holds at once, for pushes that run too, and after a restart of the coordinator. \
Images fetched beyond a lower --concurrent go on to their end. `sifleet push rate` limits one push.";

/// What to do with limits.
#[derive(Debug, Subcommand)]
pub(crate) enum LimitsVerb {
    /// Shows all limits and which nodes are busy
    #[command(after_help = "Examples:\n  sifleet limits show\n  sifleet limits show -o json")]
    Show,
    /// Sets limits
    #[command(after_help = SET_HELP)]
    Set(Setting),
}

/// Which limits are to be different.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Setting {
    /// Bytes a second that all nodes together may fetch: 2G, 500MiB, at least 100kB as all rates; or none.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    total: Option<Rate>,
    /// Bytes a second that each node may send to others.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    up: Option<Rate>,
    /// Bytes a second that each node may fetch.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    down: Option<Rate>,
    /// Images that each node fetches at once, 1 to 64; none: what the settings of its agent say.
    #[arg(long, value_name = "N", value_parser = count)]
    concurrent: Option<Count>,
    /// The same as --up for busy nodes; the lower one counts.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    busy_up: Option<Rate>,
    /// The same as --down for busy nodes; the lower one counts.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    busy_down: Option<Rate>,
    /// The same as --concurrent for busy nodes; the lower one counts.
    #[arg(long, value_name = "N", value_parser = count)]
    busy_concurrent: Option<Count>,
}

/// How many at once, or as agents are set.
#[derive(Clone, Copy, Debug)]
struct Count(Option<u16>);

fn count(text: &str) -> Result<Count, String> {
    match text.parse() {
        Ok(count @ 1..=64) => Ok(Count(Some(count))),
        _ if text == "none" => Ok(Count(None)),
        _ => Err("write a number from 1 to 64, or none".to_owned()),
    }
}

impl Setting {
    /// Says it in the words of the API.
    pub(crate) fn body(&self) -> LimitsChange {
        let bytes = |rate: Option<Rate>| said(rate.map(Rate::get));
        let count = |count: Option<Count>| said(count.map(|Count(count)| count));
        LimitsChange {
            total: bytes(self.total),
            up: bytes(self.up),
            down: bytes(self.down),
            concurrent: count(self.concurrent),
            busy_up: bytes(self.busy_up),
            busy_down: bytes(self.busy_down),
            busy_concurrent: count(self.busy_concurrent),
        }
    }
}

fn said<T>(limit: Option<Option<T>>) -> Said<T> {
    limit.map_or(Said::Nothing, |limit| limit.map_or(Said::NoLimit, Said::At))
}
