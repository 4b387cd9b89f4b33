//! Answers under which names current nodes hold different bytes.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use sifleet_common::api::availability::DigestNodes;
use sifleet_common::api::drift::{Drift, DriftList};
use sifleet_common::digest::Digest;
use sifleet_common::time::Now;

use super::View;
use super::availability::count;

impl View {
    /// Lists all drift in the order of the names.
    #[must_use]
    pub fn drift(&self, now: Now) -> DriftList {
        let live = self.live_at(now);
        let mut drift = Vec::new();
        for (name, entry) in self.names.iter().filter(|(_, entry)| entry.ready.len() > 1) {
            let mut groups: BTreeMap<Digest, RoaringBitmap> = BTreeMap::new();
            for (place, nodes) in &entry.ready {
                *groups.entry(place.digest).or_default() |= nodes & &*live;
            }
            groups.retain(|_, nodes| !nodes.is_empty());
            if groups.len() < 2 {
                continue;
            }
            let body = |(digest, nodes): (Digest, RoaringBitmap)| DigestNodes {
                digest: digest.to_string(),
                count: count(&nodes),
                nodes: self.fold(&nodes),
            };
            let mut digests: Vec<DigestNodes> = groups.into_iter().map(body).collect();
            digests.sort_by_key(|body| std::cmp::Reverse(body.count));
            let expected_digest = self.expected(name, None, &live).digest().map(|digest| digest.to_string());
            drift.push(Drift { name: name.to_string(), expected_digest, digests });
        }
        DriftList { drift, as_of: now.wall.to_string() }
    }
}
