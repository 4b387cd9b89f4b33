//! Registries and imports from the command line: what is asked, what is shown, and how it ends.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;
use sifleet_tests::sif::SifBuilder;

use super::*;

fn registry(name: &str) -> Value {
    json!({"id": "b3c38f52", "name": name, "metadata": {"owner": "mlops"}, "tags": ["ai"], "public_url": "https://r.example",
        "image_prefix": "", "config": {}, "storage_info": {}, "has_credentials": true,
        "created": "2026-03-01T12:00:00Z", "changed": "2026-03-01T12:00:00Z"})
}

fn import(state: &str, code: Option<&str>) -> String {
    json!({"id": "i-000001", "source": "oras://r.example/a:1", "registry": "b3c38f52", "name": "a_1.sif", "state": state,
        "size": 100, "done": 50, "sha256": null, "digest": null, "code": code, "detail": code.map(|_| "because"),
        "created": "2026-03-01T12:00:00Z", "ended": null})
    .to_string()
}

#[test]
fn every_verb_of_registries_asks_for_what_it_says() {
    let stub = Stub::http(|asked| match asked {
        "GET /v1/registries" | "POST /v1/registries/query" => {
            Reply::json(&json!({"registries": [registry("hub")], "as_of": ""}).to_string())
        }
        _ => Reply::json(&registry("hub").to_string()),
    });
    let url = stub.url();
    let listed = run(&url, &["registry", "ls"]);
    assert!(out(&listed).contains("hub") && out(&listed).contains("https://r.example"), "{}", err(&listed));
    run(&url, &["registry", "ls", r#"{"tags":{"$in":["ai"]}}"#]);
    run(&url, &["registry", "show", "hub"]);
    run(
        &url,
        &["registry", "add", "hub", "https://r.example", "--tag", "ai", "--set", "metadata.owner=mlops"],
    );
    run(&url, &["registry", "set", "hub", "metadata.rack=7", "name=other"]);
    run(&url, &["registry", "set", "hub", "--no-credentials"]);
    let gone = run(&url, &["registry", "rm", "hub", "-o", "name"]);
    assert_eq!((code(&gone), out(&gone).as_str()), (0, "hub\n"));
    assert_eq!(
        stub.asked(),
        [
            "GET /v1/registries",
            "POST /v1/registries/query",
            "GET /v1/registries/hub",
            "POST /v1/registries",
            "PUT /v1/registries/hub",
            "DELETE /v1/registries/hub/credentials",
            "DELETE /v1/registries/hub",
        ]
    );
    let bodies: Vec<Value> = stub.bodies().iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let added = json!({"name": "hub", "public_url": "https://r.example", "tags": ["ai"], "metadata": {"owner": "mlops"}});
    let set = json!({"$set": {"metadata.rack": 7, "name": "other"}});
    assert_eq!(bodies, [json!({"tags": {"$in": ["ai"]}}), added, set]);
    for wrong in [
        &["registry", "ls", "[1]"][..],
        &["registry", "set", "hub"],
        &["registry", "set", "hub", "name"],
        &["registry", "add", "hub", "https://r", "--username", "x"],
        &["registry", "add", "a", "b", "--set", "name=x"],
    ] {
        assert_eq!(code(&run(&url, wrong)), 2, "{wrong:?}");
    }
}

#[test]
fn a_password_is_read_from_a_file_that_nobody_else_may_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    std::fs::write(&path, "hunter2\n").unwrap();
    let stub = Stub::http(|_| Reply::json(&registry("hub").to_string()));
    let file = path.to_str().unwrap();
    let set = ["registry", "set", "hub", "--username", "robot", "--password-file", file];
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = run(&stub.url(), &set);
    assert_eq!(code(&refused), 2, "{}", err(&refused));
    assert!(err(&refused).contains("chmod 600"), "{}", err(&refused));
    assert!(stub.asked().is_empty());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let shown = run(&stub.url(), &set);
    assert_eq!(code(&shown), 0, "{}", err(&shown));
    assert_eq!(stub.asked(), ["PUT /v1/registries/hub/credentials"]);
    let sent: Value = serde_json::from_str(&stub.bodies()[0]).unwrap();
    assert_eq!(sent, json!({"username": "robot", "password": "hunter2"}));
    assert!(!out(&shown).contains("hunter2") && !err(&shown).contains("hunter2"));
}

#[test]
fn a_password_is_sent_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    let stub = Stub::http(|_| Reply::json(&registry("hub").to_string()));
    let set = ["registry", "set", "hub", "--username", "robot", "--password-file", path.to_str().unwrap()];
    let longest = "x".repeat(4_096);
    for (text, expected) in [
        (format!("{longest}\r\n"), 0),
        (longest.clone(), 0),
        (format!("{longest}y"), 2),
        (format!("{longest}yz\n"), 2),
        (format!("{}ü", "x".repeat(4_098)), 2),
        (format!("{}{longest}", "\n".repeat(5_000)), 2),
        (format!("x{}y", "\n".repeat(5_000)), 2),
    ] {
        std::fs::write(&path, &text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let ended = run(&stub.url(), &set);
        assert_eq!(code(&ended), expected, "{} bytes: {}", text.len(), err(&ended));
    }
    let sent = stub.bodies();
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|body| body.contains(&longest)));
}

#[test]
fn a_check_ends_with_0_only_where_a_registry_answers() {
    for (oci, expected) in [(true, 0), (false, 1)] {
        let health = json!({"id": "b3c38f52", "url": "https://r.example", "reachable": oci, "oci": oci, "auth": "unknown",
            "status": null, "api_version": null, "address": null, "latency_ms": null, "problem": null, "detail": "nobody is there",
            "as_of": ""});
        let stub = Stub::http(move |_| Reply::json(&health.to_string()));
        let checked = run(&stub.url(), &["registry", "check", "hub"]);
        assert_eq!(code(&checked), expected, "{}", err(&checked));
        assert_eq!(stub.asked(), ["GET /v1/registries/hub/health"]);
    }
}

#[test]
fn an_import_is_watched_to_its_end_and_the_code_says_which() {
    for (state, problem, expected) in [
        ("done", None, 0),
        ("failed", Some("wrong_digest"), 13),
        ("failed", Some("not_a_sif"), 13),
        ("failed", Some("no_space"), 14),
        ("failed", Some("registry_has_none"), 12),
        ("failed", Some("registry_denied"), 11),
        ("failed", Some("unreachable"), 1),
    ] {
        let stub = Stub::http(move |asked| match asked {
            "POST /v1/imports" => Reply::json(&import("fetching", None)),
            _ => Reply::json(&import(state, problem)),
        });
        let ended = run(&stub.url(), &["image", "import", "oras://r.example/a:1"]);
        assert_eq!(code(&ended), expected, "{problem:?}: {}", err(&ended));
        assert_eq!(stub.asked(), ["POST /v1/imports", "GET /v1/imports/i-000001"]);
        assert_eq!(err(&ended).contains("because"), problem.is_some(), "{}", err(&ended));
    }
}

#[test]
fn what_cannot_be_imported_is_refused_before_anybody_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("a.tar");
    std::fs::write(&archive, "no archive").unwrap();
    let stub = Stub::http(|_| Reply::problem(404, "{}"));
    let import = |source: &str| {
        let mut command = sifleet();
        command.env("SIFLEET_URL", stub.url()).env("PATH", folder.path()).env("TMPDIR", folder.path());
        command.args(["image", "import", source]).output().unwrap()
    };
    for (source, expected, said) in [
        ("docker://alpine", 2, "not imported by docker://"),
        ("/does/not/exist.sif", 2, "no file of this machine"),
        ("docker-archive:/does/not/exist.tar", 2, "no file of this machine"),
        (&format!("docker-archive:{}", archive.display()), 1, "apptainer is not installed"),
    ] {
        let refused = import(source);
        assert_eq!(code(&refused), expected, "{source}: {}", err(&refused));
        assert!(
            err(&refused).contains(said) && err(&refused).contains("hint: "),
            "{source}: {}",
            err(&refused)
        );
    }
    assert!(stub.asked().is_empty());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn an_archive_is_built_by_apptainer_and_what_came_out_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let (archive, program) = (folder.path().join("openfoam.tar"), folder.path().join("apptainer"));
    let sif = SifBuilder::new().bytes();
    std::fs::write(folder.path().join("made"), &sif).unwrap();
    std::fs::write(&archive, "an archive").unwrap();
    let made = folder.path().join("made").display().to_string();
    let script = format!(
        "#!/bin/sh\n[ \"$1 $3\" = \"build docker-archive:{}\" ] && echo building && exec /bin/cp {made} \"$2\"\n",
        archive.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let digest = format!("blake3:{}", blake3::hash(&sif).to_hex());
    let present = json!({"state": "present", "id": null, "offset": sif.len(), "name": "openfoam.sif", "size": sif.len(), "digest": digest});
    let stub = Stub::http(move |_| Reply::json(&present.to_string()));
    let mut command = sifleet();
    command.env("SIFLEET_URL", stub.url()).env("PATH", folder.path()).env("TMPDIR", folder.path());
    let source = format!("docker-archive:{}", archive.display());
    let sent = command.args(["image", "import", &source, "-o", "name"]).output().unwrap();
    assert_eq!((code(&sent), out(&sent).as_str()), (0, "openfoam.sif\n"), "{}", err(&sent));
    let wish: Value = serde_json::from_str(&stub.bodies()[0]).unwrap();
    assert_eq!(wish, json!({"name": "openfoam.sif", "size": sif.len(), "digest": digest}));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3, "nothing is left behind");
}
