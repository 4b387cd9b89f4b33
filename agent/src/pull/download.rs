//! The bytes of a file as the body of an answer, a piece at a time.
//!
//! A few threads read for all; a client that does not take its bytes for a minute is let go. What was read stays in the page
//! cache: other jobs of the node want the same.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use sifleet_common::task::Tasks;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Bytes that are read at once.
const PIECE: u64 = 256 * 1024;
/// Most files that are read at the same time; further ones wait. Each holds three pieces.
const MAX_DOWNLOADS: usize = 32;
/// How long a client may take over a piece.
const STALL: Duration = Duration::from_secs(60);

/// Who may read at the same time.
pub(super) struct Downloads {
    tasks: Tasks,
    places: Arc<Semaphore>,
}

impl Downloads {
    /// Begins without any; they are read on these tasks.
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { tasks, places: Arc::new(Semaphore::new(MAX_DOWNLOADS)) }
    }

    /// Waits for a place, then begins to read.
    pub(super) async fn begin(&self, file: File, range: Range<u64>) -> Content {
        let length = range.end.saturating_sub(range.start);
        let (pieces, body) = mpsc::channel(1);
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return Content::text("") };
        self.tasks.spawn("download", read(file, range, pieces, place));
        Content::Pieces { body, length }
    }
}

async fn read(
    file: File,
    range: Range<u64>,
    pieces: mpsc::Sender<io::Result<Bytes>>,
    _place: OwnedSemaphorePermit,
) {
    let (file, mut at) = (Arc::new(file), range.start);
    while at < range.end {
        let (reader, length) = (Arc::clone(&file), PIECE.min(range.end.saturating_sub(at)));
        let piece = tokio::task::spawn_blocking(move || piece(&reader, at, length)).await;
        let piece = piece.unwrap_or_else(|broke_off| Err(io::Error::other(broke_off)));
        let failed = piece.is_err();
        let sent = tokio::time::timeout(STALL, pieces.send(piece)).await;
        if failed || !matches!(sent, Ok(Ok(()))) {
            return;
        }
        at = at.saturating_add(length);
    }
}

fn piece(file: &File, at: u64, length: u64) -> io::Result<Bytes> {
    let mut piece = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut piece, at)?;
    Ok(piece.into())
}

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Content {
    /// A few words, or none.
    Text(Option<Bytes>),
    /// A file. Ends early when it cannot be read, which breaks the connection: the client sees that bytes are missing.
    Pieces {
        /// What was read.
        body: mpsc::Receiver<io::Result<Bytes>>,
        /// How many bytes are left.
        length: u64,
    },
}

impl Content {
    /// Makes a body of a text.
    pub(super) fn text(text: impl Into<Bytes>) -> Self {
        Self::Text(Some(text.into()))
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Text(text) => {
                let text = text.take().filter(|text| !text.is_empty());
                Poll::Ready(
                    text.map(|text| Ok::<_, Infallible>(Frame::data(text)).map_err(|never| match never {})),
                )
            }
            Self::Pieces { body, length } => body.poll_recv(context).map(|piece| match piece {
                Some(Ok(piece)) => {
                    *length = length.saturating_sub(piece.len() as u64);
                    Some(Ok(Frame::data(piece)))
                }
                Some(Err(error)) => Some(Err(error)),
                None if *length > 0 => Some(Err(io::ErrorKind::UnexpectedEof.into())),
                None => None,
            }),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Pieces { length, .. } => SizeHint::with_exact(*length),
        }
    }
}
