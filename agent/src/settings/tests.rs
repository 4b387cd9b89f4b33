//! What settings are taken, refused and explained.

use super::*;
use std::time::Duration;

fn load(text: &str) -> Result<Settings, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.toml");
    std::fs::write(&path, text).unwrap();
    let options = Options { path: &path, explicit: true, env_prefix: "SIFLEET_TEST_NOTHING_" };
    let shorten = |error: SettingsError| error.to_string().replace(folder.path().to_str().unwrap(), "");
    settings::load(&options).map(|loaded| loaded.settings).map_err(shorten)
}

#[test]
fn nothing_set_means_the_defaults() {
    assert_eq!(load("").unwrap(), Settings::default());
}

#[test]
fn one_coordinator_needs_no_list() {
    let one = load("coordinators = \"head01:7441\"").unwrap();
    assert_eq!(one.coordinators, ["head01:7441"]);
    assert_eq!(one, load("coordinators = [\"head01:7441\"]").unwrap());
    let error = load("coordinators = 7441").unwrap_err();
    assert!(error.contains("an address such as"), "{error}");
}

#[test]
fn everything_can_be_set() {
    let text = r#"
        coordinators = ["head01:7441", "[fd00::1]:7441"]
        state_dir = "/srv/sifleet"
        partitions = ["viz", "viz-long"]
        [[root]]
        path = "/shared/apptainer"
        library = true
        [[root]]
        path = "/opt/apptainers"
        [tls]
        authority = "/a"
        certificate = "/b"
        key = "/c"
        [watch]
        settle = "1s"
        reconcile = "1h"
        degraded_rescan = "10s"
        remote_rescan = "2m"
        recheck = "1m"
        max_watches = 5
        [hash]
        threads = 2
        rate = "200MiB"
        max_size = "1TiB"
        remember = 7
        [log]
        output = "stderr"
        filter = "debug"
    "#;
    let settings = load(text).unwrap();
    let roots = settings.root_settings();
    assert_eq!((roots[0].id, roots[0].library, roots[1].library), (RootId(0), true, false));
    assert_eq!((roots[1].max_entries, roots[1].hash_threads), (500_000, 2));
    assert_eq!(roots[1].settle, Duration::from_secs(1));
    assert_eq!(settings.hash.rate.map(Size::get), Some(200 << 20));
    assert_eq!(settings.memory(), Path::new("/srv/sifleet/memory.db"));
}

#[test]
fn what_would_make_the_agent_lie_is_refused() {
    for (text, says) in [
        ("coordinators = []", "at least one"),
        ("coordinators = [\"head01\"]", "host:port"),
        ("coordinators = [\":1\"]", "host:port"),
        ("root = []", "1 to 64 roots"),
        ("[[root]]\npath = \"images\"", "absolute"),
        ("[[root]]\npath = \"/a/../b\"", "absolute"),
        ("[[root]]\npath = \"/a\"\n[[root]]\npath = \"/a/b\"", "overlap"),
        ("[[root]]\npath = \"/a\"\n[[root]]\npath = \"/a\"", "overlap"),
        ("[watch]\nsettle = \"2m\"", "longer"),
        ("[hash]\nthreads = 0", "1 to 16"),
        ("[hash]\nthread = 1", "threads"),
        ("[hash]\nrate = \"0B\"", "less than 1MiB"),
        ("[hash]\nrate = \"1000KiB\"", "leave it out"),
        ("[transfer]\nmode = \"640\"", "let everybody read"),
    ] {
        let told = load(text).unwrap_err();
        assert!(told.starts_with("/agent.toml:") && told.contains(says), "{text}: {told}");
    }
}

#[test]
fn only_logging_changes_without_a_restart() {
    let settings = load("").unwrap();
    assert!(!settings.needs_restart(&load("[log]\nfilter = \"debug\"").unwrap()));
    assert!(settings.needs_restart(&load("[hash]\nthreads = 2").unwrap()));
    assert!(settings.needs_restart(&load("[log]\noutput = \"stderr\"").unwrap()));
}
