//! Which node holds what under which name: bitmaps of nodes, kept so that a query only combines them.
//!
//! The index holds what inventories say, current or last known; who counts is decided where it is read. It is
//! built of persistent maps, so a view of it is a cheap clone. One rule keeps it right: a name on a node is
//! always derived anew from that node's whole inventory ([`Index::refresh`]), never patched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use roaring::RoaringBitmap;
use sifleet_common::digest::Digest;
use sifleet_common::inventory::{
    Content, Image, Inventory, Pending, ReplicaKey, Root, RootState, UnusableCode,
};
use sifleet_common::name::ImageName;

/// Most names remembered after their last replica is gone.
pub const MAX_HEARD_OF: usize = 100_000;

/// Numbers nodes in the order in which they were first heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl NodeId {
    /// Returns the node's place in tables.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where a whole image lies on a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which bytes.
    pub digest: Digest,
    /// Whether the root is the cluster's library.
    pub library: bool,
    /// Whether other nodes may fetch from it.
    pub trusted: bool,
    /// Below which root.
    pub root: Arc<str>,
}

/// Everything known under one name.
#[derive(Clone, Debug, Default)]
pub struct NameEntry {
    /// Number of the change that made it: no other state of any name has the same.
    pub version: u64,
    /// Nodes with a whole image, by bytes and place.
    pub ready: BTreeMap<Place, RoaringBitmap>,
    /// Nodes with a file nobody vouches for yet.
    pub pending: BTreeMap<Pending, RoaringBitmap>,
    /// Nodes with something no job can run.
    pub unusable: BTreeMap<(UnusableCode, Arc<str>), RoaringBitmap>,
    /// Nodes with an entry below a root whose contents are not known at present.
    pub suspended: RoaringBitmap,
    /// Where a whole image was last, on nodes that cannot vouch for that file at present.
    pub last_known: BTreeMap<Place, RoaringBitmap>,
    /// Nodes that cannot vouch at present for what their library holds under the name.
    pub library_open: RoaringBitmap,
}

/// How much a name has to say for itself: the more, the sooner people mean it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// A whole image lies there, or did when it was last looked at.
    Image,
    /// It may turn out to be an image.
    Open,
    /// Nothing that runs, or nothing any longer.
    Nothing,
}

impl NameEntry {
    fn is_empty(&self) -> bool {
        self.ready.is_empty()
            && self.pending.is_empty()
            && self.unusable.is_empty()
            && self.suspended.is_empty()
    }

    /// Tells how much the name has to say for itself.
    #[must_use]
    pub fn standing(&self) -> Standing {
        if !self.ready.is_empty() || !self.last_known.is_empty() {
            Standing::Image
        } else if !self.open().is_empty() {
            Standing::Open
        } else {
            Standing::Nothing
        }
    }

    /// Tells whether the name is one of the library's, and no other root has or had it.
    #[must_use]
    pub fn is_only_in_library(&self) -> bool {
        let elsewhere = |place: &Place| !place.library;
        !self.is_empty()
            && self.unusable.is_empty()
            && !self.ready.keys().any(elsewhere)
            && !self.last_known.keys().any(elsewhere)
            && (self.open() - &self.library_open).is_empty()
    }

    /// Returns the nodes on which the name may turn out to be any image: nobody vouches, nobody denies.
    #[must_use]
    pub fn open(&self) -> RoaringBitmap {
        let mut open = self.suspended.clone();
        for nodes in self.pending.values().chain(self.unreadable().map(|(_, nodes)| nodes)) {
            open |= nodes;
        }
        open
    }

    /// Lists what the agents may not read, with the particulars.
    pub fn unreadable(&self) -> impl Iterator<Item = (&Arc<str>, &RoaringBitmap)> {
        let unreadable = self.unusable.iter().filter(|((code, _), _)| *code == UnusableCode::Unreadable);
        unreadable.map(|((_, detail), nodes)| (detail, nodes))
    }

    /// Lists where a whole image lies on a node, or lay last.
    fn places(&self, node: u32) -> Vec<Place> {
        let places = self.ready.iter().chain(&self.last_known);
        places.filter(|(_, nodes)| nodes.contains(node)).map(|(place, _)| place.clone()).collect()
    }

    fn forget(&mut self, node: u32) {
        drop_bit(&mut self.ready, node);
        drop_bit(&mut self.pending, node);
        drop_bit(&mut self.unusable, node);
        drop_bit(&mut self.last_known, node);
        self.suspended.remove(node);
        self.library_open.remove(node);
    }

    fn learn(&mut self, node: u32, name: &ImageName, inventory: &Inventory) {
        let before = self.places(node);
        self.forget(node);
        for (id, root) in inventory.roots() {
            let key = ReplicaKey { root: id, name: name.clone() };
            let Some(replica) = inventory.replica(&key) else { continue };
            let known = !matches!(root.state, RootState::Unknown { .. });
            let open = match &replica.content {
                Content::Image(image) => {
                    let place = Place {
                        digest: image.digest,
                        library: root.kind.is_library(),
                        trusted: root.kind.is_trusted(),
                        root: root.path.as_str().into(),
                    };
                    let places = if known { &mut self.ready } else { &mut self.last_known };
                    places.entry(place).or_default().insert(node);
                    false
                }
                Content::Pending(why) => {
                    if known {
                        self.pending.entry(*why).or_default().insert(node);
                    }
                    true
                }
                Content::Unusable(what) => {
                    if known {
                        let what = (what.code, what.detail.as_str().into());
                        self.unusable.entry(what).or_default().insert(node);
                    }
                    what.code == UnusableCode::Unreadable
                }
            };
            if open {
                self.remember(node, &before, root);
            }
            if !known {
                self.suspended.insert(node);
            }
            if root.kind.is_library() && (open || !known) {
                self.library_open.insert(node);
            }
        }
    }

    /// Keeps where an image was below a root that cannot vouch for the file at present.
    fn remember(&mut self, node: u32, before: &[Place], root: &Root) {
        for place in before.iter().filter(|place| *place.root == *root.path) {
            self.last_known.entry(place.clone()).or_default().insert(node);
        }
    }

    fn digests(&self) -> BTreeSet<Digest> {
        self.ready.keys().chain(self.last_known.keys()).map(|place| place.digest).collect()
    }
}

fn drop_bit<K: Ord>(sets: &mut BTreeMap<K, RoaringBitmap>, node: u32) {
    sets.retain(|_, nodes| {
        nodes.remove(node);
        !nodes.is_empty()
    });
}

/// What is known of one digest, and where to look for its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestEntry {
    /// Length in bytes.
    pub size: u64,
    /// What an inventory said of it.
    pub image: Image,
    /// Under which names it lies somewhere.
    pub names: BTreeSet<ImageName>,
}

/// All names and digests.
#[derive(Clone, Debug, Default)]
pub struct Index {
    names: OrdMap<ImageName, Arc<NameEntry>>,
    digests: OrdMap<Digest, Arc<DigestEntry>>,
    stems: OrdMap<Arc<str>, Arc<BTreeSet<ImageName>>>,
    /// Names that were ready somewhere, and since which step they have no replica.
    heard_of: BTreeMap<ImageName, Option<u64>>,
    /// Names without replicas, longest first.
    faded: BTreeMap<u64, ImageName>,
    steps: u64,
    /// Counts changes.
    changes: u64,
}

impl Index {
    /// Returns the entries by name.
    #[must_use]
    pub fn names(&self) -> &OrdMap<ImageName, Arc<NameEntry>> {
        &self.names
    }

    /// Returns the entries by digest.
    #[must_use]
    pub fn digests(&self) -> &OrdMap<Digest, Arc<DigestEntry>> {
        &self.digests
    }

    /// Returns names by what people call them.
    #[must_use]
    pub fn stems(&self) -> &OrdMap<Arc<str>, Arc<BTreeSet<ImageName>>> {
        &self.stems
    }

    /// Counts changes: as long as this is the same, all of the index is.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Lists where an image lies whole, with the nodes.
    pub fn places_of(&self, image: &Digest) -> impl Iterator<Item = (&Place, &RoaringBitmap)> {
        let digest = *image;
        let names = self.digests.get(image).into_iter().flat_map(|entry| &entry.names);
        let entries = names.filter_map(|name| self.names.get(name));
        entries.flat_map(|entry| &entry.ready).filter(move |(place, _)| place.digest == digest)
    }

    /// Returns the name the index already holds, so that equal names share their text.
    #[must_use]
    pub fn intern(&self, name: &ImageName) -> Option<ImageName> {
        self.names.get_key_value(name).map(|(known, _)| known.clone())
    }

    /// Remembers a name that was ready somewhere; returns whether that is news.
    pub fn hear_of(&mut self, name: &ImageName) -> bool {
        if self.heard_of.contains_key(name) {
            return false;
        }
        self.changes += 1;
        self.heard_of.insert(name.clone(), None);
        if !self.names.contains_key(name) {
            self.place(name, false, Arc::default());
        }
        true
    }

    /// Derives what `node` holds under `name` anew from its inventory; returns whether the name is there,
    /// whole, for the first time ever.
    pub fn refresh(&mut self, node: NodeId, name: &ImageName, inventory: &Inventory) -> bool {
        self.changes += 1;
        let known = self.names.get(name).cloned();
        let mut entry = known.clone().unwrap_or_default();
        let before = entry.digests();
        let changed = Arc::make_mut(&mut entry);
        changed.learn(node.0, name, inventory);
        let after = entry.digests();
        for digest in before.difference(&after) {
            self.forget_digest(*digest, name);
        }
        for digest in after.difference(&before) {
            self.learn_digest(*digest, name, inventory);
        }
        let ready = !entry.ready.is_empty();
        self.place(name, known.is_some(), entry);
        ready && self.hear_of(name)
    }

    fn place(&mut self, name: &ImageName, known: bool, mut entry: Arc<NameEntry>) {
        Arc::make_mut(&mut entry).version = self.changes;
        let empty = entry.is_empty();
        match self.heard_of.get_mut(name) {
            None if empty => {
                self.names.remove(name);
                self.remove_stem(name);
                return;
            }
            Some(since @ None) if empty => {
                self.steps += 1;
                *since = Some(self.steps);
                self.faded.insert(self.steps, name.clone());
            }
            Some(since) if !empty => {
                if let Some(step) = since.take() {
                    self.faded.remove(&step);
                }
            }
            _ => {}
        }
        if !known {
            self.add_stem(name);
        }
        self.names.insert(name.clone(), entry);
        self.trim_faded();
    }

    fn trim_faded(&mut self) {
        while self.faded.len() > MAX_HEARD_OF {
            let Some((_, name)) = self.faded.pop_first() else { break };
            self.heard_of.remove(&name);
            self.names.remove(&name);
            self.remove_stem(&name);
        }
    }

    fn learn_digest(&mut self, digest: Digest, name: &ImageName, inventory: &Inventory) {
        if let Some(entry) = self.digests.get_mut(&digest) {
            Arc::make_mut(entry).names.insert(name.clone());
            return;
        }
        let replica = inventory.roots().find_map(|(root, _)| {
            let replica = inventory.replica(&ReplicaKey { root, name: name.clone() })?;
            match &replica.content {
                Content::Image(image) if image.digest == digest => Some((replica.size, image.clone())),
                Content::Image(_) | Content::Pending(_) | Content::Unusable(_) => None,
            }
        });
        if let Some((size, image)) = replica {
            let names = BTreeSet::from([name.clone()]);
            self.digests.insert(digest, Arc::new(DigestEntry { size, image, names }));
        }
    }

    fn forget_digest(&mut self, digest: Digest, name: &ImageName) {
        let Some(entry) = self.digests.get_mut(&digest) else { return };
        let entry = Arc::make_mut(entry);
        entry.names.remove(name);
        if entry.names.is_empty() {
            self.digests.remove(&digest);
        }
    }

    fn add_stem(&mut self, name: &ImageName) {
        let names = self.stems.entry(name.stem().into()).or_default();
        Arc::make_mut(names).insert(name.clone());
    }

    fn remove_stem(&mut self, name: &ImageName) {
        let Some(names) = self.stems.get_mut(name.stem()) else { return };
        let names = Arc::make_mut(names);
        names.remove(name);
        if names.is_empty() {
            self.stems.remove(name.stem());
        }
    }
}
