//! Removals from the wish to the end, as agents and people see them.
#![cfg(test)]

mod bench;

use sifleet_common::api::pushes::{PushRequest, PushTarget};
use sifleet_common::api::removals::{RemovalRequest, RemovalState};
use sifleet_common::digest::Digest;
use sifleet_common::inventory::RootState;
use sifleet_common::removal::RemovalCode;
use sifleet_common::wire::assignment::RemovalOutcome;

use super::{RemovalCommand, RemovalError};
use crate::state::Event;
use crate::state::testing::{digest, gone, hung, image, library, pending, root};
use crate::store::push::Key;
use crate::store::removal::RemovalNo;
use bench::{Bench, request, watched};

#[test]
fn nodes_are_told_once_and_are_done_when_their_inventories_no_longer_show_the_image() {
    let mut bench = Bench::new(true, &["n1", "n2"]);
    bench.connect("n3", vec![watched()]);
    bench.connect("n4", vec![watched(), image("a.sif", 2)]);
    let mut other = request("n[3-4]");
    other.digest = Some(digest(1).to_string());
    let plan = bench.plan(&other);
    assert_eq!((plan.nodes.as_str(), plan.absent.as_str(), plan.others.as_str()), ("", "n3", "n4"));
    let plan = bench.plan(&request("n[1-3]"));
    assert_eq!((plan.nodes.as_str(), plan.absent.as_str(), plan.left.as_str()), ("n[1-2]", "n3", "head"));
    assert_eq!((plan.bytes, plan.last), (2, false));
    let no = bench.remove(&request("n[1-3]"));
    let told = bench.told();
    assert_eq!(told.iter().map(|(node, _)| node.as_str()).collect::<Vec<_>>(), ["n1", "n2"]);
    assert_eq!((told[0].1.image, told[0].1.name.as_str()), (digest(1), "a.sif"));
    assert_eq!(bench.shown(no), "removing n[1-2] done n3");
    bench.answers("n1", &told[0].1, RemovalOutcome::Gone);
    assert!(bench.shown(no).starts_with("removing n[1-2]"), "the inventory has the last word");
    bench.site.change("n1", vec![gone("a.sif")]);
    bench.obeys("n2", &told[1].1);
    let body = bench.body(no);
    assert_eq!((body.state, body.files, body.freed), (RemovalState::Done, 2, 2));
    assert!(body.ended.is_some());
    assert_eq!(bench.told(), []);
    let removals = &bench.site.state.removals;
    assert!(removals.leaving.is_empty() && removals.timers.is_empty() && removals.of_node.is_empty());
    assert!(removals.orders.is_empty());
}

#[test]
fn the_last_ready_replica_stays_unless_it_is_forced() {
    let mut bench = Bench::new(false, &["n1", "n2"]);
    let plan = bench.plan(&request("n[1-2]"));
    assert_eq!((plan.last, plan.left.as_str()), (true, ""));
    let refused = bench.try_remove(&request("n[1-2]")).unwrap_err();
    assert!(matches!(refused, RemovalError::LastReplica { .. }), "{refused}");
    assert_eq!(bench.told(), []);
    let no = bench.remove(&RemovalRequest { force: true, ..request("n[1-2]") });
    assert_eq!(
        (bench.told_names().join(" ").as_str(), bench.shown(no).as_str()),
        ("n1 n2", "removing n[1-2]")
    );
}

#[test]
fn a_replica_on_a_node_that_is_away_does_not_count_as_ready() {
    let mut bench = Bench::new(false, &["n1", "n2"]);
    bench.lose("n2");
    assert!(matches!(bench.try_remove(&request("n1")), Err(RemovalError::LastReplica { .. })));
}

#[test]
fn two_removals_do_not_together_take_the_last_replica() {
    let mut bench = Bench::new(false, &["n1", "n2"]);
    bench.remove(&request("n1"));
    assert_eq!(bench.told_names(), ["n1"]);
    assert!(bench.plan(&request("n2")).last);
    assert!(matches!(bench.try_remove(&request("n2")), Err(RemovalError::LastReplica { .. })));
}

#[test]
fn what_was_allowed_is_looked_at_again_before_the_order_is_given() {
    let mut bench = Bench::new(false, &["n1", "n2", "n3"]);
    bench.lose("n1");
    // n1 is away when it is asked for, and n2 and n3 hold the image.
    let no = bench.remove(&request("n1"));
    assert_eq!(bench.shown(no), "deferred n1 (deferred n1)");
    bench.site.change("n2", vec![gone("a.sif")]);
    bench.site.change("n3", vec![gone("a.sif")]);
    bench.connect("n1", vec![watched(), image("a.sif", 1)]);
    assert_eq!(bench.told(), []);
    assert_eq!(bench.shown(no), "failed n1 (last_replica n1)");
}

#[test]
fn a_node_whose_fellows_are_away_waits_for_them() {
    let mut bench = Bench::new(false, &["n1", "n2"]);
    bench.lose("n1");
    let no = bench.remove(&request("n1"));
    bench.lose("n2");
    bench.connect("n1", vec![watched(), image("a.sif", 1)]);
    assert_eq!(bench.shown(no), "waiting n1 (last_replica n1)");
    bench.connect("n2", vec![watched(), image("a.sif", 1)]);
    bench.pass(15);
    assert_eq!(bench.told_names(), ["n1"]);
}

#[test]
fn a_file_in_use_stays_or_is_tried_again_when_somebody_waits_for_it() {
    let mut bench = Bench::new(true, &["n1"]);
    let no = bench.remove(&request("n1"));
    let (_, order) = bench.told().remove(0);
    bench.answers("n1", &order, RemovalOutcome::Busy);
    assert_eq!(
        (bench.shown(no).as_str(), bench.body(no).state),
        ("failed n1 (busy n1)", RemovalState::Failed)
    );

    let no = bench.remove(&RemovalRequest { when_idle: true, ..request("n1") });
    let (_, order) = bench.told().remove(0);
    bench.answers("n1", &order, RemovalOutcome::Busy);
    assert_eq!((bench.shown(no).as_str(), bench.told()), ("waiting n1 (busy n1)", vec![]));
    bench.pass(5);
    assert_eq!(bench.told(), [], "not at once");
    bench.pass(10);
    let (_, order) = bench.told().remove(0);
    bench.answers("n1", &order, RemovalOutcome::Busy);
    bench.pass(10);
    assert_eq!(bench.told(), [], "twice as long");
    bench.pass(15);
    let (_, order) = bench.told().remove(0);
    bench.obeys("n1", &order);
    assert_eq!(bench.body(no).state, RemovalState::Done);
}

#[test]
fn nothing_is_removed_after_the_deadline_or_when_it_was_cancelled() {
    let mut bench = Bench::new(true, &["n1", "n2"]);
    let wish = RemovalRequest { when_idle: true, deadline_s: Some(60), ..request("n[1-2]") };
    let no = bench.remove(&wish);
    for (node, order) in bench.told() {
        bench.answers(&node, &order, RemovalOutcome::Busy);
    }
    bench.lose("n2");
    // What an agent was told last it may do, for three minutes.
    bench.pass(80);
    assert_eq!(bench.shown(no), "removing n1 failed n2 (deadline n2)");
    bench.pass(120);
    assert_eq!(bench.shown(no), "failed n[1-2] (deadline n2) (silent n1)");
    bench.told();
    bench.connect("n2", vec![watched(), image("a.sif", 1)]);
    bench.pass(700);
    assert_eq!(bench.told(), []);

    bench.lose("n2");
    let no = bench.remove(&request("n[1-2]"));
    let (_, order) = bench.told().remove(0);
    bench.ask(RemovalCommand::Cancel(no)).unwrap();
    assert_eq!(bench.shown(no), "removing n1 cancelled n2", "what an agent was told it may have done");
    bench.answers("n1", &order, RemovalOutcome::Busy);
    assert_eq!(bench.shown(no), "failed n1 cancelled n2 (busy n1)");
    assert_eq!(bench.body(no).state, RemovalState::Cancelled);
    assert!(matches!(bench.ask(RemovalCommand::Cancel(RemovalNo(77))), Err(RemovalError::Unknown { .. })));
}

#[test]
fn one_key_makes_one_removal_until_it_is_forgotten() {
    let mut bench = Bench::new(true, &["n1", "n2"]);
    let key = |body: u8| Some(Key { text: "k".into(), body: Digest::from_bytes([body; 32]) });
    let mut ask = |nodes: &str, body: u8| {
        let mut wish = bench.site.state.view().removal_wish(&request(nodes), bench.site.now).unwrap();
        wish.key = key(body);
        bench.ask(RemovalCommand::Create(Box::new(wish)))
    };
    let first = ask("n1", 1).unwrap();
    assert_eq!(ask("n1", 1), Ok(first));
    assert_eq!(ask("n2", 2), Err(RemovalError::KeyReused { removal: first }));
    bench.restart();
    let known = bench.site.state.view().removal_of_key("k");
    assert_eq!(known, Some((first, Digest::from_bytes([1; 32]))));
}

#[test]
fn what_was_not_finished_goes_on_after_a_restart() {
    let mut bench = Bench::new(true, &["n1", "n2", "n3"]);
    let no = bench.remove(&request("n[1-3]"));
    let told = bench.told();
    bench.obeys("n1", &told[0].1);
    bench.answers("n2", &told[1].1, RemovalOutcome::Failed(RemovalCode::ReadOnly));
    let before = bench.shown(no);
    assert_eq!(before, "removing n3 done n1 failed n2 (note n1) (read_only n2)");
    bench.restart();
    bench.site.handle(Event::Tick);
    assert_eq!(bench.shown(no), "done n1 failed n2 deferred n3 (deferred n3) (note n1) (read_only n2)");
    bench.connect("n3", vec![watched(), image("a.sif", 1)]);
    assert_eq!(bench.told(), [], "the library is not back");
    bench.connect("head", vec![library(RootState::Watched), image("a.sif", 1)]);
    bench.pass(15);
    let told = bench.told();
    assert_eq!(told.len(), 1);
    bench.obeys("n3", &told[0].1);
    assert_eq!(bench.body(no).state, RemovalState::Partial);
    let next = bench.remove(&request("n1"));
    assert_eq!(next, RemovalNo(no.0 + 1));
}

#[test]
fn a_node_that_does_not_answer_is_told_again_and_given_up_at_last() {
    let mut bench = Bench::new(true, &["n1"]);
    let no = bench.remove(&request("n1"));
    let (_, first) = bench.told().remove(0);
    bench.pass(35);
    let again = bench.told();
    assert_eq!((again.len(), again[0].1.id), (1, first.id), "the same order");
    bench.pass(160);
    assert_eq!(bench.shown(no), "failed n1 (silent n1)");
    bench.told();
    bench.pass(100);
    assert_eq!(bench.told(), []);
}

#[test]
fn a_node_that_comes_back_is_told_anew() {
    let mut bench = Bench::new(true, &["n1"]);
    let no = bench.remove(&request("n1"));
    assert_eq!(bench.told().len(), 1);
    bench.lose("n1");
    assert_eq!(bench.shown(no), "deferred n1 (deferred n1)");
    bench.pass(3_600);
    bench.connect("n1", vec![watched(), image("a.sif", 1)]);
    assert_eq!((bench.told().len(), bench.shown(no).as_str()), (1, "removing n1"));
}

#[test]
fn a_replica_that_an_agent_may_still_remove_is_not_counted_on() {
    let mut bench = Bench::new(false, &["n1", "n2"]);
    let no = bench.remove(&request("n1"));
    let (_, order) = bench.told().remove(0);
    bench.lose("n1");
    bench.ask(RemovalCommand::Cancel(no)).unwrap();
    bench.pass(5);
    bench.connect("n1", vec![watched(), image("a.sif", 1)]);
    assert_eq!(bench.told(), [], "it is not wanted any longer");
    assert!(matches!(bench.try_remove(&request("n2")), Err(RemovalError::LastReplica { .. })));
    // What is heard of it late counts.
    bench.answers("n1", &order, RemovalOutcome::Busy);
    assert_eq!(bench.shown(no), "failed n1 (busy n1)");
    bench.remove(&request("n2"));
    assert_eq!(bench.told_names(), ["n2"]);
}

#[test]
fn a_cancelled_removal_of_which_nothing_is_heard_ends_when_no_agent_does_it_any_longer() {
    let mut bench = Bench::new(false, &["n1", "n2"]);
    let no = bench.remove(&request("n1"));
    bench.told();
    bench.lose("n1");
    bench.ask(RemovalCommand::Cancel(no)).unwrap();
    bench.pass(170);
    assert_eq!(bench.shown(no), "deferred n1 (deferred n1)");
    bench.pass(15);
    assert_eq!(bench.shown(no), "cancelled n1");
    assert_eq!(bench.told(), []);
}

#[test]
fn an_answer_that_is_said_twice_counts_one_file() {
    let mut bench = Bench::new(true, &["n1"]);
    let no = bench.remove(&request("n1"));
    let (_, order) = bench.told().remove(0);
    bench.answers("n1", &order, RemovalOutcome::Gone);
    bench.answers("n1", &order, RemovalOutcome::Gone);
    bench.lose("n1");
    bench.connect("n1", vec![watched()]);
    let body = bench.body(no);
    assert_eq!((body.state, body.files), (RemovalState::Done, 1));
}

#[test]
fn orders_have_other_numbers_after_a_restart() {
    let mut bench = Bench::new(true, &["n1", "n2"]);
    bench.remove(&request("n1"));
    let (_, before) = bench.told().remove(0);
    bench.pass(5);
    bench.restart();
    bench.connect("head", vec![library(RootState::Watched), image("a.sif", 1)]);
    bench.connect("n1", vec![watched(), image("a.sif", 1)]);
    bench.pass(15);
    let (_, after) = bench.told().remove(0);
    assert!(after.id > before.id, "{after:?}");
}

#[test]
fn what_nobody_knows_at_present_is_waited_for() {
    let mut bench = Bench::new(true, &["n1", "n2"]);
    bench.site.change("n1", vec![root(hung())]);
    bench.site.change("n2", vec![pending("a.sif")]);
    let no = bench.remove(&request("n[1-2]"));
    assert_eq!(bench.shown(no), "waiting n[1-2] (waiting n[1-2])");
    bench.site.change("n1", vec![root(RootState::Watched)]);
    bench.site.change("n2", vec![image("a.sif", 2)]);
    assert_eq!(bench.told_names(), ["n1"]);
    assert_eq!(bench.shown(no), "removing n1 done n2", "n2 holds another image by now");
}

#[test]
fn neither_a_library_nor_an_image_on_its_way_is_removed() {
    let mut bench = Bench::new(true, &["n1"]);
    let wish = RemovalRequest { root: Some("/shared/images".into()), ..request("head") };
    assert_eq!(bench.plan(&wish).refused[0].code, "library");
    let no = bench.remove(&wish);
    assert_eq!(bench.shown(no), "failed head (library head)");

    let push = PushRequest::new("a", PushTarget::Nodes("n2".into()));
    bench.connect("n2", vec![watched(), image("b.sif", 1)]);
    let push = bench.site.view().wish(&push, bench.site.now).unwrap();
    bench
        .site
        .state
        .command(crate::state::pushes::Command::Create(Box::new(push)), bench.site.now)
        .0
        .unwrap();
    let wish = RemovalRequest { image: Some("b".into()), ..request("n2") };
    assert_eq!(bench.plan(&wish).refused[0].code, "being_pushed");
    let no = bench.remove(&wish);
    assert_eq!(bench.shown(no), "failed n2 (being_pushed n2)");
}

#[test]
fn a_stranger_cannot_answer_for_another_node() {
    let mut bench = Bench::new(true, &["n1", "n2"]);
    let no = bench.remove(&request("n1"));
    let (_, order) = bench.told().remove(0);
    bench.answers("n2", &order, RemovalOutcome::Busy);
    assert_eq!(bench.shown(no), "removing n1");
}
