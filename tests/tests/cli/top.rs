//! The real `sifleet top` against a coordinator that says what it is told to say; and how pushes are called in help
//! texts, held against what the coordinator understands.

use serde_json::{Value, json};
use sifleet_coordinator::store::push::PushNo;
use sifleet_coordinator::store::removal::RemovalNo;

use crate::push::push;
use crate::stub::{Reply, Stub};
use crate::{code, err, out, run, sifleet};

#[test]
fn pushes_and_removals_are_called_as_the_help_calls_them() {
    let mut seen = 0;
    for (verb, flag) in [
        (["push", "show"], "show"),
        (["push", "watch"], "watch"),
        (["push", "cancel"], "cancel"),
        (["push", "retry"], "retry"),
        (["push", "rate"], "rate"),
        (["image", "removals"], "--cancel"),
    ] {
        let help = out(&sifleet().args(verb).arg("--help").output().unwrap());
        let (_, examples) = help.split_once("Examples:").unwrap();
        let words: Vec<&str> = examples.split_whitespace().collect();
        for pair in words.windows(2).filter(|pair| pair[0] == flag && pair[1] != "--help") {
            let known = match verb[0] {
                "push" => pair[1].parse::<PushNo>().is_ok(),
                _ => pair[1].parse::<RemovalNo>().is_ok(),
            };
            assert!(known, "{verb:?}: {}", pair[1]);
            seen += 1;
        }
    }
    assert!(seen >= 9, "{seen} examples");
}

#[test]
fn top_as_json_tells_the_nodes_of_what_runs() {
    let mut others = push("done", 2, 0);
    others["id"] = "6".into();
    let mut forgotten = push("running", 0, 0);
    forgotten["id"] = "5".into();
    let list = json!({"pushes": [push("running", 0, 0), others, forgotten], "as_of": "2026-03-01T12:00:00Z"});
    let list = list.to_string();
    let node = json!({"node": "viz001", "phase": "fetching", "code": null, "message": null, "hint": null,
        "root": null, "fetched": 500, "reused": 0, "resumed": 0, "wasted": 0, "rate": 77, "sources": [],
        "started": null, "ended": null});
    let nodes = json!({"nodes": [node], "as_of": "2026-03-01T12:00:00Z"}).to_string();
    let unknown = json!({"type": "about:blank", "title": "no such push", "status": 404, "code": "unknown_push",
        "detail": "", "hint": "", "request_id": "1"});
    let unknown = unknown.to_string();
    let stub = Stub::http(move |asked| match asked {
        "GET /v1/pushes" => Reply::json(&list),
        "GET /v1/pushes/7/nodes" => Reply::json(&nodes),
        _ => Reply::problem(404, &unknown),
    });
    let output = run(&stub.url(), &["top", "-o", "json"]);
    let told: Value = serde_json::from_str(&out(&output)).unwrap_or_else(|_| panic!("{}", err(&output)));
    assert_eq!((code(&output), told["pushes"].as_array().unwrap().len()), (0, 3));
    let first = &told["pushes"][0];
    assert_eq!((&first["by_node"][0]["rate"], &first["later"]), (&json!(77), &json!("unheard of")));
    assert!(told["pushes"][1].get("by_node").is_none() && told["pushes"][2].get("by_node").is_none());
    assert_eq!(code(&run(&stub.url(), &["top"])), 0, "one that is forgotten meanwhile ends nothing");
}
