//! A push simulated over the real decisions, up to ten thousand nodes: no machine has so many links.
//!
//! Figures follow from a seed and not from the machine; only the time it takes does.

use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::Plan;
use super::report::{Table, number};
use crate::swarm::{World, run};

/// Seeds of which the worst is shown.
const SEEDS: u64 = 3;
/// From so many nodes on, one seed: it takes minutes.
const MANY: usize = 1_000;

/// Simulates pushes of 128 MiB in 1,024 spans, each node behind a link of its own.
///
/// # Errors
/// When a node that lives does not get the image.
pub fn measure(_: &Plan) -> anyhow::Result<Vec<Table>> {
    let mut table = Table::new(
        "A push, simulated: 1,024 spans, 10.5 ms each",
        &[
            "nodes",
            "what happens",
            "last node",
            "half of them",
            "first source sent",
            "came twice",
            "simulated in",
        ],
    );
    let slower = Duration::from_millis(52);
    let worlds = [
        ("", World::of(4)),
        ("", World::of(16)),
        ("", World::of(128)),
        ("", World::of(512)),
        ("30 % jitter, 2 % die", World { jitter: 30, dying: 2, ..World::of(128) }),
        ("30 % jitter, 2 % die", World { jitter: 30, dying: 2, ..World::of(512) }),
        ("the same, 52 ms a span", World { jitter: 30, dying: 2, span: slower, ..World::of(512) }),
        ("20 % at a fifth of the rate", World { slow: 20, ..World::of(128) }),
        ("", World::of(10_000)),
    ];
    for (what, world) in worlds {
        let begun = Instant::now();
        let (mut last, mut median, mut egress, mut wasted) = (0.0_f64, 0.0_f64, 0.0_f64, 0.0_f64);
        let seeds = if world.nodes < MANY { SEEDS } else { 1 };
        for seed in 1..=seeds {
            let outcome = run(world, seed).map_err(|error| anyhow!("{} nodes: {error}", world.nodes))?;
            (last, median) = (last.max(outcome.last), median.max(outcome.median));
            (egress, wasted) = (egress.max(outcome.egress), wasted.max(outcome.wasted));
        }
        table.row([
            number(world.nodes as f64),
            what.to_owned(),
            format!("{last:.3} × S/B"),
            format!("{median:.3} × S/B"),
            format!("{egress:.3} × S"),
            format!("{:.1} %", wasted * 100.0),
            format!("{} s", number(begun.elapsed().as_secs_f64() / seeds as f64)),
        ]);
    }
    table.note(format!("The worst of {SEEDS} seeds; of one from {} nodes on.", number(MANY as f64)));
    Ok(vec![table])
}
