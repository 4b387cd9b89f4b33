//! Frames: how one message becomes bytes on a stream and comes back.
//!
//! Owns the length prefix, its limit, and the only use of bincode in the project, so that a change of encoding
//! is a change of this file. It knows no message. Every length is checked against [`MAX_FRAME`] before memory
//! is taken, and memory grows with the bytes that arrive, not with the length they claim.
//! Encoding: bincode 2.0.1, standard configuration (little endian, variable-length integers), always limited:
//! without a limit a few hostile bytes make that version panic or abort.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Largest body of a frame, in bytes: 1 MiB.
///
/// A snapshot part of half that size holds thousands of replicas, and 10,000 nodes that all announce a whole
/// frame at once still fit into the memory of a head node.
pub const MAX_FRAME: usize = 1024 * 1024;

/// Most memory taken for bytes that have not arrived: a peer must send to make us grow.
const READ_STEP: usize = 64 * 1024;

/// What one frame may claim while it is decoded, in bytes.
///
/// bincode counts a value by its size in memory: a small `u64` is one byte in the frame and counts as eight.
/// With eight times the frame, whatever could be encoded can be decoded; a length that lies beyond that is
/// refused before memory is taken. (A 128-bit integer would count sixteen: no message holds one.)
const CLAIMS: usize = 8 * MAX_FRAME;

/// Bytes of the length prefix.
const PREFIX: usize = size_of::<u32>();

/// Says why a message could not be written or read.
///
/// After any of these the stream is out of step and is to be closed.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The message does not fit into a frame, or the peer announced one that does not.
    #[error("a frame holds at most {max} bytes, this one has {len}")]
    TooLong {
        /// What was to be sent, or what the peer announced; in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The peer announced an empty frame, which no message is.
    #[error("the peer sent a frame without a message")]
    Empty,
    /// The message cannot be encoded; an error of ours.
    #[error("a message could not be encoded")]
    Encode {
        /// What the encoder said.
        #[source]
        source: bincode::error::EncodeError,
    },
    /// The bytes are no message of this kind; the peer speaks another version or means harm.
    #[error("a frame of {len} bytes does not hold the expected message")]
    Decode {
        /// Length of the frame body, in bytes.
        len: usize,
        /// What the decoder said.
        #[source]
        source: bincode::error::DecodeError,
    },
    /// Bytes are left after the message.
    #[error("a frame of {len} bytes holds a message of {used} bytes and something behind it")]
    Trailing {
        /// Length of the frame body, in bytes.
        len: usize,
        /// How much of it the message takes, in bytes.
        used: usize,
    },
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame, after {got} of {len} bytes")]
    Cut {
        /// How much had arrived, in bytes.
        got: usize,
        /// How much was announced, in bytes.
        len: usize,
    },
    /// The stream failed.
    #[error("the stream failed while a frame was {step}")]
    Stream {
        /// What was being done: "read" or "written".
        step: &'static str,
        /// What the transport said.
        #[source]
        source: io::Error,
    },
}

/// Encodes a message as the body of a frame.
///
/// # Errors
/// [`FrameError::TooLong`] when the body would exceed [`MAX_FRAME`], [`FrameError::Encode`] when the type has
/// no encoding.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let body = bincode::serde::encode_to_vec(message, bincode::config::standard())
        .map_err(|source| FrameError::Encode { source })?;
    check_len(body.len())?;
    Ok(body)
}

/// Decodes the body of a frame; all of it must be the message.
///
/// # Errors
/// [`FrameError::TooLong`], [`FrameError::Decode`] or [`FrameError::Trailing`]; never a panic. Memory is
/// taken for what the bytes hold, plus at most 8 MiB for a length that lies.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    let len = body.len();
    check_len(len)?;
    let limited = bincode::config::standard().with_limit::<CLAIMS>();
    let (message, used) = bincode::serde::decode_from_slice(body, limited)
        .map_err(|source| FrameError::Decode { len, source })?;
    if used == len { Ok(message) } else { Err(FrameError::Trailing { len, used }) }
}

/// Writes one message as a frame and flushes it.
///
/// Not cancel safe: a future dropped half-way leaves half a frame, so give it to a task of its own or close the
/// stream afterwards.
///
/// # Errors
/// [`FrameError`] of [`encode`], or [`FrameError::Stream`].
pub async fn write_frame<W, T>(stream: &mut W, message: &T) -> Result<(), FrameError>
where
    W: AsyncWrite + Unpin,
    T: Serialize,
{
    let body = encode(message)?;
    let mut frame = Vec::with_capacity(PREFIX + body.len());
    frame.extend_from_slice(&prefix(body.len())?);
    frame.extend_from_slice(&body);
    let failed = |source| FrameError::Stream { step: "written", source };
    stream.write_all(&frame).await.map_err(failed)?;
    stream.flush().await.map_err(failed)
}

/// Reads frames from a stream, one message at a time.
///
/// An idle reader holds no buffer, so ten thousand of them cost nothing.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    prefix: [u8; PREFIX],
    prefix_filled: usize,
    body: Vec<u8>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Makes a reader that stands between two frames.
    pub const fn new(stream: R) -> Self {
        Self { stream, prefix: [0; PREFIX], prefix_filled: 0, body: Vec::new() }
    }

    /// Reads the next message; `None` when the stream ended between two frames.
    ///
    /// Cancel safe: what has arrived stays in the reader, and the next call goes on from there.
    ///
    /// # Errors
    /// [`FrameError`]; the stream is to be closed after any of them.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some(len) = self.announced().await? else { return Ok(None) };
        while self.body.len() < len {
            let step = (len - self.body.len()).min(READ_STEP);
            self.body.reserve(step);
            let limit = u64::try_from(step).unwrap_or(u64::MAX);
            let got = (&mut self.stream)
                .take(limit)
                .read_buf(&mut self.body)
                .await
                .map_err(|source| FrameError::Stream { step: "read", source })?;
            if got == 0 {
                return Err(FrameError::Cut { got: self.body.len(), len });
            }
        }
        self.prefix_filled = 0;
        let body = std::mem::take(&mut self.body);
        decode(&body).map(Some)
    }

    /// Gives the stream back, for closing it.
    pub fn into_inner(self) -> R {
        self.stream
    }

    async fn announced(&mut self) -> Result<Option<usize>, FrameError> {
        while let Some(free) = self.prefix.get_mut(self.prefix_filled..).filter(|free| !free.is_empty()) {
            let got =
                self.stream.read(free).await.map_err(|source| FrameError::Stream { step: "read", source })?;
            match (got, self.prefix_filled) {
                (0, 0) => return Ok(None),
                (0, filled) => return Err(FrameError::Cut { got: filled, len: PREFIX }),
                (got, filled) => self.prefix_filled = filled + got,
            }
        }
        let len = usize::try_from(u32::from_le_bytes(self.prefix)).unwrap_or(usize::MAX);
        check_len(len)?;
        if len == 0 { Err(FrameError::Empty) } else { Ok(Some(len)) }
    }
}

const fn check_len(len: usize) -> Result<(), FrameError> {
    if len > MAX_FRAME { Err(FrameError::TooLong { len, max: MAX_FRAME }) } else { Ok(()) }
}

fn prefix(len: usize) -> Result<[u8; PREFIX], FrameError> {
    match u32::try_from(len) {
        Ok(len) => Ok(len.to_le_bytes()),
        Err(_beyond) => Err(FrameError::TooLong { len, max: MAX_FRAME }),
    }
}

#[cfg(test)]
mod tests;
