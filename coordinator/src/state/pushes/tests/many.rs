//! Ten thousand nodes: no event does much at once, and little of it is written. How long events take, `cargo measure planner`
//! tells.

use std::time::Duration;

use sifleet_common::api::pushes::PushState;
use sifleet_common::inventory::RootState;
use sifleet_common::push::Phase;

use super::lab::{Lab, partition, request};
use super::watched;
use crate::state::Event;
use crate::state::pushes::STEPS;
use crate::state::testing::{image, library};
use crate::store::Op;

/// Nodes of the push.
const NODES: usize = 10_000;
/// Effects of one event: some for each step that it takes, whatever the number of nodes.
const MOST: usize = 4 * STEPS;

#[test]
fn no_event_of_a_push_to_ten_thousand_nodes_does_much_and_no_progress_is_written() {
    let mut lab = Lab::new(&format!("n[00001-{NODES}]"));
    lab.connect("head", vec![library(RootState::Watched), image("a.sif", 1)]);
    lab.connect_all(&[watched()]);
    lab.site.stored.clear();
    let wish = lab.wish(&request("a", partition()));
    let push = bounded(&mut lab, |lab| lab.push_only(wish));
    drain(&mut lab);
    bounded(&mut lab, |lab| lab.map_only("head"));
    drain(&mut lab);
    let assigned = lab.take_assigned();
    assert_eq!(assigned.len(), NODES);
    let stored = lab.site.stored.len();
    for _ in 0..3 {
        for (session, id) in &assigned {
            bounded(&mut lab, |lab| lab.progress_only(*session, *id, Phase::Fetching));
            lab.site.effects.clear();
        }
    }
    assert_eq!(lab.body(push).bytes.fetched, NODES as u64);
    assert_eq!(lab.site.stored.len(), stored, "no progress is stored");
    for node in lab.members().into_iter().step_by(50) {
        bounded(&mut lab, |lab| lab.lose_only(&node));
    }
    drain(&mut lab);
    let members: Vec<String> = lab.members().into_iter().filter(|node| lab.is_connected(node)).collect();
    for node in &members {
        bounded(&mut lab, |lab| lab.done_only(node));
        lab.site.effects.clear();
    }
    drain(&mut lab);
    assert_eq!(lab.body(push).state, PushState::Partial);
    bounded(&mut lab, |lab| lab.cancel_only(push));
    drain(&mut lab);
    let rows: usize = lab.site.stored.iter().map(rows).sum();
    assert!(
        (2 * NODES..2 * NODES + 10).contains(&rows),
        "{rows} rows: each node's wish and end, and the push"
    );
}

/// Lets something happen that does a bounded part of what there is to do.
fn bounded<T>(lab: &mut Lab, act: impl FnOnce(&mut Lab) -> T) -> T {
    let before = lab.site.effects.len();
    let got = act(lab);
    let did = lab.site.effects.len() - before;
    assert!(did <= MOST, "{did} effects of one event");
    got
}

/// Lets the state do all that is left, turn by turn.
fn drain(lab: &mut Lab) {
    lab.site.now.mono = lab.site.now.mono.after(Duration::from_millis(600));
    while lab.site.state.next_turn().is_some_and(|turn| turn <= lab.site.now.mono) {
        bounded(lab, |lab| lab.site.handle(Event::Tick));
    }
}

/// Counts what a step writes about pushes.
fn rows(op: &Op) -> usize {
    if let Op::PutPush { nodes, .. } = op {
        1 + nodes.len()
    } else if let Op::PutOutcomes { nodes, .. } = op {
        nodes.len()
    } else {
        usize::from(matches!(op, Op::ChangePush { .. } | Op::PutMap { .. }))
    }
}
