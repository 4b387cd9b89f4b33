//! What the library holds as images that OCI clients may take, as the inventory of the agent that watches it says.

use sifleet_common::digest::Digest;
use sifleet_common::image::Format;
use sifleet_common::name::{ImageName, NodeName};
use sifleet_common::time::Now;

use super::View;
use crate::state::index::NameEntry;

/// Where an image that is on nodes only would go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LibraryRoot {
    /// The node whose agent watches the library.
    pub(crate) node: NodeName,
    /// The library's path there.
    pub(crate) path: String,
}

impl View {
    /// Lists the SIF images of the library in the order of their names, each with its digests.
    pub(crate) fn library_images(&self) -> impl Iterator<Item = (&ImageName, Vec<Digest>)> {
        let held = self.names.iter().map(|(name, entry)| (name, self.library_digests(entry)));
        held.filter(|(_, digests)| !digests.is_empty())
    }

    /// Finds the first SIF image of the library whose name is meant.
    pub(crate) fn find_in_library(&self, is_meant: impl Fn(&ImageName) -> bool) -> Option<&ImageName> {
        let mut meant = self.names.iter().filter(|(name, _)| is_meant(name));
        meant.find(|(_, entry)| !self.library_digests(entry).is_empty()).map(|(name, _)| name)
    }

    /// Returns what the library holds under a name, if it is a SIF image: one digest, unless several nodes watch libraries
    /// that differ.
    pub(crate) fn library_image(&self, name: &ImageName) -> Vec<Digest> {
        self.names.get(name.as_str()).map_or_else(Vec::new, |entry| self.library_digests(entry))
    }

    fn library_digests(&self, entry: &NameEntry) -> Vec<Digest> {
        let places = entry.ready.keys().filter(|place| place.library).map(|place| place.digest);
        let mut digests: Vec<Digest> = places.filter(|digest| self.is_sif(digest)).collect();
        digests.dedup();
        digests
    }

    fn is_sif(&self, digest: &Digest) -> bool {
        self.digests.get(digest).is_some_and(|known| known.image.format == Format::Sif)
    }

    /// Tells whether nodes that answer hold a SIF image under a name, and the library does not.
    pub(crate) fn is_on_nodes_only(&self, name: &ImageName, now: Now) -> bool {
        let Some(entry) = self.names.get(name.as_str()) else { return false };
        let live = self.live_at(now);
        let mut places = entry.ready.iter().filter(|(place, _)| !place.library && self.is_sif(&place.digest));
        places.any(|(_, nodes)| !nodes.is_disjoint(&live)) && self.library_digests(entry).is_empty()
    }

    /// Finds the node whose agent watches the library, one that answers first.
    pub(crate) fn library_root(&self, now: Now) -> Option<LibraryRoot> {
        let live = self.live_at(now);
        let watching = self.nodes.iter().zip(0..).filter_map(|(node, id)| {
            let root = node.inventory.roots().map(|(_, root)| root).find(|root| root.kind.is_library())?;
            let found = LibraryRoot { node: node.name.clone(), path: root.path.as_str().to_owned() };
            Some((!live.contains(id), found))
        });
        watching.min_by_key(|(silent, _)| *silent).map(|(_, found)| found)
    }
}
