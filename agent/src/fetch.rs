//! Which span is asked of whom: the pure heart of a transfer.
//!
//! Owns what is still wanted of one image, what each peer offers, and what was asked of it. It is told what happened
//! and when, and says what to do; it moves no byte and knows no address. Rules, with the reasons in
//! `docs/decisions/0012-turns.md`: a peer is told that something is wanted of it, and when it has its turn to give, the
//! rarest span that it offers is chosen, ties at random: so nobody waits in a queue with a choice made long ago; a
//! question that takes too long is asked again elsewhere; a peer that breaks its word is dropped at once, with the reason.

pub mod gate;
pub mod keep;
pub mod limits;
mod map;
mod patience;
mod peer;
mod peers;
mod pull;
mod receive;
pub mod run;
pub mod set;
pub mod status;
mod whole;

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sifleet_common::chunk::span::SpanId;
use sifleet_common::push::Fault;
use sifleet_common::time::Monotonic;

use limits::Limits;
use set::SpanSet;

/// Numbers a peer within one transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u32);

/// When so few spans are missing, those on their way are asked for a second time of peers with nothing else to give.
const ENDGAME: usize = 4;

/// What can happen to a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer can be asked.
    Joined(PeerId),
    /// A peer offers more.
    Offered(PeerId, Vec<SpanId>),
    /// A peer can give a span at once: which one?
    Turn(PeerId),
    /// Bytes of a span came; not all of it yet.
    Heard(PeerId),
    /// A span came whole, was verified and kept.
    Got(PeerId, SpanId),
    /// A peer broke its word, or its connection broke.
    Failed(PeerId, Fault),
    /// A peer is no longer to be asked; what it was asked for does not come.
    Left(PeerId),
    /// A peer is no longer to be asked; what it was asked for may come.
    Over(PeerId),
    /// Time has passed.
    Tick,
}

/// What a transfer wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell a peer that something is wanted of it.
    Want(PeerId),
    /// Ask a peer, whose turn it is, for a span.
    Ask(PeerId, SpanId),
    /// Tell a peer, whose turn it is, that nothing is wanted of it any longer.
    Pass(PeerId),
    /// The answer of this peer is no longer needed.
    Cancel(PeerId, SpanId),
    /// Have nothing to do with this peer any longer.
    Drop(PeerId, Fault),
    /// Everything is there.
    Complete,
}

#[derive(Debug)]
struct Peer {
    offered: SpanSet,
    /// Turns that are wanted of it and that it has not had yet.
    wanted: usize,
    /// What it was asked, and when.
    asked: BTreeMap<SpanId, Monotonic>,
    /// When it last sent anything, or was asked while idle.
    heard: Monotonic,
    /// Whether a span came from it whole and right.
    proven: bool,
}

impl Peer {
    /// Tells whether it may be asked for one more, when it is one of so many.
    fn has_room(&self, limits: &Limits, peers: usize) -> bool {
        self.asked.len() < self.most(limits, peers)
    }

    /// Tells whether one more turn may be wanted of it: not the last one before a span arrives, which is wanted when it has come.
    fn may_be_wanted(&self, limits: &Limits, peers: usize) -> bool {
        let most = self.most(limits, peers);
        self.wanted < (most - 1).max(1) && self.asked.len() + self.wanted < most
    }

    /// Returns for how many spans it may be asked at once.
    fn most(&self, limits: &Limits, peers: usize) -> usize {
        if self.proven { limits.of_one(peers) } else { 1 }
    }
}

/// A transfer of one image to this node.
#[derive(Debug)]
pub struct Fetch {
    limits: Limits,
    missing: SpanSet,
    /// Missing, and nobody was asked for it.
    free: SpanSet,
    /// How many peers offer each span.
    rarity: Vec<u16>,
    /// How many times each span is being asked for.
    pending: Vec<u8>,
    peers: BTreeMap<PeerId, Peer>,
    asked: usize,
    /// When the time was last looked at.
    ticked: Monotonic,
    random: StdRng,
    done: bool,
}

/// Which peers may have become of use.
enum Stirred {
    Nobody,
    One(PeerId),
    Everybody,
}

impl Fetch {
    /// Starts a transfer of `spans` spans, of which `have` are there already.
    #[must_use]
    pub fn new(spans: u32, have: &SpanSet, limits: Limits, seed: u64) -> Self {
        let count = spans as usize;
        let mut missing = SpanSet::full(spans);
        for span in have.iter() {
            missing.remove(span);
        }
        Self {
            limits,
            free: missing.clone(),
            missing,
            rarity: vec![0; count],
            pending: vec![0; count],
            peers: BTreeMap::new(),
            asked: 0,
            ticked: Monotonic::default(),
            random: StdRng::seed_from_u64(seed),
            done: false,
        }
    }

    /// Returns what is not there yet.
    #[must_use]
    pub const fn missing(&self) -> &SpanSet {
        &self.missing
    }

    /// Tells when time alone would change something, if ever.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let busy = self.peers.values().filter(|peer| !peer.asked.is_empty());
        let deadlines = busy.flat_map(|peer| {
            let overdue = peer.asked.values().map(|since| since.after(self.limits.overdue));
            overdue.chain([peer.heard.after(self.limits.patience)])
        });
        // What was seen to be late then stays late: there is nothing more to wake up for.
        deadlines.filter(|at| *at > self.ticked).min()
    }

    /// Takes one event in and returns what is to be done about it.
    pub fn handle(&mut self, event: Event, now: Monotonic) -> Vec<Action> {
        let mut actions = Vec::new();
        let stirred = match event {
            Event::Joined(id) => {
                let offered = SpanSet::empty(self.missing.len());
                self.peers.entry(id).or_insert(Peer {
                    offered,
                    wanted: 0,
                    asked: BTreeMap::new(),
                    heard: now,
                    proven: false,
                });
                Stirred::Nobody
            }
            Event::Offered(id, spans) => self.offered(id, &spans),
            Event::Turn(id) => self.turn(id, now, &mut actions),
            Event::Heard(id) => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.heard = now;
                }
                Stirred::Nobody
            }
            Event::Got(id, span) => self.got(id, span, now, &mut actions),
            Event::Failed(id, fault) => self.drop_peer(id, fault, &mut actions),
            Event::Left(id) => self.forget(id),
            Event::Over(id) => self.over(id),
            Event::Tick => self.drop_silent(now, &mut actions),
        };
        if !self.done && self.missing.is_empty() {
            self.done = true;
            actions.push(Action::Complete);
        }
        match stirred {
            Stirred::Nobody => {}
            Stirred::One(id) => self.want(&[id], now, &mut actions),
            Stirred::Everybody => {
                let all: Vec<PeerId> = self.peers.keys().copied().collect();
                self.want(&all, now, &mut actions);
            }
        }
        actions
    }

    fn offered(&mut self, id: PeerId, spans: &[SpanId]) -> Stirred {
        let Some(peer) = self.peers.get_mut(&id) else { return Stirred::Nobody };
        for span in spans {
            if peer.offered.insert(*span)
                && let Some(rarity) = self.rarity.get_mut(span.index())
            {
                *rarity = rarity.saturating_add(1);
            }
        }
        Stirred::One(id)
    }

    fn got(&mut self, id: PeerId, span: SpanId, now: Monotonic, actions: &mut Vec<Action>) -> Stirred {
        self.missing.remove(span);
        self.free.remove(span);
        let (overdue, mut silent) = (self.limits.overdue, Vec::new());
        for (other, peer) in &mut self.peers {
            if *other == id {
                (peer.heard, peer.proven) = (now, true);
            }
            if peer.asked.remove(&span).is_some() {
                self.asked -= 1;
                if *other != id {
                    actions.push(Action::Cancel(*other, span));
                    // It was asked long before and has said nothing: asking it again would only start another wait.
                    if peer.heard.after(overdue) <= now {
                        silent.push(*other);
                    }
                }
            }
        }
        for other in silent {
            self.drop_peer(other, Fault::Stalled, actions);
        }
        if let Some(pending) = self.pending.get_mut(span.index()) {
            *pending = 0;
        }
        Stirred::Everybody
    }

    fn drop_silent(&mut self, now: Monotonic, actions: &mut Vec<Action>) -> Stirred {
        self.ticked = now;
        let patience = self.limits.patience;
        let silent = |peer: &Peer| !peer.asked.is_empty() && peer.heard.after(patience) <= now;
        let silent: Vec<PeerId> =
            self.peers.iter().filter(|(_, peer)| silent(peer)).map(|(id, _)| *id).collect();
        for id in silent {
            self.drop_peer(id, Fault::Stalled, actions);
        }
        Stirred::Everybody
    }

    fn drop_peer(&mut self, id: PeerId, fault: Fault, actions: &mut Vec<Action>) -> Stirred {
        if self.peers.contains_key(&id) {
            actions.push(Action::Drop(id, fault));
        }
        self.forget(id)
    }

    /// Has a peer offer nothing any longer.
    fn over(&mut self, id: PeerId) -> Stirred {
        let none = SpanSet::empty(self.missing.len());
        let Some(peer) = self.peers.get_mut(&id) else { return Stirred::Nobody };
        let offered = std::mem::replace(&mut peer.offered, none);
        self.less_offered(&offered);
        Stirred::Nobody
    }

    fn less_offered(&mut self, offered: &SpanSet) {
        for span in offered.iter() {
            if let Some(rarity) = self.rarity.get_mut(span.index()) {
                *rarity -= 1;
            }
        }
    }

    fn forget(&mut self, id: PeerId) -> Stirred {
        let Some(peer) = self.peers.remove(&id) else { return Stirred::Nobody };
        self.less_offered(&peer.offered);
        for span in peer.asked.keys() {
            self.asked -= 1;
            if let Some(pending) = self.pending.get_mut(span.index()) {
                *pending -= 1;
                if *pending == 0 && self.missing.contains(*span) {
                    self.free.insert(*span);
                }
            }
        }
        Stirred::Everybody
    }

    /// Answers a peer that can give at once.
    fn turn(&mut self, id: PeerId, now: Monotonic, actions: &mut Vec<Action>) -> Stirred {
        let peers = self.peers.len();
        let Some(peer) = self.peers.get_mut(&id) else { return Stirred::Nobody };
        peer.wanted = peer.wanted.saturating_sub(1);
        let room = self.asked < self.limits.asked && peer.has_room(&self.limits, peers);
        let Some(span) = room.then(|| self.choose(id, now)).flatten() else {
            actions.push(Action::Pass(id));
            return Stirred::One(id);
        };
        if let Some(peer) = self.peers.get_mut(&id) {
            if peer.asked.is_empty() {
                peer.heard = now;
            }
            peer.asked.insert(span, now);
        }
        self.asked += 1;
        self.free.remove(span);
        if let Some(pending) = self.pending.get_mut(span.index()) {
            *pending += 1;
        }
        actions.push(Action::Ask(id, span));
        // In the endgame what was just asked of one may be asked of another.
        if self.is_endgame() { Stirred::Everybody } else { Stirred::One(id) }
    }

    /// Tells those of these peers that are idle and offer something of use that they are wanted.
    fn want(&mut self, peers: &[PeerId], now: Monotonic, actions: &mut Vec<Action>) {
        if self.asked >= self.limits.asked {
            return;
        }
        for id in peers {
            while self.is_of_use(*id, now)
                && let Some(peer) = self.peers.get_mut(id)
            {
                peer.wanted += 1;
                actions.push(Action::Want(*id));
            }
        }
    }

    /// Tells whether one more turn of a peer would be used, as far as can be known before it comes.
    fn is_of_use(&self, id: PeerId, now: Monotonic) -> bool {
        let has_room = |peer: &&Peer| peer.may_be_wanted(&self.limits, self.peers.len());
        self.peers.get(&id).filter(has_room).is_some_and(|peer| {
            let offers_more = peer.offered.common(&self.free).nth(peer.wanted).is_some();
            offers_more || (peer.wanted == 0 && self.overdue(id, now).is_some())
        })
    }

    /// Finds what to ask of a peer: a span that nobody was asked for and the fewest offer, or else one that takes long.
    fn choose(&mut self, id: PeerId, now: Monotonic) -> Option<SpanId> {
        let offered = &self.peers.get(&id)?.offered;
        let rarity = |span: SpanId| self.rarity.get(span.index()).copied().unwrap_or(u16::MAX);
        let least = offered.common(&self.free).map(rarity).min();
        let mut rarest = offered.common(&self.free).filter(|span| Some(rarity(*span)) == least);
        match rarest.clone().count() {
            0 => self.overdue(id, now),
            ties => rarest.nth(self.random.random_range(0..ties)),
        }
    }

    fn is_endgame(&self) -> bool {
        self.missing.count() <= ENDGAME
    }

    /// Finds the span that another peer was asked for the longest ago and this one offers too: one that is late, or any
    /// of the last ones.
    fn overdue(&self, id: PeerId, now: Monotonic) -> Option<SpanId> {
        let offered = &self.peers.get(&id)?.offered;
        let endgame = self.is_endgame();
        let others = self.peers.iter().filter(|(other, _)| **other != id);
        let asked = others.flat_map(|(_, peer)| &peer.asked);
        let late = asked.filter(|(span, since)| {
            (endgame || since.after(self.limits.overdue) <= now)
                && offered.contains(**span)
                && self.pending.get(span.index()) == Some(&1)
        });
        late.min_by_key(|(_, since)| **since).map(|(span, _)| *span)
    }
}

#[cfg(test)]
mod tests;
