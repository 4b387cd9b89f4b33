//! Who may have what: the capabilities that the coordinator signed, checked.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn::Connection;
use sifleet_common::capability::{Capability, CapabilityKey};
use sifleet_common::clock::Clock;
use sifleet_common::digest::Digest;
use sifleet_common::time::UnixMillis;
use sifleet_common::tls::connected_identity;
use tracing::debug;

/// How far our clock may be ahead of the coordinator's, in milliseconds: as far as certificates are backdated.
const SLACK_MS: i64 = 300_000;

/// How often the clock is looked at while a capability lasts.
const LOOK: Duration = Duration::from_secs(30);

/// Knows whose capabilities count; clones share it.
#[derive(Clone, Debug)]
pub struct Permits {
    key: Arc<Mutex<Option<CapabilityKey>>>,
    clock: Clock,
}

impl Permits {
    /// Begins with nobody's: nothing is given until the coordinator has told its key.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { key: Arc::default(), clock }
    }

    /// Lets the capabilities of this key count, and no others.
    pub fn trust(&self, key: CapabilityKey) {
        *self.key.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
    }

    /// Returns until when a peer may follow what it shows a capability for: no longer than its certificate lasts.
    pub(super) fn until(connection: &Connection, shown: &Capability) -> UnixMillis {
        let certified = connected_identity(connection).map_or(shown.until, |peer| peer.not_after);
        shown.until.min(certified)
    }

    /// Waits until that has passed, by a clock that may be set meanwhile. Cancel safe.
    pub(super) async fn over(&self, until: UnixMillis) {
        let end = until.0.saturating_add(SLACK_MS);
        loop {
            let left = end.saturating_sub(self.clock.now().wall.0);
            match u64::try_from(left) {
                Ok(left) if left > 0 => tokio::time::sleep(Duration::from_millis(left).min(LOOK)).await,
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Returns which image a peer is to be answered for.
    ///
    /// Whoever may not have what it asks for is answered for one that nobody has, by the same code: no answer and no
    /// delay tells whether it is here.
    pub(super) fn asked(&self, connection: &Connection, image: Digest, shown: &Capability) -> Digest {
        let key = *self.key.lock().unwrap_or_else(PoisonError::into_inner);
        let now = UnixMillis(self.clock.now().wall.0.saturating_sub(SLACK_MS));
        let peer = connected_identity(connection);
        let permitted =
            key.zip(peer.as_ref().ok()).is_some_and(|(key, peer)| key.permits(shown, &peer.node, image, now));
        if permitted {
            return image;
        }
        let node = peer.map(|peer| peer.node.to_string()).unwrap_or_default();
        debug!(node, digest = %image, known = key.is_some(), "an image was asked for without permission");
        Digest::from_bytes(rand::random())
    }
}
