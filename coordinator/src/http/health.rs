//! Whether the process lives (`/healthz`) and whether it can be asked (`/readyz`).
//!
//! Owns the list of what must have started ([`Part`]); who starts it reports here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::extract::State;
use sifleet_common::api::health::Health as Body;

use super::App;
use super::extract::Json;
use super::problem::{ApiError, problems};

/// Something that must have started before questions can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The store is open and what it held is restored.
    Store,
    /// Every listener is bound.
    Listeners,
    /// The first read view is published.
    View,
}

impl Part {
    const ALL: [Self; 3] = [Self::Store, Self::Listeners, Self::View];

    const fn bit(self) -> u8 {
        match self {
            Self::Store => 1,
            Self::Listeners => 2,
            Self::View => 4,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Store => "the store",
            Self::Listeners => "the listeners",
            Self::View => "the first view",
        }
    }
}

/// Set when the coordinator takes nothing more.
const DRAINING: u8 = 128;

/// Remembers what has started; shared by those who start it and `/readyz`.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

impl Readiness {
    /// Notes that a part has started.
    pub fn started(&self, part: Part) {
        self.0.fetch_or(part.bit(), Ordering::Release);
    }

    /// Notes that the coordinator stops: it is not ready from here on.
    pub fn drain(&self) {
        self.0.fetch_or(DRAINING, Ordering::Release);
    }

    /// Tells whether questions can be answered.
    ///
    /// # Errors
    /// [`ApiError::Draining`] or [`ApiError::NotReady`] with what is waited for.
    pub fn check(&self) -> Result<(), ApiError> {
        let set = self.0.load(Ordering::Acquire);
        if set & DRAINING != 0 {
            return Err(ApiError::Draining);
        }
        let missing: Vec<_> =
            Part::ALL.into_iter().filter(|part| set & part.bit() == 0).map(Part::name).collect();
        if missing.is_empty() { Ok(()) } else { Err(ApiError::NotReady { waiting: missing.join(", ") }) }
    }
}

problems!(LiveProblems:);
problems!(ReadyProblems: NotReady, Stopping);

/// Tells that the process lives.
#[utoipa::path(
    get, path = "/healthz", tag = "service", operation_id = "healthz",
    responses((status = 200, description = "The process lives.", body = Body), LiveProblems)
)]
pub(super) async fn live() -> Json<Body> {
    Json(Body { status: "alive".to_owned() })
}

/// Tells whether the coordinator has started wholly and is not stopping.
#[utoipa::path(
    get, path = "/readyz", tag = "service", operation_id = "readyz",
    responses((status = 200, description = "Questions are answered.", body = Body), ReadyProblems)
)]
pub(super) async fn ready(State(app): State<Arc<App>>) -> Result<Json<Body>, ApiError> {
    app.readiness().check()?;
    Ok(Json(Body { status: "ready".to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_that_every_part_has_started_and_nothing_stops() {
        let readiness = Readiness::default();
        let waiting = |readiness: &Readiness| readiness.check().err().map(|error| error.to_string());
        assert_eq!(waiting(&readiness).unwrap(), "waiting for the store, the listeners, the first view");
        readiness.started(Part::Store);
        readiness.started(Part::View);
        assert_eq!(waiting(&readiness).unwrap(), "waiting for the listeners");
        readiness.started(Part::Listeners);
        assert_eq!(waiting(&readiness), None);
        readiness.drain();
        assert_eq!(waiting(&readiness).unwrap(), "the coordinator is stopping");
    }
}
