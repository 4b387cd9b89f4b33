//! A dashboard's page: 200 images of one partition in one question (`POST /v1/availability`).
//!
//! Asked again while nothing changes, asked as nobody has asked before, and asked while inventories change.

use anyhow::Context;
use sifleet_common::role::Role;

use super::Plan;
use super::load::{IMAGES, Load, TEN_THOUSAND};
use super::paced::{self, Latencies};
use super::report::{Figure, Table, number};

/// Pages a second at which latency is judged: a hundred people who look at a page that asks every two seconds.
const RATE: u32 = 50;
/// What 99 of 100 pages are to stay below, in milliseconds.
const AIM: f64 = 5.0;
/// Inventory events a second.
const EVENTS: u32 = 5_000;

/// The latencies of one round: of pages asked before, of others, and while events flow.
struct Pages([Latencies; 3]);

/// Measures with 10,000 nodes.
///
/// # Errors
/// When the cluster does not come up, or answers are wrong.
pub fn measure(plan: &Plan) -> anyhow::Result<Vec<Table>> {
    let load = Load::start(&TEN_THOUSAND)?;
    let aside = load.aside();
    let rounds = (0..plan.rounds).map(|round| measure_round(&load, plan, round));
    let rounds = rounds.collect::<anyhow::Result<Vec<Pages>>>()?;
    drop(aside);
    Ok(vec![table(TEN_THOUSAND.nodes, &rounds)])
}

fn measure_round(load: &Load, plan: &Plan, round: usize) -> anyhow::Result<Pages> {
    let url = load.cluster.url();
    let address = url.strip_prefix("http://").context("an address")?;
    let bearer = load.cluster.callers().bearer(Role::Viewer);
    let partitions = load.partitions();
    let page = |partition: &str, require: &str| question(address, &bearer, partition, require);
    let asked: Vec<_> = partitions.iter().map(|partition| page(partition, "all")).collect();
    // Answers are kept by what is required too: with a number that nobody has named each is worked out.
    let count = usize::try_from(plan.busy.as_secs() * u64::from(RATE))?;
    let numbers = 1 + round * count..=(round + 1) * count;
    let new = partitions.iter().cycle().zip(numbers);
    let new: Vec<_> = new.map(|(partition, number)| page(partition, &number.to_string())).collect();
    paced::run_raw(address, &asked, RATE, plan.busy / 10)?;
    let quiet = paced::run_raw(address, &asked, RATE, plan.busy)?;
    let new = paced::run_raw(address, &new, RATE, plan.busy)?;
    let flow = load.flow(EVENTS);
    let busy = paced::run_raw(address, &asked, RATE, plan.busy)?;
    drop(flow);
    Ok(Pages([quiet, new, busy]))
}

/// Writes the request for a page of a partition.
fn question(address: &str, bearer: &str, partition: &str, require: &str) -> Vec<u8> {
    let query = |image: usize| serde_json::json!({"image": format!("image{image:04}"), "partition": partition, "require": require});
    let body = serde_json::json!({"queries": (0..IMAGES).map(query).collect::<Vec<_>>()}).to_string();
    let head = format!("POST /v1/availability HTTP/1.1\r\nHost: {address}\r\nAuthorization: {bearer}\r\n");
    let length = body.len();
    format!("{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// Shows all rounds.
fn table(nodes: usize, rounds: &[Pages]) -> Table {
    let title = format!("A page of {IMAGES} images in one question: {} nodes", number(nodes as f64));
    let mut table = Table::new(title, &["", "sifleet", "aim"]);
    for (at, when) in [(0, "asked before"), (1, "never asked before"), (2, "events")] {
        let phase: Vec<&Latencies> = rounds.iter().filter_map(|Pages(round)| round.get(at)).collect();
        for (name, percent) in [("p50", 50), ("p99", 99), ("most", 100)] {
            let figure = Figure::of(&phase, |round| round.percentile(percent));
            let aim = if percent == 99 { format!("{} ms", number(AIM)) } else { String::new() };
            table.row([format!("{name}, {when}"), figure.show(" ms"), aim]);
        }
    }
    table.note(format!(
        "{RATE} pages a second over 64 connections, each partition in turn, from when a page was due until its last byte \
         was there. The agents' threads have the lowest priority meanwhile. Events: {} asked for a second.",
        number(f64::from(EVENTS))
    ));
    table
}
