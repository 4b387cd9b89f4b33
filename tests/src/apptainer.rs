//! The real apptainer, from Debian sid in a root directory below `target/lab`, which `tests/lab/apptainer.sh` makes once.
//!
//! That takes root, debootstrap and a Debian mirror: without them there is none, with the reason. In CI a root that
//! cannot be made is a failure, unless Debian has no apptainer any more.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A root directory with apptainer in it.
#[derive(Debug)]
pub struct Apptainer {
    script: PathBuf,
    root: PathBuf,
    /// Where roots and images lie.
    target: PathBuf,
}

impl Apptainer {
    /// Makes the root, or takes the one that is there; says why it cannot.
    ///
    /// # Errors
    /// A reason to skip, for people.
    ///
    /// # Panics
    /// When it cannot be made in CI.
    pub fn find() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root can make the root directory that apptainer runs in".into());
        }
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = tests.join("../target/lab");
        let target = fs::create_dir_all(&target).and_then(|()| target.canonicalize());
        let target = target.map_err(|error| format!("target/lab cannot be made: {error}"))?;
        let lab = Self { script: tests.join("lab/apptainer.sh"), root: target.join("sid"), target };
        let debootstrap = Command::new("debootstrap").arg("--version").output();
        if !lab.root.join(".complete").exists() && debootstrap.is_err() {
            return Err("debootstrap is not installed".into());
        }
        let made = lab.script("make", &[]);
        if made.status.success() {
            return Ok(lab);
        }
        let said = said(&made);
        let gone = ["Unable to locate package apptainer", "has no installation candidate"];
        if gone.iter().any(|words| said.contains(words)) {
            return Err(format!("Debian sid has no apptainer today: {said}"));
        }
        assert!(std::env::var("CI").as_deref() != Ok("true"), "apptainer cannot be installed: {said}");
        Err(format!("apptainer cannot be installed: {said}"))
    }

    /// Returns a directory below `target/lab`, seen at the same path inside the root if it is given to a script.
    #[must_use]
    pub fn folder(&self, name: &str) -> PathBuf {
        self.target.join(name)
    }

    /// Runs one of the script's commands on the root.
    ///
    /// # Panics
    /// When the script is not there.
    #[must_use]
    pub fn script(&self, command: &str, more: &[&Path]) -> Output {
        let output = Command::new(&self.script).arg(command).arg(&self.root).args(more).output();
        match output {
            Ok(output) => output,
            Err(error) => panic!("{}: {error}", self.script.display()),
        }
    }

    /// Runs a command inside, in a directory that is seen at the same path there.
    ///
    /// # Panics
    /// When the script is not there.
    #[must_use]
    pub fn run_in(&self, folder: &Path, command: &[&str]) -> Output {
        let mut run = Command::new(&self.script);
        run.arg("run").arg(&self.root).args(["env", "-C"]).arg(folder).args(command);
        match run.env("BIND", folder).output() {
            Ok(output) => output,
            Err(error) => panic!("{}: {error}", self.script.display()),
        }
    }
}

/// Returns what a command printed, wherever to.
#[must_use]
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}
