//! What goes together in the settings: each table that has a rule is read into a draft and checked, so that a mistake
//! is shown with its place.

/// The rules of `[control]`.
pub(super) mod control {
    use std::net::SocketAddr;
    use std::time::Duration;

    use serde::Deserialize;
    use sifleet_common::settings::Period;

    use super::super::Control;

    /// Longest lease: an agent that is gone is believed for so long.
    const MAX_LEASE: Duration = Duration::from_secs(3_600);
    /// A lease is to survive two lost heartbeats.
    const HEARTBEATS_PER_LEASE: u32 = 3;
    /// Agents send no two heartbeats closer together.
    const MIN_HEARTBEAT: Duration = Duration::from_millis(100);
    /// Shortest life of a node's certificate: a coordinator that is restarted meanwhile is to be back.
    const MIN_LIFE: Duration = Duration::from_secs(60);
    /// Longest: a stolen key is of use for so long.
    const MAX_LIFE: Duration = Duration::from_secs(366 * 86_400);

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(in crate::settings) struct Raw {
        listen: Option<SocketAddr>,
        lease: Option<Period>,
        heartbeat: Option<Period>,
        certificate_life: Option<Period>,
        renewal_grace: Option<Period>,
    }

    impl TryFrom<Raw> for Control {
        type Error = String;

        fn try_from(raw: Raw) -> Result<Self, String> {
            let default = Self::default();
            let lease = raw.lease.unwrap_or(default.lease);
            if lease.get() > MAX_LEASE {
                return Err(format!("the lease is {lease}, longer than {MAX_LEASE:?}"));
            }
            let heartbeat = raw.heartbeat.unwrap_or(default.heartbeat);
            if heartbeat.get() < MIN_HEARTBEAT {
                return Err(format!(
                    "the heartbeat is {heartbeat}, shorter than the {MIN_HEARTBEAT:?} that agents keep"
                ));
            }
            if heartbeat.get() * HEARTBEATS_PER_LEASE > lease.get() {
                return Err(format!(
                    "the heartbeat of {heartbeat} is longer than a third of the lease of {lease}, so that a lost one \
                     would make a healthy node unknown; set control.heartbeat lower or control.lease higher"
                ));
            }
            let certificate_life = raw.certificate_life.unwrap_or(default.certificate_life);
            if !(MIN_LIFE..=MAX_LIFE).contains(&certificate_life.get()) {
                return Err(format!(
                    "control.certificate_life is {certificate_life}; certificates hold from {MIN_LIFE:?} to {MAX_LIFE:?}"
                ));
            }
            let renewal_grace = raw.renewal_grace.unwrap_or(default.renewal_grace);
            if renewal_grace.get() > MAX_LIFE {
                return Err(format!("control.renewal_grace is {renewal_grace}, longer than {MAX_LIFE:?}"));
            }
            let listen = raw.listen.unwrap_or(default.listen);
            Ok(Self { listen, lease, heartbeat, certificate_life, renewal_grace })
        }
    }
}

/// The rules of `[http]`.
pub(super) mod web {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;
    use std::path::PathBuf;

    use serde::Deserialize;
    use sifleet_common::role::Role;

    use super::super::{Anonymous, Http, HttpRate, HttpTls};

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(in crate::settings) struct Raw {
        listen: Option<SocketAddr>,
        tls: Option<HttpTls>,
        hosts: Option<Vec<String>>,
        socket: Option<PathBuf>,
        #[serde(default)]
        users: BTreeMap<String, Role>,
        #[serde(default)]
        anonymous: Anonymous,
        #[serde(default)]
        rate: HttpRate,
    }

    impl TryFrom<Raw> for Http {
        type Error = String;

        fn try_from(raw: Raw) -> Result<Self, String> {
            let listen = raw.listen.unwrap_or(Self::default().listen);
            if raw.tls.is_none() && !listen.ip().to_canonical().is_loopback() {
                return Err(format!(
                    "http.listen is {listen}, which others can reach: set http.tls.certificate and http.tls.key, or \
                     listen on 127.0.0.1"
                ));
            }
            let hosts = raw.hosts.unwrap_or_default();
            let plain = |name: &&String| !name.is_empty() && !name.contains(['/', ':', '[', '@']);
            if let Some(name) = hosts.iter().find(|name| !plain(name)) {
                return Err(format!("http.hosts names {name:?}: write names alone, without scheme and port"));
            }
            if let Some(path) = raw.socket.as_ref().filter(|path| !path.is_absolute()) {
                return Err(format!("http.socket is {path:?}: write the whole path, from / on"));
            }
            if raw.users.keys().any(|name| name.is_empty() || name == "@") {
                return Err(
                    "http.users has a name without a letter: write users as ann, groups as @staff".into()
                );
            }
            let HttpRate { per_second, burst, anonymous_per_second, anonymous_burst } = raw.rate;
            if [per_second, burst, anonymous_per_second, anonymous_burst].contains(&0) {
                return Err("http.rate holds a 0, with which nobody is served: set 1 or more".into());
            }
            let (tls, users, anonymous, rate) = (raw.tls, raw.users, raw.anonymous, raw.rate);
            Ok(Self { listen, tls, hosts, socket: raw.socket, users, anonymous, rate })
        }
    }
}

/// The rules of `[library]`.
pub(super) mod library {
    use std::path::PathBuf;

    use serde::Deserialize;

    use super::super::Library;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(in crate::settings) struct Raw {
        dir: Option<PathBuf>,
    }

    impl TryFrom<Raw> for Library {
        type Error = String;

        fn try_from(raw: Raw) -> Result<Self, String> {
            match raw.dir {
                Some(dir) if !dir.is_absolute() => {
                    Err(format!("library.dir is {dir:?}: write the whole path, from / on"))
                }
                dir => Ok(Self { dir }),
            }
        }
    }
}

/// The rules of `[limits]`.
pub(super) mod limits {
    use serde::Deserialize;

    use super::super::Limits;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(in crate::settings) struct Raw {
        max_nodes: Option<usize>,
        max_replicas: Option<usize>,
        max_http_connections: Option<u32>,
        max_event_streams: Option<usize>,
    }

    impl TryFrom<Raw> for Limits {
        type Error = String;

        fn try_from(raw: Raw) -> Result<Self, String> {
            let default = Self::default();
            let limits = Self {
                max_nodes: raw.max_nodes.unwrap_or(default.max_nodes),
                max_replicas: raw.max_replicas.unwrap_or(default.max_replicas),
                max_http_connections: raw.max_http_connections.unwrap_or(default.max_http_connections),
                max_event_streams: raw.max_event_streams.unwrap_or(default.max_event_streams),
            };
            for (name, nothing) in [
                ("max_nodes", limits.max_nodes == 0),
                ("max_replicas", limits.max_replicas == 0),
                ("max_http_connections", limits.max_http_connections == 0),
            ] {
                if nothing {
                    return Err(format!("limits.{name} is 0, with which nobody is served: set 1 or more"));
                }
            }
            Ok(limits)
        }
    }
}

/// The rules of `[transfer]`.
pub(super) mod transfer {
    use serde::Deserialize;

    use super::super::Transfer;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(in crate::settings) struct Raw {
        max_pushes: Option<usize>,
    }

    impl TryFrom<Raw> for Transfer {
        type Error = String;

        fn try_from(raw: Raw) -> Result<Self, String> {
            let max_pushes = raw.max_pushes.unwrap_or(Self::default().max_pushes);
            if max_pushes == 0 {
                return Err(
                    "transfer.max_pushes is 0, so that no push could be looked at: set 1 or more".into()
                );
            }
            Ok(Self { max_pushes })
        }
    }
}
