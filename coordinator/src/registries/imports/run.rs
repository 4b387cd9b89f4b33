//! The loop that brings images in: a few at once, each from the manifest to the published file.
//!
//! An attempt that breaks off is followed by another from where the bytes end, as long as attempts bring something forward.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use sifleet_common::api::imports::ImportState;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::super::RegistryError;
use super::super::outside::{Reply, Trouble};
use super::super::source::{Source, SourceError};
use super::{Imports, MAX_RUNNING, Parts, PoisonError, Wish};
use crate::http::library_code;
use crate::library::{Library, LibraryError, Stage, Standing, UploadId, Writing};

/// Attempts in a row that bring nothing forward.
const FAILURES: u32 = 5;
/// The pause after the first of them; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);
/// How long an import may take, however slowly a registry gives: others wait for its place.
const LONGEST: Duration = Duration::from_secs(12 * 3_600);
/// How long bytes are counted to tell whether a registry gives them slowly.
const SPELL: Duration = Duration::from_secs(600);
/// Fewest bytes of a spell: 64 KiB a second brings 2.6 GiB in [`LONGEST`].
const FEWEST: u64 = 600 * 64 * 1024;
/// How often an import that waits for another one of the same bytes looks.
const LOOK: Duration = Duration::from_millis(500);
/// Bytes that are collected before the disk is asked.
const WRITE: usize = 1024 * 1024;

/// Says why an image was not brought in.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Library(#[from] LibraryError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("{host} gives less than {} KiB a second, for {} minutes", FEWEST / SPELL.as_secs() / 1024, SPELL.as_secs() / 60)]
    Slow { host: String },
    #[error("the work on the library broke off")]
    Blocking(#[from] tokio::task::JoinError),
}

impl Failure {
    fn code(&self) -> &'static str {
        match self {
            Self::Source(error) => error.word(),
            Self::Library(error) => library_code(error).row().code,
            Self::Registry(_) => "unknown_registry",
            Self::Slow { .. } => "timed_out",
            Self::Blocking(_) => "internal",
        }
    }

    fn may_pass(&self) -> bool {
        match self {
            Self::Source(error) => error.may_pass(),
            // Less came than was announced, or a user brings the same bytes at the same time.
            Self::Library(error) => matches!(
                error,
                LibraryError::WrongOffset { .. }
                    | LibraryError::Busy { .. }
                    | LibraryError::UnknownUpload { .. }
            ),
            Self::Registry(_) | Self::Slow { .. } | Self::Blocking(_) => false,
        }
    }
}

impl Imports {
    /// Brings images in until `stop`; what is under way then is gone on with by whoever asks again.
    pub async fn run_until(self, parts: Parts, stop: CancellationToken) {
        let taken = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Only one loop takes wishes.
        let Some(mut waiting) = taken else { return };
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                wish = waiting.recv(), if running.len() < MAX_RUNNING => match wish {
                    Some(wish) => running.push(Box::pin(self.bring(&parts, wish))),
                    None => return,
                },
                Some(()) = running.next() => {}
            }
        }
    }

    async fn bring(&self, parts: &Parts, wish: Wish) {
        let late = |_elapsed| {
            let (host, what) = (wish.reference.host.clone(), "the import");
            let late = Trouble::TimedOut { host, what, seconds: LONGEST.as_secs() };
            Err(Failure::Source(late.into()))
        };
        let attempts = tokio::time::timeout(LONGEST, self.attempts(parts, &wish));
        let came = attempts.await.unwrap_or_else(late);
        let ended = Some(parts.clock.now().wall);
        match came {
            Ok(standing) => {
                info!(image = %wish.name, source = %wish.reference, "an image was brought in from a registry");
                self.change(wish.no, |import| {
                    (import.state, import.ended) = (ImportState::Done, ended);
                    (import.done, import.digest) = (standing.size, standing.digest);
                });
            }
            Err(error) => {
                warn!(image = %wish.name, source = %wish.reference, %error, "an image was not brought in");
                let internal = error.code() == "internal";
                let detail = if internal { "internal".to_owned() } else { error.to_string() };
                self.change(wish.no, |import| {
                    (import.state, import.ended) = (ImportState::Failed, ended);
                    import.failed = Some((error.code(), detail));
                });
            }
        }
    }

    async fn attempts(&self, parts: &Parts, wish: &Wish) -> Result<Standing, Failure> {
        let (mut failures, mut furthest) = (0, 0);
        loop {
            let error = match self.attempt(parts, wish).await {
                Ok(standing) => return Ok(standing),
                Err(error) => error,
            };
            let mut has = 0;
            self.change(wish.no, |import| has = import.done);
            failures = if has > furthest { 1 } else { failures + 1 };
            furthest = has.max(furthest);
            if !error.may_pass() || failures >= FAILURES {
                return Err(error);
            }
            warn!(image = %wish.name, %error, bytes = has, "an import broke off and is tried again");
            tokio::time::sleep(PAUSE * 2_u32.pow(failures)).await;
        }
    }

    async fn attempt(&self, parts: &Parts, wish: &Wish) -> Result<Standing, Failure> {
        let record = parts.catalogue.get(&wish.registry)?;
        self.change(wish.no, |import| import.state = ImportState::Resolving);
        let mut source =
            Source::new(parts.outside.clone(), &record, wish.reference.clone())?.showing(wish.pass.clone());
        let (digest, size) = source.resolve().await?;
        self.change(wish.no, |import| import.layer = Some((digest, size)));
        while !self.claim(wish.no) {
            tokio::time::sleep(LOOK).await;
        }
        let name = wish.name.clone();
        let expected = crate::library::Expected::Sha256(digest);
        let standing = on_disk(&parts.library, move |library| library.begin(name, size, expected)).await?;
        let Stage::Open(id, offset) = standing.stage else { return Ok(standing) };
        if offset < size {
            self.change(wish.no, |import| (import.state, import.done) = (ImportState::Fetching, offset));
            let (mut reply, begins) = source.blob(digest, offset).await?;
            let writing = on_disk(&parts.library, move |library| library.write(id, offset)).await?;
            // A registry that knows no ranges begins anew: what is there is passed over.
            let skip = offset.saturating_sub(begins);
            self.receive(parts, wish, (&mut reply, skip), (writing, offset)).await?;
        }
        self.change(wish.no, |import| import.state = ImportState::Verifying);
        self.finish(parts, id).await
    }

    async fn finish(&self, parts: &Parts, id: UploadId) -> Result<Standing, Failure> {
        on_disk(&parts.library, move |library| library.finish(id)).await
    }

    /// Writes what arrives; what came before an error stays.
    async fn receive(
        &self,
        parts: &Parts,
        wish: &Wish,
        (reply, mut skip): (&mut Reply, u64),
        (mut writing, mut has): (Writing, u64),
    ) -> Result<(), Failure> {
        let mut waiting = Vec::with_capacity(WRITE);
        let mut spell = (tokio::time::Instant::now(), has);
        let ended = loop {
            if spell.0.elapsed() > SPELL {
                if has.saturating_sub(spell.1) < FEWEST {
                    return Err(Failure::Slow { host: wish.reference.host.clone() });
                }
                spell = (tokio::time::Instant::now(), has);
            }
            let piece = match reply.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break Ok(()),
                Err(trouble) => break Err(SourceError::from(trouble)),
            };
            let passed = usize::try_from(skip).unwrap_or(usize::MAX).min(piece.len());
            skip = skip.saturating_sub(u64::try_from(passed).unwrap_or(0));
            waiting.extend_from_slice(piece.get(passed..).unwrap_or_default());
            if waiting.len() >= WRITE {
                let full = std::mem::replace(&mut waiting, Vec::with_capacity(WRITE));
                (writing, has) = self.write(parts, wish, (writing, has), full).await?;
            }
        };
        self.write(parts, wish, (writing, has), waiting).await?;
        Ok(ended?)
    }

    async fn write(
        &self,
        parts: &Parts,
        wish: &Wish,
        (mut writing, has): (Writing, u64),
        piece: Vec<u8>,
    ) -> Result<(Writing, u64), Failure> {
        let has = has.saturating_add(u64::try_from(piece.len()).unwrap_or(0));
        let writing = on_disk(&parts.library, move |_| writing.append(&piece).map(|()| writing)).await?;
        self.change(wish.no, |import| import.done = has);
        Ok((writing, has))
    }
}

/// Works where blocking is allowed, and waits for a place there as long as it takes.
async fn on_disk<T: Send + 'static>(
    library: &Library,
    work: impl FnOnce(&Library) -> Result<T, LibraryError> + Send + 'static,
) -> Result<T, Failure> {
    let library = library.clone();
    let place: Option<OwnedSemaphorePermit> = library.wait().await;
    let done = tokio::task::spawn_blocking(move || {
        let _place = place;
        work(&library)
    });
    Ok(done.await??)
}
