//! The side of the users: where the API listens, who may ask, and how often.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sifleet_common::role::Role;
use sifleet_common::settings::Period;

use super::Settings;
use crate::access::pace::Rate;
use crate::access::users::Users;
use crate::access::{self, audit};

/// Where users of this machine ask, unless somebody names another socket.
pub const DEFAULT_SOCKET: &str = "/run/sifleet-coordinator/http.sock";

/// The side of the users.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, try_from = "super::rules::web::Raw")]
pub struct Http {
    /// The TCP address of the API; other than loopback only with TLS.
    pub listen: SocketAddr,
    /// The certificate to show.
    pub tls: Option<HttpTls>,
    /// Names by which users ask, besides loopback, the address and the names of the certificate.
    pub hosts: Vec<String>,
    /// The unix socket for users of this machine; [`DEFAULT_SOCKET`] by default, if its directory exists.
    pub socket: Option<PathBuf>,
    /// What users of this machine may over the socket, by name, groups as `@name`; root and the coordinator's own user
    /// may everything.
    pub users: BTreeMap<String, Role>,
    /// What those may who do not say who they are.
    pub anonymous: Anonymous,
    /// How often somebody may ask.
    pub rate: HttpRate,
}

/// What those may who do not say who they are. More than reading is never given away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anonymous {
    /// Nothing but what is public: the documentation, and whether the coordinator lives.
    #[default]
    None,
    /// Whatever a viewer may.
    Viewer,
}

/// How often somebody may ask, and how much at once.
///
/// Known callers may take what the machine gives: one who asks more is at fault, and hurts nobody until he asks as much as
/// a coordinator answers at all. Strangers may look whether it lives, and read if they are let.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpRate {
    /// Requests a second of each token, and of each user of the socket.
    pub per_second: u32,
    /// How many of them at once.
    pub burst: u32,
    /// Requests a second of each address without a token.
    pub anonymous_per_second: u32,
    /// How many of them at once.
    pub anonymous_burst: u32,
}

impl Default for HttpRate {
    fn default() -> Self {
        Self { per_second: 100_000, burst: 100_000, anonymous_per_second: 1_000, anonymous_burst: 2_000 }
    }
}

/// What is kept of who asked for changes, and who was refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// For how long.
    pub keep: Period,
    /// Most changes, and most refusals.
    pub records: u32,
}

impl Default for Audit {
    fn default() -> Self {
        let keep = audit::Keep::default();
        Self { keep: Period::seconds(90 * 86_400), records: keep.records }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7440)),
            tls: None,
            hosts: Vec::new(),
            socket: None,
            users: BTreeMap::new(),
            anonymous: Anonymous::None,
            rate: HttpRate::default(),
        }
    }
}

/// The certificate that users see; read again on SIGHUP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpTls {
    /// PEM file with the certificate and those that lead to its authority.
    pub certificate: PathBuf,
    /// PEM file with its private key.
    pub key: PathBuf,
}

impl Settings {
    /// Returns who may ask.
    pub(super) fn access(&self) -> access::Options {
        let (http, rate) = (&self.http, self.http.rate);
        access::Options {
            anonymous: match http.anonymous {
                Anonymous::None => None,
                Anonymous::Viewer => Some(Role::Viewer),
            },
            users: Users { roles: http.users.clone() },
            known: Rate::a_second(rate.per_second, rate.burst),
            unknown: Rate::a_second(rate.anonymous_per_second, rate.anonymous_burst),
            audit: audit::Keep { time: self.audit.keep.get(), records: self.audit.records },
        }
    }

    /// Returns where the socket is to be; none if nobody names one and there is no directory for it.
    #[must_use]
    pub fn socket(&self) -> Option<PathBuf> {
        let usual =
            || Some(PathBuf::from(DEFAULT_SOCKET)).filter(|path| path.parent().is_some_and(Path::is_dir));
        self.http.socket.clone().or_else(usual)
    }
}
