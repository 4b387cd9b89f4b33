//! Who makes maps, who gives, and who is not asked any longer.

use sifleet_common::inventory::RootState;
use sifleet_common::push::{FailCode, Fault, Phase};
use sifleet_common::time::UnixMillis;
use sifleet_common::wire::assignment::{Assignment, Order};

use super::lab::{Lab, partition, request};
use super::{site, watched};
use crate::state::testing::{image, library, open_to_all};

/// Nodes without the image, and three that have it outside a library.
fn holders() -> Lab {
    let mut lab = Lab::new("n[1-2]");
    for node in ["h1", "h2", "h3"] {
        lab.connect(node, vec![watched(), image("a.sif", 1)]);
    }
    for node in ["n1", "n2"] {
        lab.connect(node, vec![watched()]);
    }
    lab
}

#[test]
fn another_holder_is_asked_for_the_map_when_the_first_goes_shrugs_or_says_nothing() {
    let mut lab = holders();
    let push = lab.push(&request("a", partition()));
    assert_eq!(lab.makers(), ["h1"]);
    lab.cannot_map("h1");
    assert_eq!(lab.makers(), ["h2"]);
    lab.pass(299);
    assert_eq!(lab.makers(), ["h2"]);
    lab.pass(5);
    assert_eq!(lab.makers(), ["h2", "h3"], "h2 said nothing for five minutes");
    lab.map("h2");
    assert_eq!(lab.shown(push), "waiting n[1-2]", "it is too late for h2 to answer");
    lab.map("h3");
    assert_eq!(lab.only("n1").peers.len(), 4);
}

#[test]
fn a_map_is_made_anew_when_its_maker_goes_away() {
    let mut lab = holders();
    lab.push(&request("a", partition()));
    lab.lose("h1");
    assert_eq!(lab.orders("h2").len(), 5, "limits, whose permits count, the list, and the map");
    lab.map("h2");
    lab.only("n1");
}

#[test]
fn when_nobody_can_make_the_map_the_nodes_fail_and_later_everybody_is_asked_again() {
    let mut lab = site("n1");
    let push = lab.push(&request("a", partition()));
    lab.cannot_map("head");
    let node = lab.node(push, "n1");
    assert_eq!((node.phase, node.code), (Phase::Failed, Some(FailCode::NoMap)));
    assert!(node.message.unwrap().contains("its disk fails"));
    lab.pass(11);
    assert_eq!((lab.shown(push).as_str(), lab.makers()), ("waiting n1", vec!["head"]));
}

#[test]
fn a_map_that_leads_nowhere_on_two_nodes_is_made_anew_by_somebody_else() {
    let mut lab = holders();
    lab.push(&request("a", partition()));
    lab.map("h1");
    lab.fails("n1", FailCode::WrongDigest);
    lab.pass(11);
    lab.fails("n1", FailCode::NoMap);
    lab.pass(31);
    assert!(lab.makers().is_empty(), "one node may have bad memory");
    lab.only("n1");
    lab.fails("n2", FailCode::NoMap);
    lab.pass(11);
    assert_eq!(lab.makers(), ["h2"]);
    lab.map("h2");
    lab.only("n2");
}

#[test]
fn a_map_that_nobody_hands_out_is_made_anew_when_its_maker_is_gone() {
    let mut lab = holders();
    lab.push(&request("a", partition()));
    lab.map("h1");
    let nobody_hands_it_out = |lab: &mut Lab| {
        for node in ["n1", "n2"] {
            lab.progress(node, Phase::Preparing, 0);
            lab.fails(node, FailCode::NoSource);
        }
        lab.pass(31);
    };
    nobody_hands_it_out(&mut lab);
    assert!(lab.makers().is_empty(), "its maker is there");
    lab.lose("h1");
    nobody_hands_it_out(&mut lab);
    assert_eq!(lab.makers(), ["h2"]);
}

#[test]
fn a_push_of_what_nobody_online_holds_waits_for_a_holder() {
    let mut lab = site("n[1-2]");
    lab.lose("head");
    let push = lab.push(&request(&format!("a@{}", crate::state::testing::digest(1)), partition()));
    assert_eq!(
        (lab.shown(push).as_str(), lab.node(push, "n1").code),
        ("waiting n[1-2]", Some(FailCode::NoSource))
    );
    lab.connect("head", vec![library(RootState::Watched), image("a.sif", 1)]);
    lab.map("head");
    assert_eq!(lab.peers("n1"), ["head", "n2"].map(str::to_owned).into());
}

#[test]
fn nodes_that_lacked_only_a_source_begin_when_one_comes() {
    let mut lab = site("n[1-2]");
    let first = lab.push(&request("a", partition()));
    lab.map("head");
    lab.cancel(first);
    lab.lose("head");
    let push = lab.push(&request(&format!("a@{}", crate::state::testing::digest(1)), partition()));
    assert_eq!(lab.node(push, "n2").code, Some(FailCode::NoSource));
    assert!(lab.told("n1").is_empty());
    lab.connect("head", vec![library(RootState::Watched), image("a.sif", 1)]);
    assert_eq!(lab.peers("n1"), ["head", "n2"].map(str::to_owned).into());
    assert_eq!(lab.node(push, "n2").code, None);
}

#[test]
fn news_of_peers_is_collected_for_a_while() {
    let mut lab = Lab::new("n[1-100]");
    lab.connect("head", vec![library(RootState::Watched), image("a.sif", 1)]);
    for node in lab.members() {
        lab.connect(&node, vec![watched()]);
    }
    lab.push(&request("a", partition()));
    lab.map("head");
    let told = |lab: &Lab| {
        lab.members().iter().filter(|n| lab.is_connected(n)).map(|n| lab.times_told(n)).sum::<usize>()
    };
    lab.lose("n1");
    let once = told(&lab);
    for n in 2..20 {
        lab.lose(&format!("n{n}"));
    }
    assert!(told(&lab) <= once, "nothing is said of those that went within the same half second");
    lab.pass(1);
    assert!(told(&lab) > once);
    for node in lab.members().iter().filter(|node| lab.is_connected(node)) {
        assert!(lab.peers(node).iter().all(|peer| lab.is_connected(peer)), "{node}");
    }
}

#[test]
fn who_is_named_as_the_source_is_the_only_one_at_first() {
    let mut lab = holders();
    let mut wish = request("a", partition());
    wish.from = Some("h2".into());
    let push = lab.push(&wish);
    lab.map("h1");
    assert_eq!(lab.peers("n1"), ["h2", "n2"].map(str::to_owned).into());
    assert_eq!(lab.body(push).from.as_deref(), Some("h2"));
    lab.change("n1", vec![image("a.sif", 1)]);
    lab.pass(1);
    assert_eq!(lab.peers("n2"), ["h2", "n1"].map(str::to_owned).into(), "who has it gives it");
}

#[test]
fn one_accuser_is_given_others_to_ask_and_two_shut_a_liar_out() {
    let mut lab = site("n[1-6]");
    let push = lab.push(&request("a", partition()));
    lab.map("head");
    let asks = |lab: &Lab, node: &str, peer: &str| lab.peers(node).contains(peer);
    lab.accuses("n1", "n2", Fault::Poisoned);
    lab.pass(1);
    assert!(!asks(&lab, "n1", "n2") && asks(&lab, "n3", "n2") && asks(&lab, "n2", "n1"));
    for honest in ["n3", "n4", "n5", "n6", "head"] {
        lab.accuses("n1", honest, Fault::Garbage);
    }
    lab.pass(1);
    assert!((2..=6).all(|n| asks(&lab, &format!("n{n}"), "head")), "one liar shuts nobody out");
    lab.accuses("n3", "n2", Fault::Lied);
    lab.pass(1);
    for node in ["n1", "n3", "n4", "n5", "n6"] {
        assert!(!asks(&lab, node, "n2"), "{node}");
    }
    assert!(asks(&lab, "n2", "head"), "it may fetch all the same");
    let dropped = lab.body(push).dropped;
    assert_eq!(dropped.len(), 7);
    assert_eq!(
        (dropped[0].node.as_str(), dropped[0].fault, dropped[0].by.as_str()),
        ("n2", Fault::Poisoned, "n1")
    );
    lab.accuses("n4", "n5", Fault::Stalled);
    lab.accuses("n6", "n5", Fault::Unreachable);
    lab.pass(1);
    assert!(asks(&lab, "n3", "n5"), "bad luck is no malice");
    lab.accuses("n4", "stranger", Fault::Poisoned);
    assert_eq!(lab.body(push).dropped.len(), 9, "nobody knows a stranger");
}

#[test]
fn who_was_shut_out_gives_nothing_of_any_image_for_an_hour_and_the_node_says_so() {
    let mut lab = site("n[1-4]");
    lab.push(&request("a", partition()));
    lab.map("head");
    lab.accuses("n1", "n2", Fault::Poisoned);
    assert_eq!(lab.degraded("n2"), "", "one says so");
    lab.accuses("n3", "n2", Fault::Poisoned);
    let said = lab.degraded("n2");
    assert!(said.contains("wrong bytes, say n1, n3"), "{said}");
    let both = ["n1", "n2", "n3", "n4"].map(|node| lab.only(node).id);
    for (node, id) in ["n1", "n2", "n3", "n4"].into_iter().zip(both) {
        lab.finishes(node, id);
        lab.change(node, vec![image("a.sif", 1)]);
    }
    lab.pass(1);
    lab.change("head", vec![image("b.sif", 2)]);
    lab.push(&request("b", partition()));
    lab.map_all("head");
    lab.pass(1);
    assert!(["n1", "n3", "n4"].iter().all(|node| !lab.peers(node).contains("n2")));
    assert!(lab.peers("n2").contains("n3"), "it fetches all the same");
    lab.pass_with(3_700, |lab| {
        ["n1", "n2", "n3", "n4"].iter().for_each(|node| lab.progress(node, Phase::Fetching, 1))
    });
    assert_eq!(lab.degraded("n2"), "");
    lab.pass(1);
    assert!(["n1", "n3", "n4"].iter().any(|node| lab.peers(node).contains("n2")), "it gives again");
}

#[test]
fn a_sole_source_that_was_shut_out_gives_again_after_an_hour() {
    let mut lab = site("n[1-4]");
    lab.lose("n4");
    lab.push(&request("a", partition()));
    lab.map("head");
    lab.accuses("n1", "head", Fault::Poisoned);
    lab.accuses("n2", "head", Fault::Poisoned);
    lab.connect("n4", vec![watched()]);
    lab.pass(1);
    assert!(!lab.peers("n3").contains("head"));
    assert_eq!(lab.times_told("n4"), 0, "there is nobody to fetch it from");
    lab.pass_with(3_700, |lab| {
        ["n1", "n2", "n3"].iter().for_each(|node| lab.progress(node, Phase::Fetching, 1));
    });
    assert!(lab.peers("n3").contains("head") && lab.peers("n4").contains("head"));
}

#[test]
fn a_source_that_goes_is_replaced_and_those_far_from_it_hear_nothing() {
    let mut lab = Lab::new("n[1-100]");
    for node in ["h1", "h2"] {
        lab.connect(node, vec![watched(), image("a.sif", 1)]);
    }
    for node in lab.members() {
        lab.connect(&node, vec![watched()]);
    }
    lab.push(&request("a", partition()));
    lab.map("h1");
    let before: usize = lab.members().iter().map(|node| lab.times_told(node)).sum();
    assert_eq!(before, 100, "everybody is told once");
    lab.lose("h1");
    lab.pass(1);
    let after: usize = lab.members().iter().map(|node| lab.times_told(node)).sum();
    assert!((1..40).contains(&(after - before)), "{} were told", after - before);
    assert!(lab.members().iter().all(|node| !lab.peers(node).contains("h1") && !lab.peers(node).is_empty()));
    assert!(lab.members().iter().any(|node| lab.peers(node).contains("h2")));
}

#[test]
fn an_agent_that_takes_no_transfers_neither_gets_nor_gives() {
    let mut lab = site("n[1-2]");
    lab.site.transfer_port = 0;
    lab.connect("n1", vec![watched()]);
    lab.connect("n3", vec![watched(), image("a.sif", 1)]);
    let push = lab.push(&request("a", partition()));
    lab.map("head");
    assert_eq!(
        (lab.shown(push).as_str(), lab.node(push, "n1").code),
        ("waiting n2; failed n1", Some(FailCode::Refused))
    );
    assert_eq!(lab.peers("n2"), ["head".to_owned()].into());
}

#[test]
fn a_node_is_permitted_to_fetch_what_it_was_assigned_and_anew_before_that_ends() {
    let mut lab = holders();
    lab.push(&request("a", partition()));
    lab.map("h1");
    let key = lab
        .orders("h1")
        .into_iter()
        .find_map(|order| if let Order::Capabilities { key } = order { Some(key) } else { None });
    let permits = |lab: &Lab, node: &str, later: i64| {
        let Assignment { capability, image, .. } = lab.only("n1");
        let then = UnixMillis(lab.now().wall.0 + later);
        key.unwrap().permits(&capability, &node.parse().unwrap(), image, then)
    };
    assert!(permits(&lab, "n1", 60_000) && !permits(&lab, "n2", 0));
    assert!(!permits(&lab, "n1", 3_600_000), "not for ever");
    for _ in 0..240 {
        lab.pass(15);
        lab.progress("n1", Phase::Fetching, 1);
        assert!(permits(&lab, "n1", 60_000), "it is renewed while it fetches");
    }
}

#[test]
fn nothing_is_fetched_from_a_root_that_users_can_write_to_since_a_moment_ago() {
    let mut lab = Lab::new("n1");
    lab.connect("h1", vec![watched(), image("a.sif", 1)]);
    lab.connect("n1", vec![watched()]);
    lab.change("h1", vec![open_to_all()]);
    lab.push(&request("a", partition()));
    assert!(lab.makers().is_empty());
    lab.change("h1", vec![watched()]);
    assert_eq!(lab.makers(), ["h1"]);
}

#[test]
fn nothing_is_fetched_from_where_users_can_write() {
    let mut lab = Lab::new("n[1-2]");
    lab.connect("h1", vec![open_to_all(), image("a.sif", 1)]);
    lab.connect("n1", vec![watched()]);
    lab.connect("n2", vec![watched()]);
    let push = lab.push(&request("a", partition()));
    assert!(lab.makers().is_empty());
    let waiting = lab.node(push, "n1");
    let words = waiting.message.unwrap_or_default();
    assert!(words.contains("roots that users can write to"), "{words}");
    lab.connect("h2", vec![watched(), image("a.sif", 1)]);
    assert_eq!(lab.makers(), ["h2"]);
    lab.map("h2");
    assert!(lab.peers("n1").contains("h2") && !lab.peers("n1").contains("h1"), "{:?}", lab.peers("n1"));
}
