//! The owner of the inventory, without threads that look at disks.

use std::sync::atomic::Ordering;

use super::asking::MOST_ASKED;
use super::*;
use crate::memory::Memory;
use crate::watch::tests::circling;

const ID: RootId = RootId(0);

fn at(seconds: u64) -> Monotonic {
    Monotonic(Duration::from_secs(seconds))
}

/// An owner of one root, which said that it is watched.
fn owner() -> Owner {
    let hashing = Hashing::new(Memory::volatile(1).unwrap(), None, 1, CancellationToken::new());
    let said = Root { path: "/r".to_owned(), kind: RootKind::Plain, state: RootState::Watched };
    let watch = Watch { hints: Arc::default(), pulse: Arc::default() };
    let root = Watched { path: "/r".into(), watch, said: said.clone(), stuck: false };
    let (asking, _done) = Asking::new();
    let mut owner = Owner {
        inventory: Inventory::default(),
        ready: Vec::new(),
        roots: BTreeMap::from([(ID, root)]),
        describe: start_describing(&hashing.threads).unwrap(),
        hashing: Arc::new(hashing),
        asking,
    };
    owner.apply(vec![Change::Root(ID, said)]);
    owner.ready.clear();
    owner
}

fn state(owner: &mut Owner) -> Option<RootState> {
    match std::mem::take(&mut owner.ready).as_slice() {
        [] => None,
        [Change::Root(ID, root)] => Some(root.state.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_root_that_hangs_is_unknown_until_it_answers() {
    let mut owner = owner();
    let pulse = Arc::clone(&owner.roots[&ID].watch.pulse);
    pulse.beat(at(100));
    owner.check_pulses(at(160));
    assert_eq!(state(&mut owner), None);
    owner.check_pulses(at(161));
    let Some(RootState::Unknown { reason }) = state(&mut owner) else { panic!("not unknown") };
    assert!(reason.contains("/r has not answered for 60 s"), "{reason}");
    owner.check_pulses(at(200));
    assert_eq!(state(&mut owner), None);
    pulse.rest();
    owner.check_pulses(at(201));
    assert_eq!(state(&mut owner), Some(RootState::Watched));
}

#[test]
fn the_watch_moves_only_while_every_owner_does() {
    let owner = owner();
    let pulse = &owner.roots[&ID].watch.pulse;
    assert!(owner.owners_move(at(1_000)));
    let stop = circling(pulse);
    pulse.beat(at(100));
    assert!(owner.owners_move(at(160)));
    assert!(!owner.owners_move(at(161)), "it runs in circles");
    stop.store(true, Ordering::Relaxed);
}

#[test]
fn only_changes_that_make_a_difference_are_passed_on() {
    let mut owner = owner();
    let said = owner.roots[&ID].said.clone();
    owner.apply(vec![
        Change::Root(ID, said.clone()),
        Change::Root(ID, Root { kind: RootKind::Library, ..said }),
    ]);
    assert_eq!(owner.ready.len(), 1);
}

#[test]
fn a_rescan_reaches_every_root() {
    let mut owner = owner();
    owner.command(Command::Rescan);
    assert_eq!(owner.roots[&ID].watch.hints.take(Duration::ZERO).whole, Some(Cause::Asked));
}

#[test]
fn a_reconciliation_ends_when_every_root_was_looked_at() {
    let mut owner = owner();
    let (asking, mut done) = Asking::new();
    owner.asking = asking;
    let (reply, _answer) = oneshot::channel();
    owner.command(Command::Reconcile { reply });
    let work = owner.roots[&ID].watch.hints.take(Duration::ZERO);
    assert_eq!((work.whole, work.asked.len()), (Some(Cause::Asked), 1));
    assert!(done.try_recv().is_err(), "nothing was looked at");
    drop(work);
    assert!(done.try_recv().is_ok());
}

#[test]
fn of_more_reconciliations_than_are_kept_nobody_is_told() {
    let mut owner = owner();
    let (asking, mut done) = Asking::new();
    owner.asking = asking;
    let ask = |owner: &mut Owner| {
        let (reply, answer) = oneshot::channel();
        owner.command(Command::Reconcile { reply });
        answer
    };
    let mut answers: Vec<_> = (0..=MOST_ASKED).map(|_| ask(&mut owner)).collect();
    let last = answers.pop().unwrap().try_recv();
    assert_eq!(last, Err(oneshot::error::TryRecvError::Closed));
    drop(owner.roots[&ID].watch.hints.take(Duration::ZERO));
    assert_eq!(std::iter::from_fn(|| done.try_recv().ok()).count(), MOST_ASKED);
}
