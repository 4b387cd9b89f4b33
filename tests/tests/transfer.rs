//! Images move between real agents' transfers over real QUIC: whole, verified, without what was there already.

#![cfg(test)]

#[path = "transfer/outline.rs"]
mod outline;
#[path = "transfer/turns.rs"]
mod turns;

use std::path::Path;
use std::sync::atomic::Ordering;

use quinn::{ConnectionError, ReadError, VarInt};
use sifleet_common::capability::Signer;
use sifleet_common::clock::Clock;
use sifleet_common::digest::Digest;
use sifleet_common::inventory::RootId;
use sifleet_common::name::NodeName;
use sifleet_common::push::{FailCode, Fault, Phase};
use sifleet_common::removal::RemovalCode;
use sifleet_common::time::UnixMillis;
use sifleet_common::wire::assignment::{
    Assignment, AssignmentId, Order, Peer, Rates, Removal, RemovalOutcome,
};
use sifleet_common::wire::chunk::{Offer, Run, StopCode};
use sifleet_tests::mover::{self, LIMIT, Mover, assignment};
use sifleet_tests::rogue::{Crime, Dialler, Rogue};
use sifleet_tests::sif::SifBuilder;

/// A rate at which [`small`] takes longer than anybody waits for a silent peer.
const SLOW: u64 = 20_000;
/// The only span of [`small`].
const ALL: Run = Run { first: 0, count: 1 };

/// An image of one span.
fn small(seed: u64) -> Vec<u8> {
    SifBuilder::new().payload_bytes(80_000, seed).bytes()
}

/// An image of some megabytes that nothing compresses.
fn image(seed: u64) -> Vec<u8> {
    SifBuilder::new().payload_bytes(6_000_000, seed).bytes()
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::from(blake3::hash(bytes))
}

/// Starts nodes, the first of which has an image; returns them with its digest and its chunk map's.
async fn nodes(folder: &Path, count: usize, bytes: &[u8]) -> (Vec<Mover>, Assignment) {
    mover::authority(folder).unwrap();
    let mut movers: Vec<Mover> =
        (0..count).map(|n| Mover::start(folder, &format!("node{n:02}")).unwrap()).collect();
    let source = &mut movers[0];
    std::fs::write(source.root.join("source.sif"), bytes).unwrap();
    source.sees("source.sif", digest(bytes)).await.unwrap();
    let map = source.map(digest(bytes)).await.unwrap();
    let assignment = assignment(digest(bytes), bytes.len() as u64, map, vec![source.peer.clone()]);
    (movers, assignment)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_comes_to_a_node_whole_and_its_inventory_shows_it() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), image(1));
    let (mut movers, assignment) = nodes(folder.path(), 2, &bytes).await;
    movers[1].assign(assignment.clone()).await.unwrap();
    let ended = movers[1].end(assignment.id).await.unwrap();
    assert_eq!((ended.phase, ended.failure), (Phase::Done, None));
    assert_eq!(ended.bytes.fetched, bytes.len() as u64);
    assert_eq!(ended.sources, [(movers[0].peer.node.clone(), bytes.len() as u64)]);
    assert!(std::fs::read(movers[1].root.join("image.sif")).unwrap() == bytes);
    movers[1].sees("image.sif", digest(&bytes)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_said_again_after_a_good_end_is_answered_and_nothing_is_fetched_twice() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), small(4));
    let (mut movers, assignment) = nodes(folder.path(), 2, &bytes).await;
    movers[1].assign(assignment.clone()).await.unwrap();
    assert_eq!(movers[1].end(assignment.id).await.unwrap().phase, Phase::Done);
    movers[1].sees("image.sif", digest(&bytes)).await.unwrap();
    // Its inventory shows the image no longer, as if jobs could not read it.
    std::fs::write(movers[1].root.join("image.sif"), b"no image").unwrap();
    movers[1].loses("image.sif").await.unwrap();
    movers[1].assign(assignment.clone()).await.unwrap();
    assert_eq!(movers[1].end(assignment.id).await.unwrap().phase, Phase::Done);
    assert_eq!(std::fs::read(movers[1].root.join("image.sif")).unwrap(), b"no image");
    // Somebody else's wish is another one.
    movers[1].assign(Assignment { id: AssignmentId(2), ..assignment }).await.unwrap();
    assert_eq!(movers[1].end(AssignmentId(2)).await.unwrap().phase, Phase::Done);
    assert!(std::fs::read(movers[1].root.join("image.sif")).unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_gave_or_fetched_a_moment_ago_it_can_remove() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), image(7));
    let (mut movers, assignment) = nodes(folder.path(), 2, &bytes).await;
    movers[1].assign(assignment.clone()).await.unwrap();
    assert_eq!(movers[1].end(assignment.id).await.unwrap().phase, Phase::Done);
    movers[1].sees("image.sif", digest(&bytes)).await.unwrap();
    // The source still has it open, for those who might ask next.
    for (at, name) in [(0, "source.sif"), (1, "image.sif")] {
        let removal = Removal {
            id: AssignmentId(9),
            root: RootId(0),
            name: name.parse().unwrap(),
            image: digest(&bytes),
        };
        let other = Removal { image: digest(b"another"), ..removal.clone() };
        assert_eq!(movers[at].remove(other).await.unwrap().outcome, RemovalOutcome::Absent);
        let elsewhere = Removal { root: RootId(9), ..removal.clone() };
        let refused = RemovalOutcome::Failed(RemovalCode::NoRoot);
        assert_eq!(movers[at].remove(elsewhere).await.unwrap().outcome, refused);
        let removed = movers[at].remove(removal.clone()).await.unwrap();
        if removed.outcome == RemovalOutcome::Failed(RemovalCode::CannotTell) {
            println!("skipped: no leases in {}", folder.path().display());
            return;
        }
        assert_eq!(removed.outcome, RemovalOutcome::Gone, "{name}: {}", removed.detail);
        assert!(!movers[at].root.join(name).exists());
        assert_eq!(
            movers[at].remove(removal.clone()).await.unwrap(),
            removed,
            "the same order, the same answer"
        );
        let again = Removal { id: AssignmentId(10), ..removal };
        assert_eq!(movers[at].remove(again).await.unwrap().outcome, RemovalOutcome::Absent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_nodes_fetch_from_one_another() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), image(2));
    let (mut movers, assignment) = nodes(folder.path(), 9, &bytes).await;
    let peers: Vec<_> = movers.iter().map(|mover| mover.peer.clone()).collect();
    let mesh = mover::mesh(&peers);
    for mover in &movers[1..] {
        let peers = mesh[&mover.node].clone();
        mover.assign(Assignment { peers, ..assignment.clone() }).await.unwrap();
    }
    let mut from_the_first = 0;
    for mover in &mut movers[1..] {
        let ended = mover.end(assignment.id).await.unwrap();
        assert_eq!((ended.phase, &ended.failure), (Phase::Done, &None));
        assert_eq!(ended.dropped, []);
        assert!(std::fs::read(mover.root.join("image.sif")).unwrap() == bytes);
        let first = ended.sources.iter().find(|(node, _)| *node == peers[0].node);
        from_the_first += first.map_or(0, |(_, bytes)| *bytes);
    }
    let copies = from_the_first as f64 / bytes.len() as f64;
    anstream::println!("the first source gave {copies:.2} copies");
    assert!(copies < 7.0, "nodes fetch from the first source only: {copies:.2} copies");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_new_of_the_next_version_is_fetched() {
    let (folder, old) = (tempfile::tempdir().unwrap(), image(3));
    let mut new = old.clone();
    let tail = new.len() - 100_000;
    new[tail..].copy_from_slice(&image(4)[tail..]);
    let (mut movers, assignment) = nodes(folder.path(), 2, &new).await;
    std::fs::write(movers[1].root.join("image.sif"), &old).unwrap();
    movers[1].sees("image.sif", digest(&old)).await.unwrap();
    movers[1].assign(assignment.clone()).await.unwrap();
    let ended = movers[1].end(assignment.id).await.unwrap();
    assert_eq!((ended.phase, ended.failure), (Phase::Done, None));
    assert!(ended.bytes.fetched < 500_000, "{:?}", ended.bytes);
    assert_eq!(ended.bytes.fetched + ended.bytes.reused, new.len() as u64);
    assert!(std::fs::read(movers[1].root.join("image.sif")).unwrap() == new);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_is_not_there_is_a_reason() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), image(5));
    let (mut movers, assignment) = nodes(folder.path(), 2, &bytes).await;
    let nowhere = Assignment { root: RootId(9), ..assignment.clone() };
    movers[1].assign(nowhere).await.unwrap();
    let ended = movers[1].end(assignment.id).await.unwrap();
    assert_eq!(ended.failure.map(|(code, _)| code), Some(FailCode::NoRoot));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_may_only_give_slowly_is_not_taken_for_silent() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), small(7));
    let (mut movers, assignment) = nodes(folder.path(), 2, &bytes).await;
    movers[0].orders.send(Order::Rates(Rates { up: Some(SLOW), down: None })).await.unwrap();
    movers[1].assign(assignment.clone()).await.unwrap();
    let ended = movers[1].end(assignment.id).await.unwrap();
    assert_eq!((ended.phase, ended.failure, ended.dropped), (Phase::Done, None, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_may_only_take_slowly_does_not_blame_its_source() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), small(8));
    let (mut movers, assignment) = nodes(folder.path(), 2, &bytes).await;
    movers[1].assign(Assignment { rate: Some(SLOW), ..assignment.clone() }).await.unwrap();
    let ended = movers[1].end(assignment.id).await.unwrap();
    assert_eq!((ended.phase, ended.failure, ended.dropped), (Phase::Done, None, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_comes_whole_although_the_permission_ends_meanwhile() {
    /// So much later than it says, for clocks that differ.
    const SLACK_MS: i64 = 300_000;
    let (folder, bytes) = (tempfile::tempdir().unwrap(), small(11));
    let (mut movers, assignment) = nodes(folder.path(), 2, &bytes).await;
    let until = UnixMillis(Clock::start().now().wall.0 - SLACK_MS + 5_000);
    let signer = Signer::from_seed(&[7; 32]).unwrap();
    let capability = signer.permit(&movers[1].peer.node, assignment.image, until);
    let id = assignment.id;
    // Its only span takes three times as long as it is permitted.
    let slowly = Assignment { rate: Some(SLOW / 3), capability, ..assignment };
    movers[1].orders.send(Order::Assign(slowly)).await.unwrap();
    let ended = movers[1].end(id).await.unwrap();
    assert_eq!((ended.phase, ended.failure, ended.dropped), (Phase::Done, None, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn rogues_are_named_and_left_alone_and_everybody_else_gets_the_image() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), image(6));
    // Each of the four that fetch has eight peers: the source, three like it, and the rogues.
    let (mut movers, assignment) = nodes(folder.path(), 5, &bytes).await;
    let crimes = [
        ("poisoner", Crime::Poison, Fault::Poisoned),
        ("liar", Crime::Lie, Fault::Lied),
        ("staller", Crime::Stall, Fault::Stalled),
        ("garbler", Crime::Garble, Fault::Garbage),
    ];
    let start = |(name, crime, _)| Rogue::start(folder.path(), name, crime, bytes.clone().into()).unwrap();
    let rogues = crimes.map(start);
    let honest = movers.iter().map(|mover| mover.peer.clone());
    let all: Vec<Peer> = rogues.iter().map(|rogue| rogue.peer.clone()).chain(honest).collect();
    // The source gives slowly, so that everybody turns to the rogues too.
    movers[0].orders.send(Order::Rates(Rates { up: Some(1_000_000), down: None })).await.unwrap();
    for mover in &movers[1..] {
        let peers = all.iter().filter(|peer| **peer != mover.peer).cloned().collect();
        mover.assign(Assignment { peers, ..assignment.clone() }).await.unwrap();
    }
    for mover in &mut movers[1..] {
        let ended = mover.end(assignment.id).await.unwrap();
        assert_eq!((ended.phase, &ended.failure), (Phase::Done, &None));
        assert!(std::fs::read(mover.root.join("image.sif")).unwrap() == bytes);
        for (name, _, fault) in crimes {
            let named: Vec<Fault> = ended
                .dropped
                .iter()
                .filter(|(node, _)| node.as_str() == name)
                .map(|(_, fault)| *fault)
                .collect();
            assert_eq!(named, [fault], "{name} as {} saw it: {:?}", mover.node, ended.dropped);
        }
        assert_eq!(ended.dropped.len(), crimes.len(), "{:?}", ended.dropped);
        let honest = |node: &NodeName| crimes.iter().all(|(name, ..)| node.as_str() != *name);
        assert!(ended.sources.iter().all(|(node, _)| honest(node)), "{:?}", ended.sources);
        // What a rogue sent before it was cut off: of the poisoner's spans a stretch each.
        assert!(ended.bytes.wasted < 2 * 1024 * 1024, "{:?}", ended.bytes);
    }
    for (rogue, (name, ..)) in rogues.iter().zip(crimes) {
        let asked = rogue.asked.load(Ordering::Relaxed);
        // Who has yet to give a right span is asked for one.
        assert!(asked <= 4, "four nodes asked {name} for {asked} spans, each for one at most");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_too_slow_to_choose_is_told_so_and_not_given_an_end_without_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (movers, assignment) = nodes(folder.path(), 1, &small(9)).await;
    let slow = Dialler::start(folder.path(), "slow").unwrap();
    let mut following = slow.follow(&movers[0].peer, &assignment, vec![ALL]).await.unwrap();
    let (_send, mut receive) = following.turn().await.unwrap();
    // An end would look like a giver that answers with nothing, which is malice.
    let ended = receive.read(&mut [0; 1]).await;
    let stopping = VarInt::from_u32(StopCode::Stopping as u32);
    assert!(matches!(ended, Err(ReadError::Reset(code)) if code == stopping), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_seen_after_somebody_asked_for_it_is_given_all_the_same() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), small(12));
    mover::authority(folder.path()).unwrap();
    let mut source = Mover::start(folder.path(), "source").unwrap();
    let map = sifleet_agent::map::make(digest(&bytes), bytes.as_slice()).unwrap().digest();
    let image = assignment(digest(&bytes), bytes.len() as u64, map, vec![]);
    let early = Dialler::start(folder.path(), "early").unwrap();
    let mut following = early.follow(&source.peer, &image, vec![ALL]).await.unwrap();
    std::fs::write(source.root.join("source.sif"), &bytes).unwrap();
    source.sees("source.sif", digest(&bytes)).await.unwrap();
    let offer = following.offers.next::<Offer>().await.unwrap();
    assert!(matches!(offer, Some(Offer::Alone(_) | Offer::Spans(_))), "{offer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lacks_what_cannot_be_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let (movers, assignment) = nodes(folder.path(), 1, &small(10)).await;
    let rogue = Dialler::start(folder.path(), "rogue").unwrap();
    let beyond = Run { first: 1, count: 1 };
    for lacks in [vec![ALL; 2], vec![Run { first: 0, count: u32::MAX }], vec![beyond]] {
        let following = rogue.follow(&movers[0].peer, &assignment, lacks).await.unwrap();
        let closed = tokio::time::timeout(LIMIT, following.connection.closed()).await.unwrap();
        let protocol = VarInt::from_u32(StopCode::Protocol as u32);
        assert!(
            matches!(&closed, ConnectionError::ApplicationClosed(close) if close.error_code == protocol),
            "{closed}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_cannot_take_the_connections_of_all_others() {
    let folder = tempfile::tempdir().unwrap();
    let (movers, assignment) = nodes(folder.path(), 1, &small(11)).await;
    let greedy = Dialler::start(folder.path(), "greedy").unwrap();
    let mut kept = Vec::new();
    for _ in 0..16 {
        let mut following = greedy.follow(&movers[0].peer, &assignment, vec![ALL]).await.unwrap();
        following.offers.next::<Offer>().await.unwrap().unwrap();
        kept.push(following);
    }
    let refused = greedy.dial(&movers[0].peer).await.unwrap();
    let closed = tokio::time::timeout(LIMIT, refused.closed()).await.unwrap();
    let stopping = VarInt::from_u32(StopCode::Stopping as u32);
    assert!(
        matches!(&closed, ConnectionError::ApplicationClosed(close) if close.error_code == stopping),
        "{closed}"
    );
    let other = Dialler::start(folder.path(), "other").unwrap();
    let mut following = other.follow(&movers[0].peer, &assignment, vec![ALL]).await.unwrap();
    following.offers.next::<Offer>().await.unwrap().unwrap();
}

/// Listens until an assignment ends; tells whether another one had begun by then.
async fn begins_before_the_end(mover: &mut Mover, ends: AssignmentId, begins: AssignmentId) -> bool {
    let mut begun = false;
    loop {
        let said = mover.progress().await.unwrap();
        assert_ne!(said.phase, Phase::Failed, "{said:?}");
        begun |= said.id == begins && said.phase != Phase::Waiting;
        if said.id == ends && said.phase == Phase::Done {
            return begun;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_many_images_are_fetched_at_once_may_be_changed_while_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let (mut movers, first) = nodes(folder.path(), 2, &small(20)).await;
    let mut assignments = vec![first];
    for id in 2..=4_u8 {
        let (bytes, name) = (small(20 + u64::from(id)), format!("{id}.sif"));
        std::fs::write(movers[0].root.join(&name), &bytes).unwrap();
        movers[0].sees(&name, digest(&bytes)).await.unwrap();
        let map = movers[0].map(digest(&bytes)).await.unwrap();
        let peers = vec![movers[0].peer.clone()];
        let made = assignment(digest(&bytes), bytes.len() as u64, map, peers);
        assignments.push(Assignment { id: AssignmentId(id.into()), name: name.parse().unwrap(), ..made });
    }
    let [one, two, three, four] = &assignments[..] else { panic!() };
    let (source, target) = (movers.remove(0), &mut movers[0]);
    target.orders.send(Order::Concurrent { fetches: Some(1) }).await.unwrap();
    target.assign(one.clone()).await.unwrap();
    target.assign(two.clone()).await.unwrap();
    assert!(!begins_before_the_end(target, one.id, two.id).await, "one at a time");
    target.end(two.id).await.unwrap();

    source.orders.send(Order::Rates(Rates { up: Some(SLOW), down: None })).await.unwrap();
    target.assign(three.clone()).await.unwrap();
    target.assign(four.clone()).await.unwrap();
    target.orders.send(Order::Concurrent { fetches: None }).await.unwrap();
    assert!(begins_before_the_end(target, three.id, four.id).await, "two, by its settings");
}
