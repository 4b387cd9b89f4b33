//! A cluster without machines: the coordinator's real state and real reporters, joined by links that lose,
//! delay, reorder and double, with crashes on both sides and clocks that jump.
//!
//! Everything follows from one seed. [`World::check`] holds every answer against what the disks really held;
//! [`truth`] says what an answer may claim.

mod agent;
pub mod disk;
mod faults;
pub mod truth;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sifleet_agent::session::report::Output;
use sifleet_common::epoch::Epoch;
use sifleet_common::nodeset::fold;
use sifleet_common::time::{Monotonic, Now, UnixMillis};
use sifleet_common::wire::control::ToCoordinator;
use sifleet_coordinator::state::{Caller, Effect, Event, Limits, SessionId, State};
use sifleet_coordinator::store::Op;
use sifleet_coordinator::view::View;

use agent::{Agent, due, finely};
use disk::Durable;
pub use faults::Faults;
use truth::Answers;

/// Agents in a world: few, so that faults meet.
pub const AGENTS: usize = 4;
/// The partition all of them belong to.
pub const PARTITION: &str = "p";
/// The partition that some of them say they are in.
pub const DECLARED: &str = "declared";

/// The whole cluster.
pub struct World {
    rng: StdRng,
    faults: Faults,
    millis: u64,
    wall_offset: i64,
    state: Option<State>,
    durable: Durable,
    old_view: View,
    agents: Vec<Agent>,
    sessions: u64,
    /// The first thing the coordinator came to believe that never was.
    wrong: Option<String>,
}

impl World {
    /// Builds a world in which everything follows from `seed`.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let agents = (0..AGENTS).map(|n| Agent::new(n, &mut rng)).collect();
        let mut world = Self {
            rng,
            faults,
            millis: 0,
            wall_offset: 0,
            state: None,
            durable: Durable::default(),
            old_view: View::default(),
            agents,
            sessions: 0,
            wrong: None,
        };
        world.start_coordinator();
        world
    }

    /// Replaces the faults from here on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// Does one random thing and lets everything that is due happen.
    ///
    /// # Errors
    /// What an answer claimed that was not so.
    pub fn step(&mut self) -> Result<(), String> {
        self.millis += self.rng.random_range(1..400);
        if self.rng.random_range(0..50) == 0 {
            self.wall_offset += self.rng.random_range(-3_600_000..3_600_000);
        }
        let who = self.rng.random_range(0..AGENTS);
        match self.rng.random_range(0..100) {
            0..40 => self.change_disk(who),
            n if n < 40 + self.faults.crash => self.crash(who),
            _ => {}
        }
        self.pump();
        self.check()
    }

    /// Lets time pass without faults or changes, so that everything must come right.
    pub fn settle(&mut self, limits: Limits) {
        self.set_faults(Faults::NONE);
        self.durable.set_full(false);
        if self.state.is_none() {
            self.start_coordinator();
        }
        let end = self.millis + 4 * u64::try_from(limits.lease.as_millis()).unwrap_or(u64::MAX);
        for agent in &mut self.agents {
            agent.revive(&mut self.rng);
        }
        while self.millis < end {
            self.millis += 100;
            self.pump();
        }
    }

    /// Tells what every agent's disk holds and what is answered for it.
    ///
    /// # Errors
    /// The first answer that is not exactly the truth.
    pub fn check_converged(&mut self) -> Result<(), String> {
        let now = self.now();
        let view = self.state.as_mut().map(State::view).unwrap_or_default();
        let answers = Answers::of_view(&view, now)?;
        for agent in &self.agents {
            agent.truth.exactly(&answers, &agent.name)?;
        }
        self.check_durable()
    }

    /// Tells whether a coordinator that were restarted now would find what this one knows.
    fn check_durable(&mut self) -> Result<(), String> {
        self.durable.crash(0);
        let Some(state) = &self.state else { return Ok(()) };
        for found in self.durable.restored().nodes {
            let node = &found.node;
            match state.whole(node) {
                // An agent that came back with the same inventory only has a new stream, which is not written.
                Some(Op::Replace { position, changes, .. })
                    if position.digest == found.position.digest && changes == found.changes => {}
                known => return Err(format!("{node} is written as {found:?}, but known as {known:?}")),
            }
        }
        Ok(())
    }

    fn now(&self) -> Now {
        let wall = i64::try_from(self.millis).unwrap_or(i64::MAX).saturating_add(self.wall_offset);
        Now { mono: Monotonic(Duration::from_millis(self.millis)), wall: UnixMillis(wall) }
    }

    fn start_coordinator(&mut self) {
        let names = self.agents.iter().map(|agent| agent.name.clone());
        let mut state = State::restore(limits(), self.durable.restored());
        let members = [(crate::known(PARTITION), names.collect())].into();
        self.check_declared(&mut state);
        let effects = state.handle(Event::Members { source: "file", members }, self.now());
        self.state = Some(state);
        self.carry_out(effects);
    }

    /// Notes when a coordinator comes back without a partition of which an agent had told its former life.
    fn check_declared(&mut self, state: &mut State) {
        let told =
            self.durable.restored().nodes.into_iter().filter(|known| !known.facts.partitions.is_empty());
        let told =
            fold(told.map(|known| known.node.to_string()).collect::<Vec<_>>().iter().map(String::as_str));
        let known = state.view().partition(DECLARED, self.now());
        let known = known.map(|partition| partition.summary.nodes).unwrap_or_default();
        if known != told {
            self.wrong = Some(format!("{told:?} declared a partition, and {known:?} came back with it"));
        }
    }

    fn crash(&mut self, who: usize) {
        let n = self.rng.random_range(0..8);
        match n {
            0 => {
                // Steps the store had not written yet are lost with the process.
                let lost = self.rng.random_range(0..8);
                self.durable.crash(lost);
                self.state = None;
            }
            1 if self.state.is_none() => self.start_coordinator(),
            2 => self.agents[who].die(),
            3 => self.agents[who].revive(&mut self.rng),
            4 => self.durable.set_full(true),
            5 => self.durable.set_full(false),
            _ => self.break_link(who),
        }
        if self.state.is_none() && self.rng.random_range(0..3) == 0 {
            self.start_coordinator();
        }
    }

    fn break_link(&mut self, who: usize) {
        let Some(session) = self.agents[who].session.take() else { return };
        self.agents[who].reporter.lost();
        self.tell(Event::Closed { session });
    }

    fn change_disk(&mut self, who: usize) {
        let millis = self.millis;
        let agent = &mut self.agents[who];
        let changes = agent.truth.change(&mut self.rng, millis);
        if agent.up {
            let said = agent.observe(changes);
            self.say(who, said);
        }
    }

    /// Delivers everything that is due, in whatever order it is due, and lets timers run.
    fn pump(&mut self) {
        for who in 0..AGENTS {
            self.dial(who);
            self.beat(who);
            self.deliver_up(who);
            self.deliver_down(who);
        }
        self.tell(Event::Tick);
        self.mend();
    }

    /// Writes anew, as the owner loop does, what the store lost.
    fn mend(&mut self) {
        let Some(state) = &self.state else { return };
        for whole in self.durable.lost().iter().filter_map(|node| state.whole(node)) {
            self.durable.submit(whole);
        }
    }

    fn dial(&mut self, who: usize) {
        let millis = self.millis;
        let agent = &mut self.agents[who];
        if agent.session.is_some() && millis > agent.heard + 20_000 {
            self.break_link(who);
        }
        let agent = &mut self.agents[who];
        if !agent.up || agent.session.is_some() || self.state.is_none() || millis < agent.dial_at {
            return;
        }
        self.sessions += 1;
        let session = SessionId(self.sessions);
        agent.session = Some(session);
        agent.heard = millis;
        agent.dial_at = millis + self.rng.random_range(100..3_000);
        let hello = agent.reporter.hello();
        self.say(who, vec![hello]);
    }

    fn beat(&mut self, who: usize) {
        let agent = &mut self.agents[who];
        if agent.up && agent.session.is_some() && self.millis >= agent.next_beat {
            agent.next_beat = self.millis + 10_000;
            let beat = agent.reporter.heartbeat();
            self.say(who, vec![beat]);
        }
    }

    fn say(&mut self, who: usize, messages: Vec<ToCoordinator>) {
        let Some(session) = self.agents[who].session else { return };
        for message in messages {
            // A session's first message is never lost alone: without it there is no session.
            let hello = matches!(message, ToCoordinator::Hello(_));
            for due in self.fates(hello) {
                self.agents[who].up_link.push_back((due, session, message.clone()));
            }
        }
    }

    /// Decides when a message arrives: never, once or twice.
    fn fates(&mut self, certain: bool) -> Vec<u64> {
        let Faults { loss, double, delay, .. } = self.faults;
        if !certain && self.rng.random_range(0..100) < loss {
            return Vec::new();
        }
        let copies = if !certain && self.rng.random_range(0..100) < double { 2 } else { 1 };
        (0..copies).map(|_| self.millis + self.rng.random_range(0..=delay)).collect()
    }

    fn deliver_up(&mut self, who: usize) {
        for (_, session, message) in due(&mut self.agents[who].up_link, self.millis, &mut self.rng) {
            let event = match message {
                ToCoordinator::Hello(hello) => {
                    let (node, epoch) = (self.agents[who].name.clone(), Epoch::default());
                    let caller = Caller { node, epoch, address: [10, 0, 0, 1].into(), reached: None };
                    Event::Opened { session, caller, hello }
                }
                ToCoordinator::Delta(mut delta) if self.faults.blind_generations => {
                    delta.generation = self.durable.generation(&self.agents[who].name).next();
                    Event::Message { session, message: ToCoordinator::Delta(delta) }
                }
                message @ (ToCoordinator::Snapshot(_)
                | ToCoordinator::Delta(_)
                | ToCoordinator::Heartbeat(_)
                | ToCoordinator::Described(_)
                | ToCoordinator::Report(_)
                | ToCoordinator::Renew
                | ToCoordinator::Pull(_)
                | ToCoordinator::Clock { .. }
                | ToCoordinator::Reconciled { .. }
                | ToCoordinator::Goodbye) => Event::Message { session, message },
            };
            self.tell(event);
        }
    }

    fn deliver_down(&mut self, who: usize) {
        for (_, session, message) in due(&mut self.agents[who].down_link, self.millis, &mut self.rng) {
            let agent = &mut self.agents[who];
            if !agent.up || agent.session != Some(session) {
                continue;
            }
            agent.heard = self.millis;
            let mut said = Vec::new();
            for output in agent.reporter.receive(message) {
                match output {
                    Output::Say(message) => said.push(message),
                    Output::SayAll(parts) => said.extend(finely(parts)),
                    Output::BeatEvery(millis) => agent.next_beat = self.millis + u64::from(millis),
                    Output::Rescan
                    | Output::Reconcile(_)
                    | Output::Describe(_)
                    | Output::Order(_)
                    | Output::Renewed(_)
                    | Output::Renew
                    | Output::Pulled(_) => {}
                }
            }
            self.say(who, said);
        }
    }

    fn tell(&mut self, event: Event) {
        let now = self.now();
        let Some(state) = &mut self.state else { return };
        let effects = state.handle(event, now);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(session, message) => {
                    let at = self.agents.iter().position(|agent| agent.session == Some(session));
                    let Some(who) = at else { continue };
                    for due in self.fates(false) {
                        self.agents[who].down_link.push_back((due, session, message.clone()));
                    }
                }
                Effect::Close(session, ..) => {
                    if let Some(agent) = self.agents.iter_mut().find(|agent| agent.session == Some(session)) {
                        agent.session = None;
                        agent.reporter.lost();
                    }
                }
                Effect::Store(op) => {
                    self.hold_against_agent(&op);
                    self.durable.submit(op);
                }
                Effect::Announce(_) => {}
            }
        }
    }

    /// Notes when the coordinator believes an inventory that its agent never had.
    fn hold_against_agent(&mut self, op: &Op) {
        let (Op::Advance { node, position, .. } | Op::Replace { node, position, .. }) = op else { return };
        let stood = self.agents.iter().find(|agent| agent.name == *node).map(|agent| &agent.stood);
        let was = stood.and_then(|stood| stood.get(&(position.stream, position.generation)));
        if was != Some(&position.digest) {
            self.wrong = Some(format!("{node} never stood at {position:?}, but at {was:?}"));
        }
    }

    /// Holds all answers, of the newest view and of an older one, against the truth.
    fn check(&mut self) -> Result<(), String> {
        if let Some(wrong) = self.wrong.take() {
            return Err(wrong);
        }
        let now = self.now();
        let Some(state) = &mut self.state else { return Ok(()) };
        let view = state.view();
        for view in [&view, &self.old_view] {
            let answers = Answers::of_view(view, now)?;
            for agent in &self.agents {
                agent.truth.allows(&answers, &agent.name, now, limits().lease)?;
            }
        }
        // A reader may hold a view for a while; it must not lie then either.
        if self.rng.random_range(0..5) == 0 {
            self.old_view = view;
        }
        Ok(())
    }
}

/// The limits of every simulated coordinator.
#[must_use]
pub fn limits() -> Limits {
    Limits::default()
}
