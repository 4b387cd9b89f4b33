//! One fetcher and its peers: what it asks when it is its turn, and what it does when peers fail.

use std::time::Duration;

use super::*;

const A: PeerId = PeerId(1);
const B: PeerId = PeerId(2);

fn at(millis: u64) -> Monotonic {
    Monotonic(Duration::from_millis(millis))
}

fn all(count: u32) -> Vec<SpanId> {
    (0..count).map(SpanId).collect()
}

fn fetch(spans: u32) -> Fetch {
    Fetch::new(spans, &SpanSet::empty(spans), Limits::default(), 7)
}

/// Joins a peer that offers these spans.
fn join(fetch: &mut Fetch, id: PeerId, spans: &[SpanId]) -> Vec<Action> {
    assert_eq!(fetch.handle(Event::Joined(id), at(0)), []);
    fetch.handle(Event::Offered(id, spans.to_vec()), at(0))
}

/// Gives a peer its turn; returns what it is asked for.
fn turn(fetch: &mut Fetch, id: PeerId, now: Monotonic) -> Option<SpanId> {
    match fetch.handle(Event::Turn(id), now).first() {
        Some(Action::Ask(asked, span)) if *asked == id => Some(*span),
        Some(Action::Pass(passed)) if *passed == id => None,
        other => panic!("neither asked nor passed: {other:?}"),
    }
}

#[test]
fn everything_is_asked_for_once_and_then_it_is_complete() {
    let mut fetch = fetch(40);
    assert_eq!(join(&mut fetch, A, &all(40)), [Action::Want(A)]);
    let mut got = SpanSet::empty(40);
    loop {
        let span = turn(&mut fetch, A, at(1)).unwrap();
        assert!(got.insert(span), "{span:?} was asked for twice");
        let actions = fetch.handle(Event::Got(A, span), at(1));
        if got.count() == 40 {
            assert_eq!(actions, [Action::Complete]);
            return;
        }
        assert!(actions.iter().all(|action| *action == Action::Want(A)), "{actions:?}");
    }
}

#[test]
fn what_is_there_already_is_not_asked_for() {
    let mut have = SpanSet::empty(3);
    have.insert(SpanId(0));
    have.insert(SpanId(2));
    let mut fetch = Fetch::new(3, &have, Limits::default(), 7);
    join(&mut fetch, A, &all(3));
    assert_eq!(turn(&mut fetch, A, at(0)), Some(SpanId(1)));
    let mut whole = Fetch::new(3, &SpanSet::full(3), Limits::default(), 7);
    assert_eq!(whole.handle(Event::Tick, at(0)), [Action::Complete]);
    assert_eq!(join(&mut whole, A, &all(3)), [], "nothing is wanted of anybody");
}

#[test]
fn the_rarest_span_is_chosen_when_a_peer_has_its_turn_and_not_before() {
    let mut fetch = fetch(3);
    join(&mut fetch, A, &all(3));
    // Whatever A was wanted for, by its turn span 2 is the rarest.
    join(&mut fetch, B, &all(2));
    assert_eq!(turn(&mut fetch, A, at(0)), Some(SpanId(2)));
    assert!(turn(&mut fetch, B, at(0)).is_some_and(|span| span.0 < 2));
}

#[test]
fn a_turn_without_use_is_passed_on_and_use_makes_a_peer_wanted_again() {
    let mut fetch = fetch(9);
    assert_eq!(join(&mut fetch, A, &[SpanId(4)]), [Action::Want(A)]);
    assert_eq!(join(&mut fetch, B, &[SpanId(4)]), [Action::Want(B)]);
    assert_eq!(turn(&mut fetch, A, at(0)), Some(SpanId(4)));
    assert_eq!(turn(&mut fetch, B, at(0)), None);
    assert_eq!(fetch.handle(Event::Offered(B, vec![SpanId(5)]), at(1)), [Action::Want(B)]);
}

#[test]
fn a_peer_that_fails_is_dropped_and_its_span_is_asked_of_others() {
    for fault in [Fault::Poisoned, Fault::Lied, Fault::Garbage, Fault::Unreachable] {
        let mut fetch = fetch(9);
        join(&mut fetch, A, &[SpanId(3)]);
        join(&mut fetch, B, &[SpanId(3)]);
        assert_eq!(turn(&mut fetch, A, at(0)), Some(SpanId(3)));
        assert_eq!(turn(&mut fetch, B, at(0)), None);
        let actions = fetch.handle(Event::Failed(A, fault), at(1));
        assert_eq!(actions, [Action::Drop(A, fault), Action::Want(B)]);
        assert_eq!(turn(&mut fetch, B, at(1)), Some(SpanId(3)));
        assert_eq!(fetch.handle(Event::Failed(A, fault), at(2)), [], "it is not dropped twice");
    }
}

#[test]
fn a_silent_peer_is_dropped_and_a_slow_one_is_not() {
    let mut fetch = fetch(1);
    join(&mut fetch, A, &all(1));
    turn(&mut fetch, A, at(0));
    fetch.handle(Event::Heard(A), at(4_000));
    assert_eq!(fetch.handle(Event::Tick, at(8_999)), []);
    assert_eq!(fetch.handle(Event::Tick, at(9_000)), [Action::Drop(A, Fault::Stalled)]);
    assert_eq!(fetch.handle(Event::Tick, at(60_000)), [], "nobody is left to be dropped");
}

#[test]
fn a_late_span_is_asked_of_a_second_peer_and_the_slower_one_is_told() {
    let mut fetch = fetch(20);
    join(&mut fetch, A, &[SpanId(5)]);
    turn(&mut fetch, A, at(0));
    assert_eq!(join(&mut fetch, B, &[SpanId(5)]), []);
    assert_eq!(fetch.handle(Event::Tick, at(1_999)), []);
    assert_eq!(fetch.next_deadline(), Some(at(2_000)));
    fetch.handle(Event::Heard(A), at(1_999));
    assert_eq!(fetch.handle(Event::Tick, at(2_000)), [Action::Want(B)]);
    assert_eq!(fetch.next_deadline(), Some(at(6_999)), "that it is late is no reason to wake up again");
    assert_eq!(turn(&mut fetch, B, at(2_001)), Some(SpanId(5)));
    assert_eq!(fetch.handle(Event::Got(B, SpanId(5)), at(2_100)), [Action::Cancel(A, SpanId(5))]);
}

#[test]
fn the_last_spans_are_asked_of_whoever_is_free() {
    let mut fetch = fetch(1);
    join(&mut fetch, A, &all(1));
    turn(&mut fetch, A, at(0));
    assert_eq!(join(&mut fetch, B, &all(1)), [Action::Want(B)]);
    assert_eq!(turn(&mut fetch, B, at(1)), Some(SpanId(0)));
}

#[test]
fn no_more_is_on_its_way_than_the_limit() {
    let limits = Limits { asked: 3, ..Limits::default() };
    let mut fetch = Fetch::new(50, &SpanSet::empty(50), limits, 7);
    let asked = (0..10).filter(|id| {
        let id = PeerId(*id);
        join(&mut fetch, id, &all(50)).contains(&Action::Want(id)) && turn(&mut fetch, id, at(0)).is_some()
    });
    assert_eq!(asked.count(), 3);
}

#[test]
fn spans_an_image_does_not_have_and_peers_that_never_joined_are_not_believed() {
    let mut fetch = fetch(2);
    assert_eq!(join(&mut fetch, A, &[SpanId(2), SpanId(u32::MAX)]), []);
    assert_eq!(turn(&mut fetch, A, at(0)), None);
    assert_eq!(fetch.handle(Event::Offered(B, all(2)), at(0)), []);
    assert_eq!(fetch.handle(Event::Turn(B), at(0)), []);
    assert_eq!(fetch.handle(Event::Got(B, SpanId(9)), at(0)), []);
}

#[test]
fn a_peer_that_was_silent_while_another_one_gave_is_not_asked_again() {
    let mut fetch = fetch(30);
    join(&mut fetch, A, &all(30));
    let span = turn(&mut fetch, A, at(0)).unwrap();
    join(&mut fetch, B, &[span]);
    let late = 2_000;
    fetch.handle(Event::Tick, at(late));
    assert_eq!(turn(&mut fetch, B, at(late)), Some(span));
    let actions = fetch.handle(Event::Got(B, span), at(late + 1));
    assert!(actions.contains(&Action::Drop(A, Fault::Stalled)), "{actions:?}");
}

#[test]
fn a_peer_that_has_yet_to_give_is_asked_for_one_span_only() {
    let mut fetch = fetch(30);
    join(&mut fetch, A, &all(30));
    let first = turn(&mut fetch, A, at(0)).unwrap();
    assert_eq!(turn(&mut fetch, A, at(1)), None, "who knows what it gives");
    assert!(fetch.handle(Event::Got(A, first), at(2)).contains(&Action::Want(A)));
    assert!(turn(&mut fetch, A, at(3)).is_some() && turn(&mut fetch, A, at(3)).is_some());
}

#[test]
fn a_single_source_is_asked_for_all_at_once_and_one_of_many_for_two() {
    let Limits { asked, asked_of_one, .. } = Limits::default();
    for (others, most) in [(0, asked), (3, asked_of_one)] {
        let mut fetch = fetch(30);
        join(&mut fetch, A, &all(30));
        for other in 0..others {
            join(&mut fetch, PeerId(10 + other), &[]);
        }
        let first = turn(&mut fetch, A, at(0)).unwrap();
        let wanted = fetch.handle(Event::Got(A, first), at(1));
        assert_eq!(wanted, vec![Action::Want(A); most - 1], "all but the one that follows a turn");
        let mut wants = wanted.len();
        for _ in 0..most {
            let actions = fetch.handle(Event::Turn(A), at(2));
            assert!(matches!(actions.first(), Some(Action::Ask(A, _))), "{actions:?}");
            wants += actions.len() - 1;
        }
        assert_eq!(wants, most, "a wish for each");
        assert_eq!(turn(&mut fetch, A, at(2)), None, "no more than {most}");
    }
}

#[test]
fn a_peer_has_its_share_of_what_is_asked_for_and_never_less_than_two() {
    let shares: Vec<usize> = (0..=6).map(|peers| Limits::default().of_one(peers)).collect();
    assert_eq!(shares, [5, 5, 3, 2, 2, 2, 2]);
}

#[test]
fn what_takes_long_is_wanted_once_of_one_that_has_given_before() {
    let mut fetch = fetch(2);
    join(&mut fetch, A, &all(2));
    let late = turn(&mut fetch, A, at(0)).unwrap();
    join(&mut fetch, B, &all(2));
    let other = turn(&mut fetch, B, at(0)).unwrap();
    assert_eq!(fetch.handle(Event::Got(B, other), at(2_500)), [Action::Want(B)]);
    assert_eq!(turn(&mut fetch, B, at(2_501)), Some(late));
}

#[test]
fn no_more_turns_are_wanted_than_there_are_spans() {
    let mut fetch = fetch(3);
    join(&mut fetch, A, &all(3));
    let first = turn(&mut fetch, A, at(0)).unwrap();
    assert_eq!(fetch.handle(Event::Got(A, first), at(1)), [Action::Want(A), Action::Want(A)]);
}

#[test]
fn what_was_asked_of_one_whose_permission_is_over_is_waited_for_and_nothing_more_asked_of_it() {
    let mut fetch = fetch(20);
    join(&mut fetch, A, &all(20));
    let asked = turn(&mut fetch, A, at(0)).unwrap();
    assert_eq!(fetch.handle(Event::Over(A), at(10)), []);
    assert_eq!(join(&mut fetch, B, &[asked]), [], "it is on its way");
    assert_eq!(turn(&mut fetch, A, at(20)), None);
    assert_eq!(fetch.handle(Event::Got(A, asked), at(30)), []);
    assert_eq!(fetch.missing().count(), 19);
    assert_eq!(fetch.handle(Event::Left(A), at(40)), []);
}
