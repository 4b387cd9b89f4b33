//! How many connections each peer has: one that means harm must not take the places of all others.
//!
//! Peers are told apart by their certificates, of which the cluster's authority gives every node one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use sifleet_common::digest::Digest;

/// Connections of one peer, at most: one for each image that it fetches at once, and for each chunk map.
pub(super) const OF_ONE: usize = 16;

/// The places of all peers.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<BTreeMap<Digest, usize>>>);

/// A place of a peer, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    of: Digest,
    places: Places,
}

impl Places {
    /// Takes a place for a peer, unless it has enough.
    pub(super) fn take(&self, certificate: Digest) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(certificate).or_default();
        if *count >= OF_ONE {
            return None;
        }
        *count += 1;
        Some(Place { of: certificate, places: self.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_cannot_take_the_places_of_others() {
        let (places, one) = (Places::default(), Digest::from(blake3::hash(b"one")));
        let mut taken: Vec<Place> = (0..OF_ONE).map(|_| places.take(one).unwrap()).collect();
        assert!(places.take(one).is_none());
        assert!(places.take(Digest::from(blake3::hash(b"another"))).is_some());
        taken.pop();
        assert!(places.take(one).is_some(), "one was given back");
        drop(taken);
        assert!(places.0.lock().unwrap().is_empty());
    }
}
