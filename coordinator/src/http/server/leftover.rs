//! What a client has still to send of a request whose answer is there already.
//!
//! Refusals need no body, so they are often made before it has come. hyper then closes the connection without a word,
//! and a client that keeps connections sends its next request into it: to a dashboard the coordinator is away. So the
//! rest of a short body is waited for, and of any other the client is told that the connection closes.
//! Outside facts: RFC 9110 section 10.1.1 and RFC 9112 section 9.6; hyper 1 asks for the body of a request with
//! `Expect: 100-continue` as soon as anybody reads it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{HeaderValue, Request, header};
use axum::response::Response;
use futures_util::future::poll_fn;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

/// Most bytes that are waited for: what does not fit is seldom sent in one go.
const MAX: u64 = 256 * 1024;
/// How long: a client that has begun to send a short body is about to end it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The body of a request, which whoever answers may leave unread.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Mutex<Incoming>>);

/// The other end of it.
#[derive(Debug)]
pub(super) struct Leftover {
    body: Shared,
    /// The client waits to be asked for its body, and is not to be asked for one that nobody needs.
    waits: bool,
}

/// Takes a hold of the rest of a request.
pub(super) fn share(request: Request<Incoming>) -> (Request<Shared>, Leftover) {
    let waits = request.headers().contains_key(header::EXPECT);
    let (head, body) = request.into_parts();
    let body = Shared(Arc::new(Mutex::new(body)));
    (Request::from_parts(head, body.clone()), Leftover { body, waits })
}

impl Leftover {
    /// Lets the rest arrive, or says in the answer that it is not read.
    pub(super) async fn settle(mut self, mut answer: Response) -> Response {
        let arrived = self.body.is_end_stream()
            || !self.waits && tokio::time::timeout(PATIENCE, self.arrive()).await.unwrap_or(false);
        if !arrived {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    /// Reads and forgets the rest; tells whether it came to its end.
    async fn arrive(&mut self) -> bool {
        let mut left = MAX;
        while self.body.size_hint().lower() <= left {
            match poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await {
                None => return true,
                Some(Ok(frame)) => {
                    let bytes = frame.data_ref().map_or(0, Bytes::len);
                    left = left.saturating_sub(u64::try_from(bytes).unwrap_or(u64::MAX));
                }
                Some(Err(_)) => return false,
            }
        }
        false
    }
}

impl Shared {
    fn with<T>(&self, work: impl FnOnce(&mut Incoming) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Body for Shared {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.with(|body| Pin::new(body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.with(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.with(|body| body.size_hint())
    }
}
