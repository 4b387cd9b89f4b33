//! Finds an image that somebody else wants on this node's disks, and makes its chunk map if none is kept.

use std::path::Path;
use std::sync::Arc;

use sifleet_common::chunk::ChunkMap;
use sifleet_common::digest::Digest;
use sifleet_common::inventory::RootId;
use sifleet_common::name::ImageName;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::debug;

use super::held::Held;
use crate::describe::Candidate;
use crate::hash::read::Sequential;
use crate::inventory::Command;
use crate::layout::Layout;
use crate::map;
use crate::map::kept::Maps;

/// Where images are.
#[derive(Clone, Debug)]
pub struct Finder {
    commands: mpsc::Sender<Command>,
    maps: Arc<Maps>,
    /// For making a map: an image is read from one end to the other, and threads that do that give nothing.
    making: Arc<Semaphore>,
}

impl Finder {
    /// Finds by asking the inventory.
    #[must_use]
    pub fn new(commands: mpsc::Sender<Command>, maps: Arc<Maps>) -> Self {
        Self { commands, maps, making: Arc::new(Semaphore::new(1)) }
    }

    /// Returns the maps.
    #[must_use]
    pub const fn maps(&self) -> &Arc<Maps> {
        &self.maps
    }

    /// Opens an image that is on this node, whole; none if it is not, or no longer.
    pub async fn held(&self, image: Digest) -> Option<Held> {
        let (map, candidates) = self.map_and_places(image).await.ok()?;
        let open = move || {
            let layout = Arc::new(Layout::of(map));
            candidates.iter().find_map(|candidate| {
                let (_, file) = candidate.open()?;
                Held::whole(Arc::clone(&layout), file).ok()
            })
        };
        tokio::task::spawn_blocking(open).await.ok()?
    }

    /// Returns the chunk map of an image, if it is kept.
    pub async fn kept(&self, image: Digest) -> Option<Arc<ChunkMap>> {
        let maps = Arc::clone(&self.maps);
        tokio::task::spawn_blocking(move || maps.get(&image)).await.ok().flatten()
    }

    /// Returns the chunk map of an image that is on this node, or was fetched in part.
    ///
    /// # Errors
    /// In words, for the coordinator.
    pub async fn map(&self, image: Digest) -> Result<Arc<ChunkMap>, String> {
        match self.kept(image).await {
            Some(map) => Ok(map),
            None => self.map_and_places(image).await.map(|(map, _)| map),
        }
    }

    async fn map_and_places(&self, image: Digest) -> Result<(Arc<ChunkMap>, Vec<Candidate>), String> {
        let (reply, answer) = oneshot::channel();
        let stopping = |_closed| "the agent is stopping".to_owned();
        self.commands.send(Command::Locate { digest: image, reply }).await.map_err(|_closed| stopping(()))?;
        let mut candidates = answer.await.map_err(|_closed| stopping(()))?;
        let anywhere = !candidates.is_empty();
        candidates.retain(|candidate| candidate.trusted);
        if candidates.is_empty() && anywhere {
            return Err("the image is only below roots that users can write to".to_owned());
        }
        if candidates.is_empty() {
            return Err("the image is not on this node".to_owned());
        }
        if let Some(map) = self.kept(image).await {
            return Ok((map, candidates));
        }
        let permit = Arc::clone(&self.making).acquire_owned().await.map_err(|lost| lost.to_string())?;
        let maps = Arc::clone(&self.maps);
        let make = move || {
            // Making goes on when nobody waits for it any longer, and so does the permit.
            let _permit = permit;
            // Whoever had the permit before may have made it.
            let found = match maps.get(&image) {
                Some(map) => Ok(map),
                None => make(image, &candidates).inspect(|map| maps.put(map)),
            };
            found.map(|map| (map, candidates))
        };
        tokio::task::spawn_blocking(make).await.map_err(|lost| lost.to_string())?
    }

    /// Lists where an image is on this node, whole.
    pub async fn places(&self, image: Digest) -> Vec<Candidate> {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Locate { digest: image, reply }).await.is_err() {
            return Vec::new();
        }
        answer.await.unwrap_or_default()
    }

    /// Tells whether an image is below a root under a name, whole.
    pub async fn is_at(&self, image: &Digest, root: &Path, name: &ImageName) -> bool {
        let candidates = self.places(*image).await;
        candidates.iter().any(|candidate| candidate.root == root && candidate.name == *name)
    }

    /// Tells which image lies below a root under a name, if any is known to.
    pub async fn at(&self, root: RootId, name: ImageName) -> Option<(Digest, Candidate)> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::At { root, name, reply }).await.ok()?;
        answer.await.ok()?
    }

    /// Lists images that may have chunks in common with one of this name.
    pub async fn related(&self, name: ImageName) -> Vec<(Digest, Candidate)> {
        let maps = Arc::clone(&self.maps);
        let mapped = tokio::task::spawn_blocking(move || maps.list()).await.unwrap_or_default();
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Related { name, mapped, reply }).await.is_err() {
            return Vec::new();
        }
        answer.await.unwrap_or_default()
    }
}

fn make(image: Digest, candidates: &[Candidate]) -> Result<Arc<ChunkMap>, String> {
    let mut why = "the image is no longer what it was".to_owned();
    for candidate in candidates {
        let Some((_, file)) = candidate.open() else { continue };
        match map::make(image, Sequential::new(&file)) {
            Ok(map) => return Ok(Arc::new(map)),
            Err(error) => {
                debug!(image = %candidate.name, error = &error as &dyn std::error::Error, "no chunk map can be made");
                why = error.to_string();
            }
        }
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sifleet_common::time::UnixMillis;

    /// An inventory that shows one file under whatever digest it is asked for.
    fn inventory(root: &Path) -> mpsc::Sender<Command> {
        let (sender, mut commands) = mpsc::channel(8);
        let candidate = Candidate {
            root: root.to_owned(),
            trusted: true,
            name: "a.sif".parse().unwrap(),
            size: 0,
            modified: UnixMillis(0),
        };
        sifleet_common::task::Tasks::new().spawn("inventory", async move {
            while let Some(Command::Locate { reply, .. }) = commands.recv().await {
                drop(reply.send(vec![candidate.clone()]));
            }
        });
        sender
    }

    #[tokio::test]
    async fn a_map_that_others_make_already_is_waited_for_and_not_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let maps = Arc::new(Maps::within(folder.path().join("maps")));
        let finder = Finder::new(inventory(folder.path()), Arc::clone(&maps));
        let image = Digest::from(blake3::hash(b"image"));
        let making = Arc::clone(&finder.making).acquire_owned().await.unwrap();
        let mut asked = std::pin::pin!(finder.map(image));
        let early = tokio::time::timeout(std::time::Duration::from_millis(50), &mut asked).await;
        assert!(early.is_err(), "another map is being made");
        maps.put(&Arc::new(map::make(image, &b"image"[..]).unwrap()));
        drop(making);
        // The file is not even there: it cannot have been read.
        assert_eq!(asked.await.unwrap().image(), image);
    }
}
