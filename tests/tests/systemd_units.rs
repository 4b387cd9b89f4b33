//! The files in `systemd/`, read by systemd's own tools and held against the constants of the code.
//!
//! Needs systemd-analyze, systemd-sysusers and systemd-tmpfiles; where they are absent the tests say so and
//! pass, except under `CI=true`. Nothing is installed or started.

#![cfg(test)]

use std::collections::BTreeSet;
use std::fs::{create_dir_all, read_dir, read_to_string, write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sifleet_common::settings::EXIT_BAD_SETTINGS;
use sifleet_common::systemd::BEAT;
use sifleet_common::task::GRACE;

const UNITS: [&str; 2] = ["sifleet-agent.service", "sifleet-coordinator.service"];

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd").join(name)
}

fn text(name: &str) -> String {
    read_to_string(file(name)).unwrap()
}

/// Returns the values of a key in a unit.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// Says whether a tool is there; its absence is a failure where nothing may be left unchecked.
fn have(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    assert!(found || std::env::var("CI").as_deref() != Ok("true"), "{tool} is absent");
    if !found {
        println!("skipped: {tool} is absent (Debian: apt install systemd)");
    }
    found
}

/// Runs a tool that is to succeed without a word on standard error.
fn silent(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{command:?} said:\n{said}");
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if !have("systemd-analyze") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for name in UNITS {
        let unit = text(name);
        let started = values(&unit, "ExecStart").first().unwrap().split(' ').next().unwrap().to_owned();
        assert_eq!(started, format!("/usr/bin/{}", name.trim_end_matches(".service")));
        // The binary need not be installed here, and the check wants it to exist.
        let copy = dir.path().join(name);
        write(&copy, unit.replace(&started, "/bin/true")).unwrap();
        silent(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy));
    }
}

#[test]
fn a_mistake_in_a_unit_would_be_found() {
    if !have("systemd-analyze") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("broken.service");
    write(&copy, "[Service]\nExecStart=/bin/true\nProtectSytem=strict\n").unwrap();
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy).output().unwrap();
    assert!(!output.stderr.is_empty());
}

#[test]
fn the_units_agree_with_the_code() {
    for name in UNITS {
        let unit = text(name);
        let one = |key| match values(&unit, key).as_slice() {
            [value] => (*value).to_owned(),
            other => panic!("{name}: {key} is {other:?}"),
        };
        assert_eq!(one("Type"), "notify", "{name}");
        assert_eq!(one("User"), "sifleet", "{name}");
        assert_eq!(one("RestartPreventExitStatus"), EXIT_BAD_SETTINGS.to_string(), "{name}");
        assert_eq!(one("WatchdogSec"), (6 * BEAT.as_secs()).to_string(), "{name}");
        assert!(one("TimeoutStopSec").parse::<u64>().unwrap() > GRACE.as_secs(), "{name}");
        assert_eq!(one("ExecReload"), "/bin/kill -HUP $MAINPID", "{name}");
    }
}

#[test]
fn the_user_and_the_directories_can_be_made() {
    if !have("systemd-sysusers") || !have("systemd-tmpfiles") {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root may give directories to another user");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    create_dir_all(root.path().join("etc")).unwrap();
    let at_root = format!("--root={}", root.path().display());
    // Alternative roots take configuration from within themselves only.
    let place = |kind: &str, from: &str| {
        let dir = root.path().join("usr/lib").join(kind);
        create_dir_all(&dir).unwrap();
        write(dir.join("sifleet.conf"), text(from)).unwrap();
    };
    place("sysusers.d", "sifleet.sysusers");
    place("tmpfiles.d", "sifleet.tmpfiles");
    let made = Command::new("systemd-sysusers").args([&at_root, "sifleet.conf"]).status().unwrap();
    assert!(made.success());
    let users = read_to_string(root.path().join("etc/passwd")).unwrap();
    assert!(users.lines().any(|line| line.starts_with("sifleet:") && line.ends_with("/nologin")), "{users}");
    silent(Command::new("systemd-tmpfiles").args(["--create", &at_root, "sifleet.conf"]));
    for dir in ["etc/sifleet", "var/lib/sifleet", "opt/apptainers"] {
        assert!(root.path().join(dir).is_dir(), "{dir}");
    }
    assert!(!root.path().join("scratch").exists(), "an unmounted /scratch must stay absent");
}

#[test]
fn every_file_of_the_folder_is_known_here() {
    let found: BTreeSet<_> =
        read_dir(file(".")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let known = ["sifleet.sysusers", "sifleet.tmpfiles", "sifleet.sysctl"].iter().chain(&UNITS);
    assert_eq!(found, known.map(|name| (*name).to_owned()).collect());
}
