//! `sifleet man`: manual pages made from the same words as `--help`.

use std::path::Path;

use clap::CommandFactory;
use sifleet_common::manual;

use crate::args::Args;
use crate::outcome::Outcome;
use crate::output::Screen;

/// Prints the main page, or writes one page for each command into a directory.
pub(super) fn run(dir: Option<&Path>, screen: &mut Screen) -> anyhow::Result<Outcome> {
    match dir {
        None => screen.print(&String::from_utf8(manual::page(Args::command(), "1")?)?)?,
        Some(dir) => {
            for name in manual::write_pages(Args::command(), "1", dir)? {
                screen.print(&format!("{name}\n"))?;
            }
        }
    }
    Ok(Outcome::Yes)
}
