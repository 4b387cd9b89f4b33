//! Python programs that tests run: each in an environment of its own below the target directory, made once.
//!
//! Packages come from the registry by exact version, all of them, so that a test says the same tomorrow.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::programs::{find, workspace};

/// Returns the folder of programs of the environment that `tests/lab/NAME.txt` lists wholly, making it if need be.
///
/// # Errors
/// When there is no Python with `virtualenv`, or the packages cannot be had.
pub fn environment(name: &str) -> anyhow::Result<PathBuf> {
    let virtualenv = find("virtualenv").context("virtualenv is missing (apt-get install virtualenv)")?;
    let folder = workspace().join("target/lab/python").join(name);
    let (programs, made) = (folder.join("bin"), folder.join("made"));
    let list = workspace().join(format!("tests/lab/{name}.txt"));
    let wanted = fs::read_to_string(&list).with_context(|| format!("read {}", list.display()))?;
    if fs::read_to_string(&made).is_ok_and(|known| known == wanted) {
        return Ok(programs);
    }
    run(Command::new(virtualenv).args(["--quiet", "--clear"]).arg(&folder))?;
    let pip = ["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement"];
    run(Command::new(programs.join("pip")).args(pip).arg(&list))?;
    fs::write(&made, wanted)?;
    Ok(programs)
}

/// Builds the wheel of a project below the workspace and puts it into an environment; returns the wheel.
///
/// # Errors
/// When it cannot be built or installed; what pip said.
pub fn install(programs: &Path, project: &str) -> anyhow::Result<PathBuf> {
    let wheels = programs.with_file_name("wheels");
    if wheels.exists() {
        fs::remove_dir_all(&wheels)?;
    }
    let pip = |arguments: &[&str]| {
        let mut pip = Command::new(programs.join("pip"));
        pip.args(["--quiet", "--disable-pip-version-check"]).args(arguments);
        pip
    };
    // What builds it is in the environment: nothing else is fetched.
    let build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir"];
    run(pip(&build).arg(&wheels).arg(workspace().join(project)))?;
    let wheel = fs::read_dir(&wheels)?.next().context("pip made no wheel")??.path();
    run(pip(&["install", "--no-deps", "--force-reinstall"]).arg(&wheel))?;
    Ok(wheel)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = Path::new(command.get_program()).display().to_string();
    let output = command.output().with_context(|| format!("run {program}"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
