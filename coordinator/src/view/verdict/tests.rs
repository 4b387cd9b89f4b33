//! Verdicts, asked of the real state.

use std::collections::BTreeMap;
use std::sync::Arc;

use sifleet_common::inventory::{Change, RootState, UnusableCode};
use sifleet_common::policy::{Verdict, Why};

use super::*;
use crate::state::testing::{Site, digest, image, library, pending, root, unusable};

const KEY: Fingerprint = Fingerprint::Pgp([7; 20]);

fn question<'a>(image: &'a str, require: &str) -> Question<'a> {
    let require = require.parse().unwrap();
    Question { image, partition: "p", nodes: None, require, digest: None, signer: None }
}

fn ask(site: &mut Site, question: &Question<'_>) -> (Satisfied, &'static str, String) {
    let now = site.now;
    let finding = site.view().verdict(question, now);
    (finding.satisfied, finding.reason.code(), finding.facts.nodes)
}

#[track_caller]
fn check(site: &mut Site, question: &Question<'_>, satisfied: Satisfied, code: &str, nodes: &str) {
    assert_eq!(ask(site, question), (satisfied, code, nodes.to_owned()), "{question:?}");
}

fn watched() -> Change {
    root(RootState::Watched)
}

/// Three nodes: the first holds the image, the second another one, the third was never heard.
fn site() -> Site {
    let mut site = Site::new();
    site.partition("p", "n[1-3]");
    site.agent("head", vec![library(RootState::Watched), image("a.sif", 1)]);
    site.agent("n1", vec![watched(), image("a.sif", 1), image("b.sif", 5)]);
    site.agent("n2", vec![watched(), image("a.sif", 2), image("b.sif", 5)]);
    site
}

#[test]
fn enough_ready_nodes_are_a_yes_and_a_silent_node_is_never_one() {
    let mut site = site();
    check(&mut site, &question("a", "any"), Satisfied::Yes, "ready", "n1");
    check(&mut site, &question("b", "2"), Satisfied::Yes, "ready", "n[1-2]");
    check(&mut site, &question("b", "all"), Satisfied::Unknown, "never_seen", "n3");
    check(&mut site, &question("a", "all"), Satisfied::No, "outdated", "n2");
    site.outlive(&["head", "n2"]);
    let heard: NodeSet = "n[1-2]".parse().unwrap();
    let of_two = Question { nodes: Some(&heard), ..question("b", "2") };
    check(&mut site, &of_two, Satisfied::Unknown, "lease_expired", "n1");
}

#[test]
fn what_is_missing_is_told_from_what_is_not_known() {
    let mut site = Site::new();
    site.partition("p", "n[1-3]");
    site.agent("n1", vec![watched()]);
    site.agent("n2", vec![watched(), pending("a.sif")]);
    site.agent("n3", vec![watched(), unusable("b.sif", UnusableCode::Truncated), image("c.sif", 1)]);
    check(&mut site, &question("a", "any"), Satisfied::Unknown, "being_written", "n2");
    check(&mut site, &question("a", "all"), Satisfied::No, "missing", "n[1,3]");
    check(&mut site, &question("c", "all"), Satisfied::No, "missing", "n[1-2]");
    check(&mut site, &question("b", "all"), Satisfied::No, "missing", "n[1-2]");
    let third: NodeSet = "n3".parse().unwrap();
    let only = Question { nodes: Some(&third), ..question("b", "all") };
    check(&mut site, &only, Satisfied::No, "unusable", "n3");
    check(&mut site, &question("c", "4"), Satisfied::No, "too_few_nodes", "");
    check(&mut site, &question("no-such", "any"), Satisfied::No, "unknown_image", "");
    check(&mut site, &question("/", "any"), Satisfied::No, "bad_image", "");
    let elsewhere = Question { partition: "q", ..question("c", "any") };
    check(&mut site, &elsewhere, Satisfied::No, "unknown_partition", "");
}

#[test]
fn some_nodes_alone_can_be_asked_about() {
    let mut site = site();
    site.agent("other", vec![watched()]);
    let mut check = |nodes: &str, satisfied, code, named| {
        let nodes: NodeSet = nodes.parse().unwrap();
        let question = Question { nodes: Some(&nodes), ..question("a", "all") };
        check(&mut site, &question, satisfied, code, named);
    };
    check("n1", Satisfied::Yes, "ready", "n1");
    check("n[1-2]", Satisfied::No, "outdated", "n2");
    check("n[1,3]", Satisfied::Unknown, "never_seen", "n3");
    check("n1,nobody[1-2]", Satisfied::Unknown, "unknown_node", "nobody[1-2]");
    check("n1,other", Satisfied::No, "node_elsewhere", "other");
}

#[test]
fn bytes_that_are_asked_for_are_the_only_ones_that_count() {
    let mut site = site();
    let second = Question { digest: Some(digest(2)), ..question("a", "any") };
    check(&mut site, &second, Satisfied::Yes, "ready", "n2");
    let all = Question { digest: Some(digest(2)), ..question("a", "2") };
    let nodes: NodeSet = "n[1-2]".parse().unwrap();
    let two = Question { nodes: Some(&nodes), ..all };
    check(&mut site, &two, Satisfied::No, "wrong_digest", "n1");
    let named = format!("a@{}", digest(1));
    let contradiction = Question { digest: Some(digest(2)), ..question(&named, "any") };
    check(&mut site, &contradiction, Satisfied::No, "bad_image", "");
    let agreed = Question { digest: Some(digest(1)), ..question(&named, "any") };
    check(&mut site, &agreed, Satisfied::Yes, "ready", "n1");
}

#[test]
fn a_signer_who_is_asked_for_must_have_signed_what_is_ready() {
    let mut site = site();
    let now = site.now;
    let asked = Question { signer: Some(KEY), ..question("b", "2") };
    let mut check = |known: Option<Verdict>, satisfied, code: &str| {
        let mut view = site.view();
        let known = known.into_iter().map(|verdict| (digest(5), verdict));
        view.signed = Arc::new(known.collect::<BTreeMap<_, _>>());
        let finding = view.verdict(&asked, now);
        assert_eq!((finding.satisfied, finding.reason.code()), (satisfied, code));
        finding.unverified
    };
    assert_eq!(check(None, Satisfied::Unknown, "signature_unknown"), [digest(5)]);
    assert_eq!(check(Some(Verdict::Signed { by: [KEY].into() }), Satisfied::Yes, "ready"), []);
    check(Some(Verdict::Unsigned), Satisfied::No, "not_signed");
    let other = Fingerprint::Pgp([8; 20]);
    check(Some(Verdict::Signed { by: [other].into() }), Satisfied::No, "signer_not_trusted");
    check(Some(Verdict::Bad { object: None, why: Why::Data }), Satisfied::No, "signature_bad");
}

#[test]
fn an_image_that_nobody_holds_is_not_made_ready_by_a_signature() {
    let mut site = site();
    let asked = Question { signer: Some(KEY), ..question("b", "all") };
    check(&mut site, &asked, Satisfied::Unknown, "never_seen", "n3");
}

#[test]
fn all_bytes_that_nodes_hold_must_be_signed_however_many_there_are() {
    let mut site = Site::new();
    site.partition("p", "n[1-40]");
    for node in 1..=40 {
        site.agent(&format!("n{node}"), vec![watched(), image("a.sif", node)]);
    }
    let asked = Question { signer: Some(KEY), ..question("a", "all") };
    let now = site.now;
    for last in [40, 1] {
        let mut view = site.view();
        let signed = (1..=40).filter(|bytes| *bytes != last);
        let signed = signed.map(|bytes| (digest(bytes), Verdict::Signed { by: [KEY].into() }));
        view.signed = Arc::new(signed.collect::<BTreeMap<_, _>>());
        let finding = view.verdict(&asked, now);
        assert_eq!((finding.satisfied, finding.unverified), (Satisfied::Unknown, vec![digest(last)]));
    }
    let finding = site.view().verdict(&asked, now);
    assert_eq!((finding.satisfied, finding.unverified.len()), (Satisfied::Unknown, 32), "others come next");
}
