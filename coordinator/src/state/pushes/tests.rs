//! Pushes from the wish to the end, as agents and people see them.
#![cfg(test)]

mod chaos;
mod ends;
mod joins;
mod lab;
mod limits;
mod many;
mod signatures;
mod sources;

use sifleet_common::api::pushes::{PushRequest, PushState, PushTarget};
use sifleet_common::inventory::{Change, Root, RootId, RootKind, RootState};
use sifleet_common::push::{FailCode, Phase};
use sifleet_common::wire::assignment::{AssignmentId, Order};

use super::{PushError, Transfers};
use crate::state::testing::{OURS, digest, gone, hung, image, library, root};
use crate::view::QueryError;
use crate::view::meant::MeantError;
use lab::{Lab, partition, request};

fn watched() -> Change {
    root(RootState::Watched)
}

/// A head node whose library holds `a.sif`, and nodes without it.
fn site(nodes: &str) -> Lab {
    let mut lab = Lab::new(nodes);
    lab.connect("head", vec![library(RootState::Watched), image("a.sif", 1)]);
    for node in lab.members() {
        lab.connect(&node, vec![watched()]);
    }
    lab
}

#[test]
fn a_push_makes_a_map_tells_every_node_and_ends_when_their_inventories_show_the_image() {
    let mut lab = site("n[1-3]");
    let push = lab.push(&request("a", partition()));
    assert_eq!(lab.shown(push), "waiting n[1-3]");
    assert_eq!(lab.body(push).reasons[0].message, "the chunk map is being made");
    assert_eq!(lab.makers(), ["head"]);
    lab.map("head");
    for node in ["n1", "n2", "n3"] {
        let told = lab.only(node);
        assert_eq!((told.image, told.name.as_str(), told.root), (digest(1), "a.sif", RootId(0)));
        assert_eq!(told.peers.len(), 3, "the two others and the head");
        let head = told.peers.iter().find(|peer| peer.node.as_str() == "head").unwrap();
        assert_eq!(head.address, (OURS, 7_442).into(), "the loopback would be the node itself");
    }
    lab.progress("n1", Phase::Fetching, 10);
    assert_eq!(lab.shown(push), "waiting n[2-3]; fetching n1");
    lab.progress("n1", Phase::Done, 100);
    assert_eq!(lab.shown(push), "waiting n[2-3]; verifying n1", "the inventory has the last word");
    for node in ["n1", "n2", "n3"] {
        lab.change(node, vec![image("a.sif", 1)]);
    }
    let body = lab.body(push);
    assert_eq!((lab.shown(push).as_str(), body.state), ("done n[1-3]", PushState::Done));
    assert!(body.ended.is_some() && body.reasons.is_empty());
    assert_eq!((body.bytes.fetched, body.bytes.total, body.bytes.present), (100, 3, 0));
    assert!(lab.state().pushes.swarms.is_empty() && lab.state().pushes.timers.is_empty());
}

#[test]
fn a_node_that_has_the_image_is_done_at_once_and_nothing_is_said_to_it() {
    let mut lab = site("n[1-2]");
    lab.change("n1", vec![image("a.sif", 1)]);
    let push = lab.push(&request("a", partition()));
    assert_eq!(lab.shown(push), "waiting n2; done n1");
    assert_eq!(lab.body(push).bytes.present, 1);
    lab.change("n2", vec![image("a.sif", 1)]);
    let again = lab.push(&request("a", partition()));
    assert_eq!((lab.shown(again).as_str(), lab.body(again).state), ("done n[1-2]", PushState::Done));
    assert!(lab.told("n1").is_empty());
    let missing = lab.push(&request("a", PushTarget::MissingOn("p".into())));
    assert_eq!((lab.body(missing).nodes, lab.body(missing).state), (0, PushState::Done));
}

#[test]
fn two_pushes_of_one_image_share_what_is_done_and_one_may_end_without_the_other() {
    let mut lab = site("n[1-2]");
    let one = lab.push(&request("a", partition()));
    lab.map("head");
    let mut named = request("a", PushTarget::Nodes("n1".into()));
    named.root = Some("/opt/apptainers/".into());
    named.priority = Some(200);
    let other = lab.push(&named);
    let told = lab.only("n1");
    assert_eq!(told.priority, 200, "the same assignment, said again with the higher priority");
    lab.progress("n1", Phase::Fetching, 7);
    assert_eq!((lab.body(one).bytes.fetched, lab.body(other).bytes.fetched), (7, 7));
    lab.cancel(one);
    assert_eq!((lab.shown(one).as_str(), lab.body(one).state), ("cancelled n[1-2]", PushState::Cancelled));
    assert_eq!(lab.told("n1").len(), 1, "the other push goes on");
    assert!(lab.told("n2").is_empty(), "nobody wants it there any longer");
    lab.change("n1", vec![image("a.sif", 1)]);
    assert_eq!((lab.shown(one).as_str(), lab.shown(other).as_str()), ("cancelled n[1-2]", "done n1"));
}

#[test]
fn a_node_that_is_away_gets_its_share_when_it_is_back() {
    let mut lab = site("n[1-2]");
    lab.lose("n2");
    let push = lab.push(&request("a", partition()));
    lab.map("head");
    assert_eq!(lab.shown(push), "waiting n1; deferred n2");
    lab.change("n1", vec![image("a.sif", 1)]);
    let body = lab.body(push);
    assert_eq!((body.state, body.reasons[0].code.as_str()), (PushState::Partial, "deferred"));
    lab.connect("n2", vec![watched()]);
    assert_eq!((lab.shown(push).as_str(), lab.body(push).state), ("waiting n2; done n1", PushState::Running));
    assert_eq!(lab.list("n2"), [lab.only("n2").id], "and the list is said after it");
    // It goes away in the middle, and comes back on another address.
    lab.progress("n2", Phase::Fetching, 5);
    lab.lose("n2");
    assert_eq!(lab.shown(push), "done n1; deferred n2");
    lab.connect("n2", vec![watched()]);
    assert_eq!(lab.shown(push), "waiting n2; done n1");
    lab.change("n2", vec![image("a.sif", 1)]);
    assert_eq!((lab.shown(push).as_str(), lab.body(push).state), ("done n[1-2]", PushState::Done));
}

#[test]
fn every_session_hears_of_all_its_assignments_even_if_there_are_none() {
    let mut lab = site("n1");
    assert!(lab.list("n1").is_empty() && lab.lists("n1") == 1);
    lab.push(&request("a", partition()));
    lab.map("head");
    let told = lab.only("n1").id;
    lab.reconnect("n1");
    assert_eq!((lab.list("n1"), lab.only("n1").id), (vec![told], told));
}

#[test]
fn a_push_goes_on_where_it_was_after_a_restart_and_ids_of_the_earlier_life_say_nothing() {
    let mut lab = site("n[1-3]");
    let mut wish = request("a", partition());
    wish.completion = Some("80%".into());
    let push = lab.push(&wish);
    lab.map("head");
    let before = lab.only("n2").id;
    lab.change("n1", vec![image("a.sif", 1)]);
    lab.restart(Transfers { first_assignment: 1 << 40, ..Transfers::default() });
    assert_eq!(lab.shown(push), "done n1; deferred n[2-3]");
    lab.connect("n2", vec![watched()]);
    let told = lab.only("n2");
    assert!(
        told.id.0 > 1 << 40 && told.peers.is_empty(),
        "it keeps what it has, though nobody is there to give yet"
    );
    assert_eq!(lab.list("n2"), [told.id]);
    lab.progress_of("n2", before, Phase::Failed);
    assert_eq!(lab.shown(push), "waiting n2; done n1; deferred n3");
    lab.connect("n3", vec![watched()]);
    lab.connect("head", vec![library(RootState::Watched), image("a.sif", 1)]);
    lab.pass(1);
    assert_eq!(lab.only("n2").peers.len(), 2, "the head and n3 have come");
    assert!(lab.makers().is_empty(), "the map is known");
    for node in ["n2", "n3"] {
        lab.change(node, vec![image("a.sif", 1)]);
    }
    let body = lab.body(push);
    assert_eq!((body.state, body.completion.as_str()), (PushState::Done, "80%"));
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_can() {
    let mut lab = site("n[1-3]");
    lab.change("n1", vec![image("b.sif", 2)]);
    lab.change("n2", vec![image("b.sif", 3)]);
    let refused = |lab: &mut Lab, wish: &PushRequest| lab.try_push(wish).unwrap_err();
    let error = refused(&mut lab, &request("b", partition()));
    let PushError::Meant(MeantError::Disagreed { candidates, .. }) = error else { panic!() };
    assert_eq!(candidates, [format!("b.sif@{}", digest(2)), format!("b.sif@{}", digest(3))]);
    let push = lab.push(&request(&candidates[0], partition()));
    assert_eq!((lab.body(push).digest, lab.body(push).image), (digest(2).to_string(), "b.sif".into()));
    assert!(matches!(
        refused(&mut lab, &request("c", partition())),
        PushError::Meant(MeantError::Query(QueryError::UnknownImage { .. }))
    ));
    assert!(matches!(
        refused(&mut lab, &request("a", PushTarget::Nodes("n[1-4]".into()))),
        PushError::Meant(MeantError::Query(QueryError::UnknownNode { .. }))
    ));
    let mut wish = request("a", partition());
    wish.from = Some("n1".into());
    let PushError::NotThere { candidates, .. } = refused(&mut lab, &wish) else { panic!() };
    assert_eq!(candidates, ["head"]);
    let changes: [fn(&mut PushRequest); 7] = [
        |wish| wish.completion = Some("most".into()),
        |wish| wish.deadline_s = Some(0),
        |wish| wish.rate = Some(99_999),
        |wish| wish.root = Some("opt".into()),
        |wish| wish.digest = Some("blake3:1".into()),
        |wish| wish.image = None,
        |wish| wish.digest = Some(digest(9).to_string()),
    ];
    for change in changes {
        let mut wish = request("a", partition());
        change(&mut wish);
        let error = refused(&mut lab, &wish);
        assert!(
            matches!(error, PushError::Meant(MeantError::Bad { .. } | MeantError::NoHolder { .. })),
            "{error}"
        );
    }
}

#[test]
fn a_dry_run_says_who_gets_it_and_who_cannot() {
    let mut lab = site("n[1-4]");
    lab.change("n1", vec![image("a.sif", 1)]);
    lab.lose("n2");
    lab.change("n3", vec![root(hung())]);
    let mut wish = request("a", partition());
    wish.rate = Some(100_000);
    let plan = lab.plan(&wish);
    assert_eq!((plan.nodes.as_str(), plan.ready.as_str(), plan.deferred.as_str()), ("n[2,4]", "n1", "n2"));
    assert_eq!((plan.refused[0].code.as_str(), plan.refused[0].nodes.as_str()), ("no_root", "n3"));
    assert_eq!((plan.bytes, plan.seconds, plan.sources.as_str()), (2, Some(1), "head,n1"));
}

#[test]
fn a_dry_run_of_an_image_that_is_to_be_uploaded_takes_its_word() {
    let mut lab = site("n[1-3]");
    lab.change("n1", vec![image("a.sif", 1)]);
    lab.lose("n3");
    for (name, meant) in [("p/new.sif", "new.sif"), ("a.sif", "a.sif")] {
        let mut wish = request(name, partition());
        (wish.digest, wish.dry_run) = (Some(digest(9).to_string()), true);
        let refused = lab.site.state.view().wish(&wish, lab.site.now).unwrap_err();
        assert!(matches!(refused, PushError::Meant(_)), "{refused}");
        wish.upload = Some(1_000);
        wish.from = Some("head".into());
        assert!(lab.site.state.view().wish(&wish, lab.site.now).is_ok(), "the library will hold it");
        wish.from = Some("n2".into());
        let refused = lab.site.state.view().wish(&wish, lab.site.now).unwrap_err().to_string();
        assert!(refused.contains("n2 does not hold") && refused.ends_with("alone: head"), "{refused}");
        wish.from = None;
        let plan = lab.plan(&wish);
        assert_eq!((plan.image.as_str(), plan.nodes.as_str(), plan.bytes), (meant, "n[1-3]", 3_000));
        assert_eq!((plan.ready.as_str(), plan.deferred.as_str(), plan.sources.as_str()), ("", "n3", ""));
        assert_eq!(plan.replaces, if name == "a.sif" { "n1" } else { "" });
    }
    let mut wish = request("p/.new.sif", partition());
    (wish.digest, wish.dry_run, wish.upload) = (Some(digest(9).to_string()), true, Some(1_000));
    let refused = lab.site.state.view().wish(&wish, lab.site.now).unwrap_err().to_string();
    assert_eq!(refused, "p/.new.sif cannot be the name of an image in the library: a part of it is hidden");
    wish.image = Some("new.sif".into());
    let roots = lab.plan(&wish).roots;
    assert_eq!(
        (roots[0].path.as_str(), roots[0].nodes.as_str(), roots.len()),
        ("/opt/apptainers", "n[1-3]", 1)
    );
}

#[test]
fn one_key_makes_one_push() {
    let mut lab = site("n1");
    let first = lab.push_with_key(&request("a", partition()), "k", 1).unwrap();
    assert_eq!(lab.push_with_key(&request("a", partition()), "k", 1), Ok(first));
    let error = lab.push_with_key(&request("a", partition()), "k", 2).unwrap_err();
    assert_eq!(error, PushError::KeyReused { push: first });
    lab.restart(Transfers::default());
    lab.connect("head", vec![library(RootState::Watched), image("a.sif", 1)]);
    assert_eq!(lab.push_with_key(&request("a", partition()), "k", 1), Ok(first));
}

#[test]
fn the_root_is_the_one_named_or_the_first_that_is_no_library() {
    let mut lab = site("n[1-2]");
    let second = Root { path: "/scratch".into(), kind: RootKind::Plain, state: RootState::Watched };
    lab.change("n1", vec![Change::Root(RootId(1), second)]);
    let mut wish = request("a", partition());
    wish.root = Some("/scratch".into());
    let push = lab.push(&wish);
    lab.map("head");
    assert_eq!(lab.only("n1").root, RootId(1));
    assert_eq!(lab.shown(push), "waiting n1; failed n2");
    assert_eq!(lab.node(push, "n2").code, Some(FailCode::NoRoot));
    lab.change("n1", vec![gone("none.sif")]);
    assert!(matches!(lab.orders("n1").last(), Some(Order::Assign(_))));
}

#[test]
fn no_more_than_an_agent_takes_is_said_to_it_and_the_most_urgent_first() {
    let images: Vec<Change> =
        (0..66).map(|n| image(&format!("i{n}.sif"), u8::try_from(n).unwrap() + 10)).collect();
    let mut lab = Lab::new("n1");
    lab.connect("head", [vec![library(RootState::Watched)], images].concat());
    lab.connect("n1", vec![watched()]);
    let pushes: Vec<_> = (0..66)
        .map(|n| {
            let mut wish = request(&format!("i{n}"), partition());
            wish.priority = Some(if n == 65 { 200 } else { 100 });
            lab.push(&wish)
        })
        .collect();
    lab.map_all("head");
    assert_eq!(lab.told("n1").len(), 64);
    assert_eq!(lab.body(pushes[64]).reasons[0].message, "other images come first on this node");
    lab.change("n1", vec![image("i0.sif", 10)]);
    assert!(lab.told("n1").values().any(|told| told.name.as_str() == "i65.sif"));
    assert_eq!(lab.told("n1").len(), 64);
}

#[test]
fn another_rate_is_said_at_once_and_the_most_generous_counts() {
    let mut lab = site("n1");
    let mut wish = request("a", partition());
    wish.rate = Some(200_000);
    let one = lab.push(&wish);
    lab.map("head");
    assert_eq!(lab.only("n1").rate, Some(200_000));
    lab.rate(one, Some(150_000));
    assert_eq!((lab.only("n1").rate, lab.body(one).rate), (Some(150_000), Some(150_000)));
    lab.push(&wish);
    assert_eq!(lab.only("n1").rate, Some(200_000));
    lab.rate(one, None);
    assert_eq!(lab.only("n1").rate, None);
    assert_eq!(lab.only("n1").id, AssignmentId(lab.only("n1").id.0));
}
