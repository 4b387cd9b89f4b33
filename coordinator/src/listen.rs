//! The listeners: QUIC for agents, HTTP for users, over TCP and over a unix socket. Owns their certificates and how those are exchanged while
//! running; who connects is the business of `nodes` and `http`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use quinn::Endpoint;
use sifleet_common::capability::{BadSeed, Signer};
use sifleet_common::quic::{self, QuicError};
use sifleet_common::task::Tasks;
use sifleet_common::tls::{self, Identity, TlsError};
use sifleet_common::wire::CONTROL_ALPN;
use sifleet_common::wire::enrol::ENROL_ALPN;
use tracing::{info, warn};

use crate::ca;
use crate::http::enrolments::Door;
use crate::http::hosts::Hosts;
use crate::http::server::local::Local;
use crate::http::server::tls as web;
use crate::http::server::{BindError, Server};
use crate::http::{AppState, router};
use crate::nodes;
use crate::nodes::enrol::Enrolling;
use crate::nodes::issuer::{Issuer, IssuerError};
use crate::nodes::late::LateVerifier;
use crate::settings::{DEFAULT_SOCKET, HttpTls, Settings};
use crate::state::run::Handle;
use crate::store::Store;

/// Connections beyond one per node: old ones that linger while agents dial again.
const LINGERING: usize = 1_024;

/// Says why nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Agents cannot be shown a certificate.
    #[error("cannot use the coordinator's certificate in {}: `sifleet-coordinator ca init` makes one", dir.display())]
    Certificate {
        /// The directory of the authority.
        dir: PathBuf,
        /// What is wrong.
        source: Box<TlsError>,
    },
    /// Nodes cannot be permitted to fetch.
    #[error(transparent)]
    Signer {
        /// What is wrong.
        source: BadSeed,
    },
    /// Nodes cannot be given certificates.
    #[error("cannot use the authority of the cluster in {}: `sifleet-coordinator ca init` makes one", dir.display())]
    Authority {
        /// Where it should be.
        dir: PathBuf,
        /// What is wrong.
        source: Box<IssuerError>,
    },
    /// Users cannot be shown a certificate.
    #[error("cannot use the certificate of the HTTP API")]
    Web {
        /// What is wrong.
        source: Box<web::TlsError>,
    },
    /// The side of the agents cannot be had.
    #[error("cannot listen for agents")]
    Control {
        /// What is wrong.
        source: QuicError,
    },
    /// The side of the users cannot be had.
    #[error("cannot listen for users")]
    Http {
        /// What is wrong.
        source: BindError,
    },
}

impl ListenError {
    /// Tells whether starting again is of no use: an address may become free, a certificate does not appear.
    pub(crate) fn needs_admin(&self) -> bool {
        match self {
            Self::Certificate { .. } | Self::Authority { .. } | Self::Web { .. } => true,
            Self::Http { source: BindError::PlainOutsideLoopback { .. } } => true,
            Self::Signer { .. } | Self::Control { .. } => false,
            Self::Http { source: BindError::Bind { .. } | BindError::Socket { .. } } => false,
        }
    }
}

/// The listeners, bound.
pub(crate) struct Listeners {
    control: Endpoint,
    http: Server,
    local: Option<Local>,
    certificates: Certificates,
    grace: Duration,
}

/// The certificates in use.
pub(crate) struct Certificates {
    control: Endpoint,
    issuer: Issuer,
    http: Option<web::Tls>,
}

impl Listeners {
    /// Binds all; must be called within a tokio runtime.
    pub(crate) fn bind(settings: &Settings) -> Result<Self, ListenError> {
        let issuer = Issuer::open(&settings.ca_dir(), settings.control.certificate_life.get())
            .map_err(|source| ListenError::Authority { dir: settings.ca_dir(), source: Box::new(source) })?;
        let (config, reset_secret) = control_config(settings, &issuer)?;
        let control = quic::listen(config, settings.control.listen, &reset_secret)
            .map_err(|source| ListenError::Control { source })?;
        let tls = settings
            .http
            .tls
            .as_ref()
            .map(web_config)
            .transpose()?
            .map(|config| Arc::new(ArcSwap::from(config)));
        let http = Server::bind(settings.http.listen, tls.clone(), settings.http_limits().server)
            .map_err(|source| ListenError::Http { source })?;
        let local = settings.socket().map(|path| Local::bind(path, settings.http_limits().server));
        let local = local.transpose().map_err(|source| ListenError::Http { source })?;
        if local.is_none() {
            warn!(
                "there is no socket for users of this machine: set http.socket, or make the directory of {DEFAULT_SOCKET}"
            );
        }
        let certificates = Certificates { control: control.clone(), issuer, http: tls };
        Ok(Self { control, http, local, certificates, grace: settings.control.renewal_grace.get() })
    }

    /// Begins to accept, on tasks of its own.
    pub(crate) fn serve(
        self,
        app: &AppState,
        (handle, store): (&Handle, &Store),
        max_nodes: usize,
        tasks: &Tasks,
    ) -> Certificates {
        if let Ok(address) = self.control.local_addr() {
            info!(peer = %address, "listening for agents");
        }
        if let Ok(address) = self.control.local_addr() {
            app.open_door(Door { issuer: self.certificates.issuer.clone(), port: address.port() });
        }
        let enrolling = Enrolling::new(self.certificates.issuer.clone(), store.clone(), self.grace);
        let parts = (handle.clone(), enrolling, app.registry().cloned());
        let accept = nodes::accept(self.control, parts, tasks.clone(), max_nodes.saturating_add(LINGERING));
        tasks.spawn("agents", accept);
        let serve = self.http.serve(router(app), app.metrics().connections(), tasks.clone());
        tasks.spawn("http", serve);
        if let Some(local) = self.local {
            let serve = local.serve(
                router(app),
                Arc::clone(app.access()),
                app.metrics().connections(),
                tasks.clone(),
            );
            tasks.spawn("http socket", serve);
        }
        self.certificates
    }
}

impl Certificates {
    /// Reads the certificates again; one that cannot be read leaves the one in use in place. Tells whether nodes should ask
    /// for theirs anew.
    pub(crate) fn reload(&self, settings: &Settings, app: &AppState) -> bool {
        let changed = self.reload_control(settings);
        self.reload_web(settings, app);
        changed
    }

    /// Renews the coordinator's own certificate when it is due; nobody else does.
    pub(crate) fn keep_fresh(&self, settings: &Settings) {
        let dir = settings.ca_dir();
        if !ca::is_coordinator_due(&dir) {
            return;
        }
        match ca::renew_coordinator(&dir, &[], ca::DEFAULT_VALIDITY) {
            Ok(_) => {
                info!("the coordinator's certificate was renewed");
                self.reload_control(settings);
            }
            Err(error) => {
                let error = sifleet_common::telemetry::Chain(&error);
                warn!(%error, "the coordinator's certificate runs out soon and cannot be renewed");
            }
        }
    }

    fn reload_control(&self, settings: &Settings) -> bool {
        let dir = settings.ca_dir();
        let read = self.issuer.reload(&dir);
        let changed = match read.map_err(|source| ListenError::Authority { dir, source: Box::new(source) }) {
            Ok(changed) => changed,
            Err(error) => {
                kept(&error);
                return false;
            }
        };
        match control_config(settings, &self.issuer) {
            Ok((config, _)) => self.control.set_server_config(Some(config)),
            Err(error) => kept(&error),
        }
        changed
    }

    fn reload_web(&self, settings: &Settings, app: &AppState) {
        if let (Some(used), Some(files)) = (&self.http, &settings.http.tls) {
            match web_config(files) {
                Ok(config) => used.store(config),
                Err(error) => return kept(&error),
            }
        }
        match hosts(settings) {
            Ok(hosts) => app.rename(hosts),
            Err(error) => kept(&error),
        }
    }
}

/// Makes what signs permissions to fetch; the same for as long as the coordinator has its key.
pub(crate) fn signer(settings: &Settings) -> Result<Signer, ListenError> {
    let secret = coordinator_identity(settings)?.derive_secret("sifleet 2026 capabilities to fetch images");
    Signer::from_seed(&secret).map_err(|source| ListenError::Signer { source })
}

fn coordinator_identity(settings: &Settings) -> Result<Identity, ListenError> {
    let dir = settings.ca_dir();
    Identity::load(&dir.join("coordinator.pem"), &dir.join("coordinator.key"))
        .map_err(|source| ListenError::Certificate { dir, source: Box::new(source) })
}

/// Lists by which names we may be asked.
pub(crate) fn hosts(settings: &Settings) -> Result<Hosts, ListenError> {
    let http = &settings.http;
    let of_certificate = http.tls.as_ref().map(|files| web::names(&files.certificate)).transpose();
    let mut names =
        of_certificate.map_err(|source| ListenError::Web { source: Box::new(source) })?.unwrap_or_default();
    names.extend(http.hosts.iter().map(|name| name.to_ascii_lowercase()));
    Ok(Hosts { listen: Some(http.listen.ip()), names })
}

fn kept(error: &ListenError) {
    let error = sifleet_common::telemetry::Chain(error);
    warn!(%error, "a certificate cannot be read; the one in use is kept");
}

/// Reads the coordinator's certificate; returns with it the secret that lets a restart end old connections.
fn control_config(
    settings: &Settings,
    issuer: &Issuer,
) -> Result<(quinn::ServerConfig, [u8; 32]), ListenError> {
    let dir = settings.ca_dir();
    let unusable = |source| ListenError::Certificate { dir: dir.clone(), source: Box::new(source) };
    let identity = coordinator_identity(settings)?;
    let secret = identity.derive_secret("sifleet 2026 stateless reset of control connections");
    let authorities = tls::load_authorities(&dir.join("ca.pem")).map_err(unusable)?;
    let strict = tls::node_verifier(&authorities).map_err(unusable)?;
    let verifier = Arc::new(LateVerifier::new(strict, settings.control.renewal_grace.get()));
    // Whoever enrols knows the authority by its digest only.
    let identity = identity.with_authorities(&issuer.trusted());
    let config =
        tls::server_config_with(&identity, verifier, &[CONTROL_ALPN, ENROL_ALPN]).map_err(unusable)?;
    let config = quic::server(config).map_err(|source| ListenError::Control { source })?;
    Ok((config, secret))
}

fn web_config(files: &HttpTls) -> Result<Arc<rustls::ServerConfig>, ListenError> {
    web::read(&files.certificate, &files.key)
        .map(Arc::new)
        .map_err(|source| ListenError::Web { source: Box::new(source) })
}
