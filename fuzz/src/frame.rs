//! Frames: any bytes on a stream, arriving in pieces of any size.
//!
//! The pieces make no difference, whatever is read can be written and read again, and nobody waits for ever.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use sifleet_common::wire::control::ToCoordinator;
use sifleet_common::wire::frame::{FrameReader, MAX_FRAME, decode, encode};
use tokio::io::{AsyncRead, ReadBuf};

/// Reads the bytes as a stream twice, whole and in pieces of the size that the first byte says.
///
/// # Panics
/// When a promise is broken.
pub fn run(data: &[u8]) {
    let Some((step, stream)) = data.split_first() else { return };
    let whole = read(stream, usize::MAX);
    let pieces = read(stream, usize::from(*step).max(1));
    assert_eq!(whole, pieces, "the same bytes in other pieces are another conversation");
    for message in whole.0 {
        let body = encode(&message);
        let body = body.unwrap_or_else(|error| panic!("{message:?} was read and cannot be written: {error}"));
        assert!(body.len() <= MAX_FRAME);
        assert_eq!(decode::<ToCoordinator>(&body).ok(), Some(message));
    }
}

/// Returns the messages and how the stream ended.
fn read(stream: &[u8], step: usize) -> (Vec<ToCoordinator>, Option<String>) {
    let mut reader = FrameReader::new(Pieces { rest: stream, step });
    let mut messages = Vec::new();
    loop {
        match finish(reader.next()) {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, None),
            Err(error) => return (messages, Some(error.to_string())),
        }
    }
}

/// Completes a future that never has to wait.
fn finish<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("the reader waits although bytes are there"),
    }
}

struct Pieces<'a> {
    rest: &'a [u8],
    step: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let len = self.step.min(self.rest.len()).min(into.remaining());
        let (piece, rest) = self.rest.split_at_checked(len).unwrap_or((&[], &[]));
        into.put_slice(piece);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}
