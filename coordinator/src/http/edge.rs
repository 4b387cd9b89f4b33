//! What every request passes on its way in and out: id, deadline, panics, error bodies, headers, measuring.
//!
//! One layer does all of it, because the availability route answers tens of thousands of requests a second and
//! each tower layer costs an allocation and a call. It knows nothing of the nouns behind it.

use std::any::Any;
use std::convert::Infallible;
use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use futures_util::FutureExt as _;
use tower::{Layer, Service};
use tracing::{debug, error, warn};

use super::hosts::Hosts;
use super::metrics::RouteMetrics;
use super::problem::{ApiError, Code, PROBLEM_JSON, Pending};

/// Carries the id that finds a request in the log.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id taken from a caller: a UUID with its dashes has 36.
const MAX_REQUEST_ID: usize = 64;

/// Gives requests their ids: a random number of this process, then a count.
#[derive(Debug)]
pub(super) struct RequestIds {
    process: u32,
    next: AtomicU64,
}

impl RequestIds {
    pub(super) fn new(process: u32) -> Self {
        Self { process, next: AtomicU64::new(1) }
    }

    /// Takes the caller's id if it is short and harmless in a log, and makes one otherwise.
    fn of(&self, request: &Request) -> HeaderValue {
        match request.headers().get(REQUEST_ID) {
            Some(given) if is_harmless(given.as_bytes()) => given.clone(),
            _ => self.make(),
        }
    }

    fn make(&self) -> HeaderValue {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let text = format!("{:08x}-{count:x}", self.process);
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("none"))
    }
}

fn is_harmless(id: &[u8]) -> bool {
    (1..=MAX_REQUEST_ID).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

/// Wraps the handlers of one path.
#[derive(Clone, Debug)]
pub(super) struct EdgeLayer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    route: &'static str,
    metrics: RouteMetrics,
    ids: Arc<RequestIds>,
    /// How long the head of an answer may take; none for streams.
    deadline: Option<Duration>,
    /// By which names we may be asked.
    hosts: Arc<ArcSwap<Hosts>>,
    /// Whether the handlers read the query of a path; what nobody reads is refused rather than ignored.
    takes_query: bool,
}

impl EdgeLayer {
    pub(super) fn new(
        route: &'static str,
        metrics: RouteMetrics,
        ids: Arc<RequestIds>,
        deadline: Option<Duration>,
        hosts: Arc<ArcSwap<Hosts>>,
    ) -> Self {
        Self { shared: Arc::new(Shared { route, metrics, ids, deadline, hosts, takes_query: true }) }
    }

    /// Refuses queries: the handlers read none.
    pub(super) fn without_query(mut self) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.takes_query = false;
        }
        self
    }
}

impl Shared {
    fn check_query(&self, request: &Request) -> Result<(), ApiError> {
        let query = request.uri().query().filter(|query| !query.is_empty() && !self.takes_query);
        query.map_or(Ok(()), |query| {
            let detail = format!("{} takes no parameters: {}", self.route, super::problem::cut(query));
            Err(ApiError::BadQuery { detail })
        })
    }
}

impl<S> Layer<S> for EdgeLayer {
    type Service = Edge<S>;

    fn layer(&self, inner: S) -> Edge<S> {
        Edge { inner, shared: Arc::clone(&self.shared) }
    }
}

/// The handlers of one path, wrapped.
#[derive(Clone, Debug)]
pub(super) struct Edge<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Service<Request> for Edge<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let passage = Passage {
            id: self.shared.ids.of(&request),
            method: request.method().clone(),
            begun: Instant::now(),
            shared: Arc::clone(&self.shared),
        };
        let admitted =
            self.shared.hosts.load().admit(&request).and_then(|()| self.shared.check_query(&request));
        if let Err(refused) = admitted {
            return Box::pin(std::future::ready(Ok(passage.finish(Err(refused)))));
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = guarded(answer, passage.shared.deadline).await;
            Ok(passage.finish(answer))
        })
    }
}

/// Waits for an answer, but neither for ever nor through a panic.
async fn guarded<F>(answer: F, deadline: Option<Duration>) -> Result<Response, ApiError>
where
    F: Future<Output = Result<Response, Infallible>>,
{
    let answer = AssertUnwindSafe(answer).catch_unwind();
    let answer = match deadline {
        Some(deadline) => match tokio::time::timeout(deadline, answer).await {
            Ok(answer) => answer,
            Err(_) => return Err(ApiError::TimedOut { seconds: deadline.as_secs() }),
        },
        None => answer.await,
    };
    match answer {
        Ok(Ok(response)) => Ok(response),
        Err(panic) => Err(ApiError::Panicked { detail: message(panic.as_ref()).to_owned() }),
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// One request on its way through.
struct Passage {
    id: HeaderValue,
    method: Method,
    begun: Instant,
    shared: Arc<Shared>,
}

impl Passage {
    fn finish(self, answer: Result<Response, ApiError>) -> Response {
        let mut response = match answer {
            Ok(response) if response.status().as_u16() < 400 => response,
            Ok(response) => self.refuse(response),
            Err(error) => self.problem(Response::new(Body::empty()), &error),
        };
        let took = self.begun.elapsed();
        let status = response.status();
        self.shared.metrics.answered(&self.method, status, took);
        debug!(request = %self.id(), route = self.shared.route, status = status.as_u16(), ?took, "request answered");
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REQUEST_ID, self.id);
        response
    }

    fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    /// Gives a refusal its body.
    fn refuse(&self, mut response: Response) -> Response {
        if let Some(Pending(error)) = response.extensions_mut().remove::<Pending>() {
            return self.problem(response, &error);
        }
        let error = match response.status() {
            StatusCode::METHOD_NOT_ALLOWED => {
                ApiError::MethodNotAllowed { method: super::problem::cut(self.method.as_str()) }
            }
            status => ApiError::Foreign { status: status.as_u16() },
        };
        self.problem(response, &error)
    }

    /// Turns a response into the problem's, keeping headers such as Allow and Retry-After.
    fn problem(&self, mut response: Response, error: &ApiError) -> Response {
        self.log(error);
        let problem = error.problem(Some(self.id()));
        *response.status_mut() = error.code().row().status;
        *response.body_mut() = Body::from(serde_json::to_vec(&problem).unwrap_or_default());
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    fn log(&self, failed: &ApiError) {
        let (request, route) = (self.id(), self.shared.route);
        let code = failed.code();
        if code == Code::Internal {
            error!(request, route, error = %chain(failed), "a request failed");
        } else if code == Code::TimedOut {
            warn!(request, route, error = %failed, "a request took too long");
        } else {
            debug!(request, route, error = %failed, "request refused");
        }
    }
}

/// Shows an error with its causes.
fn chain(error: &dyn Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests;
