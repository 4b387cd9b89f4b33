//! The Python client as its users have it: built as a wheel, installed, checked by mypy and by its own tests against a
//! living cluster; and the example of a dashboard, served by Flask.

#![cfg(test)]

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};
use sifleet_common::role::Role;
use sifleet_tests::cluster::{COORDINATOR, Cluster, LIMIT, Plan};
use sifleet_tests::programs::{find, missing, workspace};
use sifleet_tests::python;
use sifleet_tests::sif::SifBuilder;
use sifleet_tests::wait::until;

const PROJECT: &str = "packaging/python";

/// Returns the programs of an environment that has the client, and nothing where there can be none.
fn environment() -> Option<&'static Path> {
    static PROGRAMS: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let programs = PROGRAMS.get_or_init(|| python::environment("python").map_err(|why| format!("{why:#}")));
    let programs = match programs {
        Ok(programs) => programs,
        Err(why) => {
            assert!(missing("python_client", why));
            return None;
        }
    };
    static WHEEL: OnceLock<PathBuf> = OnceLock::new();
    let wheel = WHEEL.get_or_init(|| python::install(programs, PROJECT).unwrap());
    let name = wheel.file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(name, format!("sifleet-{}-py3-none-any.whl", env!("CARGO_PKG_VERSION")));
    Some(programs)
}

/// Runs a program of the environment in the project's folder; what it says when it fails is told.
fn check(programs: &Path, program: &str, arguments: &[&str], with: &[(&str, &Path)]) -> String {
    let mut command = Command::new(programs.join(program));
    command.args(arguments).current_dir(workspace().join(PROJECT)).env("PYTHONDONTWRITEBYTECODE", "1");
    command.envs(with.iter().copied());
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    said
}

fn cluster(name: &'static str, nodes: &'static str, lease: Duration) -> Cluster {
    let agents = if nodes == "viz001" { vec!["head", "viz001"] } else { vec!["head", "viz001", "viz002"] };
    let mut cluster = Cluster::lay_out(Plan {
        name,
        partitions: BTreeMap::from([("viz", nodes), ("head", "head")]),
        nodes: agents,
        library: Some("head"),
        lease,
    })
    .unwrap();
    cluster.start_all().unwrap();
    let image = SifBuilder::new().label("title", "GNOME");
    fs::write(cluster.root("viz001").join("vnc_gnome.sif"), image.bytes()).unwrap();
    cluster
}

#[test]
fn the_client_is_typed_throughout_and_tidy() {
    let Some(programs) = environment() else { return };
    let cache = programs.with_file_name("mypy");
    let cache = cache.to_str().unwrap();
    check(programs, "mypy", &["--strict", "--cache-dir", cache], &[]);
    // As somebody who has only the wheel: its types have to be in it.
    let example =
        ["--strict", "--cache-dir", cache, "--config-file", "/dev/null", "examples/flask_dashboard.py"];
    check(programs, "mypy", &example, &[]);
    check(programs, "ruff", &["check", "--no-cache", "."], &[]);
    check(programs, "ruff", &["format", "--no-cache", "--check", "."], &[]);
}

#[test]
fn the_clients_own_tests_pass_against_a_living_cluster_and_its_document() {
    let Some(programs) = environment() else { return };
    let cluster = cluster("python", "viz[001-002]", Duration::from_secs(60));
    cluster.wait_for_nodes("vnc_gnome", "viz", &[("ready", "viz001"), ("missing", "viz002")]).unwrap();
    let document = cluster.folder().join("openapi.json");
    fs::write(&document, cluster.get("/openapi.json").unwrap().to_string()).unwrap();
    let live = cluster.folder().join("live.json");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let place = json!({
        "url": cluster.url(),
        "token_file": cluster.callers().file(Role::Operator),
        "socket": cluster.folder().join("http.sock"),
        "nobody": format!("http://{nobody}"),
    });
    fs::write(&live, place.to_string()).unwrap();
    let with = [("SIFLEET_OPENAPI", document.as_path()), ("SIFLEET_LIVE", live.as_path())];
    let said = check(programs, "pytest", &["-ra", "--durations=3"], &with);
    let last = said.lines().last().unwrap_or_default();
    assert!(last.contains(" passed") && !last.contains("skipped"), "{said}");
    anstream::eprintln!("{last}");
}

/// Runs the Python that a page shows, with the cluster and its image in place of those of the page.
fn run_what_is_shown(programs: &Path, cluster: &Cluster, page: &str) -> String {
    let text = fs::read_to_string(workspace().join(page)).unwrap();
    let block = text.split("```python\n").nth(1).and_then(|rest| rest.split("```").next());
    let code = block.unwrap_or_else(|| panic!("{page} shows no Python")).to_owned();
    let code = code.replace("http://127.0.0.1:7440", &cluster.url()).replace("vnc_desktop", "vnc_gnome");
    let token = cluster.callers().file(Role::Viewer);
    let mut python = Command::new(programs.join("python"));
    let output = python.arg("-c").arg(code.replace("\"token\"", &format!("{token:?}"))).output().unwrap();
    assert!(output.status.success(), "{page}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_python_that_pages_show_runs_and_says_yes() {
    let Some(programs) = environment() else { return };
    let cluster = cluster("python-pages", "viz001", Duration::from_secs(60));
    cluster.wait_for_nodes("vnc_gnome", "viz", &[("ready", "viz001")]).unwrap();
    assert_eq!(run_what_is_shown(programs, &cluster, "README.md"), "True yes viz001 \n");
    let shown = run_what_is_shown(programs, &cluster, "docs/http-api.md");
    let begins: Vec<_> =
        shown.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(begins, ["True yes", "yes vnc_gnome.sif", "unknown no"], "{shown}");
}

/// The dashboard as its users see it; ends with the test.
struct Dashboard {
    child: Child,
    url: String,
}

impl Dashboard {
    fn serve(programs: &Path, cluster: &Cluster) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let flask = programs.join("flask");
        let end = find("setpriv").map(|setpriv| {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(&flask);
            command
        });
        let mut command = end.unwrap_or_else(|| Command::new(&flask));
        command.args(["--app", "examples/flask_dashboard.py", "run", "--port", &address.port().to_string()]);
        command.current_dir(workspace().join(PROJECT)).env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("SIFLEET_URL", cluster.url());
        command.env("SIFLEET_TOKEN_FILE", cluster.callers().file(Role::Viewer));
        let log = fs::File::create(cluster.folder().join("logs/flask.log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Self { child, url: format!("http://{address}/api/desktops") }
    }

    /// Waits until the list shows a desktop so, and returns its entry.
    fn shows(&self, desktop: &str, state: &str) -> Value {
        let what = format!("the dashboard shows {desktop} as {state}");
        let entry = || -> Result<Value, String> {
            let text = ureq::get(&self.url).call().and_then(|mut answer| answer.body_mut().read_to_string());
            let list: Value =
                text.map(|text| serde_json::from_str(&text).unwrap()).map_err(|e| e.to_string())?;
            let entry = list.as_array().unwrap().iter().find(|entry| entry["id"] == desktop).unwrap().clone();
            if entry["state"] == state { Ok(entry) } else { Err(entry.to_string()) }
        };
        until(&what, LIMIT, entry).unwrap().0
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        drop(self.child.kill().and_then(|()| self.child.wait()));
    }
}

#[test]
fn a_flask_dashboard_lists_what_is_on_all_nodes_alone_and_never_takes_silence_for_missing() {
    let Some(programs) = environment() else { return };
    let mut cluster = cluster("python-flask", "viz[001-002]", Duration::from_secs(3));
    let dashboard = Dashboard::serve(programs, &cluster);
    let one_of_two = dashboard.shows("vnc_gnome", "no");
    assert_eq!(one_of_two["available"], false, "Slurm may choose the other node");
    fs::copy(cluster.root("viz001").join("vnc_gnome.sif"), cluster.root("viz002").join("vnc_gnome.sif"))
        .unwrap();
    let gnome = dashboard.shows("vnc_gnome", "yes");
    assert_eq!((&gnome["available"], &gnome["name"]), (&json!(true), &json!("GNOME")));
    assert!(!cluster.root("head").join("vnc_gnome.sif").exists(), "it is on the nodes alone");
    assert_eq!(dashboard.shows("vnc_xfce", "no")["available"], false);
    cluster.stop("viz001").unwrap();
    assert_eq!(dashboard.shows("vnc_gnome", "unknown")["available"], false);
    cluster.start_agent("viz001").unwrap();
    dashboard.shows("vnc_gnome", "yes");
    cluster.stop(COORDINATOR).unwrap();
    let nobody = dashboard.shows("vnc_gnome", "unknown");
    assert!(nobody["message"].as_str().unwrap().starts_with("no answer from the coordinator"), "{nobody}");
}
