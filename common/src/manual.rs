//! Manual pages made from the same words as `--help`.
//!
//! Shared by the three programs; owns how a page looks. Behind the cargo feature `manual`.
//! Outside facts: man(7), crate clap_mangen.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man;

/// Says why pages cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
pub struct ManualError {
    /// The file or directory.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Writes the page of a program and one for each of its commands into a directory, which is made; returns the names of
/// the files. `section` is 1 for users' programs, 8 for those of admins.
///
/// # Errors
/// [`ManualError`]; some pages may be written.
pub fn write_pages(command: Command, section: &str, dir: &Path) -> Result<Vec<String>, ManualError> {
    fs::create_dir_all(dir).map_err(|source| ManualError { path: dir.to_owned(), source })?;
    write(&built(command), section, dir)
}

/// Makes the page of a program alone.
///
/// # Errors
/// None that a buffer in memory could have.
pub fn page(command: Command, section: &str) -> io::Result<Vec<u8>> {
    render(&built(command), section)
}

fn built(command: Command) -> Command {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    command
}

fn write(command: &Command, section: &str, dir: &Path) -> Result<Vec<String>, ManualError> {
    let file = Man::new(command.clone()).section(section).get_filename();
    let path = dir.join(&file);
    let written = render(command, section).and_then(|page| fs::write(&path, page));
    written.map_err(|source| ManualError { path, source })?;
    let mut files = vec![file];
    for inner in shown(command) {
        files.extend(write(inner, section, dir)?);
    }
    Ok(files)
}

fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|inner| inner.get_name() != "help" && !inner.is_hide_set())
}

/// Makes one page: as clap makes it, but with what follows the help kept line by line.
fn render(command: &Command, section: &str) -> io::Result<Vec<u8>> {
    let extra = command.get_after_help().map(ToString::to_string);
    let page = Man::new(command.clone().after_help(None::<&str>)).section(section);
    let mut roff = Vec::new();
    page.render_title(&mut roff)?;
    page.render_name_section(&mut roff)?;
    page.render_synopsis_section(&mut roff)?;
    page.render_description_section(&mut roff)?;
    page.render_options_section(&mut roff)?;
    if shown(command).next().is_some() {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Command {
        let hidden = Command::new("man").hide(true);
        let inner = Command::new("get").about("Gets it").after_help("Example:\n.dot 'quote\n'x -y \\z");
        Command::new("prog").version("1.2").about("Does it").subcommand(inner).subcommand(hidden)
    }

    #[test]
    fn every_command_that_is_shown_gets_a_page_in_its_section() {
        let dir = tempfile::tempdir().unwrap();
        let files = write_pages(program(), "8", &dir.path().join("new")).unwrap();
        assert_eq!(files, ["prog.8", "prog-get.8"]);
        assert!(fs::read_to_string(dir.path().join("new/prog.8")).unwrap().contains(".TH prog 8"));
    }

    #[test]
    fn no_line_of_an_example_is_taken_for_a_request() {
        let page =
            String::from_utf8(page(program().find_subcommand("get").unwrap().clone(), "1").unwrap()).unwrap();
        assert!(page.contains("\n\\&.dot 'quote\n\\&'x \\-y \\\\z\n.fi\n"), "{page}");
    }
}
