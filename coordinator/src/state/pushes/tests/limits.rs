//! Limits: what agents are told of them, when, and what survives a restart.

use sifleet_common::api::limits::LimitsChange;
use sifleet_common::inventory::RootState;
use sifleet_common::push::Phase;
use sifleet_common::wire::assignment::{Order, Rates};

use super::lab::{Lab, partition, request};
use super::{Transfers, site, watched};
use crate::state::Event;
use crate::state::limits::LimitCommand;
use crate::state::testing::{image, library};

fn change(text: &str) -> LimitCommand {
    LimitCommand::Change(serde_json::from_str::<LimitsChange>(text).unwrap())
}

fn mark(node: &str, busy: bool) -> LimitCommand {
    LimitCommand::Mark { nodes: [node.parse().unwrap()].into(), busy }
}

/// Returns what a node was told last that it may do.
fn may(lab: &Lab, node: &str) -> (Option<u64>, Option<u64>, Option<u16>) {
    let mut told = (None, None, None);
    for order in lab.orders(node) {
        match order {
            Order::Rates(Rates { up, down }) => (told.0, told.1) = (up, down),
            Order::Concurrent { fetches } => told.2 = fetches,
            Order::MakeMap { .. } | Order::Assign(_) | Order::Unassign { .. } => {}
            Order::Assigned { .. } | Order::Remove(_) | Order::Capabilities { .. } => {}
            Order::Keyring(_) | Order::AssignUnder { .. } | Order::Verify { .. } => {}
        }
    }
    told
}

/// Counts how often a node was told its limits.
fn times(lab: &Lab, node: &str) -> usize {
    lab.orders(node).iter().filter(|order| matches!(order, Order::Rates(_))).count()
}

#[test]
fn agents_hear_of_other_limits_at_once_and_again_in_each_session() {
    let mut lab = site("n[1-2]");
    assert_eq!(
        (may(&lab, "n1"), times(&lab, "n1")),
        ((None, None, None), 1),
        "what an earlier life said is void"
    );
    lab.limit(change(r#"{"up":500000,"down":400000,"concurrent":3}"#));
    assert_eq!(may(&lab, "n1"), (Some(500_000), Some(400_000), Some(3)));
    lab.limit(change(r#"{"up":500000}"#));
    assert_eq!(times(&lab, "n1"), 2, "what was said is not said again");
    lab.limit(change(r#"{"down":null,"concurrent":null}"#));
    assert_eq!(
        (may(&lab, "n1"), may(&lab, "head")),
        ((Some(500_000), None, None), (Some(500_000), None, None))
    );
    lab.reconnect("n1");
    assert_eq!((may(&lab, "n1"), times(&lab, "n1")), ((Some(500_000), None, None), 1));
}

#[test]
fn busy_nodes_are_held_to_less_whoever_says_that_they_are() {
    let mut lab = site("n[1-3]");
    lab.limit(change(r#"{"up":500000,"busy_up":200000,"busy_down":300000,"busy_concurrent":1}"#));
    lab.limit(mark("n1", true));
    lab.site.handle(Event::JobsRunOn { nodes: ["n2".parse().unwrap(), "stranger".parse().unwrap()].into() });
    lab.pass(1);
    let (busy, idle) = ((Some(200_000), Some(300_000), Some(1)), (Some(500_000), None, None));
    assert_eq!((may(&lab, "n1"), may(&lab, "n2"), may(&lab, "n3")), (busy, busy, idle));
    let body = lab.site.state.view().limits(lab.site.now);
    assert_eq!((body.busy.as_str(), body.marked.as_str()), ("n[1-2],stranger", "n1"));
    lab.site.handle(Event::JobsRunOn { nodes: ["n1".parse().unwrap()].into() });
    lab.limit(mark("n1", false));
    assert_eq!((may(&lab, "n1"), may(&lab, "n2")), (busy, idle), "jobs run on it all the same");
}

#[test]
fn the_total_is_divided_among_those_that_fetch_while_they_do() {
    let mut lab = site("n[1-4]");
    lab.limit(change(r#"{"total":1200000}"#));
    assert_eq!(may(&lab, "n1"), (None, None, None), "nobody fetches");
    let push = lab.push(&request("a", partition()));
    lab.map("head");
    let shares = |lab: &Lab| ["n1", "n2", "n3", "n4"].map(|node| may(lab, node).1.unwrap());
    assert!(shares(&lab).iter().sum::<u64>() <= 1_200_000, "{:?}", shares(&lab));
    let first = lab.orders("n4");
    let at = |wanted: fn(&Order) -> bool| first.iter().rposition(wanted);
    assert!(
        first.iter().position(|order| matches!(order, Order::Rates(Rates { down: Some(_), .. })))
            < at(|order| matches!(order, Order::Assign(_))),
        "its share is said before it begins: {first:?}"
    );
    lab.pass_with(5, |lab| lab.progress("n1", Phase::Fetching, 1));
    assert_eq!(shares(&lab), [300_000; 4]);
    let body = lab.site.state.view().limits(lab.site.now);
    assert_eq!((body.divided, body.share), (4, Some(300_000)));
    assert_eq!(may(&lab, "head").1, None, "who only gives is not counted");
    for node in ["n1", "n2"] {
        lab.change(node, vec![image("a.sif", 1)]);
    }
    lab.pass(5);
    assert_eq!((may(&lab, "n3").1, may(&lab, "n4").1), (Some(600_000), Some(600_000)));
    lab.limit(change(r#"{"total":600000,"down":200000}"#));
    assert_eq!(
        (may(&lab, "n3").1, may(&lab, "n1").1),
        (Some(200_000), Some(200_000)),
        "the lower one counts"
    );
    lab.cancel(push);
    lab.pass(5);
    assert_eq!(lab.site.state.view().limits(lab.site.now).divided, 0);
    lab.limit(change(r#"{"total":null,"down":null}"#));
    assert_eq!(may(&lab, "n3"), (None, None, None));
}

#[test]
fn a_plan_takes_the_time_that_limits_allow() {
    let mut lab = site("n[1-4]");
    let mut wish = request("a", partition());
    (wish.digest, wish.dry_run) = (Some(crate::state::testing::digest(9).to_string()), true);
    wish.upload = Some(100_000_000);
    assert_eq!(lab.plan(&wish).seconds, None);
    lab.limit(change(r#"{"down":1000000}"#));
    assert_eq!(lab.plan(&wish).seconds, Some(100));
    lab.limit(change(r#"{"total":2000000}"#));
    assert_eq!(lab.plan(&wish).seconds, Some(200), "four nodes share it");
    wish.rate = Some(100_000);
    assert_eq!(lab.plan(&wish).seconds, Some(1_000));
}

#[test]
fn a_node_that_goes_on_after_a_restart_is_held_to_its_share_at_once() {
    let mut lab = site("n[1-4]");
    lab.limit(change(r#"{"total":1000000}"#));
    lab.push(&request("a", partition()));
    lab.map("head");
    lab.restart(Transfers::default());
    for node in ["n1", "n2", "n3", "n4"] {
        lab.connect(node, vec![watched()]);
        let first = lab.orders(node).into_iter().find_map(|order| match order {
            Order::Rates(rates) => Some(rates),
            Order::MakeMap { .. } | Order::Assign(_) | Order::Unassign { .. } => None,
            Order::Assigned { .. } | Order::Remove(_) | Order::Concurrent { .. } => None,
            Order::Keyring(_) | Order::AssignUnder { .. } | Order::Verify { .. } => None,
            Order::Capabilities { .. } => None,
        });
        assert!(first.unwrap().down.is_some(), "{node} may have parts of the image and fetch the rest");
    }
    let sum: u64 = ["n1", "n2", "n3", "n4"].map(|node| may(&lab, node).1.unwrap()).iter().sum();
    assert!(sum <= 1_000_000, "{sum}");
}

#[test]
fn limits_and_marks_survive_a_restart() {
    let mut lab = site("n[1-2]");
    lab.limit(change(r#"{"total":1000000,"up":500000,"busy_up":200000}"#));
    lab.limit(mark("n1", true));
    lab.limit(mark("n2", true));
    lab.limit(mark("n2", false));
    let mut before = lab.site.state.view().limits(lab.site.now);
    lab.restart(Transfers::default());
    let after = lab.site.state.view().limits(lab.site.now);
    before.as_of.clone_from(&after.as_of);
    assert_eq!(after, before);
    lab.connect("n1", vec![watched()]);
    lab.connect("n2", vec![watched()]);
    assert_eq!((may(&lab, "n1").0, may(&lab, "n2").0), (Some(200_000), Some(500_000)));
}

#[test]
fn bytes_that_came_before_a_restart_are_no_rate() {
    let mut lab = site("n1");
    let push = lab.push(&request("a", partition()));
    lab.map("head");
    lab.progress("n1", Phase::Fetching, 500_000_000);
    lab.restart(Transfers::default());
    lab.connect("head", vec![library(RootState::Watched), image("a.sif", 1)]);
    lab.connect("n1", vec![watched()]);
    lab.progress("n1", Phase::Fetching, 1_000_000_000);
    assert_eq!(lab.body(push).bytes.rate, 0, "nobody knows since when");
    lab.pass(1);
    lab.progress("n1", Phase::Fetching, 1_000_100_000);
    assert_eq!(lab.body(push).bytes.rate, 100_000);
}
