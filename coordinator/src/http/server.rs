//! Sockets of the HTTP API: who may connect, how long anybody may take, and how it all ends.
//!
//! Speaks HTTP/1.1 over plain TCP on loopback, over TLS elsewhere and over a unix socket ([`local`]); it knows no routes. Nothing a stranger does
//! or leaves undone holds a connection for ever: head, body, answer and handshake all have deadlines.
//! Outside facts: RFC 9112; hyper 1 drops a connection whose head is late and answers 431 to one too large.

mod leftover;
pub mod local;
pub mod tls;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use axum::response::Response;
use axum::routing::future::RouteFuture;
use futures_util::future::{BoxFuture, Either};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::gauge::Gauge;
use sifleet_common::patient::Patient;
use sifleet_common::task::Tasks;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service;
use tracing::{debug, info, warn};

use crate::access::Peer;
use tls::Tls;

/// How many finished handshakes the kernel may keep for us: a dashboard's burst.
const BACKLOG: u32 = 1_024;
/// Most bytes of one connection held for reading, and again for writing.
const MAX_BUFFER: usize = 64 * 1024;
/// Pause after the kernel refuses a connection for want of descriptors or memory.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// How connections are treated.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most connections at once; more wait in the kernel's backlog.
    pub max_connections: u32,
    /// How long the head of a request may take to arrive, counted from the end of the request before.
    pub head_timeout: Duration,
    /// Longest head of a request, in bytes: an image name may take four kilobytes, thrice that when encoded.
    pub max_head: usize,
    /// Most header lines of a request: browsers send about 20.
    pub max_headers: usize,
    /// How long a reader may take nothing of what is written to it.
    pub stall_timeout: Duration,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long requests in progress may take to end when the coordinator stops; below `common::task::GRACE`.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 1_024,
            head_timeout: Duration::from_secs(10),
            max_head: 16 * 1024,
            max_headers: 64,
            stall_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            grace: Duration::from_secs(8),
        }
    }
}

/// Says why nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The API would be open to the network without TLS.
    #[error(
        "http.listen is {address}, which others can reach: set http.tls.certificate and http.tls.key, or listen on 127.0.0.1"
    )]
    PlainOutsideLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be had.
    #[error("cannot listen on {address}: check that it is this machine's and that nothing else uses it")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The socket cannot be had.
    #[error("cannot listen on the socket {}: {what}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// What to look at.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// A bound listener that does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    limits: Limits,
}

impl Server {
    /// Listens on the address; must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`]; nothing listens.
    pub fn bind(address: SocketAddr, tls: Option<Tls>, limits: Limits) -> Result<Self, BindError> {
        if tls.is_none() && !address.ip().to_canonical().is_loopback() {
            return Err(BindError::PlainOutsideLoopback { address });
        }
        let listen = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            let listener = socket.listen(BACKLOG)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        match listen() {
            Ok((listener, address)) => Ok(Self { listener, address, tls, limits }),
            Err(source) => Err(BindError::Bind { address, source }),
        }
    }

    /// Returns the address that was bound, with the port the system chose if 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the tasks are told to stop, then lets requests in progress end within the grace.
    ///
    /// `connections` counts those that are open.
    pub async fn serve(self, router: Router, connections: Gauge, tasks: Tasks) {
        let Self { listener, address, tls, limits } = self;
        info!(peer = %address, tls = tls.is_some(), "listening for HTTP");
        let max = limits.max_connections;
        let places = Arc::new(Semaphore::new(usize::try_from(max).unwrap_or(Semaphore::MAX_PERMITS)));
        let host = Host::new(router, tls, limits, connections, &tasks);
        while let Some((place, (socket, peer))) = host.accept(&places, |cx| listener.poll_accept(cx)).await {
            let host = Arc::clone(&host);
            tasks.spawn("http connection", async move {
                host.connections.inc();
                host.welcome(socket, peer).await;
                host.connections.dec();
                drop(place);
            });
        }
        drop(listener);
        host.end(&places, max).await;
    }
}

/// What all connections share.
struct Host {
    router: Router,
    tls: Option<Tls>,
    limits: Limits,
    connections: Gauge,
    stop: CancellationToken,
    abandon: CancellationToken,
}

impl Host {
    fn new(router: Router, tls: Option<Tls>, limits: Limits, connections: Gauge, tasks: &Tasks) -> Arc<Self> {
        let (stop, abandon) = (tasks.token(), CancellationToken::new());
        Arc::new(Self { router, tls, limits, connections, stop, abandon })
    }

    /// Waits for a place, then for somebody to take it; none when it is time to stop.
    async fn accept<C>(
        &self,
        places: &Arc<Semaphore>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<C>> + Send,
    ) -> Option<(OwnedSemaphorePermit, C)> {
        let next = async {
            let place = Arc::clone(places).acquire_owned().await.ok()?;
            loop {
                match poll_fn(&mut poll).await {
                    Ok(connection) => return Some((place, connection)),
                    Err(error) => {
                        warn!(%error, "cannot accept an HTTP connection");
                        tokio::time::sleep(REFUSED_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            next = next => next,
        }
    }

    /// Lets requests in progress end, and cuts off those that do not in time.
    async fn end(&self, places: &Semaphore, max: u32) {
        if tokio::time::timeout(self.limits.grace, places.acquire_many(max)).await.is_err() {
            warn!(took = ?self.limits.grace, "HTTP requests did not end in time and are cut off");
        }
        self.abandon.cancel();
    }

    async fn welcome(&self, socket: TcpStream, peer: SocketAddr) {
        if let Err(error) = socket.set_nodelay(true) {
            debug!(%peer, %error, "cannot switch Nagle's algorithm off");
        }
        let socket = Patient::new(socket, self.limits.stall_timeout);
        let from = Peer::Net(peer.ip());
        let Some(tls) = &self.tls else { return self.talk(socket, from).await };
        let handshake = TlsAcceptor::from(tls.load_full()).accept(socket);
        match tokio::time::timeout(self.limits.handshake_timeout, handshake).await {
            Ok(Ok(socket)) => Box::pin(self.talk(socket, from)).await,
            Ok(Err(error)) => debug!(%peer, %error, "a TLS handshake failed"),
            Err(_) => debug!(%peer, took = ?self.limits.handshake_timeout, "a TLS handshake took too long"),
        }
    }

    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(&self, socket: S, peer: Peer) {
        let introduced = Introduced { router: self.router.clone(), peer: peer.clone() };
        let service = TowerToHyperService::new(introduced);
        // Without pipeline_flush, with which hyper never sends its answer to a head that it cannot read.
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_timeout)
            .max_headers(self.limits.max_headers)
            .max_header_size(self.limits.max_head)
            .max_buf_size(MAX_BUFFER);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = self.abandon.cancelled() => Ok(()),
                }
            }
        };
        if let Err(error) = ended {
            debug!(%peer, %error, "an HTTP connection ended early");
        }
    }
}

/// Tells the router with each request at which end of which connection it came in.
#[derive(Clone)]
struct Introduced {
    router: Router,
    peer: Peer,
}

impl Service<Request<Incoming>> for Introduced {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<RouteFuture<Infallible>, BoxFuture<'static, Result<Response, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Incoming>>::poll_ready(&mut self.router, cx)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer.clone());
        if request.body().is_end_stream() {
            return Either::Left(self.router.call(request));
        }
        let (request, leftover) = leftover::share(request);
        let answer = self.router.call(request);
        Either::Right(Box::pin(async move {
            let Ok(answer) = answer.await;
            Ok(leftover.settle(answer).await)
        }))
    }
}

#[cfg(test)]
mod tests;
