//! How far a fetch is, for whoever reports it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sifleet_common::name::NodeName;
use sifleet_common::push::{FailCode, Fault, Phase};
use sifleet_common::wire::assignment::{AssignmentId, MAX_DETAIL, MAX_SOURCES, Moved, Progress};
use tokio::sync::Notify;
use tracing::debug;

/// Says why a fetch failed, in the words of a push.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Failure {
    /// The kind, for scripts.
    pub code: FailCode,
    /// What happened, for people.
    pub detail: String,
}

/// How far one fetch is; shared between the fetch and whoever reports it.
#[derive(Debug)]
pub struct Status {
    now: Mutex<Now>,
    /// Told when the phase changes, besides what a regular look finds.
    turned: Arc<Notify>,
}

#[derive(Debug)]
struct Now {
    phase: Phase,
    bytes: Moved,
    sources: BTreeMap<NodeName, u64>,
    dropped: Vec<(NodeName, Fault)>,
    failure: Option<Failure>,
    /// Whether anything changed since the last report.
    changed: bool,
}

impl Status {
    /// Begins to wait; `turned` hears of each phase.
    #[must_use]
    pub fn new(turned: Arc<Notify>) -> Self {
        let now = Now {
            phase: Phase::Waiting,
            bytes: Moved::default(),
            sources: BTreeMap::new(),
            dropped: Vec::new(),
            failure: None,
            changed: true,
        };
        Self { now: Mutex::new(now), turned }
    }

    /// Notes the phase.
    pub fn turn(&self, phase: Phase) {
        debug!(state = phase.name(), "a fetch goes on");
        self.note(|now| now.phase = phase);
        self.turned.notify_one();
    }

    /// Notes that it failed.
    pub fn fail(&self, failure: Failure) {
        self.note(|now| {
            now.phase = Phase::Failed;
            now.failure = Some(failure);
        });
        self.turned.notify_one();
    }

    /// Notes bytes.
    pub fn moved(&self, add: impl FnOnce(&mut Moved)) {
        self.note(|now| add(&mut now.bytes));
    }

    /// Notes bytes that a node gave.
    pub fn fetched(&self, from: &NodeName, new: u64, wasted: u64) {
        self.note(|now| {
            now.bytes.fetched += new;
            now.bytes.wasted += wasted;
            if new > 0 {
                *now.sources.entry(from.clone()).or_default() += new;
            }
        });
    }

    /// Notes that a node is left alone.
    pub fn dropped(&self, node: NodeName, fault: Fault) {
        self.note(|now| {
            if now.dropped.len() < MAX_SOURCES {
                now.dropped.push((node, fault));
            }
        });
    }

    /// Returns the phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.now().phase
    }

    /// Returns what to report; nothing if nothing changed, unless it is to be said in any case.
    pub fn report(&self, id: AssignmentId, in_any_case: bool) -> Option<Progress> {
        let mut now = self.now();
        if !std::mem::take(&mut now.changed) && !in_any_case {
            return None;
        }
        let mut sources: Vec<(NodeName, u64)> =
            now.sources.iter().map(|(node, bytes)| (node.clone(), *bytes)).collect();
        sources.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        sources.truncate(MAX_SOURCES);
        let failure = now.failure.as_ref().map(|failure| (failure.code, cut(&failure.detail)));
        let dropped = std::mem::take(&mut now.dropped);
        Some(Progress { id, phase: now.phase, bytes: now.bytes, sources, dropped, failure })
    }

    fn note(&self, change: impl FnOnce(&mut Now)) {
        let mut now = self.now();
        change(&mut now);
        now.changed = true;
    }

    /// Numbers are sound whatever panicked while they were held.
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cuts a text where the wire would refuse it.
pub(crate) fn cut(text: &str) -> String {
    let end = (0..=MAX_DETAIL.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_change_is_not_said_again() {
        let (status, id) = (Status::new(Arc::default()), AssignmentId(7));
        assert_eq!(status.report(id, false).unwrap().phase, Phase::Waiting);
        assert_eq!(status.report(id, false), None);
        status.fetched(&"viz001".parse().unwrap(), 10, 3);
        status.fetched(&"viz003".parse().unwrap(), 0, 0);
        status.dropped("viz002".parse().unwrap(), Fault::Poisoned);
        let said = status.report(id, false).unwrap();
        assert_eq!((said.bytes.fetched, said.bytes.wasted, said.dropped.len()), (10, 3, 1));
        assert_eq!(said.sources.len(), 1, "who gave nothing is no source");
        assert!(status.report(id, true).unwrap().dropped.is_empty(), "a culprit is named once");
    }

    #[test]
    fn a_long_explanation_is_cut_between_characters() {
        assert_eq!(cut(&"é".repeat(MAX_DETAIL)).len(), MAX_DETAIL);
        assert_eq!(cut(&format!("x{}", "é".repeat(MAX_DETAIL))).len(), MAX_DETAIL - 1);
        assert_eq!(cut("short"), "short");
    }
}
