//! Packages on a real Debian 12 with its own systemd: installed, started, hurt, upgraded, removed, purged.
//!
//! The machine is booted in namespaces ([`Machine`]); it takes root, debootstrap and a Debian mirror, without which the tests
//! skip and say so, except in CI. The packages hold the programs as the tests were built, not as they are shipped: a
//! release build takes minutes, and all that differs is how fast they are. How shipped programs are built is checked by
//! `cargo packages` itself.

#![cfg(test)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sifleet_tests::machine::{self, Machine};
use sifleet_tests::packaging::{self, Plan};
use sifleet_tests::programs::{missing, own};

#[path = "packages/contents.rs"]
mod contents;
#[path = "packages/life.rs"]
mod life;
#[path = "packages/rpm.rs"]
mod rpm;

/// The two services.
const DAEMONS: [&str; 2] = ["sifleet-agent", "sifleet-coordinator"];
/// A time that packages bear here; any will do.
const EPOCH: u64 = 1_700_000_000;

/// Returns the packages of a version, made once; the Debian packages come first.
fn packages(version: &'static str) -> Vec<PathBuf> {
    static MADE: Mutex<BTreeMap<&str, Vec<PathBuf>>> = Mutex::new(BTreeMap::new());
    // One at a time: they share the folder that they are made from.
    let mut known = MADE.lock().unwrap();
    known
        .entry(version)
        .or_insert_with(|| make(version.trim_end_matches("+again"), &format!("packages-{version}")))
        .clone()
}

fn make(version: &str, folder: &str) -> Vec<PathBuf> {
    let target = packaging::target().unwrap();
    let programs = own("sifleet").unwrap().parent().unwrap().to_owned();
    let out = target.join("lab").join(folder);
    packaging::make(&Plan { programs, out, version: Some(version.to_owned()), epoch: EPOCH }).unwrap()
}

fn folder(packages: &[PathBuf]) -> &Path {
    packages[0].parent().unwrap()
}

/// Boots a machine that sees what is shown; `None` where that cannot be done.
fn machine(test: &str, shown: &[&Path]) -> Option<Machine> {
    match machine::root(&packaging::target().unwrap()) {
        Ok(root) => Some(Machine::boot(&root, shown).unwrap()),
        Err(why) => {
            assert!(missing(test, &why));
            None
        }
    }
}

/// Lists every file of the machine's disk but for what the system itself keeps about packages, users and logs.
fn files(machine: &Machine) -> Vec<String> {
    let own =
        "/proc /sys /dev /run /tmp /var/tmp /var/log /var/cache /var/lib/dpkg /var/lib/systemd /var/backups";
    let own: String = own.split(' ').map(|path| format!("-path {path} -prune -o ")).collect();
    // Backups that whoever changes users makes, and an index that systemd makes of all packages' texts.
    let backups = "! -path '/etc/passwd*' ! -path '/etc/group*' ! -path '/etc/shadow*' ! -path '/etc/gshadow*' ! -name .pwd.lock";
    let listed = machine.run(&format!("find / {own} {backups} -print"));
    let mut listed: Vec<_> = listed.lines().map(str::to_owned).collect();
    listed.sort();
    listed
}

/// Returns what only one of two lists has, marked.
fn difference(before: &[String], after: &[String]) -> Vec<String> {
    let gone = before.iter().filter(|file| !after.contains(file)).map(|file| format!("- {file}"));
    let come = after.iter().filter(|file| !before.contains(file)).map(|file| format!("+ {file}"));
    gone.chain(come).collect()
}
