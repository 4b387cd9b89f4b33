//! What the real `sifleet push` does before there is a push: whom it asks, what it sends, what it says.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sifleet_coordinator::store::limits::LEAST_RATE;
use sifleet_tests::sif::SifBuilder;

use crate::push::{events_in, library_routes, plan, problem, push};
use crate::stub::{Reply, Stub};
use crate::{code, err, out, run, sifleet};

fn image(dir: &Path) -> (String, Vec<u8>) {
    let path = dir.join("l.sif");
    let bytes = SifBuilder::new().payload_bytes(1 << 20, 3).bytes();
    std::fs::write(&path, &bytes).unwrap();
    (path.to_str().unwrap().to_owned(), bytes)
}

/// What is known of an image that the library holds, in other bytes.
fn held(name: &str, in_library: bool) -> Value {
    held_as(name, in_library, &format!("blake3:{}", "5".repeat(64)))
}

fn held_as(name: &str, in_library: bool, digest: &str) -> Value {
    json!({"name": name, "drift": false, "nodes": "head", "count": 1, "last_known": "", "digests": [
        {"digest": digest, "size": 5, "arch": "amd64", "format": "sif", "mutable": false,
         "in_library": in_library, "count": 1, "nodes": "head"}]})
}

fn detail(name: &str) -> String {
    json!({"summary": held(name, true), "paths": [], "problems": [], "metadata": [],
        "as_of": "2026-03-01T12:00:00Z"})
    .to_string()
}

/// Answers that the library holds other bytes under the name of a file until it was asked `looks` times, then the file's.
fn changing(bytes: &[u8], looks: usize) -> impl Fn() -> Reply + Send + 'static {
    let (asked, digest) = (AtomicUsize::new(0), format!("blake3:{}", blake3::hash(bytes).to_hex()));
    move || {
        if asked.fetch_add(1, Ordering::Relaxed) < looks {
            return Reply::json(&detail("l.sif"));
        }
        let mut detail: Value = serde_json::from_str(&detail("l.sif")).unwrap();
        detail["summary"] = held_as("l.sif", true, &digest);
        Reply::json(&detail.to_string())
    }
}

fn is_dry(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|body| body["dry_run"] == true)
}

#[test]
fn bytes_that_are_known_elsewhere_are_pushed_once_the_library_shows_their_new_name() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = image(dir.path());
    let shown = changing(&bytes, 3);
    let stub = Stub::http_with_body(move |asked, body| {
        match asked {
        "GET /v1/images/l.sif" => shown(),
        "POST /v1/library/uploads" => Reply::json(
            &json!({"state": "deduplicated", "id": null, "offset": 0, "name": "l.sif", "size": 1, "digest": "blake3:00"})
                .to_string(),
        ),
        "POST /v1/pushes" if is_dry(body) => Reply::json(&plan()),
        "POST /v1/pushes" | "GET /v1/pushes/7" => Reply::json(&push("done", 2, 0).to_string()),
        _ => Reply::problem(404, "{}"),
    }
    });
    let output = run(&stub.url(), &["push", &path, "-p", "viz", "--progress", "json"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(events_in(&output).contains(&"waiting".to_owned()), "{}", out(&output));
    let asked = stub.asked();
    let looks = asked.iter().filter(|asked| *asked == "GET /v1/images/l.sif").count();
    assert_eq!(looks, 4, "one look at what is replaced, and until the name is there: {asked:?}");
}

#[test]
fn a_target_that_cannot_be_meant_is_refused_before_a_byte_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = image(dir.path());
    let stub = Stub::http(|_| problem(404, "unknown_partition"));
    let output = run(&stub.url(), &["push", &path, "-p", "nosuch"]);
    assert_eq!(code(&output), 12, "{}", err(&output));
    assert_eq!(stub.asked(), ["POST /v1/pushes"]);

    let mut nobody: Value = serde_json::from_str(&plan()).unwrap();
    (nobody["nodes"], nobody["count"]) = ("".into(), 0.into());
    nobody["refused"] = json!([{"code": "no_root", "count": 2, "nodes": "viz[001-002]",
        "message": "no such root at present: /nope", "hint": "name a directory"}]);
    let nobody = nobody.to_string();
    let stub = Stub::http(move |asked| match asked {
        "POST /v1/pushes" => Reply::json(&nobody),
        _ => problem(404, "unknown_image"),
    });
    let output = run(&stub.url(), &["push", &path, "-p", "viz", "--root", "/nope"]);
    assert_eq!((code(&output), out(&output).as_str()), (1, ""), "{}", err(&output));
    for part in ["no such root at present: /nope", "hint: name a directory", "nothing was sent"] {
        assert!(err(&output).contains(part), "{part}: {}", err(&output));
    }
    assert_eq!(stub.asked(), ["POST /v1/pushes", "GET /v1/images/l.sif"]);
}

#[test]
fn an_image_of_the_library_that_is_replaced_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = image(dir.path());
    let stub = || {
        let (others, shown) = (library_routes(&Arc::default(), None, bytes.len()), changing(&bytes, 1));
        Stub::http_with_body(move |asked, body| match asked {
            "GET /v1/images/l.sif" => shown(),
            _ => others(asked, body),
        })
    };
    let words = "replaces l.sif in the library (blake3:555555555555)";
    for more in [&["--dry-run"][..], &[], &["-y"]] {
        let output = run(&stub().url(), &[&["push", &path, "-p", "viz"], more].concat());
        assert_eq!(code(&output), 0, "{}", err(&output));
        assert!(err(&output).contains(words), "{more:?}: {}", err(&output));
    }
    let output = run(&stub().url(), &["push", &path, "-p", "viz", "--progress", "json"]);
    let mut kinds = events_in(&output);
    kinds.dedup();
    assert_eq!(
        kinds,
        [
            "hashing",
            "replaces",
            "uploading",
            "verifying",
            "published",
            "waiting",
            "plan",
            "begun",
            "push",
            "ended"
        ],
        "{}",
        out(&output)
    );
    // Another one that is only called alike is not meant.
    let alike = Stub::http(|asked| match asked {
        "GET /v1/images/l.sif" => Reply::json(&detail("viz/l.sif")),
        _ => Reply::json(&plan()),
    });
    assert!(!err(&run(&alike.url(), &["push", &path, "-p", "viz", "--dry-run"])).contains("replaces"));
}

#[test]
fn ctrl_c_before_there_is_a_push_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = image(dir.path());
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = sifleet();
    command.env("SIFLEET_URL", format!("http://{}", silent.local_addr().unwrap()));
    command.args(["push", &path, "-p", "viz"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap());
    let mut first = String::new();
    // The file is read after the signal is listened to.
    told.read_line(&mut first).unwrap();
    assert!(first.starts_with("hashing: "), "{first}");
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::INT).unwrap();
    let rest: Vec<String> = told.lines().map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(
        rest.last().map(String::as_str),
        Some("hint: nothing is pushed yet; run it again: the upload goes on where it was")
    );
}

#[test]
fn nothing_is_done_to_a_push_that_ended() {
    for (state, done, failed, verb, acts) in [
        ("done", 2, 0, &["cancel", "7"][..], false),
        ("done", 2, 0, &["retry", "7"], false),
        ("done", 2, 0, &["rate", "7", "50M"], false),
        ("cancelled", 1, 1, &["rate", "7", "50M"], false),
        ("partial", 1, 1, &["cancel", "7"], false),
        ("partial", 1, 1, &["retry", "7"], true),
        ("partial", 1, 1, &["rate", "7", "50M"], true),
        ("running", 1, 0, &["cancel", "7"], true),
    ] {
        let stub = Stub::http(move |_| Reply::json(&push(state, done, failed).to_string()));
        let output = run(&stub.url(), &[&["push"], verb].concat());
        assert_eq!(code(&output), 0, "{}", err(&output));
        assert_eq!(stub.asked().iter().any(|asked| asked.starts_with("POST ")), acts, "{state} {verb:?}");
        let told = err(&output).contains(&format!("hint: nothing to do: it ended ({state})"));
        assert_eq!(told, !acts, "{}", err(&output));
    }
}

#[test]
fn a_refusal_says_which_file_or_image_was_perhaps_meant() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::File::create(dir.path().join("junk.bin")).unwrap().write_all(b"x").unwrap();
    let stub = Stub::http(|_| problem(404, "unknown_image"));
    let mut command = sifleet();
    command.current_dir(dir.path()).args(["--url", &stub.url(), "push", "junk.bin", "-p", "viz"]);
    let output = command.output().unwrap();
    assert_eq!(code(&output), 12);
    assert!(
        err(&output)
            .starts_with("error: d [unknown_image]\nhint: for the file of this machine write ./junk.bin\n")
    );

    let list = json!({"images": [held("openfoam.sif", false), held("compute/openfoam.sif", true)],
        "next_cursor": null, "as_of": "2026-03-01T12:00:00Z"});
    let list = list.to_string();
    let stub = Stub::http(move |asked| match asked {
        "GET /v1/images?q=openfoam" => Reply::json(&list),
        _ => problem(409, "images_differ"),
    });
    let output = run(&stub.url(), &["push", "openfoam", "-w", "viz001"]);
    assert_eq!(code(&output), 2);
    let hint = "hint: the library has compute/openfoam.sif: push it with -p compute, or name its bytes: openfoam@blake3:555555555555\n";
    assert!(err(&output).contains(hint), "{}", err(&output));
}

#[test]
fn rates_that_the_coordinator_would_refuse_are_not_even_asked_for() {
    let rate = |bytes: u64| format!("{bytes}B");
    let least = run("http://127.0.0.1:1", &["push", "rate", "7", &rate(LEAST_RATE)]);
    let lower = run("http://127.0.0.1:1", &["push", "rate", "7", &rate(LEAST_RATE - 1)]);
    assert_eq!((code(&least), code(&lower)), (10, 2));
}

#[test]
fn nodes_are_marked_by_name_and_strangers_are_an_error() {
    let marked = |nodes: &'static str, strangers: &'static str| {
        Stub::http(move |_| Reply::json(&json!({"nodes": nodes, "unheard_of": strangers}).to_string()))
    };
    let output = run(&marked("viz001", "").url(), &["node", "busy", "viz001"]);
    assert_eq!((code(&output), out(&output).as_str()), (0, "marked as busy: viz001\n"));
    let output = run(&marked("viz001", "nosuch").url(), &["node", "idle", "viz001,nosuch"]);
    assert_eq!((code(&output), out(&output).as_str()), (3, "no longer marked as busy: viz001\n"));
    assert_eq!(err(&output), "warning: no node is called nosuch\n");
    let output = run(&marked("", "nosuch").url(), &["node", "busy", "nosuch"]);
    assert_eq!((code(&output), out(&output).as_str()), (12, ""));
    assert!(err(&output).starts_with("error: no node is called nosuch\n"), "{}", err(&output));
}
