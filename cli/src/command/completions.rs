//! `sifleet completions`: the completion script of a shell.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Args;
use crate::outcome::Outcome;
use crate::output::Screen;

/// Prints the script.
pub(super) fn run(shell: Shell, screen: &mut Screen) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "sifleet", &mut script);
    screen.print(&String::from_utf8(script)?)?;
    Ok(Outcome::Yes)
}
