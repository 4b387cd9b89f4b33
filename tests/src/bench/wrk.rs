//! Runs wrk: as many questions as a server can answer, over connections that are kept.
//!
//! Outside facts: wrk 4.1's report (`Requests/sec:`, the percentiles of `--latency`, `Non-2xx` and
//! `Socket errors` only when there are any). Its percentiles are of a saturated server; [`super::paced`] asks at a
//! given rate.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::programs;

/// Connections and threads of the load; as many threads as nginx has workers on two cores.
const CONNECTIONS: &str = "64";
const THREADS: &str = "2";
/// Asks one path after the other.
const SCRIPT: &str = "\
local requests = {}
function init(args)
  wrk.headers['Authorization'] = args[2]
  for path in io.lines(args[1]) do requests[#requests + 1] = wrk.format('GET', path) end
end
local at = 0
function request()
  at = at % #requests + 1
  return requests[at]
end
";

/// The installed program with the paths it asks for.
#[derive(Debug)]
pub struct Wrk {
    program: PathBuf,
    script: PathBuf,
    paths: PathBuf,
    bearer: String,
}

/// What one run gave.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// Answers a second.
    pub per_second: f64,
    /// The 99th of a hundred latencies, in milliseconds.
    pub p99: f64,
}

impl Wrk {
    /// Finds wrk and writes down what it shall ask, as the bearer of which token.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn prepare(folder: &Path, bearer: &str, paths: &[String]) -> anyhow::Result<Self> {
        let program = programs::find("wrk").context("wrk is missing: apt install wrk")?;
        let (script, paths_file) = (folder.join("wrk.lua"), folder.join("wrk.paths"));
        let wrk = Self { program, script, paths: paths_file, bearer: bearer.to_owned() };
        fs::write(&wrk.script, SCRIPT)?;
        fs::write(&wrk.paths, paths.join("\n"))?;
        Ok(wrk)
    }

    /// Asks a server for so long.
    ///
    /// # Errors
    /// When any answer was not a good one.
    pub fn run(&self, url: &str, time: Duration) -> anyhow::Result<Answered> {
        let mut wrk = Command::new(&self.program);
        wrk.args(["-t", THREADS, "-c", CONNECTIONS, "--latency", "-d"]).arg(format!("{}s", time.as_secs()));
        let output =
            wrk.arg("-s").arg(&self.script).args([url, "--"]).arg(&self.paths).arg(&self.bearer).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let failed = text.contains("Non-2xx") || text.contains("Socket errors") || !output.status.success();
        ensure!(!failed, "{url} did not answer well:\n{text}");
        read(&text).with_context(|| format!("wrk wrote:\n{text}"))
    }
}

fn read(text: &str) -> Option<Answered> {
    let value =
        |name: &str| text.lines().map(str::trim).find_map(|line| line.strip_prefix(name)).map(str::trim);
    Some(Answered { per_second: value("Requests/sec:")?.parse().ok()?, p99: millis(value("99%")?)? })
}

fn millis(text: &str) -> Option<f64> {
    let (unit, factor) =
        [("us", 0.001), ("ms", 1.0), ("s", 1000.0)].into_iter().find(|(unit, _)| text.ends_with(unit))?;
    text.strip_suffix(unit)?.parse::<f64>().ok().map(|value| value * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_of_wrk_is_understood() {
        let text = "  Latency Distribution\n     50%  850.00us\n     99%    1.25ms\nRequests/sec:  71999.50\nTransfer/sec: 1MB\n";
        let answered = read(text).unwrap();
        assert_eq!((answered.per_second, answered.p99), (71_999.5, 1.25));
        assert_eq!((millis("2.00s"), millis("850.00us"), millis("x")), (Some(2000.0), Some(0.85), None));
    }
}
