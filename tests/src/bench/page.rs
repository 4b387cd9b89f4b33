//! A dashboard's page: 200 images of one partition in one question (`POST /v1/availability`), quiet and while inventories change.

use anyhow::Context;
use sifleet_common::role::Role;

use super::Plan;
use super::load::{IMAGES, Load};
use super::paced::{self, Latencies};
use super::report::{Figure, Table, number};

/// Pages a second at which latency is judged: a hundred people who look at a page that asks every two seconds.
const RATE: u32 = 50;
/// What 99 of 100 pages are to stay below, in milliseconds.
const AIM: f64 = 5.0;

/// The latencies of one round, without and with events.
pub struct Pages([Latencies; 2]);

/// Asks for pages while nothing changes, then while `flow` lets events flow.
///
/// # Errors
/// When answers are wrong.
pub fn round(load: &Load, plan: &Plan, events: u32) -> anyhow::Result<Pages> {
    let url = load.cluster.url();
    let address = url.strip_prefix("http://").context("an address")?;
    let bearer = load.cluster.callers().bearer(Role::Viewer);
    let questions = questions(address, &bearer, &load.partitions());
    let aside = load.aside();
    let quiet = paced::run_raw(address, &questions, RATE, plan.busy)?;
    let flow = load.flow(events);
    let busy = paced::run_raw(address, &questions, RATE, plan.busy)?;
    drop((flow, aside));
    Ok(Pages([quiet, busy]))
}

/// Writes a request for each partition.
fn questions(address: &str, bearer: &str, partitions: &[&str]) -> Vec<Vec<u8>> {
    let page = |partition: &&str| {
        let query =
            |image: usize| serde_json::json!({"image": format!("image{image:04}"), "partition": partition});
        let body = serde_json::json!({"queries": (0..IMAGES).map(query).collect::<Vec<_>>()}).to_string();
        let head =
            format!("POST /v1/availability HTTP/1.1\r\nHost: {address}\r\nAuthorization: {bearer}\r\n");
        let length = body.len();
        format!("{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
    };
    partitions.iter().map(page).collect()
}

/// Shows all rounds.
#[must_use]
pub fn table(nodes: usize, events: u32, rounds: &[Pages]) -> Table {
    let title = format!("A page of {IMAGES} images in one question: {} nodes", number(nodes as f64));
    let mut table = Table::new(title, &["", "sifleet", "aim"]);
    for (at, when) in [(0, "no events"), (1, "events")] {
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
        number(f64::from(events))
    ));
    table
}
