//! What the coordinator knows and how it comes to know it: events in, effects out, nothing else.
//!
//! [`State`] is pure: it is told the time, does no I/O and never waits. [`run`] is the only loop around it. The
//! rules it must never break: a replica counts only because an inventory says so; an inventory counts only
//! while its node holds a lease; a lease runs from the moment a stamp was *sent* (see `common::wire`); a step
//! applies only onto the generation before it.

mod check;
pub mod describe;
pub mod identities;
pub mod index;
pub mod limits;
pub mod membership;
pub mod node;
pub mod publish;
pub mod pushes;
pub mod removals;
mod restore;
pub mod run;
pub mod scan;
pub(crate) mod skew;
mod step;
pub mod sync;
#[cfg(test)]
pub(crate) mod testing;

// The words for addresses only: no sockets.
use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use roaring::RoaringBitmap;
use sifleet_common::api;
use sifleet_common::digest::Digest;
use sifleet_common::epoch::Epoch;
use sifleet_common::name::{NodeName, PartitionName};
use sifleet_common::time::{Monotonic, Now, UnixMillis};
use sifleet_common::wire::code::CloseCode;
use sifleet_common::wire::control::{Hello, Stamp, ToAgent, ToCoordinator};

use crate::store::Op;
use describe::Describing;
use identities::Identities;
use index::{Index, NodeId};
use limits::Limiting;
use membership::Membership;
use node::{Node, Session};
use pushes::Pushes;
use removals::Removals;

/// Numbers sessions in the order in which they were accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Who opened a session, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The node, by its certificate.
    pub node: NodeName,
    /// Of which enrolment the certificate is.
    pub epoch: Epoch,
    /// Where its packets come from: there, other nodes fetch from it.
    pub address: IpAddr,
    /// The coordinator's own address at which it came in, where the system tells.
    pub reached: Option<IpAddr>,
}

/// What may be configured of the state.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a claim is believed.
    pub lease: Duration,
    /// How often agents say that they live; less than a third of the lease.
    pub heartbeat: Duration,
    /// Most nodes the coordinator keeps.
    pub max_nodes: usize,
    /// Most replicas it keeps of one node.
    pub max_replicas: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            heartbeat: Duration::from_secs(10),
            max_nodes: 20_000,
            max_replicas: sifleet_common::inventory::MAX_REPLICAS,
        }
    }
}

/// Everything that can happen to the state.
#[derive(Clone, Debug)]
pub enum Event {
    /// A node, known by its certificate, opened a session and said hello.
    Opened {
        /// The session.
        session: SessionId,
        /// Who it is.
        caller: Caller,
        /// Its first message.
        hello: Hello,
    },
    /// A message in a session.
    Message {
        /// The session.
        session: SessionId,
        /// What was said.
        message: ToCoordinator,
    },
    /// A session ended.
    Closed {
        /// The session.
        session: SessionId,
    },
    /// A source of partitions was heard.
    Members {
        /// `file` or `slurm`.
        source: &'static str,
        /// All it knows.
        members: BTreeMap<PartitionName, BTreeSet<NodeName>>,
    },
    /// A source of partitions did not answer; what it said last still holds.
    MembersFailed {
        /// `file` or `slurm`.
        source: &'static str,
        /// Why.
        reason: String,
    },
    /// Slurm told on which nodes jobs run.
    JobsRunOn {
        /// These, and no others.
        nodes: BTreeSet<NodeName>,
    },
    /// The authorities that count are others than before.
    AuthoritiesChanged,
    /// An admin asks something else of signatures.
    Signatures(Box<pushes::Rules>),
    /// Somebody wants to know who signed an image.
    WhoSigned {
        /// Which image.
        image: Digest,
    },
    /// Time has passed.
    Tick,
}

/// What the state wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send a message in a session.
    Send(SessionId, ToAgent),
    /// End a session.
    Close(SessionId, CloseCode, String),
    /// Make a step durable.
    Store(Op),
    /// Tell whoever follows the events.
    Announce(Announcement),
}

/// A change worth telling, before it has a number and a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// What happened.
    pub kind: api::events::EventKind,
    /// To which node.
    pub node: Option<NodeName>,
    /// To which image.
    pub image: Option<sifleet_common::name::ImageName>,
    /// With which digest.
    pub digest: Option<Digest>,
    /// In words.
    pub detail: Option<String>,
}

/// Everything the coordinator knows.
#[derive(Debug)]
pub struct State {
    limits: Limits,
    nodes: Vec<Node>,
    /// How many of the nodes an agent ever spoke for.
    agents: usize,
    by_name: BTreeMap<NodeName, NodeId>,
    sessions: BTreeMap<SessionId, NodeId>,
    index: Index,
    membership: Membership,
    describing: Describing,
    /// When each leased node's lease ends, soonest first.
    deadlines: BTreeSet<(Monotonic, NodeId)>,
    /// Nodes whose answers count.
    live: RoaringBitmap,
    stamp: Stamp,
    shown: publish::Shown,
    pushes: Pushes,
    removals: Removals,
    limiting: Limiting,
    identities: Identities,
    /// Number of the newest scan that somebody waits for.
    scans: u64,
    effects: Vec<Effect>,
}

impl State {
    /// Takes one event in and returns what is to be done about it.
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Effect> {
        match event {
            Event::Opened { session, caller, hello } => self.opened(session, &caller, hello, now),
            Event::Message { session, message } => self.message(session, message, now),
            Event::Closed { session } => self.closed(session),
            Event::Members { source, members } => self.members(source, members, now),
            Event::MembersFailed { source, reason } => {
                self.membership.failed(source, reason);
                self.rebuild_partitions();
            }
            Event::JobsRunOn { nodes } => self.jobs_run_on(nodes),
            Event::AuthoritiesChanged => self.renew_all(),
            Event::Signatures(rules) => self.heed_rules(*rules),
            Event::WhoSigned { image } => self.find_out_who_signed(image, now),
            Event::Tick => {}
        }
        self.expire(now);
        self.ask_for_descriptions();
        self.turn_pushes(now);
        self.turn_removals(now);
        self.turn_limits(now);
        std::mem::take(&mut self.effects)
    }

    /// Tells when the next lease ends, unless something is heard before.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Monotonic> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn message(&mut self, session: SessionId, message: ToCoordinator, now: Now) {
        // A message of a session that another one superseded says nothing about the present.
        let Some(id) = self.sessions.get(&session).copied() else { return };
        match message {
            ToCoordinator::Hello(_) => self.breach(id, "a second hello in one session"),
            ToCoordinator::Snapshot(part) => self.snapshot(id, part, now),
            ToCoordinator::Delta(delta) => self.delta(id, delta, now),
            ToCoordinator::Heartbeat(beat) => self.heartbeat(id, &beat, now),
            ToCoordinator::Described(described) => self.described(id, session, *described),
            ToCoordinator::Goodbye => self.goodbye(id),
            ToCoordinator::Report(report) => self.report(id, session, *report, now),
            ToCoordinator::Clock { at } => self.heed_clock(id, UnixMillis(at), now),
            ToCoordinator::Reconciled { request } => self.reconciled(id, request),
            // The session itself answers them.
            ToCoordinator::Renew | ToCoordinator::Pull(_) => {}
        }
    }

    /// Ends a session whose agent broke the protocol; nothing it said counts any longer.
    fn breach(&mut self, id: NodeId, how: &str) {
        if let Some(session) = self.node(id).and_then(|node| node.session.as_ref()).map(|session| session.id)
        {
            self.effects.push(Effect::Close(session, CloseCode::Protocol, how.to_owned()));
            self.unlease(id, how);
            self.closed(session);
        }
    }

    fn goodbye(&mut self, id: NodeId) {
        self.unlease(id, "its agent was stopped");
    }

    /// Forgets the session. The lease stays: until it ends, what was last claimed may be believed.
    fn closed(&mut self, session: SessionId) {
        if let Some(id) = self.sessions.remove(&session) {
            self.describing.lost(session);
            self.maps_lost(session);
            self.signatures_lost(session);
            if let Some(node) = self.nodes.get_mut(id.index())
                && node.session.as_ref().is_some_and(|current| current.id == session)
            {
                node.session = None;
                node.staging = None;
                self.shown.touch(id);
            }
        }
    }

    fn expire(&mut self, now: Now) {
        while let Some((deadline, id)) = self.deadlines.first().copied() {
            if deadline > now.mono {
                break;
            }
            self.unlease(id, "its lease expired");
            // A connection that was silent for a lease is dead, or its agent is; a living one dials again.
            if let Some(session) = self.node(id).and_then(|node| node.session.as_ref()).map(|open| open.id) {
                let why = "no agreeing heartbeat within the lease";
                self.effects.push(Effect::Close(session, CloseCode::Silent, why.to_owned()));
                self.closed(session);
            }
        }
    }

    /// Takes a node's lease away: whatever it claimed is last-known only.
    fn unlease(&mut self, id: NodeId, why: &str) {
        let Some(node) = self.nodes.get_mut(id.index()) else { return };
        node.current = false;
        let Some(deadline) = node.lease_until.take() else { return };
        self.deadlines.remove(&(deadline, id));
        self.live.remove(id.0);
        self.pushes.gone(id);
        self.removals.heed(id);
        self.shown.touch(id);
        let name = node.name.clone();
        self.announce_node(api::events::EventKind::NodeOffline, name, Some(why.to_owned()));
    }

    /// Extends a node's lease to `lease` after the stamp it repeated was sent.
    fn extend_lease(&mut self, id: NodeId, stamp: Stamp, now: Now) {
        let Some(node) = self.nodes.get_mut(id.index()) else { return };
        node.last_seen = Some(now.wall);
        self.shown.touch(id);
        let Some(sent) = node.session.as_mut().and_then(|session| session.sent(stamp)) else { return };
        let until = sent.after(self.limits.lease);
        if !node.current || until <= now.mono || node.lease_until.is_some_and(|known| known >= until) {
            return;
        }
        let renewed = node.lease_until.replace(until);
        self.deadlines.insert((until, id));
        match renewed {
            Some(before) => {
                self.deadlines.remove(&(before, id));
            }
            None => {
                let name = node.name.clone();
                self.live.insert(id.0);
                self.shown.touch(id);
                self.describable(id);
                self.announce_node(api::events::EventKind::NodeOnline, name, None);
            }
        }
    }

    /// Returns a stamp that is sent at `now`, or a little earlier: an older one only shortens a lease.
    fn stamp_for(&mut self, id: NodeId, now: Now) -> Stamp {
        let spacing = self.limits.lease / Session::STAMPS_A_LEASE;
        let next = Stamp(self.stamp.0.saturating_add(1));
        match self.nodes.get_mut(id.index()).and_then(|node| node.session.as_mut()) {
            Some(session) => {
                let stamp = session.stamp(next, now.mono, spacing);
                self.stamp = self.stamp.max(stamp);
                stamp
            }
            None => next,
        }
    }

    fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.index())
    }

    fn announce_node(&mut self, kind: api::events::EventKind, node: NodeName, detail: Option<String>) {
        self.effects.push(Effect::Announce(Announcement {
            kind,
            node: Some(node),
            image: None,
            digest: None,
            detail,
        }));
    }
}

#[cfg(test)]
mod tests;
