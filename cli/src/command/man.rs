//! `sifleet man`: manual pages made from the same words as `--help`.

use std::fs;
use std::path::Path;

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::args::Args;
use crate::outcome::Outcome;
use crate::output::Screen;

/// Prints the main page, or writes one page for each command into a directory.
pub(super) fn run(dir: Option<&Path>, screen: &mut Screen) -> anyhow::Result<Outcome> {
    let mut command = Args::command();
    command.build();
    match dir {
        None => {
            let mut page = Vec::new();
            Man::new(command).render(&mut page)?;
            screen.print(&String::from_utf8(page)?)?;
        }
        Some(dir) => {
            fs::create_dir_all(dir)
                .with_context(|| format!("cannot make the directory {}", dir.display()))?;
            for name in write(&command, dir)? {
                screen.print(&format!("{name}\n"))?;
            }
        }
    }
    Ok(Outcome::Yes)
}

/// Writes the page of a command and those of its own; returns the names of the files.
fn write(command: &Command, dir: &Path) -> anyhow::Result<Vec<String>> {
    let page = Man::new(command.clone());
    let file = page.get_filename();
    page.generate_to(dir).with_context(|| format!("cannot write {file} into {}", dir.display()))?;
    let mut files = vec![file];
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        files.extend(write(inner, dir)?);
    }
    Ok(files)
}
