//! One turn: lets a follower choose, and gives what it chose.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use sifleet_common::chunk::span::SpanId;
use sifleet_common::wire::chunk::{Choice, Run, StopCode, numbers};
use sifleet_common::wire::frame::{FrameReader, write_frame};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::giving::Event;
use super::held::Held;
use super::offer::FollowerId;
use super::run::{Input, Serving};
use crate::pace::Tap;

/// How long a follower may take to choose: it holds one of few places.
const ANSWER: Duration = Duration::from_secs(1);
/// How long it may take to take [`STEP`] bytes.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that may take so long: a follower with 52 kbit/s left to it goes on, one that takes nothing does not. Which of its
/// turns they are of is the same: they share a connection, and its windows.
const STEP: u64 = 64 * 1024;
/// Bytes that may be on their way when the last ones were written: the window of a stream.
const UNDER_WAY: u64 = 2 * 1024 * 1024;
/// A turn that takes longer counts as lagging: several times what the turns beside it take of a link of 100 Mbit/s.
const LAGGING: Duration = Duration::from_secs(1);
/// Bytes read from the disk at once.
const PIECE: u64 = 1024 * 1024;

pub(super) struct Turn {
    pub(super) id: FollowerId,
    pub(super) connection: Connection,
    pub(super) held: Arc<Held>,
    pub(super) up: Arc<Tap>,
    pub(super) serving: Serving,
    /// Counts what the follower took, in all of its turns.
    pub(super) taken: Arc<AtomicU64>,
    /// Cancelled when the follower leaves: nothing it asked for is of use to it.
    pub(super) stop: CancellationToken,
}

/// Why a turn came to nothing.
#[derive(Debug, thiserror::Error)]
enum TurnError {
    #[error("the follower passed")]
    Passed,
    #[error("the follower did not choose in time, or broke the protocol")]
    NoChoice,
    #[error("the follower asked for what was not offered")]
    NotHere,
    #[error("the follower does not take what it asked for")]
    NotTaken,
    #[error("the image cannot be read")]
    Unreadable {
        #[source]
        source: std::io::Error,
    },
}

impl Turn {
    /// Gives one span and tells the loop how it went.
    pub(super) async fn run(self) {
        let mut lagged = false;
        let given = {
            let mut giving = std::pin::pin!(self.give());
            tokio::select! {
                given = &mut giving => given,
                () = tokio::time::sleep(LAGGING) => {
                    lagged = true;
                    self.serving.put(Input::Event(Event::Lagging(self.id))).await;
                    giving.await
                }
            }
        };
        let span = match given {
            Ok(span) => Some(span),
            Err(TurnError::Passed) => None,
            Err(error) => {
                let peer = self.connection.remote_address();
                debug!(%peer, error = &error as &dyn std::error::Error, "a turn came to nothing");
                if let TurnError::Unreadable { .. } = error {
                    self.serving.put(Input::Broken(self.held.layout().image())).await;
                }
                None
            }
        };
        self.serving.put(Input::Event(Event::Ended(self.id, span, lagged))).await;
    }

    async fn give(&self) -> Result<SpanId, TurnError> {
        let begun = Instant::now();
        let opened = self.within(ANSWER, self.connection.open_bi()).await;
        let (stream, receive) = opened.ok_or(TurnError::NoChoice)?.map_err(|_gone| TurnError::NoChoice)?;
        let mut answer = Answer { stream, code: StopCode::Stopping };
        let rest = ANSWER.saturating_sub(begun.elapsed());
        let choice = self.within(rest, self.choice(&mut answer.stream, receive)).await;
        let Choice::Ask { span, chunks } = choice.flatten().ok_or(TurnError::NoChoice)? else {
            return Err(TurnError::Passed);
        };
        let chosen = begun.elapsed();
        let sent = self.send(&mut answer.stream, span, &chunks).await;
        if let Err(TurnError::Unreadable { .. }) = &sent {
            answer.code = StopCode::Unreadable;
        }
        sent?;
        let path = self.connection.stats().path;
        debug!(?chosen, took = ?begun.elapsed(), rtt = ?path.rtt, window = path.cwnd, lost = path.lost_packets, "a span was given");
        Ok(span)
    }

    /// Waits for what a follower does, unless it leaves or takes too long.
    async fn within<F: Future>(&self, limit: Duration, what: F) -> Option<F::Output> {
        self.stop.run_until_cancelled(tokio::time::timeout(limit, what)).await?.ok()
    }

    async fn choice(&self, send: &mut SendStream, receive: RecvStream) -> Option<Choice> {
        let turn = sifleet_common::wire::chunk::Turn { image: self.held.layout().image() };
        write_frame(send, &turn).await.ok()?;
        FrameReader::new(receive).next().await.ok()?
    }

    async fn send(&self, stream: &mut SendStream, span: SpanId, chunks: &[Run]) -> Result<(), TurnError> {
        let layout = self.held.layout();
        let place = layout.span(span).filter(|_| self.held.has(span)).ok_or(TurnError::NotHere)?;
        let end = u32::try_from(place.chunks.len()).unwrap_or(u32::MAX);
        let mut sent = 0;
        for stretch in consecutive(numbers(chunks, end)) {
            let (first, last) = (place.chunks.start + stretch.start, place.chunks.start + stretch.end);
            for piece in layout.stretches(first..last, PIECE) {
                let bytes = layout.bytes(&piece).ok_or(TurnError::NotHere)?;
                sent += bytes.end - bytes.start;
                self.give_bytes(stream, bytes).await?;
            }
        }
        drop(stream.finish());
        match self.in_time(patience(sent.min(UNDER_WAY)), stream.stopped()).await? {
            Ok(None) => Ok(()),
            Ok(Some(_)) | Err(_) => Err(TurnError::NotTaken),
        }
    }

    /// Waits for the follower to take something, for as long as it takes anything at all.
    async fn in_time<F: Future>(&self, limit: Duration, what: F) -> Result<F::Output, TurnError> {
        let mut what = std::pin::pin!(what);
        loop {
            let before = self.taken.load(Ordering::Relaxed);
            match self.stop.run_until_cancelled(tokio::time::timeout(limit, &mut what)).await {
                Some(Ok(output)) => return Ok(output),
                Some(Err(_elapsed)) if self.taken.load(Ordering::Relaxed) != before => {}
                Some(Err(_)) | None => return Err(TurnError::NotTaken),
            }
        }
    }

    async fn give_bytes(&self, stream: &mut SendStream, bytes: Range<u64>) -> Result<(), TurnError> {
        let (held, len) = (Arc::clone(&self.held), bytes.end - bytes.start);
        let read = move || held.read(bytes.start, usize::try_from(len).unwrap_or(usize::MAX));
        // Waited for even if the follower leaves: what is read takes memory until it was.
        let read = tokio::task::spawn_blocking(read).await;
        let mut piece: Bytes = read
            .map_err(std::io::Error::from)
            .flatten()
            .map_err(|source| TurnError::Unreadable { source })?
            .into();
        while !piece.is_empty() {
            let portion = self.up.portion(piece.len() as u64).min(STEP);
            self.stop.run_until_cancelled(self.up.draw(portion)).await.ok_or(TurnError::NotTaken)?;
            let portion = piece.split_to(usize::try_from(portion).unwrap_or(usize::MAX).min(piece.len()));
            let written = self.in_time(PATIENCE, stream.write_chunk(portion)).await?;
            written.map_err(|_gone| TurnError::NotTaken)?;
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// A stream on which bytes are due. However its turn ends, unless it ended whole it ends with a reset: dropped as it is
/// it would look finished, and who gives nothing where bytes are due is taken for one that means harm.
struct Answer {
    stream: SendStream,
    code: StopCode,
}

impl Drop for Answer {
    fn drop(&mut self) {
        // A stream that was taken whole, or is gone, needs no reset.
        drop(self.stream.reset(VarInt::from_u32(self.code as u32)));
    }
}

/// How long a follower may take to take so many bytes.
fn patience(bytes: u64) -> Duration {
    let steps = u32::try_from(bytes.div_ceil(STEP)).unwrap_or(u32::MAX);
    PATIENCE.saturating_mul(steps.max(1))
}

/// Joins numbers that follow one another.
fn consecutive(numbers: impl Iterator<Item = u32>) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for number in numbers.filter_map(|number| usize::try_from(number).ok()) {
        match ranges.last_mut() {
            Some(range) if range.end == number => range.end += 1,
            _ => ranges.push(number..number + 1),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_follow_one_another_are_read_together() {
        assert_eq!(consecutive([0, 1, 2, 5, 9, 10].into_iter()), [0..3, 5..6, 9..11]);
        assert!(consecutive(std::iter::empty()).is_empty());
    }

    #[test]
    fn the_last_bytes_have_as_long_as_all_others() {
        assert_eq!(patience(0), PATIENCE);
        assert_eq!(patience(STEP), PATIENCE);
        assert_eq!(patience(10 * STEP + 1), 11 * PATIENCE);
    }
}
