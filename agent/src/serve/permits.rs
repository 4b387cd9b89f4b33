//! Who may have what: the capabilities that the coordinator signed, checked.

use std::sync::{Arc, Mutex, PoisonError};

use quinn::Connection;
use sifleet_common::capability::{Capability, CapabilityKey};
use sifleet_common::clock::Clock;
use sifleet_common::digest::Digest;
use sifleet_common::time::UnixMillis;
use sifleet_common::tls::connected_identity;
use tracing::debug;

/// How far our clock may be ahead of the coordinator's, in milliseconds: as far as certificates are backdated.
const SLACK_MS: i64 = 300_000;

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
