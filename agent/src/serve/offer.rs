//! What a node offers of one image to those who follow it.
//!
//! Pure. A node that has all of an image **seeds** it: every span is offered to one follower only, until each has been
//! sent once; from then on everything is offered to everybody. So its link carries little more than one copy, however
//! many nodes want one, and followers get different spans to trade among themselves (super-seeding, as in BitTorrent's
//! BEP 16). A node that is still fetching offers what it has to everybody.

use std::collections::{BTreeMap, BTreeSet};

use sifleet_common::chunk::span::SpanId;

use crate::fetch::set::SpanSet;

/// Numbers a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FollowerId(pub u64);

/// Spans of one's own that a follower of a seeding node has to choose from: as many as it may wait for, and few, for
/// what is the last to leave is what everybody waits for.
const WINDOW: usize = 4;

/// Spans that are offered to a follower from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// To whom.
    pub to: FollowerId,
    /// Which ones.
    pub spans: Vec<SpanId>,
    /// Whether nobody else is offered them, so that it matters to be told when they are no longer wanted.
    pub alone: bool,
}

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
    fresh: SpanSet,
    followers: BTreeMap<FollowerId, Share>,
}

/// One follower of a seeding node.
#[derive(Debug)]
struct Share {
    /// What it had not got when it was last heard.
    lacks: SpanSet,
    /// Offered to it alone, and not sent yet.
    held: BTreeSet<SpanId>,
    /// Nothing fresh was left that it lacks, so it was offered everything.
    all: bool,
}

impl Offers {
    /// Offers all of an image, seeding it.
    #[must_use]
    pub fn seed(spans: u32) -> Self {
        let have = SpanSet::full(spans);
        let seeding = Seeding { fresh: have.clone(), followers: BTreeMap::new() };
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

    /// Returns how many spans the image has.
    #[must_use]
    pub const fn spans(&self) -> u32 {
        self.have.len()
    }

    /// Takes in a follower that lacks these spans.
    pub fn join(&mut self, id: FollowerId, lacks: SpanSet) -> Vec<Offer> {
        self.followers.insert(id);
        match &mut self.seeding {
            None => vec![Offer { to: id, spans: self.have.iter().collect(), alone: false }],
            Some(seeding) => {
                seeding.followers.insert(id, Share { lacks, held: BTreeSet::new(), all: false });
                self.refill(id)
            }
        }
    }

    /// Lets a follower go.
    pub fn leave(&mut self, id: FollowerId) -> Vec<Offer> {
        self.followers.remove(&id);
        let Some(seeding) = &mut self.seeding else { return Vec::new() };
        if let Some(share) = seeding.followers.remove(&id) {
            for span in share.held {
                seeding.fresh.insert(span);
            }
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
        self.followers.iter().map(|id| Offer { to: *id, spans: new.clone(), alone: false }).collect()
    }

    /// Notes that a follower has got spans, from here or from elsewhere.
    pub fn got(&mut self, id: FollowerId, spans: &[SpanId]) -> Vec<Offer> {
        let share = self.seeding.as_mut().and_then(|seeding| seeding.followers.get_mut(&id));
        let Some(share) = share else { return Vec::new() };
        for span in spans {
            share.lacks.remove(*span);
            share.held.remove(span);
        }
        self.refill(id)
    }

    /// Tells whether a span may be asked for.
    #[must_use]
    pub fn has(&self, span: SpanId) -> bool {
        self.have.contains(span)
    }

    /// Gives a follower of its own as many spans as it may choose from. If it lacks none that could be, it is offered
    /// everything; when all were given out, everybody is.
    fn refill(&mut self, id: FollowerId) -> Vec<Offer> {
        let Some(seeding) = &mut self.seeding else { return Vec::new() };
        let spans = seeding.give(id);
        if seeding.is_over() {
            self.seeding = None;
            let all: Vec<SpanId> = self.have.iter().collect();
            return self
                .followers
                .iter()
                .map(|to| Offer { to: *to, spans: all.clone(), alone: false })
                .collect();
        }
        let Some(share) = seeding.followers.get_mut(&id) else { return Vec::new() };
        if share.held.is_empty() && !share.all && !share.lacks.is_empty() {
            share.all = true;
            return vec![Offer { to: id, spans: self.have.iter().collect(), alone: false }];
        }
        if spans.is_empty() { Vec::new() } else { vec![Offer { to: id, spans, alone: true }] }
    }
}

impl Seeding {
    /// Finds spans for a follower to choose from: fresh ones, or else one of those that wait for whoever has most of them.
    fn give(&mut self, id: FollowerId) -> Vec<SpanId> {
        let Some(share) = self.followers.get(&id) else { return Vec::new() };
        let room = WINDOW.saturating_sub(share.held.len());
        let mut spans: Vec<SpanId> = self.fresh.common(&share.lacks).take(room).collect();
        if self.fresh.is_empty() && share.held.is_empty() {
            let lacks = share.lacks.clone();
            let most = self.followers.values_mut().max_by_key(|other| other.held.len());
            let waiting = most.map(|other| &mut other.held).filter(|held| held.len() > 1);
            if let Some(held) = waiting
                && let Some(span) = held.iter().copied().rev().find(|span| lacks.contains(*span))
            {
                held.remove(&span);
                spans.push(span);
            }
        }
        let Some(share) = self.followers.get_mut(&id) else { return spans };
        for span in &spans {
            self.fresh.remove(*span);
            share.held.insert(*span);
        }
        spans
    }

    /// Tells whether all were given out: what waits for somebody is about to be sent.
    fn is_over(&self) -> bool {
        self.fresh.is_empty() && self.followers.values().all(|share| share.held.len() <= 1)
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

    fn alone(to: FollowerId, spans: Vec<SpanId>) -> Offer {
        Offer { to, spans, alone: true }
    }

    fn free(to: FollowerId, spans: Vec<SpanId>) -> Offer {
        Offer { to, spans, alone: false }
    }

    /// A set out of so many spans.
    fn set(count: u32, of: &[u32]) -> SpanSet {
        let mut set = SpanSet::empty(count);
        for span in of {
            set.insert(SpanId(*span));
        }
        set
    }

    #[test]
    fn a_seed_offers_every_span_to_one_follower_until_all_are_given_out() {
        let mut offers = Offers::seed(9);
        assert_eq!(offers.join(ONE, SpanSet::full(9)), [alone(ONE, spans(0..4))]);
        assert_eq!(offers.join(TWO, SpanSet::full(9)), [alone(TWO, spans(4..8))]);
        assert_eq!(offers.got(ONE, &[SpanId(3)]), [alone(ONE, spans(8..9))]);
        for span in 4..7 {
            assert_eq!(offers.got(TWO, &[SpanId(span)]), [], "none is fresh, and it has one to take");
        }
        assert_eq!(offers.got(ONE, &spans(0..2)), []);
        let over = offers.got(ONE, &[SpanId(2)]);
        assert_eq!(over, [free(ONE, spans(0..9)), free(TWO, spans(0..9))], "each has one to take at most");
        assert_eq!(offers.got(TWO, &[SpanId(7)]), []);
    }

    #[test]
    fn what_a_slow_follower_has_not_taken_goes_to_one_that_has_nothing_left() {
        let mut offers = Offers::seed(8);
        offers.join(ONE, SpanSet::full(8));
        assert_eq!(offers.join(TWO, set(8, &[2, 4, 5, 6, 7])), [alone(TWO, spans(4..8))]);
        assert_eq!(offers.got(TWO, &spans(4..8)), [alone(TWO, vec![SpanId(2)])], "all that it lacks yet");
        assert_eq!(offers.got(TWO, &[SpanId(2)]), []);
    }

    #[test]
    fn a_follower_is_offered_what_it_lacks() {
        let mut offers = Offers::seed(100);
        assert_eq!(offers.join(ONE, set(100, &[0, 90])), [alone(ONE, vec![SpanId(0), SpanId(90)])]);
        assert_eq!(
            offers.join(TWO, set(100, &[0, 2, 4, 6, 8, 10, 90])),
            [alone(TWO, [2, 4, 6, 8].map(SpanId).to_vec())]
        );
        let three = FollowerId(3);
        assert_eq!(
            offers.join(three, set(100, &[0, 90])),
            [free(three, spans(0..100))],
            "others hold all of it"
        );
        assert_eq!(offers.join(FollowerId(4), SpanSet::empty(100)), []);
    }

    #[test]
    fn what_a_follower_got_elsewhere_does_not_keep_it_from_more() {
        let mut offers = Offers::seed(30);
        offers.join(ONE, SpanSet::full(30));
        assert_eq!(offers.got(ONE, &spans(0..8)), [alone(ONE, spans(8..12))]);
    }

    #[test]
    fn what_a_lost_follower_was_to_pass_on_is_offered_again() {
        let mut offers = Offers::seed(30);
        offers.join(ONE, SpanSet::full(30));
        offers.join(TWO, SpanSet::full(30));
        offers.got(ONE, &spans(0..4));
        assert_eq!(offers.leave(TWO), []);
        let next = offers.got(ONE, &[SpanId(8)]);
        assert_eq!(next, [alone(ONE, spans(4..5))]);
    }

    #[test]
    fn a_fetching_node_offers_what_it_gains_to_everybody() {
        let mut offers = Offers::share(SpanSet::empty(4));
        assert_eq!(offers.join(ONE, SpanSet::full(4)), [free(ONE, vec![])]);
        assert_eq!(offers.gained(&[SpanId(2)]), [free(ONE, vec![SpanId(2)])]);
        assert_eq!(offers.gained(&[SpanId(2)]), []);
        assert_eq!(offers.join(TWO, SpanSet::full(4)), [free(TWO, vec![SpanId(2)])]);
        assert!(offers.has(SpanId(2)) && !offers.has(SpanId(0)));
    }
}
