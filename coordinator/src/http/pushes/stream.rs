//! `GET /v1/pushes/{id}/events`: how a push stands, again and again until nothing of it is under way.
//!
//! Each event is the whole push, so a reader that misses some loses nothing. They are read off the view; the state knows
//! nothing of readers.
//! Source of the format: the HTML standard, "Server-sent events".

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use futures_util::stream;
use sifleet_common::api::pushes::{PushBody, PushState};
use tokio::time::Instant;

use super::{number, unknown};
use crate::http::App;
use crate::http::extract::Segment;
use crate::http::follower::{Follower, STILL_HERE, respond};
use crate::http::gate::Asking;
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
    asking: Asking,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let no = number(&id)?;
    if app.view().push_info(no).is_none() {
        return Err(unknown(no));
    }
    let follower = Follower::enter(app, asking)?;
    let reader = Reader { follower, no, shown: None, told: Instant::now(), ended: false };
    Ok(respond(stream::unfold(reader, Reader::next)))
}

/// One reader's stream.
struct Reader {
    follower: Follower,
    no: PushNo,
    /// What it was told last.
    shown: Option<Arc<PushInfo>>,
    told: Instant,
    ended: bool,
}

impl Reader {
    /// Waits for something to say; ends with the push, with the coordinator, and with the right to read.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if self.ended {
            return None;
        }
        loop {
            let text = self.look()?;
            if let Some(text) = text {
                self.told = Instant::now();
                return self.follower.may_read().then(|| (Ok(text), self));
            }
            tokio::select! {
                biased;
                () = self.follower.app.stop.cancelled() => return None,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Says how the push stands if there is reason to; nothing at all once it is forgotten.
    fn look(&mut self) -> Option<Option<Bytes>> {
        let view = self.follower.app.view();
        let info = Arc::clone(view.push_info(self.no)?);
        let same = self.shown.as_ref().is_some_and(|shown| Arc::ptr_eq(shown, &info));
        let ended = info.state != PushState::Running;
        if same || self.shown.is_some() && !ended && self.told.elapsed() < SPACING {
            let silent = self.told.elapsed() >= self.follower.keep_alive();
            return Some(silent.then(|| Bytes::from_static(STILL_HERE.as_bytes())));
        }
        let text = serde_json::to_string(view.push_body(&info)).ok()?;
        drop(view);
        (self.shown, self.ended) = (Some(info), ended);
        Some(Some(format!("event: push\ndata: {text}\n\n").into()))
    }
}
