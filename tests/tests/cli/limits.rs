//! The real `sifleet limits`, `node busy` and `node idle` against a coordinator that says what it is told to say.

use serde_json::{Value, json};

use crate::stub::{Reply, Stub};
use crate::{code, err, out, run};

fn limits() -> String {
    json!({"total": 2_000_000, "up": null, "down": null, "concurrent": null, "busy_up": 100_000, "busy_down": null,
        "busy_concurrent": 1, "busy": "viz001", "marked": "", "divided": 0, "share": 2_000_000,
        "as_of": "2026-03-01T12:00:00Z", "later": "unheard of"})
    .to_string()
}

#[test]
fn only_what_is_named_is_changed() {
    let stub = Stub::http(|_| Reply::json(&limits()));
    let all = ["--total", "2M", "--up", "none", "--down", "64MiB", "--concurrent", "3"];
    let busy = ["--busy-up", "100k", "--busy-down", "none", "--busy-concurrent", "none"];
    for (args, body) in [
        (&all[..2], json!({"total": 2_000_000})),
        (
            &[&all[..], &busy].concat()[..],
            json!({"total": 2_000_000, "up": null, "down": 64 << 20, "concurrent": 3, "busy_up": 100_000,
                "busy_down": null, "busy_concurrent": null}),
        ),
    ] {
        let output = run(&stub.url(), &[&["limits", "set"], args].concat());
        assert_eq!(code(&output), 0, "{}", err(&output));
        assert!(out(&output).starts_with("all nodes together fetch 2.0 MB/s"), "{}", out(&output));
        assert_eq!(stub.asked().last().unwrap(), "PATCH /v1/limits");
        assert_eq!(serde_json::from_str::<Value>(stub.bodies().last().unwrap()).unwrap(), body);
    }
    let shown = run(&stub.url(), &["limits", "show", "-o", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&out(&shown)).unwrap()["later"], "unheard of");
    assert_eq!(stub.asked().last().unwrap(), "GET /v1/limits");
}

#[test]
fn nothing_to_set_and_what_cannot_be_set_is_refused_before_anybody_is_asked() {
    for (args, says) in [
        (&["limits", "set"][..], "--total"),
        (&["limits", "set", "--up", "fast"], "write a rate"),
        (&["limits", "set", "--concurrent", "65"], "1 to 64"),
    ] {
        let output = run("http://127.0.0.1:1", args);
        assert_eq!(code(&output), 2, "{args:?}: {}", err(&output));
        assert!(err(&output).contains(says), "{}", err(&output));
    }
}

#[test]
fn marking_ends_with_who_is_marked() {
    for (answer, expected) in [
        (json!({"nodes": "viz[1-2]", "unheard_of": ""}), 0),
        (json!({"nodes": "viz1", "unheard_of": "viz2"}), 3),
        (json!({"nodes": "", "unheard_of": "viz[1-2]"}), 12),
    ] {
        let stub = Stub::http(move |_| Reply::json(&answer.to_string()));
        for verb in ["busy", "idle"] {
            assert_eq!(code(&run(&stub.url(), &["node", verb, "viz[1-2]"])), expected);
            assert_eq!(stub.asked().last().unwrap(), &format!("POST /v1/nodes/viz%5B1-2%5D/{verb}"));
        }
    }
}
