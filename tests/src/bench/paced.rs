//! Asks at a given rate, whatever the answers take, and measures from when a question was due.
//!
//! A client that waits for slow answers asks less often just then, and leaves out what it should have seen. Here
//! every question has its time; one that finds all connections busy waits, and its wait counts.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Connections, as wrk has.
const CONNECTIONS: usize = 64;
/// Longest answer expected.
const MAX_ANSWER: usize = 1 << 20;
/// How long after the last question answers are waited for; a server that cannot keep up is behind by more.
const PATIENCE: Duration = Duration::from_secs(10);

/// Latencies of all answers, least first.
#[derive(Clone, Debug)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// Takes in latencies that somebody else measured.
    #[must_use]
    pub fn of(mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        Self(latencies)
    }

    /// Returns the latency that so many of a hundred answers stayed below, in milliseconds.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> f64 {
        let at = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        self.0.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
    }
}

struct Connection {
    socket: TcpStream,
    /// When the question under way was due.
    due: Option<Instant>,
    answer: Vec<u8>,
}

/// Asks for `paths` in turn, `rate` times a second, as the bearer of a token.
///
/// # Errors
/// When the server does not answer, or not well.
pub fn run(
    address: &str,
    bearer: &str,
    paths: &[String],
    rate: u32,
    time: Duration,
) -> anyhow::Result<Latencies> {
    let head = format!("HTTP/1.1\r\nHost: {address}\r\nAuthorization: {bearer}\r\n\r\n");
    let question = |path: &String| format!("GET {path} {head}").into_bytes();
    let questions: Vec<Vec<u8>> = paths.iter().map(question).collect();
    run_raw(address, &questions, rate, time)
}

/// Sends requests as they are in turn, `rate` times a second.
///
/// # Errors
/// When the server does not answer, or not well.
pub fn run_raw(address: &str, questions: &[Vec<u8>], rate: u32, time: Duration) -> anyhow::Result<Latencies> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let socket = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        connections.push(Connection { socket, due: None, answer: Vec::with_capacity(64 * 1024) });
    }
    let begin = Instant::now() + Duration::from_millis(10);
    let spacing = Duration::from_secs(1) / rate;
    let dues = (0_u32..).map(|n| begin + spacing * n).take_while(|due| *due < begin + time);
    let mut waiting = dues.zip(questions.iter().cycle()).peekable();
    let mut latencies = Vec::new();
    let mut idle: Vec<usize> = (0..connections.len()).collect();
    loop {
        while let Some((due, question)) =
            waiting.next_if(|(due, _)| *due <= Instant::now() && !idle.is_empty())
        {
            let connection = idle.pop().and_then(|at| connections.get_mut(at)).context("none is idle")?;
            connection.socket.write_all(question)?;
            connection.due = Some(due);
        }
        let next = waiting.peek().map(|(due, _)| *due);
        if next.is_none() && idle.len() == connections.len() {
            latencies.sort_unstable();
            return Ok(Latencies(latencies));
        }
        if Instant::now() > begin + time + PATIENCE {
            // Those that were never answered count with the age they have reached.
            let unanswered =
                connections.iter().filter_map(|open| open.due).chain(waiting.map(|(due, _)| due));
            latencies.extend(unanswered.map(|due| due.elapsed()));
            latencies.sort_unstable();
            return Ok(Latencies(latencies));
        }
        for at in readable(&connections, next.filter(|_| !idle.is_empty()))? {
            let Some(connection) = connections.get_mut(at) else { continue };
            if let Some(due) = connection.read()? {
                latencies.push(due.elapsed());
                idle.push(at);
            }
        }
    }
}

/// Waits for answers, at most until `next`; returns the connections that have something.
fn readable(connections: &[Connection], next: Option<Instant>) -> anyhow::Result<Vec<usize>> {
    let busy: Vec<usize> =
        connections.iter().enumerate().filter(|(_, open)| open.due.is_some()).map(|(at, _)| at).collect();
    let sockets = busy.iter().filter_map(|at| connections.get(*at));
    let mut polled: Vec<PollFd<'_>> = sockets.map(|open| PollFd::new(&open.socket, PollFlags::IN)).collect();
    let wait = next.map_or(PATIENCE, |next| next.saturating_duration_since(Instant::now()));
    poll(&mut polled, Some(&Timespec::try_from(wait)?))?;
    let ready = busy.iter().zip(&polled).filter(|(_, polled)| !polled.revents().is_empty());
    Ok(ready.map(|(at, _)| *at).collect())
}

impl Connection {
    /// Takes in what has come; returns when the question was due once its answer is whole.
    fn read(&mut self) -> anyhow::Result<Option<Instant>> {
        let mut piece = [0; 16 * 1024];
        let read = match self.socket.read(&mut piece) {
            Ok(0) => bail!("the server ended a connection"),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        self.answer.extend_from_slice(piece.get(..read).unwrap_or_default());
        ensure!(self.answer.len() <= MAX_ANSWER, "an answer is longer than {MAX_ANSWER} bytes");
        if !is_whole(&self.answer)? {
            return Ok(None);
        }
        self.answer.clear();
        Ok(self.due.take())
    }
}

/// Tells whether an answer has all the bytes its head promises.
fn is_whole(answer: &[u8]) -> anyhow::Result<bool> {
    let Some(head) = answer.windows(4).position(|end| end == b"\r\n\r\n") else { return Ok(false) };
    let text = std::str::from_utf8(answer.get(..head).unwrap_or_default())?;
    ensure!(text.starts_with("HTTP/1.1 200"), "not a good answer: {text}");
    let lengths = text.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = lengths.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = lengths.next().context("an answer without a length")?;
    Ok(answer.len() >= head + 4 + length.trim().parse::<usize>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
        assert!(!is_whole(head.as_bytes()).unwrap());
        assert!(!is_whole(format!("{head}1234").as_bytes()).unwrap());
        assert!(is_whole(format!("{head}12345").as_bytes()).unwrap());
        assert!(is_whole(b"HTTP/1.1 404 Not Found\r\n\r\n").is_err());
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_latencies() {
        let latencies = Latencies((1..=200).map(Duration::from_millis).collect());
        assert_eq!((latencies.percentile(50), latencies.percentile(99)), (101.0, 199.0));
        assert_eq!(latencies.percentile(100), 200.0);
    }
}
