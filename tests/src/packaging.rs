//! Makes the distribution's packages from programs that are built.
//!
//! Owns what `cargo packages` and the test of the packages share: which tools, in which versions, what is made beside the
//! programs ([`share`]), and how both kinds of package come from one folder. What is in a package is said in the
//! `Cargo.toml` of its crate; scripts and settings are in `packaging/`.
//! Outside facts: cargo-deb and cargo-generate-rpm replace `target/release/` in the paths of assets by the profile's folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::programs::{find, forget_package, workspace};

mod share;

pub use share::settings;

/// The packages, each with the folder of its crate.
pub const PACKAGES: [(&str, &str); 3] =
    [("sifleet", "cli"), ("sifleet-agent", "agent"), ("sifleet-coordinator", "coordinator")];
/// What makes packages and judges what is in them, with the versions that this was written for.
pub const TOOLS: [(&str, &str); 4] = [
    ("cargo-deb", "3.8.0"),
    ("cargo-generate-rpm", "0.21.1"),
    ("cargo-auditable", "0.7.7"),
    ("cargo-deny", "0.20.2"),
];
/// The folder of the target directory from which packages are made; for the tools it is a profile's.
const STAGED: &str = "packaged";

/// What is to be made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the built programs are.
    pub programs: PathBuf,
    /// Where packages go; made if need be.
    pub out: PathBuf,
    /// The version, if not the workspace's.
    pub version: Option<String>,
    /// Seconds since 1970 that files and packages bear.
    pub epoch: u64,
}

/// Returns the target directory that the caller was built in.
///
/// # Errors
/// When it cannot be found.
pub fn target() -> anyhow::Result<PathBuf> {
    let me = std::env::current_exe().context("where am I?")?;
    let built = me.ancestors().skip(1).find(|folder| !folder.ends_with("deps")).context("no folder")?;
    Ok(built.parent().context("no target directory")?.to_owned())
}

/// Returns where a tool is if it was installed into the target directory before.
///
/// # Errors
/// When there is no such tool.
pub fn installed(name: &str) -> anyhow::Result<Option<PathBuf>> {
    let program = folder(name)?.0.join("bin").join(name);
    Ok(Some(program).filter(|program| program.exists()))
}

/// Returns the folder of the target directory that is a tool's, and its version.
fn folder(name: &str) -> anyhow::Result<(PathBuf, &'static str)> {
    let (_, version) = TOOLS.iter().find(|(known, _)| *known == name).context("no such tool")?;
    Ok((target()?.join("tools").join(format!("{name}-{version}")), version))
}

/// Returns a tool, installing it into the target directory if it is not there.
///
/// # Errors
/// When it cannot be installed.
pub fn tool(name: &str) -> anyhow::Result<PathBuf> {
    let (root, version) = folder(name)?;
    if let Some(found) = find(name)
        && run(Command::new(&found).arg("--version")).is_ok_and(|said| said.contains(version))
    {
        return Ok(found);
    }
    if let Some(program) = installed(name)? {
        return Ok(program);
    }
    let program = root.join("bin").join(name);
    anstream::println!("== installing {name} {version}");
    let mut install = cargo();
    install.args(["install", "--quiet", "--locked", "--version", version, "--root"]).arg(&root).arg(name);
    install.env("CARGO_TARGET_DIR", target()?.join("tools/build"));
    // They run for seconds: what is saved is building them.
    for (key, value) in [("OPT_LEVEL", "1"), ("LTO", "off"), ("CODEGEN_UNITS", "16"), ("DEBUG", "0")] {
        install.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
    }
    run(&mut install)?;
    Ok(program)
}

/// Returns a cargo that does not know for which package it runs.
#[must_use]
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace());
    forget_package(&mut cargo);
    cargo
}

/// Makes all six packages; returns their paths, the Debian packages first.
///
/// # Errors
/// When a tool is missing or fails; some packages may be there.
pub fn make(plan: &Plan) -> anyhow::Result<Vec<PathBuf>> {
    ensure!(find("strip").is_some(), "strip is missing: apt-get install binutils");
    fs::create_dir_all(&plan.out)?;
    let staged = target()?.join(STAGED);
    if staged.exists() {
        fs::remove_dir_all(&staged)?;
    }
    fs::create_dir_all(&staged)?;
    for (name, _) in PACKAGES {
        let program = staged.join(name);
        fs::copy(plan.programs.join(name), &program).with_context(|| format!("{name} is not built"))?;
        run(Command::new("strip").arg("--strip-all").arg(&program))?;
    }
    share::make(&staged, plan.epoch)?;
    let mut made = Vec::new();
    for (name, _) in PACKAGES {
        made.push(debian(plan, name)?);
    }
    for (name, folder) in PACKAGES {
        made.push(redhat(plan, (name, folder))?);
    }
    Ok(made)
}

fn debian(plan: &Plan, name: &str) -> anyhow::Result<PathBuf> {
    let mut command = Command::new(tool("cargo-deb")?);
    command.args(["--no-build", "--no-strip", "--locked", "--quiet", "--profile", STAGED, "-p", name]);
    if let Some(version) = &plan.version {
        command.args(["--deb-version", version]);
    }
    package(command, plan, &format!("{name}_{}_{}.deb", plan.version(), architectures().0))
}

fn redhat(plan: &Plan, (name, folder): (&str, &str)) -> anyhow::Result<PathBuf> {
    let mut command = Command::new(tool("cargo-generate-rpm")?);
    command.args(["--profile", STAGED, "--auto-req", "builtin", "-p", folder]);
    if let Some(version) = &plan.version {
        command.args(["--set-metadata", &format!("version = {version:?}")]);
    }
    package(command, plan, &format!("{name}-{}-1.{}.rpm", plan.version(), architectures().1))
}

fn package(mut command: Command, plan: &Plan, file: &str) -> anyhow::Result<PathBuf> {
    let path = plan.out.join(file);
    command.current_dir(workspace()).arg("-o").arg(&path);
    command.env("CARGO_TARGET_DIR", target()?).env("SOURCE_DATE_EPOCH", plan.epoch.to_string());
    forget_package(&mut command);
    run(&mut command)?;
    ensure!(path.exists(), "{} was not made", path.display());
    Ok(path)
}

impl Plan {
    fn version(&self) -> &str {
        self.version.as_deref().unwrap_or(env!("CARGO_PKG_VERSION"))
    }
}

/// What Debian and Red Hat call this machine's architecture.
fn architectures() -> (&'static str, &'static str) {
    match std::env::consts::ARCH {
        "aarch64" => ("arm64", "aarch64"),
        _ => ("amd64", "x86_64"),
    }
}

/// Runs a command; what it said is told only when it fails.
///
/// # Errors
/// When it cannot be run, or fails.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} ended with {}:\n{said}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns the time of the newest commit, which is what packages bear unless `SOURCE_DATE_EPOCH` says otherwise.
///
/// # Errors
/// When there is neither.
pub fn epoch() -> anyhow::Result<u64> {
    if let Ok(said) = std::env::var("SOURCE_DATE_EPOCH") {
        return said.parse().context("SOURCE_DATE_EPOCH");
    }
    let mut git = Command::new("git");
    git.current_dir(workspace()).args(["log", "-1", "--format=%ct"]);
    let said = run(&mut git).context("set SOURCE_DATE_EPOCH: there is no commit to take the time from")?;
    said.trim().parse().context("the time of the newest commit")
}

/// Returns where a file of the workspace is.
fn source(path: &str) -> PathBuf {
    Path::new(&workspace()).join(path)
}
