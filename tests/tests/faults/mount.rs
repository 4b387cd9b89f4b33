//! File systems that are small, thin, or read-only, mounted where a root will be.

use std::path::{Path, PathBuf};
use std::process::Command;

use sifleet_tests::programs::{find, missing};

/// A mounted file system; gone when this is dropped.
pub(crate) struct Mount {
    at: PathBuf,
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Whoever still has a file open there must not keep the next test from its folder.
        run("umount", &["--lazy", &self.at.display().to_string()]);
    }
}

impl Mount {
    /// Mounts memory, of a size such as `8m`.
    pub(crate) fn tmpfs(at: &Path, size: &str) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let mount = Self { at: at.to_owned() };
        assert!(run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "sifleet", &mount.path()]));
        mount
    }

    /// Makes a file system in a file of so many MiB, which takes space only as it is written, and mounts it.
    pub(crate) fn made(at: &Path, backing: &Path, megabytes: u64, make: &[&str]) -> Self {
        std::fs::File::create(backing).unwrap().set_len(megabytes << 20).unwrap();
        let (program, options) = make.split_first().unwrap();
        assert!(run(program, &[options, &["-q", "-F", &backing.display().to_string()]].concat()));
        Self::of(at, backing, "loop")
    }

    /// Mounts the file system that is in a file.
    pub(crate) fn of(at: &Path, backing: &Path, options: &str) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let mount = Self { at: at.to_owned() };
        assert!(run("mount", &["-o", options, &backing.display().to_string(), &mount.path()]));
        mount
    }

    /// Mounts it in another way.
    pub(crate) fn again(&self, options: &str) {
        assert!(run("mount", &["-o", &format!("remount,{options}"), &self.path()]));
    }

    fn path(&self) -> String {
        self.at.display().to_string()
    }
}

/// Tells whether a test has to be skipped because it needs what is not here.
pub(crate) fn skipped(test: &str, programs: &[&str]) -> bool {
    if !rustix::process::geteuid().is_root() {
        return missing(test, "only root may mount file systems and fill them");
    }
    if let Some(program) = programs.iter().find(|program| find(program).is_none()) {
        return missing(test, &format!("{program} is missing"));
    }
    // A container's root may be forbidden all of it; no package would help.
    let forbidden = programs.iter().find(|program| !may(program));
    if let Some(program) = forbidden {
        println!("skipped {test}: this machine forbids its root what {program} is for");
    }
    forbidden.is_some()
}

/// Tells whether a program can do here what it is used for.
fn may(program: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display().to_string();
    let mounts = || {
        let mounted = run("mount", &["-t", "tmpfs", "-o", "size=1m", "sifleet", &at]);
        mounted && run("umount", &[&at])
    };
    match program {
        "strace" => run("strace", &["-f", "-o", "/dev/null", "true"]),
        "mount" => mounts(),
        _ => mounts() && run("losetup", &["--find"]),
    }
}

fn run(program: &str, arguments: &[&str]) -> bool {
    let output = Command::new(program).args(arguments).output().unwrap();
    if !output.status.success() {
        println!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.success()
}
