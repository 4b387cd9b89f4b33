//! The peers of one fetch: which are dialled, which are left alone, what each keeps for this node alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sifleet_common::chunk::span::SpanId;
use sifleet_common::name::NodeName;
use sifleet_common::push::Fault;
use sifleet_common::time::{Monotonic, UnixMillis};
use sifleet_common::wire::assignment::Peer;
use sifleet_common::wire::chunk::{Wish, runs};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::PeerId;

/// A peer that could not be reached, or had nothing, is tried again after this.
const AGAIN: Duration = Duration::from_secs(5);
/// One that fell silent while it was asked, after this: it has cost the time to notice once already.
const LATER: Duration = Duration::from_secs(60);

/// All peers.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// By number; a node that is dialled again gets another one.
    known: BTreeMap<PeerId, Known>,
    next: u32,
    /// Nodes that are left alone: until when, or for good.
    shunned: BTreeMap<NodeName, Option<Monotonic>>,
}

#[derive(Debug)]
struct Known {
    peer: Peer,
    /// Until when it was shown that we may fetch.
    until: UnixMillis,
    /// Whether it is to be asked for nothing more; it is forgotten when what it was asked for has come.
    over: bool,
    /// Present once it can be asked.
    wishes: Option<mpsc::Sender<Wish>>,
    /// Offered to this node alone.
    alone: BTreeSet<SpanId>,
    /// Those of them that came from elsewhere, and it does not know yet.
    got: Vec<SpanId>,
    following: AbortHandle,
}

impl Peers {
    /// Returns the number for a peer that is about to be followed.
    pub(super) fn number(&mut self) -> PeerId {
        let id = PeerId(self.next);
        self.next += 1;
        id
    }

    /// Takes in a peer that is followed by a task, with a capability that ends then.
    pub(super) fn add(&mut self, id: PeerId, peer: Peer, until: UnixMillis, following: AbortHandle) {
        let (alone, got) = (BTreeSet::new(), Vec::new());
        let known = Known { peer, until, over: false, wishes: None, alone, got, following };
        self.known.insert(id, known);
    }

    /// Notes that a peer gives nothing more, for the capability it was shown has run out. With the one that lasts until
    /// then it is dialled again at once; without a later one as late as those that had nothing.
    pub(super) fn over(&mut self, id: PeerId, until: UnixMillis, now: Monotonic) {
        let Some(known) = self.known.get_mut(&id) else { return };
        (known.over, known.wishes) = (true, None);
        known.got.clear();
        known.alone.clear();
        if until <= known.until {
            self.shun(id, None, now);
        }
    }

    /// Tells whether a peer gives nothing more.
    pub(super) fn is_over(&self, id: PeerId) -> bool {
        self.known.get(&id).is_some_and(|known| known.over)
    }

    /// Notes that a peer can be asked.
    pub(super) fn joined(&mut self, id: PeerId, wishes: mpsc::Sender<Wish>) {
        if let Some(known) = self.known.get_mut(&id) {
            known.wishes = Some(wishes);
        }
    }

    /// Tells whether a peer can be asked.
    pub(super) fn has_joined(&self, id: PeerId) -> bool {
        self.known.get(&id).is_some_and(|known| known.wishes.is_some())
    }

    /// Returns how many there are, and how many of them can be asked.
    pub(super) fn count(&self) -> (usize, usize) {
        let followed = self.known.values().filter(|known| !known.over).count();
        (followed, self.known.values().filter(|known| known.wishes.is_some()).count())
    }

    /// Returns a peer's node.
    pub(super) fn node(&self, id: PeerId) -> Option<&NodeName> {
        self.known.get(&id).map(|known| &known.peer.node)
    }

    /// Lists those that are not among these, and which of these are to be dialled.
    pub(super) fn compare(&mut self, named: Vec<Peer>, now: Monotonic) -> (Vec<PeerId>, Vec<Peer>) {
        self.shunned.retain(|_, until| until.is_none_or(|until| until > now));
        let gone = self.known.iter().filter(|(_, known)| !named.contains(&known.peer));
        let gone = gone.map(|(id, _)| *id).collect();
        let is_known = |peer: &Peer| self.known.values().any(|known| known.peer == *peer && !known.over);
        let new = named.into_iter().filter(|peer| !is_known(peer) && !self.shunned.contains_key(&peer.node));
        (gone, new.collect())
    }

    /// Leaves a peer alone, for a while or, for what cannot have been bad luck, for good.
    pub(super) fn shun(&mut self, id: PeerId, fault: Option<Fault>, now: Monotonic) {
        let until = match fault {
            Some(fault) if fault.is_malice() => None,
            Some(Fault::Stalled) => Some(now.after(LATER)),
            Some(_) | None => Some(now.after(AGAIN)),
        };
        if let Some(known) = self.known.get(&id) {
            self.shunned.insert(known.peer.node.clone(), until);
        }
    }

    /// Lets go of a peer.
    pub(super) fn forget(&mut self, id: PeerId) {
        if let Some(known) = self.known.remove(&id) {
            known.following.abort();
        }
    }

    /// Tells a peer something, unless it does not listen.
    pub(super) fn wish(&self, id: PeerId, wish: Wish) -> bool {
        let wishes = self.known.get(&id).and_then(|known| known.wishes.as_ref());
        wishes.is_some_and(|wishes| wishes.try_send(wish).is_ok())
    }

    /// Notes what a peer keeps for this node alone, some of which may be here already.
    pub(super) fn kept_alone(&mut self, id: PeerId, spans: &[SpanId], is_missing: impl Fn(SpanId) -> bool) {
        let Some(known) = self.known.get_mut(&id) else { return };
        let (wanted, late): (Vec<SpanId>, Vec<SpanId>) =
            spans.iter().copied().partition(|span| is_missing(*span));
        known.alone.extend(wanted);
        known.got.extend(late);
    }

    /// Notes that a span has come, so that others need not keep it for this node any longer.
    pub(super) fn got(&mut self, from: PeerId, span: SpanId) {
        for (id, known) in &mut self.known {
            if known.alone.remove(&span) && *id != from {
                known.got.push(span);
            }
        }
    }

    /// Tells whether a peer is to hear of spans that came from elsewhere.
    pub(super) fn has_news(&self) -> bool {
        self.known.values().any(|known| !known.got.is_empty())
    }

    /// Tells them; who does not listen hears of it the next time.
    pub(super) fn tell_news(&mut self) {
        for known in self.known.values_mut().filter(|known| !known.got.is_empty()) {
            let got = Wish::Got(runs(known.got.iter().map(|span| span.0)));
            if known.wishes.as_ref().is_some_and(|wishes| wishes.try_send(got).is_ok()) {
                known.got.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    fn peer(name: &str) -> Peer {
        Peer { node: name.parse().unwrap(), address: ([127, 0, 0, 1], 1).into() }
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    #[tokio::test]
    async fn who_could_not_be_reached_is_tried_again_and_who_lied_is_not() {
        let (mut peers, mut tasks) = (Peers::default(), JoinSet::<()>::new());
        for name in ["a", "b"] {
            let id = peers.number();
            peers.add(id, peer(name), UnixMillis(0), tasks.spawn(std::future::pending()));
        }
        peers.shun(PeerId(0), Some(Fault::Unreachable), at(10));
        peers.shun(PeerId(1), Some(Fault::Lied), at(10));
        peers.forget(PeerId(0));
        peers.forget(PeerId(1));
        let named = || vec![peer("a"), peer("b")];
        assert_eq!(peers.compare(named(), at(14)), (vec![], vec![]));
        assert_eq!(peers.compare(named(), at(15)), (vec![], vec![peer("a")]));
        assert_eq!(peers.compare(named(), at(1_000)).1, [peer("a")]);
    }

    #[tokio::test]
    async fn one_whose_permission_is_over_is_dialled_at_once_with_a_later_one_and_else_tried_again() {
        let (mut peers, mut tasks) = (Peers::default(), JoinSet::<()>::new());
        let (a, b) = (peers.number(), peers.number());
        for (id, name) in [(a, "a"), (b, "b")] {
            peers.add(id, peer(name), UnixMillis(100), tasks.spawn(std::future::pending()));
        }
        let named = || vec![peer("a"), peer("b")];
        peers.over(a, UnixMillis(200), at(10));
        peers.over(b, UnixMillis(100), at(10));
        assert!(peers.is_over(a) && peers.node(a).is_some(), "what it was asked for may still come");
        assert_eq!(peers.compare(named(), at(10)), (vec![], vec![peer("a")]));
        assert_eq!(peers.compare(named(), at(15)), (vec![], named()));
        assert_eq!(peers.count(), (0, 0));
    }

    #[tokio::test]
    async fn a_peer_hears_once_that_it_need_not_keep_a_span() {
        let (mut peers, mut tasks) = (Peers::default(), JoinSet::<()>::new());
        let (a, b) = (peers.number(), peers.number());
        let (wishes, mut heard) = mpsc::channel(4);
        for (id, name) in [(a, "a"), (b, "b")] {
            peers.add(id, peer(name), UnixMillis(0), tasks.spawn(std::future::pending()));
            peers.joined(id, wishes.clone());
        }
        peers.kept_alone(a, &[SpanId(1), SpanId(2), SpanId(3)], |span| span != SpanId(3));
        peers.got(b, SpanId(1));
        peers.got(a, SpanId(2));
        assert!(peers.has_news());
        peers.tell_news();
        let Some(Wish::Got(got)) = heard.recv().await else { panic!("nothing heard") };
        assert_eq!(got, runs([1, 3]));
        assert!(!peers.has_news() && heard.try_recv().is_err());
    }
}
