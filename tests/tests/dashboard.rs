//! What dashboards are told, by a real coordinator with real agents: their own addresses, in English and Korean.
//!
//! The golden answers are in `golden/dashboard`; to accept a deliberate change run the tests with `INSTA_UPDATE=always` and
//! read the difference.

#![cfg(test)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sifleet_common::role::Role;
use sifleet_tests::cluster::{Cluster, LIMIT, Plan, ended_with};
use sifleet_tests::sif::SifBuilder;
use sifleet_tests::wait::until;

const LANGUAGES: [&str; 2] = ["en", "ko"];

/// Three nodes for desktops, of which nobody ever heard of the third; one for computing; and the library.
fn cluster(name: &'static str) -> Cluster {
    let mut cluster = Cluster::lay_out(Plan {
        name,
        partitions: BTreeMap::from([("compute", "c1"), ("viz", "viz[1-3]")]),
        nodes: vec!["head", "viz1", "viz2", "c1"],
        library: Some("head"),
        lease: Duration::from_secs(60),
    })
    .unwrap();
    let templates = cluster.folder().join("templates");
    fs::create_dir(&templates).unwrap();
    let mut settings =
        fs::File::options().append(true).open(cluster.folder().join("coordinator.toml")).unwrap();
    let dir = templates.display();
    write!(
        settings,
        "\n[templates]\ndir = \"{dir}\"\n\n[dashboard]\nvnc_require = \"2\"\nscan_wait = \"2s\"\n"
    )
    .unwrap();
    cluster.start_all().unwrap();
    cluster
}

fn image(seed: u64) -> SifBuilder {
    SifBuilder::new().payload_bytes(100_000, seed)
}

fn put(root: &Path, name: &str, image: &SifBuilder) {
    fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
    image.write(root.join(name)).unwrap();
}

/// Puts images where the golden answers expect them.
fn furnish(cluster: &Cluster) {
    let gnome = image(2)
        .label("org.opencontainers.image.title", "GNOME Desktop")
        .label("org.opencontainers.image.version", "46.0");
    for node in ["viz1", "viz2"] {
        let root = cluster.root(node);
        let sidecar = json!({"name": "XFCE Desktop", "description": "Light", "icon": "🖥", "default": true});
        fs::write(root.join("vnc_desktop.sif.json"), sidecar.to_string()).unwrap();
        put(&root, "vnc_desktop.sif", &image(1));
    }
    put(&cluster.root("viz1"), "vnc_gnome.sif", &gnome);
    fs::write(cluster.root("viz2").join("broken.sif"), &image(3).bytes()[..9_000]).unwrap();
    put(&cluster.root("c1"), "openfoam_v2312.sif", &image(4));
    put(&cluster.library(), "shared/python_3.11.sif", &image(5));
    put(&cluster.library(), "compute/openfoam_v2312.sif", &image(6));
    let ready =
        |image, partition, nodes| cluster.wait_for_nodes(image, partition, &[("ready", nodes)]).unwrap();
    ready("vnc_desktop", "viz", "viz[1-2]");
    ready("vnc_gnome", "viz", "viz1");
    cluster.wait_for_nodes("openfoam_v2312", "compute", &[("outdated", "c1")]).unwrap();
    until("everything is described", LIMIT, || {
        let stored = cluster.count_stored("image_metadata")?;
        anyhow::ensure!(stored == 5, "{stored}");
        Ok(())
    })
    .unwrap();
    let shared = || cluster.get("/api/apptainer/images?partition=shared");
    until("the library is known", LIMIT, || {
        let images = shared()?;
        anyhow::ensure!(images["total"] == 1, "{images}");
        Ok(())
    })
    .unwrap();
}

struct Answer {
    status: u16,
    language: String,
    body: Value,
}

/// Asks as somebody with a role, in a language.
fn ask(
    cluster: &Cluster,
    role: Role,
    language: &str,
    (method, path, body): (&str, &str, Option<&Value>),
) -> Answer {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("{}{path}", cluster.url()))
        .header("authorization", cluster.callers().bearer(role))
        .header("accept-language", language);
    let mut response = match body {
        Some(body) => {
            agent.run(request.header("content-type", "application/json").body(body.to_string()).unwrap())
        }
        None => agent.run(request.body(()).unwrap()),
    }
    .unwrap();
    let language = response.headers().get("content-language").map(|value| value.to_str().unwrap().to_owned());
    let text = response.body_mut().read_to_string().unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status: response.status().as_u16(), language: language.unwrap_or_default(), body }
}

fn get(cluster: &Cluster, path: &str) -> Value {
    ask(cluster, Role::Viewer, "en", ("GET", path, None)).body
}

fn verdict(cluster: &Cluster, role: Role, question: &Value) -> Answer {
    ask(cluster, role, "en", ("POST", "/v1/verdicts", Some(question)))
}

/// Replaces what differs from run to run.
fn steady(cluster: &Cluster, value: Value) -> Value {
    let folder = cluster.folder().display().to_string();
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| match (name.as_str(), value) {
                ("generation", Value::Number(_)) => (name, "[generation]".into()),
                ("as_of" | "last_scanned" | "changed", Value::String(_)) => (name, "[time]".into()),
                ("request_id", Value::String(_)) => (name, "[request id]".into()),
                (_, value) => (name, steady(cluster, value)),
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(|item| steady(cluster, item)).collect(),
        Value::String(text) => text.replace(&folder, "[cluster]").into(),
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_)) => plain,
    }
}

fn check(cluster: &Cluster, name: &str, answer: Value) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../golden/dashboard");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_json_snapshot!(name, steady(cluster, answer)));
}

/// Compares the answers in both languages with the golden ones.
fn golden(cluster: &Cluster, name: &str, request: (&str, &str, Option<&Value>)) {
    for wanted in LANGUAGES {
        let answer = ask(cluster, Role::Operator, wanted, request);
        assert_eq!(answer.status, 200, "{name}: {}", answer.body);
        assert_eq!(answer.language, wanted, "{name}");
        check(cluster, &format!("{name}_{wanted}"), answer.body);
    }
}

#[test]
fn every_address_answers_as_the_golden_answers_do_in_both_languages() {
    let cluster = cluster("dashboard");
    furnish(&cluster);
    for (name, path) in [
        ("images", "/api/apptainer/images"),
        ("images_of_partition", "/api/apptainer/images?partition=viz&type=viz&is_active=true"),
        ("images_not_active", "/api/apptainer/images?is_active=0"),
        ("metadata", "/api/apptainer/images/vnc_gnome/metadata"),
        ("metadata_with_sidecar", "/api/apptainer/images/vnc_desktop/metadata?partition=viz"),
    ] {
        check(&cluster, name, get(&cluster, path));
    }
    for (name, path) in [
        ("validate_unknown", "/api/apptainer/validate/vnc_desktop"),
        ("validate_missing", "/api/apptainer/validate/vnc_gnome?partition=viz"),
        ("validate_outdated", "/api/apptainer/validate/openfoam_v2312"),
        ("validate_library", "/api/apptainer/validate/python_3.11"),
        ("vnc_images", "/api/vnc/images"),
    ] {
        golden(&cluster, name, ("GET", path, None));
    }
    let ask = |name: &str, question: Value| golden(&cluster, name, ("POST", "/v1/verdicts", Some(&question)));
    ask("verdict_ready", json!({"kind": "vnc", "ref": "vnc_desktop"}));
    ask("verdict_unknown", json!({"kind": "image", "image": "vnc_desktop", "partition": "viz"}));
    ask("verdict_outdated", json!({"kind": "image", "ref": "openfoam_v2312", "partition": "compute"}));
    ask("verdict_unusable", json!({"kind": "image", "image": "broken", "partition": "viz", "nodes": "viz2"}));
    ask("verdict_no_image", json!({"kind": "image", "image": "vnc_gnom", "partition": "compute"}));
    ask("verdict_no_partition", json!({"kind": "image", "image": "vnc_gnome", "partition": "vis"}));
    ask(
        "verdict_no_node",
        json!({"kind": "image", "image": "vnc_gnome", "partition": "viz", "nodes": "viz[1,9]"}),
    );
    golden(
        &cluster,
        "scan",
        ("POST", "/api/apptainer/scan", Some(&json!({"partitions": ["compute", "shared"]}))),
    );
}

#[test]
fn templates_come_from_files_and_from_callers_and_mistakes_are_shown_with_their_place() {
    let cluster = cluster("dashboard-templates");
    furnish(&cluster);
    let dir = cluster.folder().join("templates");
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
    write("desktop.yaml", "image: vnc_desktop\npartition: viz\nrequire: 2\nname: Desktop\n");
    write("solver.json", r#"{"image": "openfoam_v9", "partition": "compute"}"#);
    write("broken.yaml", "image: vnc_desktop\npartition: viz\nrequre: 2\n");
    let listed = |mistakes: usize| {
        until("the files are read", LIMIT, || {
            let list = get(&cluster, "/v1/templates");
            let counted = list["mistakes"].as_array().map_or(0, Vec::len);
            anyhow::ensure!(counted == mistakes && list["templates"][1].is_object(), "{list}");
            Ok(())
        })
        .unwrap();
    };
    listed(1);
    // A mistake in a file that was good keeps what it said.
    write("desktop.yaml", "image: vnc_desktop\npartition: viz\nrequire: none\n");
    listed(2);
    let body = json!({"image": "vnc_gnome.sif", "partition": "viz", "require": "any"});
    let put =
        |role, id: &str| ask(&cluster, role, "en", ("PUT", &format!("/v1/templates/{id}"), Some(&body)));
    assert_eq!(put(Role::Viewer, "gnome").status, 403);
    assert_eq!((put(Role::Operator, "gnome").status, put(Role::Operator, "gnome").status), (201, 200));
    assert_eq!(put(Role::Operator, "desktop").body["code"], "template_of_file");
    check(&cluster, "templates", get(&cluster, "/v1/templates"));
    check(&cluster, "template", get(&cluster, "/v1/templates/gnome"));
    for (name, id) in [
        ("template_exists", "desktop"),
        ("template_missing", "solver"),
        ("template_put", "gnome"),
        ("template_unreadable", "broken"),
    ] {
        golden(&cluster, name, ("GET", &format!("/api/v2/templates/{id}/validate"), None));
    }
    let question = json!({"kind": "template", "ref": "desktop", "nodes": "viz1", "require": "all"});
    golden(&cluster, "verdict_template", ("POST", "/v1/verdicts", Some(&question)));
    let unknown = ask(&cluster, Role::Viewer, "en", ("GET", "/api/v2/templates/desctop/validate", None));
    assert_eq!((unknown.status, &unknown.body["candidates"]), (404, &json!(["desktop"])), "{}", unknown.body);
    fs::remove_file(dir.join("broken.yaml")).unwrap();
    listed(1);
    let gone = ask(&cluster, Role::Operator, "en", ("DELETE", "/v1/templates/gnome", None));
    assert_eq!(
        (gone.status, get(&cluster, "/v1/templates/gnome")["code"].as_str()),
        (200, Some("unknown_template"))
    );
}

#[test]
fn a_scan_waits_for_what_nodes_find_and_names_those_that_do_not_answer() {
    let cluster = cluster("dashboard-scan");
    furnish(&cluster);
    // A whole image that was copied a moment ago is waited for.
    put(&cluster.root("c1"), "fresh.sif", &image(7));
    let scan = |body: Option<&Value>| {
        ask(&cluster, Role::Operator, "en", ("POST", "/api/apptainer/scan", body)).body
    };
    let answer = scan(Some(&json!({"partitions": ["compute"], "force": true})));
    assert_eq!((&answer["stats"], &answer["complete"]), (&json!({"compute": 1}), &json!(true)), "{answer}");
    assert_eq!(
        (&answer["message"], &answer["answered"]),
        (&json!("Scan completed"), &json!("c1")),
        "{answer}"
    );
    // Of a name that is ready everywhere other bytes are not.
    let valid = |id: &str| get(&cluster, &format!("/api/apptainer/validate/{id}"));
    let other = valid(&format!("fresh@blake3:{}", "7".repeat(64)));
    assert_eq!(valid("fresh")["valid"], true);
    assert_eq!((&other["valid"], &other["reason"]), (&json!(false), &json!("wrong_digest")), "{other}");
    // Without a body everything is scanned, and a node that nobody ever heard is named at once.
    let begun = Instant::now();
    let answer = scan(None);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(answer["stats"], json!({"compute": 1, "shared": 2, "viz": 2}), "{answer}");
    assert_eq!(answer["not_answered"][0]["nodes"], "viz3", "{answer}");
    assert_eq!(answer["not_answered"][0]["reason"], "offline");
    // One that stands still is waited for, but not for ever.
    let process = Pid::from_raw(i32::try_from(cluster.pid("viz2").unwrap()).unwrap()).unwrap();
    kill_process(process, Signal::STOP).unwrap();
    let names = json!({"partitions": ["viz", "nothing"]});
    let answer = scan(Some(&names));
    kill_process(process, Signal::CONT).unwrap();
    assert_eq!((&answer["answered"], &answer["complete"]), (&json!("viz1"), &json!(false)), "{answer}");
    assert_eq!(answer["stats"], json!({"nothing": 0, "viz": 2}), "{answer}");
    check(&cluster, "scan_not_answered", answer);
    until("it answers when it moves again", LIMIT, || {
        let answer = scan(Some(&names));
        anyhow::ensure!(answer["answered"] == "viz[1-2]", "{answer}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_node_that_falls_silent_makes_answers_unknown_and_never_missing() {
    let mut cluster = cluster("dashboard-silent");
    furnish(&cluster);
    let question = json!({"kind": "vnc", "ref": "vnc_desktop"});
    assert_eq!(verdict(&cluster, Role::Viewer, &question).body["verdict"], "yes");
    cluster.stop("viz2").unwrap();
    until("the goodbye is heard", LIMIT, || {
        let answer = verdict(&cluster, Role::Viewer, &question).body;
        anyhow::ensure!(answer["verdict"] == "unknown" && answer["nodes"]["missing"] == "", "{answer}");
        Ok(())
    })
    .unwrap();
    let desktops = get(&cluster, "/api/vnc/images");
    assert_eq!(desktops["images"][0]["available"], false, "{desktops}");
    assert_eq!(desktops["images"][0]["satisfied"], "unknown", "{desktops}");
}

#[test]
fn a_wish_begins_one_push_however_often_it_is_asked_for() {
    let cluster = cluster("dashboard-ensure");
    furnish(&cluster);
    let big = SifBuilder::new().payload_bytes(4 << 20, 9);
    put(&cluster.root("viz1"), "big.sif", &big);
    cluster.wait_for_nodes("big", "viz", &[("ready", "viz1"), ("missing", "viz2")]).unwrap();
    ended_with(&cluster.cli(&["limits", "set", "--down", "100k"]).unwrap(), 0).unwrap();
    let question = json!({"kind": "vnc", "ref": "big", "ensure": true});
    assert_eq!(verdict(&cluster, Role::Viewer, &question).status, 403);
    let begun: Vec<Answer> = std::thread::scope(|scope| {
        let asks: Vec<_> =
            (0..8).map(|_| scope.spawn(|| verdict(&cluster, Role::Operator, &question))).collect();
        asks.into_iter().map(|ask| ask.join().unwrap()).collect()
    });
    for answer in &begun {
        assert_eq!((answer.status, &answer.body["push"]), (200, &json!("p-000001")), "{}", answer.body);
        assert_ne!(answer.body["verdict"], "yes");
    }
    let pushes = get(&cluster, "/v1/pushes");
    assert_eq!(pushes["pushes"].as_array().map(Vec::len), Some(1), "{pushes}");
    assert_eq!(pushes["pushes"][0]["nodes"], 1, "two are required, one is ready, one is pushed to: {pushes}");
    ended_with(&cluster.cli(&["limits", "set", "--down", "none"]).unwrap(), 0).unwrap();
    until("the wish comes true", LIMIT, || {
        let answer = verdict(&cluster, Role::Operator, &question).body;
        anyhow::ensure!(answer["verdict"] == "yes" && answer["push"].is_null(), "{answer}");
        Ok(())
    })
    .unwrap();
    assert_eq!(get(&cluster, "/v1/pushes")["pushes"].as_array().map(Vec::len), Some(1));
    let nobody = json!({"kind": "image", "image": "nobody-has-it", "partition": "compute", "ensure": true});
    let answer = verdict(&cluster, Role::Operator, &nobody).body;
    assert_eq!(
        (&answer["push"], &answer["push_problem"]["code"]),
        (&Value::Null, &json!("unknown_image")),
        "{answer}"
    );
}
