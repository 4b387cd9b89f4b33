//! The real `sifleet push` and `sifleet top` against a coordinator that says what it is told to say.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sifleet_tests::sif::SifBuilder;

use crate::stub::{Reply, Stub};
use crate::{code, err, out, run, sifleet};

pub(crate) fn plan() -> String {
    json!({"image": "vnc_desktop.sif", "digest": "blake3:00", "size": 1000, "nodes": "viz[001-002]", "count": 2,
        "ready": "", "deferred": "", "refused": [], "sources": "head", "bytes": 2000, "seconds": null})
    .to_string()
}

pub(crate) fn push(state: &str, done: u32, failed: u32) -> Value {
    let phases =
        [("fetching", 2 - done - failed, "viz001"), ("done", done, "viz001"), ("failed", failed, "viz002")];
    let phases: Vec<_> = phases
        .iter()
        .filter(|(_, count, _)| *count > 0)
        .map(|(phase, count, nodes)| json!({"phase": phase, "count": count, "nodes": nodes}))
        .collect();
    let reason = json!({"code": "no_space", "count": failed, "nodes": "viz002", "message": "5 bytes free",
        "hint": "remove images"});
    json!({"id": "7", "image": "vnc_desktop.sif", "digest": "blake3:00", "size": 1000, "state": state,
        "completion": "all", "from": null, "root": null, "created": "2026-03-01T12:00:00Z",
        "ended": if state == "running" { Value::Null } else { "2026-03-01T12:01:00Z".into() },
        "deadline": "2026-03-02T12:00:00Z", "rate": null, "priority": 100, "nodes": 2, "phases": phases,
        "reasons": if failed > 0 { vec![reason] } else { vec![] },
        "bytes": {"total": 2000, "fetched": 1000 * done, "reused": 0, "resumed": 0, "present": 0, "wasted": 0, "rate": 0},
        "dropped": [], "later": "unheard of"})
}

fn event(push: &Value) -> String {
    format!("id: 1\nevent: push\ndata: {push}\n\n")
}

/// A coordinator with one push, whose stream says `events`, and which ends as `end`.
fn coordinator(events: String, end: &Value) -> Stub {
    let (posted, end) = (AtomicUsize::new(0), end.clone());
    Stub::http(move |asked| match asked {
        "POST /v1/pushes" if posted.fetch_add(1, Ordering::Relaxed) == 0 => Reply::json(&plan()),
        "POST /v1/pushes" => Reply::json(&push("running", 0, 0).to_string()),
        "GET /v1/pushes/7" => Reply::json(&push("running", 0, 0).to_string()),
        "GET /v1/pushes/7/events" => Reply::events(&format!("{events}{}", event(&end))),
        _ => Reply::problem(404, "{}"),
    })
}

const PUSH: [&str; 4] = ["push", "vnc_desktop", "-p", "viz"];

#[test]
fn a_push_is_planned_begun_watched_and_ends_with_its_code() {
    for (state, done, failed, expected) in [
        ("done", 2, 0, 0),
        ("partial", 1, 1, 3),
        ("failed", 0, 2, 1),
        ("cancelled", 1, 0, 3),
        ("cancelled", 0, 0, 1),
    ] {
        let stub = coordinator(event(&push("running", 1, 0)), &push(state, done, failed));
        let output = run(&stub.url(), &PUSH);
        assert_eq!(code(&output), expected, "{state}: {}", err(&output));
        let (shown, told) = (out(&output), err(&output));
        assert!(
            shown.starts_with(&format!("push 7: vnc_desktop.sif: {state} — on {done} of 2 nodes\n")),
            "{shown}"
        );
        assert!(told.starts_with("vnc_desktop.sif onto 2 nodes: 2.0 KiB at most\n"), "{told}");
        assert_eq!(told.contains("hint: remove images\n"), failed > 0, "{told}");
        assert_eq!(shown.contains("no_space") && shown.contains("5 bytes free"), failed > 0, "{shown}");
        assert!(!told.contains('\u{1b}') && !shown.contains('\u{1b}'));
    }
}

#[test]
fn a_dry_run_begins_nothing() {
    let stub = coordinator(String::new(), &push("done", 2, 0));
    let output = run(&stub.url(), &[&PUSH[..], &["--dry-run", "--rate", "1M"]].concat());
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).starts_with("vnc_desktop.sif onto 2 nodes"), "{}", out(&output));
    assert_eq!(stub.asked(), ["POST /v1/pushes"]);
    let body: Value = serde_json::from_str(&stub.bodies()[0]).unwrap();
    assert_eq!(
        body,
        json!({"image": "vnc_desktop", "to": {"partition": "viz"}, "rate": 1_000_000, "dry_run": true})
    );
}

#[test]
fn everything_that_was_written_is_asked_for() {
    let stub = coordinator(String::new(), &push("done", 2, 0));
    let args =
        ["push", "a", "--missing-on", "viz", "--from", "head", "--root", "/opt", "--completion", "80%"];
    let more = ["--deadline", "2h", "--priority", "5", "--detach", "-o", "name"];
    let output = run(&stub.url(), &[&args[..], &more].concat());
    assert_eq!((code(&output), out(&output).as_str()), (0, "7\n"), "{}", err(&output));
    assert!(err(&output).contains("`sifleet push watch 7` watches it, `sifleet push cancel 7` ends it"));
    let bodies: Vec<Value> = stub.bodies().iter().map(|body| serde_json::from_str(body).unwrap()).collect();
    let mut asked = json!({"image": "a", "from": "head", "to": {"missing_on": "viz"}, "root": "/opt",
        "completion": "80%", "deadline_s": 7200, "priority": 5, "dry_run": true});
    assert_eq!(bodies[0], asked);
    asked["dry_run"] = false.into();
    assert_eq!(bodies[1], asked);
}

#[test]
fn a_stream_that_breaks_is_opened_again_and_the_push_asked_for_meanwhile() {
    let streams = AtomicUsize::new(0);
    let stub = Stub::http(move |asked| match asked {
        "GET /v1/pushes/7" => Reply::json(&push("running", 0, 0).to_string()),
        "GET /v1/pushes/7/events" => match streams.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::problem(503, "{}"),
            1 => Reply::events("data: cut"),
            _ => Reply::events(&event(&push("done", 2, 0))),
        },
        _ => Reply::problem(404, "{}"),
    });
    let output = run(&stub.url(), &["push", "watch", "7", "-o", "json"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(serde_json::from_str::<Value>(&out(&output)).unwrap(), push("done", 2, 0));
}

#[test]
fn without_a_stream_asking_is_enough_and_strange_events_are_no_harm() {
    for events in [None, Some("data: {\"kind\":\"from the future\"}\n\n")] {
        let asked_for = AtomicUsize::new(0);
        let stub = Stub::http(move |asked| match (asked, events) {
            ("GET /v1/pushes/7", _) => {
                let state = if asked_for.fetch_add(1, Ordering::Relaxed) == 0 { "running" } else { "done" };
                Reply::json(&push(state, 2, 0).to_string())
            }
            ("GET /v1/pushes/7/events", Some(events)) => Reply::events(events),
            _ => Reply::problem(404, "{}"),
        });
        assert_eq!(code(&run(&stub.url(), &["push", "watch", "7"])), 0);
    }
}

#[test]
fn json_progress_is_lines_on_standard_output_and_nothing_else() {
    let stub = coordinator(event(&push("running", 1, 0)), &push("partial", 1, 1));
    let output = run(&stub.url(), &[&PUSH[..], &["--progress", "json"]].concat());
    assert_eq!((code(&output), err(&output).as_str()), (3, ""));
    let lines: Vec<Value> = out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!((kinds[0], kinds[1], kinds.last()), ("plan", "begun", Some(&"ended")), "{kinds:?}");
    assert!(lines.iter().any(|line| line["push"]["state"] == "running"));
    assert_eq!(lines.last().unwrap()["push"]["later"], "unheard of");
}

#[test]
fn json_progress_of_a_dry_run_is_its_plan_and_that_of_a_detached_push_ends_when_it_has_begun() {
    for (flag, kinds) in [("--dry-run", &["plan"][..]), ("--detach", &["plan", "begun"])] {
        let stub = coordinator(String::new(), &push("done", 2, 0));
        let output = run(&stub.url(), &[&PUSH[..], &["--progress", "json", flag]].concat());
        assert_eq!((code(&output), err(&output).as_str()), (0, ""));
        assert_eq!(events_in(&output), kinds);
    }
}

pub(crate) fn events_in(output: &Output) -> Vec<String> {
    let event = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        value["event"].as_str().unwrap().to_owned()
    };
    out(output).lines().map(event).collect()
}

#[test]
fn ctrl_c_leaves_the_push_alone_and_tells_how_to_go_on() {
    let stub = coordinator(String::new(), &push("running", 1, 0));
    let mut command = sifleet();
    command.env("SIFLEET_URL", stub.url());
    let mut child =
        command.args(["push", "watch", "7"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap());
    let mut first = String::new();
    // The first line is told after the signal is listened to.
    told.read_line(&mut first).unwrap();
    assert!(first.starts_with("push 7: vnc_desktop.sif: "), "{first}");
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::INT).unwrap();
    let rest: Vec<String> = told.lines().map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert!(rest.last().unwrap().starts_with("hint: the push goes on; `sifleet push watch 7`"), "{rest:?}");
    assert!(stub.asked().iter().all(|asked| asked.starts_with("GET ")));
}

#[test]
fn pushes_are_listed_shown_and_commanded() {
    let list = json!({"pushes": [push("running", 1, 0)], "as_of": "2026-03-01T12:00:30Z"}).to_string();
    let nodes =
        json!({"nodes": [{"node": "viz001", "phase": "fetching", "code": null, "message": null, "hint": null,
        "root": null, "fetched": 500, "reused": 0, "resumed": 0, "wasted": 0, "rate": 10,
        "sources": [{"node": "head", "bytes": 500}], "started": null, "ended": null}],
        "as_of": "2026-03-01T12:00:30Z"})
        .to_string();
    let stub = Stub::http(move |asked| match asked {
        "GET /v1/pushes" => Reply::json(&list),
        "GET /v1/pushes/7/nodes" => Reply::json(&nodes),
        asked if asked.contains("/v1/pushes/7") => Reply::json(&push("running", 1, 0).to_string()),
        _ => Reply::problem(404, "{}"),
    });
    let shown = |args: &[&str]| {
        let output = run(&stub.url(), args);
        assert_eq!(code(&output), 0, "{args:?}: {}", err(&output));
        out(&output)
    };
    assert!(shown(&["push", "ls"]).contains("7   vnc_desktop.sif  running"));
    assert!(shown(&["push", "show", "7"]).starts_with("push 7: vnc_desktop.sif: running"));
    assert!(shown(&["push", "show", "7", "--nodes"]).contains("viz001  fetching"));
    for args in [&["push", "cancel", "7"][..], &["push", "retry", "7"], &["push", "rate", "7", "50M"]] {
        shown(args);
    }
    let rate: Value = serde_json::from_str(stub.bodies().last().unwrap()).unwrap();
    assert_eq!(rate, json!({"rate": 50_000_000}));
    assert!(stub.asked().contains(&"POST /v1/pushes/7/rate".to_owned()));
    let top = shown(&["top"]);
    assert!(top.starts_with("1 push running") && top.contains("viz001 ") && !top.contains('\u{1b}'), "{top}");
    assert_eq!(code(&run(&stub.url(), &["push", "show", "../8"])), 12);
    assert_eq!(stub.asked().last().unwrap(), "GET /v1/pushes/..%2F8");
}

/// A library that takes an upload as the real one does, but answers `refuse` to the n-th piece.
fn library(taken: &Arc<AtomicUsize>, refuse: Option<(usize, u16, &'static str)>, size: usize) -> Stub {
    Stub::http_with_body(library_routes(taken, refuse, size))
}

pub(crate) fn library_routes(
    taken: &Arc<AtomicUsize>,
    refuse: Option<(usize, u16, &'static str)>,
    size: usize,
) -> impl Fn(&str, &[u8]) -> Reply + Send + 'static {
    let (taken, pieces, planned) = (Arc::clone(taken), AtomicUsize::new(0), AtomicUsize::new(0));
    move |asked, body| {
        let upload = |state: &str, id: Option<&str>| {
            let offset = taken.load(Ordering::Relaxed);
            Reply::json(
                &json!({"state": state, "id": id, "offset": offset, "name": "a.sif", "size": size,
                "digest": "blake3:00"})
                .to_string(),
            )
        };
        match asked {
            "POST /v1/library/uploads" => upload("open", Some("cafe")),
            "PATCH /v1/library/uploads/cafe" => {
                let number = pieces.fetch_add(1, Ordering::Relaxed);
                if let Some((_, status, code)) = refuse.filter(|(refused, _, _)| *refused == number) {
                    return problem(status, code);
                }
                taken.fetch_add(body.len(), Ordering::Relaxed);
                upload("open", Some("cafe"))
            }
            "POST /v1/library/uploads/cafe/finish" => upload("published", None),
            "POST /v1/pushes" if said(body, "upload") => Reply::json(&plan()),
            // The agent needs a moment to see the image; what is said meanwhile depends on how it is asked for.
            "POST /v1/pushes" => match planned.fetch_add(1, Ordering::Relaxed) {
                0 => problem(404, "unknown_image"),
                1 => problem(409, "no_holder"),
                2 => Reply::json(&plan()),
                _ => Reply::json(&push("done", 2, 0).to_string()),
            },
            "GET /v1/pushes/7" => Reply::json(&push("done", 2, 0).to_string()),
            _ => Reply::problem(404, "{}"),
        }
    }
}

fn said(body: &[u8], field: &str) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|body| body.get(field).is_some())
}

pub(crate) fn problem(status: u16, code: &str) -> Reply {
    let body = json!({"type": "about:blank", "title": "t", "status": status, "code": code, "detail": "d"});
    Reply::problem(status, &body.to_string())
}

fn image(dir: &Path, len: u32) -> (String, Vec<u8>) {
    let path = dir.join("vnc.sif");
    let bytes = SifBuilder::new().payload_bytes(len, 3).bytes();
    std::fs::write(&path, &bytes).unwrap();
    (path.to_str().unwrap().to_owned(), bytes)
}

#[test]
fn a_file_goes_into_the_library_first_and_is_pushed_by_its_digest() {
    let dir = tempfile::tempdir().unwrap();
    // More than one piece, the second of which is refused once.
    let (path, bytes) = image(dir.path(), 20 << 20);
    let taken = Arc::new(AtomicUsize::new(0));
    let stub = library(&taken, Some((1, 409, "wrong_offset")), bytes.len());
    let output = run(&stub.url(), &["push", &path, "--as", "viz/vnc.sif", "-w", "viz[001-002]"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(taken.load(Ordering::Relaxed), bytes.len());
    let digest = format!("blake3:{}", blake3::hash(&bytes).to_hex());
    let bodies = stub.bodies();
    let planned: Value = serde_json::from_str(&bodies[0]).unwrap();
    assert_eq!((&planned["upload"], &planned["dry_run"]), (&json!(bytes.len()), &json!(true)));
    let wish = bodies.iter().find(|body| body.contains("\"size\"")).unwrap();
    let wish: Value = serde_json::from_str(wish).unwrap();
    assert_eq!(wish, json!({"name": "viz/vnc.sif", "size": bytes.len(), "digest": digest}));
    let last: Value =
        serde_json::from_str(bodies.iter().rfind(|body| body.contains("dry_run")).unwrap()).unwrap();
    assert_eq!(
        last,
        json!({"image": "viz/vnc.sif", "digest": digest, "to": {"nodes": "viz[001-002]"}, "dry_run": false})
    );
    let told = err(&output);
    for part in [
        "hashing: 100 %",
        "uploading: 100 %",
        "took it in, as viz/vnc.sif",
        "waiting until the library's agent",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn a_dry_run_of_a_file_sends_none_of_it_and_shows_the_plan() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = image(dir.path(), 1 << 20);
    let stub = Stub::http(move |asked| match asked {
        "POST /v1/pushes" => {
            let mut planned: Value = serde_json::from_str(&plan()).unwrap();
            planned["upload"] = (1 << 20).into();
            Reply::json(&planned.to_string())
        }
        _ => Reply::problem(404, "{}"),
    });
    let output = run(&stub.url(), &["push", &path, "-p", "viz", "--dry-run", "--rate", "1M"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).contains("into the library first  1.0 MiB"), "{}", out(&output));
    assert_eq!(stub.asked(), ["POST /v1/pushes", "GET /v1/images/vnc.sif"]);
    let asked: Value = serde_json::from_str(&stub.bodies()[0]).unwrap();
    let digest = format!("blake3:{}", blake3::hash(&bytes).to_hex());
    assert_eq!(
        asked,
        json!({"image": "vnc.sif", "digest": digest, "to": {"partition": "viz"}, "rate": 1_000_000,
            "dry_run": true, "upload": bytes.len()})
    );
}

#[test]
fn what_the_library_refuses_has_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = image(dir.path(), 1 << 20);
    for (status, code_, expected) in
        [(507, "no_space", 14), (422, "wrong_digest", 13), (422, "not_an_image", 13), (409, "no_library", 1)]
    {
        let stub = library(&Arc::new(AtomicUsize::new(0)), Some((0, status, code_)), bytes.len());
        let output = run(&stub.url(), &["push", &path, "-p", "viz", "--progress", "none"]);
        assert_eq!(code(&output), expected, "{code_}: {}", err(&output));
        assert_eq!(err(&output), format!("error: d [{code_}]\nrequest: req-header\n"));
    }
}

#[test]
fn what_cannot_be_meant_is_refused_before_anybody_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.sif");
    std::fs::write(&text, "no image").unwrap();
    let folder = format!("{}/", dir.path().display());
    for (args, part, expected) in [
        (&["push", text.to_str().unwrap(), "-p", "viz"][..], "is no image", 13),
        (&["push", "./gone.sif", "-p", "viz"], "is no file of this machine", 2),
        (&["push", &folder, "-p", "viz"], "is a directory", 2),
        (&["push", "vnc", "--as", "b.sif", "-p", "viz"], "is no file of this machine", 2),
        (&["push", "vnc"], "--partition", 2),
    ] {
        let output = run("http://127.0.0.1:1", args);
        assert_eq!(code(&output), expected, "{args:?}: {}", err(&output));
        assert!(err(&output).contains(part) && out(&output).is_empty(), "{}", err(&output));
    }
}
