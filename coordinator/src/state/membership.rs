//! Which nodes belong to which partition: what every source said last, and how old that is.
//!
//! A source that does not answer keeps its last list; the list is called stale, never emptied. A partition's
//! nodes are the union over all sources.

use std::collections::{BTreeMap, BTreeSet};

use sifleet_common::api::events::EventKind;
use sifleet_common::api::partitions;
use sifleet_common::name::{NodeName, PartitionName};
use sifleet_common::time::{Now, UnixMillis};

use super::{Announcement, Effect, State};
use crate::store::{Op, RestoredMembers};

/// What all sources said.
#[derive(Debug, Default)]
pub(super) struct Membership {
    sources: BTreeMap<String, Source>,
}

#[derive(Debug)]
struct Source {
    members: BTreeMap<PartitionName, BTreeSet<NodeName>>,
    at: UnixMillis,
    /// Why it does not answer at present.
    failed: Option<String>,
}

impl Membership {
    /// Takes up what a source said before the restart; it is stale until heard again.
    pub(super) fn restore(&mut self, known: RestoredMembers) {
        let failed = Some("not heard since the coordinator started".to_owned());
        self.sources.insert(known.source, Source { members: known.members, at: known.at, failed });
    }

    pub(super) fn failed(&mut self, source: &str, reason: String) {
        if let Some(source) = self.sources.get_mut(source) {
            source.failed = Some(reason);
        }
    }

    /// Lists every partition with its nodes and where they come from.
    pub(super) fn merged(&self) -> BTreeMap<PartitionName, Merged> {
        let mut merged: BTreeMap<PartitionName, Merged> = BTreeMap::new();
        for (name, source) in &self.sources {
            for (partition, nodes) in &source.members {
                let entry = merged.entry(partition.clone()).or_default();
                entry.nodes.extend(nodes.iter().cloned());
                entry.sources.push(name.clone());
                entry.at = Some(entry.at.map_or(source.at, |at| at.min(source.at)));
                entry.failed.extend(source.failed.as_ref().map(|reason| format!("{name}: {reason}")));
            }
        }
        merged
    }
}

/// One partition over all sources.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) nodes: BTreeSet<NodeName>,
    sources: Vec<String>,
    at: Option<UnixMillis>,
    /// Sources that do not answer, with the reason.
    failed: Vec<String>,
}

impl Merged {
    pub(super) fn body(&self) -> partitions::Membership {
        partitions::Membership {
            source: self.sources.join("+"),
            as_of: self.at.unwrap_or_default().to_string(),
            stale: !self.failed.is_empty(),
            reason: (!self.failed.is_empty()).then(|| self.failed.join("; ")),
        }
    }
}

/// The source that stands for what agents declare for themselves.
pub(super) const AGENTS: &str = "agents";

impl State {
    pub(super) fn members(
        &mut self,
        source: &'static str,
        members: BTreeMap<PartitionName, BTreeSet<NodeName>>,
        now: Now,
    ) {
        let known = self.membership.sources.get(source);
        let changed = known.is_none_or(|known| known.members != members);
        let recovered = known.is_some_and(|known| known.failed.is_some());
        self.effects.push(Effect::Store(Op::PutMembers {
            source: source.to_owned(),
            at: now.wall,
            members: members.clone(),
        }));
        let heard = Source { members, at: now.wall, failed: None };
        self.membership.sources.insert(source.to_owned(), heard);
        if changed || recovered {
            self.effects.push(Effect::Announce(Announcement {
                kind: EventKind::PartitionChanged,
                node: None,
                image: None,
                digest: None,
                detail: Some(format!("partitions as told by {source}")),
            }));
        }
        self.rebuild_partitions();
    }

    /// Gathers what the agents declare for themselves.
    pub(super) fn declared_changed(&mut self, at: UnixMillis) {
        let mut members: BTreeMap<PartitionName, BTreeSet<NodeName>> = BTreeMap::new();
        for node in &self.nodes {
            for partition in node.facts.iter().flat_map(|facts| &facts.partitions) {
                members.entry(partition.clone()).or_default().insert(node.name.clone());
            }
        }
        self.membership.sources.insert(AGENTS.to_owned(), Source { members, at, failed: None });
        self.rebuild_partitions();
    }
}
