//! What an agent costs its node while nothing happens: memory and processor time, with 1,000 images.
//!
//! A real agent process, real files, a real coordinator; the kernel's own accounts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::process;
use super::report::{Figure, Table};
use crate::cluster::{COORDINATOR, Cluster};
use crate::sif::SifBuilder;
use crate::wait::{pause, until};

const NODE: &str = "n1";
const IMAGES: u64 = 1_000;
/// Inventory, memory database and threads depend on how many images there are, not on how large they are.
const IMAGE_BYTES: u32 = 64 * 1024;
const LIMIT: Duration = Duration::from_secs(300);
/// After this the first scan's threads and buffers have come to rest.
const REST: Duration = Duration::from_secs(20);

/// Measures.
///
/// # Errors
/// When the agent does not come up.
pub fn measure(plan: &super::Plan) -> anyhow::Result<Vec<Table>> {
    let cluster = start()?;
    let agent = cluster.pid(NODE).context("the agent has ended")?;
    pause(REST);
    let (mut resident, mut proportional, mut idle) =
        (Figure::default(), Figure::default(), Figure::default());
    for _ in 0..plan.rounds {
        let (before, begun) = (process::processor_time(agent)?, Instant::now());
        pause(plan.idle);
        let time = process::processor_time(agent)?.saturating_sub(before);
        idle.add(time.as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0);
        let memory = process::memory(agent)?;
        resident.add(memory.resident);
        proportional.add(memory.proportional);
    }
    let peak = process::memory(agent)?.peak;
    let look = look_at_everything(&cluster, agent)?;
    let coordinator = process::memory(cluster.pid(COORDINATOR).context("the coordinator has ended")?)?;

    let mut table = Table::new("An agent with 1,000 images, idle", &["", "figure", "aim"]);
    table.row(["resident (RSS)".to_owned(), resident.show(" MiB"), "below 30 MiB".to_owned()]);
    table.row(["proportional (PSS)".to_owned(), proportional.show(" MiB")]);
    table.row([
        "resident at most, hashing included".to_owned(),
        Figure::of(&[peak], |peak| *peak).show(" MiB"),
    ]);
    let seconds = plan.idle.as_secs();
    let share = format!("processor, share of one core over {seconds} s");
    table.row([share, idle.show(" %"), "below 0.1 %".to_owned()]);
    let cost = Figure::of(&[look], |look| look.as_secs_f64() * 1000.0).show(" ms");
    table.row(["a look at everything (every 10 minutes)".to_owned(), cost]);
    let coordinator = Figure::of(&[coordinator.resident], |size| *size).show(" MiB");
    table.row(["for comparison: its coordinator, resident".to_owned(), coordinator]);
    Ok(vec![table])
}

fn start() -> anyhow::Result<Cluster> {
    let plan = crate::cluster::Plan {
        name: "bench-agent",
        partitions: BTreeMap::from([("all", NODE)]),
        nodes: vec![NODE],
        library: None,
        lease: Duration::from_secs(30),
    };
    let mut cluster = Cluster::lay_out(plan)?;
    for seed in 0..IMAGES {
        let image = SifBuilder::new().payload_bytes(IMAGE_BYTES, seed + 1);
        image.write(cluster.root(NODE).join(format!("image{seed:04}.sif")))?;
    }
    cluster.start_all()?;
    let wanted = IMAGES as f64;
    until("all images are known", LIMIT, || match cluster.metric("sifleet_digests") {
        Ok(known) if known >= wanted => Ok(()),
        Ok(known) => Err(format!("{known} known")),
        Err(error) => Err(format!("{error:#}")),
    })?;
    Ok(cluster)
}

/// Returns the processor time of one reconciliation.
fn look_at_everything(cluster: &Cluster, agent: u32) -> anyhow::Result<Duration> {
    let before = process::processor_time(agent)?;
    let rescan = ureq::post(format!("{}/v1/nodes/{NODE}/rescan", cluster.url()));
    rescan.header("authorization", cluster.bearer()).send_empty()?;
    let mut last = process::processor_time(agent)?;
    until("the agent rests again", LIMIT, || {
        pause(Duration::from_secs(1));
        let time = process::processor_time(agent).map_err(|error| error.to_string())?;
        let rests = time.saturating_sub(last) < Duration::from_millis(2) && time > before;
        last = time;
        if rests { Ok(()) } else { Err("it works".to_owned()) }
    })?;
    Ok(last.saturating_sub(before))
}
