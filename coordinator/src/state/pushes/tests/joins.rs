//! Wishes for which a push is there already: of nodes whose jobs pull an image, and of people who want it ensured.

use std::time::Duration;

use sifleet_common::api::pushes::{PushState, PushTarget};
use sifleet_common::inventory::RootState;
use sifleet_common::push::{FailCode, Phase};

use super::lab::{Lab, request};
use super::{Transfers, site};
use crate::state::pushes::{Command, Wish, join};
use crate::state::testing::{gone, image, library};
use crate::store::push::PushNo;

/// Lets a node pull `a.sif`.
fn pull(lab: &mut Lab, node: &str) -> PushNo {
    let (view, now) = (lab.site.state.view(), lab.now());
    let mut wish = view.wish(&request("a", PushTarget::Nodes(node.into())), now).unwrap();
    wish.key = Some(join::key(&wish.image, wish.digest));
    wish.patience = join::PATIENCE;
    lab.command(Command::Join(Box::new(wish))).unwrap()
}

/// Wants `a.sif` on nodes, as somebody does who saw that they lack it.
fn ensured(lab: &mut Lab, nodes: &str) -> Wish {
    lab.wish(&request("a", PushTarget::Nodes(nodes.into())))
}

fn ensure(lab: &mut Lab, wish: &Wish) -> PushNo {
    lab.command(Command::Ensure(Box::new(wish.clone()))).unwrap()
}

#[test]
fn a_wish_that_came_true_a_moment_ago_begins_no_other_push() {
    let mut lab = site("n[1-3]");
    let (both, first) = (ensured(&mut lab, "n[1-2]"), ensured(&mut lab, "n1"));
    let push = ensure(&mut lab, &both);
    lab.change("n1", vec![image("a.sif", 1)]);
    assert_eq!((ensure(&mut lab, &both), ensure(&mut lab, &first)), (push, push), "n2 goes on");
    lab.change("n2", vec![image("a.sif", 1)]);
    assert_eq!(lab.body(push).state, PushState::Done);
    assert_eq!((ensure(&mut lab, &both), ensure(&mut lab, &first)), (push, push));
    let mut more = ensured(&mut lab, "n[1-3]");
    more.patience = Duration::from_secs(60);
    let late = ensure(&mut lab, &more);
    assert_ne!(late, push, "n3 was none of its nodes");
    lab.pass(120);
    assert_eq!(lab.body(late).state, PushState::Partial);
    assert_eq!(ensure(&mut lab, &both), push, "who waits for the later one would hear that it went wrong");
    let last = ensure(&mut lab, &more);
    lab.change("n3", vec![image("a.sif", 1)]);
    assert_eq!((lab.body(last).state, ensure(&mut lab, &both)), (PushState::Done, last), "the newest");
}

#[test]
fn a_node_that_lost_an_image_or_is_away_is_pushed_to_anew() {
    let mut lab = site("n[1-2]");
    let wish = ensured(&mut lab, "n[1-2]");
    let push = ensure(&mut lab, &wish);
    for node in ["n1", "n2"] {
        lab.change(node, vec![image("a.sif", 1)]);
    }
    lab.change("n2", vec![gone("a.sif")]);
    let next = ensure(&mut lab, &wish);
    assert_ne!(next, push);
    assert_eq!(lab.shown(next), "waiting n2; done n1");
    lab.change("n2", vec![image("a.sif", 1)]);
    lab.lose("n1");
    let last = ensure(&mut lab, &wish);
    assert_eq!(lab.shown(last), "done n2; deferred n1");
}

#[test]
fn nodes_whose_jobs_pull_the_same_image_are_nodes_of_one_push() {
    let mut lab = site("n[1-3]");
    let push = pull(&mut lab, "n1");
    lab.map("head");
    lab.progress("n1", Phase::Fetching, 10);
    assert_eq!(pull(&mut lab, "n3"), push);
    assert_eq!(pull(&mut lab, "n1"), push, "another job of a node that is at it");
    assert_eq!(lab.shown(push), "waiting n3; fetching n1");
    assert!(lab.peers("n3").contains("n1"), "they give to one another");
    lab.change("n1", vec![image("a.sif", 1)]);
    assert_eq!((lab.shown(push).as_str(), lab.body(push).state), ("waiting n3; done n1", PushState::Running));
    lab.change("n3", vec![image("a.sif", 1)]);
    assert_eq!((lab.shown(push).as_str(), lab.body(push).state), ("done n[1,3]", PushState::Done));
}

#[test]
fn who_joined_is_remembered_over_a_restart() {
    let mut lab = site("n[1-2]");
    let push = pull(&mut lab, "n1");
    pull(&mut lab, "n2");
    lab.restart(Transfers { first_assignment: 1 << 40, ..Transfers::default() });
    assert_eq!(lab.shown(push), "deferred n[1-2]");
    lab.connect("head", vec![library(RootState::Watched), image("a.sif", 1)]);
    assert_eq!(pull(&mut lab, "n2"), push);
}

#[test]
fn a_node_that_failed_tries_again_when_a_job_pulls_again() {
    let mut lab = site("n[1-2]");
    let push = pull(&mut lab, "n1");
    pull(&mut lab, "n2");
    lab.map("head");
    lab.fails("n1", FailCode::NoSpace);
    assert_eq!(lab.shown(push), "waiting n2; failed n1");
    assert_eq!(pull(&mut lab, "n1"), push);
    assert_eq!(lab.shown(push), "waiting n[1-2]");
    lab.only("n1");
}

#[test]
fn a_pull_after_the_end_is_another_push() {
    let mut lab = site("n[1-2]");
    let push = pull(&mut lab, "n1");
    lab.map("head");
    lab.change("n1", vec![image("a.sif", 1)]);
    let next = pull(&mut lab, "n2");
    assert_ne!(next, push);
    assert_eq!((lab.shown(push).as_str(), lab.shown(next).as_str()), ("done n1", "waiting n2"));
    lab.cancel(next);
    assert_ne!(pull(&mut lab, "n2"), next, "what somebody ended is not joined");
}

#[test]
fn whoever_joins_puts_the_deadline_off() {
    let mut lab = site("n[1-2]");
    let push = pull(&mut lab, "n1");
    lab.lose("n1");
    lab.pass(join::PATIENCE.as_secs() - 60);
    pull(&mut lab, "n2");
    lab.pass(120);
    assert_eq!(lab.node(push, "n1").phase, Phase::Deferred);
    assert_eq!(lab.body(push).state, PushState::Running);
}
