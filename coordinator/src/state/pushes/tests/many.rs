//! Ten thousand nodes: what one event may cost.

use std::time::{Duration, Instant};

use sifleet_common::api::pushes::PushState;
use sifleet_common::inventory::RootState;
use sifleet_common::push::Phase;

use super::lab::{Lab, partition, request};
use super::watched;
use crate::state::testing::{image, library};
use crate::state::{Effect, Event};
use crate::store::Op;

/// Far above what is aimed at (10 ms in a release build), for builds without optimisation on busy machines.
const MOST: Duration = Duration::from_millis(500);

#[test]
fn no_event_of_a_push_to_ten_thousand_nodes_takes_long() {
    let mut lab = Lab::new("n[00001-10000]");
    lab.connect("head", vec![library(RootState::Watched), image("a.sif", 1)]);
    lab.connect_all(&[watched()]);
    let mut worst = Worst::default();
    let wish = lab.wish(&request("a", partition()));
    let push = worst.of("create", || lab.push_only(wish));
    worst.drain(&mut lab);
    worst.of("map", || lab.map_only("head"));
    worst.drain(&mut lab);
    let assigned = lab.take_assigned();
    assert_eq!(assigned.len(), 10_000);
    let stored = lab.site.stored.len();
    for (session, id) in &assigned {
        worst.of("progress", || lab.progress_only(*session, *id, Phase::Fetching));
        lab.site.effects.clear();
    }
    let bytes = worst.of("view and body", || lab.body(push).bytes.fetched);
    assert_eq!((bytes, lab.site.stored.len()), (10_000, stored), "no progress is stored");
    for node in lab.members().into_iter().step_by(50) {
        worst.of("a node goes", || lab.lose_only(&node));
    }
    worst.drain(&mut lab);
    let members: Vec<String> = lab.members().into_iter().filter(|node| lab.is_connected(node)).collect();
    for node in &members {
        worst.of("a node is done", || lab.done_only(node));
        lab.site.effects.clear();
    }
    worst.drain(&mut lab);
    assert_eq!(lab.body(push).state, PushState::Partial);
    worst.of("cancel", || lab.cancel_only(push));
    worst.drain(&mut lab);
    assert!(lab.site.stored.iter().any(|op| matches!(op, Op::PutOutcomes { .. })));
    worst.report();
}

#[derive(Default)]
struct Worst(std::collections::BTreeMap<&'static str, (Duration, Duration, u32)>);

impl Worst {
    fn of<T>(&mut self, what: &'static str, act: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let got = act();
        let took = begun.elapsed();
        let (most, sum, count) = self.0.entry(what).or_default();
        (*most, *sum, *count) = ((*most).max(took), *sum + took, *count + 1);
        got
    }

    /// Lets the state do all that is left, turn by turn.
    fn drain(&mut self, lab: &mut Lab) {
        lab.site.now.mono = lab.site.now.mono.after(Duration::from_millis(600));
        while lab.site.state.next_turn().is_some_and(|turn| turn <= lab.site.now.mono) {
            let effects = self.of("turn", || lab.site.state.handle(Event::Tick, lab.site.now));
            for effect in effects {
                if let Effect::Store(op) = &effect {
                    lab.site.stored.push(op.clone());
                }
                lab.site.effects.push(effect);
            }
        }
    }

    fn report(&self) {
        for (what, (most, sum, count)) in &self.0 {
            println!("{what}: {count} times, {:?} each, {most:?} at most", *sum / *count);
            assert!(*most < MOST, "{what} took {most:?}");
        }
    }
}
