//! Finds and builds the project's own programs, and finds others that tests need.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, bail, ensure};

/// The workspace's folder.
#[must_use]
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_path_buf()
}

/// Returns the path of one of the project's programs, built as the caller was.
///
/// # Errors
/// When it cannot be built.
pub fn own(name: &str) -> anyhow::Result<PathBuf> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    match folder {
        Ok(folder) => Ok(folder.join(name)),
        Err(error) => bail!("the programs cannot be built: {error}"),
    }
}

/// Builds all programs into the folder this program lies in, and returns that folder.
fn build() -> anyhow::Result<PathBuf> {
    let me = std::env::current_exe().context("where am I?")?;
    let folder = me.ancestors().skip(1).find(|folder| !folder.ends_with("deps")).context("no folder")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // The whole workspace, as the caller was built: another selection would build dependencies anew.
    cargo.current_dir(workspace()).args(["build", "--quiet", "--workspace", "--bins"]);
    forget_package(&mut cargo);
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.status().context("cargo build")?;
    ensure!(status.success(), "cargo build failed");
    Ok(folder.to_path_buf())
}

/// Has a command forget for which package cargo runs us.
///
/// Build scripts watch these variables (ring's does): a cargo that sees them and one that does not would build ring
/// and all that rests on it anew, in turns.
pub fn forget_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            command.env_remove(name);
        }
    }
}

/// Finds a program in PATH.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Decides what a missing requirement means: a failure where everything must run, elsewhere a printed skip.
///
/// # Panics
/// Under `CI=true`.
#[must_use]
pub fn missing(test: &str, what: &str) -> bool {
    assert!(std::env::var_os("CI").is_none(), "{test}: {what}, and in CI nothing is skipped");
    anstream::eprintln!("skipped {test}: {what}");
    true
}
