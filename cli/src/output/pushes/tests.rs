//! Pushes as people and programs see them.
#![cfg(test)]

use sifleet_common::api::availability::PathNodes;
use sifleet_common::api::pushes::DroppedSource;
use sifleet_common::push::{FailCode, Fault};

use super::super::samples::{NOW, both, plain, push, push_node};
use super::*;

#[test]
fn a_push_is_shown_by_phase_with_reasons_and_what_to_do() {
    let mut partial = push(PushState::Partial);
    partial.dropped =
        vec![DroppedSource { node: "viz009".into(), fault: Fault::Poisoned, by: "viz001".into() }];
    assert_eq!(
        both(&partial, false),
        "\
push 7: vnc_desktop.sif: partial — on 2 of 5 nodes
  fetching  1  viz003
  done      2  viz[001-002]
  failed    1  viz004
  deferred  1  viz005
  bytes  1.9 MiB fetched, 488 KiB reused
  no_space  1  viz004  /opt has 5 bytes free
---
warning: viz009 is left alone as a source: poisoned, says viz001
hint: remove images from the root, or name another one with --root; tried again when there is space
hint: `sifleet push retry 7` tries the failed nodes again
"
    );
    assert_eq!(partial.names(), ["7"]);
    let reason = |code: &str, message: &str, hint: &str| PushReason {
        code: code.into(),
        count: 1,
        nodes: "viz009".into(),
        message: message.into(),
        hint: hint.into(),
    };
    partial.reasons.push(reason("deferred", "silent for an hour", "nothing: it goes on by itself"));
    partial.bytes = PushBytes::default();
    let shown = both(&partial, false);
    assert!(shown.contains("  deferred  1  viz005        silent for an hour\n  no_space"), "{shown}");
    assert!(!shown.contains("nothing: it") && !shown.contains("  bytes"), "{shown}");
    assert_eq!(shown.matches("deferred").count(), 1, "{shown}");
    partial.reasons.push(reason("io", "bad disk", "look into the log"));
    assert!(both(&partial, false).contains("hint: io (viz009): look into the log\n"));
    partial.reasons = vec![reason("no_root", "none", "name another")];
    assert!(!both(&partial, false).contains("push retry"), "that would fail again");
    partial = push(PushState::Partial);
    assert_eq!(partial.csv().to_string().lines().last(), Some(",no_space,1,viz004,/opt has 5 bytes free"));
    assert!(plain(&partial, true).contains("the first root of each node"));
}

#[test]
fn a_list_has_a_line_for_each_push() {
    let list = PushList { pushes: vec![push(PushState::Running)], as_of: NOW.into() };
    assert_eq!(
        plain(&list, false),
        "\
ID  IMAGE            STATE    DONE  NODES  BYTES      RATE  AGE
7   vnc_desktop.sif  running     2      5   50 %  100 kB/s  60s
"
    );
    assert!(plain(&PushList { pushes: vec![], as_of: NOW.into() }, false).starts_with("no pushes"));
}

#[test]
fn a_plan_says_who_gets_what_and_how_long_it_takes() {
    let mut plan = PushPlan {
        image: "vnc_desktop.sif".into(),
        digest: push(PushState::Running).digest,
        size: 1_000_000,
        nodes: "viz[001-002]".into(),
        count: 2,
        ready: "viz003".into(),
        deferred: String::new(),
        refused: vec![],
        sources: "head".into(),
        replaces: String::new(),
        roots: vec![PathNodes { path: "/opt/apptainers".into(), count: 2, nodes: "viz[001-002]".into() }],
        upload: None,
        bytes: 2_000_000,
        seconds: Some(75),
    };
    assert_eq!(
        both(&plan, false),
        "\
vnc_desktop.sif onto 2 nodes: 1.9 MiB at most, 1m15s at least
  nodes            viz[001-002]
  have it already  viz003
  from             head
  below            /opt/apptainers
  image            blake3:000000000000
  space on each    976 KiB
---
"
    );
    plan.seconds = Some(0);
    assert!(!both(&plan, false).contains("at least"), "that says nothing");
    plan.refused = push(PushState::Failed).reasons;
    assert!(both(&plan, false).contains("no_space  1  viz004"));
    assert_eq!(plan.names(), ["viz[001-002]"]);
    (plan.replaces, plan.upload) = ("viz001".into(), Some(1_000_000));
    let shown = both(&plan, false);
    assert!(shown.contains("\n  into the library first  976 KiB\n"), "{shown}");
    assert!(shown.contains("\n  hold another version    viz001\n"), "{shown}");
}

#[test]
fn node_by_node_the_reason_stands_beside_the_bytes() {
    let mut failed = push_node("viz004", 0, 0);
    (failed.phase, failed.code, failed.message) =
        (Phase::Failed, Some(FailCode::NoSpace), Some("full".into()));
    let nodes = PushNodes { nodes: vec![push_node("viz003", 2048, 1024), failed], as_of: NOW.into() };
    assert_eq!(
        plain(&nodes, false),
        "\
NODE    PHASE     FETCHED  REUSED  RESUMED      RATE  WHY
viz003  fetching  2.0 KiB     0 B      0 B  1.0 kB/s
viz004  failed        0 B     0 B      0 B            no_space: full
"
    );
    assert!(plain(&nodes, true).contains("head 2.0 KiB"));
}

#[test]
fn bytes_that_were_of_no_use_are_beside_those_that_came() {
    let mut bytes = push(PushState::Running).bytes;
    assert_eq!(moved(&bytes), 2_500_000);
    bytes.wasted = 3_000_000;
    assert_eq!(moved(&bytes), 2_500_000, "they are not among the fetched ones");
    bytes.present = u64::MAX;
    assert_eq!(moved(&bytes), 5_000_000);
}
