//! What a node that floods the coordinator costs everybody else: answers over HTTP, and how soon a change is answered for.
//!
//! The same minute without and with each kind of flood, under the ordinary flow of events; the ratio is what counts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use sifleet_common::role::Role;

use super::load::{IMAGES, Load, Scale};
use super::paced::{self, Latencies};
use super::report::{Figure, Table, number};
use super::{Plan, process};
use crate::cluster::Cluster;
use crate::fleet;
use crate::flood::{Flood, Kind};
use crate::wait::pause;

/// The cluster: all but the last seven nodes behave.
const SCALE: Scale = Scale {
    name: "bench-flood",
    nodes: 999,
    partitions: [
        ("all", "n[00001-01007]"),
        ("q1", "n[00001-00250]"),
        ("q2", "n[00251-00500]"),
        ("q3", "n[00501-00998]"),
        ("probe", "n00999"),
    ],
};
/// Those that flood, one for each kind, so that none pays for what another one did.
const HOSTILE: [&str; 7] = ["n01001", "n01002", "n01003", "n01004", "n01005", "n01006", "n01007"];
/// Ordinary inventory events a second.
const EVENTS: u32 = 1_000;
/// Questions a second.
const RATE: u32 = 2_000;
/// How long a flood has gone on when measuring begins: what it may use at once is used up.
const BEFORE: Duration = Duration::from_secs(3);
/// Time between two looks at whether a change is answered for.
const LOOK: Duration = Duration::from_micros(500);

/// Measures all kinds of flood.
///
/// # Errors
/// When the cluster does not come up, or does not answer.
pub fn measure(plan: &Plan) -> anyhow::Result<Vec<Table>> {
    let load = Load::start(&SCALE)?;
    let mut rounds: Vec<Vec<[Measured; 2]>> = Kind::ALL.iter().map(|_| Vec::new()).collect();
    let flow = load.flow(EVENTS);
    for _ in 0..plan.rounds {
        for ((kind, node), rounds) in Kind::ALL.into_iter().zip(HOSTILE).zip(&mut rounds) {
            let quiet = measured(&load, plan)?;
            let flood = Flood::start(&load.cluster, node, kind)?;
            pause(BEFORE);
            let before = flood.sent();
            let mut flooded = measured(&load, plan)?;
            flooded.sent = (flood.sent() - before) as f64 / plan.busy.as_secs_f64();
            rounds.push([quiet, flooded]);
        }
    }
    drop(flow);
    Ok(vec![table(&rounds)])
}

struct Measured {
    answers: Latencies,
    changes: Latencies,
    /// Share of one core that the coordinator takes.
    share: f64,
    /// Messages of the flood that QUIC took, a second.
    sent: f64,
}

fn measured(load: &Load, plan: &Plan) -> anyhow::Result<Measured> {
    let (url, questions) = (load.cluster.url(), load.questions());
    let address = url.strip_prefix("http://").context("an address")?;
    let bearer = load.cluster.callers().bearer(Role::Viewer);
    let agent = load.agent(SCALE.nodes - 1).context("the last agent")?;
    let (pid, done) = (load.pid()?, AtomicBool::new(false));
    let (begun, before) = (Instant::now(), process::processor_time(pid)?);
    let (answers, changes) = std::thread::scope(|scope| {
        let probing = scope.spawn(|| probe(&load.cluster, &agent, &done));
        let answers = paced::run(address, &bearer, &questions, RATE, plan.busy);
        done.store(true, Ordering::Relaxed);
        (answers, probing.join())
    });
    let share = (process::processor_time(pid)? - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    let changes = changes.ok().context("the probe panicked")??;
    Ok(Measured { answers: answers?, changes: Latencies::of(changes), share: share * 100.0, sent: 0.0 })
}

/// Puts an image onto the probe's disk and takes it away, again and again; tells how long until answers say so.
fn probe(
    cluster: &Cluster,
    agent: &tokio::sync::mpsc::Sender<Vec<sifleet_common::inventory::Change>>,
    done: &AtomicBool,
) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    let ask = format!("/v1/availability?image=image{IMAGES:04}&partition=probe");
    // Somebody must have heard of the image before anybody can ask for it.
    agent.blocking_send(vec![fleet::put(IMAGES, 0)])?;
    pause(Duration::from_millis(200));
    for round in 0_u64.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let (change, wanted) = match round.is_multiple_of(2) {
            true => (fleet::remove(IMAGES), "missing"),
            false => (fleet::put(IMAGES, 0), "ready"),
        };
        let begun = Instant::now();
        agent.blocking_send(vec![change])?;
        while cluster.get(&ask)?["nodes"][wanted] != "n00999" {
            pause(LOOK);
        }
        latencies.push(begun.elapsed());
    }
    agent.blocking_send(vec![fleet::remove(IMAGES)])?;
    Ok(latencies)
}

fn table(rounds: &[Vec<[Measured; 2]>]) -> Table {
    let mut table = Table::new(
        format!("One node floods: {} other nodes × {IMAGES} images", number(SCALE.nodes as f64)),
        &[
            "flood of",
            "p99 of answers, without",
            "with",
            "ratio",
            "p99 from change to answer, without",
            "with",
            "ratio",
            "coordinator, share of a core, without",
            "with",
            "messages taken a second",
        ],
    );
    for (kind, rounds) in Kind::ALL.into_iter().zip(rounds) {
        let of = |at: usize, figure: fn(&Measured) -> f64| {
            Figure::of(rounds, |round| round.get(at).map_or(0.0, figure))
        };
        let pair = |figure: fn(&Measured) -> f64, unit: &str| {
            let (quiet, flooded) = (of(0, figure), of(1, figure));
            [quiet.show(unit), flooded.show(unit), flooded.over(&quiet).show("")]
        };
        let [one, two, three] = pair(|measured| measured.answers.percentile(99), " ms");
        let [four, five, six] = pair(|measured| measured.changes.percentile(99), " ms");
        let [seven, eight, _] = pair(|measured| measured.share, " %");
        let sent = of(1, |measured| measured.sent).show("");
        let kind = format!("{kind:?}").to_lowercase();
        table.row([kind, one, two, three, four, five, six, seven, eight, sent]);
    }
    table.note(format!(
        "{} ordinary events and {} questions a second flow all the time; one image comes and goes on one node, over and over, and it is \
         asked until the answer says so. The flood begins {} s before.",
        number(f64::from(EVENTS)),
        number(f64::from(RATE)),
        BEFORE.as_secs()
    ));
    table
}
