//! Questions a second and their latency, quiet and while inventories change, next to nginx; and memory.
//!
//! Coordinator, agents, nginx and the programs that ask share the machine's cores, as they would not elsewhere.
//! nginx is asked in the same minute under the same load. Whoever asks shows a viewer's token, which the coordinator checks.

use std::time::Instant;

use anyhow::Context;
use sifleet_common::role::Role;

use super::load::{IMAGES, Load, Scale, TEN_THOUSAND, THOUSAND};
use super::nginx::{self, Nginx};
use super::paced::{self, Latencies};
use super::report::{Figure, Table, number};
use super::wrk::{Answered, Wrk};
use super::{Plan, process};
use crate::wait::pause;

/// Inventory events a second.
const EVENTS: u32 = 5_000;
/// Questions a second at which latency is judged.
const RATE: u32 = 10_000;
/// What asking a node itself takes, in milliseconds: `ssh node test -f`, cold and over a warm connection.
///
/// Measured once on this class of machine, not in the run that prints it.
const SSH: [(f64, &str); 2] = [(205.0, "cold"), (8.0, "warm connection")];

/// Measures with 1,000 nodes.
///
/// # Errors
/// When the cluster does not come up, or answers are wrong.
pub fn measure_1000(plan: &Plan) -> anyhow::Result<Vec<Table>> {
    measure(&THOUSAND, plan)
}

/// Measures with 10,000 nodes.
///
/// # Errors
/// When the cluster does not come up, or answers are wrong.
pub fn measure_10000(plan: &Plan) -> anyhow::Result<Vec<Table>> {
    measure(&TEN_THOUSAND, plan)
}

fn measure(scale: &Scale, plan: &Plan) -> anyhow::Result<Vec<Table>> {
    let load = Load::start(scale)?;
    let memory = memory_table(&load, scale, plan)?;
    let mut bench = Bench::prepare(&load, plan);
    let rounds = (0..plan.rounds).map(|_| bench.round()).collect::<anyhow::Result<Vec<Round>>>()?;
    Ok(vec![bench.table(scale, &rounds), memory])
}

fn memory_table(load: &Load, scale: &Scale, plan: &Plan) -> anyhow::Result<Table> {
    // Some heartbeats, so that buffers of the start are gone.
    pause(plan.busy * 2);
    let (empty, full) = (load.empty, process::memory(load.pid()?)?);
    let thousands = scale.nodes as f64 / 1000.0;
    let title = format!("Coordinator's memory: {} agents × {IMAGES} images", number(scale.nodes as f64));
    let mut table = Table::new(title, &["", "without agents", "with them", "each 1,000 agents"]);
    for (name, empty, full) in
        [("resident (RSS)", empty.resident, full.resident), ("resident at most", empty.peak, full.peak)]
    {
        let each = format!("{} MiB", number((full - empty) / thousands));
        let cells =
            [name.to_owned(), format!("{} MiB", number(empty)), format!("{} MiB", number(full)), each];
        table.row(cells);
    }
    table.note(format!(
        "Real QUIC sessions; all were current {} s after the first had dialled.",
        number(load.filled_in.as_secs_f64())
    ));
    Ok(table)
}

/// What is asked, and who asks.
struct Bench<'a> {
    load: &'a Load,
    plan: &'a Plan,
    questions: Vec<String>,
    baseline: anyhow::Result<(Nginx, Wrk)>,
}

/// Both servers, asked for as much as they can.
struct Saturated {
    nginx: Answered,
    ours: Answered,
    /// Microseconds of a processor for one answer.
    nginx_cost: f64,
    our_cost: f64,
}

struct Round {
    /// Without and with events.
    saturated: Option<[Saturated; 2]>,
    paced: Latencies,
    paced_nginx: Option<Latencies>,
    events: f64,
    /// Share of a core that the coordinator takes for the events alone.
    ingest: f64,
}

impl<'a> Bench<'a> {
    fn prepare(load: &'a Load, plan: &'a Plan) -> Self {
        let (questions, folder) = (load.questions(), load.cluster.folder());
        let baseline = Wrk::prepare(folder, &load.cluster.callers().bearer(Role::Viewer), &questions)
            .and_then(|wrk| Ok((Nginx::start(folder)?, wrk)));
        Self { load, plan, questions, baseline }
    }

    fn round(&mut self) -> anyhow::Result<Round> {
        let quiet = self.saturate()?;
        let flow = self.load.flow(EVENTS);
        let ingest = self.ingest()?;
        let (begun, before) = (Instant::now(), self.load.cluster.metric("sifleet_deltas_total")?);
        let busy = self.saturate()?;
        let paced = self.pace(&self.load.cluster.url())?;
        let paced_nginx = match &self.baseline {
            Ok((nginx, _)) => Some(self.pace(&nginx.url())?),
            Err(_) => None,
        };
        let taken_in = self.load.cluster.metric("sifleet_deltas_total")? - before;
        let events = taken_in / begun.elapsed().as_secs_f64();
        drop(flow);
        Ok(Round {
            saturated: quiet.zip(busy).map(|(quiet, busy)| [quiet, busy]),
            paced,
            paced_nginx,
            events,
            ingest,
        })
    }

    /// Watches the coordinator while events flow and nobody asks.
    fn ingest(&self) -> anyhow::Result<f64> {
        let (pid, begun) = (self.load.pid()?, Instant::now());
        let before = process::processor_time(pid)?;
        pause(self.plan.busy / 2);
        Ok((process::processor_time(pid)? - before).as_secs_f64() / begun.elapsed().as_secs_f64())
    }

    fn saturate(&self) -> anyhow::Result<Option<Saturated>> {
        let Ok((nginx, wrk)) = &self.baseline else { return Ok(None) };
        let (pid, before) = (self.load.pid()?, process::family_time(nginx.pid())?);
        let theirs = wrk.run(&nginx.url(), self.plan.busy)?;
        let nginx_time = process::family_time(nginx.pid())? - before;
        let before = process::processor_time(pid)?;
        let ours = wrk.run(&self.load.cluster.url(), self.plan.busy)?;
        let our_time = process::processor_time(pid)? - before;
        let cost = |time: std::time::Duration, answered: Answered| {
            time.as_secs_f64() * 1e6 / (answered.per_second * self.plan.busy.as_secs_f64())
        };
        let (nginx_cost, our_cost) = (cost(nginx_time, theirs), cost(our_time, ours));
        Ok(Some(Saturated { nginx: theirs, ours, nginx_cost, our_cost }))
    }

    fn pace(&self, url: &str) -> anyhow::Result<Latencies> {
        let address = url.strip_prefix("http://").context("an address")?;
        // nginx looks at no token, but reads as many bytes.
        let bearer = self.load.cluster.callers().bearer(Role::Viewer);
        paced::run(address, &bearer, &self.questions, RATE, self.plan.busy)
    }

    fn table(&self, scale: &Scale, rounds: &[Round]) -> Table {
        let title = format!("Availability: {} nodes × {IMAGES} images", number(scale.nodes as f64));
        let mut table = Table::new(title, &["", "sifleet", "nginx", "ratio"]);
        if let Err(error) = &self.baseline {
            table.row(["at saturation".to_owned(), format!("skipped: {error:#}")]);
        }
        let saturated: Vec<_> = rounds.iter().filter_map(|round| round.saturated.as_ref()).collect();
        for (at, when) in [(0, "no events"), (1, "events")] {
            let phase: Vec<&Saturated> = saturated.iter().filter_map(|round| round.get(at)).collect();
            add_saturated(&mut table, &phase, when);
        }
        add_paced(&mut table, rounds);
        let ingest = Figure::of(rounds, |round| round.ingest * 100.0);
        table.row(["the events alone, share of one core".to_owned(), ingest.show(" %")]);
        let events = Figure::of(rounds, |round| round.events);
        let bytes = self.load.cluster.get(self.questions.first().map_or("/", String::as_str));
        table.note(format!(
            "Events: {} a second were taken in, each a step of one image on one node, over all nodes and images \
             alike. An answer has about {} bytes, nginx's {}. {} different questions in turn, 64 connections.",
            events.show(""),
            bytes.map_or(0, |body| body.to_string().len()),
            nginx::ANSWER,
            self.questions.len(),
        ));
        table
    }
}

fn add_saturated(table: &mut Table, phase: &[&Saturated], when: &str) {
    if phase.is_empty() {
        return;
    }
    let mut add = |what: &str, unit: &str, ours: Figure, nginx: Figure| {
        let ratio = ours.over(&nginx).show("");
        table.row([format!("{what}, {when}"), ours.show(unit), nginx.show(unit), ratio]);
    };
    let of = |figure: fn(&Saturated) -> f64| Figure::of(phase, |round| figure(round));
    add("answers a second", "", of(|round| round.ours.per_second), of(|round| round.nginx.per_second));
    add("p99 at saturation", " ms", of(|round| round.ours.p99), of(|round| round.nginx.p99));
    add("processor time an answer", " µs", of(|round| round.our_cost), of(|round| round.nginx_cost));
}

fn add_paced(table: &mut Table, rounds: &[Round]) {
    let nginx: Vec<&Latencies> = rounds.iter().filter_map(|round| round.paced_nginx.as_ref()).collect();
    let rate = number(f64::from(RATE));
    for (name, percent) in [("p50", 50), ("p99", 99), ("most", 100)] {
        let ours = Figure::of(rounds, |round| round.paced.percentile(percent));
        let theirs = Figure::of(&nginx, |round| round.percentile(percent));
        let (beside, ratio) = match nginx.is_empty() {
            true => ("skipped".to_owned(), String::new()),
            false => (theirs.show(" ms"), ours.over(&theirs).show("")),
        };
        table.row([format!("{name} at {rate} a second, events"), ours.show(" ms"), beside, ratio]);
    }
    let median = Figure::of(rounds, |round| round.paced.percentile(50)).median();
    let ssh = SSH
        .map(|(millis, how)| format!("{millis} ms {how}, {} times the p50 above", number(millis / median)));
    table.note(format!("`ssh node test -f` (quoted, measured apart from this run): {}.", ssh.join("; ")));
}
