//! Hands a chunk map out: whole, or in outline and then what the fetcher has in no map of its own.

use quinn::{RecvStream, SendStream};
use sifleet_common::digest::Digest;
use sifleet_common::wire::chunk::{Rest, are_sound, map_parts, outline_parts, rest_parts};
use sifleet_common::wire::frame::{FrameError, FrameReader};

use super::connection::{PATIENCE, PeerError, say};
use super::find::Finder;

/// Hands the map out; the end of the stream says that there is none.
pub(super) async fn whole(finder: &Finder, image: Digest, mut send: SendStream) {
    if let Ok(map) = finder.map(image).await {
        for part in map_parts(&map) {
            if !say(&mut send, &part).await {
                return;
            }
        }
    }
    drop(send.finish());
}

/// Hands its outline out, then what is asked for; the end of the stream says that there is no map.
///
/// # Errors
/// When what is asked for is nothing that could be asked for.
pub(super) async fn outline(
    finder: &Finder,
    image: Digest,
    (mut send, mut frames): (SendStream, FrameReader<RecvStream>),
) -> Result<(), PeerError> {
    if let Ok(map) = finder.map(image).await {
        for part in outline_parts(&map) {
            if !say(&mut send, &part).await {
                return Ok(());
            }
        }
        let rest = match tokio::time::timeout(PATIENCE, frames.next::<Rest>()).await {
            Ok(Ok(Some(rest))) => rest,
            // A peer that knows all of it, or has the map from somebody else, or is gone.
            Ok(Ok(None) | Err(FrameError::Stream { .. })) | Err(_) => return Ok(()),
            Ok(Err(source)) => return Err(PeerError::Frame { source }),
        };
        let end = u32::try_from(map.chunks().len()).unwrap_or(u32::MAX);
        if !are_sound(&rest.chunks, end) {
            return Err(PeerError::Runs { count: rest.chunks.len() });
        }
        for part in rest_parts(&map, &rest) {
            if !say(&mut send, &part).await {
                return Ok(());
            }
        }
    }
    drop(send.finish());
    Ok(())
}
