//! How long a transfer to many nodes takes, as a multiple of the time one link needs, over the real decisions.
//!
//! The limits here are those a change must not break; `cargo measure swarm` prints the figures.

use sifleet_tests::swarm::{Outcome, World, run};

fn outcome(world: World) -> Outcome {
    let outcome = run(world, 1).unwrap_or_else(|error| panic!("{world:?}: {error}"));
    anstream::println!("{} nodes: {outcome:.3?}", world.nodes);
    outcome
}

#[test]
fn a_handful_and_hundreds_of_nodes_take_little_more_than_one() {
    for (nodes, limit) in [(1, 1.02), (4, 1.05), (16, 1.08), (128, 1.12)] {
        let outcome = outcome(World::of(nodes));
        assert!(outcome.last <= limit, "{nodes} nodes: {outcome:?}");
        assert!(outcome.egress <= 1.15, "the first source gave more than one copy: {outcome:?}");
        assert!(outcome.wasted <= 0.02, "{outcome:?}");
    }
}

#[test]
fn jitter_and_deaths_cost_little() {
    let outcome = outcome(World { jitter: 30, dying: 2, ..World::of(128) });
    assert!(outcome.last <= 1.2, "{outcome:?}");
}

#[test]
fn slow_nodes_hold_nobody_up() {
    let outcome = outcome(World { slow: 5, ..World::of(64) });
    assert!(outcome.median <= 1.15, "{outcome:?}");
    assert!(outcome.last <= 5.2, "the slow ones take five times as long, and not more: {outcome:?}");
}
