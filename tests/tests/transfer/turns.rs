//! Several turns of one follower at once: they share a connection, and the patience of whoever gives.

use std::time::Duration;

use quinn::{RecvStream, SendStream};
use sifleet_agent::layout::Layout;
use sifleet_common::wire::chunk::{Choice, Offer, Run, Turn, Wish, numbers};
use sifleet_common::wire::frame::{FrameReader, write_frame};
use sifleet_tests::rogue::{Dialler, Following};

use super::{digest, image, nodes};

/// Bytes on their way on one stream: a span has several times as many.
const WINDOW: u32 = 64 * 1024;
/// Bytes taken each second: of one turn, a window in less than anybody is waited for.
const TAKEN: usize = 8 * 1024;

/// Waits for a turn and asks for a span; returns the stream it comes on, and how many bytes it has.
async fn asked(following: &Following, layout: &Layout, offered: u32) -> (SendStream, RecvStream, usize) {
    let (span, place) = layout.spans().iter().nth(offered as usize).unwrap();
    let (mut send, receive) = following.connection.accept_bi().await.unwrap();
    let mut frames = FrameReader::new(receive);
    frames.next::<Turn>().await.unwrap().unwrap();
    let count = u32::try_from(place.chunks.len()).unwrap();
    write_frame(&mut send, &Choice::Ask { span, chunks: vec![Run { first: 0, count }] }).await.unwrap();
    (send, frames.into_inner(), usize::try_from(place.bytes.end - place.bytes.start).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_takes_its_turns_one_after_the_other_gets_them_all() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), image(13));
    let (movers, assignment) = nodes(folder.path(), 1, &bytes).await;
    let layout = Layout::of(sifleet_agent::map::make(digest(&bytes), bytes.as_slice()).unwrap().into());
    let slow = Dialler::start_taking(folder.path(), "slow", WINDOW).unwrap();
    let all = Run { first: 0, count: layout.spans().count() };
    let mut following = slow.follow(&movers[0].peer, &assignment, vec![all]).await.unwrap();
    let Some(Offer::Alone(offered)) = following.offers.next::<Offer>().await.unwrap() else {
        panic!("nothing is offered")
    };
    let mut turns = Vec::new();
    for offered in numbers(&offered, all.count).take(3) {
        write_frame(&mut following.wishes, &Wish::Want).await.unwrap();
        turns.push(asked(&following, &layout, offered).await);
    }
    let [(_, first, len), rest @ ..] = &mut turns[..] else { panic!("no turns") };
    let mut each_second = tokio::time::interval(Duration::from_secs(1));
    let mut taken = 0;
    while taken < *len {
        each_second.tick().await;
        let mut some = vec![0; TAKEN.min(*len - taken)];
        first.read_exact(&mut some).await.unwrap();
        taken += some.len();
    }
    assert!(taken / TAKEN > 12, "the others have waited for longer than anybody is waited for");
    for (_, stream, len) in rest {
        assert_eq!(stream.read_to_end(*len).await.unwrap().len(), *len);
    }
}
