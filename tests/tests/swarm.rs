//! How long a transfer to many nodes takes, as a multiple of the time one link needs, over the real decisions.
//!
//! The limits here are those a change must not break; `cargo measure swarm` prints the figures.

use std::time::Duration;

use sifleet_tests::swarm::{Outcome, World, run};

fn outcome(world: World) -> Outcome {
    let outcome = run(world, 1).unwrap_or_else(|error| panic!("{world:?}: {error}"));
    anstream::println!("{} nodes: {outcome:.3?}", world.nodes);
    outcome
}

#[test]
fn a_handful_and_hundreds_of_nodes_take_little_more_than_one() {
    for (nodes, limit) in [(1, 1.02), (4, 1.03), (16, 1.05), (128, 1.10), (512, 1.10)] {
        let outcome = outcome(World::of(nodes));
        assert!(outcome.last <= limit, "{nodes} nodes: {outcome:?}");
        assert!(outcome.egress <= 1.10, "the first source gave more than one copy: {outcome:?}");
        assert!(outcome.wasted <= 0.02, "{outcome:?}");
    }
}

#[test]
fn jitter_and_deaths_cost_little() {
    for nodes in [128, 512] {
        let outcome = outcome(World { jitter: 30, dying: 2, ..World::of(nodes) });
        assert!(outcome.last <= 1.2, "{outcome:?}");
    }
}

#[test]
fn nodes_that_die_are_missed_and_their_places_bridged() {
    // Slow enough that leases run out on the way.
    let slow = World { span: Duration::from_millis(52), ..World::of(64) };
    let outcome = outcome(World { jitter: 30, dying: 30, ..slow });
    assert!(outcome.last <= 1.25, "{outcome:?}");
}

#[test]
fn slow_nodes_hold_nobody_up() {
    for (slow, limit) in [(5, 1.1), (20, 1.15)] {
        let outcome = outcome(World { slow, ..World::of(64) });
        assert!(outcome.median <= limit, "{outcome:?}");
        assert!(outcome.last <= 5.1, "the slow ones take five times as long, and not more: {outcome:?}");
    }
}

#[test]
fn ten_thousand_nodes_take_a_quarter_more_than_one() {
    if std::env::var_os("SIFLEET_LONG").is_none() {
        anstream::println!("skipped: minutes of work, which cargo verify --long does");
        return;
    }
    let outcome = outcome(World::of(10_000));
    assert!(outcome.last <= 1.25, "{outcome:?}");
}
