//! Frames that are whole, cut, too long or hostile, and what a length that lies may cost.

use super::*;
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::ReadBuf;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Sample {
    Nothing,
    Names(Vec<String>),
    Map { at: u64, sizes: BTreeMap<u32, i64>, deep: Option<Box<Sample>> },
    Raw(Vec<u8>),
}

fn sample() -> impl Strategy<Value = Sample> {
    let leaf = prop_oneof![
        Just(Sample::Nothing),
        proptest::collection::vec(".{0,20}", 0..8).prop_map(Sample::Names),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(Sample::Raw),
    ];
    leaf.prop_recursive(3, 8, 1, |inner| {
        let sizes = proptest::collection::btree_map(any::<u32>(), any::<i64>(), 0..5);
        let map = (any::<u64>(), sizes, inner);
        map.prop_map(|(at, sizes, deep)| Sample::Map { at, sizes, deep: Some(Box::new(deep)) })
    })
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

/// Hands out one byte at a time and is never ready twice in a row, as a slow network is.
struct Trickle {
    bytes: Vec<u8>,
    at: usize,
    ready: bool,
}

impl AsyncRead for Trickle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.ready = !self.ready;
        if !self.ready {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(byte) = self.bytes.get(self.at) {
            buf.put_slice(&[*byte]);
            self.at += 1;
        }
        Poll::Ready(Ok(()))
    }
}

#[test]
fn the_bytes_of_a_frame_never_move() {
    let message = Sample::Map { at: 300, sizes: BTreeMap::from([(1, -1)]), deep: None };
    let mut wire = Vec::new();
    run(write_frame(&mut wire, &message)).unwrap();
    assert_eq!(wire, [8, 0, 0, 0, 2, 251, 44, 1, 1, 1, 1, 0]);
}

#[test]
fn a_length_beyond_the_limit_takes_no_memory() {
    for len in [u32::try_from(MAX_FRAME).unwrap() + 1, u32::MAX] {
        let mut bytes = len.to_le_bytes().to_vec();
        bytes.extend_from_slice(&[0; 100]);
        let mut reader = FrameReader::new(bytes.as_slice());
        let error = run(reader.next::<Sample>()).unwrap_err();
        assert!(matches!(error, FrameError::TooLong { .. }), "{error}");
        assert_eq!(reader.body.capacity(), 0);
    }
}

#[test]
fn a_lying_length_takes_memory_only_for_what_arrives() {
    let mut bytes = u32::try_from(MAX_FRAME).unwrap().to_le_bytes().to_vec();
    bytes.extend_from_slice(&[0; 10]);
    let mut reader = FrameReader::new(bytes.as_slice());
    let error = run(reader.next::<Sample>()).unwrap_err();
    assert!(matches!(error, FrameError::Cut { got: 10, len: MAX_FRAME }), "{error}");
    assert!(reader.body.capacity() <= 2 * READ_STEP, "{}", reader.body.capacity());
}

#[test]
fn claims_of_endless_strings_and_lists_are_refused() {
    for len in [1_u64 << 32, 1 << 60, u64::MAX] {
        let mut claim = vec![253];
        claim.extend_from_slice(&len.to_le_bytes());
        assert!(decode::<String>(&claim).is_err());
        assert!(decode::<Vec<String>>(&claim).is_err());
        assert!(decode::<Vec<u8>>(&claim).is_err());
        assert!(decode::<BTreeMap<u64, String>>(&claim).is_err());
        claim.insert(0, 1);
        assert!(decode::<Sample>(&claim).is_err());
        assert!(decode::<Vec<String>>(&claim).is_err());
    }
    let ones = [0xff; 25];
    assert!(decode::<Sample>(&ones).is_err());
    assert!(decode::<Vec<String>>(&ones).is_err());
    assert!(decode::<String>(&ones).is_err());
}

#[test]
fn a_message_longer_than_a_frame_is_not_sent() {
    let mut wire = Vec::new();
    let error = run(write_frame(&mut wire, &Sample::Raw(vec![0; MAX_FRAME]))).unwrap_err();
    assert!(matches!(error, FrameError::TooLong { .. }), "{error}");
    assert!(wire.is_empty());
}

#[test]
fn the_longest_message_makes_the_trip() {
    let text = "x".repeat(MAX_FRAME - 5);
    let body = encode(&text).unwrap();
    assert_eq!(body.len(), MAX_FRAME);
    assert_eq!(decode::<String>(&body).unwrap(), text);

    let dense = vec![0_u64; MAX_FRAME - 5];
    let body = encode(&dense).unwrap();
    assert_eq!(body.len(), MAX_FRAME);
    assert_eq!(decode::<Vec<u64>>(&body).unwrap(), dense);
}

#[test]
fn something_behind_the_message_is_an_error() {
    let mut body = encode(&Sample::Nothing).unwrap();
    body.push(0);
    let error = decode::<Sample>(&body).unwrap_err();
    assert!(matches!(error, FrameError::Trailing { len: 2, used: 1 }), "{error}");
}

#[test]
fn an_empty_frame_is_an_error() {
    let error = run(FrameReader::new([0; 4].as_slice()).next::<()>()).unwrap_err();
    assert!(matches!(error, FrameError::Empty), "{error}");
}

#[test]
fn a_stream_may_end_between_frames_but_not_inside() {
    let bytes = framed(&encode(&Sample::Names(vec!["a".into(), "b".into()])).unwrap());
    for cut in 0..bytes.len() {
        let mut reader = FrameReader::new(&bytes[..cut]);
        let end = run(reader.next::<Sample>());
        if cut == 0 {
            assert!(matches!(end, Ok(None)));
        } else {
            assert!(matches!(end, Err(FrameError::Cut { .. })), "cut at {cut}");
        }
    }
}

#[test]
fn a_read_that_was_given_up_goes_on_where_it_stood() {
    let messages = [Sample::Raw(vec![7; 40]), Sample::Nothing, Sample::Names(vec!["n".into()])];
    let bytes = messages.iter().flat_map(|message| framed(&encode(message).unwrap())).collect();
    let mut reader = FrameReader::new(Trickle { bytes, at: 0, ready: false });
    let mut got = Vec::new();
    run(async {
        loop {
            tokio::select! {
                biased;
                next = reader.next::<Sample>() => match next.unwrap() {
                    Some(message) => got.push(message),
                    None => break,
                },
                () = std::future::ready(()) => tokio::task::yield_now().await,
            }
        }
    });
    assert_eq!(got, messages);
}

#[test]
fn an_idle_reader_holds_no_buffer() {
    let bytes = framed(&encode(&Sample::Raw(vec![1; 500_000])).unwrap());
    let mut reader = FrameReader::new(bytes.as_slice());
    assert!(run(reader.next::<Sample>()).unwrap().is_some());
    assert_eq!(reader.body.capacity(), 0);
}

proptest! {
    #[test]
    fn messages_come_back_as_they_went(messages in proptest::collection::vec(sample(), 1..5)) {
        let mut wire = Vec::new();
        let got = run(async {
            for message in &messages {
                write_frame(&mut wire, message).await?;
            }
            let mut reader = FrameReader::new(wire.as_slice());
            let mut got = Vec::new();
            while let Some(message) = reader.next::<Sample>().await? {
                got.push(message);
            }
            Ok::<_, FrameError>(got)
        });
        prop_assert_eq!(got.unwrap(), messages);
    }

    #[test]
    fn any_bytes_give_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = decode::<Sample>(&bytes) {
            prop_assert!(encode(&message).is_ok());
        }
        let end = run(FrameReader::new(bytes.as_slice()).next::<Sample>());
        prop_assert!(end.is_ok() || end.is_err());
    }
}
