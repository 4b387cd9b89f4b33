//! What the pages say can be set, can be set, and what they call a default is one.
//!
//! Commands of the pages must be understood, too. Reads the TOML blocks of the pages that begin with the name of a settings file. A line that is commented out
//! (`#rate = ...`) must be true as well.

#![cfg(test)]

use std::path::{Path, PathBuf};
use std::process::Command;

use sifleet_agent::settings as agent;
use sifleet_coordinator::settings as coordinator;
use sifleet_tests::programs::{own, workspace};

const PAGES: [&str; 3] = ["README.md", DEFAULTS, "docs/slurm.md"];
/// The page whose blocks show every setting with its default.
const DEFAULTS: &str = "docs/operations.md";

/// Returns the blocks of a page that show the settings of one daemon.
fn blocks(page: &str, daemon: &str) -> impl Iterator<Item = String> {
    let text =
        std::fs::read_to_string(workspace().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
    let first = format!("# /etc/sifleet/{daemon}.toml");
    let shown = text.split("```toml\n").skip(1).filter_map(|block| block.split("\n```").next());
    let wanted: Vec<_> = shown.filter(|block| block.starts_with(&first)).map(str::to_owned).collect();
    wanted.into_iter()
}

/// Takes the `#` off lines that only wait to be wanted.
fn wanted(block: &str) -> String {
    let off = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest.to_owned(),
        Some(_) | None => line.to_owned(),
    };
    block.lines().map(off).collect::<Vec<_>>().join("\n")
}

/// Writes a settings file.
fn file(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("settings.toml");
    std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}

#[test]
fn the_coordinators_settings_on_the_pages_are_true() {
    let folder = tempfile::tempdir().unwrap();
    let load = |text: &str| coordinator::Settings::load(Some(&file(folder.path(), text))).unwrap().settings;
    let mut shown = 0;
    for (page, block) in
        PAGES.iter().flat_map(|page| blocks(page, "coordinator").map(move |block| (page, block)))
    {
        load(&wanted(&block));
        if *page == DEFAULTS {
            assert_eq!(load(&block), coordinator::Settings::default());
        }
        shown += 1;
    }
    assert!(shown > 1, "the pages show no settings of the coordinator");
}

#[test]
fn the_agents_settings_on_the_pages_are_true() {
    let folder = tempfile::tempdir().unwrap();
    let load = |text: &str| agent::Settings::load(Some(&file(folder.path(), text))).unwrap().settings;
    let mut shown = 0;
    for (page, block) in PAGES.iter().flat_map(|page| blocks(page, "agent").map(move |block| (page, block))) {
        load(&wanted(&block));
        if *page == DEFAULTS {
            // Which coordinator is dialled has to be said; the page says an example.
            let default = agent::Settings::default();
            assert_eq!(
                agent::Settings { coordinators: default.coordinators.clone(), ..load(&block) },
                default
            );
        }
        shown += 1;
    }
    assert!(shown > 0, "the pages show no settings of the agent");
}

#[test]
fn the_settings_files_of_the_packages_change_nothing_until_somebody_edits_them() {
    let folder = tempfile::tempdir().unwrap();
    let text = sifleet_tests::packaging::settings("agent").unwrap();
    let loaded = agent::Settings::load(Some(&file(folder.path(), &text))).unwrap().settings;
    assert_eq!(loaded, agent::Settings::default());
    agent::Settings::load(Some(&file(folder.path(), &uncommented(&text)))).unwrap();
    let text = sifleet_tests::packaging::settings("coordinator").unwrap();
    let loaded = coordinator::Settings::load(Some(&file(folder.path(), &text))).unwrap().settings;
    assert_eq!(loaded, coordinator::Settings::default());
    coordinator::Settings::load(Some(&file(folder.path(), &uncommented(&text)))).unwrap();
}

/// Takes the `#` off everything but comments.
fn uncommented(text: &str) -> String {
    let off =
        |line: &str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned();
    text.lines().map(off).collect::<Vec<_>>().join("\n")
}

#[test]
fn commands_that_pages_show_are_understood() {
    let program = own("sifleet").unwrap();
    let mut shown = 0;
    for page in PAGES {
        let text = std::fs::read_to_string(workspace().join(page)).unwrap();
        for command in
            text.split("```sh\n").skip(1).filter_map(|block| block.split("\n```").next()).flat_map(commands)
        {
            // Nobody listens there: 10 says that the line was understood.
            let output = Command::new(&program)
                .args(&command)
                .env("SIFLEET_URL", "http://127.0.0.1:1")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(10), "{page}: sifleet {}: {said}", command.join(" "));
            shown += 1;
        }
    }
    assert!(shown > 5, "the pages show no commands");
}

/// Finds calls of `sifleet` in shell text, up to whatever the shell would take for itself.
fn commands(block: &str) -> Vec<Vec<String>> {
    block
        .lines()
        .map(|line| line.split(" #").next().unwrap_or_default())
        .flat_map(|line| line.split(['|', ';', '&', '(', ')']))
        .filter_map(|part| part.trim().strip_prefix("sifleet "))
        .map(|rest| rest.split_whitespace().map(str::to_owned).collect())
        .collect()
}

/// Collects the sources of tests, all crates'.
fn sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, text);
        } else if path.extension().is_some_and(|end| end == "rs") {
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_threat_on_the_page_names_tests_that_exist() {
    let page = std::fs::read_to_string(workspace().join("docs/security.md")).unwrap();
    let mut code = String::new();
    for part in ["common", "agent", "coordinator", "cli", "tests"] {
        sources(&workspace().join(part), &mut code);
    }
    let rows: Vec<&str> =
        page.lines().filter(|line| line.starts_with("| ") && !line.contains("|---")).collect();
    assert!(rows.len() > 20, "{} rows", rows.len());
    for row in rows.iter().skip(1) {
        let tests = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test: {row}");
        for name in names {
            assert!(code.contains(&format!("fn {name}(")), "there is no test {name}: {row}");
        }
    }
}
