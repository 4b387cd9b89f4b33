//! Answers what limits there are on transfers.

use std::collections::BTreeSet;
use std::sync::Arc;

use sifleet_common::api::limits::LimitsBody;
use sifleet_common::name::NodeName;
use sifleet_common::time::Now;

use super::View;
use crate::store::limits::LimitSet;

/// Limits at one moment.
#[derive(Clone, Debug, Default)]
pub struct LimitsShown {
    /// What is set.
    pub set: LimitSet,
    /// Nodes that are busy, folded.
    pub busy: Arc<str>,
    /// Those of them that somebody marked, folded.
    pub marked: Arc<str>,
    /// Among how many nodes the total is divided.
    pub divided: u64,
    /// What each of them may fetch of it, in bytes a second.
    pub share: Option<u64>,
}

impl View {
    /// Tells names that nodes have from those that none has.
    pub(crate) fn told_apart(&self, names: Vec<NodeName>) -> (BTreeSet<NodeName>, Vec<NodeName>) {
        let known: BTreeSet<&NodeName> = self.nodes.iter().map(|node| &node.name).collect();
        let (some, others): (Vec<NodeName>, _) = names.into_iter().partition(|name| known.contains(name));
        (some.into_iter().collect(), others)
    }

    /// Tells all limits.
    #[must_use]
    pub fn limits(&self, now: Now) -> LimitsBody {
        let LimitsShown { set, busy, marked, divided, share } = &self.limits;
        LimitsBody {
            total: set.total,
            up: set.node.up,
            down: set.node.down,
            concurrent: set.node.concurrent,
            busy_up: set.busy.up,
            busy_down: set.busy.down,
            busy_concurrent: set.busy.concurrent,
            busy: busy.to_string(),
            marked: marked.to_string(),
            divided: u32::try_from(*divided).unwrap_or(u32::MAX),
            share: *share,
            as_of: now.wall.to_string(),
        }
    }
}
