//! What happens by itself: images of the library are hashed before somebody asks, what nobody needs is thrown away, and what
//! was pushed goes on to partitions.

use std::time::Duration;

use rustix::fs::{AtFlags, statat};
use rustix::io::Errno;
use sifleet_common::name::ImageName;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::error::OciError;
use super::{Registry, lookup, stored};
use crate::library::Place;
use crate::store::oci::OciStep;

/// How often it is looked whether the library holds something new.
const LOOK: Duration = Duration::from_secs(5);
/// How often blobs and uploads are looked through.
const REAP: Duration = Duration::from_secs(600);
/// An upload that nobody touched for so long is thrown away.
const STALE: Duration = Duration::from_secs(86_400);
/// A draft that is so old is of a push that broke off.
const DRAFT: Duration = Duration::from_secs(3_600);

impl Registry {
    /// Sees to all of it until `stop`, one image at a time: whoever asks for one waits for no other.
    pub async fn tend_until(self, stop: CancellationToken) {
        let (mut looks, mut reaped, mut seen) = (tokio::time::interval(LOOK), None::<Instant>, None);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => {}
            }
            self.place().await;
            let generation = self.0.handle.views.load().generation;
            if seen != Some(generation) {
                match self.hash_one_by_one(&stop).await {
                    Ok(()) => seen = Some(generation),
                    Err(error) => warn!(%error, "cannot look through the library"),
                }
            }
            if reaped.is_none_or(|at| at.elapsed() >= REAP) {
                reaped = Some(Instant::now());
                if let Err(error) = self.reap_one_by_one(&stop).await {
                    warn!(%error, "cannot list what may be thrown away");
                }
            }
        }
    }

    /// Hashes what the library's inventory shows and the store does not know.
    async fn hash_one_by_one(&self, stop: &CancellationToken) -> Result<(), OciError> {
        let (unknown, gone) = self.on_disk(Self::unhashed).await?;
        if !gone.is_empty() {
            self.on_names(move |registry| registry.forget(&gone)).await?;
        }
        for name in unknown {
            if stop.is_cancelled() {
                break;
            }
            // What cannot be hashed at present is looked at again when it is asked for, or changes.
            if let Err(error) = self.hash(&name).await {
                debug!(image = %name, %error, "an image is not hashed");
            }
        }
        Ok(())
    }

    /// Lists the images that are unknown or another version than was hashed, and the names of files that are gone.
    pub(super) fn unhashed(&self) -> Result<(Vec<ImageName>, Vec<String>), OciError> {
        let place = self.0.library.place()?;
        let mut known = self.0.store.oci(|rows| rows.files())?;
        let view = self.0.handle.views.load();
        let forgotten: Vec<String> =
            known.iter().filter(|file| is_gone(&place, &file.name)).map(|file| file.name.clone()).collect();
        known.retain(|file| lookup::open_as(&place, file).is_ok_and(|open| open.is_some()));
        let is_known = |name: &ImageName, digests: &[_]| {
            let at = known.binary_search_by(|file| file.name.as_str().cmp(name.as_str())).ok();
            at.and_then(|at| known.get(at)).is_some_and(|file| digests.contains(&file.blake3))
        };
        let unknown = view.library_images().filter(|(name, digests)| !is_known(name, digests));
        Ok((unknown.map(|(name, _)| name.clone()).collect(), forgotten))
    }

    fn forget(&self, names: &[String]) -> Result<(), OciError> {
        let place = self.0.library.place()?;
        // One of them may have been pushed meanwhile.
        let gone = names.iter().filter(|name| is_gone(&place, name)).cloned().collect();
        self.commit(vec![OciStep::ForgetFiles(gone)])
    }

    /// Throws away uploads that nobody goes on with, and blobs that nobody names or that the library holds.
    async fn reap_one_by_one(&self, stop: &CancellationToken) -> Result<(), OciError> {
        let files = self.on_disk(|registry| stored::list(&registry.0.library.place()?)).await?;
        for stored::Entry { name, .. } in files.into_iter().filter(|file| self.is_old(file)) {
            if stop.is_cancelled() {
                break;
            }
            let wanted = name.clone();
            if let Err(error) = self.on_names(move |registry| registry.reap(&wanted)).await {
                warn!(file = %name, %error, "what nobody needs cannot be thrown away");
            }
        }
        Ok(())
    }

    fn is_old(&self, file: &stored::Entry) -> bool {
        let age = file.touched.elapsed().unwrap_or_default();
        let most = match file.blob() {
            Some(_) => self.0.options.keep_unreferenced,
            None if file.name.starts_with(stored::UPLOAD) => STALE,
            None => DRAFT,
        };
        age >= most
    }

    /// Throws a file away if nobody needs it. Somebody may have pushed it anew since it was listed.
    pub(super) fn reap(&self, name: &str) -> Result<(), OciError> {
        let place = self.0.library.place()?;
        let Some(file) = stored::look(&place, name).filter(|file| self.is_old(file)) else { return Ok(()) };
        let removed = match file.blob() {
            Some(blob) => {
                let is_needed = self.0.store.oci(|rows| rows.is_used(&blob))?
                    && self.library_file(&place, &blob)?.is_none();
                !is_needed && stored::remove(&place, name)?
            }
            None if name.starts_with(stored::UPLOAD) => self.reap_upload(&place, name)?,
            None => stored::remove(&place, name)?,
        };
        if removed {
            info!(file = %name, bytes = file.size, "what nobody needs was thrown away");
        }
        Ok(())
    }
}

fn is_gone(place: &Place, name: &str) -> bool {
    matches!(statat(place.root(), name, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT | Errno::NOTDIR))
}
