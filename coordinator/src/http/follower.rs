//! Whoever follows a stream of events: the place he takes, and whether he may still read.
//!
//! A stream lasts longer than the check at its beginning, so its reader asks before each word whether the token that began it is
//! still good; with that it ends. Silence is broken by a comment every `keep_alive`, which is how late an end can be.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::response::Response;
use futures_util::Stream;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::OwnedSemaphorePermit;

use super::App;
use super::extract::answer;
use super::gate::Asking;
use super::problem::ApiError;
use crate::access::Caller;

/// A comment, which readers ignore.
pub(super) const STILL_HERE: &str = ": still here\n\n";

/// One reader of a stream; gives his place back when dropped.
pub(super) struct Follower {
    pub(super) app: Arc<App>,
    caller: Caller,
    gauge: Gauge,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    /// Takes a place.
    ///
    /// # Errors
    /// [`ApiError::TooManyStreams`].
    pub(super) fn enter(app: Arc<App>, asking: Asking) -> Result<Self, ApiError> {
        let full = |_| ApiError::TooManyStreams { max: app.limits().max_event_streams };
        let place = Arc::clone(&app.streams).try_acquire_owned().map_err(full)?;
        let gauge = app.metrics().streams();
        gauge.inc();
        Ok(Self { app, caller: asking.0, gauge, _place: place })
    }

    /// Tells whether he may read what comes next.
    pub(super) fn may_read(&self) -> bool {
        self.app.access().still_knows(&self.caller, self.app.now().wall)
    }

    /// Returns after how long a silence is to be broken.
    pub(super) fn keep_alive(&self) -> Duration {
        self.app.limits().keep_alive
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// Makes the answer that is a stream.
pub(super) fn respond(events: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static) -> Response {
    let mut response = answer("text/event-stream", Body::from_stream(events));
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
