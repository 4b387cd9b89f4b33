//! Nodes whose jobs pull an image join one push.

use sifleet_common::api::pushes::{PushState, PushTarget};
use sifleet_common::inventory::RootState;
use sifleet_common::push::{FailCode, Phase};

use super::lab::{Lab, request};
use super::{Transfers, site};
use crate::state::pushes::{Command, join};
use crate::state::testing::{image, library};
use crate::store::push::PushNo;

/// Lets a node pull `a.sif`.
fn pull(lab: &mut Lab, node: &str) -> PushNo {
    let (view, now) = (lab.site.state.view(), lab.now());
    let mut wish = view.wish(&request("a", PushTarget::Nodes(node.into())), now).unwrap();
    wish.key = Some(join::key(&wish.image, wish.digest));
    wish.patience = join::PATIENCE;
    lab.command(Command::Join(Box::new(wish))).unwrap()
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
