//! Agents and a store for tests of the state and the view: agents say what they are told to say, at once, and the
//! store only keeps what it is handed.

pub(crate) mod stored;

use std::collections::BTreeMap;
use std::time::Duration;

use sifleet_common::api::availability::Availability;
use sifleet_common::availability::Require;
use sifleet_common::capability::Signer;
use sifleet_common::digest::Digest;
use sifleet_common::epoch::Epoch;
use sifleet_common::image::{Arch, Format};
use sifleet_common::inventory::{
    Change, Content, Generation, Image, Inventory, Pending, Replica, ReplicaKey, Root, RootId, RootKind,
    RootState, Unusable, UnusableCode,
};
use sifleet_common::nodeset::NodeSet;
use sifleet_common::time::{Now, UnixMillis};
use sifleet_common::wire::control::{
    Delta, Heartbeat, Hello, Snapshot, Stamp, StreamId, ToAgent, ToCoordinator,
};

use super::{Caller, Effect, Event, Limits, SessionId, State};
use crate::store::{Op, Restored};
use crate::view::{QueryError, View};

/// Where agents on other hosts reach the coordinator.
pub(crate) const OURS: [u8; 4] = [10, 0, 0, 254];

/// A state, the agents it hears, and everything it wanted stored.
pub(crate) struct Site {
    pub(crate) state: State,
    pub(crate) now: Now,
    pub(crate) stored: Vec<Op>,
    pub(crate) effects: Vec<Effect>,
    /// What agents that connect say of where they give.
    pub(crate) transfer_port: u16,
    /// Of which enrolment the certificates of agents that connect are.
    pub(crate) epoch: Epoch,
    agents: BTreeMap<String, Agent>,
    sessions: u64,
}

struct Agent {
    session: SessionId,
    generation: Generation,
    inventory: Inventory,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default(), Restored::default())
    }

    pub(crate) fn with(limits: Limits, restored: Restored) -> Self {
        Self {
            state: State::restore(limits, restored).with_signer(Signer::from_seed(&[7; 32]).unwrap()),
            now: Now::default(),
            stored: Vec::new(),
            effects: Vec::new(),
            transfer_port: 7_442,
            epoch: Epoch::default(),
            agents: BTreeMap::new(),
            sessions: 0,
        }
    }

    pub(crate) fn handle(&mut self, event: Event) {
        for effect in self.state.handle(event, self.now) {
            if let Effect::Store(op) = &effect {
                self.stored.push(op.clone());
            }
            self.effects.push(effect);
        }
    }

    /// Puts nodes into a partition, and nobody else into any.
    pub(crate) fn partition(&mut self, partition: &str, nodes: &str) {
        let nodes = nodes.parse::<NodeSet>().unwrap().into_names().into_iter().collect();
        let members = [(partition.parse().unwrap(), nodes)].into();
        self.handle(Event::Members { source: "file", members });
    }

    /// Begins a session; the agent has said nothing but hello.
    pub(crate) fn hello(&mut self, node: &str, partitions: &[&str]) -> SessionId {
        self.sessions += 1;
        let session = SessionId(self.sessions);
        let hello = Hello {
            stream: StreamId(self.sessions),
            generation: Generation(1),
            digest: Inventory::default().digest(),
            build: "0.1.0".into(),
            arch: Arch::Amd64,
            partitions: partitions.iter().map(|name| name.parse().unwrap()).collect(),
            transfer_port: self.transfer_port,
        };
        let agent = Agent { session, generation: Generation(1), inventory: Inventory::default() };
        self.agents.insert(node.to_owned(), agent);
        let [.., high, low] = self.sessions.to_be_bytes();
        let on_our_host = node == "head";
        let address = if on_our_host { [127, 0, 1, 1].into() } else { [10, 0, high, low].into() };
        let reached = Some(if on_our_host { address } else { OURS.into() });
        let caller = Caller { node: node.parse().unwrap(), epoch: self.epoch, address, reached };
        self.handle(Event::Opened { session, caller, hello });
        session
    }

    /// Connects an agent that has these roots and replicas, until it counts.
    pub(crate) fn agent(&mut self, node: &str, changes: Vec<Change>) -> SessionId {
        let session = self.hello(node, &[]);
        let agent = self.agents.get_mut(node).unwrap();
        for change in &changes {
            agent.inventory.apply(change.clone());
        }
        let snapshot = Snapshot { generation: Generation(1), part: 0, last: true, changes };
        self.say(session, ToCoordinator::Snapshot(snapshot));
        self.beat(node);
        session
    }

    /// Lets an agent report changes.
    pub(crate) fn change(&mut self, node: &str, changes: Vec<Change>) {
        let agent = self.agents.get_mut(node).unwrap();
        agent.generation = agent.generation.next();
        for change in &changes {
            agent.inventory.apply(change.clone());
        }
        let (session, generation) = (agent.session, agent.generation);
        self.say(session, ToCoordinator::Delta(Delta { generation, changes }));
        self.beat(node);
    }

    pub(crate) fn say(&mut self, session: SessionId, message: ToCoordinator) {
        self.handle(Event::Message { session, message });
    }

    /// Sends a heartbeat with the newest stamp of the session.
    pub(crate) fn beat(&mut self, node: &str) {
        let agent = &self.agents[node];
        let (session, generation, digest) = (agent.session, agent.generation, agent.inventory.digest());
        let stamp = self.effects.iter().rev().find_map(|effect| match effect {
            Effect::Send(to, ToAgent::Ack { stamp, .. } | ToAgent::Resync { stamp }) if *to == session => {
                Some(*stamp)
            }
            Effect::Send(to, ToAgent::Welcome(welcome)) if *to == session => Some(welcome.stamp),
            Effect::Send(..) | Effect::Close(..) | Effect::Store(_) | Effect::Announce(_) => None,
        });
        let stamp = stamp.unwrap_or(Stamp::default());
        self.say(session, ToCoordinator::Heartbeat(Heartbeat { generation, digest, stamp }));
    }

    /// Lets a lease go by in which only these agents say that they live.
    pub(crate) fn outlive(&mut self, nodes: &[&str]) {
        for _ in 0..8 {
            self.now.mono = self.now.mono.after(Duration::from_secs(5));
            // The first beat fetches a stamp of this moment, the second repeats it.
            for node in nodes.iter().chain(nodes) {
                self.beat(node);
            }
            self.handle(Event::Tick);
        }
    }

    pub(crate) fn view(&mut self) -> View {
        self.state.view()
    }

    pub(crate) fn ask(&mut self, image: &str, partition: &str) -> Result<Availability, QueryError> {
        self.state.view().availability(image, partition, Require::All, self.now)
    }

    /// Asks, and returns who is ready, outdated, missing and unknown.
    pub(crate) fn split(&mut self, image: &str, partition: &str) -> [String; 4] {
        let nodes = self.ask(image, partition).unwrap().nodes;
        [nodes.ready, nodes.outdated, nodes.missing, nodes.unknown]
    }

    /// Asks, and returns the codes of the reasons.
    pub(crate) fn codes(&mut self, image: &str, partition: &str) -> Vec<String> {
        self.ask(image, partition).unwrap().reasons.into_iter().map(|reason| reason.code).collect()
    }
}

pub(crate) fn root(state: RootState) -> Change {
    Change::Root(RootId(0), Root { path: "/opt/apptainers".into(), kind: RootKind::Plain, state })
}

pub(crate) fn library(state: RootState) -> Change {
    Change::Root(RootId(0), Root { path: "/shared/images".into(), kind: RootKind::Library, state })
}

/// A root that ordinary users can write to.
pub(crate) fn open_to_all() -> Change {
    let (path, state) = ("/opt/apptainers".into(), RootState::Watched);
    Change::Root(RootId(0), Root { path, kind: RootKind::Untrusted, state })
}

pub(crate) fn hung() -> RootState {
    RootState::Unknown { reason: "it has not answered for 10 s".into() }
}

pub(crate) fn digest(bytes: u8) -> Digest {
    Digest::from_bytes([bytes; 32])
}

pub(crate) fn image(name: &str, bytes: u8) -> Change {
    let image = Image { digest: digest(bytes), format: Format::Sif, arch: Arch::Amd64, mutable: false };
    put(name, Content::Image(image))
}

pub(crate) fn pending(name: &str) -> Change {
    put(name, Content::Pending(Pending::BeingWritten))
}

pub(crate) fn unusable(name: &str, code: UnusableCode) -> Change {
    put(name, Content::Unusable(Unusable { code, detail: "the particulars".into() }))
}

pub(crate) fn gone(name: &str) -> Change {
    Change::Remove(ReplicaKey { root: RootId(0), name: name.parse().unwrap() })
}

pub(crate) fn put(name: &str, content: Content) -> Change {
    let key = ReplicaKey { root: RootId(0), name: name.parse().unwrap() };
    Change::Put(key, Replica { size: 1, modified: UnixMillis(0), content })
}
