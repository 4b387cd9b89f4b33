//! One span from one peer: asks, reads, has each stretch of chunks verified and kept.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::{RecvStream, SendStream, VarInt};
use sifleet_common::chunk::span::SpanId;
use sifleet_common::push::Fault;
use sifleet_common::wire::chunk::{Choice, StopCode, runs};
use sifleet_common::wire::frame::{FrameReader, write_frame};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::trace;

use super::PeerId;
use super::keep::{KeepError, Keeper};
use crate::pace::Tap;
use crate::staging::StagingError;

/// Bytes verified and written at once: hashing less would cost more, holding more would fill the memory.
const STRETCH: u64 = 512 * 1024;
/// The fetch hears of bytes that trickle in this often.
const HEARD: Duration = Duration::from_millis(500);

/// What came of asking.
#[derive(Debug)]
pub(super) struct Answer {
    /// Bytes that were of use, verified and kept, however it ended.
    pub(super) new: u64,
    /// Bytes that came for nothing: they were there already, or were wrong.
    pub(super) wasted: u64,
    pub(super) received: Received,
}

/// How an answer ended.
#[derive(Debug)]
pub(super) enum Received {
    /// With everything that was asked for.
    Whole,
    /// It was no longer wanted.
    Cancelled,
    /// The peer cannot give the image any longer, and says so.
    Gone,
    /// The peer broke its word.
    Broken(Fault),
    /// The disk failed.
    Disk(StagingError),
}

/// One question.
pub(super) struct Question {
    pub(super) peer: PeerId,
    pub(super) span: SpanId,
    pub(super) send: SendStream,
    pub(super) receive: RecvStream,
    pub(super) keeper: Arc<Keeper>,
    /// The node's rate, and the assignment's.
    pub(super) taps: [Arc<Tap>; 2],
    pub(super) heard: mpsc::Sender<PeerId>,
    pub(super) cancel: CancellationToken,
}

impl Question {
    /// Asks and waits for all of the answer.
    pub(super) async fn ask(mut self) -> Answer {
        let mut answer = Answer { new: 0, wasted: 0, received: Received::Whole };
        let cancel = self.cancel.clone();
        let chunks = self.keeper.lacking(self.span);
        let choice = Choice::Ask { span: self.span, chunks: runs(chunks.iter().copied()) };
        // A peer that takes nothing must not keep us.
        let asked = tokio::select! {
            () = cancel.cancelled() => Err(Received::Cancelled),
            written = write_frame(&mut self.send, &choice) => {
                written.map_err(|_lost| Received::Broken(Fault::Unreachable))
            }
        };
        if let Err(ended) = asked {
            answer.received = ended;
            return answer;
        }
        let first = self.keeper.layout().span(self.span).map_or(0, |place| place.chunks.start);
        let stretches: Vec<Range<usize>> = consecutive(first, &chunks)
            .into_iter()
            .flat_map(|range| self.keeper.layout().stretches(range, STRETCH).collect::<Vec<_>>())
            .collect();
        for stretch in stretches {
            let read = tokio::select! {
                () = cancel.cancelled() => Err(Received::Cancelled),
                bytes = self.read(&stretch) => bytes,
            };
            if let Err(ended) = self.take(stretch, read, &mut answer).await {
                drop(self.receive.stop(VarInt::from_u32(StopCode::Elsewhere as u32)));
                answer.received = ended;
                break;
            }
        }
        answer
    }

    /// Keeps what was read, and counts it.
    async fn take(
        &self,
        stretch: Range<usize>,
        read: Result<Vec<u8>, Received>,
        answer: &mut Answer,
    ) -> Result<(), Received> {
        let bytes = read?;
        let all = bytes.len() as u64;
        let kept = self.keep(stretch, bytes).await;
        let new = *kept.as_ref().unwrap_or(&0);
        answer.new += new;
        answer.wasted += all - new;
        kept.map(drop)
    }

    /// Reads the bytes of consecutive chunks.
    async fn read(&mut self, chunks: &Range<usize>) -> Result<Vec<u8>, Received> {
        let place = self.keeper.layout().bytes(chunks).ok_or(Received::Broken(Fault::Garbage))?;
        let mut bytes = vec![0; usize::try_from(place.end - place.start).unwrap_or(usize::MAX)];
        let (mut filled, mut told) = (0, Instant::now());
        while filled < bytes.len() {
            let portion = self.draw((bytes.len() - filled) as u64).await;
            let end = filled.saturating_add(usize::try_from(portion).unwrap_or(usize::MAX));
            while let Some(free) = bytes.get_mut(filled..end).filter(|free| !free.is_empty()) {
                filled += self.read_some(free).await?;
                if told.elapsed() > HEARD {
                    told = Instant::now();
                    self.tell_heard();
                }
            }
        }
        Ok(bytes)
    }

    /// Waits until some of so many bytes may come, and returns how many. The peer is not to blame for this wait.
    async fn draw(&self, bytes: u64) -> u64 {
        let portion = self.taps.iter().fold(bytes, |portion, tap| tap.portion(portion));
        for tap in &self.taps {
            let mut drawn = std::pin::pin!(tap.draw(portion));
            while tokio::time::timeout(HEARD, &mut drawn).await.is_err() {
                self.tell_heard();
            }
        }
        portion
    }

    fn tell_heard(&self) {
        if self.heard.try_send(self.peer).is_err() {
            trace!("the fetch is busy and hears of the next bytes");
        }
    }

    /// Reads as much as is there, at least a byte.
    async fn read_some(&mut self, free: &mut [u8]) -> Result<usize, Received> {
        match self.receive.read(free).await {
            Ok(Some(read)) => Ok(read),
            Ok(None) => Err(Received::Broken(Fault::Garbage)),
            Err(quinn::ReadError::Reset(code)) if code == VarInt::from_u32(StopCode::Unreadable as u32) => {
                Err(Received::Gone)
            }
            // It stops, or waited too long for us to take what we asked for.
            Err(quinn::ReadError::Reset(code)) if code == VarInt::from_u32(StopCode::Stopping as u32) => {
                Err(Received::Broken(Fault::Unreachable))
            }
            Err(quinn::ReadError::Reset(_)) => Err(Received::Broken(Fault::Lied)),
            Err(_) => Err(Received::Broken(Fault::Unreachable)),
        }
    }

    async fn keep(&self, chunks: Range<usize>, bytes: Vec<u8>) -> Result<u64, Received> {
        let keeper = Arc::clone(&self.keeper);
        let kept = tokio::task::spawn_blocking(move || keeper.keep(chunks, &bytes)).await;
        match kept {
            Ok(Ok(new)) => Ok(new),
            Ok(Err(KeepError::Wrong)) => Err(Received::Broken(Fault::Poisoned)),
            Ok(Err(KeepError::Staging(error))) => Err(Received::Disk(error)),
            // The runtime ends.
            Err(_lost) => Err(Received::Cancelled),
        }
    }
}

/// Tells a peer that nothing is wanted of it.
pub(super) async fn pass(mut send: SendStream) {
    if write_frame(&mut send, &Choice::Pass).await.is_ok() {
        drop(send.finish());
    }
}

/// Reads the turn that a peer's stream begins with.
pub(super) async fn turn(
    receive: RecvStream,
) -> Result<(sifleet_common::wire::chunk::Turn, RecvStream), Fault> {
    let mut frames = FrameReader::new(receive);
    match frames.next().await {
        Ok(Some(turn)) => Ok((turn, frames.into_inner())),
        Ok(None) => Err(Fault::Garbage),
        Err(sifleet_common::wire::frame::FrameError::Stream { .. }) => Err(Fault::Unreachable),
        Err(_) => Err(Fault::Garbage),
    }
}

/// Joins chunks that follow one another, counted from `first`.
fn consecutive(first: usize, chunks: &[u32]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for at in chunks.iter().map(|chunk| first + *chunk as usize) {
        match ranges.last_mut() {
            Some(range) if range.end == at => range.end += 1,
            _ => ranges.push(at..at + 1),
        }
    }
    ranges
}
