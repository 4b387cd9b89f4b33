//! Whatever happens, an answer that was kept is the one that would be worked out at this moment.
#![cfg(test)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use sifleet_common::availability::Require;
use sifleet_common::inventory::{
    Change, Generation, Inventory, Root, RootId, RootKind, RootState, UnusableCode,
};
use sifleet_common::wire::control::{Heartbeat, Stamp, ToCoordinator};

use super::{Answered, Asked, Basis, Cache, MAX_BYTES};
use crate::state::testing::{Site, digest, gone, hung, image, library, open_to_all, pending, root, unusable};
use crate::state::{Event, SessionId};
use crate::view::View;
use crate::view::rendered::Rendered;

const NODES: [&str; 4] = ["head", "n1", "n2", "n3"];
const IMAGES: [&str; 5] = ["a", "a.sif", "shared/a.sif", "b", "c"];

/// What happens to one node.
#[derive(Clone, Debug)]
enum Step {
    Connects(Vec<Change>),
    SaysHello,
    Changes(Change),
    Beats,
    SaysGoodbye,
    Closes,
    MovesTo(&'static str),
    MembersFail,
    Waits(u64),
}

fn change() -> impl Strategy<Value = Change> {
    let degraded = RootState::Degraded { reason: "no inotify".into() };
    let partial = RootState::Partial { reason: "private".into() };
    let (path, state) = ("/scratch/apptainer".into(), RootState::Watched);
    let elsewhere = Change::Root(RootId(0), Root { path, kind: RootKind::Plain, state });
    prop::sample::select(vec![
        root(RootState::Watched),
        root(hung()),
        root(degraded),
        root(partial),
        library(RootState::Watched),
        elsewhere,
        open_to_all(),
        image("a.sif", 1),
        image("a.sif", 2),
        image("shared/a.sif", 1),
        image("b", 3),
        pending("a.sif"),
        unusable("a.sif", UnusableCode::Unreadable),
        unusable("b", UnusableCode::Unreadable),
        gone("a.sif"),
        gone("shared/a.sif"),
        gone("b"),
    ])
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => prop::collection::vec(change(), 0..3).prop_map(Step::Connects),
        1 => Just(Step::SaysHello),
        6 => change().prop_map(Step::Changes),
        2 => Just(Step::Beats),
        1 => Just(Step::SaysGoodbye),
        1 => Just(Step::Closes),
        1 => prop::sample::select(vec!["n1", "n[1-2]", "n[1-4]"]).prop_map(Step::MovesTo),
        1 => Just(Step::MembersFail),
        1 => (1_u64..20).prop_map(Step::Waits),
    ]
}

fn take(site: &mut Site, sessions: &mut BTreeMap<&str, SessionId>, node: &'static str, step: Step) {
    let session = sessions.get(node).copied();
    match (step, session) {
        (Step::Connects(changes), _) => {
            sessions.insert(node, site.agent(node, [vec![root(RootState::Watched)], changes].concat()));
        }
        (Step::SaysHello, _) => {
            sessions.insert(node, site.hello(node, &[]));
        }
        (Step::Changes(change), Some(_)) => site.change(node, vec![change]),
        (Step::Beats, Some(_)) => site.beat(node),
        (Step::SaysGoodbye, Some(session)) => site.say(session, ToCoordinator::Goodbye),
        (Step::Closes, Some(session)) => site.handle(Event::Closed { session }),
        (Step::MovesTo(nodes), _) => site.partition("p", nodes),
        (Step::MembersFail, _) => {
            site.handle(Event::MembersFailed { source: "file", reason: "it is gone".into() });
        }
        (Step::Waits(seconds), _) => {
            site.now.mono = site.now.mono.after(Duration::from_secs(seconds));
            site.now.wall.0 += i64::try_from(seconds * 1_000).unwrap();
            site.handle(Event::Tick);
        }
        (Step::Changes(_) | Step::Beats | Step::SaysGoodbye | Step::Closes, None) => {}
    }
}

/// Asks everything, of what is kept and of nothing.
fn compare(site: &mut Site) {
    let view = site.view();
    let forgetful = View { cache: Arc::new(Cache::default()), ..site.view() };
    let bytes = [format!("{}", digest(1)), format!("a@{}", digest(2))];
    for image in IMAGES.into_iter().chain(bytes.iter().map(String::as_str)) {
        let [kept, anew] = [&view, &forgetful].map(|view| {
            let mut answer = view.availability(image, "p", Require::All, site.now);
            if let Ok(answer) = &mut answer {
                answer.generation = 0;
            }
            format!("{answer:#?}")
        });
        assert_eq!(kept, anew, "{image}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn an_answer_that_is_kept_is_the_one_that_would_be_worked_out_now(
        steps in prop::collection::vec((prop::sample::select(NODES.to_vec()), step(), any::<bool>()), 1..60),
    ) {
        let (mut site, mut sessions) = (Site::new(), BTreeMap::new());
        site.partition("p", "n[1-4]");
        for (node, step, somebody_asks) in steps {
            take(&mut site, &mut sessions, node, step);
            if somebody_asks {
                compare(&mut site);
            }
        }
        compare(&mut site);
    }
}

#[test]
fn why_a_node_without_a_lease_is_unknown_is_said_as_it_is_now() {
    let mut site = Site::new();
    site.partition("p", "n[1-2]");
    let session = site.agent("n1", vec![root(RootState::Watched), image("a.sif", 1)]);
    site.say(session, ToCoordinator::Goodbye);
    assert_eq!(site.codes("a", "p"), ["syncing", "never_seen"], "it may still say what it holds");
    site.handle(Event::Closed { session });
    assert_eq!(site.codes("a", "p"), ["never_seen", "lease_expired"]);
    site.hello("n2", &[]);
    assert_eq!(site.codes("a", "p"), ["syncing", "lease_expired"]);
}

#[test]
fn a_node_whose_heartbeats_win_no_lease_leaves_the_answers_of_others_as_they_were() {
    let mut site = Site::new();
    site.partition("p", "n[1-2]");
    site.agent("n1", vec![root(RootState::Watched), image("a.sif", 1)]);
    let late = site.agent("n2", vec![root(RootState::Watched)]);
    site.say(late, ToCoordinator::Goodbye);
    let now = site.now;
    let ask = |site: &mut Site| site.view().cached_availability("a", "p", Require::All, now).unwrap();
    let before = ask(&mut site);
    let mut inventory = Inventory::default();
    inventory.apply(root(RootState::Watched));
    let (generation, digest, stamp) = (Generation(1), inventory.digest(), Stamp(u64::MAX));
    site.now.wall.0 += 1;
    site.say(late, ToCoordinator::Heartbeat(Heartbeat { generation, digest, stamp }));
    assert!(Arc::ptr_eq(&before, &ask(&mut site)));
}

#[test]
fn a_change_of_one_image_leaves_the_answers_about_others_as_they_were() {
    let mut site = Site::new();
    site.partition("p", "n1");
    site.agent("n1", vec![root(RootState::Watched), image("a.sif", 1), image("b", 2)]);
    let now = site.now;
    let ask = |site: &mut Site| {
        let view = site.view();
        ["a", "b"].map(|image| view.cached_availability(image, "p", Require::All, now).unwrap())
    };
    let [a, b] = ask(&mut site);
    site.change("n1", vec![image("a.sif", 3)]);
    let [other, same] = ask(&mut site);
    assert!(!Arc::ptr_eq(&a, &other) && Arc::ptr_eq(&b, &same));
    site.agent("n9", vec![root(RootState::Watched)]);
    assert!(!Arc::ptr_eq(&b, &ask(&mut site)[1]), "whoever comes may be a member");
}

#[test]
fn answers_of_megabytes_are_kept_and_all_of_them_take_no_more_than_there_is_room_for() {
    let mut site = Site::new();
    site.partition("p", "n1");
    site.agent("n1", vec![root(RootState::Watched), image("a.sif", 1)]);
    let mut body = site.ask("a", "p").unwrap();
    body.message = "n".repeat(1 << 20);
    let (view, answer) = (site.view(), Arc::new(Rendered::new(body)));
    for at in 0..200 {
        let image = format!("image-{at}");
        let asked = Asked { image: image.as_str(), partition: "p", require: Require::All };
        let (target, basis) =
            (view.resolve("a", None).unwrap(), Basis { liveness: 0, versions: vec![0; 1_000] });
        view.cache.put(&asked, Answered::new(target, basis, 0, Arc::clone(&answer)));
        assert!(view.cache.get(&asked).is_some(), "the newest is kept");
    }
    let weight = view.cache.answers.weight();
    assert!((MAX_BYTES / 2..=MAX_BYTES).contains(&weight), "{weight}");
}
