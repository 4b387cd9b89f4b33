//! Asks somebody outside: resolves a name once, looks at every address, connects to one of those and to nothing else.
//!
//! One request, one connection, one answer: no pool that could hand out another connection, no proxy, no redirect that is
//! followed by itself, no second look at the name. What a registry answers is bounded in time and size. The connection is driven by
//! whoever reads the answer and ends with it.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use futures_util::StreamExt as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use sifleet_common::tls::read_certificates;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Host;

use super::address::{Origin, Refused, Rules};
use super::own;
use crate::store::identity::Network;

/// How long a name may take to be resolved, a connection to be made, and TLS to be agreed on: each.
const CONNECT: Duration = Duration::from_secs(4);
/// How long the head of an answer may take.
const HEAD: Duration = Duration::from_secs(10);
/// How long an answer may be silent in the middle.
pub const STALL: Duration = Duration::from_secs(30);
/// Most addresses of a name that are looked at; a name with more is refused.
const MAX_ADDRESSES: usize = 32;
/// Most addresses that are tried.
const MAX_TRIED: usize = 3;
/// Longest head of an answer, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// Most headers of an answer.
const MAX_HEADERS: usize = 100;
/// Where distributions keep the certificates of public authorities: Debian and its kin, Red Hat and its kin, SUSE, Alpine.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What may be configured of asking outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Networks that may be asked though they are not of the Internet.
    pub allow: Vec<Network>,
    /// Certificates of authorities that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// Says why somebody outside did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It is none of those that may be asked.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The name has no address.
    #[error("{host} has no address: {detail}")]
    NoSuchName {
        /// The name.
        host: String,
        /// What the resolver said.
        detail: String,
    },
    /// Nobody is there.
    #[error("{address} cannot be reached: {detail}")]
    Unreachable {
        /// Who was tried last.
        address: SocketAddr,
        /// What the system said.
        detail: String,
    },
    /// It took too long.
    #[error("{host} was waited for in vain: {what} took more than {seconds} s")]
    TimedOut {
        /// Whom.
        host: String,
        /// What.
        what: &'static str,
        /// How long.
        seconds: u64,
    },
    /// TLS did not come about.
    #[error("TLS with {host} failed: {detail}")]
    Tls {
        /// With whom.
        host: String,
        /// What it said.
        detail: String,
    },
    /// What came was no HTTP, or broke off.
    #[error("{host} does not speak HTTP as it should: {detail}")]
    NotHttp {
        /// Who.
        host: String,
        /// What was wrong.
        detail: String,
    },
    /// The answer is longer than it may be.
    #[error("the answer of {host} is longer than {max} bytes")]
    TooLong {
        /// Of whom.
        host: String,
        /// The limit.
        max: usize,
    },
}

impl Trouble {
    /// Returns the stable word for it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused_address",
            Self::NoSuchName { .. } => "no_such_name",
            Self::Unreachable { .. } => "unreachable",
            Self::TimedOut { .. } => "timed_out",
            Self::Tls { .. } => "tls",
            Self::NotHttp { .. } | Self::TooLong { .. } => "not_http",
        }
    }

    /// Tells whether it may be gone at the next attempt.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut { .. } | Self::NotHttp { .. })
    }
}

/// Asks outside; clones share what they know.
#[derive(Clone, Debug)]
pub struct Outside {
    options: Arc<Options>,
    names: Names,
}

/// How names become addresses.
#[derive(Clone, Debug)]
enum Names {
    /// As the system says.
    System,
    /// One list of addresses for each time that is asked, for names that change their mind.
    #[cfg(test)]
    Rebinding(Arc<std::sync::Mutex<Vec<Vec<IpAddr>>>>),
}

/// An answer whose body is still to come.
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Who gave it.
    pub address: SocketAddr,
    host: String,
    body: BodyDataStream,
    /// Moves the bytes; none once the other side has closed.
    connection: Option<Connection>,
}

type Connection = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Outside {
    /// Takes what may be asked.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options: Arc::new(options), names: Names::System }
    }

    /// Asks for something with `GET`.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn get(
        &self,
        origin: &Origin,
        target: &str,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Reply, Trouble> {
        let (stream, address) = self.connect(origin).await?;
        let host = origin.authority();
        let not_http = |error: &dyn std::fmt::Display| Trouble::NotHttp {
            host: host.clone(),
            detail: error.to_string(),
        };
        let mut request = Request::get(target).header(header::HOST, &host);
        request =
            request.header(header::USER_AGENT, concat!("sifleet-coordinator/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Body::empty()).map_err(|error| not_http(&error))?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
        let (mut sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|error| not_http(&error))?;
        let mut connection: Option<Connection> = Some(Box::pin(connection));
        let sent = sender.send_request(request);
        let answer = within(HEAD, &host, "the answer", driven(&mut connection, sent)).await?;
        let (parts, body) = answer.map_err(|error| not_http(&error))?.into_parts();
        let body = Body::new(body).into_data_stream();
        Ok(Reply { status: parts.status, headers: parts.headers, address, host, body, connection })
    }

    async fn connect(&self, origin: &Origin) -> Result<(Box<dyn Stream>, SocketAddr), Trouble> {
        let host = origin.authority();
        let addresses = within(CONNECT, &host, "resolving", self.resolve(origin)).await??;
        let rules = Rules { allow: self.options.allow.clone(), own: own::networks(&addresses) };
        rules.judge_all(&addresses)?;
        let mut last = None;
        for address in addresses.into_iter().take(MAX_TRIED) {
            let address = SocketAddr::new(address, origin.port());
            match within(CONNECT, &host, "connecting", TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok((self.secured(origin, stream).await?, address)),
                Ok(Err(error)) => last = Some(Trouble::Unreachable { address, detail: error.to_string() }),
                Err(trouble) => last = Some(trouble),
            }
        }
        let none = || Trouble::NoSuchName { host, detail: "the answer is empty".to_owned() };
        Err(last.unwrap_or_else(none))
    }

    async fn resolve(&self, origin: &Origin) -> Result<Vec<IpAddr>, Trouble> {
        let name = match origin.host() {
            Host::Ipv4(address) => return Ok(vec![(*address).into()]),
            Host::Ipv6(address) => return Ok(vec![(*address).into()]),
            Host::Domain(name) => name.as_str(),
        };
        let nothing = |detail: String| Trouble::NoSuchName { host: name.to_owned(), detail };
        let found: Vec<IpAddr> = match &self.names {
            Names::System => {
                let found = tokio::net::lookup_host((name, origin.port())).await;
                let found = found.map_err(|error| nothing(error.to_string()))?;
                found.map(|address| address.ip()).take(MAX_ADDRESSES + 1).collect()
            }
            #[cfg(test)]
            Names::Rebinding(answers) => answers.lock().unwrap_or_else(|_| panic!("poisoned")).remove(0),
        };
        if found.len() > MAX_ADDRESSES {
            return Err(nothing(format!("it has more than {MAX_ADDRESSES}")));
        }
        Ok(found)
    }

    async fn secured(&self, origin: &Origin, stream: TcpStream) -> Result<Box<dyn Stream>, Trouble> {
        if !origin.is_secure() {
            return Ok(Box::new(stream));
        }
        let host = origin.authority();
        let failed = |detail: String| Trouble::Tls { host: host.clone(), detail };
        let options = Arc::clone(&self.options);
        let config = tokio::task::spawn_blocking(move || client_config(&options)).await;
        let config = config.map_err(|lost| failed(lost.to_string()))?.map_err(failed)?;
        let name = origin.host().to_string();
        // The dot that ends a name, and the brackets of an address, are in no certificate.
        let name = name.trim_end_matches('.').trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(name).map_err(|error| failed(error.to_string()))?;
        let agreed = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let stream = within(CONNECT, &host, "TLS", agreed).await?;
        Ok(Box::new(stream.map_err(|error| failed(error.to_string()))?))
    }
}

impl Reply {
    /// Returns a header as text.
    #[must_use]
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Waits for the next bytes; none at the end.
    ///
    /// # Errors
    /// [`Trouble`]; what came before is good.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Trouble> {
        let piece =
            within(STALL, &self.host, "the next bytes", driven(&mut self.connection, self.body.next()));
        piece
            .await?
            .transpose()
            .map_err(|error| Trouble::NotHttp { host: self.host.clone(), detail: error.to_string() })
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// [`Trouble::TooLong`] and those of the way.
    pub async fn whole(mut self, max: usize) -> Result<Vec<u8>, Trouble> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.next().await? {
            if bytes.len().saturating_add(piece.len()) > max {
                return Err(Trouble::TooLong { host: self.host, max });
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }
}

/// Waits for something of a connection while moving its bytes.
async fn driven<T>(connection: &mut Option<Connection>, wanted: impl Future<Output = T>) -> T {
    let mut wanted = std::pin::pin!(wanted);
    loop {
        let Some(open) = connection.as_mut() else { return wanted.await };
        tokio::select! {
            biased;
            got = &mut wanted => return got,
            // However it ended, what is wanted tells of it.
            _ended = open => *connection = None,
        }
    }
}

async fn within<T>(
    limit: Duration,
    host: &str,
    what: &'static str,
    work: impl Future<Output = T>,
) -> Result<T, Trouble> {
    let late = |_elapsed| Trouble::TimedOut { host: host.to_owned(), what, seconds: limit.as_secs() };
    tokio::time::timeout(limit, work).await.map_err(late)
}

/// Trusts the system's authorities, and those that the settings name.
fn client_config(options: &Options) -> Result<ClientConfig, String> {
    let bundle = BUNDLES.iter().map(PathBuf::from).find(|path| path.exists());
    let mut roots = RootCertStore::empty();
    for path in bundle.iter().chain(&options.ca_file) {
        let found = read_certificates(path, "authorities").map_err(|error| error.to_string())?;
        // A bundle may hold what nobody can use; what it does not hold is not trusted.
        roots.add_parsable_certificates(found);
    }
    if roots.is_empty() {
        return Err("this machine has no certificates of authorities: install ca-certificates".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests;
