//! The circle in which the nodes of one transfer stand, and whom each of them may ask as others come and go.
//!
//! Owns the places. Members keep theirs: one that leaves leaves a hole for the next that comes, so that a change is news
//! for some dozen others and not for thousands. Beside the shortcuts of [`mesh`], everybody may ask the nearest member on
//! either side, whatever holes lie between: the circle stays connected, and nobody is without a peer who could have one.
//! It does not know what a member is, nor who holds anything.

use std::collections::{BTreeMap, BTreeSet};

use super::mesh;

/// Up to so many places a circle grows by one at a time; everybody hearing of everybody is cheap then.
const SMALL: usize = 64;
/// A larger one grows by this share, so that the way round changes rarely.
const GROWTH: usize = 8;
/// A circle of which more than this share are holes closes its ranks.
const MOST_HOLES: usize = 4;

/// Members in a circle.
#[derive(Clone, Debug)]
pub struct Ring<T> {
    places: Vec<Option<T>>,
    at: BTreeMap<T, usize>,
    holes: BTreeSet<usize>,
    /// Members that may ask and are asked by nobody.
    mute: BTreeSet<T>,
    /// Members whom to ask has changed for.
    changed: BTreeSet<T>,
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            at: BTreeMap::new(),
            holes: BTreeSet::new(),
            mute: BTreeSet::new(),
            changed: BTreeSet::new(),
        }
    }
}

impl<T: Copy + Ord> Ring<T> {
    /// Counts the members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.at.len()
    }

    /// Tells whether there are no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.at.is_empty()
    }

    /// Tells whether it is a member.
    #[must_use]
    pub fn contains(&self, member: T) -> bool {
        self.at.contains_key(&member)
    }

    /// Tells whether it is a member that may be asked.
    #[must_use]
    pub fn gives(&self, member: T) -> bool {
        self.contains(member) && !self.mute.contains(&member)
    }

    /// Puts all members where this order says; it names each once.
    pub fn lay(&mut self, order: impl IntoIterator<Item = T>) {
        self.places = order.into_iter().map(Some).collect();
        self.at = self.places.iter().zip(0..).filter_map(|(member, at)| Some(((*member)?, at))).collect();
        self.holes.clear();
        self.mute.retain(|member| self.at.contains_key(member));
        self.changed = self.at.keys().copied().collect();
    }

    /// Takes a member in, in a hole if there is one.
    pub fn join(&mut self, member: T) {
        if self.contains(member) {
            return;
        }
        let place = match self.holes.pop_first() {
            Some(hole) => hole,
            None => self.grow(),
        };
        if let Some(free) = self.places.get_mut(place) {
            *free = Some(member);
        }
        self.at.insert(member, place);
        self.changed.insert(member);
        self.announce(place);
    }

    /// Lets a member go.
    pub fn leave(&mut self, member: T) {
        let Some(place) = self.at.remove(&member) else { return };
        if let Some(taken) = self.places.get_mut(place) {
            *taken = None;
        }
        self.holes.insert(place);
        self.mute.remove(&member);
        self.changed.remove(&member);
        if self.holes.len() * MOST_HOLES > self.places.len() {
            let order: Vec<T> = self.places.iter().copied().flatten().collect();
            self.lay(order);
        } else {
            self.announce(place);
        }
    }

    /// Lets nobody ask a member any longer; it may ask others all the same.
    pub fn silence(&mut self, member: T) {
        if let Some(place) = self.at.get(&member).copied()
            && self.mute.insert(member)
        {
            self.announce(place);
        }
    }

    /// Lets a member be asked again.
    pub fn unsilence(&mut self, member: T) {
        if self.mute.remove(&member)
            && let Some(place) = self.at.get(&member).copied()
        {
            self.announce(place);
        }
    }

    /// Notes that those who may ask a member have to hear of it again.
    pub fn touch(&mut self, member: T) {
        if let Some(place) = self.at.get(&member).copied() {
            self.announce(place);
        }
    }

    /// Notes that a member has to hear again whom it may ask.
    pub fn renew(&mut self, member: T) {
        if self.contains(member) {
            self.changed.insert(member);
        }
    }

    /// Notes that a member has heard whom it may ask.
    pub fn heard(&mut self, member: T) {
        self.changed.remove(&member);
    }

    /// Tells whether anybody has yet to hear whom it may ask.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Gives out, and forgets, up to `most` members whom to ask has changed for.
    pub fn take_changed(&mut self, most: usize) -> Vec<T> {
        std::iter::from_fn(|| self.changed.pop_first()).take(most).collect()
    }

    /// Lists whom a member may ask: nobody to be avoided, but others in their stead.
    #[must_use]
    pub fn peers(&self, member: T, avoided: &BTreeSet<T>) -> Vec<T> {
        let Some(at) = self.at.get(&member).copied() else { return Vec::new() };
        let asked = |place: usize| self.places.get(place).copied().flatten().filter(|peer| self.gives(*peer));
        let mut peers: Vec<T> =
            mesh::neighbours(self.places.len(), at).into_iter().filter_map(asked).collect();
        let before = peers.len();
        peers.retain(|peer| !avoided.contains(peer));
        let mut wanted = 1 + before - peers.len();
        let fits = |peer: &T| *peer != member && !avoided.contains(peer);
        for place in self.onward(at) {
            let Some(peer) = asked(place).filter(fits) else { continue };
            if !peers.contains(&peer) {
                peers.push(peer);
            } else if wanted > 1 {
                continue;
            }
            wanted -= 1;
            if wanted == 0 {
                break;
            }
        }
        if let Some(peer) = self.backward(at).filter_map(asked).find(fits)
            && !peers.contains(&peer)
        {
            peers.push(peer);
        }
        peers
    }

    /// Makes room for one more and returns the place.
    fn grow(&mut self) -> usize {
        let place = self.places.len();
        let adds = if place < SMALL { 1 } else { place / GROWTH };
        self.places.resize(place + adds, None);
        self.holes.extend(place + 1..place + adds);
        // The way round is another one.
        self.changed.extend(self.at.keys().copied());
        place
    }

    /// Notes for whom a change at this place is news.
    fn announce(&mut self, place: usize) {
        let mut news: Vec<usize> = mesh::neighbours(self.places.len(), place);
        let gives = |at: usize| self.places.get(at).copied().flatten().is_some_and(|one| self.gives(one));
        let mut until_a_giver = |way: &mut dyn Iterator<Item = usize>| {
            for at in way {
                news.push(at);
                if gives(at) {
                    break;
                }
            }
        };
        until_a_giver(&mut self.onward(place));
        until_a_giver(&mut self.backward(place));
        for at in news {
            self.changed.extend(self.places.get(at).copied().flatten());
        }
    }

    fn onward(&self, at: usize) -> impl Iterator<Item = usize> + use<T> {
        let count = self.places.len();
        (1..count).map(move |step| (at + step) % count)
    }

    fn backward(&self, at: usize) -> impl Iterator<Item = usize> + use<T> {
        let count = self.places.len();
        (1..count).map(move |step| (at + count - step) % count)
    }
}

/// Puts sources among targets at even distances; targets keep their order.
#[must_use]
pub fn spread<T: Copy>(targets: &[T], sources: &[T]) -> Vec<T> {
    let mut order = Vec::with_capacity(targets.len() + sources.len());
    let parts = sources.len().max(1);
    for part in 0..parts {
        order.extend(sources.get(part));
        let (from, to) = (part * targets.len() / parts, (part + 1) * targets.len() / parts);
        order.extend(targets.get(from..to).unwrap_or_default());
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(members: u32) -> Ring<u32> {
        let mut ring = Ring::default();
        ring.lay(0..members);
        ring.take_changed(usize::MAX);
        ring
    }

    fn none() -> BTreeSet<u32> {
        BTreeSet::new()
    }

    /// Counts those that are reached from a member by asking on and on.
    fn reached(ring: &Ring<u32>, from: u32) -> usize {
        let (mut known, mut edge) = (BTreeSet::from([from]), vec![from]);
        while let Some(member) = edge.pop() {
            for peer in ring.peers(member, &none()) {
                if known.insert(peer) {
                    edge.push(peer);
                }
            }
        }
        known.len()
    }

    #[test]
    fn a_change_is_news_for_few_and_a_hole_is_filled_first() {
        let mut ring = ring(1_000);
        ring.leave(500);
        assert!((20..40).contains(&ring.take_changed(usize::MAX).len()));
        ring.join(2_000);
        let news = ring.take_changed(usize::MAX);
        assert!((20..40).contains(&news.len()) && news.contains(&2_000) && news.contains(&501), "{news:?}");
        assert_eq!(ring.places.len(), 1_000);
        ring.join(2_001);
        assert!(ring.take_changed(usize::MAX).len() > 900, "the way round changed");
        for late in 2_002..2_100 {
            ring.join(late);
            assert!(ring.take_changed(usize::MAX).len() < 40);
        }
    }

    #[test]
    fn whoever_leaves_the_others_still_reach_one_another_and_no_list_is_stale() {
        let mut random = 1_u64;
        let mut next = move |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from((random >> 33) % below).unwrap()
        };
        let mut ring = ring(80);
        let mut told: BTreeMap<u32, Vec<u32>> = (0..80).map(|n| (n, ring.peers(n, &none()))).collect();
        for _ in 0..600 {
            let member = next(120);
            match next(20) {
                0 => ring.silence(member),
                1 => ring.unsilence(member),
                _ if ring.contains(member) => ring.leave(member),
                _ => ring.join(member),
            }
            told.retain(|member, _| ring.contains(*member));
            for changed in ring.take_changed(usize::MAX) {
                told.insert(changed, ring.peers(changed, &none()));
            }
            for (member, peers) in &told {
                assert_eq!(*peers, ring.peers(*member, &none()), "{member} was not told");
                assert!(peers.len() <= 28 && !peers.contains(member));
            }
            assert_eq!(told.len(), ring.len());
            let givers = told.keys().filter(|member| ring.gives(**member)).count();
            if let Some(giver) = told.keys().find(|member| ring.gives(**member)) {
                assert_eq!(reached(&ring, *giver), givers);
            }
        }
    }

    #[test]
    fn one_that_may_be_asked_again_is_news_for_those_who_may() {
        let mut ring = ring(100);
        let before = ring.peers(7, &none());
        ring.silence(before[0]);
        assert!(!ring.peers(7, &none()).contains(&before[0]));
        ring.take_changed(usize::MAX);
        ring.unsilence(before[0]);
        assert_eq!(ring.peers(7, &none()), before);
        assert!(ring.take_changed(usize::MAX).contains(&7));
        ring.unsilence(before[0]);
        assert!(!ring.is_changed(), "it was not silent");
    }

    #[test]
    fn one_that_is_avoided_is_replaced() {
        let ring = ring(100);
        let all = ring.peers(7, &none());
        let avoided = BTreeSet::from([all[0], all[3]]);
        let others = ring.peers(7, &avoided);
        assert!(others.len() >= all.len() && others.iter().all(|peer| !avoided.contains(peer)));
    }

    #[test]
    fn sources_stand_at_even_distances() {
        assert_eq!(spread(&[1, 2, 3, 4, 5, 6], &[10, 20]), [10, 1, 2, 3, 20, 4, 5, 6]);
        assert_eq!(spread(&[1, 2], &[]), [1, 2]);
        assert_eq!(spread(&[], &[10, 20]), [10, 20]);
    }
}
