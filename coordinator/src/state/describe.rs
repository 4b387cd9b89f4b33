//! What images say of themselves: each digest is asked of one holder, once in the cluster.

use std::collections::{BTreeMap, BTreeSet};

use sifleet_common::digest::Digest;
use sifleet_common::inventory::Content;
use sifleet_common::wire::control::{Described, ToAgent};

use super::index::NodeId;
use super::{Effect, SessionId, State, check};
use crate::store::Op;

/// Most questions under way at once; the rest wait. A cold start with 10,000 digests must not flood anybody.
const MAX_ASKED: usize = 64;
/// Most questions under way to one node: half of what an agent reads at once.
const MAX_ASKED_OF_ONE: usize = 4;

/// Which digests are described, asked for, or wait to be asked for.
#[derive(Debug, Default)]
pub(super) struct Describing {
    described: BTreeSet<Digest>,
    waiting: BTreeSet<Digest>,
    asked: BTreeMap<Digest, SessionId>,
    /// Sessions that had no answer for a digest; it is not asked of them again.
    unable: BTreeMap<Digest, BTreeSet<SessionId>>,
}

impl Describing {
    pub(super) fn new(described: BTreeSet<Digest>) -> Self {
        Self { described, ..Self::default() }
    }

    /// Notes that a digest was seen.
    pub(super) fn seen(&mut self, digest: Digest) {
        if !self.described.contains(&digest) && !self.asked.contains_key(&digest) {
            self.waiting.insert(digest);
        }
    }

    /// Puts back what was asked in a session that ended.
    pub(super) fn lost(&mut self, session: SessionId) {
        let unanswered: Vec<Digest> =
            self.asked.iter().filter(|(_, asked)| **asked == session).map(|(digest, _)| *digest).collect();
        for digest in unanswered {
            self.asked.remove(&digest);
            self.waiting.insert(digest);
        }
        self.unable.retain(|_, sessions| {
            sessions.remove(&session);
            !sessions.is_empty()
        });
    }

    /// Lets a session that reports a digest be asked of it again.
    pub(super) fn forgive(&mut self, digest: &Digest, session: SessionId) {
        if let Some(sessions) = self.unable.get_mut(digest) {
            sessions.remove(&session);
            if sessions.is_empty() {
                self.unable.remove(digest);
            }
        }
    }
}

impl State {
    /// Notes everything a node holds that nobody has described: it can be asked from here on.
    pub(super) fn describable(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get(id.index()) else { return };
        for (_, replica) in node.inventory.replicas() {
            if let Content::Image(image) = &replica.content {
                self.describing.seen(image.digest);
            }
        }
    }

    /// Takes the answer of the session that was asked, and of no other.
    pub(super) fn described(&mut self, id: NodeId, session: SessionId, described: Described) {
        if let Err(how) = check::described(&described) {
            self.breach(id, how);
            return;
        }
        let Described { digest, metadata, sidecar } = described;
        if self.describing.asked.get(&digest) != Some(&session) {
            return;
        }
        self.describing.asked.remove(&digest);
        match metadata {
            Some(metadata) => {
                self.describing.unable.remove(&digest);
                self.describing.described.insert(digest);
                let metadata = Box::new(metadata);
                self.effects.push(Effect::Store(Op::PutMetadata { digest, metadata, sidecar }));
            }
            // It does not have the image any longer, or cannot read it; others may.
            None => {
                self.describing.unable.entry(digest).or_default().insert(session);
                self.describing.waiting.insert(digest);
            }
        }
    }

    /// Asks holders of digests nobody has described, as many as may be under way.
    pub(super) fn ask_for_descriptions(&mut self) {
        if self.describing.waiting.is_empty() {
            return;
        }
        let mut busy: BTreeMap<SessionId, usize> = BTreeMap::new();
        for session in self.describing.asked.values() {
            *busy.entry(*session).or_default() += 1;
        }
        let mut postponed = Vec::new();
        while self.describing.asked.len() < MAX_ASKED && postponed.len() < MAX_ASKED {
            let Some(digest) = self.describing.waiting.pop_first() else { break };
            match self.holder(&digest) {
                // The next holder that comes online makes it wait again.
                None => {}
                Some(session) if busy.get(&session).is_some_and(|asked| *asked >= MAX_ASKED_OF_ONE) => {
                    postponed.push(digest);
                }
                Some(session) => {
                    *busy.entry(session).or_default() += 1;
                    self.describing.asked.insert(digest, session);
                    self.effects.push(Effect::Send(session, ToAgent::Describe { digest }));
                }
            }
        }
        self.describing.waiting.extend(postponed);
    }

    /// Finds a connected node that holds a digest and may have an answer.
    fn holder(&self, digest: &Digest) -> Option<SessionId> {
        let entry = self.index.digests().get(digest)?;
        let holders = entry.names.iter().filter_map(|name| self.index.names().get(name)).flat_map(|entry| {
            entry.ready.iter().filter(|(place, _)| place.digest == *digest).flat_map(|(_, nodes)| nodes)
        });
        holders
            .filter_map(|id| self.nodes.get(usize::try_from(id).ok()?)?.session.as_ref())
            .map(|session| session.id)
            .find(|session| {
                !self.describing.unable.get(digest).is_some_and(|unable| unable.contains(session))
            })
    }
}
