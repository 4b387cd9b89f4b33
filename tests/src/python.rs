//! Python programs that tests run: each in an environment of its own below the target directory, made once.
//!
//! Packages come from the registry by exact version, so that a test says the same tomorrow.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::programs::{find, workspace};

/// Returns the folder of programs of an environment that holds these packages (`name==version`), making it if need be.
///
/// # Errors
/// When there is no Python with `virtualenv`, or the packages cannot be had.
pub fn environment(name: &str, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let virtualenv = find("virtualenv").context("virtualenv is missing (apt-get install virtualenv)")?;
    let folder = workspace().join("target/lab/python").join(name);
    let (programs, made) = (folder.join("bin"), folder.join("made"));
    let wanted = packages.join("\n");
    if fs::read_to_string(&made).is_ok_and(|known| known == wanted) {
        return Ok(programs);
    }
    run(Command::new(virtualenv).args(["--quiet", "--clear"]).arg(&folder))?;
    let pip = ["install", "--quiet", "--disable-pip-version-check"];
    run(Command::new(programs.join("pip")).args(pip).args(packages))?;
    fs::write(&made, wanted)?;
    Ok(programs)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = Path::new(command.get_program()).display().to_string();
    let output = command.output().with_context(|| format!("run {program}"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
