//! A node's inventory: its roots and the replicas found below them, with the number of its last change.
//!
//! Both sides keep the same [`Inventory`] and apply the same [`Change`]s, so that one digest tells whether
//! they agree. Nothing here looks at a disk or a network.

use std::fmt;
use std::ops::Bound;

use imbl::OrdMap;

use crate::digest::Digest;
use crate::image::{Arch, Format};
use crate::name::ImageName;
use crate::time::UnixMillis;

/// Most roots a node can have: a root's number is one byte on the wire.
pub const MAX_ROOTS: usize = 64;
/// Most entries one node may report; beyond it the node calls its root degraded and reports the first ones.
/// Five times the 200,000-entry folder that once took a dashboard down.
pub const MAX_REPLICAS: usize = 1_000_000;
/// Longest explanation that travels with a replica or root, in bytes.
pub const MAX_REASON: usize = 256;

/// Numbers one root of a node, in the order of the node's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RootId(pub u8);

/// Counts the changes of one inventory; two inventories of one stream with equal generations are equal.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// Returns the number of the next change.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A watched directory of a node.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Root {
    /// Absolute path on the node.
    pub path: String,
    /// Whether this root is the cluster's library, which says what is expected elsewhere.
    pub library: bool,
    /// How far its contents are known.
    pub state: RootState,
}

/// How far the contents of a root are known.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum RootState {
    /// Scanned, and every change is reported by the kernel.
    Watched,
    /// Scanned on a short timer because the kernel does not report every change.
    Degraded {
        /// Why, and what an admin can do.
        reason: String,
    },
    /// Not known: absent, unreadable, not yet scanned. Its replicas are last-known only.
    Unknown {
        /// Why, and what an admin can do.
        reason: String,
    },
}

/// Addresses one replica on a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ReplicaKey {
    /// Below which root.
    pub root: RootId,
    /// By which path.
    pub name: ImageName,
}

/// An entry found below a root, for what it is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Replica {
    /// Length of the file in bytes; 0 for what is not a regular file.
    pub size: u64,
    /// Modification time of the file.
    pub modified: UnixMillis,
    /// What is known of its content.
    pub content: Content,
}

impl Replica {
    /// Tells whether it is a whole image.
    #[must_use]
    pub const fn is_image(&self) -> bool {
        matches!(self.content, Content::Image(_))
    }
}

/// What is known of a replica's content.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Content {
    /// Seen, but nobody vouches for it yet.
    Pending(Pending),
    /// Whole, parsed and hashed: a job on this node can run it.
    Image(Image),
    /// There, and no job on this node can run it.
    Unusable(Unusable),
}

/// Why nobody vouches for a file yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Pending {
    /// Somebody has it open for writing, or it changed a moment ago.
    BeingWritten,
    /// Waiting to be hashed, or being hashed.
    Hashing,
}

/// A whole image.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Image {
    /// Identifies the bytes.
    pub digest: Digest,
    /// Which runnable format it has.
    pub format: Format,
    /// For which processor, where the format says so.
    pub arch: Arch,
    /// Whether running it may change it: it has a writable overlay.
    pub mutable: bool,
}

/// Why a job cannot run an entry.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Unusable {
    /// Stable code.
    pub code: UnusableCode,
    /// One sentence with the particulars, at most [`MAX_REASON`] bytes.
    pub detail: String,
}

/// Stable codes of unusable entries. Append only: their order is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum UnusableCode {
    /// The bytes are of no runnable format.
    NotAnImage,
    /// Begins like an image and ends too early.
    Truncated,
    /// Begins like an image and contradicts itself.
    Malformed,
    /// A container without anything to run.
    NothingToRun,
    /// A directory in sandbox format, which no digest can stand for.
    Sandbox,
    /// A symbolic link; images count where their bytes are.
    Symlink,
    /// A FIFO, socket or device.
    SpecialFile,
    /// The name cannot be written down or typed.
    BadName,
    /// The agent may not read it.
    Unreadable,
    /// Only its owner may read it, so jobs of others fail.
    Private,
    /// Built for another processor than this node's.
    WrongArch,
    /// Mostly holes: far larger than what is stored.
    Sparse,
}

impl UnusableCode {
    /// Returns the stable text of the code, as JSON shows it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotAnImage => "not_an_image",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::NothingToRun => "nothing_to_run",
            Self::Sandbox => "sandbox",
            Self::Symlink => "symlink",
            Self::SpecialFile => "special_file",
            Self::BadName => "bad_name",
            Self::Unreadable => "unreadable",
            Self::Private => "private",
            Self::WrongArch => "wrong_arch",
            Self::Sparse => "sparse",
        }
    }
}

/// One step between two inventories.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Change {
    /// A root is there, or its state changed. Its replicas stay as they are.
    Root(RootId, Root),
    /// A replica is there, or changed.
    Put(ReplicaKey, Replica),
    /// A replica is gone.
    Remove(ReplicaKey),
}

impl Change {
    /// Estimates the bytes of the change on the wire, from above.
    #[must_use]
    pub fn weight(&self) -> usize {
        const FIXED: usize = 96;
        FIXED
            + match self {
                Self::Root(_, root) => root.path.len() + MAX_REASON,
                Self::Put(key, Replica { content: Content::Unusable(what), .. }) => {
                    key.name.as_str().len() + what.detail.len()
                }
                Self::Put(key, _) | Self::Remove(key) => key.name.as_str().len(),
            }
    }
}

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
            Some(known) => self.digest.toggle(&hash_root(id, known)),
            None => {}
        }
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
                self.digest.toggle(&hash_replica(&key, known));
            }
            None => {}
        }
        self.images += usize::from(replica.is_image());
        self.replicas.insert(key, replica);
        self.digest.toggle(&hash);
        true
    }

    fn remove(&mut self, key: &ReplicaKey) -> bool {
        match self.replicas.remove(key) {
            Some(replica) => {
                self.images -= usize::from(replica.is_image());
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

/// Groups changes so that each group stays below `limit` bytes on the wire; order is kept.
#[must_use]
pub fn pack(changes: impl IntoIterator<Item = Change>, limit: usize) -> Vec<Vec<Change>> {
    let mut groups: Vec<Vec<Change>> = Vec::new();
    let mut weight = limit;
    for change in changes {
        let adds = change.weight();
        match groups.last_mut() {
            Some(group) if weight + adds <= limit => {
                weight += adds;
                group.push(change);
            }
            _ => {
                weight = adds;
                groups.push(vec![change]);
            }
        }
    }
    groups
}

/// Cuts an explanation to [`MAX_REASON`] bytes at a character boundary.
#[must_use]
pub fn reason(text: impl Into<String>) -> String {
    let mut text: String = text.into();
    if text.len() > MAX_REASON {
        text.truncate(text.floor_char_boundary(MAX_REASON - '…'.len_utf8()));
        text.push('…');
    }
    text
}

fn hash_root(id: RootId, root: &Root) -> blake3::Hash {
    let mut hasher = Fields::new(b'R');
    hasher.bytes(&[id.0, u8::from(root.library)]).bytes(root.path.as_bytes());
    match &root.state {
        RootState::Watched => hasher.bytes(b"w"),
        RootState::Degraded { reason } => hasher.bytes(b"d").bytes(reason.as_bytes()),
        RootState::Unknown { reason } => hasher.bytes(b"u").bytes(reason.as_bytes()),
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
    use super::*;
    use proptest::prelude::*;

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

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let cut = reason("한".repeat(200));
        assert!(cut.len() <= MAX_REASON && cut.ends_with('…'));
    }

    #[test]
    fn packed_groups_stay_below_the_limit_and_lose_nothing() {
        let changes: Vec<_> =
            (0..100).map(|n| Change::Put(key(&format!("image{n}.sif")), replica(n))).collect();
        let groups = pack(changes.clone(), 1_000);
        assert!(groups.iter().all(|group| group.iter().map(Change::weight).sum::<usize>() <= 1_000));
        assert_eq!(groups.concat(), changes);
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
