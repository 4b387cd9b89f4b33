//! What the kernel says of a process: memory and processor time.
//!
//! Outside facts: proc_pid_status(5), proc_pid_smaps(5); schedstat's first number is nanoseconds on a processor,
//! which the 10 ms ticks of proc_pid_stat(5) are too coarse for.

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

/// Returns the processor time of a process and its children, but not of theirs.
///
/// # Errors
/// When it is gone.
pub fn family_time(pid: u32) -> anyhow::Result<Duration> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let mut time = processor_time(pid)?;
    for child in children.split_whitespace() {
        time += processor_time(child.parse()?)?;
    }
    Ok(time)
}

/// A thread that has ended meanwhile counts for nothing.
fn on_processor(task: &Path) -> u64 {
    let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
}
