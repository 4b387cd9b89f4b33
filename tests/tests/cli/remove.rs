//! The real `sifleet image rm` against a coordinator that says what it is told to say.

use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::stub::{Reply, Stub};
use crate::{code, err, out, run, sifleet};

fn plan(last: bool) -> String {
    json!({"image": "vnc_desktop.sif", "digest": "blake3:00", "size": 1024, "nodes": "viz[001-002]", "count": 2,
        "absent": "viz003", "deferred": "", "refused": [], "bytes": 2048, "left": if last { "" } else { "head" },
        "last": last, "later": "unheard of"})
    .to_string()
}

fn removal(state: &str, done: u32, failed: u32) -> Value {
    let phases =
        [("removing", 2 - done - failed, "viz001"), ("done", done, "viz001"), ("failed", failed, "viz002")];
    let phases: Vec<_> = phases
        .iter()
        .filter(|(_, count, _)| *count > 0)
        .map(|(phase, count, nodes)| json!({"phase": phase, "count": count, "nodes": nodes}))
        .collect();
    let reason = json!({"code": "busy", "count": failed, "nodes": "viz002", "message": "it is open",
        "hint": "wait for the jobs"});
    json!({"id": "r-000007", "image": "vnc_desktop.sif", "digest": "blake3:00", "size": 1024, "state": state,
        "root": null, "force": false, "when_idle": false, "created": "2026-03-01T12:00:00Z",
        "ended": if state == "running" { Value::Null } else { "2026-03-01T12:01:00Z".into() },
        "deadline": "2026-03-02T12:00:00Z", "nodes": 2, "phases": phases,
        "reasons": if failed > 0 { vec![reason] } else { vec![] }, "files": done, "freed": 1024 * done})
}

/// A coordinator whose removal runs once and then stands as `end`.
fn coordinator(end: &Value) -> Stub {
    let (posted, end) = (AtomicUsize::new(0), end.clone());
    Stub::http(move |asked| match asked {
        "POST /v1/removals" if posted.fetch_add(1, Ordering::Relaxed) == 0 => Reply::json(&plan(false)),
        "POST /v1/removals" => Reply::json(&removal("running", 0, 0).to_string()),
        "GET /v1/removals/r-000007" => Reply::json(&end.to_string()),
        _ => Reply::problem(404, "{}"),
    })
}

const RM: [&str; 5] = ["image", "rm", "vnc_desktop", "-p", "viz"];

#[test]
fn a_removal_is_planned_begun_watched_and_ends_with_its_code() {
    for (state, done, failed, expected) in [
        ("done", 2, 0, 0),
        ("partial", 1, 1, 3),
        ("failed", 0, 2, 1),
        ("cancelled", 1, 0, 3),
        ("cancelled", 0, 0, 1),
    ] {
        let stub = coordinator(&removal(state, done, failed));
        let output = run(&stub.url(), &[&RM[..], &["-y"]].concat());
        let (shown, told) = (out(&output), err(&output));
        assert_eq!(code(&output), expected, "{state}: {told}");
        assert!(
            shown.starts_with(&format!("removal r-000007: vnc_desktop.sif: {state} — gone from {done}")),
            "{shown}"
        );
        assert!(told.starts_with("vnc_desktop.sif goes from 2 nodes: 2.0 KiB\n"), "{told}");
        assert!(told.contains("r-000007: gone from 0 of 2 nodes; 2 removing\n"), "{told}");
        assert_eq!(told.contains("hint: busy (viz002): wait for the jobs\n"), failed > 0, "{told}");
        let bodies: Vec<Value> =
            stub.bodies().iter().take(2).map(|body| serde_json::from_str(body).unwrap()).collect();
        let mut asked = json!({"image": "vnc_desktop", "from": {"partition": "viz"}, "force": false,
            "when_idle": false, "dry_run": true});
        assert_eq!(bodies[0], asked);
        (asked["dry_run"], asked["digest"]) = (false.into(), "blake3:00".into());
        asked["image"] = "vnc_desktop.sif".into();
        assert_eq!(bodies[1], asked, "what was shown is what goes");
    }
}

#[test]
fn nothing_is_removed_without_a_yes() {
    let stub = coordinator(&removal("done", 2, 0));
    let output = sifleet().env("SIFLEET_URL", stub.url()).args(RM).stdin(Stdio::null()).output().unwrap();
    assert_eq!(code(&output), 2, "{}", err(&output));
    assert!(err(&output).contains("no terminal to ask on") && err(&output).contains("hint: add -y"));
    assert_eq!(stub.asked(), Vec::<String>::new());
}

#[test]
fn a_dry_run_shows_the_plan_in_every_format() {
    for (last, force, expected) in [(false, false, 0), (true, false, 1), (true, true, 0)] {
        let stub = Stub::http(move |_| Reply::json(&plan(last)));
        let force: &[&str] = if force { &["--force"] } else { &[] };
        let output = run(&stub.url(), &[&RM[..], &["--dry-run"], force].concat());
        assert_eq!(code(&output), expected, "{}", err(&output));
        assert!(
            out(&output).contains("do not have it") && out(&output).contains("viz003"),
            "{}",
            out(&output)
        );
        assert_eq!(err(&output).contains("--force"), last, "{}", err(&output));
        assert_eq!(stub.asked().len(), 1);
        let json = run(&stub.url(), &[&RM[..], &["--dry-run", "-o", "json"], force].concat());
        assert_eq!(out(&json), plan(last) + "\n");
    }
}

#[test]
fn everything_that_was_written_is_asked_for() {
    let stub = coordinator(&removal("done", 2, 0));
    let args = ["image", "rm", "a", "-w", "viz[001-002]", "--root", "/opt", "--force", "--when-idle"];
    let output = run(&stub.url(), &[&args[..], &["--deadline", "2h", "-y", "-o", "json"]].concat());
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(serde_json::from_str::<Value>(&out(&output)).unwrap(), removal("done", 2, 0));
    let body: Value = serde_json::from_str(&stub.bodies()[0]).unwrap();
    let asked = json!({"image": "a", "from": {"nodes": "viz[001-002]"}, "root": "/opt", "force": true,
        "when_idle": true, "deadline_s": 7200, "dry_run": true});
    assert_eq!(body, asked);
}

#[test]
fn the_last_replica_is_refused_with_no() {
    let problem = json!({"type": "about:blank", "title": "t", "status": 409, "code": "last_replica",
        "detail": "no ready replica would be left", "hint": "use force", "candidates": []});
    let (posted, problem) = (AtomicUsize::new(0), problem.to_string());
    let stub = Stub::http(move |_| match posted.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::json(&plan(true)),
        _ => Reply::problem(409, &problem),
    });
    let output = run(&stub.url(), &[&RM[..], &["-y"]].concat());
    assert_eq!(code(&output), 1, "{}", err(&output));
    assert!(err(&output).contains("no ready replica would be left [last_replica]"), "{}", err(&output));
}

#[test]
fn removals_are_listed_and_ended() {
    let list = json!({"removals": [removal("running", 1, 0)], "as_of": "2026-03-01T12:00:30Z"}).to_string();
    let stub = Stub::http(move |asked| match asked {
        "GET /v1/removals" => Reply::json(&list),
        "POST /v1/removals/r-000007/cancel" => Reply::json(&removal("cancelled", 1, 0).to_string()),
        _ => Reply::problem(404, "{}"),
    });
    let listed = run(&stub.url(), &["image", "removals"]);
    assert!(out(&listed).contains("r-000007") && out(&listed).contains("running"), "{}", out(&listed));
    let ended = run(&stub.url(), &["image", "removals", "--cancel", "r-000007"]);
    assert_eq!(code(&ended), 0, "{}", err(&ended));
    assert!(out(&ended).contains("cancelled"), "{}", out(&ended));
}
