//! A node of a simulated transfer, and what its link does: spans go out one after the other, the way they leave a queue in
//! front of a shaped link, and come in the same way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand::RngExt;
use sifleet_agent::fetch::set::SpanSet;
use sifleet_agent::fetch::{Event, Fetch, PeerId};
use sifleet_agent::serve::giving::{self, Giving, Kept};
use sifleet_common::chunk::span::SpanId;
use sifleet_common::wire::chunk::runs;

use super::{Happening, Line, NOT_TAKEN, SILENCE, Swarm, Turn, World, image, nanos};

pub(super) struct Node {
    /// Absent at the first source.
    pub(super) fetch: Option<Fetch>,
    pub(super) giving: Giving,
    /// Nanoseconds a span takes on its link.
    span: u64,
    pub(super) queue: VecDeque<Sending>,
    sending: bool,
    /// Until when spans come in that were sent already.
    busy_until: u64,
    /// Whom it follows.
    pub(super) peers: BTreeMap<usize, Line>,
    /// Turns it gave and that have not ended; whether they are lagging.
    pub(super) turns: BTreeMap<Turn, bool>,
    gained: Vec<SpanId>,
    /// When it may tell what it gained, and whether that is settled.
    tells: (u64, bool),
    pub(super) done: Option<u64>,
    pub(super) dead: bool,
    pub(super) sent: u64,
}

/// What is on a link, or waits for it.
#[derive(Clone, Copy)]
pub(super) struct Sending {
    pub(super) line: Line,
    pub(super) turn: Turn,
    pub(super) span: SpanId,
}

/// A fetcher follows a giver.
pub(super) struct Connection {
    pub(super) fetcher: usize,
    pub(super) giver: usize,
    /// What the giver keeps for this fetcher alone.
    pub(super) alone: BTreeSet<SpanId>,
}

impl Node {
    pub(super) fn new(world: &World, wants: bool, slow: bool, seed: u64) -> Self {
        let mut giving = Giving::new(world.turns);
        let kept = if wants { Kept::Part(world.spans, Vec::new()) } else { Kept::Whole(world.spans) };
        giving.handle(giving::Event::Opened(image(), kept));
        let none = SpanSet::empty(world.spans);
        Self {
            fetch: wants.then(|| Fetch::new(world.spans, &none, world.limits, seed)),
            giving,
            span: nanos(world.span) * if slow { 5 } else { 1 },
            queue: VecDeque::new(),
            sending: false,
            busy_until: 0,
            peers: BTreeMap::new(),
            turns: BTreeMap::new(),
            gained: Vec::new(),
            tells: (0, false),
            done: None,
            dead: false,
            sent: 0,
        }
    }

    /// Notes that a turn takes long; tells whether that is news.
    pub(super) fn lags(&mut self, turn: Turn) -> bool {
        self.turns.get_mut(&turn).is_some_and(|lags| !std::mem::replace(lags, true))
    }
}

impl Swarm {
    /// Follows those that the planner names, and nobody else.
    pub(super) fn named(&mut self, at: usize, peers: Vec<usize>) {
        let node = &self.nodes[at];
        let Some(fetch) = node.fetch.as_ref().filter(|_| !node.dead && node.done.is_none()) else { return };
        let gone = node.peers.iter().filter(|(peer, _)| !peers.contains(*peer));
        let gone: Vec<Line> = gone.map(|(_, line)| *line).collect();
        let lacks = runs(fetch.missing().iter().map(|span| span.0));
        for line in gone {
            self.tell(at, Event::Left(PeerId(line)));
            self.hang_up(line);
        }
        for giver in peers {
            if self.nodes[at].peers.contains_key(&giver) || self.nodes[giver].dead {
                continue;
            }
            let line = Line::try_from(self.lines.len()).unwrap_or(Line::MAX);
            self.lines.push(Connection { fetcher: at, giver, alone: BTreeSet::new() });
            self.nodes[at].peers.insert(giver, line);
            self.tell(at, Event::Joined(PeerId(line)));
            self.soon(Happening::Followed { line, lacks: lacks.clone() });
        }
    }

    /// A fetcher has nothing more to do with a giver.
    pub(super) fn hang_up(&mut self, line: Line) {
        let Connection { fetcher, giver, .. } = &self.lines[line as usize];
        if self.nodes[*fetcher].peers.get(giver) == Some(&line) {
            self.nodes[*fetcher].peers.remove(giver);
        }
        self.soon(Happening::Left { line });
    }

    pub(super) fn cancelled(&mut self, line: Line, span: SpanId) {
        let node = self.giver(line);
        // What is on the link already arrives for nothing.
        let mut waiting = (0..).zip(&node.queue).skip(usize::from(node.sending));
        let found = waiting.find(|(_, one)| one.line == line && one.span == span).map(|(at, _)| at);
        if let Some(Sending { turn, .. }) = found.and_then(|at| node.queue.remove(at)) {
            self.happen(Happening::Ended { line, turn, span: None });
        }
    }

    /// Puts the next span on a node's link.
    pub(super) fn send(&mut self, by: usize) {
        let jitter = f64::from(self.world.jitter) / 100.0;
        let node = &mut self.nodes[by];
        if node.sending || node.dead || node.queue.is_empty() {
            return;
        }
        node.sending = true;
        let factor = 1.0 + jitter * self.random.random_range(-1.0..=1.0);
        let took = Duration::from_nanos(node.span).mul_f64(factor);
        self.after(nanos(took), Happening::Sent { by });
    }

    pub(super) fn sent(&mut self, by: usize) {
        let node = &mut self.nodes[by];
        if node.dead {
            return;
        }
        node.sending = false;
        if let Some(Sending { line, turn, span }) = node.queue.pop_front() {
            node.sent += 1;
            let receiver = &mut self.nodes[self.lines[line as usize].fetcher];
            let arrival = self.now.max(receiver.busy_until + receiver.span);
            receiver.busy_until = arrival;
            let wait = arrival - self.now + nanos(self.world.latency);
            self.after(wait, Happening::Arrived { line, turn, span });
        }
        self.send(by);
    }

    pub(super) fn arrived(&mut self, line: Line, turn: Turn, span: SpanId) {
        let at = self.lines[line as usize].fetcher;
        let node = &mut self.nodes[at];
        if node.dead {
            self.after(NOT_TAKEN, Happening::Ended { line, turn, span: None });
            return;
        }
        if node.fetch.as_ref().is_some_and(|fetch| fetch.missing().contains(span)) {
            node.gained.push(span);
            let (from, settled) = node.tells;
            if !settled {
                node.tells.1 = true;
                self.after(from.saturating_sub(self.now), Happening::Gathered { at });
            }
            self.tell(at, Event::Got(PeerId(line), span));
        } else {
            self.wasted += 1;
        }
        self.soon(Happening::Ended { line, turn, span: Some(span) });
    }

    /// Tells what was gained: followers of it, and those that keep it for this node alone that they need not.
    pub(super) fn gathered(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.tells = (self.now + nanos(self.world.gather), false);
        let gained = std::mem::take(&mut node.gained);
        for line in node.peers.values().copied().collect::<Vec<_>>() {
            let alone = &mut self.lines[line as usize].alone;
            if alone.is_empty() {
                continue;
            }
            let spans: Vec<SpanId> = gained.iter().copied().filter(|span| alone.remove(span)).collect();
            if !spans.is_empty() {
                self.soon(Happening::Got { line, spans });
            }
        }
        self.give_by(at, giving::Event::Gained(image(), gained));
    }

    /// A machine stops from one moment to the next: nobody is told.
    pub(super) fn died(&mut self, at: usize) {
        self.nodes[at].dead = true;
        self.nodes[at].queue.clear();
        let lost = (0_u32..).zip(&self.lines).filter(|(_, line)| line.fetcher == at || line.giver == at);
        let lost: Vec<Line> = lost.map(|(line, _)| line).collect();
        for line in lost {
            self.after(SILENCE, Happening::Lost { line });
        }
        let lease = self.planner.lease(&mut self.random);
        self.after(lease, Happening::Missed { at });
    }

    /// One end of a connection was silent for long: to the other one it is gone.
    pub(super) fn lost(&mut self, line: Line) {
        let Connection { fetcher, giver, .. } = self.lines[line as usize];
        if self.nodes[fetcher].peers.get(&giver) == Some(&line) {
            self.nodes[fetcher].peers.remove(&giver);
            self.tell(fetcher, Event::Left(PeerId(line)));
        }
        self.happen(Happening::Left { line });
    }
}
