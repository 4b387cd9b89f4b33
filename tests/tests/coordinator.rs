//! The coordinator as a process: exit codes, signals, and what a person is told.

#![cfg(test)]

#[path = "coordinator/socket.rs"]
mod socket;

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sifleet_common::role::Role;
use sifleet_common::settings::EXIT_BAD_SETTINGS;
use sifleet_tests::callers::Callers;
use sifleet_tests::programs::own;
use sifleet_tests::sif::SifBuilder;
use sifleet_tests::wait::until;

/// Far above what anything here takes; only a failure waits for so long.
const LONG: Duration = Duration::from_secs(60);

/// A directory with settings, partitions and certificates.
struct Site {
    dir: tempfile::TempDir,
    callers: Callers,
}

impl Site {
    fn new(settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let callers = Callers::new(dir.path()).unwrap();
        let site = Self { dir, callers };
        let state_dir = format!("state_dir = {:?}\n", site.path("state"));
        fs::write(site.settings(), format!("{state_dir}{settings}")).unwrap();
        site
    }

    /// Listens on ports that are free.
    fn ready() -> Self {
        let site = Self::new(
            r#"
            control = { listen = "127.0.0.1:0" }
            http = { listen = "127.0.0.1:0" }
            partitions = { file = "PARTITIONS" }
            log = { output = "stderr" }
            "#,
        );
        let text = fs::read_to_string(site.settings()).unwrap();
        let partitions = site.path("partitions.toml");
        fs::write(site.settings(), text.replace("PARTITIONS", partitions.to_str().unwrap())).unwrap();
        fs::write(partitions, "[partition]\nviz = \"viz[001-002]\"\n").unwrap();
        let made = site.run(&["ca", "init"]);
        assert!(made.status.success(), "{}", told(&made));
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn settings(&self) -> PathBuf {
        self.path("coordinator.toml")
    }

    /// Waits until so many members of partitions are on disk: what is shown is written a moment later.
    fn wait_for_members(&self, count: i64) {
        let look = || {
            let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
            let database = rusqlite::Connection::open_with_flags(self.path("state/coordinator.db"), flags);
            let found: rusqlite::Result<i64> = database
                .and_then(|database| database.query_row("SELECT count(*) FROM member", (), |row| row.get(0)));
            if found == Ok(count) { Ok(()) } else { Err(format!("{found:?}")) }
        };
        until("members on disk", LONG, look).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(own("sifleet-coordinator").unwrap());
        command.arg("--config").arg(self.settings());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    fn start(&self) -> Running {
        self.callers.introduce(&self.path("state")).unwrap();
        let bearer = self.callers.bearer(Role::Admin);
        let log = self.path("log");
        let child =
            self.command().stderr(fs::File::create(&log).unwrap()).stdout(Stdio::null()).spawn().unwrap();
        let mut running = Running { child, log, bearer, url: String::new() };
        running.url = format!("http://{}", running.told_of("listening for HTTP peer="));
        running
    }
}

struct Running {
    child: Child,
    log: PathBuf,
    bearer: String,
    url: String,
}

impl Running {
    /// Waits for a line of the log and returns the word that follows.
    fn told_of(&self, what: &str) -> String {
        let find = || {
            let log = fs::read_to_string(&self.log).unwrap();
            let found =
                log.split_once(what).and_then(|(_, rest)| rest.split_whitespace().next().map(str::to_owned));
            found.ok_or(log)
        };
        until(what, LONG, find).unwrap().0
    }

    /// Waits until the partition has these nodes and is as stale as this.
    fn wait_for_viz(&self, nodes: &str, stale: bool) {
        let look = || {
            let body: Value = ureq::get(format!("{}/v1/partitions", self.url))
                .header("authorization", &self.bearer)
                .call()
                .map_err(|error| error.to_string())?
                .body_mut()
                .read_json()
                .map_err(|error| error.to_string())?;
            let viz = &body["partitions"][0];
            let fits = viz["nodes"] == nodes && viz["membership"]["stale"] == stale;
            if fits { Ok(()) } else { Err(body.to_string()) }
        };
        until(nodes, LONG, look).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id().cast_signed()).unwrap(), signal).unwrap();
    }

    fn end(mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.child.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn check_refused(site: &Site, arguments: &[&str], expected: &str) {
    let output = site.run(arguments);
    assert_eq!(output.status.code(), Some(EXIT_BAD_SETTINGS.into()), "{}", told(&output));
    assert!(told(&output).contains(expected), "{}", told(&output));
}

#[test]
fn settings_that_cannot_be_used_are_told_with_their_place_and_end_with_78() {
    let typo = Site::new("[control]\nlistne = \"0.0.0.0:1\"\n");
    check_refused(&typo, &["--check-config"], "coordinator.toml:3:1: ");
    check_refused(&typo, &[], "listen");
    check_refused(&Site::new("[http]\nlisten = \"0.0.0.0:7440\"\n"), &[], "set http.tls.certificate");
    check_refused(&Site::new("[log]\nfilter = \"a=b=c\"\n"), &[], "is not a log filter");
    check_refused(&Site::new("[log]\noutput = \"stderr\"\n"), &[], "`sifleet-coordinator ca init` makes one");
}

#[test]
fn settings_that_can_be_used_are_confirmed_and_nothing_is_started() {
    let site = Site::new("");
    let output = site.run(&["--check-config"]);
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, format!("the settings can be used: {}\n", site.settings().display()));
    assert!(!site.path("state").exists());
}

#[test]
fn a_database_of_a_newer_version_is_refused_for_good() {
    let site = Site::ready();
    assert!(site.start().end(Signal::TERM).success());
    let database = site.path("state/coordinator.db");
    rusqlite::Connection::open(database).unwrap().pragma_update(None, "user_version", 99).unwrap();
    check_refused(&site, &[], "start the version that wrote it, or move the file away");
}

#[test]
fn certificates_are_made_for_a_node_set_where_the_settings_say() {
    let site = Site::ready();
    let again = site.run(&["ca", "init"]);
    assert_eq!(again.status.code(), Some(1), "an authority is never replaced");
    let output = site.run(&["ca", "issue-node", "viz[001-002],head"]);
    assert!(output.status.success(), "{}", told(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.lines().filter(|line| Path::new(line).is_file()).count(), 3, "{said}");
    assert_eq!(site.run(&["ca", "issue-node", "viz[001-"]).status.code(), Some(2));
}

#[test]
fn signals_reload_and_stop_in_good_order() {
    let site = Site::ready();
    let running = site.start();
    running.wait_for_viz("viz[001-002]", false);

    // The file is looked at every two seconds anyway; a signal makes it at once.
    fs::write(site.path("partitions.toml"), "[partition]\nviz = \"viz[001-003]\"\n").unwrap();
    running.signal(Signal::HUP);
    running.wait_for_viz("viz[001-003]", false);
    fs::write(site.path("partitions.toml"), "[partition]\nviz = \"viz[001-\"\n").unwrap();
    running.signal(Signal::HUP);
    running.wait_for_viz("viz[001-003]", true);
    running.told_of("partitions.toml:2: the entry cannot be used");

    fs::write(site.settings(), "broken").unwrap();
    running.signal(Signal::HUP);
    running.told_of("the settings cannot be read");
    assert!(running.end(Signal::TERM).success());
    assert!(fs::read_to_string(site.path("log")).unwrap().contains("the store is closed"));
    assert!(!site.path("state/coordinator.db-wal").exists(), "one file is left, without a log beside it");
}

#[test]
fn a_killed_coordinator_knows_the_partitions_when_it_returns_and_calls_them_stale() {
    let site = Site::ready();
    let running = site.start();
    running.wait_for_viz("viz[001-002]", false);
    site.wait_for_members(2);
    assert!(!running.end(Signal::KILL).success());
    fs::remove_file(site.path("partitions.toml")).unwrap();
    let running = site.start();
    running.wait_for_viz("viz[001-002]", true);
    assert!(running.end(Signal::INT).success());
}

#[test]
fn two_coordinators_never_share_a_state_directory() {
    let site = Site::ready();
    let running = site.start();
    let second = site.run(&[]);
    assert_eq!(second.status.code(), Some(1));
    assert!(told(&second).contains("is in use by another coordinator"), "{}", told(&second));
    assert!(running.end(Signal::TERM).success());
}

#[test]
fn an_upload_survives_the_death_of_the_coordinator_and_shows_nothing_before_its_end() {
    let site = Site::ready();
    let library = site.path("images");
    fs::create_dir(&library).unwrap();
    let text = fs::read_to_string(site.settings()).unwrap();
    fs::write(site.settings(), format!("{text}\n[library]\ndir = {library:?}\n")).unwrap();
    let bytes = SifBuilder::new().payload_bytes(3 << 20, 5).bytes();
    let digest = format!("blake3:{}", blake3::hash(&bytes).to_hex());
    let begin = |running: &Running| -> (String, u64) {
        let wish = serde_json::json!({"name": "viz/a.sif", "size": bytes.len(), "digest": digest});
        let url = format!("{}/v1/library/uploads", running.url);
        let answer: Value = ureq::post(&url)
            .header("authorization", &running.bearer)
            .send_json(wish)
            .unwrap()
            .body_mut()
            .read_json()
            .unwrap();
        (
            format!("/v1/library/uploads/{}", answer["id"].as_str().unwrap()),
            answer["offset"].as_u64().unwrap(),
        )
    };

    let running = site.start();
    let (path, offset) = begin(&running);
    assert_eq!(offset, 0);
    // Two thirds arrive; the rest never comes.
    let mut socket = TcpStream::connect(running.url.trim_start_matches("http://")).unwrap();
    let head = format!(
        "PATCH {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: {}\r\nupload-offset: 0\r\ncontent-length: {}\r\n\r\n",
        running.bearer,
        bytes.len()
    );
    socket.write_all(head.as_bytes()).unwrap();
    socket.write_all(&bytes[..2 << 20]).unwrap();
    let some = || match begin(&running).1 {
        0 => Err("nothing arrived".to_owned()),
        offset => Ok(offset),
    };
    until("bytes arrive", LONG, some).unwrap();
    assert!(!running.end(Signal::KILL).success());

    let running = site.start();
    let (again, offset) = begin(&running);
    assert_eq!(again, path);
    assert!((1 << 20..=2 << 20).contains(&offset), "{offset}");
    assert!(!library.join("viz").exists());
    let url = format!("{}{path}", running.url);
    let rest = &bytes[usize::try_from(offset).unwrap()..];
    let append = ureq::patch(&url).header("authorization", &running.bearer);
    append.header("upload-offset", offset.to_string()).send(rest).unwrap();
    ureq::post(format!("{url}/finish")).header("authorization", &running.bearer).send_empty().unwrap();
    assert_eq!(fs::read(library.join("viz/a.sif")).unwrap(), bytes);
    assert_eq!(fs::read_dir(library.join(".sifleet")).unwrap().count(), 0);
    assert!(running.end(Signal::TERM).success());
}
