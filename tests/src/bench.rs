//! Benchmarks: what the system does, next to what other programs do on the same machine in the same run.
//!
//! Each benchmark is a name and a function that gives [`report::Table`]s. Nothing here passes or fails on speed:
//! figures are printed with a baseline beside them, and `docs/benchmarks.md` keeps those of one machine.
//! Programs that are not there cost their rows, and the table says which package brings them.

pub mod agent;
pub mod availability;
pub mod blob;
pub mod casync;
pub mod cost;
pub mod delta;
pub mod flood;
pub mod hash;
pub mod large;
pub mod load;
pub mod nginx;
pub mod paced;
pub mod page;
pub mod pair;
pub mod peers;
pub mod planner;
pub mod process;
pub mod report;
pub mod simulated;
pub mod sshd;
pub mod storm;
pub mod swarm;
pub mod tree;
pub mod wrk;

use std::time::Duration;

use report::Table;

/// How thorough a run is.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How often everything is measured; tables show the median.
    pub rounds: usize,
    /// How long a server is kept busy for one figure.
    pub busy: Duration,
    /// How long an idle program is watched for one figure.
    pub idle: Duration,
}

impl Plan {
    /// What `docs/benchmarks.md` shows.
    pub const FULL: Self = Self { rounds: 3, busy: Duration::from_secs(10), idle: Duration::from_secs(60) };
    /// Tells whether everything runs; its figures are too noisy to quote.
    pub const QUICK: Self = Self { rounds: 1, busy: Duration::from_secs(3), idle: Duration::from_secs(5) };
}

/// One benchmark.
pub type Benchmark = fn(&Plan) -> anyhow::Result<Vec<Table>>;

/// All of them, in the order in which they run.
pub const ALL: [(&str, Benchmark); 13] = [
    ("hash", hash::measure),
    ("agent", agent::measure),
    ("cost", cost::measure),
    ("delta", delta::measure),
    ("large", large::measure),
    ("storm", storm::measure),
    ("flood", flood::measure),
    ("blob", blob::measure),
    ("availability-1000", availability::measure_1000),
    ("availability-10000", availability::measure_10000),
    ("page", page::measure),
    ("push-simulated", simulated::measure),
    ("planner", planner::measure),
];
