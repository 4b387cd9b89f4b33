//! What a push to ten thousand nodes costs the coordinator's owner task: the real state, told by agents that are only
//! numbers, event by event; and the views that it publishes.

mod crowd;

use std::time::Duration;

use sifleet_common::push::Phase;
use sifleet_coordinator::state::pushes::Command;

use super::Plan;
use super::report::{Table, number};
use crowd::Crowd;

/// Nodes of the push.
const NODES: usize = 10_000;
/// Reports of each node on its way.
const REPORTS: u64 = 5;
/// Nodes whose leases end in the same moment: a switch fails.
const LOST: usize = 1_000;

/// Measures every event of one push from its beginning to its end, and of one that is cancelled.
///
/// # Errors
/// When the push does not come to the end that it should.
pub fn measure(_: &Plan) -> anyhow::Result<Vec<Table>> {
    let mut crowd = Crowd::new(NODES)?;
    push(&mut crowd)?;
    let mut table = Table::new(
        format!("The planner: a push to {} nodes", number(NODES as f64)),
        &["event", "times", "median", "p99", "most"],
    );
    for (what, mut times) in std::mem::take(&mut crowd.times) {
        times.sort_unstable();
        let at = |share: usize| times.get((times.len() * share / 100).min(times.len() - 1)).copied();
        let show = |time: Option<Duration>| {
            format!("{} ms", number(time.unwrap_or_default().as_secs_f64() * 1_000.0))
        };
        let count = number(times.len() as f64);
        table.row([what, count, show(at(50)), show(at(99)), show(times.last().copied())]);
    }
    table.note("Processor time of the thread, not of the clock: what else the machine does is not counted.");
    table.note(format!(
        "The store was given {} rows in {} steps, inventories among them; {} reports of progress gave it {}.",
        number(crowd.rows as f64),
        number(crowd.steps as f64),
        number(crowd.reports as f64),
        number(crowd.steps_of_reports as f64),
    ));
    Ok(vec![table])
}

fn push(crowd: &mut Crowd) -> anyhow::Result<()> {
    let wish = crowd.wish()?;
    let push = crowd.command("a push is created", Command::Create(Box::new(wish)))?;
    crowd.map();
    for round in 1..=REPORTS {
        for at in 1..=NODES {
            crowd.progress(at, Phase::Fetching, round);
        }
    }
    crowd.live(NODES);
    for at in (1..=NODES).step_by(100) {
        crowd.stop(at);
    }
    for at in (1..=NODES).step_by(100) {
        crowd.connect(at, "a node returns");
    }
    crowd.lose(LOST);
    for at in NODES - LOST + 1..=NODES {
        crowd.connect(at, "a node returns");
    }
    for at in 1..=NODES / 2 {
        crowd.finish(at);
    }
    crowd.command("its rate is changed", Command::Rate(push, Some(1_000_000)))?;
    crowd.command("it is cancelled", Command::Cancel(push))?;
    anyhow::ensure!(crowd.has_ended(), "the push has not ended");
    Ok(())
}
