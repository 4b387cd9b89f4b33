//! What can go wrong with a request, and the one table of what outsiders are told about it.
//!
//! Owns the private kinds ([`ApiError`]); the stable codes with their HTTP status, title and hint are in [`code`].
//! An error becomes a body (RFC 9457, `application/problem+json`) in [`super::edge`], which knows the request's
//! id. A status of 500 tells nothing but that id; its cause goes to the log.

mod code;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use sifleet_common::api::problem::Problem;
use sifleet_common::availability::RequireError;
use sifleet_common::nodeset::NodeSetError;
use sifleet_common::role::Role;
use utoipa::openapi::{Content, Ref, RefOr, ResponseBuilder};

use crate::access::secret::hide;
use crate::access::tokens::TokenError;
use crate::library::LibraryError;
use crate::oci::error::OciError;
use crate::registries::RegistryError;
use crate::registries::imports::ImportError;
use crate::state::pushes::PushError;
use crate::state::removals::RemovalError;
use crate::state::run::Stopped;
use crate::store::push::MAX_KEY;
use crate::store::sqlite::StoreError;
use crate::templates::TemplateError;
use crate::view::QueryError;
use crate::view::meant::MeantError;

pub use code::{Code, Row};

/// The media type of every error body.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Most names offered instead of an unknown one: more would not be read.
const MAX_CANDIDATES: usize = 20;
/// What a full house asks of who comes next.
const FULL_HOUSE: Duration = Duration::from_secs(10);

pub(super) mod old;
mod refusal;

pub(super) use refusal::code_of_push;
use refusal::{code_of_query, code_of_registry, code_of_removal, code_of_template, code_of_token};

/// Says why a request has no answer; what of it becomes public is decided by [`ApiError::problem`].
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The question has no answer.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A push is not taken, or not found.
    #[error(transparent)]
    Push(PushError),
    /// A removal is not taken, or not found.
    #[error(transparent)]
    Removal(RemovalError),
    /// The key of a wish cannot be one.
    #[error("an Idempotency-Key has 1 to {MAX_KEY} printable bytes")]
    BadKey,
    /// A limit cannot be meant so.
    #[error("{detail}")]
    BadLimit {
        /// Which one and why.
        detail: String,
    },
    /// A parameter or the path cannot be read.
    #[error("{detail}")]
    BadQuery {
        /// Which one and why.
        detail: String,
    },
    /// The requirement is none.
    #[error(transparent)]
    BadRequirement(#[from] RequireError),
    /// The node set is none.
    #[error(transparent)]
    BadNodeset(#[from] NodeSetError),
    /// The body is not the JSON that was expected.
    #[error("{detail}")]
    BadJson {
        /// Where and why.
        detail: String,
    },
    /// More questions than a batch may hold.
    #[error("the batch has {count} questions, at most {max} are answered at once")]
    TooManyQueries {
        /// How many were asked.
        count: usize,
        /// How many may be asked.
        max: usize,
    },
    /// No route matches.
    #[error("there is nothing at {path:?}")]
    NoRoute {
        /// What was asked for, cut.
        path: String,
    },
    /// The route takes other methods.
    #[error("the path does not take {method}")]
    MethodNotAllowed {
        /// What was tried, cut.
        method: String,
    },
    /// The body trickled in.
    #[error("the body did not arrive within {seconds} s")]
    SlowBody {
        /// How long it was waited for.
        seconds: u64,
    },
    /// The body is longer than allowed.
    #[error("a body has at most {max} bytes")]
    BodyTooLarge {
        /// The limit.
        max: usize,
    },
    /// The body is something else than JSON.
    #[error("the content type is {found:?}")]
    UnsupportedMediaType {
        /// What was declared, cut; empty for nothing.
        found: String,
    },
    /// Asked by a name that is none of ours.
    #[error("this is not the host {host:?}")]
    BadHost {
        /// The name, cut.
        host: String,
    },
    /// Sent by a browser on behalf of a page that is none of ours.
    #[error("the request comes from a web page elsewhere: {from:?}")]
    CrossSite {
        /// What the browser says of it, cut.
        from: String,
    },
    /// Nobody knows who asks, or the token is not good.
    #[error("{why}")]
    Unauthenticated {
        /// Why.
        why: &'static str,
    },
    /// Whoever asks may not.
    #[error("that needs the role {need}, and {}", has.map_or("none is given".to_owned(), |has| format!("the caller is {has}")))]
    Forbidden {
        /// Which role would do.
        need: Role,
        /// Which the caller has.
        has: Option<Role>,
    },
    /// Nobody may.
    #[error("nobody may do that")]
    Shut,
    /// Whoever asks asks too often.
    #[error("too many requests; the next one is taken in {} s", seconds(*wait))]
    TooManyRequests {
        /// After how long the next one is taken.
        wait: Duration,
    },
    /// A token is not made, or not found.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A template is not put, not deleted, or not found.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// There is no authority here to give certificates.
    #[error("this cluster's certificates are made elsewhere: the coordinator has no authority of its own")]
    NoAuthority,
    /// Not everything that is needed has started.
    #[error("waiting for {waiting}")]
    NotReady {
        /// For what.
        waiting: String,
    },
    /// The coordinator is about to end.
    #[error("the coordinator is stopping")]
    Stopping(#[from] Stopped),
    /// The coordinator finishes what it has begun and takes nothing more.
    #[error("the coordinator is stopping")]
    Draining,
    /// Every place for a reader of events is taken.
    #[error("{max} readers follow the events, and that is the limit")]
    TooManyStreams {
        /// The limit.
        max: usize,
    },
    /// The handler took too long.
    #[error("no answer within {seconds} s")]
    TimedOut {
        /// How long it was waited for.
        seconds: u64,
    },
    /// The store does not give what it holds.
    #[error("cannot read from the store")]
    Store(#[from] StoreError),
    /// The library does not take an image.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// A client of registries does not get what it asks for.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// A registry is not written down, or not found.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// As many registries are looked at as may be at once.
    #[error("too many registries are being looked at")]
    TooManyChecks,
    /// An import is not begun, or not found.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// There is no library.
    #[error("images cannot be uploaded to this coordinator: library.dir is not set")]
    NoLibrary,
    /// The work on the library's disk broke off.
    #[error("the work on the library broke off")]
    Blocking(#[source] tokio::task::JoinError),
    /// An answer cannot be written as JSON, or metrics as text.
    #[error("cannot write the answer: {detail}")]
    Encode {
        /// Why.
        detail: String,
    },
    /// A handler panicked.
    #[error("the handler panicked: {detail}")]
    Panicked {
        /// Its message.
        detail: String,
    },
    /// A status without a body, from a part that is not ours.
    #[error("unexpected status {status}")]
    Foreign {
        /// The status.
        status: u16,
    },
}

impl ApiError {
    /// Returns the code outsiders decide by.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Query(error) => code_of_query(error),
            Self::Push(error) => code_of_push(error),
            Self::Removal(error) => code_of_removal(error),
            Self::BadKey => Code::BadKey,
            Self::BadLimit { .. } => Code::BadLimit,
            Self::BadQuery { .. } => Code::BadQuery,
            Self::BadRequirement(_) => Code::BadRequirement,
            Self::BadNodeset(_) => Code::BadNodeset,
            Self::BadJson { .. } => Code::BadJson,
            Self::TooManyQueries { .. } => Code::TooManyQueries,
            Self::Library(error) => super::library::code(error),
            Self::Oci(error) => super::oci::refusal::code(error),
            Self::Registry(error) => code_of_registry(error),
            Self::TooManyChecks => Code::TooManyChecks,
            Self::Import(error) => super::imports::code(error),
            Self::NoLibrary => Code::NoLibrary,
            Self::NoRoute { .. } => Code::NoRoute,
            Self::MethodNotAllowed { .. } => Code::MethodNotAllowed,
            Self::SlowBody { .. } => Code::SlowBody,
            Self::BodyTooLarge { .. } => Code::BodyTooLarge,
            Self::UnsupportedMediaType { .. } => Code::UnsupportedMediaType,
            Self::BadHost { .. } => Code::BadHost,
            Self::CrossSite { .. } => Code::CrossSite,
            Self::Unauthenticated { .. } => Code::Unauthenticated,
            Self::Forbidden { .. } | Self::Shut => Code::Forbidden,
            Self::TooManyRequests { .. } => Code::TooManyRequests,
            Self::Token(error) => code_of_token(error),
            Self::Template(error) => code_of_template(error),
            Self::NoAuthority => Code::NoAuthority,
            Self::NotReady { .. } => Code::NotReady,
            Self::Stopping(_) | Self::Draining => Code::Stopping,
            Self::TooManyStreams { .. } => Code::TooManyStreams,
            Self::TimedOut { .. } => Code::TimedOut,
            Self::Store(_)
            | Self::Blocking(_)
            | Self::Encode { .. }
            | Self::Panicked { .. }
            | Self::Foreign { .. } => Code::Internal,
        }
    }

    /// Makes the public body; of an internal failure it tells nothing.
    #[must_use]
    pub fn problem(&self, request_id: Option<&str>) -> Problem {
        let code = self.code();
        let row = code.row();
        let detail = if code == Code::Internal { "internal".to_owned() } else { self.shown() };
        Problem {
            kind: "about:blank".to_owned(),
            title: row.title.to_owned(),
            status: row.status.as_u16(),
            code: row.code.to_owned(),
            detail,
            hint: Some(row.hint.to_owned()),
            candidates: self.candidates().iter().take(MAX_CANDIDATES).cloned().collect(),
            request_id: request_id.map(str::to_owned),
        }
    }

    /// Shows it as it may be repeated: a secret that got into a path or a body is taken out.
    pub(super) fn shown(&self) -> String {
        hide(&self.to_string()).into_owned()
    }

    /// Returns the header that says how to do better.
    pub(super) fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        if let Self::Unauthenticated { .. } = self {
            return Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sifleet\"")));
        }
        let full = matches!(self, Self::TooManyStreams { .. }).then_some(FULL_HOUSE);
        let wait = if let Self::TooManyRequests { wait } = self { Some(*wait) } else { full };
        wait.map(|wait| (header::RETRY_AFTER, seconds(wait).into()))
    }

    fn candidates(&self) -> &[String] {
        if let Self::Query(
            QueryError::UnknownImage { candidates, .. }
            | QueryError::Ambiguous { candidates, .. }
            | QueryError::UnknownPartition { candidates, .. }
            | QueryError::UnknownNode { candidates, .. },
        )
        | Self::Push(
            PushError::Meant(MeantError::Disagreed { candidates, .. })
            | PushError::NotThere { candidates, .. },
        )
        | Self::Template(TemplateError::Unknown { candidates, .. })
        | Self::Removal(RemovalError::Meant(MeantError::Disagreed { candidates, .. })) = self
        {
            candidates
        } else {
            &[]
        }
    }
}

/// An error on its way out, not yet a body: travels in the response's extensions.
#[derive(Clone, Debug)]
pub(super) struct Pending(pub(super) Arc<ApiError>);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.code().row().status.into_response();
        response.extensions_mut().insert(Pending(Arc::new(self)));
        response
    }
}

/// Cuts a text from a stranger to what may be repeated of it; a secret that got into it is taken out.
pub(super) fn cut(text: &str) -> String {
    hide(text).chars().take(200).collect()
}

/// Rounds up to whole seconds: who waits so long does not come too early.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0))
}

/// Describes problem answers for the OpenAPI document: one response a status, naming its codes.
pub(super) fn describe(codes: &[Code]) -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
    let mut by_status: BTreeMap<u16, Vec<Row>> = BTreeMap::new();
    for row in codes.iter().map(|code| code.row()) {
        by_status.entry(row.status.as_u16()).or_default().push(row);
    }
    let response = |rows: &[Row]| {
        let lines: Vec<_> = rows.iter().map(|row| format!("`{}`: {}.", row.code, row.title)).collect();
        let schema = Ref::from_schema_name("Problem");
        ResponseBuilder::new()
            .description(lines.join(" "))
            .content(PROBLEM_JSON, Content::new(Some(schema)))
            .build()
            .into()
    };
    by_status.iter().map(|(status, rows)| (status.to_string(), response(rows))).collect()
}

/// Names the problems a handler may answer with, for its OpenAPI description.
macro_rules! problems {
    ($name:ident: $($code:ident),* $(,)?) => {
        /// Problems this file's handlers may answer with, beside those of every handler.
        struct $name;

        impl utoipa::IntoResponses for $name {
            fn responses()
            -> std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::response::Response>> {
                use $crate::http::problem::{Code, describe};
                describe(&[$(Code::$code,)* Code::BadQuery, Code::BadHost, Code::Internal, Code::TimedOut])
            }
        }
    };
}
pub(super) use problems;

#[cfg(test)]
mod tests;
