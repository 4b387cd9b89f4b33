//! How fast an agent reads images, next to b3sum and cat, and what that leaves in the page cache.
//!
//! The agent's own hashing thread does it, with its lowest priority and its care for the cache; b3sum and cat are
//! processes. Which pages are cached is asked of fincore(1), not of the code under test.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::fs::{Advice, fadvise};
use sifleet_agent::hash::{Done, Hashing, Job, Outcome};
use sifleet_agent::memory::Memory;
use sifleet_agent::scan::Facts;
use sifleet_common::inventory::Content;
use tokio_util::sync::CancellationToken;

use super::Plan;
use super::report::{Figure, Table, number};
use crate::programs;
use crate::sif::SifBuilder;

/// A usual image's size.
const PAYLOAD: u32 = 1_500_000_000;
const NAME: &str = "large.sif";
const LIMIT: Duration = Duration::from_secs(300);

/// Measures.
///
/// # Errors
/// When the file cannot be made, or digests differ.
pub fn measure(plan: &Plan) -> anyhow::Result<Vec<Table>> {
    let folder = programs::workspace().join("target/clusters/bench-hash");
    fs::create_dir_all(&folder)?;
    let image = folder.join(NAME);
    SifBuilder::new().payload_bytes(PAYLOAD, 1).write(&image)?;
    File::open(&image)?.sync_all()?;
    let tables = [warm(plan, &image), cold(plan, &image)].into_iter().collect();
    fs::remove_dir_all(&folder)?;
    tables
}

fn warm(plan: &Plan, image: &Path) -> anyhow::Result<Table> {
    let mut table = Table::new("Hashing a warm file, one thread", &["", "rate", "agent's share of it"]);
    let b3sum = programs::find("b3sum");
    let (mut ours, mut mapped, mut read) = (Figure::default(), Figure::default(), Figure::default());
    run(Command::new("cat").arg(image))?;
    for _ in 0..plan.rounds {
        let (rate, digest) = by_agent(image)?;
        ours.add(rate);
        let Some(b3sum) = &b3sum else { continue };
        let mut command = Command::new(b3sum);
        let (took, said) = run(command.args(["--num-threads", "1"]).arg(image))?;
        ensure!(digest.ends_with(said.split(' ').next().unwrap_or("?")), "{digest} is not {said}");
        mapped.add(rate_of(image, took)?);
        let mut command = Command::new(b3sum);
        read.add(rate_of(image, run(command.args(["--num-threads", "1", "--no-mmap"]).arg(image))?.0)?);
    }
    table.row(["agent".to_owned(), ours.show(" GB/s")]);
    if b3sum.is_some() {
        let share = |theirs: &Figure| ours.over(theirs).show("");
        table.row(["b3sum --num-threads 1".to_owned(), mapped.show(" GB/s"), share(&mapped)]);
        table.row(["b3sum --num-threads 1 --no-mmap".to_owned(), read.show(" GB/s"), share(&read)]);
    } else {
        table.row(["b3sum".to_owned(), "skipped: b3sum is missing: cargo install b3sum --locked".to_owned()]);
    }
    let kept = number(cached(image)? * 100.0);
    table.note(format!(
        "A file of {} GB, made incompressible. {kept} % of it is cached afterwards, as before.",
        gigabytes(image)?
    ));
    Ok(table)
}

fn cold(plan: &Plan, image: &Path) -> anyhow::Result<Table> {
    let mut table = Table::new("Reading a cold file", &["", "rate", "left in the page cache"]);
    let (mut ours, mut ours_left) = (Figure::default(), Figure::default());
    let (mut cat, mut cat_left) = (Figure::default(), Figure::default());
    for _ in 0..plan.rounds {
        evict(image)?;
        cat.add(rate_of(image, run(Command::new("cat").arg(image))?.0)?);
        cat_left.add(cached(image)? * 100.0);
        evict(image)?;
        ours.add(by_agent(image)?.0);
        ours_left.add(cached(image)? * 100.0);
    }
    table.row(["agent, digest included".to_owned(), ours.show(" GB/s"), ours_left.show(" %")]);
    table.row(["cat >/dev/null".to_owned(), cat.show(" GB/s"), cat_left.show(" %")]);
    table.row(["agent's share of cat".to_owned(), ours.over(&cat).show("")]);
    Ok(table)
}

/// Has the agent's hashing thread read a file; returns gigabytes a second and the digest.
fn by_agent(image: &Path) -> anyhow::Result<(f64, String)> {
    let hashing = Arc::new(Hashing::new(Memory::volatile(16)?, None, u64::MAX, CancellationToken::new()));
    let (report, done) = sync_channel::<Done>(1);
    let folder = image.parent().context("a folder")?;
    let tell = move |done| {
        // Whoever waits has given up; the thread ends with its queue.
        drop(report.send(done));
    };
    // As in a library, where images for every processor are read.
    let jobs = hashing.start(folder, true, 1, tell)?;
    let print = Facts::from(&rustix::fs::stat(image)?).print;
    let begun = Instant::now();
    jobs.send(Job { name: NAME.parse()?, print })?;
    let Done { outcome, .. } = done.recv_timeout(LIMIT)?;
    let took = begun.elapsed();
    match outcome {
        Outcome::Content { content: Content::Image(found), .. } => {
            Ok((rate_of(image, took)?, found.digest.to_string()))
        }
        Outcome::Content { .. } | Outcome::Changed | Outcome::BeingWritten | Outcome::Stopped => {
            bail!("the agent did not hash the image: {outcome:?}")
        }
    }
}

/// Runs a program to its end; returns how long it took and what it wrote, unless that is the image.
fn run(command: &mut Command) -> anyhow::Result<(Duration, String)> {
    let is_cat = command.get_program() == "cat";
    command.stdout(if is_cat { Stdio::null() } else { Stdio::piped() });
    let begun = Instant::now();
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} ended with {}", output.status);
    Ok((begun.elapsed(), String::from_utf8(output.stdout)?))
}

fn rate_of(image: &Path, took: Duration) -> anyhow::Result<f64> {
    Ok(fs::metadata(image)?.len() as f64 / 1e9 / took.as_secs_f64())
}

fn gigabytes(image: &Path) -> anyhow::Result<String> {
    Ok(number(fs::metadata(image)?.len() as f64 / 1e9))
}

/// Takes the file out of the page cache.
fn evict(image: &Path) -> anyhow::Result<()> {
    fadvise(File::open(image)?, 0, None, Advice::DontNeed)?;
    ensure!(cached(image)? < 0.01, "{} stays in the page cache: is it on a tmpfs?", image.display());
    Ok(())
}

/// Returns which part of a file is in the page cache.
pub(super) fn cached(image: &Path) -> anyhow::Result<f64> {
    let mut fincore = Command::new("fincore");
    let output = fincore.args(["--bytes", "--noheadings", "--output", "RES"]).arg(image).output();
    let output = output.context("fincore is missing: apt install util-linux")?;
    let bytes: f64 = String::from_utf8(output.stdout)?.trim().parse().context("what fincore says")?;
    Ok(bytes / fs::metadata(image)?.len() as f64)
}
