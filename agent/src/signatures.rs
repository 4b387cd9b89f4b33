//! Whose signatures count on this node, as the coordinator says, and its questions about images that are here.

use std::sync::Arc;

use sifleet_common::clock::Clock;
use sifleet_common::digest::Digest;
use sifleet_common::keyring::{KeyMaterial, Keyring};
use sifleet_common::task::Tasks;
use sifleet_common::telemetry::Chain;
use sifleet_common::wire::assignment::{Report, Verified};
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::{debug, info, warn};

use crate::describe::Candidate;
use crate::fetch::gate;
use crate::fetch::status::cut;
use crate::serve::find::Finder;
use crate::transfer::say;

/// The keyring of this node, and where answers go.
pub(crate) struct Signatures {
    keys: watch::Sender<Option<Arc<Keyring>>>,
    reports: mpsc::Sender<Report>,
    clock: Clock,
    /// One image at a time is read from one end to the other.
    reading: Arc<Semaphore>,
}

impl Signatures {
    /// Begins without keys; the other value hears of them.
    pub(crate) fn new(
        reports: mpsc::Sender<Report>,
        clock: Clock,
    ) -> (Self, watch::Receiver<Option<Arc<Keyring>>>) {
        let (keys, heard) = watch::channel(None);
        (Self { keys, reports, clock, reading: Arc::new(Semaphore::new(1)) }, heard)
    }

    /// Lets these keys count from here on. With some that cannot be used none count, and nothing that is to be signed is
    /// published.
    pub(crate) fn count_only(&self, material: &KeyMaterial) {
        let keyring = match Keyring::new(material) {
            Ok(keyring) => {
                info!(keys = keyring.fingerprints().len(), "the keyring is here");
                Some(Arc::new(keyring))
            }
            Err(error) => {
                warn!(error = %Chain(&error), "the keyring of the coordinator cannot be used");
                None
            }
        };
        self.keys.send_replace(keyring);
    }

    /// Verifies an image that is on this node, and reports the verdict.
    pub(crate) fn ask(&self, image: Digest, finder: &Finder, tasks: &Tasks) {
        debug!(digest = %image, "the signatures of an image are asked for");
        let (finder, reports, clock) = (finder.clone(), self.reports.clone(), self.clock);
        let (keyring, reading) = (self.keys.borrow().clone(), Arc::clone(&self.reading));
        tasks.spawn("signatures", async move {
            let Ok(_permit) = reading.acquire_owned().await else { return };
            say(&reports, Report::Verified(verified(&finder, image, keyring, clock).await));
        });
    }
}

async fn verified(finder: &Finder, image: Digest, keyring: Option<Arc<Keyring>>, clock: Clock) -> Verified {
    let Some(keyring) = keyring else {
        let detail = "the node has no keyring".to_owned();
        return Verified { image, keyring: Digest::from_bytes([0; 32]), verdict: None, detail };
    };
    let candidates = finder.places(image).await;
    let digest = keyring.digest();
    let judge = move || {
        let mut why = "the image is not on this node, or no longer what it was".to_owned();
        for (_, file) in candidates.iter().filter_map(Candidate::open) {
            match gate::judge(&file, &keyring, clock) {
                Ok(verdict) => return (Some(verdict), String::new()),
                Err(error) => why = Chain(&error).to_string(),
            }
        }
        (None, cut(&why))
    };
    let judged = tokio::task::spawn_blocking(judge).await;
    let (verdict, detail) = judged.unwrap_or_else(|lost| (None, cut(&lost.to_string())));
    Verified { image, keyring: digest, verdict, detail }
}
