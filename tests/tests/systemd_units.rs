//! The files in `systemd/`, read by systemd's own tools and held against the constants of the code.
//!
//! Needs systemd-analyze, systemd-sysusers and systemd-tmpfiles; where they are absent the tests say so and
//! pass, except under `CI=true`. Nothing is installed or started.

#![cfg(test)]

use std::collections::BTreeSet;
use std::fs::{create_dir_all, read_dir, read_to_string, write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sifleet_agent::settings::Settings as AgentSettings;
use sifleet_common::inventory::MAX_ROOTS;
use sifleet_common::settings::EXIT_BAD_SETTINGS;
use sifleet_common::systemd::BEAT;
use sifleet_common::task::GRACE;
use sifleet_common::telemetry::catalog;
use sifleet_coordinator::settings::Settings as CoordinatorSettings;

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

/// Returns the one value of a key in a unit.
#[track_caller]
fn one<'a>(unit: &'a str, key: &str) -> &'a str {
    match values(unit, key).as_slice() {
        [value] => value,
        other => panic!("{key} is {other:?}"),
    }
}

/// Returns what pages show for `systemctl edit`, as the unit and what is added to it.
fn drop_ins() -> Vec<(String, String)> {
    let page = read_to_string(file("../docs/operations.md")).unwrap();
    let shown = page.split("```ini\n# systemctl edit ").skip(1).filter_map(|rest| rest.split("\n```").next());
    shown
        .filter_map(|block| block.split_once('\n'))
        .map(|(unit, added)| (unit.into(), added.into()))
        .collect()
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
fn systemd_understands_what_the_pages_add_to_the_units() {
    if !have("systemd-analyze") {
        return;
    }
    let (dir, drop_ins) = (tempfile::tempdir().unwrap(), drop_ins());
    assert!(drop_ins.len() >= 4, "{drop_ins:?}");
    for (name, added) in drop_ins {
        let unit = text(&format!("{name}.service"));
        let copy = dir.path().join(format!("{name}.service"));
        write(&copy, unit.replace(&format!("/usr/bin/{name}"), "/bin/true") + "\n" + &added).unwrap();
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
        assert_eq!(one(&unit, "Type"), "notify", "{name}");
        assert_eq!(one(&unit, "User"), "sifleet", "{name}");
        assert_eq!(one(&unit, "RestartPreventExitStatus"), EXIT_BAD_SETTINGS.to_string(), "{name}");
        assert_eq!(one(&unit, "WatchdogSec"), (6 * BEAT.as_secs()).to_string(), "{name}");
        assert!(one(&unit, "TimeoutStopSec").parse::<u64>().unwrap() > GRACE.as_secs(), "{name}");
        assert_eq!(one(&unit, "ExecReload"), "/bin/kill -HUP $MAINPID", "{name}");
    }
}

/// What systemd makes of the units: the sandbox in tenths, from 0 to 100, at most. Redis has 12, slurmd 96.
const EXPOSURE: [(&str, &str); 2] = [("sifleet-agent.service", "18"), ("sifleet-coordinator.service", "12")];

#[test]
fn the_units_leave_no_more_doors_open_than_was_promised() {
    if !have("systemd-analyze") {
        return;
    }
    for (name, most) in EXPOSURE {
        let mut judge = Command::new("systemd-analyze");
        judge.args(["security", "--offline=true", "--no-pager", "--threshold", most]).arg(file(name));
        let output = judge.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{name}: {}", said.lines().last().unwrap_or_default());
    }
}

#[test]
fn every_door_that_stays_open_is_explained_in_the_unit() {
    if !have("systemd-analyze") {
        return;
    }
    // Everybody sees why a daemon on a network opens sockets, and that it runs on the machine it is to look at.
    // PrivateDevices stays as strict with the clock's device, which ProtectClock lets be read.
    let plain = [
        "RestrictAddressFamilies_AF_UNIX",
        "RestrictAddressFamilies_AF_INET_INET6",
        "PrivateNetwork",
        "DeviceAllow",
        "RootDirectoryOrRootImage",
    ];
    for name in UNITS {
        let judged = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--json=short"])
            .arg(file(name))
            .output()
            .unwrap();
        let rows: serde_json::Value = serde_json::from_slice(&judged.stdout).unwrap();
        let open = rows.as_array().unwrap().iter().filter(|row| row["exposure"].is_string());
        for row in open {
            let (field, key) = (row["json_field"].as_str().unwrap(), row["name"].as_str().unwrap());
            let word = match key.rsplit_once('~').map_or(key, |(_, part)| part).trim_end_matches('=') {
                "CAP_(DAC_*|FOWNER|IPC_OWNER)" => "CAP_DAC_OVERRIDE",
                "AmbientCapabilities" => "Of root's powers",
                other => other,
            };
            let comments = text(name).lines().filter(|line| line.starts_with('#')).collect::<String>();
            assert!(
                plain.contains(&field) || comments.contains(word),
                "{name} does not say why {key} stays as it is"
            );
        }
    }
}

#[test]
fn pushes_may_be_written_below_the_default_roots_and_hardly_anywhere_else() {
    let (unit, settings) = (text("sifleet-agent.service"), AgentSettings::default());
    let writable: BTreeSet<&str> = one(&unit, "ReadWritePaths").split(' ').collect();
    // A root that is not there must not keep the agent from its start.
    let roots = settings.roots.iter().map(|root| format!("-{}", root.path.display()));
    assert_eq!(writable, roots.collect::<BTreeSet<_>>().iter().map(String::as_str).collect());
    assert_eq!(one(&unit, "ProtectSystem"), "strict");
    assert_eq!(settings.state_dir, Path::new("/var/lib").join(one(&unit, "StateDirectory")));
}

#[test]
fn the_agent_has_two_of_roots_powers_and_the_coordinator_none() {
    let agent = text("sifleet-agent.service");
    for key in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        assert_eq!(one(&agent, key), "CAP_DAC_OVERRIDE CAP_LEASE");
    }
    let coordinator = text("sifleet-coordinator.service");
    assert_eq!(one(&coordinator, "CapabilityBoundingSet"), "");
    assert!(values(&coordinator, "AmbientCapabilities").is_empty());
    // Whose published images are is the agent's own, unless set: nothing more is needed.
    assert_eq!(AgentSettings::default().transfer.owner, None);
}

#[test]
fn the_agents_unit_says_which_ports_it_uses() {
    let unit = text("sifleet-agent.service");
    let (gives, dials) =
        (AgentSettings::default().transfer.listen, CoordinatorSettings::default().control.listen);
    for port in [gives.port(), dials.port()] {
        assert!(unit.contains(&format!("UDP port {port}")), "{port}");
    }
    assert!(one(&unit, "TasksMax").parse::<usize>().unwrap() > 3 * MAX_ROOTS + 32);
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
    let place = |kind: &str, daemon: &str| {
        let dir = root.path().join("usr/lib").join(format!("{kind}.d"));
        create_dir_all(&dir).unwrap();
        write(dir.join(format!("{daemon}.conf")), text(&format!("{daemon}.{kind}"))).unwrap();
    };
    // Both daemons may be on one node.
    let daemons = ["sifleet-agent", "sifleet-coordinator"];
    for daemon in daemons {
        place("sysusers", daemon);
        place("tmpfiles", daemon);
    }
    for daemon in daemons.map(|daemon| format!("{daemon}.conf")) {
        silent_but_for_news(Command::new("systemd-sysusers").args([&at_root, &daemon]));
        let users = read_to_string(root.path().join("etc/passwd")).unwrap();
        assert_eq!(users.lines().filter(|line| line.starts_with("sifleet:")).count(), 1, "{users}");
        assert!(
            users.lines().any(|line| line.starts_with("sifleet:") && line.ends_with("/nologin")),
            "{users}"
        );
    }
    silent(Command::new("systemd-tmpfiles").args(["--create", &at_root]));
    for (dir, mode) in [
        ("etc/sifleet", 0o755),
        ("var/lib/sifleet", 0o755),
        ("var/lib/sifleet/agent", 0o700),
        ("var/lib/sifleet/coordinator", 0o700),
        ("opt/apptainers", 0o755),
    ] {
        assert_eq!(root.path().join(dir).metadata().unwrap().mode() & 0o7777, mode, "{dir}");
    }
    assert!(!root.path().join("scratch").exists(), "an unmounted /scratch must stay absent");
}

/// Runs a tool that is to succeed, and tells on standard error only of what it made.
fn silent_but_for_news(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let is_news = said.lines().all(|line| line.starts_with("Creating "));
    assert!(output.status.success() && is_news, "{command:?} said:\n{said}");
}

#[test]
fn the_journal_has_a_text_for_every_event_that_bears_an_identifier() {
    for (daemon, identifiers) in
        [("sifleet-agent", catalog::OF_AGENT), ("sifleet-coordinator", catalog::OF_COORDINATOR)]
    {
        let texts = text(&format!("{daemon}.catalog"));
        let found: Vec<&str> = texts.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
        assert_eq!(found, identifiers, "{daemon}");
        for identifier in identifiers {
            assert!(
                identifier.len() == 32 && identifier.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{identifier}"
            );
        }
    }
}

#[test]
fn every_file_of_the_folder_is_known_here() {
    let found: BTreeSet<_> =
        read_dir(file(".")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let daemons = ["sifleet-agent", "sifleet-coordinator"];
    let kinds = ["service", "sysusers", "tmpfiles", "sysctl", "catalog"];
    let known = daemons.iter().flat_map(|daemon| kinds.map(|kind| format!("{daemon}.{kind}")));
    assert_eq!(found, known.collect());
}
