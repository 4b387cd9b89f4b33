//! Agents that are only numbers, and the state that hears them; every event is timed.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};
use sifleet_common::api::pushes::{PushRequest, PushState, PushTarget};
use sifleet_common::capability::Signer;
use sifleet_common::chunk::MapDigest;
use sifleet_common::digest::Digest;
use sifleet_common::epoch::Epoch;
use sifleet_common::image::{Arch, Format};
use sifleet_common::inventory::{
    Change, Content, Generation, Image, Inventory, Replica, ReplicaKey, Root, RootId, RootKind, RootState,
};
use sifleet_common::name::NodeName;
use sifleet_common::push::Phase;
use sifleet_common::time::{Now, UnixMillis};
use sifleet_common::wire::assignment::{AssignmentId, Mapped, Moved, Order, Progress, Report};
use sifleet_common::wire::control::{
    Delta, Heartbeat, Hello, Snapshot, Stamp, StreamId, ToAgent, ToCoordinator,
};
use sifleet_coordinator::state::pushes::{Command, Wish};
use sifleet_coordinator::state::{Caller, Effect, Event, Limits, SessionId, State};
use sifleet_coordinator::store::push::PushNo;
use sifleet_coordinator::store::{Op, Restored};
use sifleet_coordinator::view::View;

/// Time from one event to the next: as if all nodes spoke once a second.
const APART: Duration = Duration::from_micros(100);
/// So many events are taken in before a view is published, as far as they come that fast (`coordinator/src/state/run.rs`).
const BATCH: usize = 50;

/// An agent.
struct Agent {
    name: NodeName,
    session: SessionId,
    generation: Generation,
    inventory: Inventory,
    stamp: Stamp,
    assignment: Option<AssignmentId>,
}

/// A cluster; node 0 is the head, with the library.
pub(super) struct Crowd {
    state: State,
    now: Now,
    agents: Vec<Agent>,
    sessions: BTreeMap<SessionId, usize>,
    last_session: u64,
    /// What was published last, as readers keep it.
    view: View,
    unseen: usize,
    pub(super) times: BTreeMap<String, Vec<Duration>>,
    pub(super) steps: usize,
    pub(super) rows: usize,
    pub(super) reports: usize,
    pub(super) steps_of_reports: usize,
}

fn image() -> Image {
    Image { digest: Digest::from_bytes([1; 32]), format: Format::Sif, arch: Arch::Amd64, mutable: false }
}

fn root(library: bool) -> Change {
    let (path, kind) =
        if library { ("/shared/images", RootKind::Library) } else { ("/opt/apptainers", RootKind::Plain) };
    Change::Root(RootId(0), Root { path: path.into(), kind, state: RootState::Watched })
}

fn put() -> anyhow::Result<Change> {
    let key = ReplicaKey { root: RootId(0), name: "a.sif".parse()? };
    let content = Content::Image(image());
    Ok(Change::Put(key, Replica { size: 134_217_728, modified: UnixMillis(0), content }))
}

impl Crowd {
    /// Connects everybody.
    pub(super) fn new(nodes: usize) -> anyhow::Result<Self> {
        let signer = Signer::from_seed(&[7; 32])?;
        let mut crowd = Self {
            state: State::restore(Limits::default(), Restored::default()).with_signer(signer),
            now: Now::default(),
            agents: Vec::new(),
            sessions: BTreeMap::new(),
            last_session: 0,
            view: View::default(),
            unseen: 0,
            times: BTreeMap::new(),
            steps: 0,
            rows: 0,
            reports: 0,
            steps_of_reports: 0,
        };
        for at in 0..=nodes {
            let name = if at == 0 { "head".parse()? } else { format!("n{at:05}").parse()? };
            let mut inventory = Inventory::default();
            inventory.apply(root(at == 0));
            if at == 0 {
                inventory.apply(put()?);
            }
            crowd.agents.push(Agent {
                name,
                session: SessionId(0),
                generation: Generation(1),
                inventory,
                stamp: Stamp::default(),
                assignment: None,
            });
        }
        let members = crowd.agents.iter().skip(1).map(|agent| agent.name.clone()).collect();
        let members = [("p".parse()?, members)].into();
        crowd.event("", Event::Members { source: "file", members });
        for at in 0..=nodes {
            crowd.connect(at, "");
        }
        crowd.publish("");
        (crowd.steps, crowd.rows) = (0, 0);
        Ok(crowd)
    }

    /// Lets something happen, timed unless it is of no interest, and everything that follows from it at once.
    fn event(&mut self, what: &'static str, event: Event) {
        self.now.mono = self.now.mono.after(APART);
        let begun = spent();
        let effects = self.state.handle(event, self.now);
        self.took(what, begun);
        self.carry_out(effects);
        self.unseen += 1;
        if self.unseen >= BATCH {
            self.publish(if what.is_empty() { "" } else { "a view after 50 events" });
        }
        while self.state.next_turn().is_some_and(|turn| turn <= self.now.mono) {
            let begun = spent();
            let effects = self.state.handle(Event::Tick, self.now);
            self.took(&follows(what), begun);
            self.carry_out(effects);
            self.publish(if what.is_empty() { "" } else { "a view after such a turn" });
        }
    }

    fn took(&mut self, what: &str, begun: Duration) {
        let took = spent().saturating_sub(begun);
        if !what.is_empty() {
            self.times.entry(what.to_owned()).or_default().push(took);
        }
    }

    fn publish(&mut self, what: &'static str) {
        self.unseen = 0;
        let begun = spent();
        let view = self.state.view();
        let before = std::mem::replace(&mut self.view, view);
        self.took(what, begun);
        drop(before);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(session, message) => self.hear(session, message),
                Effect::Store(op) => {
                    self.steps += 1;
                    self.rows += rows(&op);
                }
                Effect::Close(..) | Effect::Announce(_) => {}
            }
        }
    }

    fn hear(&mut self, session: SessionId, message: ToAgent) {
        let agent = self.sessions.get(&session).and_then(|at| self.agents.get_mut(*at));
        let Some(agent) = agent.filter(|agent| agent.session == session) else { return };
        match message {
            ToAgent::Welcome(welcome) => agent.stamp = welcome.stamp,
            ToAgent::Ack { stamp, .. } | ToAgent::Resync { stamp } => agent.stamp = stamp,
            ToAgent::Order(order) => match *order {
                Order::Assign(assignment) => agent.assignment = Some(assignment.id),
                Order::Unassign { .. } => agent.assignment = None,
                Order::Assigned { .. }
                | Order::MakeMap { .. }
                | Order::Rates(_)
                | Order::Remove(_)
                | Order::Capabilities { .. }
                | Order::Keyring(_)
                | Order::AssignUnder { .. }
                | Order::Verify { .. }
                | Order::Concurrent { .. } => {}
            },
            ToAgent::Describe { .. }
            | ToAgent::Rescan
            | ToAgent::Reconcile { .. }
            | ToAgent::Renewed(_)
            | ToAgent::RenewNow
            | ToAgent::Pulled(_) => {}
        }
    }

    fn say(&mut self, what: &'static str, at: usize, message: ToCoordinator) {
        let session = self.agents[at].session;
        self.event(what, Event::Message { session, message });
    }

    /// An agent dials, or dials again, and tells everything.
    pub(super) fn connect(&mut self, at: usize, what: &'static str) {
        self.last_session += 1;
        let session = SessionId(self.last_session);
        self.sessions.insert(session, at);
        let agent = &mut self.agents[at];
        (agent.session, agent.generation, agent.assignment) = (session, Generation(1), None);
        let hello = Hello {
            stream: StreamId(self.last_session),
            generation: Generation(1),
            digest: agent.inventory.digest(),
            build: "0.1.0".into(),
            arch: Arch::Amd64,
            partitions: Vec::new(),
            transfer_port: 7_442,
        };
        let [.., high, low] = at.to_be_bytes();
        let caller = Caller {
            node: agent.name.clone(),
            epoch: Epoch::default(),
            address: [10, 0, high, low].into(),
            reached: None,
        };
        let changes = agent.inventory.as_changes().collect();
        self.event(what, Event::Opened { session, caller, hello });
        let snapshot = Snapshot { generation: Generation(1), part: 0, last: true, changes };
        self.say(what, at, ToCoordinator::Snapshot(snapshot));
        self.beat(at, what);
    }

    fn beat(&mut self, at: usize, what: &'static str) {
        let Agent { generation, inventory, stamp, .. } = &self.agents[at];
        let beat = Heartbeat { generation: *generation, digest: inventory.digest(), stamp: *stamp };
        self.say(what, at, ToCoordinator::Heartbeat(beat));
    }

    /// All but the last nodes say that they live.
    pub(super) fn live(&mut self, nodes: usize) {
        for at in 0..=nodes {
            self.beat(at, "a heartbeat");
        }
    }

    /// An agent is stopped in good order.
    pub(super) fn stop(&mut self, at: usize) {
        self.say("a node goes", at, ToCoordinator::Goodbye);
        let session = self.agents[at].session;
        self.event("a node goes", Event::Closed { session });
    }

    /// Nothing is heard of the last nodes any longer, until their leases end.
    pub(super) fn lose(&mut self, nodes: usize) {
        let others = self.agents.len() - 1 - nodes;
        for _ in 0..4 {
            self.now.mono = self.now.mono.after(Duration::from_secs(8));
            self.live(others);
        }
        for at in others + 1..self.agents.len() {
            let session = self.agents[at].session;
            self.event("a connection ends", Event::Closed { session });
        }
    }

    /// Finds what is meant by the request of a push to everybody.
    pub(super) fn wish(&mut self) -> anyhow::Result<Wish> {
        let request = PushRequest::new("a", PushTarget::Partition("p".into()));
        self.view.wish(&request, self.now).context("the wish is not understood")
    }

    pub(super) fn command(&mut self, what: &'static str, command: Command) -> anyhow::Result<PushNo> {
        let begun = spent();
        let (answer, effects) = self.state.command(command, self.now);
        self.took(what, begun);
        self.carry_out(effects);
        self.publish("a view after a command");
        self.event(what, Event::Tick);
        Ok(answer?)
    }

    /// The head has made the chunk map.
    pub(super) fn map(&mut self) {
        let map = Some(MapDigest::from_bytes([1; 32]));
        let mapped = Mapped { image: image().digest, map, detail: String::new() };
        let report = ToCoordinator::Report(Box::new(Report::Mapped(mapped)));
        self.say("the map is made", 0, report);
    }

    pub(super) fn progress(&mut self, at: usize, phase: Phase, fetched: u64) {
        let Some(id) = self.agents[at].assignment else { return };
        let bytes = Moved { fetched, ..Moved::default() };
        let sources = vec![(self.agents[0].name.clone(), fetched)];
        let progress = Progress { id, phase, bytes, sources, dropped: Vec::new(), failure: None };
        let before = self.steps;
        self.say("progress", at, ToCoordinator::Report(Box::new(Report::Progress(progress))));
        self.reports += 1;
        self.steps_of_reports += self.steps - before;
    }

    /// The image is published on a node, and its inventory shows it.
    pub(super) fn finish(&mut self, at: usize) {
        let Ok(change) = put() else { return };
        let agent = &mut self.agents[at];
        agent.generation = agent.generation.next();
        agent.inventory.apply(change.clone());
        let delta = Delta { generation: agent.generation, changes: vec![change] };
        self.say("a node is done", at, ToCoordinator::Delta(delta));
        self.beat(at, "a node is done");
    }

    /// Tells whether the only push has come to its end.
    pub(super) fn has_ended(&self) -> bool {
        self.view.pushes(self.now).pushes.iter().all(|push| push.state != PushState::Running)
    }
}

/// Returns the processor time of this thread: what else the machine does is not the planner's.
fn spent() -> Duration {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(spent.tv_sec.unsigned_abs(), u32::try_from(spent.tv_nsec).unwrap_or(0))
}

/// Names the turns that go on with what an event began.
fn follows(what: &str) -> String {
    if what.is_empty() { String::new() } else { format!("{what}: the turns after it") }
}

/// Counts what a step writes.
fn rows(op: &Op) -> usize {
    if let Op::PutPush { nodes, .. } = op {
        1 + nodes.len()
    } else if let Op::PutOutcomes { nodes, .. } = op {
        nodes.len()
    } else {
        1
    }
}
