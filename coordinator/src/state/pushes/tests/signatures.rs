//! Partitions that ask for signatures: who is asked, who is told what, and who gets nothing.

use std::sync::Arc;

use sifleet_common::api::pushes::PushTarget;
use sifleet_common::digest::Digest;
use sifleet_common::keyring::KeyMaterial;
use sifleet_common::policy::{Fingerprint, Policy, Verdict, Why};
use sifleet_common::push::{FailCode, Phase};
use sifleet_common::wire::assignment::{Order, Report, Verified};

use super::lab::{Lab, partition, request};
use super::site;
use crate::state::Event;
use crate::state::pushes::Rules;
use crate::state::testing::{digest, image};

fn key(number: u8) -> Fingerprint {
    Fingerprint::Plain([number; 32])
}

fn keyring(number: u8) -> Arc<KeyMaterial> {
    Arc::new(KeyMaterial { legacy: false, openpgp: Vec::new(), plain: vec![vec![number]] })
}

fn rules(policy: Policy) -> Rules {
    Rules {
        keyring: keyring(1),
        everywhere: Policy::Any,
        partitions: [("p".parse().unwrap(), policy)].into(),
    }
}

fn signed_by(number: u8) -> Verdict {
    Verdict::Signed { by: [key(number)].into() }
}

/// Nodes of partition `p`, whose policy this is.
fn site_with(nodes: &str, policy: Policy) -> Lab {
    let mut lab = site(nodes);
    heed(&mut lab, rules(policy));
    lab
}

fn heed(lab: &mut Lab, rules: Rules) {
    lab.event(Event::Signatures(Box::new(rules)));
}

fn is_asked(lab: &Lab, node: &str) -> usize {
    lab.orders(node).iter().filter(|order| matches!(order, Order::Verify { .. })).count()
}

fn answer(lab: &mut Lab, node: &str, keys: u8, verdict: Option<Verdict>) {
    let keyring = keyring(keys).digest();
    let verified = Verified { image: digest(1), keyring, verdict, detail: String::new() };
    lab.reports(node, Report::Verified(verified));
}

/// Returns the policies a node was told with its assignments; none for one without.
fn told(lab: &Lab, node: &str) -> Vec<Option<Policy>> {
    let policy = |order: Order| {
        let plain = matches!(order, Order::Assign(_)).then_some(None);
        if let Order::AssignUnder { policy, .. } = order { Some(Some(policy)) } else { plain }
    };
    lab.orders(node).into_iter().filter_map(policy).collect()
}

fn keyrings(lab: &Lab, node: &str) -> Vec<Digest> {
    let keyring = |order| if let Order::Keyring(keyring) = order { Some(keyring.digest()) } else { None };
    lab.orders(node).into_iter().filter_map(keyring).collect()
}

#[test]
fn a_holder_says_who_signed_and_every_node_hears_what_is_asked_and_whose_keys_count() {
    let policy = Policy::signed_by([key(7)].into());
    let mut lab = site_with("n[1-2]", policy.clone());
    let push = lab.push(&request("a", partition()));
    assert_eq!(lab.body(push).reasons[0].message, "the image's signatures are being verified");
    assert_eq!((is_asked(&lab, "head"), keyrings(&lab, "head").len()), (1, 1));
    assert!(lab.makers().is_empty(), "nothing moves before it is known");
    answer(&mut lab, "head", 1, Some(signed_by(7)));
    lab.map("head");
    for node in ["n1", "n2"] {
        assert_eq!(told(&lab, node), [Some(policy.clone())]);
        assert_eq!(keyrings(&lab, node), [keyring(1).digest()]);
        let first = lab
            .orders(node)
            .into_iter()
            .find(|order| matches!(order, Order::Keyring(_) | Order::AssignUnder { .. } | Order::Assign(_)));
        assert!(matches!(first, Some(Order::Keyring(_))), "keys come before what needs them");
    }
    lab.change("n1", vec![image("a.sif", 1)]);
    lab.change("n2", vec![image("a.sif", 1)]);
    assert_eq!(lab.shown(push), "done n[1-2]");
}

#[test]
fn nodes_whose_policy_the_image_cannot_meet_fail_at_once_and_are_not_tried_again() {
    let unknown = Verdict::UnknownKey { signature: 4, key: "ABCD".into() };
    let bad = Verdict::Bad { object: Some(3), why: Why::Data };
    for (verdict, code, words) in [
        (Verdict::Unsigned, FailCode::NotSigned, "not signed"),
        (bad, FailCode::SignatureBad, "object 3: its data were changed after signing"),
        (unknown, FailCode::SignerNotTrusted, "signature 4 is by key ABCD, which is not in the keyring"),
    ] {
        let mut lab = site_with("n[1-2]", Policy::Signed);
        lab.site_partition("p", "n1");
        let push = lab.push(&request("a", PushTarget::Nodes("n[1-2]".into())));
        answer(&mut lab, "head", 1, Some(verdict));
        lab.map("head");
        assert_eq!(lab.shown(push), "waiting n2; failed n1");
        let node = lab.node(push, "n1");
        assert_eq!((node.code, node.message.as_deref()), (Some(code), Some(words)));
        assert!(told(&lab, "n1").is_empty() && told(&lab, "n2") == [None], "n2 asks for nothing");
        lab.pass(3_600);
        assert!(told(&lab, "n1").is_empty());
        assert_eq!(is_asked(&lab, "head"), 1, "what is known is not asked again");
        lab.retry(push);
        assert_eq!(lab.node(push, "n1").code, Some(code));
    }
}

#[test]
fn a_node_of_several_partitions_hears_what_all_of_them_ask() {
    let mut lab = site("n[1-2]");
    let one = Policy::signed_by([key(1), key(2)].into());
    let two = Policy::signed_by([key(2), key(3)].into());
    let partitions = [("p".parse().unwrap(), one.clone()), ("q".parse().unwrap(), two.clone())].into();
    heed(&mut lab, Rules { keyring: keyring(1), everywhere: Policy::Signed, partitions });
    lab.site_partitions(&[("p", "n[1-2]"), ("q", "n2")]);
    let push = lab.push(&request("a", partition()));
    answer(&mut lab, "head", 1, Some(signed_by(1)));
    lab.map("head");
    assert_eq!(lab.shown(push), "waiting n1; failed n2");
    assert_eq!(told(&lab, "n1"), [Some(one)]);
    assert!(lab.node(push, "n2").message.unwrap().contains(&key(3).to_string()));
}

#[test]
fn a_push_goes_on_to_the_gates_when_nobody_can_say() {
    let mut lab = site_with("n1", Policy::Signed);
    let push = lab.push(&request("a", partition()));
    answer(&mut lab, "head", 1, None);
    lab.map("head");
    assert_eq!(told(&lab, "n1"), [Some(Policy::Signed)]);
    lab.fails("n1", FailCode::NotSigned);
    assert_eq!(lab.shown(push), "failed n1");
    lab.pass(3_600);
    assert_eq!(told(&lab, "n1").len(), 1, "the same image does not become signed");
}

#[test]
fn one_that_is_silent_is_given_up_and_one_whose_session_ends_is_replaced() {
    let mut lab = site_with("n[1-3]", Policy::Signed);
    lab.change("n2", vec![image("a.sif", 1)]);
    lab.change("n3", vec![image("a.sif", 1)]);
    lab.push(&request("a", partition()));
    assert_eq!(is_asked(&lab, "head"), 1, "the library comes first");
    lab.pass(305);
    assert_eq!((is_asked(&lab, "n2"), is_asked(&lab, "n3")), (1, 0));
    lab.lose("n2");
    assert_eq!(is_asked(&lab, "n3"), 1);
    answer(&mut lab, "head", 1, Some(signed_by(1)));
    assert!(lab.makers().is_empty(), "whoever was given up says nothing any longer");
    answer(&mut lab, "n3", 2, Some(Verdict::Unsigned));
    lab.map("head");
    assert_eq!(
        told(&lab, "n1"),
        [Some(Policy::Signed)],
        "a verdict by other keys is none, and the gate decides"
    );
}

#[test]
fn other_rules_are_said_to_agents_at_work_and_found_out_anew() {
    let mut lab = site_with("n[1-2]", Policy::Any);
    let push = lab.push(&request("a", partition()));
    lab.map("head");
    assert_eq!((told(&lab, "n1"), keyrings(&lab, "n1").len()), (vec![None], 0));
    heed(&mut lab, rules(Policy::Signed));
    assert_eq!((told(&lab, "n1"), keyrings(&lab, "n1").len()), (vec![None, Some(Policy::Signed)], 1));
    heed(&mut lab, rules(Policy::Signed));
    assert_eq!(told(&lab, "n1").len(), 2, "what did not change is not said again");
    heed(&mut lab, Rules { keyring: keyring(2), ..rules(Policy::Signed) });
    assert_eq!(keyrings(&lab, "n1"), [keyring(1).digest(), keyring(2).digest()]);
    lab.site_partition("p", "n2");
    assert_eq!(told(&lab, "n1").last(), Some(&None), "it is not in the partition any longer");
    lab.progress("n2", Phase::Fetching, 5);
    lab.fails("n2", FailCode::SignerNotTrusted);
    heed(&mut lab, rules(Policy::Any));
    lab.retry(push);
    assert_eq!(told(&lab, "n2").last(), Some(&None));
}
