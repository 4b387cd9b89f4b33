//! Accepts agents: a connection with a node's certificate becomes a session.
//!
//! Owns the QUIC listener and one task per connection. Who a node is comes from its certificate alone
//! (`common::tls`); what it says goes to the owner loop, one message at a time, and no faster than its share ([`pace`]).

pub mod door;
pub mod enrol;
pub mod issuer;
pub mod late;
pub mod pace;
mod pull;
mod renewing;
pub mod session;
pub mod token;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quinn::{Endpoint, Incoming, VarInt};
use sifleet_common::task::Tasks;
use sifleet_common::wire::code::CloseCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::debug;

use crate::oci::Registry;
use crate::state::SessionId;
use crate::state::run::Handle;
use door::Door;
use enrol::Enrolling;
use pace::Accounts;

/// The last places are kept for peers that proved they can be reached at their address: a flood from forged
/// addresses stops at them, for the price of one more round trip.
const PROVEN_PLACES: usize = 256;

/// What all connections share.
#[derive(Clone)]
struct Shared {
    handle: Handle,
    enrolling: Enrolling,
    registry: Option<Registry>,
    accounts: Accounts,
    door: Door,
}

/// Accepts connections until the tasks are stopped.
pub async fn accept(
    endpoint: Endpoint,
    (handle, enrolling, registry): (Handle, Enrolling, Option<Registry>),
    tasks: Tasks,
    max_connections: usize,
) {
    let stop = tasks.token();
    let room = Arc::new(Semaphore::new(max_connections));
    let numbers = Arc::new(AtomicU64::new(1));
    let shared = Shared { handle, enrolling, registry, accounts: Accounts::default(), door: Door::default() };
    loop {
        let incoming = tokio::select! {
            () = stop.cancelled() => break,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { break };
        if shared.door.is_shut(incoming.remote_address().ip(), shared.handle.clock.now().mono) {
            incoming.ignore();
            continue;
        }
        let Some((incoming, permit)) = admit(incoming, &room) else { continue };
        let session = SessionId(numbers.fetch_add(1, Ordering::Relaxed));
        let (shared, stop) = (shared.clone(), stop.clone());
        tasks.spawn("node session", async move {
            session::serve(incoming, session, shared, stop).await;
            drop(permit);
        });
    }
    close(&endpoint).await;
}

/// Refuses what there is no room for; when room gets scarce, makes strangers prove their address first.
fn admit(incoming: Incoming, room: &Arc<Semaphore>) -> Option<(Incoming, OwnedSemaphorePermit)> {
    let Ok(permit) = Arc::clone(room).try_acquire_owned() else {
        incoming.refuse();
        return None;
    };
    if room.available_permits() < PROVEN_PLACES && !incoming.remote_address_validated() {
        if let Err(error) = incoming.retry() {
            debug!(%error, "a connection could not be asked to prove its address");
        }
        return None;
    }
    Some((incoming, permit))
}

/// Tells every agent that the coordinator stops, and gives the packets a moment to leave.
async fn close(endpoint: &Endpoint) {
    const LINGER: Duration = Duration::from_secs(1);
    endpoint.close(VarInt::from_u32(CloseCode::Stopping.number()), b"the coordinator stops");
    if tokio::time::timeout(LINGER, endpoint.wait_idle()).await.is_err() {
        debug!("some agents did not confirm that the coordinator stops");
    }
}
