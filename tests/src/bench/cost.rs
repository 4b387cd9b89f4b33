//! What it costs to bring an image from one node to another: processor time of both ends, memory, and what it leaves in the
//! page cache; next to curl from nginx over TLS 1.3 and to scp.
//!
//! Two agents and a coordinator on the loopback, as processes. Processor time is the kernel's account of whole processes
//! and of their children, so that threads that have ended count. Everything an agent does for a push is in it: making
//! the chunk map, verifying each chunk, holding the whole against its digest, publishing. Others verify nothing but
//! what their transport does.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::fs::{Advice, fadvise};

use super::nginx::Nginx;
use super::pair::{Pair, Run, used, used_since};
use super::process;
use super::report::{Figure, Table, number};
use super::sshd::Sshd;
use crate::sif::SifBuilder;
use crate::wait::pause;

/// A usual image's size.
const PAYLOAD: u32 = 1_500_000_000;

/// Measures.
///
/// # Errors
/// When a push fails.
pub fn measure(plan: &super::Plan) -> anyhow::Result<Vec<Table>> {
    let pair = Pair::start("bench-cost")?;
    let mut others = Others::start(pair.cluster.folder());
    let (mut first, mut again, mut cold) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..plan.rounds {
        let image = publish(&pair, round)?;
        others.round(&pair.cluster.library().join(&image), round)?;
        warm(&pair.cluster.library().join(&image))?;
        for runs in [&mut first, &mut again] {
            runs.push(pair.push(&image)?);
            pair.take_off(&image)?;
        }
        evict(&pair.cluster.library().join(&image))?;
        cold.push(pair.push(&image)?);
        pair.take_off(&image)?;
        pair.forget(&image)?;
    }
    let mut table = Table::new(
        "One image from one node to another, over the loopback",
        &["", "processor, both ends", "of curl over TLS 1.3", "took"],
    );
    let tls = others.tls.cost.clone();
    let mut row = |name: &str, cost: &Figure, took: &Figure| {
        let share = if tls.is_empty() { String::new() } else { cost.over(&tls).show("") };
        table.row([name.to_owned(), cost.show(" s/GB"), share, took.show(" s")]);
    };
    let cost = |runs: &[Run]| Figure::of(runs, |run| run.cost);
    let took = |runs: &[Run]| Figure::of(runs, |run| run.took.as_secs_f64());
    row("push, its chunk map made", &cost(&first), &took(&first));
    row("push, its chunk map known", &cost(&again), &took(&again));
    row("the same, image not cached before", &cost(&cold), &took(&cold));
    for (name, other) in [
        ("curl from nginx, TLS 1.3", &others.tls),
        ("scp, aes128-gcm", &others.gcm),
        ("scp, chacha20-poly1305", &others.scp),
    ] {
        if !other.cost.is_empty() {
            row(name, &other.cost, &other.took);
        }
    }
    for missing in others.missing {
        table.note(format!("skipped: {missing}"));
    }
    table.note(shares(&first));
    Ok(vec![table, left(&pair, &cold)?])
}

/// Puts an image into the library that nobody has seen; returns its name.
fn publish(pair: &Pair, round: usize) -> anyhow::Result<String> {
    let name = format!("image{round}.sif");
    let path = pair.cluster.library().join(&name);
    SifBuilder::new().payload_bytes(PAYLOAD, round as u64 + 1).write(&path)?;
    File::open(&path)?.sync_all()?;
    pair.known(&name, 1)?;
    Ok(name)
}

/// Says what they leave behind.
fn left(pair: &Pair, runs: &[Run]) -> anyhow::Result<Table> {
    let mut table = Table::new(
        "What a push of an image that nobody had read leaves behind",
        &["", "giving", "receiving"],
    );
    let memory: Vec<f64> = pair
        .agents()?
        .into_iter()
        .map(|agent| process::memory(agent).map(|memory| memory.peak))
        .collect::<anyhow::Result<_>>()?;
    let cell = |at: usize| memory.get(at).map_or_else(String::new, |peak| format!("{} MiB", number(*peak)));
    table.row(["memory of the agent at most, all pushes".to_owned(), cell(0), cell(1)]);
    let share =
        |at: usize| Figure::of(runs, |run| run.cached.get(at).copied().unwrap_or(0.0) * 100.0).show(" %");
    table.row(["of the file in the page cache afterwards".to_owned(), share(0), share(1)]);
    Ok(table)
}

/// Says which threads the time goes to.
fn shares(runs: &[Run]) -> String {
    let mut text = String::from("Of the first push, seconds a GB by thread:");
    let Some(run) = runs.last() else { return text };
    for (name, time) in &run.threads {
        if *time >= 0.005 {
            text.push_str(&format!(" {name} {},", number(*time)));
        }
    }
    text.trim_end_matches(',').to_owned() + "."
}

fn warm(image: &Path) -> anyhow::Result<()> {
    std::io::copy(&mut File::open(image)?, &mut std::io::sink())?;
    Ok(())
}

fn evict(image: &Path) -> anyhow::Result<()> {
    fadvise(File::open(image)?, 0, None, Advice::DontNeed)?;
    Ok(())
}

/// One of the others.
#[derive(Default)]
struct Other {
    cost: Figure,
    took: Figure,
}

/// Who else can bring a file over; those that are not there cost their rows.
struct Others {
    folder: PathBuf,
    nginx: Option<Nginx>,
    sshd: Option<Sshd>,
    tls: Other,
    gcm: Other,
    scp: Other,
    missing: Vec<String>,
}

impl Others {
    fn start(folder: &Path) -> Self {
        let mut missing = Vec::new();
        let nginx = Nginx::files(folder, &folder.join("library"));
        let nginx = nginx.map_err(|error| missing.push(format!("{error:#}"))).ok();
        let sshd = Sshd::start(folder).map_err(|error| missing.push(format!("{error:#}"))).ok();
        let other = Other::default;
        Self { folder: folder.to_owned(), nginx, sshd, tls: other(), gcm: other(), scp: other(), missing }
    }

    fn round(&mut self, image: &Path, round: usize) -> anyhow::Result<()> {
        let to = self.folder.join(format!("fetched{round}"));
        warm(image)?;
        if let Some(nginx) = &self.nginx {
            let name = image.file_name().unwrap_or_default().to_string_lossy();
            let mut curl = Command::new("curl");
            curl.args(["-sSf", "--tlsv1.3", "--cacert"]).arg(self.folder.join("tls.pem"));
            curl.arg(format!("https://localhost:{}/{name}", nginx.port())).arg("-o").arg(&to);
            let workers = process::children(nginx.pid())?;
            self.tls.fetch(curl, &workers, &to)?;
        }
        if let Some(sshd) = &self.sshd {
            let server = [sshd.pid()];
            self.gcm.fetch(sshd.fetch("aes128-gcm@openssh.com", image, &to), &server, &to)?;
            self.scp.fetch(sshd.fetch("chacha20-poly1305@openssh.com", image, &to), &server, &to)?;
        }
        Ok(())
    }
}

impl Other {
    /// Runs a client to its end and adds what it and its server took.
    fn fetch(&mut self, mut client: Command, server: &[u32], to: &Path) -> anyhow::Result<()> {
        let (before, own) = (used(server)?, process::all_time("self")?);
        let begun = Instant::now();
        let status = client.status().with_context(|| format!("{client:?}"))?;
        ensure!(status.success(), "{client:?} ended with {status}");
        let took = begun.elapsed();
        // The server's child ends a moment after the client, and counts only then.
        pause(Duration::from_millis(300));
        let time = used_since(server, before)? + (process::all_time("self")? - own).as_secs_f64();
        self.cost.add(time / (fs::metadata(to)?.len() as f64 / 1e9));
        self.took.add(took.as_secs_f64());
        fs::remove_file(to)?;
        Ok(())
    }
}
