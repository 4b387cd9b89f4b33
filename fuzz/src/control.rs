//! The control protocol: sessions of agents that say anything, in any order, at any time.
//!
//! Whatever they say, a node counts only while a heartbeat of its present session vouches for it: one that repeats
//! a stamp sent less than a lease ago and the digest the coordinator holds. Every answer accounts for every node
//! once, every message of ours fits into a frame, and an agent survives any coordinator.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use sifleet_agent::session::report::{About, Output, Reporter};
use sifleet_common::api::nodes::NodeState;
use sifleet_common::availability::Require;
use sifleet_common::digest::Digest;
use sifleet_common::epoch::Epoch;
use sifleet_common::image::{Arch, Format};
use sifleet_common::inventory::{
    Change, Content, Generation, Image, InventoryDigest, Replica, ReplicaKey, Root, RootId, RootKind,
    RootState,
};
use sifleet_common::name::{ImageName, NodeName, PartitionName};
use sifleet_common::time::{Now, UnixMillis};
use sifleet_common::wire::control::{Heartbeat, Hello, Stamp, StreamId, ToAgent, ToCoordinator};
use sifleet_common::wire::frame::{decode, encode};
use sifleet_coordinator::state::{Caller, Effect, Event, Limits, SessionId, State};
use sifleet_coordinator::store::{Op, Restored};
use sifleet_coordinator::view::View;

use crate::input::Input;

/// Nodes that may be tried; the state keeps one less.
const NODES: usize = 5;
/// Most messages that one step of an honest agent may cause: more would be an endless conversation.
const TURNS: usize = 64;
const LEASE: Duration = Duration::from_secs(10);

/// Plays what the bytes say, and looks at the answers after every step.
///
/// # Panics
/// When a promise is broken.
pub fn run(data: &[u8]) {
    let (mut site, mut input) = (Site::new(), Input::new(data));
    let mut agent = reporter(7);
    while !input.is_empty() {
        let (step, at) = (input.byte(), usize::from(input.byte()) % NODES);
        match step % 8 {
            0 => site.open(at, decode(input.stretch()).ok()),
            1 | 2 => {
                if let Ok(message) = decode(input.stretch()) {
                    site.say(at, message);
                }
            }
            3 => site.agree(at),
            4 => site.close(at),
            5 => site.wait(Duration::from_millis(u64::from(input.byte()) * 50)),
            6 => site.partition(input.byte()),
            _ => {
                let said = decode::<ToAgent>(input.stretch()).map(|message| agent.receive(message));
                for message in said.into_iter().flatten().flat_map(spoken) {
                    site.say(at, message);
                }
            }
        }
        site.check();
    }
}

/// A coordinator's state, what its nodes have heard, and who may be believed.
pub struct Site {
    state: State,
    now: Now,
    names: Vec<NodeName>,
    seats: Vec<Seat>,
    next_session: u64,
}

/// One node as it ought to be seen.
#[derive(Default)]
struct Seat {
    session: Option<SessionId>,
    /// What the coordinator holds of it, as far as it said so.
    digest: InventoryDigest,
    generation: Generation,
    stream: StreamId,
    /// When each stamp of the session was first sent.
    stamps: BTreeMap<Stamp, Now>,
    /// Until when it may count.
    vouched: Option<Duration>,
    heard: VecDeque<ToAgent>,
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

impl Site {
    /// Starts with a coordinator that knows nobody.
    #[must_use]
    pub fn new() -> Self {
        let limits = Limits { lease: LEASE, heartbeat: LEASE / 4, max_nodes: NODES - 1, max_replicas: 12 };
        Self {
            state: State::restore(limits, Restored::default()),
            now: Now::default(),
            names: (0..NODES).filter_map(|number| format!("n{number}").parse().ok()).collect(),
            seats: (0..NODES).map(|_| Seat::default()).collect(),
            next_session: 0,
        }
    }

    /// Returns the time of the site.
    #[must_use]
    pub fn now(&self) -> Now {
        self.now
    }

    /// Returns the view of this moment.
    pub fn view(&mut self) -> View {
        self.state.view()
    }

    /// Puts the nodes whose bits are set into the partition `p`; with no bit set, nobody answers who they are.
    pub fn partition(&mut self, bits: u8) {
        let nodes: BTreeSet<NodeName> = self
            .names
            .iter()
            .enumerate()
            .filter(|(at, _)| bits >> at & 1 == 1)
            .map(|(_, name)| name.clone())
            .collect();
        let event = match "p".parse::<PartitionName>() {
            Ok(partition) if bits != 0 => {
                Event::Members { source: "file", members: [(partition, nodes)].into() }
            }
            Ok(_) | Err(_) => Event::MembersFailed { source: "file", reason: "nobody answers".to_owned() },
        };
        self.handle(event);
    }

    /// Lets an honest agent report these images until there is nothing more to say.
    ///
    /// # Panics
    /// When the conversation does not end.
    pub fn honest(&mut self, at: usize, images: &[&str], content: u8) {
        let mut agent = reporter(u64::try_from(at).unwrap_or(0) + 100);
        drop(agent.observe(changes(images, content)));
        if let ToCoordinator::Hello(hello) = agent.hello() {
            self.open(at, Some(hello));
        }
        for _ in 0..TURNS {
            let Some(message) = self.seats.get_mut(at).and_then(|seat| seat.heard.pop_front()) else {
                return;
            };
            // An answer to a heartbeat is an acknowledgement, which an agent does not answer.
            for said in agent.receive(message).into_iter().flat_map(spoken) {
                self.say(at, said);
            }
        }
        panic!("an honest agent and its coordinator do not come to an end");
    }

    fn open(&mut self, at: usize, hello: Option<Hello>) {
        self.next_session += 1;
        let session = SessionId(self.next_session);
        let (Some(node), Some(seat)) = (self.names.get(at).cloned(), self.seats.get_mut(at)) else { return };
        let hello = hello.unwrap_or_else(|| Hello {
            stream: seat.stream,
            generation: seat.generation,
            digest: seat.digest,
            build: "fuzz".to_owned(),
            arch: Arch::Amd64,
            partitions: Vec::new(),
            transfer_port: 7_442,
        });
        (seat.session, seat.stream) = (Some(session), hello.stream);
        if hello.digest == seat.digest {
            seat.generation = hello.generation;
        }
        seat.stamps.clear();
        seat.heard.clear();
        let caller = Caller { node, epoch: Epoch::default(), address: [10, 0, 0, 1].into(), reached: None };
        self.handle(Event::Opened { session, caller, hello });
    }

    fn say(&mut self, at: usize, message: ToCoordinator) {
        let Some(seat) = self.seats.get_mut(at) else { return };
        let Some(session) = seat.session else { return };
        if let ToCoordinator::Heartbeat(beat) = &message
            && beat.digest == seat.digest
            && let Some(sent) = seat.stamps.get(&beat.stamp)
        {
            seat.vouched = seat.vouched.max(Some(sent.mono.0 + LEASE));
        }
        self.handle(Event::Message { session, message });
    }

    /// Says what only an honest agent should know to say.
    fn agree(&mut self, at: usize) {
        let Some(seat) = self.seats.get(at) else { return };
        let stamp = seat.stamps.keys().next_back().copied().unwrap_or_default();
        let beat = Heartbeat { generation: seat.generation, digest: seat.digest, stamp };
        self.say(at, ToCoordinator::Heartbeat(beat));
    }

    fn close(&mut self, at: usize) {
        if let Some(session) = self.seats.get_mut(at).and_then(|seat| seat.session.take()) {
            self.handle(Event::Closed { session });
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now.mono = self.now.mono.after(time);
        self.handle(Event::Tick);
    }

    fn handle(&mut self, event: Event) {
        for effect in self.state.handle(event, self.now) {
            match effect {
                Effect::Send(session, message) => self.hear(session, message),
                Effect::Store(Op::Advance { node, position, .. } | Op::Replace { node, position, .. }) => {
                    if let Some(seat) =
                        self.names.iter().position(|name| *name == node).and_then(|at| self.seats.get_mut(at))
                    {
                        (seat.digest, seat.generation) = (position.digest, position.generation);
                    }
                }
                Effect::Store(_) | Effect::Announce(_) | Effect::Close(..) => {}
            }
        }
    }

    fn hear(&mut self, session: SessionId, message: ToAgent) {
        assert!(encode(&message).is_ok(), "a message of ours does not fit into a frame: {message:?}");
        let Some(seat) = self.seats.iter_mut().find(|seat| seat.session == Some(session)) else { return };
        let stamp = match &message {
            ToAgent::Welcome(welcome) => Some(welcome.stamp),
            ToAgent::Ack { stamp, .. } | ToAgent::Resync { stamp } => Some(*stamp),
            ToAgent::Describe { .. }
            | ToAgent::Rescan
            | ToAgent::Reconcile { .. }
            | ToAgent::Order(_)
            | ToAgent::Renewed(_)
            | ToAgent::RenewNow
            | ToAgent::Pulled(_) => None,
        };
        if let Some(stamp) = stamp {
            seat.stamps.entry(stamp).or_insert(self.now);
        }
        seat.heard.push_back(message);
    }

    fn check(&mut self) {
        let (view, now) = (self.state.view(), self.now);
        let nodes = view.nodes(now).nodes;
        for node in nodes.iter().filter(|node| node.state == NodeState::Online) {
            let seat = self
                .names
                .iter()
                .position(|name| name.as_str() == node.name)
                .and_then(|at| self.seats.get(at));
            let vouched = seat.and_then(|seat| seat.vouched);
            assert!(
                vouched.is_some_and(|until| now.mono.0 < until),
                "{} counts, and nobody vouches for it",
                node.name
            );
        }
        let members = view.partition("p", now).map_or(0, |partition| partition.summary.count);
        for image in ["a", "b.sif"] {
            let Ok(answer) = view.availability(image, "p", Require::All, now) else { continue };
            let counts = answer.counts;
            let all = counts.ready + counts.outdated + counts.missing + counts.unknown;
            assert_eq!(all, members, "{image}: {counts:?}");
            let online = nodes.iter().filter(|node| node.state == NodeState::Online).count();
            let counted = counts.ready + counts.outdated + counts.missing;
            assert!(counted as usize <= online, "{image}: {counts:?} with {online} nodes online");
        }
    }
}

fn reporter(stream: u64) -> Reporter {
    let about =
        About { build: "fuzz".to_owned(), arch: Arch::Amd64, partitions: Vec::new(), transfer_port: 0 };
    Reporter::new(StreamId(stream), about)
}

/// Returns what an agent says of all it decides to do.
fn spoken(output: Output) -> Vec<ToCoordinator> {
    match output {
        Output::Say(message) => vec![message],
        Output::SayAll(parts) => parts.collect(),
        Output::Renew => vec![ToCoordinator::Renew],
        Output::BeatEvery(_)
        | Output::Rescan
        | Output::Reconcile(_)
        | Output::Describe(_)
        | Output::Order(_)
        | Output::Renewed(_)
        | Output::Pulled(_) => Vec::new(),
    }
}

/// Returns the changes that put images below one root of an empty inventory, all with the same bytes.
#[must_use]
pub fn changes(images: &[&str], content: u8) -> Vec<Change> {
    let root = Root { path: "/r".to_owned(), kind: RootKind::Plain, state: RootState::Watched };
    let image = Image {
        digest: Digest::from_bytes([content; 32]),
        format: Format::Sif,
        arch: Arch::Amd64,
        mutable: false,
    };
    let replica = Replica { size: 1, modified: UnixMillis(0), content: Content::Image(image) };
    let names = images.iter().filter_map(|name| name.parse::<ImageName>().ok());
    let put = |name| Change::Put(ReplicaKey { root: RootId(0), name }, replica.clone());
    std::iter::once(Change::Root(RootId(0), root)).chain(names.map(put)).collect()
}
