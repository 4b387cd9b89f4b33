//! One assignment from its first look to the published image.
//!
//! Gets the chunk map, reserves space, takes over what is on the node already, has the rest fetched ([`super::pull`]),
//! holds the whole against its digest and its signatures against the policy ([`super::gate`]), publishes it. May be dropped at any moment: what was verified stays in the staging
//! file and is found again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use quinn::Endpoint;
use sifleet_common::beneath::Owner;
use sifleet_common::chunk::ChunkMap;
use sifleet_common::clock::Clock;
use sifleet_common::digest::Digest;
use sifleet_common::inventory::RootId;
use sifleet_common::keyring::Keyring;
use sifleet_common::push::{FailCode, Phase};
use sifleet_common::telemetry::{Chain, catalog};
use sifleet_common::wire::assignment::Assignment;
use tokio::sync::watch;
use tracing::{debug, info};

use super::gate::{self, Demand};
use super::keep::Keeper;
use super::map;
use super::pull::Pull;
use super::status::{Failure, Status};
use crate::describe::Candidate;
use crate::hash::Hashing;
use crate::layout::Layout;
use crate::pace::Tap;
use crate::reuse;
use crate::serve::find::Finder;
use crate::serve::held::Held;
use crate::serve::run::Serving;
use crate::staging::{Staging, StagingError};

/// What every fetch of a node needs.
#[derive(Debug)]
pub struct Resources {
    /// Where to dial from.
    pub endpoint: Endpoint,
    /// What is on this node.
    pub finder: Finder,
    /// Who gives to others what is fetched here.
    pub serving: Serving,
    /// The node's rate.
    pub down: Arc<Tap>,
    /// Where roots are; a library is none of them.
    pub roots: BTreeMap<RootId, PathBuf>,
    /// Where libraries are that take images.
    pub libraries: BTreeMap<RootId, PathBuf>,
    /// Whose images are.
    pub owner: Owner,
    /// Bytes that stay free below each root.
    pub floor: u64,
    /// What time it is.
    pub clock: Clock,
    /// Where it is remembered what was verified.
    pub hashing: Arc<Hashing>,
    /// The keys whose signatures count; none before the coordinator has said which.
    pub keyring: watch::Receiver<Option<Arc<Keyring>>>,
}

impl Resources {
    /// Returns where images of a root go.
    pub(crate) fn root(&self, id: RootId) -> Option<&PathBuf> {
        self.roots.get(&id).or_else(|| self.libraries.get(&id))
    }
}

/// Sees an assignment through; tells `status` how it goes.
///
/// # Errors
/// [`Failure`]; what was there under the image's name is as it was.
pub async fn run(
    resources: Arc<Resources>,
    (mut wanted, demand): (watch::Receiver<Assignment>, Demand),
    status: Arc<Status>,
) -> Result<(), Failure> {
    let assignment = wanted.borrow().clone();
    let root = resources.root(assignment.root).cloned().ok_or_else(|| Failure {
        code: FailCode::NoRoot,
        detail: format!(
            "root {} is not one of this node's, or a library without `receive = true` in agent.toml",
            assignment.root.0
        ),
    })?;
    let ended = attempt(&resources, (&mut wanted, &demand), root.clone(), &status).await;
    if let Err(failure) = &ended
        && failure.code.is_of_disk()
    {
        clear(root, assignment.image).await;
    }
    ended
}

async fn attempt(
    resources: &Arc<Resources>,
    (wanted, demand): (&mut watch::Receiver<Assignment>, &Demand),
    root: PathBuf,
    status: &Arc<Status>,
) -> Result<(), Failure> {
    let assignment = wanted.borrow().clone();
    status.turn(Phase::Preparing);
    if resources.finder.is_at(&assignment.image, &root, &assignment.name).await {
        status.turn(Phase::Done);
        return Ok(());
    }
    let staging = stage(&assignment, root, (resources.owner, resources.floor)).await?;
    let relatives = relatives(resources, &assignment, status).await?;
    let map = match chunk_map(resources, wanted, &relatives).await {
        Ok(map) => map,
        Err(failure) => {
            debug!(image = %assignment.name, "there is no chunk map");
            empty(staging, assignment.image).await;
            return Err(failure);
        }
    };
    debug!(image = %assignment.name, "the chunk map is here");
    let keeper = Arc::new(take_over(resources, (staging, map), relatives, status).await?);
    let held = Held::part(Arc::clone(keeper.layout()), Arc::clone(keeper.staging().reader()), keeper.have());
    resources.serving.open(assignment.image, Arc::new(held)).await;
    let ended = finish(resources, (wanted, demand), keeper, status).await;
    match &ended {
        Ok(()) => resources.serving.release(assignment.image).await,
        Err(_) => resources.serving.close(assignment.image).await,
    }
    ended
}

/// Throws away what was fetched, when the disk let it down: space that is scarce is others', and what a disk with errors
/// gives back is not worth reading.
async fn clear(root: PathBuf, image: Digest) {
    let thrown_away = blocking(move || Staging::throw_away(&root, image)).await;
    if let Ok(Err(error)) = thrown_away {
        info!(digest = %image, error = %Chain(&error), "what was fetched cannot be removed");
    }
}

/// Gives the space back that was reserved for nothing.
async fn empty(staging: Staging, image: Digest) {
    if !staging.found()
        && let Ok(Err(error)) = blocking(move || staging.discard()).await
    {
        info!(digest = %image, error = %Chain(&error), "what was reserved cannot be given back");
    }
}

async fn finish(
    resources: &Arc<Resources>,
    (wanted, demand): (&mut watch::Receiver<Assignment>, &Demand),
    keeper: Arc<Keeper>,
    status: &Arc<Status>,
) -> Result<(), Failure> {
    status.turn(Phase::Fetching);
    Pull::new(resources, Arc::clone(&keeper), status, wanted).run().await?;
    status.turn(Phase::Verifying);
    let assignment = wanted.borrow().clone();
    // Every question has ended, and with it whoever else held this.
    let keeper = Arc::into_inner(keeper).ok_or_else(|| Failure {
        code: FailCode::Io,
        detail: "the staging file is still being written".to_owned(),
    })?;
    let verify = {
        let resources = Arc::clone(resources);
        let (assignment, demand) = (assignment.clone(), demand.clone());
        move || publish(&resources, (&assignment, &demand), keeper)
    };
    blocking(verify).await??;
    info!(
        message_id = catalog::IMAGE_PUBLISHED,
        image = %assignment.name,
        digest = %assignment.image,
        "an image is published"
    );
    status.turn(Phase::Done);
    Ok(())
}

/// Gets the chunk map: from this node, or from the first peer that has it.
async fn chunk_map(
    resources: &Resources,
    wanted: &mut watch::Receiver<Assignment>,
    relatives: &[(Digest, Candidate)],
) -> Result<Arc<ChunkMap>, Failure> {
    let (image, digest, size) = {
        let assignment = wanted.borrow();
        (assignment.image, assignment.map, assignment.size)
    };
    if let Some(map) = resources.finder.kept(image).await.filter(|map| map.digest() == digest) {
        return Ok(map);
    }
    let relatives = relatives.iter().map(|(relative, _)| *relative).collect();
    let known = map::Known { relatives, maps: Arc::clone(resources.finder.maps()) };
    let asked = map::Wanted { image, map: digest, known }.get(&resources.endpoint, wanted).await;
    let map = asked.ok_or_else(|| Failure {
        code: FailCode::NoSource,
        detail: format!("no peer handed the chunk map out for {} s", map::patience(size).as_secs()),
    })?;
    if map.size() != size {
        let detail = format!("the chunk map is one of {} bytes, the image has {size}", map.size());
        return Err(Failure { code: FailCode::NoMap, detail });
    }
    let map = Arc::new(map);
    let (maps, kept) = (Arc::clone(resources.finder.maps()), Arc::clone(&map));
    blocking(move || maps.put(&kept)).await?;
    Ok(map)
}

/// Reserves space, where the image may be published.
async fn stage(
    assignment: &Assignment,
    root: PathBuf,
    (owner, floor): (Owner, u64),
) -> Result<Staging, Failure> {
    let (image, size, name) = (assignment.image, assignment.size, assignment.name.clone());
    let stage = move || {
        let staging = Staging::open(&root, image, size, floor)?;
        staging.may_publish(&name, owner)?;
        Ok::<_, StagingError>(staging)
    };
    blocking(stage).await?.map_err(|error| refused(&error))
}

/// Lists images of this node that may have chunks in common with the one that is wanted, all of them with a chunk map.
async fn relatives(
    resources: &Resources,
    assignment: &Assignment,
    status: &Arc<Status>,
) -> Result<Vec<(Digest, Candidate)>, Failure> {
    let images = resources.finder.related(assignment.name.clone()).await;
    let (maps, status) = (Arc::clone(resources.finder.maps()), Arc::clone(status));
    blocking(move || reuse::mapped(images, &maps, || is_awaited(&status))).await
}

/// Takes over what is on this node already.
async fn take_over(
    resources: &Resources,
    (staging, map): (Staging, Arc<ChunkMap>),
    relatives: Vec<(Digest, Candidate)>,
    status: &Arc<Status>,
) -> Result<Keeper, Failure> {
    let (maps, status) = (Arc::clone(resources.finder.maps()), Arc::clone(status));
    let take_over = move || {
        if !is_awaited(&status) {
            return Ok(None);
        }
        let found = staging.found();
        let keeper = Keeper::new(Arc::new(Layout::of(map)), staging);
        if found {
            let resumed = keeper.resume(|| is_awaited(&status))?;
            status.moved(|bytes| bytes.resumed = resumed);
        }
        let reused = reuse::copy(&keeper, &relatives, &maps, || is_awaited(&status))?;
        status.moved(|bytes| bytes.reused = reused);
        Ok::<_, StagingError>(Some(keeper))
    };
    blocking(take_over).await?.map_err(|error| refused(&error))?.ok_or_else(stopping)
}

/// Tells, on a thread that has a share of the status, whether anybody else has: whoever is no longer interested has dropped it.
fn is_awaited(status: &Arc<Status>) -> bool {
    Arc::strong_count(status) > 1
}

/// Holds the whole against its digest and its signatures against what is asked for, and publishes it. Blocks for the disk.
fn publish(
    resources: &Resources,
    (assignment, demand): (&Assignment, &Demand),
    keeper: Keeper,
) -> Result<(), Failure> {
    let found = keeper.digest().map_err(|error| refused(&error))?;
    let staging = keeper.into_staging();
    if found != assignment.image {
        let thrown_away = staging.discard();
        let code = FailCode::WrongDigest;
        let also = thrown_away.err().map(|error| format!("; {}", Chain(&error))).unwrap_or_default();
        let detail = format!("what was put together is not {}; it was thrown away{also}", assignment.image);
        return Err(Failure { code, detail });
    }
    if let Err(mut failure) = gate::admit(&resources.keyring, demand, staging.reader(), resources.clock) {
        let thrown_away = staging.discard();
        let also = thrown_away.err().map(|error| format!("; {}", Chain(&error))).unwrap_or_default();
        failure.detail.push_str(&also);
        return Err(failure);
    }
    resources.hashing.vouch(staging.reader(), assignment.image);
    staging.publish(&assignment.name, resources.owner).map_err(|error| refused(&error))
}

pub(super) fn refused(error: &StagingError) -> Failure {
    Failure { code: error.code(), detail: Chain(error).to_string() }
}

/// Does what waits for the disk on another thread.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|_lost| stopping())
}

fn stopping() -> Failure {
    Failure { code: FailCode::Io, detail: "the agent is stopping".to_owned() }
}
