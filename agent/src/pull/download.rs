//! The bytes of a file as the body of an answer, a piece at a time.
//!
//! A few threads read for all; a client that does not take its bytes for a minute is let go. What was read stays in the page
//! cache: other jobs of the node want the same.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use sifleet_common::task::Tasks;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::STALL;

/// Bytes that are read at once.
const PIECE: u64 = 256 * 1024;
/// Most files that are read at the same time; further ones wait. Each holds three pieces.
const MAX_DOWNLOADS: usize = 32;

/// Who may read at the same time.
pub(super) struct Downloads {
    tasks: Tasks,
    places: Arc<Semaphore>,
    patience: Duration,
}

impl Downloads {
    /// Begins without any; they are read on these tasks, and wait so long for their turn.
    pub(super) fn new(tasks: Tasks, patience: Duration) -> Self {
        Self { tasks, places: Arc::new(Semaphore::new(MAX_DOWNLOADS)), patience }
    }

    /// Waits for a place, then begins to read; none if no place becomes free in time.
    pub(super) async fn begin(&self, file: File, range: Range<u64>) -> Option<Content> {
        let length = range.end.saturating_sub(range.start);
        let (pieces, body) = mpsc::channel(1);
        let place = Arc::clone(&self.places).acquire_owned();
        let place = tokio::time::timeout(self.patience, place).await.ok()?.ok()?;
        self.tasks.spawn("download", read(file, range, pieces, place));
        Some(Content::Pieces { body, length })
    }
}

/// Which content a file had when its sending began. A second name or one less changes the time of its facts, and no byte:
/// an image that is replaced is sent to the end.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    size: u64,
    modified: (i64, i64),
}

fn state(file: &File) -> io::Result<State> {
    let facts = file.metadata()?;
    Ok(State { size: facts.size(), modified: (facts.mtime(), facts.mtime_nsec()) })
}

async fn read(
    file: File,
    range: Range<u64>,
    pieces: mpsc::Sender<io::Result<Bytes>>,
    _place: OwnedSemaphorePermit,
) {
    let Ok(begun) = state(&file) else { return };
    let (file, mut at) = (Arc::new(file), range.start);
    while at < range.end {
        let (reader, length) = (Arc::clone(&file), PIECE.min(range.end.saturating_sub(at)));
        let piece = tokio::task::spawn_blocking(move || piece(&reader, begun, (at, length))).await;
        let piece = piece.unwrap_or_else(|broke_off| Err(io::Error::other(broke_off)));
        let failed = piece.is_err();
        let sent = tokio::time::timeout(STALL, pieces.send(piece)).await;
        if failed || !matches!(sent, Ok(Ok(()))) {
            return;
        }
        at = at.saturating_add(length);
    }
}

fn piece(file: &File, begun: State, (at, length): (u64, u64)) -> io::Result<Bytes> {
    let mut piece = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut piece, at)?;
    if state(file)? != begun {
        return Err(io::Error::other("the file changed while it was sent"));
    }
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use super::*;

    #[tokio::test]
    async fn who_waits_too_long_for_those_that_take_nothing_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        std::fs::write(&path, vec![1; 1 << 20]).unwrap();
        let downloads = Downloads::new(Tasks::new(), Duration::from_millis(20));
        let begin = || downloads.begin(File::open(&path).unwrap(), 0..1 << 20);
        let mut slow = Vec::new();
        for _ in 0..MAX_DOWNLOADS {
            slow.push(begin().await.unwrap());
        }
        assert!(begin().await.is_none());
        slow.pop();
        assert!(begin().await.is_some(), "who went away makes room");
    }

    #[tokio::test]
    async fn a_file_that_changes_while_it_is_sent_breaks_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        std::fs::write(&path, vec![1; 4 << 20]).unwrap();
        let downloads = Downloads::new(Tasks::new(), Duration::from_secs(10));
        let send = |named: bool| {
            let (downloads, path, second) = (&downloads, &path, folder.path().join("second"));
            async move {
                let content = downloads.begin(File::open(path).unwrap(), 0..4 << 20).await.unwrap();
                let mut content = pin!(content);
                let mut sent = 0;
                loop {
                    match poll_fn(|context| content.as_mut().poll_frame(context)).await {
                        Some(Ok(frame)) => sent += frame.into_data().unwrap().len(),
                        Some(Err(error)) => return Err(error),
                        None => return Ok(sent),
                    }
                    if named {
                        drop(std::fs::hard_link(path, &second));
                    } else {
                        std::fs::write(path, vec![2; 4 << 20]).unwrap();
                    }
                }
            }
        };
        assert_eq!(send(true).await.unwrap(), 4 << 20, "a second name changes nothing");
        assert!(send(false).await.is_err());
    }
}
