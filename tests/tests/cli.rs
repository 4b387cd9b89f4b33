//! The real `sifleet` binary against a coordinator that says what it is told to say: exit codes, streams,
//! formats, hints, and what happens when the other side fails.

#![cfg(test)]

#[path = "cli/early.rs"]
mod early;
#[path = "cli/export.rs"]
mod export;
#[path = "cli/limits.rs"]
mod limits;
#[path = "cli/push.rs"]
mod push;
#[path = "cli/registry.rs"]
mod registry;
#[path = "cli/remove.rs"]
mod remove;
#[path = "cli/stub.rs"]
mod stub;
#[path = "cli/token.rs"]
mod token;
#[path = "cli/top.rs"]
mod top;

use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stub::{Reply, Stub};

fn sifleet() -> Command {
    let program = sifleet_tests::programs::own("sifleet").unwrap_or_else(|error| panic!("{error:#}"));
    let mut command = Command::new(program);
    for name in [
        "SIFLEET_URL",
        "SIFLEET_TOKEN",
        "SIFLEET_TOKEN_FILE",
        "SIFLEET_CA_FILE",
        "NO_COLOR",
        "CLICOLOR",
        "CLICOLOR_FORCE",
    ] {
        command.env_remove(name);
    }
    command
}

fn run(url: &str, args: &[&str]) -> Output {
    sifleet().env("SIFLEET_URL", url).args(args).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn availability(satisfied: &str, ready: u32, missing: u32, unknown: u32) -> Value {
    let verdict = match (ready, missing + unknown) {
        (0, _) if unknown > 0 => "unknown",
        (0, _) => "missing",
        (_, 0) => "ready",
        (_, _) => "partial",
    };
    let nodes = |count: u32, nodes: &str| if count > 0 { nodes.to_owned() } else { String::new() };
    json!({
        "image": "vnc_desktop.sif", "partition": "viz", "verdict": verdict, "require": "all",
        "satisfied": satisfied, "message": "", "expected_digest": null,
        "counts": {"ready": ready, "outdated": 0, "missing": missing, "unknown": unknown},
        "nodes": {"ready": nodes(ready, "viz001"), "outdated": "", "missing": nodes(missing, "viz002"),
                  "unknown": nodes(unknown, "viz003")},
        "digests": [], "paths": [], "reasons": [], "degraded": [],
        "membership": {"source": "slurm", "as_of": "2026-03-01T11:59:00Z", "stale": false},
        "as_of": "2026-03-01T12:00:00Z", "generation": 7, "later": {"unheard": "of"}
    })
}

const AVAILABLE: [&str; 4] = ["available", "vnc_desktop", "-p", "viz"];

#[test]
fn the_exit_code_says_whether_the_requirement_is_met() {
    for (satisfied, ready, missing, unknown, expected) in [
        ("yes", 1, 0, 0, 0),
        ("no", 0, 1, 0, 1),
        ("no", 1, 1, 0, 3),
        ("unknown", 1, 0, 1, 3),
        ("unknown", 0, 0, 1, 3),
    ] {
        let answer = availability(satisfied, ready, missing, unknown).to_string();
        let stub = Stub::http(move |_| Reply::json(&answer));
        for format in ["table", "wide", "json", "name", "csv"] {
            let output = run(&stub.url(), &[&AVAILABLE[..], &["-o", format]].concat());
            assert_eq!(
                code(&output),
                expected,
                "{satisfied} {ready} {missing} {unknown} {format}: {}",
                err(&output)
            );
        }
        assert_eq!(stub.asked()[0], "GET /v1/availability?image=vnc_desktop&partition=viz&require=all");
    }
}

#[test]
fn the_answer_is_on_standard_output_and_the_advice_beside_it() {
    let answer = availability("no", 1, 1, 0).to_string();
    let stub = Stub::http(move |_| Reply::json(&answer));
    let output = run(&stub.url(), &AVAILABLE);
    assert_eq!(
        out(&output),
        "vnc_desktop.sif on viz: partial — 1 of 2 nodes ready\n  ready    1  viz001\n  missing  1  viz002\n"
    );
    assert_eq!(
        err(&output),
        "hint: a job that may run on ready nodes alone asks with --require any: viz001\n"
    );
    let names = run(&stub.url(), &[&AVAILABLE[..], &["-o", "name"]].concat());
    assert_eq!((out(&names).as_str(), err(&names).as_str()), ("viz001\n", ""));
}

#[test]
fn json_is_passed_on_as_it_came() {
    let answer = serde_json::to_string_pretty(&availability("yes", 1, 0, 0)).unwrap();
    let sent = answer.clone();
    let stub = Stub::http(move |_| Reply::json(&sent));
    let output = run(&stub.url(), &[&AVAILABLE[..], &["--output", "json"]].concat());
    assert_eq!(out(&output), answer + "\n");
}

#[test]
fn colours_are_for_terminals_and_for_those_who_want_them() {
    let answer = availability("yes", 1, 0, 0).to_string();
    let stub = Stub::http(move |_| Reply::json(&answer));
    let coloured = |vars: &[(&str, &str)]| {
        let mut command = sifleet();
        command.envs(vars.iter().copied()).args(["--url", &stub.url()]).args(AVAILABLE);
        command.output().unwrap().stdout.contains(&0x1b)
    };
    assert!(!coloured(&[]));
    assert!(coloured(&[("CLICOLOR_FORCE", "1")]));
    assert!(!coloured(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
}

#[test]
fn nobody_at_the_address_is_told_with_what_to_do() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = run(&format!("http://{free}"), &["drift"]);
    assert_eq!(code(&output), 10);
    assert_eq!(out(&output), "");
    let told = err(&output);
    assert!(
        told.starts_with(&format!("error: no answer from the coordinator at http://{free}/v1/drift\n")),
        "{told}"
    );
    assert!(
        told.contains("Connection refused") && told.contains("hint: see whether it runs there"),
        "{told}"
    );
}

#[test]
fn somebody_who_never_answers_is_waited_for_only_so_long() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let begun = Instant::now();
    let output = run(&format!("http://{}", silent.local_addr().unwrap()), &["drift", "--timeout", "1"]);
    assert_eq!(code(&output), 10, "{}", err(&output));
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert!(err(&output).contains("--timeout waits longer"), "{}", err(&output));
}

#[test]
fn a_problem_is_told_with_its_hint_and_request() {
    let body = json!({
        "type": "about:blank", "title": "unknown image", "status": 404, "code": "unknown_image",
        "detail": "no node ever held an image called \"vnc_destop\"", "hint": "ask for one of `sifleet image ls`",
        "candidates": ["vnc_desktop.sif", "vnc_desk\u{1b}[31m.sif"], "request_id": "req-7"
    });
    let stub = Stub::http(move |_| Reply::problem(404, &body.to_string()));
    let output = run(&stub.url(), &["available", "vnc_destop", "-p", "viz"]);
    assert_eq!(code(&output), 12);
    assert_eq!(
        err(&output),
        "\
error: no node ever held an image called \"vnc_destop\" [unknown_image]
hint: ask for one of `sifleet image ls`
hint: perhaps meant: vnc_desktop.sif, vnc_desk\\u{1b}[31m.sif
request: req-7
"
    );
}

#[test]
fn each_kind_of_refusal_has_its_exit_code() {
    for (status, expected) in
        [(400, 2), (409, 2), (422, 2), (401, 11), (403, 11), (404, 12), (429, 1), (500, 1), (503, 10)]
    {
        let body = json!({"type": "about:blank", "title": "t", "status": status, "code": "c", "detail": "d"});
        let stub = Stub::http(move |_| Reply::problem(status, &body.to_string()));
        let output = run(&stub.url(), &["node", "ls"]);
        assert_eq!(code(&output), expected, "{status}");
        assert_eq!(err(&output), "error: d [c]\nrequest: req-header\n");
    }
}

#[test]
fn a_stranger_is_not_taken_for_a_coordinator() {
    let page = || Reply { status: 502, kind: "text/html", body: "<h1>Bad Gateway</h1>".into() };
    let stub = Stub::http(move |_| page());
    let output = run(&stub.url(), &["partition", "ls"]);
    assert_eq!(code(&output), 10);
    assert!(err(&output).contains("answered 502 and does not say why"), "{}", err(&output));
    for body in ["<html>hello</html>", "{\"partitions\": 5}", ""] {
        let stub = Stub::http(move |_| Reply::json(body));
        let output = run(&stub.url(), &["partition", "ls"]);
        assert_eq!(code(&output), 1);
        assert!(err(&output).contains("of the same version"), "{}", err(&output));
    }
}

#[test]
fn a_wrong_question_is_not_even_asked() {
    for args in [
        &["node", "show", "../etc"][..],
        &["node", "rescan", "n[1-1000000]"],
        &["available", "x"],
        &["drift", "--url", "ftp://x"],
        &["drift", "--url", "https://127.0.0.1:1", "--ca-file", "/does/not/exist"],
        &["frobnicate"],
    ] {
        let output = run("http://127.0.0.1:1", args);
        assert_eq!(code(&output), 2, "{args:?}: {}", err(&output));
        assert!(!err(&output).is_empty() && out(&output).is_empty());
    }
}

#[test]
fn names_reach_the_coordinator_whole() {
    let stub = Stub::http(|_| Reply::problem(404, "{}"));
    run(&stub.url(), &["image", "show", "compute/a b?.sif"]);
    run(&stub.url(), &["image", "ls", "q&q", "-p", "viz"]);
    run(&stub.url(), &["partition", "show", "viz"]);
    run(&stub.url(), &["node", "rescan", "viz2,viz1"]);
    assert_eq!(
        stub.asked(),
        [
            "GET /v1/images/compute%2Fa%20b%3F.sif",
            "GET /v1/images?q=q%26q&partition=viz",
            "GET /v1/partitions/viz",
            "POST /v1/nodes/viz%5B1-2%5D/rescan",
        ]
    );
}

#[test]
fn a_rescan_ends_with_who_was_told() {
    let stub = Stub::http(|_| Reply::json(r#"{"told":"viz1","offline":"viz2","unheard_of":""}"#));
    let output = run(&stub.url(), &["node", "rescan", "viz[1-2]"]);
    assert_eq!((code(&output), out(&output).as_str()), (3, "told     viz1\noffline  viz2\n"));
}

#[test]
fn a_list_is_read_page_by_page_to_its_end() {
    let page = |name: &str, next: Option<&str>| {
        let image =
            json!({"name": name, "digests": [], "drift": false, "nodes": "", "count": 0, "last_known": "n1"});
        json!({"images": [image], "next_cursor": next, "as_of": "2026-03-01T12:00:00Z"}).to_string()
    };
    let stub = Stub::http(move |asked| {
        Reply::json(&match asked.split_once("cursor=") {
            None => page("a.sif", Some("1/2")),
            Some((_, "1%2F2")) => page("b.sif", Some("3")),
            Some(_) => page("c.sif", None),
        })
    });
    let output = run(&stub.url(), &["image", "ls", "-o", "name"]);
    assert_eq!(out(&output), "a.sif\nb.sif\nc.sif\n", "{}", err(&output));
    let output = run(&stub.url(), &["image", "ls", "-o", "json"]);
    let joined: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((joined["images"].as_array().unwrap().len(), &joined["next_cursor"]), (3, &Value::Null));
}

#[test]
fn pages_that_refer_to_each_other_end_too() {
    let page = r#"{"images":[],"next_cursor":"same","as_of":"2026-03-01T12:00:00Z"}"#;
    let stub = Stub::http(move |_| Reply::json(page));
    let output = run(&stub.url(), &["image", "ls"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("refer to each other"), "{}", err(&output));
}

const EVENTS: &str = ": hello\n\nid: 1\nevent: image_ready\ndata: {\"seq\":1,\"time\":\"2026-03-01T12:00:00Z\",\
    \"kind\":\"image_ready\",\"node\":\"viz001\",\"image\":\"a.sif\",\"digest\":null,\"detail\":null}\n\n\
    data: {\"seq\":2,\"time\":\"t\",\"kind\":\"from_the_future\"}\n\n\
    data: {\"seq\":3,\"time\":\"2026-03-01T12:00:01Z\",\"kind\":\"node_offline\",\"node\":\"viz001\",\
    \"image\":null,\"digest\":null,\"detail\":\"lease over\"}\n\n";

#[test]
fn events_are_lines_until_as_many_were_seen() {
    let stub = Stub::http(|_| Reply::events(EVENTS));
    let output = run(&stub.url(), &["events", "--count", "1", "-o", "json"]);
    assert_eq!(code(&output), 0);
    assert_eq!(serde_json::from_str::<Value>(&out(&output)).unwrap()["image"], "a.sif");
    let output = run(&stub.url(), &["events", "--count", "3"]);
    assert_eq!(
        (code(&output), out(&output).as_str()),
        (
            0,
            "2026-03-01T12:00:00Z  image_ready        viz001  a.sif\n\
             2026-03-01T12:00:01Z  node_offline       viz001  lease over\n"
        )
    );
    assert!(err(&output).starts_with("warning: an event is not understood"), "{}", err(&output));
}

#[test]
fn a_stream_that_breaks_off_is_a_coordinator_gone() {
    let stub = Stub::http(|_| Reply::events(EVENTS));
    let output = run(&stub.url(), &["events", "-o", "csv"]);
    assert_eq!(code(&output), 10);
    assert_eq!(out(&output).lines().count(), 3);
    assert!(err(&output).contains("broke off"), "{}", err(&output));
}

#[test]
fn a_reader_who_goes_away_ends_the_output_quietly() {
    let image = json!({"name": "x".repeat(200), "digests": [], "drift": false, "nodes": "", "count": 0, "last_known": ""});
    let list = json!({"images": vec![image; 20_000], "next_cursor": null, "as_of": "2026-03-01T12:00:00Z"})
        .to_string();
    let stub = Stub::http(move |_| Reply::json(&list));
    let mut command = sifleet();
    command.args(["--url", &stub.url(), "image", "ls"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((code(&output), err(&output).as_str()), (0, ""));
}

#[test]
fn https_is_trusted_by_the_named_certificates_alone() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let stub = Stub::https(tls, |_| Reply::json(r#"{"drift":[],"as_of":"2026-03-01T12:00:00Z"}"#));
    let folder = tempfile::tempdir().unwrap();
    let ours = folder.path().join("ca.pem");
    std::fs::write(&ours, made.cert.pem()).unwrap();
    let other = folder.path().join("other.pem");
    std::fs::write(&other, rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem())
        .unwrap();

    let url = format!("https://localhost:{}", stub.address().port());
    let trusted = run(&url, &["drift", "--ca-file", ours.to_str().unwrap()]);
    assert_eq!(code(&trusted), 0, "{}", err(&trusted));
    let distrusted = run(&url, &["drift", "--ca-file", other.to_str().unwrap()]);
    assert_eq!(code(&distrusted), 10);
    assert!(err(&distrusted).contains("hint: trust the cluster's CA"), "{}", err(&distrusted));
}

#[test]
fn help_completions_and_manual_need_no_coordinator() {
    let help = run("http://127.0.0.1:1", &["--help"]);
    for part in ["Exit codes:", "10  the coordinator cannot be reached", "Examples:", "SIFLEET_URL"] {
        assert!(out(&help).contains(part), "{part}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(out(&run("http://127.0.0.1:1", &["completions", shell])).contains("rescan"), "{shell}");
    }
    assert!(out(&run("http://127.0.0.1:1", &["man"])).starts_with(".ie"));
    let folder = tempfile::tempdir().unwrap();
    let pages = run("http://127.0.0.1:1", &["man", "--dir", folder.path().to_str().unwrap()]);
    assert!(out(&pages).lines().any(|page| page == "sifleet-image-show.1"), "{}", out(&pages));
    for page in out(&pages).lines() {
        assert!(folder.path().join(page).is_file(), "{page}");
    }
}
