//! Answers what nodes there are, and what lies on one.

use std::collections::BTreeSet;

use sifleet_common::api::nodes::{NodeDetail, NodeList, NodeState, NodeSummary, ReplicaBody, RootBody};
use sifleet_common::epoch::Epoch;
use sifleet_common::inventory::{Content, Pending, Replica, ReplicaKey, Root, RootState};
use sifleet_common::name::NodeName;
use sifleet_common::nodeset::NodeSet;
use sifleet_common::time::Now;

use crate::state::skew;

use super::{NodeInfo, QueryError, Stats, View, shorten};

/// Most replicas one answer lists.
const MAX_LISTED: usize = 10_000;

impl View {
    /// Lists all nodes in natural order.
    #[must_use]
    pub fn nodes(&self, now: Now) -> NodeList {
        let busy = self.busy_nodes();
        let nodes = self
            .table
            .natural()
            .into_iter()
            .filter_map(|id| Some(self.node_summary((id, self.info(id)?), &busy, now)))
            .collect();
        NodeList { nodes, as_of: now.wall.to_string() }
    }

    /// Tells everything about one node.
    ///
    /// # Errors
    /// [`QueryError::UnknownNode`].
    pub fn node(&self, name: &str, now: Now) -> Result<NodeDetail, QueryError> {
        let found = self.nodes.iter().zip(0u32..).find(|(node, _)| node.name.as_str() == name);
        let Some((node, id)) = found else {
            return Err(QueryError::UnknownNode { name: shorten(name), candidates: Vec::new() });
        };
        let inventory = &node.inventory;
        Ok(NodeDetail {
            summary: self.node_summary((id, node), &self.busy_nodes(), now),
            roots: inventory.roots().map(|(_, root)| root_body(root)).collect(),
            replicas: inventory
                .replicas()
                .take(MAX_LISTED)
                .map(|(key, replica)| replica_body(key, inventory.root(key.root), replica))
                .collect(),
            truncated: inventory.len() > MAX_LISTED,
            generation: node.generation.0,
        })
    }

    /// Returns the newest epoch of a name.
    #[must_use]
    pub fn epoch(&self, name: &NodeName) -> Epoch {
        self.standings.get(name).map(|standing| standing.epoch).unwrap_or_default()
    }

    /// Reads who is busy out of what is shown of limits.
    fn busy_nodes(&self) -> BusyNodes {
        let names = |folded: &str| {
            let nodes: Option<NodeSet> = folded.parse().ok();
            nodes.map(NodeSet::into_names).unwrap_or_default().into_iter().collect()
        };
        BusyNodes { all: names(&self.limits.busy), marked: names(&self.limits.marked) }
    }

    fn node_summary(&self, (id, node): (u32, &NodeInfo), busy: &BusyNodes, now: Now) -> NodeSummary {
        let partitions = self.partitions.values().filter(|partition| partition.members.contains(id));
        NodeSummary {
            name: node.name.to_string(),
            state: self.node_state(id, node, now),
            degraded: node
                .degraded_roots
                .iter()
                .chain(&node.unknown_roots)
                .chain(&node.distrusted)
                .cloned()
                .chain(node.ahead.and_then(skew::describe))
                .collect(),
            epoch: node.standing.epoch.0,
            enrolled: node.standing.enrolled.map(|time| time.to_string()),
            revoked: node.standing.revoked.map(|time| time.to_string()),
            busy: busy.why(&node.name).map(str::to_owned),
            partitions: partitions.map(|partition| partition.name.to_string()).collect(),
            images: u32::try_from(node.inventory.images()).unwrap_or(u32::MAX),
            last_seen: node.last_seen.map(|time| time.to_string()),
            build: node.facts.as_ref().map(|facts| facts.build.clone()),
            arch: node.facts.as_ref().map(|facts| facts.arch.as_str().to_owned()),
        }
    }

    fn node_state(&self, id: u32, node: &NodeInfo, now: Now) -> NodeState {
        let leased = self.live.contains(id) && node.lease_until.is_some_and(|end| end > now.mono);
        match (leased, node.is_syncing(), &node.facts) {
            (true, _, _) => NodeState::Online,
            (false, true, _) => NodeState::Syncing,
            (false, false, Some(_)) => NodeState::Offline,
            (false, false, None) => NodeState::NeverSeen,
        }
    }

    /// Counts what there is.
    #[must_use]
    pub fn stats(&self, now: Now) -> Stats {
        let mut stats = Stats {
            names: u32::try_from(self.names.len()).unwrap_or(u32::MAX),
            digests: u32::try_from(self.digests.len()).unwrap_or(u32::MAX),
            partitions: u32::try_from(self.partitions.len()).unwrap_or(u32::MAX),
            stale_partitions: u32::try_from(
                self.partitions.values().filter(|one| one.membership.stale).count(),
            )
            .unwrap_or(u32::MAX),
            degraded: super::availability::count(&self.degraded),
            generation: self.generation,
            ..Stats::default()
        };
        for (node, id) in self.nodes.iter().zip(0u32..) {
            stats.replicas += node.inventory.len() as u64;
            match self.node_state(id, node, now) {
                NodeState::Online => stats.online += 1,
                NodeState::Syncing => stats.syncing += 1,
                NodeState::Offline => stats.offline += 1,
                NodeState::NeverSeen => stats.never_seen += 1,
            }
        }
        stats
    }
}

/// Nodes that are held to the limits of busy ones.
struct BusyNodes {
    all: BTreeSet<NodeName>,
    marked: BTreeSet<NodeName>,
}

impl BusyNodes {
    fn why(&self, node: &NodeName) -> Option<&'static str> {
        if self.marked.contains(node) {
            Some("somebody marked it as busy")
        } else if self.all.contains(node) {
            Some("Slurm runs jobs on it")
        } else {
            None
        }
    }
}

fn root_body(root: &Root) -> RootBody {
    let (state, reason) = match &root.state {
        RootState::Watched => ("watched", None),
        RootState::Degraded { reason } => ("degraded", Some(reason.clone())),
        RootState::Unknown { reason } => ("unknown", Some(reason.clone())),
        RootState::Partial { reason } => ("partial", Some(reason.clone())),
    };
    RootBody {
        path: root.path.clone(),
        state: state.to_owned(),
        reason,
        library: root.kind.is_library(),
        trusted: root.kind.is_trusted(),
    }
}

fn replica_body(key: &ReplicaKey, root: Option<&Root>, replica: &Replica) -> ReplicaBody {
    let known = root.is_some_and(|root| !matches!(root.state, RootState::Unknown { .. }));
    let (state, code, detail, digest) = match &replica.content {
        Content::Image(image) => ("ready", None, None, Some(image.digest.to_string())),
        Content::Pending(Pending::BeingWritten) => ("pending", Some("being_written"), None, None),
        Content::Pending(Pending::Hashing) => ("pending", Some("hashing"), None, None),
        Content::Unusable(what) => ("unusable", Some(what.code.as_str()), Some(what.detail.clone()), None),
    };
    ReplicaBody {
        name: key.name.to_string(),
        root: root.map(|root| root.path.clone()).unwrap_or_default(),
        state: if known { state } else { "last_known" }.to_owned(),
        code: code.map(str::to_owned),
        detail,
        digest,
        size: replica.size,
        modified: replica.modified.to_string(),
    }
}
