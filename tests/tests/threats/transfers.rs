//! A node of the cluster that asks others for what is not its business.

use std::path::Path;
use std::time::{Duration, Instant};

use quinn::VarInt;
use sifleet_common::capability::{Capability, Signer};
use sifleet_common::digest::Digest;
use sifleet_common::name::NodeName;
use sifleet_common::time::UnixMillis;
use sifleet_common::wire::assignment::Assignment;
use sifleet_common::wire::chunk::{MapPart, Offer, Opening, OutlinePart, Rest, Run, StopCode};
use sifleet_common::wire::frame::{FrameReader, write_frame};
use sifleet_tests::mover::{self, Mover, assignment, permit};
use sifleet_tests::rogue::Dialler;
use sifleet_tests::sif::SifBuilder;

/// Capabilities count so much longer than they say, in milliseconds: clocks differ.
const SLACK_MS: i64 = 300_000;
const ALL: Run = Run { first: 0, count: 1 };

/// A node with an image, and what an assignment of it would be.
async fn source(folder: &Path) -> (Mover, Assignment) {
    let bytes = SifBuilder::new().payload_bytes(250_000, 1).bytes();
    let digest = Digest::from(blake3::hash(&bytes));
    mover::authority(folder).unwrap();
    let mut source = Mover::start(folder, "source").unwrap();
    std::fs::write(source.root.join("source.sif"), &bytes).unwrap();
    source.sees("source.sif", digest).await.unwrap();
    let map = source.map(digest).await.unwrap();
    let assignment = assignment(digest, bytes.len() as u64, map, vec![source.peer.clone()]);
    (source, assignment)
}

/// What a capability that a node may come by says, and why it does not count.
fn unfit(image: Digest) -> Vec<(&'static str, Capability)> {
    let node = |name: &str| name.parse::<NodeName>().unwrap();
    let signer = |seed| Signer::from_seed(&[seed; 32]).unwrap();
    let late = signer(7).permit(&node("thief"), image, UnixMillis(1_000));
    vec![
        ("none", Capability::default()),
        ("another node's", permit(&node("other"), image).unwrap()),
        ("another image's", permit(&node("thief"), Digest::from_bytes([9; 32])).unwrap()),
        ("one that has run out", late),
        ("one it signed itself", signer(8).permit(&node("thief"), image, UnixMillis(i64::MAX))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_was_not_assigned_is_answered_for_as_one_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let (source, assignment) = source(folder.path()).await;
    let thief = Dialler::start(folder.path(), "thief").unwrap();
    let ask = async |image: Digest, capability: Capability| {
        let begun = Instant::now();
        let connection = thief.dial(&source.peer).await.unwrap();
        let (mut send, offers) = connection.open_bi().await.unwrap();
        let opening = Opening::Follow { image, map: assignment.map, lacks: vec![ALL], capability };
        write_frame(&mut send, &opening).await.unwrap();
        let offer = FrameReader::new(offers).next::<Offer>().await.unwrap();
        (offer, begun.elapsed())
    };
    let nowhere = Digest::from_bytes([3; 32]);
    let absent = permit(&"thief".parse().unwrap(), nowhere).unwrap();
    let mut asked = vec![("one that is not there", nowhere, absent)];
    asked.extend(unfit(assignment.image).into_iter().map(|(what, shown)| (what, assignment.image, shown)));
    let answers = futures_util::future::join_all(asked.into_iter().map(|(what, image, shown)| {
        let ask = &ask;
        async move { (what, ask(image, shown).await) }
    }))
    .await;
    let (_, (_, as_long_as)) = &answers[0];
    for (what, (offer, took)) in &answers {
        assert_eq!(*offer, Some(Offer::Absent), "{what}");
        let apart = took.abs_diff(*as_long_as);
        assert!(apart < Duration::from_secs(11), "{what}: {took:?}, absent: {as_long_as:?}");
    }
    let own = thief.follow(&source.peer, &assignment, vec![ALL]).await.unwrap().offers.next::<Offer>().await;
    assert!(matches!(own, Ok(Some(Offer::Spans(_) | Offer::Alone(_)))), "what is its business: {own:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_an_image_is_let_go_when_its_permission_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (source, assignment) = source(folder.path()).await;
    let node = Dialler::start(folder.path(), "node").unwrap();
    let now = sifleet_common::clock::Clock::start().now().wall;
    let signer = Signer::from_seed(&[7; 32]).unwrap();
    let until = UnixMillis(now.0 - SLACK_MS + 4_000);
    let capability = signer.permit(&"node".parse().unwrap(), assignment.image, until);
    let opening =
        Opening::Follow { image: assignment.image, map: assignment.map, lacks: vec![ALL], capability };
    let connection = node.dial(&source.peer).await.unwrap();
    let (mut send, offers) = connection.open_bi().await.unwrap();
    write_frame(&mut send, &opening).await.unwrap();
    let mut offers = FrameReader::new(offers);
    let offer = offers.next::<Offer>().await;
    assert!(matches!(offer, Ok(Some(Offer::Spans(_) | Offer::Alone(_)))), "{offer:?}");
    let end = tokio::time::timeout(Duration::from_secs(60), async {
        while let Some(_more) = offers.next::<Offer>().await? {}
        Ok::<_, sifleet_common::wire::frame::FrameError>(())
    });
    assert!(matches!(end.await, Ok(Ok(()))), "the stream ends, and nothing was broken");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_no_offers_when_its_permission_ends_is_not_left_with_half_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let (source, assignment) = source(folder.path()).await;
    let node = Dialler::start_taking(folder.path(), "node", 4).unwrap();
    let until = UnixMillis(sifleet_common::clock::Clock::start().now().wall.0 - SLACK_MS + 2_000);
    let signer = Signer::from_seed(&[7; 32]).unwrap();
    let capability = signer.permit(&"node".parse().unwrap(), assignment.image, until);
    let opening =
        Opening::Follow { image: assignment.image, map: assignment.map, lacks: vec![ALL], capability };
    let connection = node.dial(&source.peer).await.unwrap();
    let (mut send, mut offers) = connection.open_bi().await.unwrap();
    write_frame(&mut send, &opening).await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(60), offers.received_reset()).await;
    let reset = end.expect("the stream is given up").unwrap();
    assert_eq!(reset, Some(VarInt::from_u32(StopCode::Stopping as u32)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chunk_map_of_an_image_that_was_not_assigned_is_not_handed_out() {
    let folder = tempfile::tempdir().unwrap();
    let (source, assignment) = source(folder.path()).await;
    let thief = Dialler::start(folder.path(), "thief").unwrap();
    let ask = async |opening: Opening| {
        let connection = thief.dial(&source.peer).await.unwrap();
        let (mut send, parts) = connection.open_bi().await.unwrap();
        write_frame(&mut send, &opening).await.unwrap();
        let outline = matches!(opening, Opening::Outline { .. });
        let mut parts = FrameReader::new(parts);
        if outline {
            parts.next::<OutlinePart>().await.unwrap().is_some()
        } else {
            parts.next::<MapPart>().await.unwrap().is_some()
        }
    };
    let image = assignment.image;
    for (what, shown) in unfit(image) {
        assert!(!ask(Opening::Map { image, capability: shown.clone() }).await, "{what}");
        assert!(!ask(Opening::Outline { image, capability: shown }).await, "{what}");
    }
    let fit = permit(&"thief".parse().unwrap(), image).unwrap();
    assert!(ask(Opening::Map { image, capability: fit.clone() }).await);
    assert!(ask(Opening::Outline { image, capability: fit }).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_chunks_that_a_map_has_not_got_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let (source, assignment) = source(folder.path()).await;
    let node = Dialler::start(folder.path(), "node").unwrap();
    let ask = async |chunks: Vec<Run>| {
        let connection = node.dial(&source.peer).await.unwrap();
        let (mut send, parts) = connection.open_bi().await.unwrap();
        let capability = permit(&"node".parse().unwrap(), assignment.image).unwrap();
        write_frame(&mut send, &Opening::Outline { image: assignment.image, capability }).await.unwrap();
        let mut parts = FrameReader::new(parts);
        let outline = parts.next::<OutlinePart>().await.unwrap().unwrap();
        assert!(outline.last);
        write_frame(&mut send, &Rest { chunks }).await.unwrap();
        let part = parts.next::<MapPart>().await.map(Option::unwrap);
        (u32::try_from(outline.prefixes.len()).unwrap(), part.map(|part| part.chunks.len()))
    };
    let (count, two) = ask(vec![Run { first: 0, count: 2 }]).await;
    assert_eq!(two.unwrap(), 2);
    for wrong in [
        vec![Run { first: count, count: 1 }],
        vec![Run { first: 0, count: u32::MAX }],
        vec![Run { first: 1, count: 1 }, Run { first: 0, count: 1 }],
    ] {
        let (_, refused) = ask(wrong.clone()).await;
        let told = format!("{:?}", refused.unwrap_err());
        assert!(told.contains("not as told in the protocol"), "{wrong:?}: {told}");
    }
}
