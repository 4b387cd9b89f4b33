//! How many connections each peer has: one that means harm must not take the places of all others.
//!
//! Peers are told apart by the names in their certificates: a node may have many certificates, and has one name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use sifleet_common::name::NodeName;

/// Connections of one peer, at most: one for each image that it fetches at once, and for each chunk map.
pub(super) const OF_ONE: usize = 16;

/// The places of all peers.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<BTreeMap<NodeName, usize>>>);

/// A place of a peer, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    of: NodeName,
    places: Places,
}

impl Places {
    /// Takes a place for a peer, unless it has enough.
    pub(super) fn take(&self, node: NodeName) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(node.clone()).or_default();
        if *count >= OF_ONE {
            return None;
        }
        *count += 1;
        Some(Place { of: node, places: self.clone() })
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
        let (places, one) = (Places::default(), "one".parse::<NodeName>().unwrap());
        let mut taken: Vec<Place> = (0..OF_ONE).map(|_| places.take(one.clone()).unwrap()).collect();
        assert!(places.take(one.clone()).is_none());
        assert!(places.take("another".parse().unwrap()).is_some());
        taken.pop();
        assert!(places.take(one.clone()).is_some(), "one was given back");
        drop(taken);
        assert!(places.0.lock().unwrap().is_empty());
    }
}
