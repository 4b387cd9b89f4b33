//! The whole inventory of one node, kept up change by change, and the digest that tells two inventories apart.

use std::fmt;
use std::ops::Bound;

use imbl::OrdMap;

use super::{
    Change, Content, Pending, Replica, ReplicaKey, Root, RootId, RootState, weight_of_replica, weight_of_root,
};
use crate::digest::Digest;
use crate::name::ImageName;

/// Tells whether two inventories are equal, whatever the order in which they grew.
///
/// The exclusive-or of the BLAKE3 digests of all roots and replicas: one change costs two hashes, not a walk
/// over 200,000 entries. It finds divergence, it does not withstand a node that lies about itself.
#[derive(Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct InventoryDigest([u8; 32]);

impl InventoryDigest {
    /// Returns the 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Wraps 32 stored bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn toggle(&mut self, hash: &blake3::Hash) {
        for (mine, theirs) in self.0.iter_mut().zip(hash.as_bytes()) {
            *mine ^= theirs;
        }
    }
}

impl fmt::Debug for InventoryDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inventory:{}", Digest::from_bytes(self.0).short())
    }
}

/// The roots and replicas of one node; cloning it shares everything and costs next to nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    roots: OrdMap<RootId, Root>,
    replicas: OrdMap<ReplicaKey, Replica>,
    images: usize,
    weight: usize,
    digest: InventoryDigest,
}

impl Inventory {
    /// Applies one change; returns whether anything differs.
    pub fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::Root(id, root) => self.put_root(id, root),
            Change::Put(key, replica) => self.put(key, replica),
            Change::Remove(key) => self.remove(&key),
        }
    }

    fn put_root(&mut self, id: RootId, root: Root) -> bool {
        let hash = hash_root(id, &root);
        match self.roots.get(&id) {
            Some(known) if *known == root => return false,
            Some(known) => {
                self.weight -= weight_of_root(known);
                self.digest.toggle(&hash_root(id, known));
            }
            None => {}
        }
        self.weight += weight_of_root(&root);
        self.roots.insert(id, root);
        self.digest.toggle(&hash);
        true
    }

    fn put(&mut self, key: ReplicaKey, replica: Replica) -> bool {
        let hash = hash_replica(&key, &replica);
        match self.replicas.get(&key) {
            Some(known) if *known == replica => return false,
            Some(known) => {
                self.images -= usize::from(known.is_image());
                self.weight -= weight_of_replica(&key, known);
                self.digest.toggle(&hash_replica(&key, known));
            }
            None => {}
        }
        self.images += usize::from(replica.is_image());
        self.weight += weight_of_replica(&key, &replica);
        self.replicas.insert(key, replica);
        self.digest.toggle(&hash);
        true
    }

    fn remove(&mut self, key: &ReplicaKey) -> bool {
        match self.replicas.remove(key) {
            Some(replica) => {
                self.images -= usize::from(replica.is_image());
                self.weight -= weight_of_replica(key, &replica);
                self.digest.toggle(&hash_replica(key, &replica));
                true
            }
            None => false,
        }
    }

    /// Returns the digest that tells equal inventories.
    #[must_use]
    pub fn digest(&self) -> InventoryDigest {
        self.digest
    }

    /// Iterates over the roots in the order of their numbers.
    pub fn roots(&self) -> impl Iterator<Item = (RootId, &Root)> {
        self.roots.iter().map(|(id, root)| (*id, root))
    }

    /// Looks a root up.
    #[must_use]
    pub fn root(&self, id: RootId) -> Option<&Root> {
        self.roots.get(&id)
    }

    /// Iterates over the replicas in the order of root and name.
    pub fn replicas(&self) -> impl Iterator<Item = (&ReplicaKey, &Replica)> {
        self.replicas.iter()
    }

    /// Iterates over the replicas below one root.
    pub fn replicas_of(&self, root: RootId) -> impl Iterator<Item = (&ReplicaKey, &Replica)> {
        let from = Bound::Included(ReplicaKey { root, name: ImageName::least() });
        self.replicas.range((from, Bound::Unbounded)).take_while(move |(key, _)| key.root == root)
    }

    /// Looks a replica up.
    #[must_use]
    pub fn replica(&self, key: &ReplicaKey) -> Option<&Replica> {
        self.replicas.get(key)
    }

    /// Counts the replicas.
    #[must_use]
    pub fn len(&self) -> usize {
        self.replicas.len()
    }

    /// Counts the replicas that are whole images.
    #[must_use]
    pub fn images(&self) -> usize {
        self.images
    }

    /// Returns what all roots and replicas weigh together, as [`Change::weight`] counts.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Tells whether there are no replicas.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.replicas.is_empty()
    }

    /// Lists the changes that build this inventory from nothing, roots first.
    #[must_use]
    pub fn as_changes(&self) -> OwnedChanges {
        OwnedChanges { roots: self.roots.clone().into_iter(), replicas: self.replicas.clone().into_iter() }
    }
}

/// The changes that build an inventory from nothing, independent of what becomes of the inventory.
pub struct OwnedChanges {
    roots: <OrdMap<RootId, Root> as IntoIterator>::IntoIter,
    replicas: <OrdMap<ReplicaKey, Replica> as IntoIterator>::IntoIter,
}

impl Iterator for OwnedChanges {
    type Item = Change;

    fn next(&mut self) -> Option<Change> {
        match self.roots.next() {
            Some((id, root)) => Some(Change::Root(id, root)),
            None => self.replicas.next().map(|(key, replica)| Change::Put(key, replica)),
        }
    }
}

fn hash_root(id: RootId, root: &Root) -> blake3::Hash {
    let mut hasher = Fields::new(b'R');
    hasher.bytes(&[id.0, root.kind as u8]).bytes(root.path.as_bytes());
    match &root.state {
        RootState::Watched => hasher.bytes(b"w"),
        RootState::Degraded { reason } => hasher.bytes(b"d").bytes(reason.as_bytes()),
        RootState::Unknown { reason } => hasher.bytes(b"u").bytes(reason.as_bytes()),
        RootState::Partial { reason } => hasher.bytes(b"s").bytes(reason.as_bytes()),
    };
    hasher.0.finalize()
}

fn hash_replica(key: &ReplicaKey, replica: &Replica) -> blake3::Hash {
    let mut hasher = Fields::new(b'E');
    hasher.bytes(&[key.root.0]).bytes(key.name.as_str().as_bytes());
    hasher.bytes(&replica.size.to_le_bytes()).bytes(&replica.modified.0.to_le_bytes());
    match &replica.content {
        Content::Pending(Pending::BeingWritten) => hasher.bytes(b"p"),
        Content::Pending(Pending::Hashing) => hasher.bytes(b"h"),
        Content::Image(image) => hasher
            .bytes(b"i")
            .bytes(image.digest.as_bytes())
            .bytes(format!("{:?} {:?} {}", image.format, image.arch, image.mutable).as_bytes()),
        Content::Unusable(what) => {
            hasher.bytes(b"x").bytes(what.code.as_str().as_bytes()).bytes(what.detail.as_bytes())
        }
    };
    hasher.0.finalize()
}

/// Feeds length-prefixed fields to a hasher, so that two different lists of fields never look alike.
struct Fields(blake3::Hasher);

impl Fields {
    fn new(kind: u8) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[kind]);
        Self(hasher)
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Unusable, UnusableCode};
    use super::*;
    use crate::time::UnixMillis;

    fn key(name: &str) -> ReplicaKey {
        ReplicaKey { root: RootId(0), name: name.parse().unwrap() }
    }

    fn replica(size: u64) -> Replica {
        Replica { size, modified: UnixMillis(7), content: Content::Pending(Pending::Hashing) }
    }

    #[test]
    fn the_digest_does_not_depend_on_the_way() {
        let mut straight = Inventory::default();
        straight.apply(Change::Put(key("b"), replica(2)));
        let mut winding = Inventory::default();
        winding.apply(Change::Put(key("a"), replica(1)));
        winding.apply(Change::Put(key("b"), replica(1)));
        winding.apply(Change::Remove(key("a")));
        winding.apply(Change::Put(key("b"), replica(2)));
        assert_eq!(straight, winding);
        assert_ne!(straight.digest(), InventoryDigest::default());
    }

    #[test]
    fn every_field_is_part_of_the_digest() {
        let base = Replica { size: 1, modified: UnixMillis(1), content: Content::Pending(Pending::Hashing) };
        let mut seen = std::collections::BTreeSet::from([*hash_replica(&key("a"), &base).as_bytes()]);
        let other = [
            Replica { size: 2, ..base.clone() },
            Replica { modified: UnixMillis(2), ..base.clone() },
            Replica { content: Content::Pending(Pending::BeingWritten), ..base.clone() },
            Replica {
                content: Content::Unusable(Unusable { code: UnusableCode::Symlink, detail: "x".into() }),
                ..base.clone()
            },
        ];
        for changed in other {
            assert!(seen.insert(*hash_replica(&key("a"), &changed).as_bytes()), "{changed:?}");
        }
        assert!(seen.insert(*hash_replica(&key("b"), &base).as_bytes()));
    }

    proptest! {
        #[test]
        fn rebuilding_from_changes_gives_the_same_inventory(steps in proptest::collection::vec((0u8..6, 0u64..3, any::<bool>()), 0..60)) {
            let mut inventory = Inventory::default();
            for (name, size, put) in steps {
                let key = key(&format!("i{name}"));
                inventory.apply(if put { Change::Put(key, replica(size)) } else { Change::Remove(key) });
            }
            let mut rebuilt = Inventory::default();
            for change in inventory.as_changes() {
                rebuilt.apply(change);
            }
            prop_assert_eq!(inventory, rebuilt);
        }
    }
}
