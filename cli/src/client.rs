//! Talks to the coordinator: one request, one bounded answer, or one stream of events.
//!
//! Owns addresses, time limits, trust and what goes wrong on the way. It knows no command and prints nothing.
//! Errors arrive as problem details (RFC 9457).

mod error;
mod registry;
mod socket;
mod sse;
mod target;
mod token;
mod trust;

use std::io::{BufReader, Read};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sifleet_common::api::problem::Problem;
use ureq::http::{HeaderValue, Response, header};
use ureq::{Agent, Body, RequestBuilder, SendBody};

use crate::args::Connection;

pub(crate) use error::ClientError;
pub(crate) use registry::DownloadError;
pub(crate) use sse::EventStream;
pub(crate) use target::Target;
pub(crate) use token::stays_here;

/// Largest answer that is read, in bytes: 10,000 nodes take about 3 MiB, 10,000 replicas about 4.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;
/// Largest error that is read, in bytes; a proxy's page of HTML is far smaller.
const MAX_PROBLEM: u64 = 256 * 1024;
/// How long a connection may take: a head node answers within a round trip.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a stream of events may be silent: four of the server's signs of life, one every 15 s.
const SILENCE: Duration = Duration::from_secs(60);
/// How long one piece of an upload may take: the largest one at 30 kB a second.
const PIECE: Duration = Duration::from_secs(300);
/// Redirects that are followed: from a follower to the leader, with one in between.
const REDIRECTS: u32 = 2;

/// What an address begins with that is a socket's.
const UNIX: &str = "unix:";
/// Where the coordinator is if nobody says, and this machine has no socket of it.
const LOOPBACK: &str = "http://127.0.0.1:7440";
/// What is understood of an answer.
const JSON: &str = "application/json, application/problem+json";
/// What is understood of a stream.
const EVENTS: &str = "text/event-stream, application/problem+json";

/// Finds the coordinator of this machine.
fn usual() -> String {
    if Path::new(socket::USUAL).exists() { format!("{UNIX}{}", socket::USUAL) } else { LOOPBACK.to_owned() }
}

/// An answer as understood, and as it was sent.
pub(crate) struct Answer<T> {
    /// Understood.
    pub(crate) value: T,
    /// The JSON text as sent, with whatever a later coordinator has added.
    pub(crate) text: String,
}

/// Knows where the coordinator is; clones share connections.
#[derive(Clone)]
pub(crate) struct Client {
    base: String,
    agent: Agent,
    /// Says who asks; never shown, and sent to nobody else when the coordinator names another address.
    token: Option<HeaderValue>,
}

impl Client {
    /// Checks the address and reads token and certificates; connects to nobody yet.
    ///
    /// # Errors
    /// [`ClientError::BadUrl`], [`ClientError::CaFile`], [`ClientError::NoCertificate`]; what is wrong with the token.
    pub(crate) fn new(connection: &Connection) -> Result<Self, ClientError> {
        let url = connection.url.clone().unwrap_or_else(usual);
        let token = token::read(connection.token_file.as_deref())?;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(REDIRECTS)
            .proxy(None)
            .timeout_connect(Some(CONNECT.min(connection.timeout)))
            .timeout_global(Some(connection.timeout))
            .user_agent(concat!("sifleet/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = url.strip_prefix(UNIX) {
            let agent = socket::agent(config.build(), Path::new(path));
            return Ok(Self { base: socket::BASE.to_owned(), agent, token });
        }
        let base = url.trim_end_matches('/').to_owned();
        let encrypted = base.starts_with("https://");
        if !encrypted && !base.starts_with("http://") {
            return Err(ClientError::BadUrl { url });
        }
        if token.is_some() && !encrypted && !stays_here(&base) {
            return Err(ClientError::InTheClear { url });
        }
        if encrypted {
            config = config.tls_config(trust::roots(connection.ca_file.as_deref())?);
        }
        Ok(Self { base, agent: config.build().new_agent(), token })
    }

    /// Returns the coordinator's address, as others than this machine could use it too; none for a socket.
    pub(crate) fn address(&self) -> Option<&str> {
        Some(&*self.base).filter(|base| *base != socket::BASE)
    }

    /// Says what is understood, and who asks.
    fn signed<T>(&self, request: RequestBuilder<T>, accept: &str) -> RequestBuilder<T> {
        let request = request.header(header::ACCEPT, accept);
        match &self.token {
            Some(token) => request.header(header::AUTHORIZATION, token),
            None => request,
        }
    }

    /// Asks and understands the answer.
    ///
    /// # Errors
    /// [`ClientError`]; nothing was changed.
    pub(crate) fn get<T: DeserializeOwned>(&self, target: &Target) -> Result<Answer<T>, ClientError> {
        let url = self.url(target);
        let sent = self.signed(self.agent.get(&url), JSON).call();
        Self::understand(&url, sent)
    }

    /// Has something done and understands the answer.
    ///
    /// # Errors
    /// [`ClientError`]; after [`ClientError::Unreachable`] it may have been done all the same.
    pub(crate) fn post<T: DeserializeOwned>(&self, target: &Target) -> Result<Answer<T>, ClientError> {
        let url = self.url(target);
        let request = self.signed(self.agent.post(&url), JSON);
        Self::understand(&url, request.send(SendBody::none()))
    }

    /// Has something done that needs words, and understands the answer.
    ///
    /// `key` names the wish (Idempotency-Key), so that it may be sent again when the answer got lost.
    ///
    /// # Errors
    /// As [`Client::post`].
    pub(crate) fn send<T: DeserializeOwned>(
        &self,
        target: &Target,
        body: &impl Serialize,
        key: Option<&str>,
    ) -> Result<Answer<T>, ClientError> {
        let url = self.url(target);
        let mut request = self.signed(self.agent.post(&url), JSON);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        Self::understand(&url, request.send_json(body))
    }

    /// Has something be no longer, and understands the answer.
    ///
    /// # Errors
    /// As [`Client::post`].
    pub(crate) fn delete<T: DeserializeOwned>(&self, target: &Target) -> Result<Answer<T>, ClientError> {
        let url = self.url(target);
        Self::understand(&url, self.signed(self.agent.delete(&url), JSON).call())
    }

    /// Has something be otherwise, and understands the answer.
    ///
    /// # Errors
    /// As [`Client::post`].
    pub(crate) fn change<T: DeserializeOwned>(
        &self,
        target: &Target,
        body: &impl Serialize,
    ) -> Result<Answer<T>, ClientError> {
        let url = self.url(target);
        let request = self.signed(self.agent.patch(&url), JSON);
        Self::understand(&url, request.send_json(body))
    }

    /// Puts something in the place of what is there, and understands the answer.
    ///
    /// # Errors
    /// As [`Client::post`].
    pub(crate) fn put<T: DeserializeOwned>(
        &self,
        target: &Target,
        body: &impl Serialize,
    ) -> Result<Answer<T>, ClientError> {
        let url = self.url(target);
        let request = self.signed(self.agent.put(&url), JSON);
        Self::understand(&url, request.send_json(body))
    }

    /// Has something done that needs words and may take as long as `patience`.
    ///
    /// # Errors
    /// As [`Client::post`].
    pub(crate) fn send_patiently<T: DeserializeOwned>(
        &self,
        target: &Target,
        body: &impl Serialize,
        patience: Duration,
    ) -> Result<Answer<T>, ClientError> {
        let url = self.url(target);
        let request = self.signed(self.agent.post(&url), JSON);
        let request = request.config().timeout_global(Some(patience)).build();
        Self::understand(&url, request.send_json(body))
    }

    /// Sends `len` bytes that begin at `offset` of an upload.
    ///
    /// # Errors
    /// [`ClientError`]; some of the bytes may have arrived.
    pub(crate) fn append<T: DeserializeOwned>(
        &self,
        target: &Target,
        offset: u64,
        len: u64,
        bytes: &mut dyn Read,
    ) -> Result<Answer<T>, ClientError> {
        let url = self.url(target);
        let request = self
            .signed(self.agent.patch(&url), JSON)
            .header("content-type", "application/octet-stream")
            .header("content-length", len.to_string())
            .header("upload-offset", offset.to_string());
        let request = request.config().timeout_global(Some(PIECE)).build();
        Self::understand(&url, request.send(SendBody::from_reader(bytes)))
    }

    /// Has something done that may take as long as `patience`.
    ///
    /// # Errors
    /// As [`Client::post`].
    pub(crate) fn post_patiently<T: DeserializeOwned>(
        &self,
        target: &Target,
        patience: Duration,
    ) -> Result<Answer<T>, ClientError> {
        let url = self.url(target);
        let request = self.signed(self.agent.post(&url), JSON);
        let request = request.config().timeout_global(Some(patience)).build();
        Self::understand(&url, request.send(SendBody::none()))
    }

    /// Opens a stream of events that has no end of its own.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(crate) fn events(&self, target: &Target) -> Result<EventStream, ClientError> {
        let url = self.url(target);
        let request = self.signed(self.agent.get(&url), EVENTS);
        let sent = request.config().timeout_global(None).timeout_per_read(Some(SILENCE)).build().call();
        let response = Self::accepted(&url, sent)?;
        Ok(EventStream::new(url, Box::new(BufReader::new(response.into_body().into_reader()))))
    }

    fn url(&self, target: &Target) -> String {
        format!("{}{target}", self.base)
    }

    fn understand<T: DeserializeOwned>(
        url: &str,
        sent: Result<Response<Body>, ureq::Error>,
    ) -> Result<Answer<T>, ClientError> {
        let mut response = Self::accepted(url, sent)?;
        let text = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_string()
            .map_err(|source| ClientError::of_transport(url, source))?;
        match serde_json::from_str(&text) {
            Ok(value) => Ok(Answer { value, text }),
            Err(source) => Err(ClientError::Garbled { url: url.to_owned(), source }),
        }
    }

    fn accepted(url: &str, sent: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, ClientError> {
        let mut response = sent.map_err(|source| ClientError::of_transport(url, source))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let id = response.headers().get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let text = Self::refusal(response.body_mut()).unwrap_or_default();
        let problem = serde_json::from_str::<Problem>(&text);
        let problem = problem.ok().or_else(|| registry::problem(status.as_u16(), &text));
        Err(match problem {
            Some(mut problem) => {
                problem.request_id = problem.request_id.or(id);
                ClientError::Refused { status: status.as_u16(), problem: Box::new(problem) }
            }
            None => ClientError::Stranger { url: url.to_owned(), status: status.as_u16() },
        })
    }
}
