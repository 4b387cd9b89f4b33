//! What the database should know, kept in memory, and steps of every kind to compare the two with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sifleet_common::chunk::MapDigest;
use sifleet_common::digest::Digest;
use sifleet_common::image::{Arch, Format, ImageMetadata};
use sifleet_common::inventory::{
    Change, Content, Image, Inventory, Pending, Replica, ReplicaKey, Root, RootId, RootKind, RootState,
    Unusable, UnusableCode,
};
use sifleet_common::name::{ImageName, NodeName, PartitionName};
use sifleet_common::removal::{RemovalCode, RemovalPhase};
use sifleet_common::time::UnixMillis;
use sifleet_common::wire::control::StreamId;
use sifleet_coordinator::store::identity::{Invite, InviteNo, Standing};
use sifleet_coordinator::store::limits::{Caps, LimitSet};
use sifleet_coordinator::store::push::{Key, PushNo, RestoredPush};
use sifleet_coordinator::store::registry::RegistryRecord;
use sifleet_coordinator::store::removal::{RemovalNo, RemovalPart, RemovalRecord, RestoredRemoval};
use sifleet_coordinator::store::template::{TemplateId, TemplateRecord};
use sifleet_coordinator::store::token::{TokenNo, TokenRecord};
use sifleet_coordinator::store::{NodeFacts, Op, Position, Restored, RestoredMembers, RestoredNode};

use crate::identities::{identity, registry, template, token};
use crate::wishes::{change_push, put_push};

/// What the database should know.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) nodes: BTreeMap<NodeName, (NodeFacts, Position, Inventory)>,
    pub(crate) members: BTreeMap<String, (UnixMillis, BTreeMap<PartitionName, BTreeSet<NodeName>>)>,
    pub(crate) metadata: BTreeMap<Digest, (ImageMetadata, Option<String>)>,
    pub(crate) heard_of: Vec<ImageName>,
    pub(crate) pushes: BTreeMap<PushNo, RestoredPush>,
    pub(crate) maps: BTreeMap<Digest, MapDigest>,
    pub(crate) removals: BTreeMap<RemovalNo, RestoredRemoval>,
    pub(crate) limits: LimitSet,
    pub(crate) busy: BTreeSet<NodeName>,
    pub(crate) standings: BTreeMap<NodeName, Standing>,
    pub(crate) invites: BTreeMap<InviteNo, Invite>,
    pub(crate) tokens: BTreeMap<TokenNo, TokenRecord>,
    pub(crate) templates: BTreeMap<TemplateId, TemplateRecord>,
    pub(crate) registries: BTreeMap<String, RegistryRecord>,
}

impl Model {
    pub(crate) fn apply(&mut self, op: Op) {
        match op {
            Op::PutNode { node, facts } => self.node(node).0 = facts,
            Op::Advance { node, position, changes } => {
                let (_, at, inventory) = self.node(node);
                *at = position;
                apply_all(inventory, changes);
            }
            Op::Replace { node, position, changes } => {
                let (_, at, inventory) = self.node(node);
                *at = position;
                *inventory = Inventory::default();
                apply_all(inventory, changes);
            }
            Op::PutMetadata { digest, metadata, sidecar } => {
                self.metadata.insert(digest, (*metadata, sidecar));
            }
            Op::PutMembers { source, at, members } => {
                self.members.insert(source, (at, members));
            }
            Op::HeardOf { name } => {
                if !self.heard_of.contains(&name) {
                    self.heard_of.push(name);
                }
            }
            op @ (Op::PutPush { .. }
            | Op::JoinPush { .. }
            | Op::ChangePush { .. }
            | Op::PutOutcomes { .. }
            | Op::ForgetPushes { .. }) => self.push(op),
            Op::ForgetMap { image } => drop(self.maps.remove(&image)),
            Op::PutMap { image, map } => drop(self.maps.insert(image, map)),
            Op::PutRemoval { record, nodes } => {
                let nodes = nodes.into_iter().map(|node| (node, None)).collect();
                self.removals.insert(record.no, RestoredRemoval { record: (*record).clone(), nodes });
            }
            Op::ChangeRemoval { record } => {
                self.removals.entry(record.no).and_modify(|known| known.record = (*record).clone());
            }
            Op::PutRemoved { removal, nodes } => self.removed(removal, &nodes),
            Op::ForgetRemovals { removals } => removals.iter().for_each(|no| drop(self.removals.remove(no))),
            Op::PutLimits { set } => self.limits = set,
            Op::MarkBusy { nodes, busy: true } => self.busy.extend(nodes),
            op @ (Op::PutStanding { .. }
            | Op::PutInvites { .. }
            | Op::ReplaceInvites { .. }
            | Op::ForgetInvites { .. }) => self.identity(op),
            Op::PutRegistry { record } => drop(self.registries.insert(record.id.clone(), *record)),
            Op::ForgetRegistry { id } => drop(self.registries.remove(&id)),
            op @ (Op::PutToken { .. }
            | Op::TouchTokens { .. }
            | Op::ForgetTokens { .. }
            | Op::PutTemplate { .. }
            | Op::ForgetTemplate { .. }) => self.caller(op),
            Op::MarkBusy { nodes, busy: false } => self.busy.retain(|node| !nodes.contains(node)),
            Op::PutAudit { .. } | Op::PruneAudit { .. } | Op::Oci(_) => {}
        }
    }

    fn removed(&mut self, removal: RemovalNo, nodes: &[(NodeName, RemovalPart)]) {
        for (node, part) in nodes {
            let known = self.removals.get_mut(&removal).into_iter().flat_map(|known| &mut known.nodes);
            known.filter(|(name, _)| name == node).for_each(|(_, known)| *known = Some(part.clone()));
        }
    }

    fn node(&mut self, node: NodeName) -> &mut (NodeFacts, Position, Inventory) {
        let facts = NodeFacts {
            build: String::new(),
            arch: Arch::Unknown,
            partitions: vec![],
            last_seen: UnixMillis(0),
        };
        self.nodes.entry(node).or_insert((facts, Position::default(), Inventory::default()))
    }

    /// Makes the step that leads to this node's inventory with the changes applied.
    pub(crate) fn advance(&self, node: &NodeName, changes: Vec<Change>) -> Op {
        let (_, at, inventory) = self.clone().node(node.clone()).clone();
        let position = step(at, inventory, &changes);
        Op::Advance { node: node.clone(), position, changes }
    }

    pub(crate) fn restored(&self) -> Restored {
        let node = |(node, (facts, position, inventory)): (&NodeName, &(NodeFacts, Position, Inventory))| {
            RestoredNode {
                node: node.clone(),
                facts: facts.clone(),
                position: *position,
                changes: inventory.as_changes().collect(),
            }
        };
        let members = |(source, (at, members)): (&String, &(UnixMillis, _))| RestoredMembers {
            source: source.clone(),
            at: *at,
            members: BTreeMap::clone(members),
        };
        Restored {
            nodes: self.nodes.iter().map(node).collect(),
            members: self.members.iter().map(members).collect(),
            described: self.metadata.keys().copied().collect(),
            heard_of: self.heard_of.clone(),
            pushes: self.pushes.values().cloned().collect(),
            removals: self.removals.values().cloned().collect(),
            maps: self.maps.clone(),
            limits: self.limits,
            busy: self.busy.clone(),
            standings: self.standings.iter().map(|(node, standing)| (node.clone(), *standing)).collect(),
            invites: self.invites.values().cloned().collect(),
            tokens: self.tokens.values().cloned().collect(),
            templates: self.templates.values().cloned().collect(),
            registries: self.registries.values().cloned().collect(),
        }
    }
}

pub(crate) fn apply_all(inventory: &mut Inventory, changes: Vec<Change>) {
    for change in changes {
        inventory.apply(change);
    }
}

pub(crate) fn step(at: Position, mut inventory: Inventory, changes: &[Change]) -> Position {
    apply_all(&mut inventory, changes.to_vec());
    Position { stream: StreamId(u64::MAX - 3), generation: at.generation.next(), digest: inventory.digest() }
}

pub(crate) fn replaced(changes: Vec<Change>, node: NodeName) -> Op {
    Op::Replace { node, position: step(Position::default(), Inventory::default(), &changes), changes }
}

pub(crate) fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: impl AsRef<str>) -> T {
    text.as_ref().parse().unwrap()
}

pub(crate) fn key(image: u8) -> ReplicaKey {
    ReplicaKey { root: RootId(image % 2), name: name(format!("compute/image {image} é.sif")) }
}

pub(crate) fn digest(n: u8) -> Digest {
    Digest::from(blake3::hash(&[n]))
}

/// Some replica of each kind.
pub(crate) fn replica(kind: u8) -> Replica {
    let content = match kind % 4 {
        0 => Content::Pending(Pending::BeingWritten),
        1 => Content::Pending(Pending::Hashing),
        2 => Content::Image(Image {
            digest: digest(kind),
            format: Format::Ext3,
            arch: Arch::I386,
            mutable: kind > 9,
        }),
        _ => {
            Content::Unusable(Unusable { code: UnusableCode::NothingToRun, detail: "no system in it".into() })
        }
    };
    Replica { size: u64::MAX - u64::from(kind), modified: UnixMillis(-5), content }
}

pub(crate) fn root(kind: u8) -> Root {
    let reason = "no permission".to_owned();
    let state = match kind % 3 {
        0 => RootState::Watched,
        1 => RootState::Degraded { reason },
        _ => RootState::Unknown { reason },
    };
    let path = format!("/opt/{kind}");
    let kind = match kind {
        0..=2 => RootKind::Plain,
        3..=99 => RootKind::Library,
        _ => RootKind::Untrusted,
    };
    Root { path, kind, state }
}

pub(crate) fn change(kind: u8, image: u8) -> Change {
    match kind % 8 {
        0 => Change::Root(RootId(image % 3), root(kind)),
        1..6 => Change::Put(key(image), replica(kind)),
        _ => Change::Remove(key(image)),
    }
}

pub(crate) fn op(model: &Model, (what, node, a, b): (u8, u8, u8, u8)) -> Op {
    let node: NodeName = name(format!("node{}", node % 4));
    match what % 28 {
        0..5 => model.advance(&node, vec![change(a, b), change(b, a)]),
        5 | 6 => replaced((0..b % 8).map(|n| change(a.wrapping_add(n), n)).collect(), node),
        7 => Op::PutNode { node, facts: facts(a) },
        8 => Op::PutMetadata {
            digest: digest(a),
            metadata: Box::new(ImageMetadata {
                help: Some("help".into()),
                ..ImageMetadata::bare(Format::Sif, 7)
            }),
            sidecar: (b > 99).then(|| "{}".into()),
        },
        9 => Op::HeardOf { name: key(a % 9).name },
        12 => put_push(model, a, b),
        13 => change_push(model, a, b),
        14 if b < 60 => Op::ForgetMap { image: digest(a) },
        14 => Op::PutMap { image: digest(a), map: MapDigest::from_bytes([b; 32]) },
        15 => Op::ForgetPushes { pushes: vec![PushNo(u64::from(a % 4)), PushNo(77)] },
        16 => put_removal(model, a, b),
        17 if b > 230 => Op::ForgetRemovals { removals: vec![RemovalNo(u64::from(a % 4)), RemovalNo(77)] },
        17 => end_removal(model, a, b),
        18 => Op::PutLimits { set: limits(a, b) },
        19 => Op::MarkBusy { nodes: [node, name("stranger")].into(), busy: b > 99 },
        20 if b > 200 => Op::ForgetTokens { tokens: vec![TokenNo(u64::from(a % 4)), TokenNo(77)] },
        20 => Op::TouchTokens { used: vec![(TokenNo(u64::from(a % 4)), UnixMillis(b.into()))] },
        21 => Op::PutToken { record: Box::new(token(a, b)) },
        22..=24 => identity(what % 28, node, a, b),
        25 if b > 170 => Op::ForgetTemplate { id: name(format!("t{}", a % 4)) },
        25 => Op::PutTemplate { record: Box::new(template(a, b)) },
        26 if b > 200 => Op::ForgetRegistry { id: format!("registry-{}", a % 4) },
        26 => Op::PutRegistry { record: Box::new(registry(a, b)) },
        _ => Op::PutMembers { source: "slurm".into(), at: UnixMillis(b.into()), members: members(a) },
    }
}

/// A push that differs from the others of its number only in what may change.
fn put_removal(model: &Model, a: u8, b: u8) -> Op {
    let no = a % 4;
    let full = no.is_multiple_of(2);
    let record = Arc::new(RemovalRecord {
        no: RemovalNo(u64::from(no)),
        image: key(no).name,
        digest: digest(no),
        size: u64::MAX - 1,
        root: full.then(|| "/opt/apptainers".into()),
        force: full,
        when_idle: !full,
        created: UnixMillis(1),
        ended: (b > 99).then_some(UnixMillis(b.into())),
        deadline: UnixMillis(1_001),
        patience_ms: 1_000,
        cancelled: b.is_multiple_of(3),
        key: full.then(|| Key { text: format!("key {no}"), body: digest(9) }),
    });
    // A removal is asked for once.
    if model.removals.contains_key(&record.no) {
        return Op::ChangeRemoval { record };
    }
    Op::PutRemoval { record, nodes: ["n2", "n10", "n1"].into_iter().map(name).collect() }
}

fn end_removal(model: &Model, a: u8, b: u8) -> Op {
    let removal = RemovalNo(u64::from(a % 4));
    if !model.removals.contains_key(&removal) {
        return put_removal(model, a, b);
    }
    let busy = b.is_multiple_of(2);
    let part = RemovalPart {
        phase: if busy { RemovalPhase::Failed } else { RemovalPhase::Done },
        code: busy.then_some(RemovalCode::Busy),
        message: busy.then(|| "it is open".into()),
        files: u32::from(!busy),
    };
    Op::PutRemoved { removal, nodes: vec![(name("n10"), part.clone()), (name("stranger"), part)] }
}

fn limits(a: u8, b: u8) -> LimitSet {
    let rate = |n: u8| n.is_multiple_of(2).then_some(u64::MAX - u64::from(n));
    let caps = |n: u8| Caps { up: rate(n), down: rate(n / 2), concurrent: (n > 9).then_some(n.into()) };
    LimitSet { total: rate(a), node: caps(a), busy: caps(b) }
}

pub(crate) fn facts(n: u8) -> NodeFacts {
    let partitions = if n.is_multiple_of(2) { vec![] } else { vec![name("viz"), name("gpu+a@b")] };
    NodeFacts { build: format!("0.{n}"), arch: Arch::Amd64, partitions, last_seen: UnixMillis(n.into()) }
}

pub(crate) fn members(n: u8) -> BTreeMap<PartitionName, BTreeSet<NodeName>> {
    let nodes = (0..n % 4).map(|node| name(format!("viz{node}"))).collect();
    BTreeMap::from([(name("viz"), nodes), (name("empty"), BTreeSet::new())])
}

/// One of everything, as the fixtures hold it.
pub(crate) fn everything() -> Model {
    let mut model = Model::default();
    for n in 0..16 {
        for what in [0, 7, 8, 9, 10] {
            let op = op(&model, (what, n, n, n));
            model.apply(op);
        }
    }
    model
}
