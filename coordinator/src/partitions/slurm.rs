//! Partitions from Slurm, and which of their nodes run jobs: what `sinfo -h --all -o "%R|%T|%N"` prints, from release
//! 22.05 on.
//!
//! Owns how `sinfo` is run: always with a time limit, because it waits for minutes while slurmctld is down; in a
//! process group of its own, so that nothing it started stays behind; with bounded output. `--all` shows hidden
//! partitions and those that the coordinator's user may not use. Nothing is written to Slurm.
//! Outside facts: sinfo(1) of Slurm 22.05, 24.11 and 26.05; `%R` is the name without the mark of the default, `%T` the
//! state of a group of nodes in words, with a mark behind it for nodes that do not answer, are planned for, and so on.

use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::{Draft, EntryError, Heard, MAX_ANSWER};

/// Longest part of an error message that is passed on, in bytes: its end says what went wrong.
const MAX_COMPLAINT: usize = 512;
/// What an admin's shell may have set, and what would change the answer.
const UNWANTED: [&str; 5] =
    ["SINFO_ALL", "SINFO_FEDERATION", "SINFO_FORMAT", "SINFO_PARTITION", "SINFO_SORT"];
/// States in which jobs run on a node; a node that is drained while its last jobs run is `draining`.
const RUNNING: [&str; 4] = ["allocated", "mixed", "completing", "draining"];
/// How older releases write that there are no nodes.
const NO_NODES: [&str; 3] = ["", "(null)", "n/a"];

/// Says why Slurm said nothing.
#[derive(Debug, thiserror::Error)]
pub enum SlurmError {
    /// The program cannot be run.
    #[error("cannot run {}; is Slurm installed on this machine?", program.display())]
    Run {
        /// The program.
        program: OsString,
        /// What the system says.
        source: io::Error,
    },
    /// It does not end.
    #[error("{} did not answer within {limit:?}; is slurmctld running?", program.display())]
    Late {
        /// The program.
        program: OsString,
        /// The time it was given.
        limit: Duration,
    },
    /// It says that it failed.
    #[error("{} failed with {status}: {complaint}", program.display())]
    Failed {
        /// The program.
        program: OsString,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed to standard error.
        complaint: String,
    },
    /// It prints without end.
    #[error("{} printed more than {MAX_ANSWER} bytes", program.display())]
    TooLong {
        /// The program.
        program: OsString,
    },
    /// A line is not a partition, a state and nodes.
    #[error("line {line} of what sinfo printed is not NAME|STATE|NODES: {text:?}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// Its beginning.
        text: String,
    },
    /// A line names what cannot be a partition or nodes.
    #[error("line {line} of what sinfo printed cannot be used")]
    Entry {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        source: EntryError,
    },
}

/// How Slurm is asked.
#[derive(Clone, Debug)]
pub struct Sinfo {
    /// The program, usually `sinfo`.
    pub program: OsString,
    /// How often it is asked.
    pub interval: Duration,
    /// How long it may take.
    pub limit: Duration,
}

impl Sinfo {
    /// Asks once. Whatever happens, nothing of the program runs on afterwards.
    ///
    /// # Errors
    /// [`SlurmError`].
    pub async fn ask(&self) -> Result<Heard, SlurmError> {
        let program = self.program.clone();
        let mut group = self.start()?;
        match tokio::time::timeout(self.limit, group.output()).await {
            Err(_elapsed) => Err(SlurmError::Late { program, limit: self.limit }),
            Ok(Err(source)) => Err(SlurmError::Run { program, source }),
            Ok(Ok(output)) if output.stdout.len() as u64 > MAX_ANSWER => Err(SlurmError::TooLong { program }),
            Ok(Ok(output)) if !output.status.success() => Err(SlurmError::Failed {
                program,
                status: output.status,
                complaint: complaint(&output.stderr),
            }),
            Ok(Ok(output)) => parse(&output.stdout),
        }
    }

    fn start(&self) -> Result<Group, SlurmError> {
        let mut command = Command::new(&self.program);
        command.args(["-h", "--all", "-o", "%R|%T|%N"]).env("LC_ALL", "C");
        for name in UNWANTED {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.process_group(0).kill_on_drop(true).spawn();
        child.map(Group).map_err(|source| SlurmError::Run { program: self.program.clone(), source })
    }
}

struct Output {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// A process and everything it starts, which all ends when this is dropped.
struct Group(Child);

impl Group {
    async fn output(&mut self) -> io::Result<Output> {
        let (stdout, stderr) = (self.0.stdout.take(), self.0.stderr.take());
        let (stdout, stderr) = tokio::try_join!(head(stdout, MAX_ANSWER), tail(stderr))?;
        // Who prints too much may print for ever; it is killed, not waited for.
        let status =
            if stdout.len() as u64 > MAX_ANSWER { ExitStatus::default() } else { self.0.wait().await? };
        Ok(Output { status, stdout, stderr })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Without an id it was waited for, and the number may be somebody else's by this time.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(Err(error)) = id.map(|id| kill_process_group(id, Signal::KILL)) {
            tracing::debug!(%error, "sinfo could not be killed");
        }
    }
}

/// Reads to the end, or one byte more than the limit.
async fn head(pipe: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(limit + 1).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// Reads to the end and keeps the last bytes.
async fn tail(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let Some(mut pipe) = pipe else { return Ok(kept) };
    let mut buffer = [0; MAX_COMPLAINT];
    loop {
        let read = pipe.read(&mut buffer).await?;
        if read == 0 {
            return Ok(kept);
        }
        kept.extend_from_slice(buffer.get(..read).unwrap_or_default());
        kept.drain(..kept.len().saturating_sub(MAX_COMPLAINT));
    }
}

fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() { "it did not say why".to_owned() } else { lines.join("; ") }
}

/// Reads what `sinfo` printed: a line each for a partition and those of its nodes that are in one state.
///
/// # Errors
/// [`SlurmError::Line`] or [`SlurmError::Entry`] for the first line that is not as expected.
pub fn parse(printed: &[u8]) -> Result<Heard, SlurmError> {
    let mut draft = Draft::default();
    for (index, bytes) in printed.split(|byte| *byte == b'\n').enumerate() {
        let line = index + 1;
        let text = std::str::from_utf8(bytes).map(str::trim_end);
        if text == Ok("") {
            continue;
        }
        let fields = text.ok().and_then(|text| {
            let (partition, rest) = text.split_once('|')?;
            Some((partition, rest.split_once('|')?))
        });
        let Some((partition, (state, nodes))) = fields else {
            let text = String::from_utf8_lossy(bytes).chars().take(80).collect();
            return Err(SlurmError::Line { line, text });
        };
        let nodes = if NO_NODES.contains(&nodes) { "" } else { nodes };
        let state = state.trim_end_matches(|mark: char| !mark.is_ascii_alphabetic());
        let entry = |source| SlurmError::Entry { line, source };
        draft.add(partition, nodes, RUNNING.contains(&state)).map_err(entry)?;
    }
    Ok(Heard { members: draft.members, busy: Some(draft.busy) })
}

#[cfg(test)]
mod tests;
