//! Whose turn it is to be given a span: pure, over all images and followers of this node.
//!
//! Few spans are given at once, so that each leaves at the full rate of the link and can be passed on, and so that whoever
//! chooses does so at the last moment. Followers that want something have their turns in the order in which they said so, and
//! the second of each after the first of everybody who waits.

use std::collections::{BTreeMap, VecDeque};

use sifleet_common::chunk::span::SpanId;
use sifleet_common::digest::Digest;
use sifleet_common::wire::chunk::{Run, numbers};

use super::offer::{FollowerId, Offer, Offers};
use crate::fetch::set::SpanSet;

/// Spans that a follower lacks, as it said so itself.
type Lacks = Vec<Run>;

/// Spans given at once: one on its way, and the next ones so that the link never waits for an answer.
pub const TURNS: usize = 4;
/// Most turns at once, slow followers' among them: each has a piece of the image in memory.
const MAX_TURNS: usize = 16;
/// Turns that a follower may wait for at once: as many as a fetcher with a single source wants, all but the span that
/// is arriving.
pub const WISHES: usize = 4;
/// A follower with so many turns that lag gets no other one: its own link is what limits it, and places are few.
const LAGS: usize = 2;
/// Most followers of a node: each has a connection of its own, or shares one with other images.
pub const MAX_FOLLOWERS: usize = 256;

/// What can happen to a node that gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody follows an image, and lacks these spans of it.
    Followed(FollowerId, Digest, Lacks),
    /// A follower has got spans from somebody else.
    Got(FollowerId, Vec<SpanId>),
    /// A follower asks for a turn.
    Wanted(FollowerId),
    /// A turn takes so long that somebody else may have one besides: its follower is slow, the link is not.
    Lagging(FollowerId),
    /// A turn is over: this span was sent whole, or none. Tells whether it was said to be lagging.
    Ended(FollowerId, Option<SpanId>, bool),
    /// A follower is gone, and whatever it was being given with it.
    Left(FollowerId),
    /// This node has got more of an image.
    Gained(Digest, Vec<SpanId>),
    /// An image can be given from here.
    Opened(Digest, Kept),
    /// An image can no longer be given.
    Closed(Digest),
}

/// How much of an image is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// All of it: so many spans.
    Whole(u32),
    /// Some of it, of so many spans.
    Part(u32, Vec<SpanId>),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell a follower of these spans.
    Offer(Offer),
    /// Tell a follower that nothing of its image is here.
    Absent(FollowerId),
    /// Let a follower choose.
    Turn(FollowerId),
}

/// Everything a node gives.
#[derive(Debug)]
pub struct Giving {
    /// Turns at once.
    limit: usize,
    images: BTreeMap<Digest, Offers>,
    followers: BTreeMap<FollowerId, Follower>,
    waiting: VecDeque<FollowerId>,
}

#[derive(Debug)]
struct Follower {
    image: Digest,
    lacks: SpanSet,
    /// Turns it has at present.
    turns: usize,
    /// Those of them that do not count.
    lagging: usize,
    /// Those it waits for.
    waits: usize,
}

impl Giving {
    /// Gives nothing yet, and later to `limit` followers at once.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, images: BTreeMap::new(), followers: BTreeMap::new(), waiting: VecDeque::new() }
    }

    /// Tells whether a span of an image may be given.
    #[must_use]
    pub fn has(&self, image: &Digest, span: SpanId) -> bool {
        self.images.get(image).is_some_and(|offers| offers.has(span))
    }

    /// Takes one event in and returns what is to be done about it.
    pub fn handle(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Followed(id, image, lacks) => self.followed(id, image, &lacks, &mut actions),
            Event::Got(id, spans) => {
                let image = self.followers.get(&id).map(|follower| follower.image);
                let offers = image.and_then(|image| self.images.get_mut(&image));
                tell(offers.map(|offers| offers.got(id, &spans)).unwrap_or_default(), &mut actions);
            }
            Event::Wanted(id) => {
                if let Some(follower) = self.followers.get_mut(&id).filter(|follower| follower.waits < WISHES)
                {
                    follower.waits += 1;
                    // Once in the queue, however much it wants: it comes after everybody else each time.
                    if follower.waits == 1 {
                        self.waiting.push_back(id);
                    }
                }
            }
            Event::Lagging(id) => {
                if let Some(follower) = self.followers.get_mut(&id) {
                    follower.lagging += 1;
                }
            }
            Event::Ended(id, sent, lagged) => {
                if let Some(follower) = self.followers.get_mut(&id) {
                    follower.turns = follower.turns.saturating_sub(1);
                    follower.lagging = follower.lagging.saturating_sub(usize::from(lagged));
                    let offers = self.images.get_mut(&follower.image);
                    let more = offers.zip(sent).map(|(offers, span)| offers.got(id, &[span]));
                    tell(more.unwrap_or_default(), &mut actions);
                }
            }
            Event::Left(id) => self.left(id, &mut actions),
            Event::Gained(image, spans) => {
                let more = self.images.get_mut(&image).map(|offers| offers.gained(&spans));
                tell(more.unwrap_or_default(), &mut actions);
            }
            Event::Opened(image, kept) => self.opened(image, &kept, &mut actions),
            Event::Closed(image) => self.closed(image, &mut actions),
        }
        self.give_turns(&mut actions);
        actions
    }

    fn followed(&mut self, id: FollowerId, image: Digest, lacks: &[Run], actions: &mut Vec<Action>) {
        let Some(offers) = self.images.get_mut(&image).filter(|_| self.followers.len() < MAX_FOLLOWERS)
        else {
            actions.push(Action::Absent(id));
            return;
        };
        let all = set(offers.spans(), lacks);
        self.followers.insert(id, Follower { image, lacks: all.clone(), turns: 0, lagging: 0, waits: 0 });
        tell(offers.join(id, all), actions);
    }

    fn left(&mut self, id: FollowerId, actions: &mut Vec<Action>) {
        let Some(follower) = self.followers.remove(&id) else { return };
        self.waiting.retain(|waiting| *waiting != id);
        let more = self.images.get_mut(&follower.image).map(|offers| offers.leave(id));
        tell(more.unwrap_or_default(), actions);
    }

    /// Begins to give an image; one that had been given in part is given as it is from here on.
    fn opened(&mut self, image: Digest, kept: &Kept, actions: &mut Vec<Action>) {
        let mut offers = match kept {
            Kept::Whole(spans) => Offers::seed(*spans),
            Kept::Part(spans, have) => Offers::share_of(*spans, have),
        };
        for (id, follower) in self.followers.iter().filter(|(_, follower)| follower.image == image) {
            tell(offers.join(*id, resized(offers.spans(), &follower.lacks)), actions);
        }
        self.images.insert(image, offers);
    }

    fn closed(&mut self, image: Digest, actions: &mut Vec<Action>) {
        self.images.remove(&image);
        let of_it = |follower: &Follower| follower.image == image;
        let gone: Vec<FollowerId> =
            self.followers.iter().filter(|(_, follower)| of_it(follower)).map(|(id, _)| *id).collect();
        for id in gone {
            self.left(id, actions);
            actions.push(Action::Absent(id));
        }
    }

    fn give_turns(&mut self, actions: &mut Vec<Action>) {
        let turns = |follower: &Follower| (follower.turns, follower.turns.saturating_sub(follower.lagging));
        let (mut all, mut active) = self
            .followers
            .values()
            .map(turns)
            .fold((0, 0), |(all, active), (turns, counted)| (all + turns, active + counted));
        while active < self.limit && all < MAX_TURNS {
            let has_use =
                |id: &FollowerId| self.followers.get(id).is_none_or(|follower| follower.lagging < LAGS);
            let Some(id) = self.waiting.iter().position(has_use).and_then(|at| self.waiting.remove(at))
            else {
                return;
            };
            let Some(follower) = self.followers.get_mut(&id) else { continue };
            follower.waits = follower.waits.saturating_sub(1);
            if follower.waits > 0 {
                self.waiting.push_back(id);
            }
            follower.turns += 1;
            (all, active) = (all + 1, active + 1);
            actions.push(Action::Turn(id));
        }
    }
}

fn set(spans: u32, lacks: &[Run]) -> SpanSet {
    let mut set = SpanSet::empty(spans);
    for span in numbers(lacks, spans) {
        set.insert(SpanId(span));
    }
    set
}

/// The same spans as far as there are that many.
fn resized(spans: u32, lacks: &SpanSet) -> SpanSet {
    let mut set = SpanSet::empty(spans);
    for span in lacks.iter() {
        set.insert(span);
    }
    set
}

fn tell(offers: Vec<Offer>, actions: &mut Vec<Action>) {
    let some = offers.into_iter().filter(|offer| !offer.spans.is_empty());
    actions.extend(some.map(Action::Offer));
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: FollowerId = FollowerId(1);
    const B: FollowerId = FollowerId(2);
    const C: FollowerId = FollowerId(3);

    fn image() -> Digest {
        Digest::from(blake3::hash(b"image"))
    }

    fn everything() -> Lacks {
        vec![Run { first: 0, count: u32::MAX }]
    }

    fn offer(span: u32) -> Action {
        Action::Offer(Offer { to: A, spans: vec![SpanId(span)], alone: false })
    }

    /// A node that gives two spans at once of an image that is whole, to three followers.
    fn giving() -> Giving {
        let mut giving = Giving::new(2);
        assert_eq!(giving.handle(Event::Opened(image(), Kept::Whole(100))), []);
        for id in [A, B, C] {
            let actions = giving.handle(Event::Followed(id, image(), everything()));
            assert!(
                matches!(actions.as_slice(), [Action::Offer(offer)] if offer.to == id && !offer.spans.is_empty())
            );
        }
        giving
    }

    #[test]
    fn turns_come_in_order_and_never_more_at_once_than_the_limit() {
        let mut giving = giving();
        assert_eq!(giving.handle(Event::Wanted(A)), [Action::Turn(A)]);
        assert_eq!(giving.handle(Event::Wanted(B)), [Action::Turn(B)]);
        assert_eq!(giving.handle(Event::Wanted(C)), []);
        assert_eq!(giving.handle(Event::Wanted(A)), []);
        assert_eq!(giving.handle(Event::Wanted(A)), []);
        assert_eq!(giving.handle(Event::Ended(B, None, false)), [Action::Turn(C)]);
        let actions = giving.handle(Event::Ended(A, Some(SpanId(0)), false));
        assert_eq!(actions.last(), Some(&Action::Turn(A)));
        assert_eq!(giving.handle(Event::Ended(C, None, false)), [Action::Turn(A)], "it wanted two");
        assert_eq!(giving.handle(Event::Ended(A, None, false)), [], "nobody waits");
    }

    #[test]
    fn who_wants_much_gets_it_after_everybody_else_and_not_without_end() {
        let mut giving = giving();
        for _ in 0..100 {
            giving.handle(Event::Wanted(A));
        }
        giving.handle(Event::Wanted(B));
        let mut turns = Vec::new();
        for _ in 0..10 {
            turns.extend(giving.handle(Event::Ended(A, None, false)));
        }
        // Two turns of A's run from the first wishes on.
        assert_eq!(turns[..2], [Action::Turn(A), Action::Turn(B)]);
        assert_eq!(turns.len(), 1 + WISHES, "{turns:?}");
    }

    #[test]
    fn a_slow_follower_does_not_hold_the_others_up() {
        let mut giving = giving();
        for id in [A, B, C] {
            giving.handle(Event::Wanted(id));
        }
        assert_eq!(giving.handle(Event::Lagging(A)), [Action::Turn(C)]);
        assert_eq!(giving.handle(Event::Wanted(B)), []);
        assert_eq!(giving.handle(Event::Ended(A, None, true)), [], "its place was given away");
        assert_eq!(giving.handle(Event::Ended(C, None, false)), [Action::Turn(B)]);
    }

    #[test]
    fn slow_followers_do_not_take_all_places() {
        let mut giving = giving();
        let mut turns = Vec::new();
        for _ in 0..WISHES {
            for id in [A, B] {
                let given = giving.handle(Event::Wanted(id));
                if given == [Action::Turn(id)] {
                    assert_eq!(giving.handle(Event::Lagging(id)), []);
                }
                turns.extend(given);
            }
        }
        let of = |id| turns.iter().filter(|turn| **turn == Action::Turn(id)).count();
        assert_eq!((of(A), of(B)), (LAGS, LAGS));
        assert_eq!(giving.handle(Event::Wanted(C)), [Action::Turn(C)]);
        assert_eq!(giving.handle(Event::Ended(A, None, true)), [Action::Turn(A)], "one of its two is over");
    }

    #[test]
    fn the_turn_of_who_leaves_goes_to_the_next() {
        let mut giving = giving();
        for id in [A, B, C] {
            giving.handle(Event::Wanted(id));
        }
        assert_eq!(giving.handle(Event::Left(A)).last(), Some(&Action::Turn(C)));
        assert_eq!(giving.handle(Event::Ended(A, Some(SpanId(1)), false)), [], "it is forgotten");
    }

    #[test]
    fn what_is_not_here_and_what_was_never_here_look_the_same() {
        let mut giving = giving();
        let other = Digest::from(blake3::hash(b"other"));
        assert_eq!(
            giving.handle(Event::Followed(FollowerId(9), other, everything())),
            [Action::Absent(FollowerId(9))]
        );
        let gone = giving.handle(Event::Closed(image()));
        assert_eq!(gone, [A, B, C].map(Action::Absent));
        assert_eq!(giving.handle(Event::Followed(A, image(), everything())), [Action::Absent(A)]);
        assert!(!giving.has(&image(), SpanId(0)));
    }

    #[test]
    fn what_a_fetching_node_gains_its_followers_hear_of() {
        let mut giving = Giving::new(2);
        giving.handle(Event::Opened(image(), Kept::Part(10, vec![SpanId(4)])));
        assert_eq!(giving.handle(Event::Followed(A, image(), everything())), [offer(4)]);
        let gained = Event::Gained(image(), vec![SpanId(4), SpanId(5)]);
        assert_eq!(giving.handle(gained), [offer(5)]);
        assert!(giving.has(&image(), SpanId(5)) && !giving.has(&image(), SpanId(6)));
    }

    #[test]
    fn there_is_an_end_to_followers() {
        let mut giving = Giving::new(2);
        giving.handle(Event::Opened(image(), Kept::Whole(3)));
        for id in 0..MAX_FOLLOWERS as u64 {
            assert_ne!(
                giving.handle(Event::Followed(FollowerId(id), image(), everything())),
                [Action::Absent(FollowerId(id))]
            );
        }
        let late = FollowerId(u64::MAX);
        assert_eq!(giving.handle(Event::Followed(late, image(), everything())), [Action::Absent(late)]);
    }
}
