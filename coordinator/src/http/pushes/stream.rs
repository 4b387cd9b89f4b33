//! `GET /v1/pushes/{id}/events`: how a push stands, again and again until nothing of it is under way.
//!
//! Each event is the whole push, so a reader that misses some loses nothing. They are read off the view; the state knows
//! nothing of readers.
//! Source of the format: the HTML standard, "Server-sent events".

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use sifleet_common::api::pushes::{PushBody, PushState};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::{number, unknown};
use crate::http::App;
use crate::http::events::{Counted, RETRY_AFTER, STILL_HERE};
use crate::http::extract::{Segment, answer};
use crate::http::problem::{ApiError, problems};
use crate::store::push::PushNo;
use crate::view::pushes::PushInfo;

/// How often the view is looked at: an end is told soon.
const LOOK: Duration = Duration::from_millis(200);
/// No two events of a push that goes on are closer together.
const SPACING: Duration = Duration::from_secs(1);

problems!(Problems: BadQuery, UnknownPush, TooManyStreams);

/// Follows a push. The stream ends when nothing of it is under way.
#[utoipa::path(
    get, path = "/v1/pushes/{id}/events", tag = "pushes", operation_id = "push_events",
    params(("id" = String, Path, description = "What the push is called.")),
    responses(
        (status = 200, description = "Server-sent events `push`, each with the whole push as `data`: one at once, then \
            at most one a second when something changed, the last one when nothing is under way any longer.",
            body = PushBody, content_type = "text/event-stream"),
        Problems,
    )
)]
pub(in crate::http) async fn follow(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let no = number(&id)?;
    if app.view().push_info(no).is_none() {
        return Err(unknown(no));
    }
    let Ok(place) = Arc::clone(&app.streams).try_acquire_owned() else {
        let mut full = ApiError::TooManyStreams { max: app.limits().max_event_streams }.into_response();
        full.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        return Ok(full);
    };
    let counted = Counted::new(app.metrics().streams());
    let reader =
        Reader { app, no, shown: None, told: Instant::now(), ended: false, _counted: counted, _place: place };
    let mut response = answer("text/event-stream", Body::from_stream(stream::unfold(reader, Reader::next)));
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// One reader's stream.
struct Reader {
    app: Arc<App>,
    no: PushNo,
    /// What it was told last.
    shown: Option<Arc<PushInfo>>,
    told: Instant,
    ended: bool,
    _counted: Counted,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    /// Waits for something to say; ends with the push, or with the coordinator.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if self.ended {
            return None;
        }
        loop {
            let text = self.look()?;
            if let Some(text) = text {
                self.told = Instant::now();
                return Some((Ok(text), self));
            }
            tokio::select! {
                biased;
                () = self.app.stop.cancelled() => return None,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Says how the push stands if there is reason to; nothing at all once it is forgotten.
    fn look(&mut self) -> Option<Option<Bytes>> {
        let view = self.app.view();
        let info = Arc::clone(view.push_info(self.no)?);
        let same = self.shown.as_ref().is_some_and(|shown| Arc::ptr_eq(shown, &info));
        let ended = info.state != PushState::Running;
        if same || self.shown.is_some() && !ended && self.told.elapsed() < SPACING {
            let silent = self.told.elapsed() >= self.app.limits().keep_alive;
            return Some(silent.then(|| Bytes::from_static(STILL_HERE.as_bytes())));
        }
        let text = serde_json::to_string(view.push_body(&info)).ok()?;
        drop(view);
        (self.shown, self.ended) = (Some(info), ended);
        Some(Some(format!("event: push\ndata: {text}\n\n").into()))
    }
}
