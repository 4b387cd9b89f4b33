//! The unix socket for users of this machine: anybody may connect, and the kernel says who did.
//!
//! It has places of its own, some of which are kept for administrators: however many connections strangers hold, over the
//! network or here, whoever is to help gets in.
//! Outside facts: unix(7) on SO_PEERCRED and on what a socket file's mode means.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use prometheus_client::metrics::gauge::Gauge;
use sifleet_common::role::Role;
use sifleet_common::task::Tasks;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

use super::{BindError, Host, Limits, Patient};
use crate::access::users::User;
use crate::access::{Access, Peer};

/// Most connections at once.
const PLACES: u32 = 128;
/// How many of them others than administrators may hold.
const OTHERS: usize = 96;
/// Everybody may connect: what each may do is decided by who he is.
const MODE: u32 = 0o666;
/// How long the system may take to say who a user is; it may have to ask a directory on the network.
const LOOK: Duration = Duration::from_secs(5);

/// The socket, bound.
#[derive(Debug)]
pub struct Local {
    listener: UnixListener,
    path: PathBuf,
    limits: Limits,
}

impl Local {
    /// Listens on a socket, in place of one that was left behind; must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`BindError::Socket`]; nothing listens.
    pub fn bind(path: PathBuf, limits: Limits) -> Result<Self, BindError> {
        match clear(&path).and_then(|()| listen(&path)) {
            Ok(listener) => Ok(Self { listener, path, limits }),
            Err((what, source)) => Err(BindError::Socket { path, what, source }),
        }
    }

    /// Serves until the tasks are told to stop, then lets requests in progress end, and removes the socket.
    pub async fn serve(self, router: Router, access: Arc<Access>, connections: Gauge, tasks: Tasks) {
        let Self { listener, path, limits } = self;
        info!(path = %path.display(), "listening for users of this machine");
        let places = Arc::new(Semaphore::new(usize::try_from(PLACES).unwrap_or(Semaphore::MAX_PERMITS)));
        let others = Arc::new(Semaphore::new(OTHERS));
        let host = Host::new(router, None, limits, connections, &tasks);
        while let Some((place, (socket, _))) = host.accept(&places, |cx| listener.poll_accept(cx)).await {
            let (host, access, others) = (Arc::clone(&host), Arc::clone(&access), Arc::clone(&others));
            tasks.spawn("http socket connection", async move {
                host.connections.inc();
                greet(&host, socket, access, others).await;
                host.connections.dec();
                drop(place);
            });
        }
        drop(listener);
        if let Err(error) = fs::remove_file(&path) {
            debug!(%error, path = %path.display(), "the socket is left behind");
        }
        host.end(&places, PLACES).await;
    }
}

/// Finds out who connects, and talks with him.
async fn greet(host: &Host, socket: UnixStream, access: Arc<Access>, others: Arc<Semaphore>) {
    let uid = match socket.peer_cred() {
        Ok(credentials) => credentials.uid(),
        Err(error) => return warn!(%error, "the system does not say who connects to the socket"),
    };
    let mut user = User::unnamed(uid);
    let mut held = None;
    if user.role != Some(Role::Admin) {
        held = others.clone().try_acquire_owned().ok();
    }
    let looked = tokio::task::spawn_blocking(move || access.user(uid));
    match tokio::time::timeout(LOOK, looked).await {
        Ok(Ok(found)) => user = found,
        Ok(Err(_)) | Err(_) => warn!(uid, took = ?LOOK, "the system does not say in time who a user is"),
    }
    if user.role == Some(Role::Admin) {
        held = None;
    } else if held.is_none() {
        return debug!(uid, "a connection too many to the socket is closed");
    }
    host.talk(Patient::new(socket, host.limits.stall_timeout), Peer::Local(Arc::new(user))).await;
    drop(held);
}

type Unbound = (&'static str, io::Error);

/// Removes a socket that nobody listens on.
fn clear(path: &Path) -> Result<(), Unbound> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(|error| ("see that its directory may be read", error))?,
    };
    if !found.file_type().is_socket() {
        return Err(("something else lies there", io::ErrorKind::AlreadyExists.into()));
    }
    if net::UnixStream::connect(path).is_ok() {
        return Err(("another coordinator listens there", io::ErrorKind::AddrInUse.into()));
    }
    fs::remove_file(path).map_err(|error| ("the one that was left behind cannot be removed", error))
}

fn listen(path: &Path) -> Result<UnixListener, Unbound> {
    let listener =
        UnixListener::bind(path).map_err(|error| ("see that its directory exists and is writable", error))?;
    fs::set_permissions(path, Permissions::from_mode(MODE))
        .map_err(|error| ("its mode cannot be set", error))?;
    Ok(listener)
}

#[cfg(test)]
mod tests;
