//! The command line: asks the coordinator over HTTP, prints the answer, ends with a code that says it too.
//!
//! Reads as arguments → command → exit code. It links neither the wire protocol nor a database, keeps nothing
//! on disk and decides nothing about images: whatever it prints, the coordinator said.

mod args;
mod client;
mod command;
mod export;
mod live;
mod outcome;
mod output;
mod waiting;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::args::Args;
use crate::outcome::Outcome;
use crate::output::Screen;

fn main() -> ExitCode {
    if std::env::args_os().len() < 2 {
        // Variables that are set count as arguments for clap, and who types nothing wants to know what there is.
        return if Args::command().print_help().is_ok() { Outcome::Usage } else { Outcome::No }.into();
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        // Help and version come this way too and are no failure. There is nobody to tell if even this
        // cannot be printed.
        Err(usage) => {
            return if usage.print().is_ok() && !usage.use_stderr() { Outcome::Yes } else { Outcome::Usage }
                .into();
        }
    };
    let mut screen = Screen::of_process(args.output);
    match command::run(args, &mut screen) {
        Ok(outcome) => outcome.into(),
        Err(failure) => outcome::report(&failure, &mut screen).into(),
    }
}
