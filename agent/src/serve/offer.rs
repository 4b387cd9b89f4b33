//! What a node offers of one image to those who follow it.
//!
//! Pure. A node that has all of an image **seeds** it: every span is offered to one follower only, until each has been
//! sent once; from then on everything is offered to everybody. So its link carries little more than one copy, however
//! many nodes want one, and followers get different spans to trade among themselves (super-seeding, as in BitTorrent's
//! BEP 16). A node that is still fetching offers what it has to everybody.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sifleet_common::chunk::span::SpanId;

use crate::fetch::set::SpanSet;

/// Numbers a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FollowerId(pub u64);

/// Spans of one's own that a follower of a seeding node has to choose from: more than it asks for at once.
const WINDOW: usize = 8;

/// Spans that are offered to a follower from now on.
pub type Offer = (FollowerId, Vec<SpanId>);

/// What is offered of one image.
#[derive(Debug)]
pub struct Offers {
    have: SpanSet,
    /// Absent when everything is offered to everybody.
    seeding: Option<Seeding>,
    followers: BTreeSet<FollowerId>,
}

#[derive(Debug)]
struct Seeding {
    /// Offered to nobody yet.
    fresh: VecDeque<SpanId>,
    /// Not sent to anybody yet.
    unsent: SpanSet,
    /// Offered to this follower alone, and not sent yet.
    held: BTreeMap<FollowerId, Vec<SpanId>>,
}

impl Offers {
    /// Offers all of an image, seeding it.
    #[must_use]
    pub fn seed(spans: u32) -> Self {
        let have = SpanSet::full(spans);
        let fresh = have.iter().collect();
        let seeding = Seeding { fresh, unsent: have.clone(), held: BTreeMap::new() };
        Self { have, seeding: Some(seeding), followers: BTreeSet::new() }
    }

    /// Offers what is there of an image that is being fetched.
    #[must_use]
    pub const fn share(have: SpanSet) -> Self {
        Self { have, seeding: None, followers: BTreeSet::new() }
    }

    /// The same, given the spans that are there of so many.
    #[must_use]
    pub fn share_of(spans: u32, have: &[SpanId]) -> Self {
        let mut set = SpanSet::empty(spans);
        for span in have {
            set.insert(*span);
        }
        Self::share(set)
    }

    /// Takes in a follower.
    pub fn join(&mut self, id: FollowerId) -> Vec<Offer> {
        self.followers.insert(id);
        match &mut self.seeding {
            None => vec![(id, self.have.iter().collect())],
            Some(_) => self.refill(id),
        }
    }

    /// Lets a follower go.
    pub fn leave(&mut self, id: FollowerId) -> Vec<Offer> {
        self.followers.remove(&id);
        let Some(seeding) = &mut self.seeding else { return Vec::new() };
        for span in seeding.held.remove(&id).unwrap_or_default() {
            seeding.fresh.push_front(span);
        }
        let others: Vec<FollowerId> = self.followers.iter().copied().collect();
        others.into_iter().flat_map(|other| self.refill(other)).collect()
    }

    /// Notes spans that this node has got itself.
    pub fn gained(&mut self, spans: &[SpanId]) -> Vec<Offer> {
        let new: Vec<SpanId> = spans.iter().copied().filter(|span| self.have.insert(*span)).collect();
        if new.is_empty() {
            return Vec::new();
        }
        self.followers.iter().map(|id| (*id, new.clone())).collect()
    }

    /// Notes that a span was sent whole to a follower.
    pub fn sent(&mut self, id: FollowerId, span: SpanId) -> Vec<Offer> {
        let Some(seeding) = &mut self.seeding else { return Vec::new() };
        seeding.unsent.remove(span);
        if let Some(held) = seeding.held.get_mut(&id) {
            held.retain(|other| *other != span);
        }
        self.refill(id)
    }

    /// Tells whether a span may be asked for.
    #[must_use]
    pub fn has(&self, span: SpanId) -> bool {
        self.have.contains(span)
    }

    /// Gives a follower of its own as many spans as it may choose from; ends the seeding when none are left.
    fn refill(&mut self, id: FollowerId) -> Vec<Offer> {
        let Some(seeding) = &mut self.seeding else { return Vec::new() };
        let held = seeding.held.entry(id).or_default();
        let room = WINDOW.saturating_sub(held.len()).min(seeding.fresh.len());
        let given: Vec<SpanId> = seeding.fresh.drain(..room).collect();
        held.extend(&given);
        if !seeding.fresh.is_empty() {
            return if given.is_empty() { Vec::new() } else { vec![(id, given)] };
        }
        self.seeding = None;
        let all: Vec<SpanId> = self.have.iter().collect();
        self.followers.iter().map(|id| (*id, all.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: FollowerId = FollowerId(1);
    const TWO: FollowerId = FollowerId(2);

    fn spans(range: std::ops::Range<u32>) -> Vec<SpanId> {
        range.map(SpanId).collect()
    }

    #[test]
    fn a_seed_offers_every_span_to_one_follower_until_all_are_given_out() {
        let mut offers = Offers::seed(18);
        assert_eq!(offers.join(ONE), [(ONE, spans(0..8))]);
        assert_eq!(offers.join(TWO), [(TWO, spans(8..16))]);
        assert_eq!(offers.sent(ONE, SpanId(3)), [(ONE, spans(16..17))]);
        assert_eq!(offers.sent(TWO, SpanId(8)), [(ONE, spans(0..18)), (TWO, spans(0..18))]);
        assert_eq!(offers.sent(TWO, SpanId(9)), []);
    }

    #[test]
    fn what_a_lost_follower_was_to_pass_on_is_offered_again() {
        let mut offers = Offers::seed(30);
        offers.join(ONE);
        offers.join(TWO);
        for span in 0..8 {
            offers.sent(ONE, SpanId(span));
        }
        assert_eq!(offers.leave(TWO), []);
        let next = offers.sent(ONE, SpanId(16));
        let [(ONE, given)] = next.as_slice() else { panic!("{next:?}") };
        assert!(given.iter().all(|span| (8..16).contains(&span.0)), "{given:?}");
    }

    #[test]
    fn a_fetching_node_offers_what_it_gains_to_everybody() {
        let mut offers = Offers::share(SpanSet::empty(4));
        assert_eq!(offers.join(ONE), [(ONE, vec![])]);
        assert_eq!(offers.gained(&[SpanId(2)]), [(ONE, vec![SpanId(2)])]);
        assert_eq!(offers.gained(&[SpanId(2)]), []);
        assert_eq!(offers.join(TWO), [(TWO, vec![SpanId(2)])]);
        assert!(offers.has(SpanId(2)) && !offers.has(SpanId(0)));
    }
}
