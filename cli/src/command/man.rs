//! `sifleet man`: manual pages made from the same words as `--help`.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::args::Args;
use crate::outcome::Outcome;
use crate::output::Screen;

/// Prints the main page, or writes one page for each command into a directory.
pub(super) fn run(dir: Option<&Path>, screen: &mut Screen) -> anyhow::Result<Outcome> {
    let mut command = Args::command().disable_help_subcommand(true);
    command.build();
    match dir {
        None => {
            screen.print(&String::from_utf8(page(&command)?)?)?;
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
    let file = Man::new(command.clone()).get_filename();
    fs::write(dir.join(&file), page(command)?)
        .with_context(|| format!("cannot write {file} into {}", dir.display()))?;
    let mut files = vec![file];
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        files.extend(write(inner, dir)?);
    }
    Ok(files)
}

/// Makes one page: as clap makes it, but with what follows the help kept line by line.
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let extra = command.get_after_help().map(ToString::to_string);
    let page = Man::new(command.clone().after_help(None::<&str>));
    let mut roff = Vec::new();
    page.render_title(&mut roff)?;
    page.render_name_section(&mut roff)?;
    page.render_synopsis_section(&mut roff)?;
    page.render_description_section(&mut roff)?;
    page.render_options_section(&mut roff)?;
    if command.get_subcommands().any(|inner| inner.get_name() != "help") {
        page.render_subcommands_section(&mut roff)?;
    }
    if let Some(extra) = extra {
        write!(roff, ".SH NOTES\n.nf\n{}\n.fi\n", verbatim(&extra))?;
    }
    if command.get_version().is_some() {
        page.render_version_section(&mut roff)?;
    }
    Ok(roff)
}

/// Writes text so that roff takes none of it for a request.
fn verbatim(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('-', "\\-");
    let line =
        |line: &str| if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}
