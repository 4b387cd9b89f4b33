//! A site with agents that remember what they were told and say what tests have them say.

mod crowd;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sifleet_common::api::pushes::{PushBody, PushNode, PushPlan, PushRequest, PushTarget};
use sifleet_common::chunk::MapDigest;
use sifleet_common::digest::Digest;
use sifleet_common::inventory::{Change, Inventory};
use sifleet_common::nodeset::NodeSet;
use sifleet_common::push::{FailCode, Fault, Phase};
use sifleet_common::time::Monotonic;
use sifleet_common::wire::assignment::{Assignment, AssignmentId, Mapped, Moved, Order, Progress, Report};
use sifleet_common::wire::control::{ToAgent, ToCoordinator};

use crate::state::limits::LimitCommand;
use crate::state::pushes::{Command, PushError, Transfers};
use crate::state::testing::Site;
use crate::state::testing::stored::restored;
use crate::state::{Effect, Event, Limits, SessionId, State};
use crate::store::push::{Key, PushNo};

/// The partition that all but the head are in.
const PARTITION: &str = "p";

pub(super) fn partition() -> PushTarget {
    PushTarget::Partition(PARTITION.into())
}

pub(super) fn request(image: &str, to: PushTarget) -> PushRequest {
    PushRequest::new(image, to)
}

pub(super) struct Lab {
    pub(super) site: Site,
    nodes: NodeSet,
    sessions: BTreeMap<String, SessionId>,
    seen: usize,
    told: BTreeMap<SessionId, BTreeMap<AssignmentId, Assignment>>,
    listed: BTreeMap<SessionId, Vec<Vec<AssignmentId>>>,
    orders: BTreeMap<SessionId, Vec<Order>>,
    /// Who was asked for the map of what, and has not answered.
    asked: Vec<(SessionId, Digest)>,
}

impl Lab {
    pub(super) fn new(nodes: &str) -> Self {
        Self::of(Site::new(), nodes.parse().unwrap())
    }

    fn of(mut site: Site, nodes: NodeSet) -> Self {
        site.partition(PARTITION, &nodes.to_string());
        Self {
            site,
            nodes,
            sessions: BTreeMap::new(),
            seen: 0,
            told: BTreeMap::new(),
            listed: BTreeMap::new(),
            orders: BTreeMap::new(),
            asked: Vec::new(),
        }
    }

    pub(super) fn members(&self) -> Vec<String> {
        self.nodes.names().iter().map(ToString::to_string).collect()
    }

    pub(super) const fn now(&self) -> sifleet_common::time::Now {
        self.site.now
    }

    pub(super) fn state(&self) -> &State {
        &self.site.state
    }

    /// Lets agents hear what was said to them.
    fn hear(&mut self) {
        let at_once = Some(Monotonic::default());
        while self.site.state.pushes.is_busy() || self.site.state.limiting.next_turn() == at_once {
            self.site.handle(Event::Tick);
        }
        for effect in &self.site.effects[self.seen..] {
            let Effect::Send(session, ToAgent::Order(order)) = effect else { continue };
            self.orders.entry(*session).or_default().push((**order).clone());
            let told = self.told.entry(*session).or_default();
            match &**order {
                Order::MakeMap { image } => self.asked.push((*session, *image)),
                Order::Assign(assignment) | Order::AssignUnder { assignment, .. } => {
                    told.insert(assignment.id, assignment.clone());
                }
                Order::Unassign { id } => {
                    told.remove(id);
                }
                Order::Assigned { ids } => {
                    told.retain(|id, _| ids.contains(id));
                    self.listed.entry(*session).or_default().push(ids.clone());
                }
                Order::Rates(_) | Order::Concurrent { .. } | Order::Remove(_) => {}
                Order::Keyring(_) | Order::Verify { .. } | Order::Capabilities { .. } => {}
            }
        }
        self.seen = self.site.effects.len();
    }

    pub(super) fn event(&mut self, event: Event) {
        self.site.handle(event);
        self.hear();
    }

    /// Puts nodes into a partition, and nobody else into any.
    pub(super) fn site_partition(&mut self, partition: &str, nodes: &str) {
        self.site_partitions(&[(partition, nodes)]);
    }

    /// Puts nodes into partitions, and nobody else into any.
    pub(super) fn site_partitions(&mut self, partitions: &[(&str, &str)]) {
        let names = |nodes: &str| nodes.parse::<NodeSet>().unwrap().into_names().into_iter().collect();
        let members = partitions.iter().map(|(name, nodes)| (name.parse().unwrap(), names(nodes)));
        let members = members.collect();
        self.event(Event::Members { source: "file", members });
    }

    pub(super) fn reports(&mut self, node: &str, report: Report) {
        self.report(self.session(node), report);
    }

    pub(super) fn connect(&mut self, node: &str, changes: Vec<Change>) {
        let session = self.site.agent(node, changes);
        self.sessions.insert(node.into(), session);
        self.hear();
    }

    /// Lets an agent come back with what it had, while its lease holds.
    pub(super) fn reconnect(&mut self, node: &str) {
        let changes = self.inventory(node).as_changes().collect();
        self.connect(node, changes);
    }

    fn inventory(&self, node: &str) -> Inventory {
        let id = self.state().by_name[node];
        self.state().nodes[id.index()].inventory.clone()
    }

    pub(super) fn change(&mut self, node: &str, changes: Vec<Change>) {
        self.site.change(node, changes);
        self.hear();
    }

    /// Ends a node's session and lease.
    pub(super) fn lose(&mut self, node: &str) {
        let session = self.sessions.remove(node).unwrap();
        self.site.say(session, ToCoordinator::Goodbye);
        self.site.handle(Event::Closed { session });
        self.hear();
    }

    /// Lets time pass while all agents live, and says nothing else.
    pub(super) fn pass(&mut self, seconds: u64) {
        self.pass_with(seconds, |_| {});
    }

    /// Lets time pass; agents live and say what they are made to say every five seconds.
    pub(super) fn pass_with(&mut self, seconds: u64, mut say: impl FnMut(&mut Self)) {
        let end = self.site.now.mono.after(Duration::from_secs(seconds));
        while self.site.now.mono < end {
            let step = Duration::from_secs(5).min(end.since(self.site.now.mono));
            self.site.now.mono = self.site.now.mono.after(step);
            self.site.now.wall.0 += i64::try_from(step.as_millis()).unwrap();
            let nodes: Vec<String> = self.sessions.keys().cloned().collect();
            for node in &nodes {
                self.site.beat(node);
                self.site.beat(node);
            }
            self.site.handle(Event::Tick);
            self.hear();
            say(self);
        }
    }

    pub(super) fn try_push(&mut self, wish: &PushRequest) -> Result<PushNo, PushError> {
        let wish = self.site.state.view().wish(wish, self.site.now)?;
        self.command(Command::Create(Box::new(wish)))
    }

    pub(super) fn push(&mut self, wish: &PushRequest) -> PushNo {
        self.try_push(wish).unwrap()
    }

    pub(super) fn push_with_key(
        &mut self,
        wish: &PushRequest,
        key: &str,
        body: u8,
    ) -> Result<PushNo, PushError> {
        let mut wish = self.site.state.view().wish(wish, self.site.now)?;
        wish.key = Some(Key { text: key.into(), body: Digest::from_bytes([body; 32]) });
        self.command(Command::Create(Box::new(wish)))
    }

    pub(super) fn command(&mut self, command: Command) -> Result<PushNo, PushError> {
        let (answer, effects) = self.site.state.command(command, self.site.now);
        self.site.stored.extend(effects.iter().filter_map(|effect| match effect {
            Effect::Store(op) => Some(op.clone()),
            Effect::Send(..) | Effect::Close(..) | Effect::Announce(_) => None,
        }));
        self.site.effects.extend(effects);
        self.hear();
        answer
    }

    /// Asks something of limits.
    pub(super) fn limit(&mut self, command: LimitCommand) {
        let effects = self.site.state.limit(command, self.site.now);
        self.site.stored.extend(effects.iter().filter_map(|effect| match effect {
            Effect::Store(op) => Some(op.clone()),
            Effect::Send(..) | Effect::Close(..) | Effect::Announce(_) => None,
        }));
        self.site.effects.extend(effects);
        self.hear();
    }

    pub(super) fn cancel(&mut self, push: PushNo) {
        self.command(Command::Cancel(push)).unwrap();
    }

    pub(super) fn retry(&mut self, push: PushNo) {
        self.command(Command::Retry(push)).unwrap();
    }

    pub(super) fn rate(&mut self, push: PushNo, rate: Option<u64>) {
        self.command(Command::Rate(push, rate)).unwrap();
    }

    pub(super) fn plan(&mut self, wish: &PushRequest) -> PushPlan {
        let view = self.site.state.view();
        view.plan(&view.wish(wish, self.site.now).unwrap(), self.site.now)
    }

    pub(super) fn body(&mut self, push: PushNo) -> PushBody {
        let view = self.site.state.view();
        view.push_body(view.push_info(push).unwrap()).clone()
    }

    /// Says which nodes are in which phase.
    pub(super) fn shown(&mut self, push: PushNo) -> String {
        let phases = self.body(push).phases;
        let texts: Vec<_> = phases.iter().map(|one| format!("{} {}", one.phase, one.nodes)).collect();
        texts.join("; ")
    }

    pub(super) fn node(&mut self, push: PushNo, node: &str) -> PushNode {
        let view = self.site.state.view();
        let nodes = view.push_nodes(view.push_info(push).unwrap(), self.site.now).nodes;
        nodes.into_iter().find(|one| one.node == node).unwrap()
    }

    pub(super) fn degraded(&mut self, node: &str) -> String {
        let view = self.site.state.view();
        view.node(node, self.site.now).unwrap().summary.degraded.join("; ")
    }

    fn session(&self, node: &str) -> SessionId {
        self.sessions[node]
    }

    /// Lists who is asked for a map.
    pub(super) fn makers(&self) -> Vec<&str> {
        let node = |session| Some(self.sessions.iter().find(|(_, known)| **known == session)?.0.as_str());
        self.asked.iter().filter_map(|(session, _)| node(*session)).collect()
    }

    /// Lets a node answer that it made the map it was asked for first.
    pub(super) fn map(&mut self, node: &str) {
        let session = self.session(node);
        let at = self.asked.iter().position(|(asked, _)| *asked == session).unwrap();
        let (_, image) = self.asked.remove(at);
        self.answer_map(session, image, Some(MapDigest::from_bytes(*image.as_bytes())));
    }

    pub(super) fn map_all(&mut self, node: &str) {
        while self.makers().contains(&node) {
            self.map(node);
        }
    }

    pub(super) fn cannot_map(&mut self, node: &str) {
        let session = self.session(node);
        let at = self.asked.iter().position(|(asked, _)| *asked == session).unwrap();
        let (_, image) = self.asked.remove(at);
        self.answer_map(session, image, None);
    }

    fn answer_map(&mut self, session: SessionId, image: Digest, map: Option<MapDigest>) {
        let mapped = Mapped { image, map, detail: "its disk fails".into() };
        self.report(session, Report::Mapped(mapped));
    }

    fn report(&mut self, session: SessionId, report: Report) {
        self.site.say(session, ToCoordinator::Report(Box::new(report)));
        self.hear();
    }

    /// Returns what a node is to do.
    pub(super) fn told(&self, node: &str) -> BTreeMap<AssignmentId, Assignment> {
        self.told.get(&self.session(node)).cloned().unwrap_or_default()
    }

    pub(super) fn only(&self, node: &str) -> Assignment {
        let told = self.told(node);
        assert_eq!(told.len(), 1, "{node} is told {told:?}");
        told.into_values().next().unwrap()
    }

    /// Returns the last list that a node was told in its session.
    pub(super) fn list(&self, node: &str) -> Vec<AssignmentId> {
        self.listed[&self.session(node)].last().unwrap().clone()
    }

    pub(super) fn lists(&self, node: &str) -> usize {
        self.listed[&self.session(node)].len()
    }

    pub(super) fn orders(&self, node: &str) -> Vec<Order> {
        self.orders.get(&self.session(node)).cloned().unwrap_or_default()
    }

    /// Counts how often a node was told an assignment.
    pub(super) fn times_told(&self, node: &str) -> usize {
        self.orders(node).iter().filter(|order| matches!(order, Order::Assign(_))).count()
    }

    pub(super) fn peers(&self, node: &str) -> BTreeSet<String> {
        self.only(node).peers.into_iter().map(|peer| peer.node.to_string()).collect()
    }

    pub(super) fn progress(&mut self, node: &str, phase: Phase, fetched: u64) {
        let id = self.only(node).id;
        self.say_progress(node, Progress { bytes: Moved { fetched, ..Moved::default() }, ..said(id, phase) });
    }

    pub(super) fn progress_of(&mut self, node: &str, id: AssignmentId, phase: Phase) {
        self.say_progress(node, said(id, phase));
    }

    pub(super) fn fails(&mut self, node: &str, code: FailCode) {
        self.fails_with(node, self.only(node).id, code);
    }

    pub(super) fn fails_with(&mut self, node: &str, id: AssignmentId, code: FailCode) {
        let session = self.session(node);
        // An agent that failed has nothing to do any longer.
        self.told.get_mut(&session).unwrap().remove(&id);
        let failure = Some((code, "it went wrong".into()));
        self.say_progress(node, Progress { failure, ..said(id, Phase::Failed) });
    }

    /// Lets an agent publish the image: it has nothing to do any longer.
    pub(super) fn finishes(&mut self, node: &str, id: AssignmentId) {
        let session = self.session(node);
        self.told.get_mut(&session).unwrap().remove(&id);
        self.progress_of(node, id, Phase::Done);
    }

    pub(super) fn accuses(&mut self, node: &str, suspect: &str, fault: Fault) {
        self.accuses_as(node, self.only(node).id, suspect, fault);
    }

    pub(super) fn accuses_as(&mut self, node: &str, id: AssignmentId, suspect: &str, fault: Fault) {
        let dropped = vec![(suspect.parse().unwrap(), fault)];
        self.say_progress(node, Progress { dropped, ..said(id, Phase::Fetching) });
    }

    fn say_progress(&mut self, node: &str, progress: Progress) {
        self.report(self.session(node), Report::Progress(progress));
    }

    /// Starts the coordinator anew with what the store was handed; nobody is connected.
    pub(super) fn restart(&mut self, set: Transfers) {
        let restored = restored(&self.site.stored);
        let (stored, now) = (std::mem::take(&mut self.site.stored), self.site.now);
        let mut site = Site::with(Limits::default(), restored);
        site.state = site.state.with_transfers(set);
        (site.stored, site.now) = (stored, now);
        let nodes = std::mem::take(&mut self.nodes);
        *self = Self::of(site, nodes);
        self.hear();
    }
}

fn said(id: AssignmentId, phase: Phase) -> Progress {
    Progress { id, phase, bytes: Moved::default(), sources: Vec::new(), dropped: Vec::new(), failure: None }
}
