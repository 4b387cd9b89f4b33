//! Which replicas would be left: the rule that no image loses its last one unless somebody forces it.
//!
//! Pure, and used twice: by the view, which says what a removal would do, and by the state before each order.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
use roaring::RoaringBitmap;
use sifleet_common::digest::Digest;
use sifleet_common::name::ImageName;

use crate::state::index::{DigestEntry, NameEntry};

/// Replicas that are about to go: under which name, below which root, on which nodes.
pub(crate) type Leaving = BTreeMap<(ImageName, Arc<str>), RoaringBitmap>;

/// What inventories show, current or last known.
#[derive(Clone, Copy)]
pub(crate) struct Holdings<'a> {
    /// Entries by name.
    pub(crate) names: &'a OrdMap<ImageName, Arc<NameEntry>>,
    /// Entries by digest.
    pub(crate) digests: &'a OrdMap<Digest, Arc<DigestEntry>>,
}

impl Holdings<'_> {
    /// Lists the nodes that would still hold an image if these replicas were gone.
    pub(crate) fn left(&self, image: &Digest, leaving: &[&Leaving]) -> RoaringBitmap {
        let mut left = RoaringBitmap::new();
        let names = self.digests.get(image).into_iter().flat_map(|entry| &entry.names);
        for (name, entry) in names.filter_map(|name| Some((name, self.names.get(name)?))) {
            for (place, nodes) in entry.ready.iter().filter(|(place, _)| place.digest == *image) {
                let key = (name.clone(), Arc::clone(&place.root));
                let mut nodes = nodes.clone();
                for going in leaving.iter().filter_map(|leaving| leaving.get(&key)) {
                    nodes -= going;
                }
                left |= nodes;
            }
        }
        left
    }

    /// Lists the replicas that a removal from these nodes is about; what is in a library is none of them.
    pub(crate) fn meant(
        &self,
        (name, image): (&ImageName, &Digest),
        root: Option<&str>,
        nodes: &RoaringBitmap,
    ) -> Leaving {
        let entry = self.names.get(name);
        let ready = entry.into_iter().flat_map(|entry| &entry.ready);
        let meant = ready.filter(|(place, _)| {
            place.digest == *image && !place.library && root.is_none_or(|root| *place.root == *root)
        });
        let mut leaving = Leaving::new();
        for (place, held) in meant {
            let key = (name.clone(), Arc::clone(&place.root));
            *leaving.entry(key).or_default() |= held & nodes;
        }
        leaving
    }
}

/// Adds replicas to others.
pub(crate) fn join(leaving: &mut Leaving, more: Leaving) {
    for (key, nodes) in more {
        *leaving.entry(key).or_default() |= nodes;
    }
}

/// Lists the nodes that lose something.
pub(crate) fn losing(leaving: &Leaving) -> RoaringBitmap {
    leaving.values().fold(RoaringBitmap::new(), |all, nodes| all | nodes)
}
