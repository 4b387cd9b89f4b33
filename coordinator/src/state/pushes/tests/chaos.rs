//! Whatever happens in whatever order: the books agree, and every push ends.

use std::collections::{BTreeMap, BTreeSet};

use sifleet_common::api::pushes::{PushState, PushTarget};
use sifleet_common::inventory::RootState;
use sifleet_common::push::{FailCode, Fault, Phase};

use super::lab::{Lab, partition, request};
use super::{Transfers, watched};
use crate::state::pushes::{Command, Timer, place};
use crate::state::testing::{gone, hung, image, library, root};
use crate::store::push::PushNo;

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

const NODES: [&str; 6] = ["head", "n1", "n2", "n3", "n4", "n5"];

fn inventory(node: &str, random: &mut Random) -> Vec<sifleet_common::inventory::Change> {
    let mut changes = match node {
        "head" => vec![library(RootState::Watched), image("a.sif", 1), image("b.sif", 2)],
        _ if random.below(8) == 0 => vec![root(hung())],
        _ => vec![watched()],
    };
    if node != "head" && random.below(4) == 0 {
        changes.push(image("a.sif", 1));
    }
    changes
}

fn step(lab: &mut Lab, random: &mut Random, lives: &mut u64) {
    let node = NODES[usize::try_from(random.below(6)).unwrap()];
    let push = PushNo(1 + random.below(6));
    let connected = lab.is_connected(node);
    match random.below(20) {
        0 | 1 => {
            let to = [partition(), PushTarget::Nodes("n[1-3]".into()), PushTarget::MissingOn("p".into())];
            let mut wish = request(["a", "b"][usize::try_from(random.below(2)).unwrap()], {
                let [one, two, three] = to;
                [one, two, three].into_iter().nth(usize::try_from(random.below(3)).unwrap()).unwrap()
            });
            wish.deadline_s = Some(60 + random.below(400));
            wish.root = (random.below(3) == 0).then(|| "/opt/apptainers".into());
            wish.from = (random.below(5) == 0).then(|| "head".into());
            // Nobody may hold it at present.
            drop(lab.try_push(&wish));
        }
        2 => drop(lab.command(Command::Cancel(push))),
        3 => drop(lab.command(Command::Retry(push))),
        4 => drop(lab.command(Command::Rate(push, Some(1 + random.below(9))))),
        5 if connected => lab.lose(node),
        5 | 6 if !connected => {
            let changes = inventory(node, random);
            lab.connect(node, changes);
        }
        6 => lab.reconnect(node),
        7 | 8 if connected && node != "head" => {
            let what = [image("a.sif", 1), image("b.sif", 2), gone("a.sif"), watched(), root(hung())];
            let change = what.into_iter().nth(usize::try_from(random.below(5)).unwrap()).unwrap();
            lab.change(node, vec![change]);
        }
        9 | 10 if lab.makers().contains(&node) => {
            if random.below(3) == 0 {
                lab.cannot_map(node)
            } else {
                lab.map(node)
            }
        }
        11..=15 if connected => {
            let Some(id) = lab.told(node).into_keys().next() else { return };
            let codes = [FailCode::NoSpace, FailCode::NoMap, FailCode::Refused, FailCode::NoSource];
            match random.below(6) {
                0 => lab.fails_with(node, id, codes[usize::try_from(random.below(4)).unwrap()]),
                1 => lab.accuses_as(node, id, NODES[usize::try_from(random.below(6)).unwrap()], Fault::Lied),
                2 => lab.finishes(node, id),
                _ => lab.progress_of(node, id, Phase::Fetching),
            }
        }
        16 if random.below(6) == 0 => {
            *lives += 1;
            lab.restart(Transfers { first_assignment: *lives << 40, ..Transfers::default() });
        }
        17.. => lab.pass(1 + random.below(30)),
        _ => {}
    }
}

/// Holds everything that is counted against what it counts.
fn check(lab: &Lab) {
    let pushes = &lab.state().pushes;
    let mut parts = BTreeMap::new();
    for (no, push) in &pushes.pushes {
        let mut counts = [0; Phase::ALL.len()];
        for (at, part) in push.parts.iter().enumerate() {
            let share = part.share.map(|id| &pushes.shares[&id]);
            let phase = share.map_or(push.shown[at].outcome.phase, |share| share.phase);
            counts[place(phase)] += 1;
            if let Some(id) = part.share {
                assert!(!part.settled && pushes.shares[&id].parts.contains(&(*no, at)));
                parts.entry(id).or_insert_with(BTreeSet::new).insert((*no, at));
            }
        }
        assert_eq!(push.counts, counts, "{no}");
        assert_eq!(push.open as usize, push.parts.iter().filter(|part| !part.settled).count(), "{no}");
        assert_eq!(push.state, push.stands(), "{no}");
        assert_eq!(push.record.ended.is_some(), push.state != PushState::Running, "{no}");
        assert_eq!(push.expires.is_some(), push.open > 0, "{no}");
    }
    for (id, share) in &pushes.shares {
        assert_eq!(
            parts.get(id).map(BTreeSet::len),
            Some(share.parts.len()),
            "{id:?} belongs to {:?}",
            share.parts
        );
        assert!(pushes.of_node[&share.node].contains(id) && pushes.swarms[&share.image].shares.contains(id));
        assert!(!share.assigned || share.phase.is_under_way(), "{share:?}");
        assert_eq!(share.has_failed(), share.due.is_some() && !share.assigned, "{share:?}");
        assert!(!share.assigned || share.due.is_some(), "somebody looks after it: {share:?}");
    }
    let known =
        pushes.of_node.values().flatten().chain(pushes.swarms.values().flat_map(|swarm| &swarm.shares));
    assert!(known.into_iter().all(|id| pushes.shares.contains_key(id)));
    for (at, timer) in &pushes.timers {
        match timer {
            Timer::Share(id) => assert_eq!(pushes.shares[id].due, Some(*at)),
            Timer::Push(no) => assert_eq!(pushes.pushes[no].expires, Some(*at)),
            Timer::Map(image) => assert!(pushes.maps.is_settled(*image)),
            Timer::Verdict(image) => assert!(pushes.signatures.asked.contains_key(image)),
            Timer::Pardon(node) => assert_eq!(pushes.quarantine.until(*node), Some(*at)),
        }
    }
    for (image, swarm) in &pushes.swarms {
        for node in &swarm.holding {
            assert!(swarm.ring.contains(*node), "{node:?} holds {image} and is asked by nobody");
        }
    }
}

#[test]
fn whatever_happens_the_books_agree_and_every_push_ends() {
    for seed in 0..300 {
        let (mut random, mut lives) = (Random(seed), 0);
        let mut lab = Lab::new("n[1-5]");
        for node in NODES {
            let changes = inventory(node, &mut random);
            lab.connect(node, changes);
        }
        for _ in 0..300 {
            step(&mut lab, &mut random, &mut lives);
            check(&lab);
        }
        lab.pass(600);
        check(&lab);
        let pushes = &lab.state().pushes;
        assert!(pushes.shares.is_empty() && pushes.swarms.is_empty() && pushes.of_node.is_empty());
        assert!(pushes.timers.iter().all(|(_, timer)| matches!(timer, Timer::Map(_) | Timer::Pardon(_))));
        assert!(pushes.pushes.values().all(|push| push.open == 0 && push.state != PushState::Running));
        let nodes: BTreeSet<_> = NODES.into_iter().filter(|node| lab.is_connected(node)).collect();
        for node in &nodes {
            let told = lab.told(node);
            assert!(
                told.is_empty(),
                "seed {seed}: {node} still works on {told:?} after {:?}",
                lab.orders(node)
            );
        }
        // What is stored is what is known.
        let shown = |lab: &mut Lab| {
            let now = lab.site.now;
            let mut pushes = lab.site.state.view().pushes(now).pushes;
            pushes.iter_mut().for_each(|push| push.dropped.clear());
            pushes
        };
        let before = shown(&mut lab);
        lab.restart(Transfers::default());
        assert_eq!(shown(&mut lab), before, "seed {seed}");
    }
}
