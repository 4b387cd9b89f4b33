//! Settings as written: defaults, all keys, and mistakes with their place.

use sifleet_common::role::Role;

use super::*;
use crate::access::pace::Rate;

fn load(text: &str) -> Result<Settings, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("coordinator.toml");
    std::fs::write(&path, text).unwrap();
    let options = Options { path: &path, explicit: true, env_prefix: "SIFLEET_TEST_NOTHING_" };
    let shorten = |error: SettingsError| error.to_string().replace(dir.path().to_str().unwrap(), "");
    settings::load(&options).map(|loaded| loaded.settings).map_err(shorten)
}

fn check_wrong(text: &str, expected: &str) {
    let told = load(text).unwrap_err();
    assert!(told.starts_with(expected), "{told}");
}

#[test]
fn nothing_set_means_the_defaults() {
    let settings = load("").unwrap();
    assert_eq!(settings, Settings::default());
    assert_eq!(settings.ca_dir(), Path::new("/var/lib/sifleet/coordinator/ca"));
    assert_eq!(settings.control.listen.to_string(), "0.0.0.0:7441");
    assert_eq!(settings.http.listen.to_string(), "127.0.0.1:7440");
    assert!(settings.partition_sources().is_empty());
}

#[test]
fn everything_can_be_set() {
    let settings = load(
        r#"
        state_dir = "/s"
        ca_dir = "/c"
        control = { listen = "[::]:1", lease = "6s", heartbeat = "2s" }
        limits = { max_nodes = 5, max_replicas = 99_000_000, max_http_connections = 7, max_event_streams = 8 }
        transfer = { max_pushes = 7 }
        log = { output = "stderr", filter = "debug" }
        [http]
        listen = "0.0.0.0:443"
        tls = { certificate = "/x.pem", key = "/x.key" }
        hosts = ["portal.example.org"]
        socket = "/run/other.sock"
        users = { ann = "operator", "@staff" = "admin" }
        anonymous = "viewer"
        rate = { per_second = 5, burst = 6, anonymous_per_second = 7, anonymous_burst = 8 }
        [audit]
        keep = "30d"
        records = 9
        [library]
        dir = "/shared/apptainer/images"
        [templates]
        dir = "/shared/templates"
        [dashboard]
        vnc_partition = "desktops"
        vnc_require = "2"
        scan_wait = "3s"
        [partitions]
        file = "/p.toml"
        slurm = true
        sinfo = "/opt/slurm/bin/sinfo"
        slurm_interval = "5m"
        slurm_timeout = "2s"
        "#,
    )
    .unwrap();
    assert_eq!(settings.database(), Path::new("/s/coordinator.db"));
    assert_eq!(settings.state_limits().max_replicas, MAX_REPLICAS);
    assert_eq!(settings.http_limits().server.max_connections, 7);
    assert_eq!(settings.http.hosts, ["portal.example.org"]);
    assert_eq!(settings.socket().as_deref(), Some(Path::new("/run/other.sock")));
    let access = settings.http_limits().access;
    assert_eq!(access.anonymous, Some(Role::Viewer));
    assert_eq!(access.users.roles["@staff"], Role::Admin);
    assert_eq!((access.known, access.unknown), (Rate::a_second(5, 6), Rate::a_second(7, 8)));
    assert_eq!((access.audit.time.as_secs(), access.audit.records), (30 * 86_400, 9));
    let library = settings.http_limits().library.map(|library| library.dir);
    assert_eq!(library.as_deref(), Some(Path::new("/shared/apptainer/images")));
    assert_eq!(settings.partition_sources().len(), 2);
}

#[test]
fn what_does_not_go_together_is_refused_where_it_stands() {
    check_wrong(
        "\n[http]\nlisten = \"0.0.0.0:7440\"",
        "/coordinator.toml:2:1: http.listen is 0.0.0.0:7440, which others",
    );
    check_wrong(
        "[control]\nlease = \"20s\"",
        "/coordinator.toml:1:1: the heartbeat of 10s is longer than a third",
    );
    check_wrong("[control]\nlease = \"2h\"", "/coordinator.toml:1:1: the lease is 2h, longer than 3600s");
    check_wrong("[http]\ntls = { certificate = \"x\" }", "/coordinator.toml:2:7: the key \"key\" is missing");
    check_wrong(
        "[library]\ndir = \"images\"",
        "/coordinator.toml:1:1: library.dir is \"images\": write the whole",
    );
    check_wrong("[control]\nlisten = \"here\"", "/coordinator.toml:2:10: ");
    check_wrong("[control]\nlitsen = \"0.0.0.0:1\"", "/coordinator.toml:2:1: unknown key");
}

#[test]
fn only_the_log_changes_without_a_restart() {
    let running = Settings::default();
    let quiet = Settings { log: Log { filter: "warn".into(), ..Log::default() }, ..Settings::default() };
    assert!(!running.needs_restart(&quiet));
    assert!(running.needs_restart(&Settings { state_dir: "/s".into(), ..Settings::default() }));
}

#[test]
fn what_would_serve_nobody_is_refused() {
    check_wrong(
        "[control]\nheartbeat = \"99ms\"",
        "/coordinator.toml:1:1: the heartbeat is 99ms, shorter than",
    );
    check_wrong(
        "[control]\nlease = \"200ms\"\nheartbeat = \"100ms\"",
        "/coordinator.toml:1:1: the heartbeat of 100ms",
    );
    for name in ["max_nodes", "max_replicas", "max_http_connections"] {
        let told = format!("/coordinator.toml:1:1: limits.{name} is 0, with which nobody is served");
        check_wrong(&format!("[limits]\n{name} = 0"), &told);
    }
    assert_eq!(load("[limits]\nmax_event_streams = 0").unwrap().limits.max_event_streams, 0);
    for name in ["", "https://portal", "portal:443"] {
        check_wrong(&format!("[http]\nhosts = [{name:?}]"), "/coordinator.toml:1:1: http.hosts names");
    }
    check_wrong(
        "[http]\nsocket = \"here\"",
        "/coordinator.toml:1:1: http.socket is \"here\": write the whole",
    );
    check_wrong("[http.users]\n\"@\" = \"admin\"", "/coordinator.toml:1:2: http.users has a name without");
    check_wrong("[http.rate]\nburst = 0", "/coordinator.toml:1:2: http.rate holds a 0");
    check_wrong("[http]\nanonymous = \"operator\"", "/coordinator.toml:2:13: ");
}
