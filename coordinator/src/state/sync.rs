//! How an inventory gets from a node to the index: hello, snapshot, delta, heartbeat.
//!
//! What is applied need not be believed: only a heartbeat whose generation and digest equal ours makes an
//! inventory current, so a message that was lost, doubled or overtaken can delay an answer, never falsify it.

use std::collections::BTreeSet;

use sifleet_common::inventory::Inventory;
use sifleet_common::name::{ImageName, NodeName};
use sifleet_common::time::Now;
use sifleet_common::wire::code::CloseCode;
use sifleet_common::wire::control::{
    Delta, Heartbeat, Hello, Known, MAX_BUILD, MAX_DECLARED_PARTITIONS, Snapshot, StreamId, ToAgent, Welcome,
};

use super::index::NodeId;
use super::node::{Node, Session, Staging};
use super::{Caller, Effect, SessionId, State, check};
use crate::store::{NodeFacts, Op, Position};

impl State {
    /// Returns the number of a node that an agent speaks for, giving it one if there is room for one more agent.
    pub(super) fn id_of_agent(&mut self, name: &NodeName) -> Option<NodeId> {
        let known = self.by_name.get(name).copied();
        if let Some(id) = known.filter(|id| self.node(*id).is_some_and(|node| node.facts.is_some())) {
            return Some(id);
        }
        if self.agents >= self.limits.max_nodes {
            return None;
        }
        self.agents += 1;
        self.id_of(name)
    }

    /// Returns the node's number, giving it one: members of partitions are bounded where partitions are read.
    pub(super) fn id_of(&mut self, name: &NodeName) -> Option<NodeId> {
        if let Some(id) = self.by_name.get(name) {
            return Some(*id);
        }
        let id = NodeId(u32::try_from(self.nodes.len()).ok()?);
        self.nodes.push(Node::new(name.clone()));
        self.by_name.insert(name.clone(), id);
        self.shown.touch(id);
        Some(id)
    }

    pub(super) fn opened(&mut self, session: SessionId, caller: &Caller, hello: Hello, now: Now) {
        let Caller { node: name, .. } = caller;
        if hello.build.len() > MAX_BUILD || hello.partitions.len() > MAX_DECLARED_PARTITIONS {
            self.effects.push(Effect::Close(session, CloseCode::Protocol, "hello exceeds its limits".into()));
            return;
        }
        if !self.lets_in(session, caller, now) {
            return;
        }
        let Some(id) = self.id_of_agent(name) else {
            let why = format!("the coordinator keeps {} nodes, its limit", self.limits.max_nodes);
            self.effects.push(Effect::Close(session, CloseCode::Busy, why));
            return;
        };
        if let Some(old) = self.node(id).and_then(|node| node.session.as_ref()).map(|old| old.id) {
            let why = "the node opened another connection";
            self.effects.push(Effect::Close(old, CloseCode::Superseded, why.into()));
            self.closed(old);
        }
        self.sessions.insert(session, id);
        self.learn_address(id, caller, hello.transfer_port);
        let known = self.greet(id, session, &hello, now);
        self.learn_facts(id, name, hello, now);
        let stamp = self.stamp_for(id, now);
        let welcome = Welcome {
            known,
            lease_ms: millis(self.limits.lease),
            heartbeat_ms: millis(self.limits.heartbeat),
            stamp,
        };
        self.effects.push(Effect::Send(session, ToAgent::Welcome(welcome)));
        self.say_capability_key(session);
        self.say_first_limits(id);
        self.shown.touch(id);
    }

    /// Opens the session on the node and tells how much of the agent's inventory is already here.
    ///
    /// The lease is left alone: an old claim runs out by itself unless this session renews it.
    fn greet(&mut self, id: NodeId, session: SessionId, hello: &Hello, now: Now) -> Known {
        let Some(node) = self.nodes.get_mut(id.index()) else { return Known::Nothing };
        let same = node.inventory.digest() == hello.digest;
        let known = if same && (node.stream != hello.stream || node.generation == hello.generation) {
            node.stream = hello.stream;
            node.generation = hello.generation;
            Known::Current
        } else if node.stream == hello.stream && node.generation < hello.generation {
            Known::At(node.generation)
        } else {
            Known::Nothing
        };
        node.current = false;
        node.staging = None;
        let mut opened = Session::new(session, hello.stream);
        opened.resyncing = (known == Known::Nothing).then_some(now.mono);
        node.session = Some(opened);
        known
    }

    fn learn_facts(&mut self, id: NodeId, name: &NodeName, hello: Hello, now: Now) {
        let Some(node) = self.nodes.get_mut(id.index()) else { return };
        let declared = node.facts.as_ref().map(|facts| facts.partitions.as_slice()).unwrap_or_default();
        let moved = declared != hello.partitions;
        let facts = NodeFacts {
            build: hello.build,
            arch: hello.arch,
            partitions: hello.partitions,
            last_seen: now.wall,
        };
        node.last_seen = Some(now.wall);
        node.facts = Some(facts.clone());
        self.effects.push(Effect::Store(Op::PutNode { node: name.clone(), facts }));
        if moved {
            self.declared_changed(now.wall);
        }
    }

    pub(super) fn snapshot(&mut self, id: NodeId, part: Snapshot, now: Now) {
        if let Err(how) = check::changes(&part.changes) {
            self.breach(id, how);
            return;
        }
        let max = self.limits.max_replicas;
        let Some(node) = self.nodes.get_mut(id.index()) else { return };
        let Some(stream) = node.session.as_ref().map(|session| session.stream) else { return };
        if part.part == 0 {
            let stale = stream == node.stream && part.generation < node.generation;
            node.staging = (!stale).then(|| Staging {
                generation: part.generation,
                next_part: 0,
                inventory: Inventory::default(),
            });
        }
        let Some(staging) = &mut node.staging else { return };
        if staging.generation != part.generation || staging.next_part != part.part {
            node.staging = None;
            self.resync(id, now);
            return;
        }
        staging.next_part += 1;
        for change in part.changes {
            staging.inventory.apply(change);
        }
        if let Err(how) = check::size(&staging.inventory, max) {
            self.breach(id, how);
        } else if part.last
            && let Some(done) = node.staging.take()
        {
            self.replace(id, stream, done);
            self.acknowledge(id, now);
        }
    }

    pub(super) fn replace(&mut self, id: NodeId, stream: StreamId, done: Staging) {
        let Some(node) = self.nodes.get_mut(id.index()) else { return };
        if let Some(session) = &mut node.session {
            session.resyncing = None;
        }
        // Until a heartbeat confirms it, nothing vouches for the whole.
        node.current = false;
        node.stream = stream;
        node.generation = done.generation;
        let old = std::mem::replace(&mut node.inventory, done.inventory);
        let inventory = node.inventory.clone();
        let (name, position) = (node.name.clone(), position_of(node));
        let roots_changed = !old.roots().eq(inventory.roots());
        for key in differing(&old, &inventory, roots_changed) {
            self.refresh(id, &key, &inventory);
        }
        self.shown.touch(id);
        let changes = inventory.as_changes().collect();
        self.effects.push(Effect::Store(Op::Replace { node: name, position, changes }));
    }

    /// Returns the step that makes all that is known of a node durable, whatever was written of it before.
    #[must_use]
    pub fn whole(&self, name: &NodeName) -> Option<Op> {
        let node = self.by_name.get(name).and_then(|id| self.node(*id))?;
        let changes = node.inventory.as_changes().collect();
        Some(Op::Replace { node: name.clone(), position: position_of(node), changes })
    }

    pub(super) fn delta(&mut self, id: NodeId, delta: Delta, now: Now) {
        if let Err(how) = check::changes(&delta.changes) {
            self.breach(id, how);
            return;
        }
        let max = self.limits.max_replicas;
        let Some(node) = self.nodes.get_mut(id.index()) else { return };
        let Some(session) = &node.session else { return };
        if session.stream != node.stream || session.resyncing.is_some() || delta.generation <= node.generation
        {
            return;
        }
        if delta.generation != node.generation.next() {
            self.resync(id, now);
            return;
        }
        node.generation = delta.generation;
        let (mut effective, mut reread) = (Vec::with_capacity(delta.changes.len()), BTreeSet::new());
        for change in delta.changes {
            let change = self.index_interned(change);
            reread.extend(self.step(id, &change));
            effective.push(change);
        }
        self.reread(id, &reread);
        let Some(node) = self.node(id) else { return };
        if let Err(how) = check::size(&node.inventory, max) {
            self.breach(id, how);
            return;
        }
        let (node, position) = (node.name.clone(), position_of(node));
        self.effects.push(Effect::Store(Op::Advance { node, position, changes: effective }));
        self.acknowledge(id, now);
    }

    pub(super) fn heartbeat(&mut self, id: NodeId, beat: &Heartbeat, now: Now) {
        let Some(node) = self.nodes.get_mut(id.index()) else { return };
        let Some(session) = &node.session else { return };
        if let Some(asked) = session.resyncing {
            // The snapshot is on its way; if it does not come for long, the request was lost.
            if node.staging.is_none() && now.mono.since(asked) > self.limits.lease {
                self.resync(id, now);
            }
            return;
        }
        if session.stream == node.stream && beat.generation < node.generation {
            // It was on its way when we moved on; the next one will tell.
            return;
        }
        let agrees = session.stream == node.stream
            && beat.generation == node.generation
            && beat.digest == node.inventory.digest();
        if !agrees {
            self.resync(id, now);
            return;
        }
        let confirmed = !std::mem::replace(&mut node.current, true) || node.lease_until.is_none();
        self.extend_lease(id, beat.stamp, now);
        if confirmed {
            self.pushes.came(id);
            self.removals.came(id);
        }
        self.acknowledge(id, now);
    }

    fn acknowledge(&mut self, id: NodeId, now: Now) {
        let stamp = self.stamp_for(id, now);
        if let Some(node) = self.node(id)
            && let Some(session) = &node.session
        {
            let ack = ToAgent::Ack { generation: node.generation, stamp };
            self.effects.push(Effect::Send(session.id, ack));
        }
    }

    /// Asks for a snapshot, once; until it is confirmed the node's answers do not count.
    fn resync(&mut self, id: NodeId, now: Now) {
        self.unlease(id, "its inventory has to be sent again");
        let stamp = self.stamp_for(id, now);
        let Some(session) = self.nodes.get_mut(id.index()).and_then(|node| node.session.as_mut()) else {
            return;
        };
        session.resyncing = Some(now.mono);
        self.effects.push(Effect::Send(session.id, ToAgent::Resync { stamp }));
    }
}

fn position_of(node: &Node) -> Position {
    Position { stream: node.stream, generation: node.generation, digest: node.inventory.digest() }
}

/// Lists the names whose replicas differ, or all names if the roots do.
fn differing(old: &Inventory, new: &Inventory, roots: bool) -> Vec<ImageName> {
    let gone = old.replicas().filter(|(key, _)| new.replica(key).is_none()).map(|(key, _)| key);
    let changed = new.replicas().filter(|(key, replica)| roots || old.replica(key) != Some(replica));
    let mut names: Vec<ImageName> =
        gone.chain(changed.map(|(key, _)| key)).map(|key| key.name.clone()).collect();
    names.sort();
    names.dedup();
    names
}

fn millis(duration: std::time::Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
