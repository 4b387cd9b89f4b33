//! An image that is on nodes only comes into the library by an ordinary push, begun once however many ask; and what was pushed
//! into the library goes on to partitions.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use sifleet_common::api::pushes::{PushRequest, PushState, PushTarget};
use sifleet_common::digest::Digest;
use sifleet_common::name::{ImageName, PartitionName};
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::Registry;
use super::error::OciError;
use super::name::{Reference, Repository, files_of};
use crate::state::pushes::Command;
use crate::store::push::PushNo;
use crate::view::View;

/// How often it is looked whether an image has come.
const LOOK: Duration = Duration::from_millis(200);
/// Most images that are on their way at once.
const MAX: usize = 64;
/// Most images that wait to go on to a partition.
const MAX_PLACING: usize = 1_000;
/// For how long an image that was pushed waits until an inventory shows it.
const PLACING: Duration = Duration::from_secs(3_600);

/// Images that were pushed and go on to a partition once an inventory shows them: which bytes, and since when they wait. A
/// restart forgets them.
pub(super) type Waiting = std::sync::Mutex<BTreeMap<(ImageName, PartitionName), (Digest, Instant)>>;

/// What goes on to where.
type Due = (ImageName, PartitionName, Digest);

/// Pushes into the library that go on, by the file that each makes.
#[derive(Clone, Debug, Default)]
pub(super) struct Fetching(Arc<Mutex<BTreeMap<ImageName, PushNo>>>);

impl Registry {
    /// Brings the image that a name means into the library, if nodes hold it; tells whether it is there.
    pub(super) async fn fetch(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<bool, OciError> {
        let Reference::Tag(tag) = reference else { return Ok(false) };
        let name = {
            let (view, now) = (self.0.handle.views.load(), self.0.handle.clock.now());
            files_of(repository, tag).into_iter().find(|name| view.is_on_nodes_only(name, now))
        };
        let Some(name) = name else { return Ok(false) };
        let limit = self.0.options.fetch_timeout;
        match tokio::time::timeout(limit, self.bring(&name)).await {
            Ok(brought) => brought.map(|()| true),
            Err(_elapsed) => {
                let why = format!("it has not come within {} s, and is still on its way", limit.as_secs());
                Err(OciError::NotFetched { name: name.to_string(), why })
            }
        }
    }

    async fn bring(&self, name: &ImageName) -> Result<(), OciError> {
        let push = self.begin_fetch(name).await?;
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            let view = self.0.handle.views.load();
            if !view.library_image(name).is_empty() {
                return Ok(());
            }
            if let Some(why) = failure(&view, push) {
                return Err(OciError::NotFetched { name: name.to_string(), why });
            }
        }
    }

    /// Begins the push, unless it goes on already.
    async fn begin_fetch(&self, name: &ImageName) -> Result<PushNo, OciError> {
        let mut going_on = self.0.fetching.0.lock().await;
        {
            let view = self.0.handle.views.load();
            going_on.retain(|_, push| failure(&view, *push).is_none());
        }
        if let Some(push) = going_on.get(name) {
            return Ok(*push);
        }
        if going_on.len() >= MAX {
            return Err(OciError::TooMany { what: "images on their way into the library", max: MAX });
        }
        let push = self.push(|view, now| {
            let root = view.library_root(now).ok_or_else(|| OciError::NotFetched {
                name: name.to_string(),
                why: "no node watches the library".to_owned(),
            })?;
            let to = PushTarget::Nodes(root.node.to_string());
            Ok(PushRequest { root: Some(root.path), ..PushRequest::new(name.as_str(), to) })
        });
        let push = push.await?;
        info!(image = %name, %push, "an image comes into the library, since somebody pulls it");
        going_on.insert(name.clone(), push);
        Ok(push)
    }

    /// Notes that images were pushed, for the partitions that are to have them.
    pub(super) fn note_placing(&self, repository: &Repository, files: &[(ImageName, Digest)]) {
        let places = self.0.options.place.iter().filter(|place| place.covers(repository));
        let noted = places.flat_map(|place| {
            files.iter().map(|(name, image)| ((name.clone(), place.partition.clone()), *image))
        });
        let mut waiting = self.0.placing.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend(noted.map(|(what, image)| (what, (image, Instant::now()))));
        // What is pushed a thousand times before an inventory shows it is not worth more.
        while waiting.len() > MAX_PLACING {
            waiting.pop_first();
        }
    }

    /// Takes what an inventory shows by now from those that wait. What was there under a name before is not meant.
    pub(super) fn due(&self) -> Vec<Due> {
        let view = self.0.handle.views.load();
        let mut waiting = self.0.placing.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, (_, since)| since.elapsed() < PLACING);
        let mut due = Vec::new();
        waiting.retain(|(name, partition), (image, _)| {
            let shown = view.library_image(name).contains(image);
            if shown {
                due.push((name.clone(), partition.clone(), *image));
            }
            !shown
        });
        due
    }

    /// Sends images that were pushed, and that the library shows by now, to the partitions that are to have them.
    pub(super) async fn place(&self) {
        for (name, partition, image) in self.due() {
            let to = PushTarget::Partition(partition.to_string());
            let digest = Some(image.to_string());
            let wanted = PushRequest { digest, ..PushRequest::new(name.as_str(), to) };
            match self.push(|_, _| Ok(wanted)).await {
                Ok(push) => info!(image = %name, %partition, %push, "a pushed image goes on to a partition"),
                Err(error) => {
                    warn!(image = %name, %partition, %error, "a pushed image does not go on to a partition")
                }
            }
        }
    }

    async fn push(
        &self,
        request: impl FnOnce(&View, sifleet_common::time::Now) -> Result<PushRequest, OciError>,
    ) -> Result<PushNo, OciError> {
        let wish = {
            let (view, now) = (self.0.handle.views.load(), self.0.handle.clock.now());
            let request = request(&view, now)?;
            view.wish(&request, now)?
        };
        Ok(self.0.handle.push(Command::Create(Box::new(wish))).await??)
    }
}

/// Tells why a push has ended without the image; none while it goes on.
fn failure(view: &View, push: PushNo) -> Option<String> {
    let Some(info) = view.push_info(push) else { return Some(format!("the push {push} is forgotten")) };
    let body = view.push_body(info);
    match body.state {
        PushState::Running => None,
        PushState::Done => Some(format!("the push {push} has ended, and the library does not show it")),
        PushState::Partial | PushState::Failed | PushState::Cancelled => {
            let reason = body.reasons.first().map_or("it was cancelled", |reason| reason.message.as_str());
            Some(format!("the push {push} has ended: {reason}"))
        }
    }
}
