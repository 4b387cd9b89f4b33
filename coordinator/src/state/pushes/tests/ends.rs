//! Every push ends: silence, failures, deadlines, cancellation.

use sifleet_common::api::pushes::PushState;
use sifleet_common::image::{Arch, Format};
use sifleet_common::inventory::{Content, Image, RootState, UnusableCode};
use sifleet_common::push::{FailCode, Phase};
use sifleet_common::wire::assignment::Order;

use super::lab::{Lab, partition, request};
use super::{Transfers, site, watched};
use crate::state::pushes::{Command, PushError};
use crate::state::testing::{digest, image, library, put, unusable};

#[test]
fn a_node_that_says_nothing_is_told_again_and_given_up_at_last() {
    let mut lab = site("n[1-2]");
    let push = lab.push(&request("a", partition()));
    lab.map("head");
    let alive = |lab: &mut Lab| lab.progress("n2", Phase::Fetching, 1);
    let told = lab.times_told("n1");
    lab.pass_with(40, alive);
    assert_eq!((lab.times_told("n1"), lab.shown(push).as_str()), (told + 1, "waiting n1; fetching n2"));
    lab.pass_with(145, alive);
    assert_eq!(lab.shown(push), "fetching n2; failed n1");
    let node = lab.node(push, "n1");
    assert_eq!(node.code, Some(FailCode::Silent));
    assert!(node.message.unwrap().contains("said nothing"), "and a person reads why");
    lab.pass_with(15, alive);
    assert_eq!(lab.shown(push), "waiting n1; fetching n2", "silence may pass");
}

#[test]
fn an_agent_that_says_done_without_its_inventory_showing_it_is_not_believed_for_ever() {
    let mut lab = site("n1");
    let push = lab.push(&request("a", partition()));
    lab.map("head");
    let claims = |lab: &mut Lab| {
        if !lab.told("n1").is_empty() {
            lab.progress("n1", Phase::Done, 1);
        }
    };
    lab.pass_with(170, claims);
    assert_eq!(lab.shown(push), "verifying n1");
    lab.pass_with(20, claims);
    assert_eq!(lab.node(push, "n1").code, Some(FailCode::Silent));
}

#[test]
fn an_image_that_can_be_seen_is_done_when_its_agent_says_that_it_lasts() {
    let mut lab = site("n1");
    let push = lab.push(&request("a", partition()));
    lab.map("head");
    lab.progress("n1", Phase::Verifying, 0);
    let id = lab.only("n1").id;
    lab.change("n1", vec![image("a.sif", 1)]);
    assert_eq!(lab.shown(push), "verifying n1", "power might yet take it back");
    lab.finishes("n1", id);
    assert_eq!(lab.shown(push), "done n1");
}

#[test]
fn an_agent_need_not_remember_what_it_has() {
    let mut lab = site("n1");
    lab.push(&request("a", partition()));
    lab.map("head");
    let id = lab.only("n1").id;
    lab.progress("n1", Phase::Verifying, 0);
    lab.change("n1", vec![image("a.sif", 1)]);
    assert!(lab.told("n1").contains_key(&id));
    lab.progress_of("n1", id, Phase::Done);
    assert!(lab.told("n1").is_empty(), "it takes orders for so many only");
}

#[test]
fn an_image_that_a_node_cannot_run_is_not_brought_there() {
    let mut lab = site("n1");
    let arm = Image { arch: Arch::Arm64, digest: digest(9), format: Format::Sif, mutable: false };
    lab.change("head", vec![put("arm.sif", Content::Image(arm))]);
    let wish = request("arm", partition());
    let refused = lab.plan(&wish).refused;
    assert_eq!((refused[0].code.as_str(), refused[0].nodes.as_str()), ("unusable", "n1"));
    let push = lab.push(&wish);
    assert_eq!(lab.shown(push), "failed n1");
    let node = lab.node(push, "n1");
    assert_eq!(node.code, Some(FailCode::Unusable));
    assert!(node.message.unwrap().contains("built for arm64, the node is amd64"));
    assert!(!lab.orders("n1").iter().any(|order| matches!(order, Order::Assign(_))));
}

#[test]
fn an_image_that_cannot_be_used_where_it_was_brought_is_not_brought_again() {
    let mut lab = site("n1");
    let push = lab.push(&request("a", partition()));
    lab.map("head");
    let id = lab.only("n1").id;
    lab.progress("n1", Phase::Done, 0);
    lab.change("n1", vec![unusable("a.sif", UnusableCode::Private)]);
    assert_eq!(lab.shown(push), "verifying n1", "it may yet be looked at");
    lab.pass(31);
    let node = lab.node(push, "n1");
    assert_eq!((node.phase, node.code), (Phase::Failed, Some(FailCode::Unusable)));
    assert!(node.message.unwrap().contains("the particulars"));
    lab.pass(3_600);
    assert!(!lab.told("n1").contains_key(&id) && lab.shown(push) == "failed n1");
}

#[test]
fn a_node_that_failed_is_tried_again_by_itself_less_and_less_often() {
    let mut lab = site("n[1-2]");
    let push = lab.push(&request("a", partition()));
    lab.map("head");
    lab.change("n2", vec![image("a.sif", 1)]);
    for wait in [10, 20, 40] {
        lab.fails("n1", FailCode::NoSpace);
        let body = lab.body(push);
        assert_eq!((body.state, body.reasons[0].code.as_str()), (PushState::Partial, "no_space"));
        assert_eq!(lab.node(push, "n1").message.as_deref(), Some("it went wrong"));
        lab.pass_with(wait - 1, |_| {});
        assert!(lab.told("n1").is_empty(), "not before {wait} s");
        lab.pass(2);
        assert_eq!(lab.body(push).state, PushState::Running);
        lab.only("n1");
    }
    lab.change("n1", vec![image("a.sif", 1)]);
    assert_eq!(lab.body(push).state, PushState::Done);
}

#[test]
fn a_full_node_is_tried_soon_after_something_changed_there() {
    let mut lab = site("n[1-2]");
    let push = lab.push(&request("a", partition()));
    lab.map("head");
    for wait in [11, 21, 5] {
        lab.fails("n1", FailCode::NoSpace);
        lab.fails("n2", FailCode::Io);
        assert_eq!(lab.shown(push), "failed n[1-2]");
        lab.pass(wait);
    }
    for seed in [7, 8] {
        // The second change puts nothing off.
        lab.change("n1", vec![image("other.sif", seed)]);
        lab.change("n2", vec![image("other.sif", seed)]);
        lab.pass(5);
    }
    lab.pass(1);
    assert_eq!(lab.shown(push), "waiting n1; failed n2", "more room does not mend a disk");
}

#[test]
fn what_cannot_pass_is_tried_again_only_when_somebody_says_so() {
    let mut lab = site("n[1-2]");
    let push = lab.push(&request("a", partition()));
    lab.map("head");
    lab.change("n2", vec![image("a.sif", 1)]);
    lab.fails("n1", FailCode::Refused);
    lab.pass(900);
    assert_eq!((lab.shown(push).as_str(), lab.told("n1").len()), ("done n2; failed n1", 0));
    lab.retry(push);
    assert_eq!((lab.shown(push).as_str(), lab.body(push).state), ("waiting n1; done n2", PushState::Running));
    assert!(lab.body(push).ended.is_none());
    lab.change("n1", vec![image("a.sif", 1)]);
    assert_eq!(lab.body(push).state, PushState::Done);
}

#[test]
fn at_the_deadline_whoever_has_not_got_it_fails_and_the_reason_before_is_kept() {
    let mut lab = site("n[1-3]");
    lab.lose("n3");
    let mut wish = request("a", partition());
    wish.deadline_s = Some(100);
    let push = lab.push(&wish);
    lab.map("head");
    lab.pass_with(90, |lab| lab.progress("n2", Phase::Fetching, 3));
    lab.fails("n1", FailCode::NoSpace);
    lab.pass(10);
    assert_eq!((lab.shown(push).as_str(), lab.body(push).state), ("failed n[1-3]", PushState::Failed));
    for (node, before) in [("n1", "it went wrong"), ("n3", "away")] {
        let node = lab.node(push, node);
        assert_eq!(node.code, Some(FailCode::Deadline));
        assert!(node.message.unwrap().contains(before));
    }
    assert!(lab.told("n2").is_empty(), "its agent is told to stop");
    lab.connect("n3", vec![watched()]);
    assert!(lab.told("n3").is_empty());
    assert!(lab.state().pushes.timers.is_empty());
}

#[test]
fn a_deadline_goes_on_while_the_coordinator_is_down() {
    let mut lab = site("n1");
    let mut wish = request("a", partition());
    wish.deadline_s = Some(100);
    let push = lab.push(&wish);
    lab.site.now.wall.0 += 90_000;
    lab.restart(Transfers::default());
    lab.pass(9);
    assert_eq!(lab.shown(push), "deferred n1");
    lab.pass(1);
    assert_eq!(lab.shown(push), "failed n1");
}

#[test]
fn enough_nodes_may_be_enough() {
    for (completion, state) in
        [("60%", PushState::Done), ("all", PushState::Partial), ("best_effort", PushState::Done)]
    {
        let mut lab = site("n[1-5]");
        let mut wish = request("a", partition());
        wish.completion = Some(completion.into());
        let push = lab.push(&wish);
        lab.map("head");
        for node in ["n1", "n2", "n3"] {
            lab.change(node, vec![image("a.sif", 1)]);
        }
        lab.fails("n4", FailCode::Quota);
        assert_eq!(lab.body(push).state, PushState::Running, "n5 is under way");
        lab.fails("n5", FailCode::Refused);
        assert_eq!(lab.body(push).state, state, "{completion}");
    }
}

#[test]
fn a_cancelled_push_stays_cancelled() {
    let mut lab = site("n[1-2]");
    let push = lab.push(&request("a", partition()));
    lab.map("head");
    lab.change("n1", vec![image("a.sif", 1)]);
    lab.cancel(push);
    lab.cancel(push);
    assert_eq!(
        (lab.shown(push).as_str(), lab.body(push).state),
        ("done n1; cancelled n2", PushState::Cancelled)
    );
    assert!(lab.told("n2").is_empty());
    assert_eq!(lab.command(Command::Retry(push)), Err(PushError::Cancelled { push }));
    lab.restart(Transfers::default());
    assert_eq!(lab.shown(push), "done n1; cancelled n2");
    let nobody = crate::store::push::PushNo(77);
    assert!(matches!(lab.command(Command::Cancel(nobody)), Err(PushError::Unknown { .. })));
}

#[test]
fn a_node_whose_root_is_not_mounted_yet_waits_for_it() {
    let mut lab = Lab::new("n1");
    lab.connect("head", vec![library(RootState::Watched), image("a.sif", 1)]);
    lab.connect("n1", vec![super::root(super::hung())]);
    let push = lab.push(&request("a", partition()));
    assert_eq!(lab.shown(push), "failed n1");
    assert!(lab.node(push, "n1").message.unwrap().contains("is unknown"));
    lab.change("n1", vec![watched()]);
    lab.pass(11);
    assert_eq!(lab.shown(push), "waiting n1");
}

#[test]
fn old_pushes_are_forgotten_and_the_running_ones_never() {
    let mut lab = site("n1");
    lab.site.state = std::mem::replace(
        &mut lab.site.state,
        crate::state::State::restore(Default::default(), Default::default()),
    )
    .with_transfers(Transfers { max_pushes: 3, ..Transfers::default() });
    let running = lab.push(&request("a", partition()));
    let mut ended = Vec::new();
    for _ in 0..4 {
        let push = lab.push(&request("a", partition()));
        lab.cancel(push);
        ended.push(push);
    }
    let now = lab.site.now;
    let kept: Vec<String> =
        lab.site.state.view().pushes(now).pushes.into_iter().map(|push| push.id).collect();
    assert_eq!(kept, [ended[3].to_string(), ended[2].to_string(), running.to_string()]);
    lab.site.now.wall.0 += 31 * 86_400_000;
    let last = lab.push(&request("a", partition()));
    let kept: Vec<String> =
        lab.site.state.view().pushes(now).pushes.into_iter().map(|push| push.id).collect();
    assert_eq!(
        kept,
        [last.to_string(), ended[3].to_string(), running.to_string()],
        "the newest says how numbers go on"
    );
}
