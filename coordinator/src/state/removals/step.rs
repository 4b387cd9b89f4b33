//! What is done next for one node of a removal: decided by looking, then done. Looking again changes nothing.

use std::sync::Arc;
use std::time::Duration;

use sifleet_common::inventory::{Content, Inventory, ReplicaKey, RootId, RootState};
use sifleet_common::removal::{RemovalCode, RemovalPhase};
use sifleet_common::time::{Monotonic, Now};
use sifleet_common::wire::assignment::REMOVAL_GIVEN_UP as GIVEN_UP;

use super::rule::{Holdings, Leaving};
use super::{Ordered, Part, Place, Removing, State};
use crate::state::index::NodeId;
use crate::store::removal::RemovalRecord;

/// So long an agent may take before it is told again.
pub(super) const SILENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether others that hold the image are back.
const LOOK: Duration = Duration::from_secs(10);

/// Why a node does not go on.
type Why = Option<(Option<RemovalCode>, Arc<str>)>;

/// What is done next.
pub(super) enum Step {
    /// It has come to an end.
    End(RemovalPhase, Why),
    /// Nothing, until something changes or that time comes.
    Wait(RemovalPhase, Why, Option<Monotonic>),
    /// The agent is told to remove the file below this root.
    Order(RootId, Arc<str>),
}

/// What a node's inventory shows of the image.
enum Found {
    /// It is there.
    There(RootId, Arc<str>),
    /// Nobody knows at present, in words.
    Open(Arc<str>),
    /// It is in a library, and nowhere else that is meant.
    InLibrary,
    /// It is not there.
    Nowhere,
}

impl State {
    /// Looks at a node of a removal and does what is next.
    pub(super) fn step_removal(&mut self, place: Place, now: Now) {
        let Some((removing, part)) = self.part(place) else { return };
        if part.stands.phase.is_end() {
            return;
        }
        let may_happen = part.ordered.as_ref().and_then(|ordered| ordered.may_happen(now));
        match (self.next_step(removing, part, now), may_happen) {
            // Others must not count on a replica that may go in a moment.
            (Step::End(phase, _), Some(until)) if phase != RemovalPhase::Done => {
                self.set_part_due(place, Some(until));
            }
            (Step::End(phase, why), _) => self.end_part(place, phase, why, now),
            (Step::Wait(phase, why, due), _) => {
                self.set_part_due(place, due);
                self.turn_part(place, phase, why, now);
            }
            (Step::Order(root, path), _) => self.order_removal(place, (root, path), now),
        }
    }

    fn next_step(&self, removing: &Removing, part: &Part, now: Now) -> Step {
        let record = &removing.record;
        let stop = stop(removing, part);
        let Some(node) = self.node(part.node).filter(|_| self.is_live(part.node)) else {
            let why = (None, "the node is away; it goes on when it is back".into());
            return stop.unwrap_or(Step::Wait(RemovalPhase::Deferred, Some(why), None));
        };
        let (id, root) = match find(&node.inventory, record) {
            Found::Nowhere => return Step::End(RemovalPhase::Done, None),
            // What was to go is gone, and the library's is another one.
            Found::InLibrary if part.ordered.is_some() && record.root.is_none() => {
                return Step::End(RemovalPhase::Done, None);
            }
            Found::InLibrary => return fail(RemovalCode::Library, "its library is not removed from"),
            Found::Open(words) => {
                return stop.unwrap_or(Step::Wait(RemovalPhase::Waiting, Some((None, words)), None));
            }
            Found::There(id, root) => (id, root),
        };
        let ordered = part.ordered.as_ref().filter(|ordered| ordered.root == root);
        if let Some(step) = ordered.and_then(|ordered| under_way(ordered, now)) {
            return step;
        }
        if let Some(stop) = stop {
            return stop;
        }
        if let Some(due) =
            part.due.filter(|due| *due > now.mono && part.stands.code == Some(RemovalCode::Busy))
        {
            return Step::Wait(part.stands.phase, why_of(part), Some(due));
        }
        if self.is_being_pushed(part.node, record.digest) {
            return fail(RemovalCode::BeingPushed, "a push is bringing the same image to the node");
        }
        match (&node.session, node.gives) {
            // It will be back, or be away, in a moment.
            (None, _) => return Step::Wait(RemovalPhase::Waiting, None, Some(now.mono.after(LOOK))),
            (Some(_), None) => return fail(RemovalCode::Refused, "its agent takes no orders about images"),
            (Some(_), Some(_)) => {}
        }
        let forbidden = if record.force { None } else { self.would_be_last(record, (part.node, &root), now) };
        forbidden.unwrap_or(Step::Order(id, root))
    }

    /// Tells whether no other ready replica would be left: then it waits for those that are away, or ends.
    fn would_be_last(
        &self,
        record: &RemovalRecord,
        (node, root): (NodeId, &Arc<str>),
        now: Now,
    ) -> Option<Step> {
        let own: Leaving =
            [((record.image.clone(), Arc::clone(root)), [node.0].into_iter().collect())].into();
        let none = Leaving::new();
        let leaving = self.removals.leaving.get(&record.digest).unwrap_or(&none);
        let left = self.holdings().left(&record.digest, &[leaving, &own]);
        if !left.is_disjoint(&self.live) {
            return None;
        }
        if left.is_empty() {
            return Some(fail(
                RemovalCode::LastReplica,
                "no other ready replica would be left in the cluster",
            ));
        }
        let words: Arc<str> = "the others that hold the image are away".into();
        let why = Some((Some(RemovalCode::LastReplica), words));
        Some(Step::Wait(RemovalPhase::Waiting, why, Some(now.mono.after(LOOK))))
    }

    pub(super) fn holdings(&self) -> Holdings<'_> {
        Holdings { names: self.index.names(), digests: self.index.digests() }
    }
}

/// Tells how a removal ends that was cancelled, or has no more time.
fn stop(removing: &Removing, part: &Part) -> Option<Step> {
    if removing.record.cancelled {
        return Some(Step::End(RemovalPhase::Cancelled, None));
    }
    let words = || match &part.stands.message {
        Some(before) => format!("the deadline passed; before: {before}").into(),
        None => Arc::from("the deadline passed"),
    };
    let why = |()| Step::End(RemovalPhase::Failed, Some((Some(RemovalCode::Deadline), words())));
    removing.expired.then_some(()).map(why)
}

/// Tells what is to be done about an order that the agent may be at.
fn under_way(ordered: &Ordered, now: Now) -> Option<Step> {
    let silent = || {
        let words = match ordered.answered {
            Some(_) => "the agent says that it is gone, and its inventory still shows it",
            None => "the agent did not answer",
        };
        fail(RemovalCode::Silent, words)
    };
    if ordered.answered.or(ordered.since).is_some_and(|at| now.mono.since(at) >= GIVEN_UP) {
        return Some(silent());
    }
    let next = match (ordered.answered, ordered.said) {
        (Some(at), _) => at.after(GIVEN_UP),
        (None, Some(said)) => said.after(SILENCE),
        (None, None) => return None,
    };
    (next > now.mono).then_some(Step::Wait(RemovalPhase::Removing, None, Some(next)))
}

fn fail(code: RemovalCode, words: &str) -> Step {
    Step::End(RemovalPhase::Failed, Some((Some(code), words.into())))
}

fn why_of(part: &Part) -> Why {
    part.stands.message.clone().map(|words| (part.stands.code, words))
}

/// Looks for the first root below which the image is to go.
fn find(inventory: &Inventory, record: &RemovalRecord) -> Found {
    let (mut open, mut in_library) = (None, false);
    for (id, root) in inventory.roots() {
        let named = record.root.as_deref();
        if named.is_some_and(|named| root.path != named) {
            continue;
        }
        let key = ReplicaKey { root: id, name: record.image.clone() };
        let Some(replica) = inventory.replica(&key) else { continue };
        let is_it = match &replica.content {
            Content::Image(image) => image.digest == record.digest,
            Content::Pending(_) => {
                open.get_or_insert_with(|| Arc::from("the agent is looking at the file"));
                false
            }
            Content::Unusable(_) => false,
        };
        match &root.state {
            _ if !is_it => {}
            _ if root.kind.is_library() => in_library = true,
            RootState::Unknown { reason } => {
                open.get_or_insert_with(|| format!("{} is unknown: {reason}", root.path).into());
            }
            RootState::Watched | RootState::Degraded { .. } | RootState::Partial { .. } => {
                return Found::There(id, root.path.as_str().into());
            }
        }
    }
    match open {
        Some(words) => Found::Open(words),
        None if in_library => Found::InLibrary,
        None => Found::Nowhere,
    }
}
