//! The coordinator dies under all its agents and comes back: how long until every answer counts again.
//!
//! The baseline is the first start of the same fleet, when every agent had to send its whole inventory.

use std::time::Instant;

use super::Plan;
use super::load::{IMAGES, Load, Scale, THOUSAND};
use super::report::{Figure, Table, number};
use crate::cluster::COORDINATOR;
use crate::wait::pause;

/// Measures with 1,000 agents; ten times as many in one process, all dialling anew, do not fit into a usual machine.
///
/// # Errors
/// When they do not come back.
pub fn measure(plan: &Plan) -> anyhow::Result<Vec<Table>> {
    storm(&THOUSAND, plan)
}

fn storm(scale: &Scale, plan: &Plan) -> anyhow::Result<Vec<Table>> {
    let mut load = Load::start(scale)?;
    let (mut ready, mut current, mut snapshots) = (Figure::default(), Figure::default(), Figure::default());
    for _ in 0..plan.rounds {
        // What was taken in last is to be on disk, as it is at any other moment.
        pause(plan.busy);
        load.cluster.kill(COORDINATOR)?;
        let begun = Instant::now();
        load.cluster.start_coordinator()?;
        ready.add(begun.elapsed().as_secs_f64());
        load.wait_until_current()?;
        current.add(begun.elapsed().as_secs_f64());
        snapshots.add(load.cluster.metric("sifleet_snapshot_parts_total")?);
    }
    let agents = number(scale.nodes as f64);
    let mut table = Table::new(
        format!("Restart: kill -9 of the coordinator under {agents} agents × {IMAGES} images"),
        &["", "figure"],
    );
    table.row(["started again and answering".to_owned(), ready.show(" s")]);
    table.row([format!("all {agents} agents current"), current.show(" s")]);
    table.row(["parts of snapshots sent".to_owned(), snapshots.show("")]);
    let first = number(load.filled_in.as_secs_f64());
    table.row(["for comparison: the first start, with whole inventories".to_owned(), format!("{first} s")]);
    Ok(vec![table])
}
