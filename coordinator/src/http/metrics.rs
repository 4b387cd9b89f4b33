//! `GET /metrics`: counts for Prometheus, all named `sifleet_…`.
//!
//! Owns how requests are counted and how the state's own counters are shown. No series is made for an image or
//! a node: both grow without end, and the API answers about them.
//! Source of the format: OpenMetrics 1.0.

use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::App;
use super::extract::answer;
use super::problem::{ApiError, problems};
use crate::state::run::Handle;
use crate::store::sqlite::Store;

mod fleet;

/// What a scrape is answered with.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Bounds of the latency histogram in seconds: answers from memory take well under a millisecond, one that
/// takes ten seconds is cut.
const LATENCY: [f64; 12] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0];
/// Statuses that handlers answer with; a counter is kept at hand for each.
const STATUSES: [u16; 16] = [200, 201, 303, 308, 400, 401, 403, 404, 405, 408, 409, 413, 415, 429, 500, 503];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
}

type Requests = Family<RequestLabels, Counter>;
type Latencies = Family<RouteLabels, Histogram, fn() -> Histogram>;

/// Counts what the HTTP API does, and shows it with what the coordinator counts elsewhere.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Requests,
    latencies: Latencies,
    connections: Gauge,
    streams: Gauge,
    store_reads_failed: Counter,
}

impl Metrics {
    /// Registers everything that is shown.
    pub(super) fn new(handle: Handle, store: Store) -> Self {
        let mut registry = Registry::with_prefix("sifleet");
        let requests = Requests::default();
        let latencies = Latencies::new_with_constructor(|| Histogram::new(LATENCY));
        let (connections, streams, store_reads_failed) =
            (Gauge::default(), Gauge::default(), Counter::default());
        registry.register("build", "What runs", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        registry.register("http_requests", "Requests answered", requests.clone());
        registry.register(
            "http_request_duration_seconds",
            "Time from the head of a request to the head of its answer",
            latencies.clone(),
        );
        registry.register("http_connections", "Open connections", connections.clone());
        registry.register("http_event_streams", "Readers that follow the events", streams.clone());
        registry.register("store_read_failures", "Reads that the store failed", store_reads_failed.clone());
        registry.register_collector(Box::new(fleet::Fleet::new(handle, store)));
        Self { registry, requests, latencies, connections, streams, store_reads_failed }
    }

    /// Returns the gauge of open connections, for [`super::server`].
    #[must_use]
    pub fn connections(&self) -> Gauge {
        self.connections.clone()
    }

    pub(super) fn streams(&self) -> Gauge {
        self.streams.clone()
    }

    pub(super) fn store_read_failed(&self) {
        self.store_reads_failed.inc();
    }

    /// Prepares counting for a path, named as in the OpenAPI document.
    pub(super) fn route(&self, route: &'static str) -> RouteMetrics {
        RouteMetrics {
            route,
            requests: self.requests.clone(),
            latency: self.latencies.get_or_create_owned(&RouteLabels { route }),
            at_hand: Default::default(),
        }
    }

    fn encode(&self) -> Result<String, ApiError> {
        let mut text = String::with_capacity(16 * 1024);
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => Ok(text),
            Err(error) => Err(ApiError::Encode { detail: error.to_string() }),
        }
    }
}

/// Counts the requests of one path without looking its series up each time.
#[derive(Debug)]
pub(super) struct RouteMetrics {
    route: &'static str,
    requests: Requests,
    latency: Histogram,
    /// By method and status, made when first needed so that no series of zeros is shown.
    at_hand: [[OnceLock<Counter>; STATUSES.len()]; 3],
}

impl RouteMetrics {
    #[cfg(test)]
    pub(super) fn unregistered(route: &'static str) -> Self {
        let (requests, latency) = (Requests::default(), Histogram::new(LATENCY));
        Self { route, requests, latency, at_hand: Default::default() }
    }

    pub(super) fn answered(&self, method: &Method, status: StatusCode, took: Duration) {
        let (row, method) = match *method {
            Method::GET | Method::HEAD => (0, "GET"),
            Method::POST => (1, "POST"),
            // Methods are the caller's text: they must not become series.
            _ => (2, "other"),
        };
        self.latency.observe(took.as_secs_f64());
        let labels = || RequestLabels { route: self.route, method, status: status.as_u16() };
        let column = STATUSES.iter().position(|known| *known == status.as_u16());
        let at_hand = column.and_then(|column| self.at_hand.get(row)?.get(column));
        match at_hand {
            Some(counter) => counter.get_or_init(|| self.requests.get_or_create_owned(&labels())).inc(),
            None => self.requests.get_or_create(&labels()).inc(),
        };
    }
}

problems!(Problems:);

/// Shows every counter in the OpenMetrics text format.
#[utoipa::path(
    get, path = "/metrics", tag = "service", operation_id = "metrics",
    responses(
        (status = 200, description = "The counters.", body = String,
            content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        Problems,
    )
)]
pub(super) async fn scrape(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    Ok(answer(OPEN_METRICS, app.metrics().encode()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_path_method_and_status_whatever_the_caller_writes() {
        let metrics = RouteMetrics::unregistered("/x");
        let took = Duration::from_millis(1);
        for method in ["GET", "HEAD", "POST", "BREW", "STIR"] {
            metrics.answered(&method.parse().unwrap(), StatusCode::OK, took);
            metrics.answered(&method.parse().unwrap(), StatusCode::IM_A_TEAPOT, took);
        }
        let count = |method, status| {
            metrics.requests.get(&RequestLabels { route: "/x", method, status }).map(|c| c.get())
        };
        for status in [200, 418] {
            assert_eq!(count("GET", status), Some(2));
            assert_eq!(count("POST", status), Some(1));
            assert_eq!(count("other", status), Some(2));
            assert_eq!(count("BREW", status), None);
        }
    }
}
