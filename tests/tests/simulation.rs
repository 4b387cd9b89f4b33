//! Right answers under chaos: thousands of seeded worlds, every answer held against the truth after every step.

use sifleet_tests::sim::{Faults, World, limits};

const CHAOS: Faults = Faults { loss: 10, double: 10, delay: 4_000, crash: 10, blind_generations: false };
const STEPS: usize = 250;

fn seeds() -> u64 {
    if std::env::var_os("SIFLEET_LONG").is_some() { 20_000 } else { 1_000 }
}

/// Runs one world through chaos; returns the world, or what was answered wrongly.
fn run(seed: u64, faults: Faults) -> Result<World, String> {
    let mut world = World::new(seed, faults);
    for step in 0..STEPS {
        world.step().map_err(|wrong| format!("seed {seed}, step {step}: {wrong}"))?;
    }
    Ok(world)
}

#[test]
fn no_answer_contradicts_the_truth_of_the_last_lease() {
    for seed in 0..seeds() {
        if let Err(wrong) = run(seed, CHAOS) {
            panic!("{wrong}");
        }
    }
}

#[test]
fn once_the_chaos_ends_every_answer_is_exactly_the_truth() {
    for seed in 0..seeds() / 4 {
        let mut world = run(seed, CHAOS).unwrap_or_else(|wrong| panic!("{wrong}"));
        world.settle(limits());
        world.check_converged().unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    }
}

#[test]
fn the_checks_notice_deltas_applied_onto_the_wrong_generation() {
    let blind = Faults { blind_generations: true, loss: 30, ..CHAOS };
    let noticed = (0..200).filter(|seed| run(*seed, blind).is_err()).count();
    assert!(noticed > 0, "worlds without a generation check must be caught lying");
}
