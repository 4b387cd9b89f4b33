//! Says why nodes are outdated, missing or unknown, what was last known of them, and whose watching is impaired.
//!
//! Reasons are given after the fact: who gets which answer is decided in [`super::availability`] alone.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use sifleet_common::api::availability::{Degraded, Reason};
use sifleet_common::availability::NodeAnswer;
use sifleet_common::inventory::{Pending, UnusableCode};

use super::View;
use super::availability::{MAX_GROUPS, Split, count};
use super::resolve::Target;

impl View {
    pub(super) fn reasons(&self, target: &Target, split: &Split<'_>, live: &RoaringBitmap) -> Vec<Reason> {
        let mut reasons = Reasons { view: self, bodies: Vec::new() };
        self.explain_unleased(target, &(&split.unknown - live), &mut reasons);
        let mut unsure = &split.unknown & live;
        for entry in self.entries(target) {
            for (why, nodes) in &entry.pending {
                let (code, message) = match why {
                    Pending::BeingWritten => ("being_written", "the file is being written"),
                    Pending::Hashing => ("hashing", "the file is being hashed"),
                };
                let nodes = nodes & &unsure;
                unsure -= &nodes;
                reasons.push(NodeAnswer::Unknown, code, message, &nodes);
            }
        }
        for entry in self.entries(target) {
            for (detail, nodes) in entry.unreadable() {
                let nodes = nodes & &unsure;
                unsure -= &nodes;
                reasons.push(NodeAnswer::Unknown, UnusableCode::Unreadable.as_str(), detail, &nodes);
            }
        }
        let text = "what the library expects is not known";
        reasons.push(NodeAnswer::Unknown, "library_unknown", text, &split.unjudged);
        unsure -= &split.unjudged;
        self.explain_roots(&unsure, &mut reasons);
        reasons.push(NodeAnswer::Outdated, "outdated", "another image lies under this name", &split.outdated);
        let mut absent = split.missing.clone();
        for entry in self.entries(target) {
            for ((code, detail), nodes) in &entry.unusable {
                let nodes = nodes & &absent;
                absent -= &nodes;
                reasons.push(NodeAnswer::Missing, code.as_str(), detail, &nodes);
            }
        }
        reasons.push(NodeAnswer::Missing, "absent", "no root of the node holds it", &absent);
        reasons.bodies
    }

    /// Tells why nodes without a lease are unknown, and what was last known of them.
    fn explain_unleased(&self, target: &Target, nodes: &RoaringBitmap, reasons: &mut Reasons<'_>) {
        if nodes.is_empty() {
            return;
        }
        let mut held = RoaringBitmap::new();
        for entry in self.entries(target) {
            for (place, holders) in &entry.ready {
                if target.digest.is_none_or(|digest| digest == place.digest) {
                    held |= holders;
                }
            }
        }
        let syncs = |id: &u32| self.info(*id).is_some_and(|node| node.is_syncing());
        let spoke = |id: &u32| self.info(*id).is_some_and(|node| node.facts.is_some());
        let syncing: RoaringBitmap = nodes.iter().filter(syncs).collect();
        let silent: RoaringBitmap = nodes.iter().filter(|id| !syncs(id) && !spoke(id)).collect();
        let expired = nodes - &syncing - &silent;
        let unknown = NodeAnswer::Unknown;
        reasons.push(unknown, "syncing", "its inventory is on the way", &syncing);
        reasons.push(unknown, "never_seen", "no agent of that name ever spoke", &silent);
        for (was, nodes) in [("held it", &expired & &held), ("did not hold it", &expired - &held)] {
            let last = nodes.iter().filter_map(|id| self.info(id)?.last_seen).min();
            let when = last.map_or_else(|| "some time ago".to_owned(), |time| time.to_string());
            let message = format!("its lease expired; when last heard of, {when} or later, it {was}");
            reasons.push(unknown, "lease_expired", &message, &nodes);
        }
    }

    fn explain_roots(&self, nodes: &RoaringBitmap, reasons: &mut Reasons<'_>) {
        let mut groups: BTreeMap<String, RoaringBitmap> = BTreeMap::new();
        for id in nodes {
            if let Some(node) = self.info(id) {
                groups.entry(node.unknown_roots.join("; ")).or_default().insert(id);
            }
        }
        for (text, nodes) in &groups {
            reasons.push(NodeAnswer::Unknown, "root_unknown", text, nodes);
        }
    }

    pub(super) fn impaired(&self, nodes: &RoaringBitmap) -> Vec<Degraded> {
        let mut groups: BTreeMap<String, RoaringBitmap> = BTreeMap::new();
        for id in nodes {
            let Some(node) = self.info(id) else { continue };
            for text in node.degraded_roots.iter().chain(&node.unknown_roots) {
                groups.entry(text.clone()).or_default().insert(id);
            }
        }
        let body = |(reason, nodes): (String, RoaringBitmap)| Degraded { reason, nodes: self.fold(&nodes) };
        groups.into_iter().take(MAX_GROUPS).map(body).collect()
    }
}

struct Reasons<'a> {
    view: &'a View,
    bodies: Vec<Reason>,
}

impl Reasons<'_> {
    fn push(&mut self, answer: NodeAnswer, code: &str, message: &str, nodes: &RoaringBitmap) {
        if nodes.is_empty() || self.bodies.len() >= MAX_GROUPS {
            return;
        }
        self.bodies.push(Reason {
            answer,
            code: code.to_owned(),
            message: message.to_owned(),
            count: count(nodes),
            nodes: self.view.fold(nodes),
        });
    }
}
