//! What every request passes on its way in and out: host, role, id, deadline, panics, error bodies, headers, measuring,
//! the audit.
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
use sifleet_common::api::problem::Problem;
use sifleet_common::clock::Clock;
use tower::{Layer, Service};
use tracing::{debug, error, warn};

use super::gate::{self, Asking, Need, Needs, OPERATOR, Schemes, Turned};
use super::hosts::Hosts;
use super::metrics::RouteMetrics;
use super::oci::refusal;
use super::problem::old::{OldProblem, is_of_old};
use super::problem::{ApiError, Code, PROBLEM_JSON, Pending, cut};
use crate::access::secret::hide;
use crate::access::{Access, Caller, Peer};
use crate::store::audit::AuditRecord;

/// Carries the id that finds a request in the log.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Tells clients of before the specification that a registry answers.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

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

/// What all edges share.
#[derive(Debug)]
pub(super) struct Doors {
    /// By which names we may be asked.
    pub(super) hosts: Arc<ArcSwap<Hosts>>,
    /// Who may ask.
    pub(super) access: Arc<Access>,
    pub(super) clock: Clock,
    pub(super) ids: RequestIds,
}

/// Wraps the handlers of one path.
#[derive(Clone, Debug)]
pub(super) struct EdgeLayer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    route: &'static str,
    needs: Needs,
    metrics: RouteMetrics,
    /// How long the head of an answer may take; none for streams.
    deadline: Option<Duration>,
    doors: Arc<Doors>,
    /// Whether the handlers read the query of a path; what nobody reads is refused rather than ignored.
    takes_query: bool,
    /// Whether clients of registries are spoken to, in their own way.
    oci: bool,
}

impl EdgeLayer {
    pub(super) fn new(
        route: &'static str,
        needs: Needs,
        metrics: RouteMetrics,
        deadline: Option<Duration>,
        doors: Arc<Doors>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                route,
                needs,
                metrics,
                deadline,
                doors,
                takes_query: true,
                oci: false,
            }),
        }
    }

    /// Refuses queries: the handlers read none.
    pub(super) fn without_query(mut self) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.takes_query = false;
        }
        self
    }

    /// Speaks to clients of registries: errors have their form, and a token may come as a password.
    pub(super) fn for_registries(mut self) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.oci = true;
        }
        self
    }
}

impl Shared {
    /// Tells who asks, and whether he is let in.
    fn admit(&self, request: &Request, need: Need) -> Result<Caller, Turned> {
        let Doors { hosts, access, clock, .. } = &*self.doors;
        let stranger = |error| Box::new((access.without_token(gate::peer(request)), error));
        hosts.load().admit(request, need == Need::Public).map_err(stranger)?;
        let by = if self.oci { Schemes::BearerOrBasic } else { Schemes::Bearer };
        let caller = gate::pass(access, request, (need, by), clock.now())?;
        match self.check_query(request) {
            Ok(()) => Ok(caller),
            Err(error) => Err(Box::new((caller, error))),
        }
    }

    fn check_query(&self, request: &Request) -> Result<(), ApiError> {
        let query = request.uri().query().filter(|query| !query.is_empty() && !self.takes_query);
        query.map_or(Ok(()), |query| {
            let detail = format!("{} takes no parameters: {}", self.route, cut(query));
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

    fn call(&mut self, mut request: Request) -> Self::Future {
        let (shared, method) = (Arc::clone(&self.shared), request.method().clone());
        let (id, begun) = (shared.doors.ids.of(&request), Instant::now());
        let need = shared.needs.of(&method);
        let (caller, refused) = match shared.admit(&request, need) {
            Ok(caller) => (caller, None),
            Err(turned) => (turned.0, Some(turned.1)),
        };
        let may_change = !matches!(method, Method::GET | Method::HEAD);
        let changes = need >= OPERATOR && may_change;
        // Only of what may come into the audit is the path needed later.
        let target = (may_change || refused.is_some()).then(|| cut(request.uri().path()));
        let passage = Passage { id, method, begun, caller, changes, target, shared };
        if let Some(error) = refused {
            return Box::pin(std::future::ready(Ok(passage.finish(Err(error)))));
        }
        // Streams outlast this check: who follows one is looked at again.
        if may_change || passage.shared.deadline.is_none() {
            request.extensions_mut().insert(Asking(passage.caller.clone()));
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

/// Says of an answer that something was changed, although the route lets those pass who only read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Changed;

/// One request on its way through.
struct Passage {
    id: HeaderValue,
    method: Method,
    begun: Instant,
    caller: Caller,
    /// Whether it asks for a change.
    changes: bool,
    /// The path, if it may come into the audit.
    target: Option<String>,
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
        self.note(&response);
        self.shared.metrics.answered(&self.method, status, took);
        debug!(request = %self.id(), route = self.shared.route, status = status.as_u16(), ?took, "request answered");
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REQUEST_ID, self.id);
        if self.shared.oci {
            headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
        }
        response
    }

    fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    /// Notes in the audit who asked for a change, and who was refused.
    fn note(&self, response: &Response) {
        let status = response.status();
        let refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        let changes = self.changes || response.extensions().get::<Changed>().is_some();
        let Some(target) = self.target.as_deref().filter(|_| refused || changes) else { return };
        let came_of_it = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let doors = &self.shared.doors;
        let record = AuditRecord {
            at: doors.clock.now().wall,
            actor: self.caller.actor(),
            origin: self.caller.from.as_ref().map_or_else(|| "unknown".to_owned(), Peer::to_string),
            method: cut(self.method.as_str()),
            route: self.shared.route.to_owned(),
            target: came_of_it.unwrap_or(target).to_owned(),
            refused,
            status: status.as_u16(),
            count: 1,
            request: self.id().to_owned(),
        };
        doors.access.audit().note(record, refused || self.shared.needs.counted);
    }

    /// Gives a refusal its body.
    fn refuse(&self, mut response: Response) -> Response {
        if let Some(Pending(error)) = response.extensions_mut().remove::<Pending>() {
            return self.problem(response, &error);
        }
        let error = match response.status() {
            StatusCode::METHOD_NOT_ALLOWED => {
                ApiError::MethodNotAllowed { method: cut(self.method.as_str()) }
            }
            status => ApiError::Foreign { status: status.as_u16() },
        };
        self.problem(response, &error)
    }

    /// Turns a response into the problem's, keeping headers such as Allow and Retry-After.
    fn problem(&self, mut response: Response, error: &ApiError) -> Response {
        self.log(error);
        let (status, kind, body, better) = if self.shared.oci {
            let (status, _) = refusal::row(error);
            (status, "application/json", refusal::body(error, self.id()), refusal::challenge(error))
        } else {
            let problem = self.write(&error.problem(Some(self.id()))).unwrap_or_default();
            (error.code().row().status, PROBLEM_JSON, problem, error.header())
        };
        *response.status_mut() = status;
        *response.body_mut() = Body::from(body);
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(better);
        response
    }

    fn write(&self, problem: &Problem) -> serde_json::Result<Vec<u8>> {
        if is_of_old(self.shared.route) {
            return serde_json::to_vec(&OldProblem::of(problem.clone()));
        }
        serde_json::to_vec(problem)
    }

    fn log(&self, failed: &ApiError) {
        let (request, route) = (self.id(), self.shared.route);
        let code = failed.code();
        if code == Code::Internal {
            error!(request, route, error = %hide(&chain(failed)), "a request failed");
        } else if code == Code::TimedOut {
            warn!(request, route, error = failed.shown(), "a request took too long");
        } else {
            debug!(request, route, error = failed.shown(), "request refused");
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
