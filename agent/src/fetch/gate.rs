//! The gate before an image is published: what its signatures are, and whether the node's partitions let it pass.
//!
//! The coordinator says what is asked for and whose signatures count; the bytes that are verified are those that would be
//! published. Fails closed: without a keyring, or when the image cannot be read, nothing passes.

use std::fs::File;
use std::io;
use std::sync::Arc;

use sifleet_common::clock::Clock;
use sifleet_common::keyring::Keyring;
use sifleet_common::policy::{Policy, Verdict};
use sifleet_common::push::FailCode;
use sifleet_common::sif::verify::verify;
use sifleet_common::sif::{ReadAt, SifError};
use sifleet_common::telemetry::Chain;
use tokio::sync::watch;
use tracing::info;

use super::status::Failure;
use crate::hash::read::politely;

/// What is asked of an image, as it is said last.
pub type Demand = watch::Receiver<Policy>;

/// A file that is read without leaving anything in the page cache that was not there.
struct Polite<'a>(&'a File);

impl ReadAt for Polite<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.size()?.saturating_sub(offset);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        politely(self.0, offset, buffer.get_mut(..len).unwrap_or_default())?;
        Ok(len)
    }

    fn size(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.len())
    }
}

/// Returns the verdict on an image. Blocks for the disk.
///
/// # Errors
/// [`SifError`] if it cannot be read.
pub(crate) fn judge(file: &File, keyring: &Keyring, clock: Clock) -> Result<Verdict, SifError> {
    verify(&Polite(file), keyring, clock.now().wall)
}

/// Lets an image pass, or says why not. Blocks for the disk.
pub(super) fn admit(
    keyring: &watch::Receiver<Option<Arc<Keyring>>>,
    demand: &Demand,
    file: &File,
    clock: Clock,
) -> Result<(), Failure> {
    let policy = demand.borrow().clone();
    if !policy.asks() {
        return Ok(());
    }
    let keyring = keyring.borrow().clone().ok_or_else(|| Failure {
        code: FailCode::Refused,
        detail: "the node's partitions ask for signatures, and the coordinator has not said whose count"
            .to_owned(),
    })?;
    let verdict = judge(file, &keyring, clock).map_err(|error| Failure {
        code: FailCode::Io,
        detail: format!("its signatures cannot be verified: {}", Chain(&error)),
    })?;
    match policy.refuses(&verdict) {
        None => Ok(()),
        Some(refusal) => {
            info!(%policy, %verdict, "an image is not published for its signatures");
            Err(Failure { code: refusal.code, detail: refusal.detail })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sifleet_common::keyring::KeyMaterial;
    use std::io::Write;

    fn check(policy: Policy, keyring: Option<KeyMaterial>, bytes: &[u8], expected: Option<FailCode>) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let keyring = keyring.map(|material| Arc::new(Keyring::new(&material).unwrap()));
        let (_keys, keyring) = watch::channel(keyring);
        let (_said, demand) = watch::channel(policy);
        let ended = admit(&keyring, &demand, &file, Clock::start());
        assert_eq!(ended.err().map(|failure| failure.code), expected);
    }

    #[test]
    fn nothing_passes_that_is_not_signed_where_a_signature_is_asked_for() {
        let keys = || Some(KeyMaterial::default());
        check(Policy::Any, None, b"anything", None);
        check(Policy::Signed, keys(), b"no image at all", Some(FailCode::NotSigned));
        check(Policy::Signed, keys(), b"", Some(FailCode::NotSigned));
        check(Policy::Signed, None, b"anything", Some(FailCode::Refused));
    }
}
