//! What can go wrong between here and an answer, how the program then ends, and what a person can do.

use std::io;
use std::path::PathBuf;

use sifleet_common::api::problem::Problem;

use crate::outcome::Outcome;
use crate::output::Note;

/// Says why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Not an address.
    #[error("{url:?} is not the address of a coordinator")]
    BadUrl {
        /// As written.
        url: String,
    },
    /// The certificates to trust cannot be read.
    #[error("cannot read certificates from {}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{} holds no certificate in PEM form", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The token cannot be read.
    #[error("cannot read a token from {}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read the token.
    #[error("others may read or change the token in {} (mode {mode:o})", path.display())]
    OpenTokenFile {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// What should be a token is none.
    #[error("what should be a token is none: one word is expected")]
    NoToken,
    /// The token would go over the network for everybody to read.
    #[error("the token is not sent to {url}: whoever listens on the network could read it")]
    InTheClear {
        /// The address.
        url: String,
    },
    /// No answer at all.
    #[error("no answer from the coordinator at {url}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// The coordinator says why not.
    #[error("{}", said(problem))]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it says.
        problem: Box<Problem>,
    },
    /// Somebody else answers at this address.
    #[error("{url} answered {status} and does not say why")]
    Stranger {
        /// What was asked.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// An answer, but not in the words of this version.
    #[error("the answer of {url} is not understood")]
    Garbled {
        /// What was asked.
        url: String,
        /// Where it stops making sense.
        source: serde_json::Error,
    },
    /// The stream of events broke off.
    #[error("the stream of events from {url} broke off")]
    Ended {
        /// What was asked.
        url: String,
        /// Why, unless the coordinator closed it.
        source: Option<io::Error>,
    },
}

fn said(problem: &Problem) -> String {
    let text = if problem.detail.is_empty() { &problem.title } else { &problem.detail };
    format!("{text} [{}]", problem.code)
}

impl ClientError {
    pub(super) fn of_transport(url: &str, source: ureq::Error) -> Self {
        let url = url.to_owned();
        if matches!(source, ureq::Error::BadUri(_) | ureq::Error::Http(_)) {
            return Self::BadUrl { url };
        }
        Self::Unreachable { url, source: Box::new(source) }
    }

    /// Tells the code of a refusal.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { problem, .. } => Some(&problem.code),
            Self::BadUrl { .. }
            | Self::CaFile { .. }
            | Self::NoCertificate { .. }
            | Self::TokenFile { .. }
            | Self::OpenTokenFile { .. }
            | Self::NoToken
            | Self::InTheClear { .. }
            | Self::Unreachable { .. }
            | Self::Stranger { .. }
            | Self::Garbled { .. }
            | Self::Ended { .. } => None,
        }
    }

    /// Tells whether the same request may go well a little later: nobody answered, or a proxy in front of nobody.
    pub(crate) fn may_pass(&self) -> bool {
        self.outcome() == Outcome::Unreachable
    }

    /// Tells how the program ends.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::BadUrl { .. }
            | Self::CaFile { .. }
            | Self::NoCertificate { .. }
            | Self::TokenFile { .. }
            | Self::OpenTokenFile { .. }
            | Self::NoToken
            | Self::InTheClear { .. } => Outcome::Usage,
            Self::Unreachable { .. } | Self::Ended { .. } => Outcome::Unreachable,
            Self::Garbled { .. } => Outcome::No,
            // The path is unknown there, which says nothing about the image; the last replica stays, however it is
            // asked for; and without a library there is no right way to ask.
            Self::Refused { problem, .. }
                if ["no_route", "last_replica", "no_library"].contains(&&*problem.code) =>
            {
                Outcome::No
            }
            Self::Refused { problem, .. } if ["wrong_digest", "not_an_image"].contains(&&*problem.code) => {
                Outcome::Unverified
            }
            Self::Refused { problem, .. } if problem.code == "no_space" => Outcome::NoSpace,
            Self::Refused { status, .. } | Self::Stranger { status, .. } => match status {
                401 | 403 => Outcome::Unauthorised,
                404 => Outcome::NotFound,
                400 | 409 | 413 | 414 | 422 => Outcome::Usage,
                // What a coordinator that starts or stops says, and a proxy in front of one that is down.
                502..=504 => Outcome::Unreachable,
                _ => Outcome::No,
            },
        }
    }

    /// Tells what a person can do, and how the coordinator's log knows the request.
    pub(crate) fn notes(&self) -> Vec<Note> {
        let hint = |text: &str| vec![Note::Hint(text.to_owned())];
        match self {
            Self::BadUrl { .. } => {
                hint("write http://HOST:PORT, https://HOST:PORT or unix:PATH in --url or SIFLEET_URL")
            }
            Self::CaFile { .. } | Self::NoCertificate { .. } => {
                hint("name a readable PEM file with the cluster's CA in --ca-file or SIFLEET_CA_FILE")
            }
            Self::TokenFile { .. } | Self::NoToken => hint(
                "name a file with what sifleet token create showed in --token-file or SIFLEET_TOKEN_FILE",
            ),
            Self::OpenTokenFile { path, .. } => hint(&format!(
                "chmod 600 {}; if somebody else may have read it, revoke it and make another",
                path.display()
            )),
            Self::InTheClear { .. } => hint("ask over https"),
            Self::Unreachable { source, .. } => hint(unreachable_hint(source)),
            Self::Ended { .. } => {
                hint("the coordinator is stopping, restarting or gone; run the command again to go on")
            }
            Self::Stranger { .. } => hint("check --url or SIFLEET_URL: perhaps something else answers there"),
            Self::Garbled { .. } => {
                hint("check that sifleet and sifleet-coordinator are of the same version, and --url")
            }
            Self::Refused { problem, .. } => {
                let mut notes: Vec<Note> = problem.hint.clone().map(Note::Hint).into_iter().collect();
                if !problem.candidates.is_empty() {
                    notes.push(Note::Hint(format!("perhaps meant: {}", problem.candidates.join(", "))));
                }
                notes.extend(problem.request_id.clone().map(Note::Request));
                notes
            }
        }
    }
}

fn unreachable_hint(source: &ureq::Error) -> &'static str {
    // A failed handshake arrives as invalid data: rustls wraps its errors so.
    let kind = if let ureq::Error::Io(error) = source { Some(error.kind()) } else { None };
    if kind == Some(io::ErrorKind::ConnectionRefused) {
        return "see whether it runs there (systemctl status sifleet-coordinator), or name another with --url or \
                SIFLEET_URL";
    }
    if kind == Some(io::ErrorKind::InvalidData)
        || matches!(source, ureq::Error::Rustls(_) | ureq::Error::Tls(_))
    {
        return "trust the cluster's CA with --ca-file or SIFLEET_CA_FILE, ask by a name its certificate has, and see \
                that it speaks https there";
    }
    if matches!(source, ureq::Error::Protocol(_)) {
        return "perhaps it speaks https there, not http, or it is no coordinator: check --url or SIFLEET_URL";
    }
    "check the network, the name and the port in --url or SIFLEET_URL; --timeout waits longer"
}
