//! What the kernel says of a process: memory and processor time.
//!
//! Outside facts: proc_pid_status(5), proc_pid_smaps(5); schedstat's first number is nanoseconds on a processor,
//! which the 10 ms ticks of proc_pid_stat(5) are too coarse for.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

/// Memory of a process, in MiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Pages in memory, those it shares with others included.
    pub resident: f64,
    /// The same, with shared pages counted in parts.
    pub proportional: f64,
    /// The most that was ever resident.
    pub peak: f64,
}

/// Reads a process's memory.
///
/// # Errors
/// When it is gone.
pub fn memory(pid: u32) -> anyhow::Result<Memory> {
    let field = |file: &str, name: &str| -> anyhow::Result<f64> {
        let path = format!("/proc/{pid}/{file}");
        let text = fs::read_to_string(&path).context(path)?;
        let line = text.lines().find(|line| line.starts_with(name)).context("no such line")?;
        let kib: f64 = line.split_whitespace().nth(1).unwrap_or_default().parse()?;
        Ok(kib / 1024.0)
    };
    Ok(Memory {
        resident: field("smaps_rollup", "Rss:")?,
        proportional: field("smaps_rollup", "Pss:")?,
        peak: field("status", "VmHWM:")?,
    })
}

/// Makes the kernel forget how much was resident before.
///
/// # Errors
/// When it is gone, or another user's.
pub fn forget_peak(pid: u32) -> anyhow::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("the kernel does not forget")
}

/// Returns the processor time of all threads a process has at this moment.
///
/// # Errors
/// When it is gone.
pub fn processor_time(pid: u32) -> anyhow::Result<Duration> {
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        nanos += on_processor(&thread?.path());
    }
    Ok(Duration::from_nanos(nanos))
}

/// Lists the children of a process.
///
/// # Errors
/// When it is gone.
pub fn children(pid: u32) -> anyhow::Result<Vec<u32>> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    Ok(children.split_whitespace().filter_map(|child| child.parse().ok()).collect())
}

/// Returns the processor time of a process and its children, but not of theirs.
///
/// # Errors
/// When it is gone.
pub fn family_time(pid: u32) -> anyhow::Result<Duration> {
    let mut time = processor_time(pid)?;
    for child in children(pid)? {
        time += processor_time(child)?;
    }
    Ok(time)
}

/// Returns the processor time of a process, threads that have ended included, and of those of its children that have
/// ended and were waited for.
///
/// Counts ticks of 10 ms: for seconds, not for moments.
///
/// # Errors
/// When it is gone.
pub fn all_time(process: &str) -> anyhow::Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&path).context(path)?;
    // The name may hold anything; behind its bracket, user and system time are the 12th to 15th field.
    let rest = text.rsplit(')').next().unwrap_or_default();
    let ticks: u64 =
        rest.split_whitespace().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// Returns the processor time of each kind of thread a process has at this moment, by their names.
///
/// # Errors
/// When it is gone.
pub fn by_thread(pid: u32) -> anyhow::Result<BTreeMap<String, Duration>> {
    let mut times = BTreeMap::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?.path();
        let name = fs::read_to_string(thread.join("comm")).unwrap_or_default();
        *times.entry(name.trim().to_owned()).or_insert(Duration::ZERO) +=
            Duration::from_nanos(on_processor(&thread));
    }
    Ok(times)
}

/// A thread that has ended meanwhile counts for nothing.
fn on_processor(task: &Path) -> u64 {
    let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
}
