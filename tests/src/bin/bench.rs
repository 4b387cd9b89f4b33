//! `cargo measure [--quick] [NAME...]`: the benchmarks, with the machine they ran on.
//!
//! Prints tables as `docs/benchmarks.md` holds them, with the baselines of the same run. It never fails because
//! something is slow.

use std::fs;

use anyhow::{Context, bail};
use sifleet_tests::bench::{ALL, Benchmark, Plan};
use sifleet_tests::programs;

fn main() -> anyhow::Result<()> {
    let mut plan = Plan::FULL;
    let mut chosen: Vec<(&str, Benchmark)> = Vec::new();
    for argument in std::env::args().skip(1) {
        if argument == "--quick" {
            plan = Plan::QUICK;
            continue;
        }
        match ALL.iter().find(|(name, _)| *name == argument) {
            Some(found) => chosen.push(*found),
            None => {
                let names: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
                bail!("usage: cargo measure [--quick] [NAME...]; the names are {}", names.join(", "));
            }
        }
    }
    if chosen.is_empty() {
        chosen = ALL.to_vec();
    }
    programs::own("sifleet-coordinator")?;
    say(&machine()?);
    for (name, measure) in chosen {
        anstream::eprintln!("measuring {name} ...");
        let tables = measure(&plan).with_context(|| format!("benchmark {name}"))?;
        for table in tables {
            say(&format!("\n{table}"));
        }
    }
    Ok(())
}

/// Says on what the figures were taken.
fn machine() -> anyhow::Result<String> {
    let kernel = rustix::system::uname();
    let cores = std::thread::available_parallelism()?;
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let build = if cfg!(debug_assertions) { "debug build: of no worth" } else { "release build" };
    Ok(format!(
        "Machine: {cores} cores of {}, {} of memory, Linux {}; sifleet {}, {build}; load {load} at the start",
        field("/proc/cpuinfo", "model name"),
        field("/proc/meminfo", "MemTotal"),
        kernel.release().to_string_lossy(),
        env!("CARGO_PKG_VERSION"),
    ))
}

fn say(text: &str) {
    anstream::println!("{text}");
}
