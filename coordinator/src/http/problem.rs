//! What can go wrong with a request, and the one table of what outsiders are told about it.
//!
//! Owns the stable codes, their HTTP status, title and hint ([`Code`]), and the private kinds ([`ApiError`]).
//! An error becomes a body (RFC 9457, `application/problem+json`) in [`super::edge`], which knows the request's
//! id. A status of 500 tells nothing but that id; its cause goes to the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use sifleet_common::api::problem::Problem;
use sifleet_common::availability::RequireError;
use sifleet_common::nodeset::NodeSetError;
use utoipa::openapi::{Content, Ref, RefOr, ResponseBuilder};

use crate::library::LibraryError;
use crate::state::run::Stopped;
use crate::store::sqlite::StoreError;
use crate::view::QueryError;

/// The media type of every error body.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Most names offered instead of an unknown one: more would not be read.
const MAX_CANDIDATES: usize = 20;

macro_rules! codes {
    ($($variant:ident $status:ident $code:literal $title:literal $hint:literal;)*) => {
        /// Names a kind of problem, for good: programs decide by it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $title] $variant,)*
        }

        impl Code {
            /// Every code there is, in the order of their statuses.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns what is told about it.
            #[must_use]
            pub const fn row(self) -> Row {
                match self {
                    $(Self::$variant => Row {
                        status: StatusCode::$status,
                        code: $code,
                        title: $title,
                        hint: $hint,
                    },)*
                }
            }
        }
    };
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// HTTP status.
    pub status: StatusCode,
    /// Stable code for programs.
    pub code: &'static str,
    /// The same for every occurrence.
    pub title: &'static str,
    /// What to do.
    pub hint: &'static str,
}

codes! {
    BadQuery BAD_REQUEST "bad_query" "The query or the path cannot be read"
        "Check the parameters against /docs; percent-encode spaces, slashes and brackets.";
    BadRequirement BAD_REQUEST "bad_requirement" "The requirement cannot be read"
        "Write require=all, require=any or a number of nodes from 1.";
    BadImage BAD_REQUEST "bad_image" "The text cannot name an image"
        "Write a name such as vnc_desktop.sif, at least 12 digits of a digest, or name@blake3:….";
    BadNodeset BAD_REQUEST "bad_nodeset" "The text is not a node set"
        "Write names and ranges such as compute[001-128],viz01; percent-encode the brackets.";
    BadUpload BAD_REQUEST "bad_upload" "The library cannot hold such an image"
        "Give it a name such as viz/vnc_desktop.sif: a path below the library without hidden parts.";
    BadJson BAD_REQUEST "bad_json" "The body cannot be read"
        "Send one JSON document of the shape shown in /docs.";
    TooManyQueries BAD_REQUEST "too_many_queries" "The batch has too many questions"
        "Split the batch.";
    CrossSite FORBIDDEN "cross_site" "Another web page had a browser send this"
        "Ask from a program, or from a page of the coordinator's own.";
    UnknownImage NOT_FOUND "unknown_image" "No node ever reported such an image"
        "See sifleet image ls or GET /v1/images.";
    UnknownPartition NOT_FOUND "unknown_partition" "No source ever named such a partition"
        "See sifleet partition ls or GET /v1/partitions.";
    UnknownNode NOT_FOUND "unknown_node" "No agent and no partition ever named such a node"
        "See sifleet node ls or GET /v1/nodes.";
    UnknownUpload NOT_FOUND "unknown_upload" "There is no such upload"
        "Begin it with POST /v1/library/uploads; what was sent before is found again.";
    NoRoute NOT_FOUND "no_route" "There is nothing at this path"
        "See /docs for what there is.";
    MethodNotAllowed METHOD_NOT_ALLOWED "method_not_allowed" "The path does not take this method"
        "The Allow header says which it takes.";
    SlowBody REQUEST_TIMEOUT "slow_body" "The body did not arrive in time"
        "Send it again; check the network if that happens often.";
    AmbiguousImage CONFLICT "ambiguous_image" "Several images go by this name"
        "Ask for one of the candidates.";
    InTheWay CONFLICT "in_the_way" "Something else lies where the image would"
        "Choose another name, or have an administrator remove what is there.";
    UploadBusy CONFLICT "upload_busy" "Another request writes the same upload"
        "Wait until it has ended, then ask for the offset.";
    WrongOffset CONFLICT "wrong_offset" "The bytes do not follow those that are there"
        "Send the bytes from the offset in the header Upload-Offset on; finish when there are none left.";
    BodyTooLarge PAYLOAD_TOO_LARGE "body_too_large" "The body is too large"
        "Split the request.";
    UnsupportedMediaType UNSUPPORTED_MEDIA_TYPE "unsupported_media_type" "The body is not declared as JSON"
        "Send the header Content-Type: application/json.";
    BadHost MISDIRECTED_REQUEST "bad_host" "The request asks for a host that the coordinator is not"
        "Ask by an address or by a name of its certificate; an administrator may add names to http.hosts.";
    WrongDigest UNPROCESSABLE_ENTITY "wrong_digest" "What arrived is not what was announced"
        "Upload it again; if that happens again, see whether the file changes meanwhile.";
    NotAnImage UNPROCESSABLE_ENTITY "not_an_image" "The bytes are no image"
        "Upload a SIF, a squashfs or an ext3 file system; build the image again if it is damaged.";
    Internal INTERNAL_SERVER_ERROR "internal" "The coordinator failed to answer"
        "An administrator finds the cause in the coordinator's log by the request id.";
    NoLibrary NOT_IMPLEMENTED "no_library" "The coordinator has no library to put images into"
        "An administrator sets library.dir in coordinator.toml to the directory of the library.";
    NotReady SERVICE_UNAVAILABLE "not_ready" "The coordinator is not ready"
        "Ask again in a few seconds.";
    Stopping SERVICE_UNAVAILABLE "stopping" "The coordinator is stopping"
        "Ask again when it has been started.";
    TooManyStreams SERVICE_UNAVAILABLE "too_many_streams" "Too many readers follow the events"
        "Close a reader, or raise limits.max_event_streams.";
    TooManyUploads SERVICE_UNAVAILABLE "too_many_uploads" "Too many uploads go on"
        "Try again when one of them has ended.";
    TimedOut SERVICE_UNAVAILABLE "timed_out" "The answer took too long"
        "Ask again; ask for less at once.";
    NoSpace INSUFFICIENT_STORAGE "no_space" "The library has too little room"
        "Remove images that are no longer needed from the library.";
}

/// Says why a request has no answer; what of it becomes public is decided by [`ApiError::problem`].
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The question has no answer.
    #[error(transparent)]
    Query(#[from] QueryError),
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
    #[error("cannot read the metadata of an image from the store")]
    Store(#[from] StoreError),
    /// The library does not take an image.
    #[error(transparent)]
    Library(#[from] LibraryError),
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
            Self::Query(QueryError::UnknownImage { .. }) => Code::UnknownImage,
            Self::Query(QueryError::Ambiguous { .. }) => Code::AmbiguousImage,
            Self::Query(QueryError::BadReference { .. }) => Code::BadImage,
            Self::Query(QueryError::UnknownPartition { .. }) => Code::UnknownPartition,
            Self::Query(QueryError::UnknownNode { .. }) => Code::UnknownNode,
            Self::BadQuery { .. } => Code::BadQuery,
            Self::BadRequirement(_) => Code::BadRequirement,
            Self::BadNodeset(_) => Code::BadNodeset,
            Self::BadJson { .. } => Code::BadJson,
            Self::TooManyQueries { .. } => Code::TooManyQueries,
            Self::Library(error) => super::library::code(error),
            Self::NoLibrary => Code::NoLibrary,
            Self::NoRoute { .. } => Code::NoRoute,
            Self::MethodNotAllowed { .. } => Code::MethodNotAllowed,
            Self::SlowBody { .. } => Code::SlowBody,
            Self::BodyTooLarge { .. } => Code::BodyTooLarge,
            Self::UnsupportedMediaType { .. } => Code::UnsupportedMediaType,
            Self::BadHost { .. } => Code::BadHost,
            Self::CrossSite { .. } => Code::CrossSite,
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
        let detail = if code == Code::Internal { "internal".to_owned() } else { self.to_string() };
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

    fn candidates(&self) -> &[String] {
        if let Self::Query(
            QueryError::UnknownImage { candidates, .. }
            | QueryError::Ambiguous { candidates, .. }
            | QueryError::UnknownPartition { candidates, .. }
            | QueryError::UnknownNode { candidates, .. },
        ) = self
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

/// Cuts a text from a stranger to what an error may repeat of it.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(200).collect()
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
                describe(&[$(Code::$code,)* Code::BadHost, Code::Internal, Code::TimedOut])
            }
        }
    };
}
pub(super) use problems;

#[cfg(test)]
mod tests;
