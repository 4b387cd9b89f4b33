//! A machine to install packages on: Debian 12 with its own systemd, in namespaces, gone when it is dropped.
//!
//! Owns how it is brought up (`tests/lab/boot.sh`) and how commands run in it. Takes root, debootstrap and a Debian mirror.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::programs::{find, workspace};
use crate::wait::pause;

/// Far above what anything here takes; only a failure waits for so long.
const LONG: Duration = Duration::from_secs(90);

/// The machine.
#[derive(Debug)]
pub struct Machine {
    outer: Child,
    /// systemd, as seen from outside.
    systemd: u32,
}

/// Makes or completes the root that machines boot from.
///
/// # Errors
/// What is missing, in words for a skipped test.
pub fn root(target: &Path) -> Result<PathBuf, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root can boot another systemd".to_owned());
    }
    if find("debootstrap").is_none() {
        return Err("debootstrap is missing (apt-get install debootstrap)".to_owned());
    }
    let root = target.join("lab/boot-bookworm");
    let made = script().arg("make").arg(&root).output().map_err(|error| error.to_string())?;
    if made.status.success() { Ok(root) } else { Err(String::from_utf8_lossy(&made.stderr).into_owned()) }
}

fn script() -> Command {
    Command::new(workspace().join("tests/lab/boot.sh"))
}

impl Machine {
    /// Boots a machine that sees these directories, read only.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn boot(root: &Path, shown: &[&Path]) -> anyhow::Result<Self> {
        let outer = script().arg("up").arg(root).args(shown).stdout(Stdio::piped()).spawn()?;
        // From here on whatever goes wrong ends it.
        let mut machine = Self { outer, systemd: 0 };
        let mut said = String::new();
        BufReader::new(machine.outer.stdout.take().context("no output")?).read_line(&mut said)?;
        let systemd = said.trim().strip_prefix("pid ").and_then(|pid| pid.parse().ok());
        machine.systemd = systemd.with_context(|| format!("the machine said {said:?}"))?;
        machine.until("systemd is up", |machine| {
            // `degraded` is a unit that failed: Debian's own are none of our business here.
            let state = machine.output("systemctl is-system-running");
            matches!(String::from_utf8_lossy(&state.stdout).trim(), "running" | "degraded")
        })?;
        Ok(machine)
    }

    /// Runs a shell command in the machine, as root.
    ///
    /// # Panics
    /// When there is no nsenter.
    #[must_use]
    pub fn output(&self, command: &str) -> Output {
        let mut enter = Command::new("nsenter");
        enter.args(["--target", &self.systemd.to_string()]);
        enter.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--"]);
        enter.args(["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"]);
        enter
            .args(["DEBIAN_FRONTEND=noninteractive", "SYSTEMD_PAGER=", "sh", "-c", command])
            .stdin(Stdio::null());
        match enter.output() {
            Ok(output) => output,
            Err(error) => panic!("nsenter: {error}"),
        }
    }

    /// Runs a command that is to succeed, and returns what it printed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn run(&self, command: &str) -> String {
        let output = self.output(command);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{command} ended with {}:\n{out}{err}", output.status);
        out.into_owned()
    }

    /// Waits until something holds.
    ///
    /// # Errors
    /// When it does not for a long time.
    pub fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + LONG;
        while !holds(self) {
            ensure!(Instant::now() < deadline, "{what}: not within {LONG:?}");
            pause(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Returns a property of a service.
    #[track_caller]
    #[must_use]
    pub fn property(&self, service: &str, name: &str) -> String {
        self.run(&format!("systemctl show {service} --property {name} --value")).trim().to_owned()
    }

    /// Writes a file of the machine.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let outside = PathBuf::from(format!("/proc/{}/root{path}", self.systemd));
        if let Some(folder) = outside.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&outside, bytes).with_context(|| format!("write {path} of the machine"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The first process inside dies with it, and with that everything inside.
        if self.outer.kill().is_ok() {
            self.outer.wait().ok();
        }
    }
}
