//! One turn: lets a follower choose, and gives what it chose.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use sifleet_common::chunk::span::SpanId;
use sifleet_common::wire::chunk::{Choice, Run, StopCode, numbers};
use sifleet_common::wire::frame::{FrameReader, write_frame};
use tracing::debug;

use super::giving::Event;
use super::held::Held;
use super::offer::FollowerId;
use super::run::{Input, Serving};
use crate::pace::Tap;

/// How long a follower may take to choose: it holds one of few places.
const ANSWER: Duration = Duration::from_secs(1);
/// How long it may take to take anything.
const PATIENCE: Duration = Duration::from_secs(10);
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
        let begun = std::time::Instant::now();
        let choice = tokio::time::timeout(ANSWER, self.choice());
        let (mut stream, choice) =
            choice.await.map_err(|_elapsed| TurnError::NoChoice)?.ok_or(TurnError::NoChoice)?;
        let Choice::Ask { span, chunks } = choice else { return Err(TurnError::Passed) };
        let chosen = begun.elapsed();
        match self.send(&mut stream, span, &chunks).await {
            Ok(()) => {
                let path = self.connection.stats().path;
                debug!(?chosen, took = ?begun.elapsed(), rtt = ?path.rtt, window = path.cwnd, lost = path.lost_packets, "a span was given");
                Ok(span)
            }
            Err(error) => {
                let code = match error {
                    TurnError::Unreadable { .. } => StopCode::Unreadable,
                    TurnError::Passed | TurnError::NoChoice | TurnError::NotHere | TurnError::NotTaken => {
                        StopCode::Stopping
                    }
                };
                // A stream that is gone needs no reset.
                drop(stream.reset(VarInt::from_u32(code as u32)));
                Err(error)
            }
        }
    }

    async fn choice(&self) -> Option<(SendStream, Choice)> {
        let (mut send, receive): (SendStream, RecvStream) = self.connection.open_bi().await.ok()?;
        let turn = sifleet_common::wire::chunk::Turn { image: self.held.layout().image() };
        write_frame(&mut send, &turn).await.ok()?;
        let choice = FrameReader::new(receive).next().await.ok()??;
        Some((send, choice))
    }

    async fn send(&self, stream: &mut SendStream, span: SpanId, chunks: &[Run]) -> Result<(), TurnError> {
        let layout = self.held.layout();
        let place = layout.span(span).filter(|_| self.held.has(span)).ok_or(TurnError::NotHere)?;
        let end = u32::try_from(place.chunks.len()).unwrap_or(u32::MAX);
        for stretch in consecutive(numbers(chunks, end)) {
            let (first, last) = (place.chunks.start + stretch.start, place.chunks.start + stretch.end);
            for piece in layout.stretches(first..last, PIECE) {
                let bytes = layout.bytes(&piece).ok_or(TurnError::NotHere)?;
                self.give_bytes(stream, bytes).await?;
            }
        }
        drop(stream.finish());
        match tokio::time::timeout(PATIENCE, stream.stopped()).await {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(_)) | Err(_)) | Err(_) => Err(TurnError::NotTaken),
        }
    }

    async fn give_bytes(&self, stream: &mut SendStream, bytes: Range<u64>) -> Result<(), TurnError> {
        let (held, len) = (Arc::clone(&self.held), bytes.end - bytes.start);
        let read = move || held.read(bytes.start, usize::try_from(len).unwrap_or(usize::MAX));
        let read = tokio::task::spawn_blocking(read).await;
        let mut piece: Bytes = read
            .map_err(std::io::Error::from)
            .flatten()
            .map_err(|source| TurnError::Unreadable { source })?
            .into();
        while !piece.is_empty() {
            let portion = self.up.portion(piece.len() as u64);
            self.up.draw(portion).await;
            let portion = piece.split_to(usize::try_from(portion).unwrap_or(usize::MAX).min(piece.len()));
            let written = tokio::time::timeout(PATIENCE, stream.write_chunk(portion)).await;
            written.map_err(|_elapsed| TurnError::NotTaken)?.map_err(|_gone| TurnError::NotTaken)?;
        }
        Ok(())
    }
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
}
