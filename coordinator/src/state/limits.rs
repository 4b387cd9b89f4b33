//! Limits on transfers: what is set, which nodes are busy, and what each agent is told of it.
//!
//! A node is held to the caps of nodes, a busy one to those of busy nodes too, and one that fetches to its share of the
//! total. The total is divided among those that fetch, for every byte that moves is fetched by exactly one node; what
//! gives need not be counted. [`divided`] decides among how many: those that fetch are counted once a second, and one
//! more that begins is counted at once, so that the shares never add up to more than the total but for as long as an
//! order is on its way.

mod terms;

use std::collections::BTreeSet;
use std::time::Duration;

use roaring::RoaringBitmap;
use sifleet_common::api::events::EventKind;
use sifleet_common::api::limits::LimitsChange;
use sifleet_common::name::NodeName;
use sifleet_common::time::{Monotonic, Now};
use sifleet_common::wire::assignment::{Order, Rates};
use sifleet_common::wire::control::ToAgent;

use super::index::NodeId;
use super::{Announcement, Effect, State};
use crate::store::Op;
use crate::store::limits::LimitSet;
use crate::view::limits::LimitsShown;
pub use terms::check;
use terms::{Look, allowed, changed, divided, share};

/// Nodes that are told in one turn: a few milliseconds of work.
const STEPS: usize = 256;
/// How often those that fetch are counted.
const COUNT: Duration = Duration::from_secs(1);

/// What can be asked about limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitCommand {
    /// Other limits.
    Change(LimitsChange),
    /// Nodes are busy, or are not any longer.
    Mark {
        /// Which nodes.
        nodes: BTreeSet<NodeName>,
        /// Whether they are.
        busy: bool,
    },
}

/// Everything known of limits.
#[derive(Debug, Default)]
pub(super) struct Limiting {
    set: LimitSet,
    /// Nodes that somebody marked as busy.
    marked: BTreeSet<NodeName>,
    /// Nodes on which Slurm runs jobs.
    running: BTreeSet<NodeName>,
    /// Nodes that fetch, or did when they were last counted.
    fetching: RoaringBitmap,
    /// How many there were when they were last counted.
    counted: u64,
    /// Among how many of them the total is divided.
    divided: u64,
    /// When they are counted next.
    count_at: Monotonic,
    /// Nodes to be told what they may do.
    unsaid: BTreeSet<NodeId>,
    shown: LimitsShown,
    changed: bool,
}

impl Limiting {
    /// Takes up what was set and marked before the restart.
    pub(super) fn restore(set: LimitSet, marked: BTreeSet<NodeName>) -> Self {
        Self { set, marked, changed: true, ..Self::default() }
    }

    /// Tells when there is something to do.
    pub(super) fn next_turn(&self) -> Option<Monotonic> {
        if !self.unsaid.is_empty() {
            return Some(Monotonic::default());
        }
        (self.set.total.is_some() && !self.fetching.is_empty()).then_some(self.count_at)
    }

    fn is_busy(&self, node: &NodeName) -> bool {
        self.marked.contains(node) || self.running.contains(node)
    }

    fn share(&self) -> Option<u64> {
        self.set.total.map(|total| share(total, self.divided))
    }
}

impl State {
    /// Takes in what somebody asks of limits.
    pub fn limit(&mut self, command: LimitCommand, now: Now) -> Vec<Effect> {
        match command {
            LimitCommand::Change(change) => {
                let set = changed(self.limiting.set, &change);
                if set != self.limiting.set {
                    self.limiting.set = set;
                    self.effects.push(Effect::Store(Op::PutLimits { set }));
                    self.count_fetching();
                    self.tell_all_limits();
                    self.announce_limits("limits of transfers are others".to_owned());
                }
            }
            LimitCommand::Mark { nodes, busy } => self.mark_busy(nodes, busy),
        }
        self.turn_limits(now);
        std::mem::take(&mut self.effects)
    }

    fn mark_busy(&mut self, nodes: BTreeSet<NodeName>, busy: bool) {
        let marked = &mut self.limiting.marked;
        let nodes: BTreeSet<NodeName> =
            nodes.into_iter().filter(|node| marked.contains(node) != busy).collect();
        if nodes.is_empty() {
            return;
        }
        if busy {
            marked.extend(nodes.iter().cloned());
        } else {
            marked.retain(|node| !nodes.contains(node));
        }
        let word = if busy { "marked as busy" } else { "no longer marked as busy" };
        let names = sifleet_common::nodeset::fold(nodes.iter().map(NodeName::as_str));
        self.announce_limits(format!("{names}: {word}"));
        self.tell_limits(&nodes);
        self.effects.push(Effect::Store(Op::MarkBusy { nodes, busy }));
    }

    /// Takes in on which nodes Slurm runs jobs.
    pub(super) fn jobs_run_on(&mut self, nodes: BTreeSet<NodeName>) {
        let before = std::mem::replace(&mut self.limiting.running, nodes);
        let others: BTreeSet<NodeName> =
            before.symmetric_difference(&self.limiting.running).cloned().collect();
        self.tell_limits(&others);
    }

    fn tell_limits(&mut self, nodes: &BTreeSet<NodeName>) {
        self.limiting.changed = true;
        self.limiting.unsaid.extend(nodes.iter().filter_map(|node| self.by_name.get(node).copied()));
    }

    fn tell_all_limits(&mut self) {
        self.limiting.changed = true;
        self.limiting.unsaid.extend(self.sessions.values().copied());
    }

    /// Notes that a node begins to fetch, and holds it to its share before it does.
    pub(super) fn fetch_begins(&mut self, id: NodeId) {
        if self.limiting.set.total.is_none() {
            return;
        }
        self.limiting.fetching.insert(id.0);
        self.divide(Look::Begins);
        self.say_limits(id);
    }

    /// Tells a node that connects what it may do. One that has something to fetch may be at it, whoever told it to.
    pub(super) fn say_first_limits(&mut self, id: NodeId) {
        if self.has_shares(id) {
            self.fetch_begins(id);
        }
        self.say_limits(id);
    }

    /// Counts the nodes that have something to fetch.
    fn count_fetching(&mut self) {
        self.limiting.fetching = match self.limiting.set.total {
            Some(_) => self.fetching_nodes(),
            None => RoaringBitmap::new(),
        };
        let count = self.limiting.fetching.len();
        let before = std::mem::replace(&mut self.limiting.counted, count);
        self.divide(if before == count { Look::Steady } else { Look::Counted });
    }

    fn divide(&mut self, look: Look) {
        let limiting = &mut self.limiting;
        let among = divided(limiting.divided, limiting.fetching.len(), look);
        if among != limiting.divided {
            limiting.divided = among;
            limiting.changed = true;
            limiting.unsaid.extend(limiting.fetching.iter().map(NodeId));
        }
    }

    /// Does what there is to do, a bounded number of steps.
    pub(super) fn turn_limits(&mut self, now: Now) {
        if self.limiting.next_turn().is_none() {
            return;
        }
        if now.mono >= self.limiting.count_at {
            self.limiting.count_at = now.mono.after(COUNT);
            self.count_fetching();
        }
        for _ in 0..STEPS {
            let Some(id) = self.limiting.unsaid.pop_first() else { break };
            self.say_limits(id);
        }
    }

    /// Tells a node what it may do, unless it was told so in this session.
    pub(super) fn say_limits(&mut self, id: NodeId) {
        let fetches = self.limiting.fetching.contains(id.0);
        let share = self.limiting.share().filter(|_| fetches);
        let Some(node) = self.nodes.get_mut(id.index()) else { return };
        let caps = allowed(&self.limiting.set, self.limiting.is_busy(&node.name), share);
        let Some(session) = node.session.as_mut() else { return };
        let told = std::mem::replace(&mut session.told, caps);
        let mut say = |order| self.effects.push(Effect::Send(session.id, ToAgent::Order(Box::new(order))));
        if (told.up, told.down) != (caps.up, caps.down) || !session.limited {
            say(Order::Rates(Rates { up: caps.up, down: caps.down }));
        }
        if told.concurrent != caps.concurrent || !session.limited {
            say(Order::Concurrent { fetches: caps.concurrent });
        }
        session.limited = true;
    }

    /// Returns the steps that make limits durable, whatever was written before.
    #[must_use]
    pub fn whole_limits(&self) -> Vec<Op> {
        let marked = &self.limiting.marked;
        let others = self.by_name.keys().filter(|node| !marked.contains(*node)).cloned().collect();
        vec![
            Op::PutLimits { set: self.limiting.set },
            Op::MarkBusy { nodes: marked.clone(), busy: true },
            Op::MarkBusy { nodes: others, busy: false },
        ]
    }

    /// Returns what the view shows of limits; cheap if nothing changed.
    pub(in crate::state) fn show_limits(&mut self) -> LimitsShown {
        let limiting = &mut self.limiting;
        if std::mem::take(&mut limiting.changed) {
            let fold = |nodes: &BTreeSet<NodeName>| {
                sifleet_common::nodeset::fold(nodes.iter().map(NodeName::as_str)).into()
            };
            let busy: BTreeSet<NodeName> = limiting.marked.union(&limiting.running).cloned().collect();
            limiting.shown = LimitsShown {
                set: limiting.set,
                busy: fold(&busy),
                marked: fold(&limiting.marked),
                divided: if limiting.set.total.is_some() { limiting.divided } else { 0 },
                share: limiting.share(),
            };
        }
        limiting.shown.clone()
    }

    fn announce_limits(&mut self, detail: String) {
        self.effects.push(Effect::Announce(Announcement {
            kind: EventKind::LimitsChanged,
            node: None,
            image: None,
            digest: None,
            detail: Some(detail),
        }));
    }
}
