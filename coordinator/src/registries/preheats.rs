//! Images that a registry such as Harbor wants on a partition before jobs need them: each an import, then a push.
//!
//! Owns the table of preheats in memory: a restart forgets it, while the library's bytes and the pushes stay. Numbers begin with the
//! time in milliseconds, so that no number of an earlier life stands for something else.
//! Outside facts: preheating in Harbor 2.12, whose driver for Dragonfly asks for the manifest's address and looks every few seconds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderValue;
use sifleet_common::api::imports::{ImportBody, ImportState};
use sifleet_common::api::pushes::{PushRequest, PushState, PushTarget};
use sifleet_common::digest::Digest;
use sifleet_common::name::PartitionName;
use sifleet_common::time::UnixMillis;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use url::Url;

use super::Catalogue;
use super::imports::{ImportError, Imports, Wanted};
use crate::state::pushes::Command;
use crate::state::run::Handle;
use crate::store::push::PushNo;
use crate::view::View;

/// Most that go on at once: as many tags as a project of Harbor may well have.
pub(super) const MAX_RUNNING: usize = 1_000;
/// Most that ended and are kept.
const MAX_ENDED: usize = 1_000;
/// How often it is looked how they stand.
const LOOK: Duration = Duration::from_millis(500);
/// How long an inventory may take to show an image that is in the library: hashing one of 50 GB from a slow disk.
const SETTLING_MS: i64 = 600_000;

/// How far a preheat is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// For a place among the imports.
    Waiting,
    /// It comes into the library.
    Importing,
    /// It is in the library, which no inventory shows yet.
    Settling { digest: Option<Digest>, since: UnixMillis },
    /// It goes to the nodes.
    Pushing,
    /// They have it.
    Done,
    /// They do not, for this reason.
    Failed(String),
}

/// How a preheat stands.
#[derive(Clone, Debug)]
struct Preheat {
    no: u64,
    url: String,
    partition: PartitionName,
    source: String,
    pass: Option<HeaderValue>,
    stage: Stage,
    import: Option<ImportBody>,
    push: Option<PushNo>,
    created: UnixMillis,
    changed: UnixMillis,
}

/// What is told about a preheat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its number.
    pub no: u64,
    /// The address that was asked for.
    pub url: String,
    /// For which partition.
    pub partition: PartitionName,
    /// None while it goes on; then whether it came to a good end, or why not.
    pub ended: Option<Result<(), String>>,
    /// The image's name in the library, once it is imported.
    pub image: Option<String>,
    /// Its import.
    pub import: Option<String>,
    /// Its push.
    pub push: Option<PushNo>,
    /// When it was asked for.
    pub created: UnixMillis,
    /// When something about it last changed.
    pub changed: UnixMillis,
}

/// All preheats; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Preheats(Arc<Mutex<BTreeMap<u64, Preheat>>>);

/// What preheats need.
#[derive(Clone)]
pub struct Parts {
    /// What brings images into the library.
    pub imports: Imports,
    /// Who may be asked for them.
    pub catalogue: Arc<Catalogue>,
    /// What sends them on.
    pub handle: Handle,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("imports", &self.imports).finish_non_exhaustive()
    }
}

impl Preheats {
    /// Begins to bring what lies at the address of a manifest to a partition, unless that goes on already.
    ///
    /// # Errors
    /// [`ImportError`]; nothing was begun.
    pub fn begin(
        &self,
        (url, pass): (&str, Option<HeaderValue>),
        partition: PartitionName,
        now: UnixMillis,
    ) -> Result<Standing, ImportError> {
        let source =
            source_of(url).ok_or_else(|| ImportError::NoManifest { url: url.chars().take(200).collect() })?;
        let mut table = self.table();
        let running = || table.values().filter(|preheat| !preheat.has_ended());
        let same = |preheat: &&Preheat| preheat.source == source && preheat.partition == partition;
        if let Some(same) = running().find(same) {
            return Ok(same.standing());
        }
        if running().count() >= MAX_RUNNING {
            return Err(ImportError::TooManyPreheats);
        }
        let after = table.last_key_value().map_or(0, |(last, _)| last.saturating_add(1));
        let no = after.max(u64::try_from(now.0).unwrap_or(0));
        let (created, changed, url) = (now, now, url.to_owned());
        let (stage, import, push) = (Stage::Waiting, None, None);
        let preheat = Preheat { no, url, partition, source, pass, stage, import, push, created, changed };
        let standing = preheat.standing();
        table.insert(no, preheat);
        let mut ended: Vec<_> =
            table.values().filter(|old| old.has_ended()).map(|old| (old.changed, old.no)).collect();
        ended.sort_unstable();
        let surplus = ended.len().saturating_sub(MAX_ENDED);
        for (_, no) in ended.into_iter().take(surplus) {
            table.remove(&no);
        }
        Ok(standing)
    }

    /// Tells how a preheat stands.
    ///
    /// # Errors
    /// [`ImportError::UnknownPreheat`].
    pub fn look(&self, id: &str) -> Result<Standing, ImportError> {
        let found = id.parse().ok().and_then(|no: u64| self.table().get(&no).map(Preheat::standing));
        found.ok_or_else(|| ImportError::UnknownPreheat { id: id.chars().take(80).collect() })
    }

    /// Brings preheats forward until `stop`.
    pub async fn run_until(self, parts: Parts, stop: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => {}
            }
            let open = |preheat: &&Preheat| !preheat.has_ended();
            let open: Vec<Preheat> = self.table().values().filter(open).cloned().collect();
            for mut preheat in open {
                let before = preheat.stage.clone();
                preheat.advance(&parts).await;
                if preheat.stage != before {
                    preheat.changed = parts.handle.clock.now().wall;
                    preheat.tell();
                    self.table().insert(preheat.no, preheat);
                }
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<u64, Preheat>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Preheat {
    fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Done | Stage::Failed(_))
    }

    fn standing(&self) -> Standing {
        let ended = match &self.stage {
            Stage::Waiting | Stage::Importing | Stage::Settling { .. } | Stage::Pushing => None,
            Stage::Done => Some(Ok(())),
            Stage::Failed(why) => Some(Err(why.clone())),
        };
        Standing {
            no: self.no,
            url: self.url.clone(),
            partition: self.partition.clone(),
            ended,
            image: self.import.as_ref().map(|import| import.name.clone()),
            import: self.import.as_ref().map(|import| import.id.clone()),
            push: self.push,
            created: self.created,
            changed: self.changed,
        }
    }

    fn tell(&self) {
        let (url, partition) = (&self.url, &self.partition);
        match &self.stage {
            Stage::Done => info!(%url, %partition, "an image was preheated"),
            Stage::Failed(why) => warn!(%url, %partition, %why, "an image was not preheated"),
            Stage::Waiting | Stage::Importing | Stage::Settling { .. } | Stage::Pushing => {}
        }
    }

    /// Takes the next step, if it is time for it.
    async fn advance(&mut self, parts: &Parts) {
        let now = parts.handle.clock.now().wall;
        let next = match &self.stage {
            Stage::Waiting => self.import(parts, now),
            Stage::Importing => self.look_at_import(parts, now),
            Stage::Settling { digest, since } => self.push(parts, (*digest, *since)).await,
            Stage::Pushing => self.push.and_then(|push| end_of(&parts.handle.views.load(), push)),
            Stage::Done | Stage::Failed(_) => None,
        };
        if let Some(next) = next {
            self.stage = next;
        }
    }

    fn import(&mut self, parts: &Parts, now: UnixMillis) -> Option<Stage> {
        let wanted = Wanted { source: &self.source, name: None, pass: self.pass.clone() };
        match parts.imports.begin(&parts.catalogue, wanted, now) {
            Ok((import, _)) => {
                self.import = Some(import);
                Some(Stage::Importing)
            }
            Err(ImportError::TooMany) => None,
            Err(error) => Some(Stage::Failed(error.to_string())),
        }
    }

    fn look_at_import(&self, parts: &Parts, now: UnixMillis) -> Option<Stage> {
        let id = self.import.as_ref().map(|import| import.id.as_str()).unwrap_or_default();
        match parts.imports.look(id) {
            Ok(import) => after_import(&import, now),
            Err(error) => Some(Stage::Failed(error.to_string())),
        }
    }

    /// Sends the image on, once an inventory shows those very bytes in the library.
    async fn push(&mut self, parts: &Parts, (digest, since): (Option<Digest>, UnixMillis)) -> Option<Stage> {
        let name = self.import.as_ref().map(|import| import.name.clone()).unwrap_or_default();
        let wish = {
            let (view, now) = (parts.handle.views.load(), parts.handle.clock.now());
            let held = name.parse().map(|name| view.library_image(&name)).unwrap_or_default();
            if !digest.map_or(!held.is_empty(), |digest| held.contains(&digest)) {
                let is_late = now.wall.0.saturating_sub(since.0) > SETTLING_MS;
                let why =
                    || format!("{name} is in the library, and no agent has shown it there for ten minutes");
                return is_late.then(|| Stage::Failed(why()));
            }
            let to = PushTarget::Partition(self.partition.to_string());
            let digest = digest.map(|digest| digest.to_string());
            view.wish(&PushRequest { digest, ..PushRequest::new(name, to) }, now)
        };
        let begun = match wish {
            Ok(wish) => parts.handle.push(Command::Ensure(Box::new(wish))).await,
            Err(error) => return Some(Stage::Failed(error.to_string())),
        };
        match begun {
            Ok(Ok(push)) => {
                self.push = Some(push);
                Some(Stage::Pushing)
            }
            Ok(Err(error)) => Some(Stage::Failed(error.to_string())),
            // The coordinator stops.
            Err(_stopped) => None,
        }
    }
}

/// Decides what follows an import.
fn after_import(import: &ImportBody, now: UnixMillis) -> Option<Stage> {
    match import.state {
        ImportState::Done => {
            let digest = import.digest.as_ref().and_then(|digest| digest.parse().ok());
            Some(Stage::Settling { digest, since: now })
        }
        ImportState::Failed => Some(Stage::Failed(import.detail.clone().unwrap_or_default())),
        ImportState::Waiting | ImportState::Resolving | ImportState::Fetching | ImportState::Verifying => {
            None
        }
    }
}

/// Tells how a push has ended; none while it goes on.
fn end_of(view: &View, push: PushNo) -> Option<Stage> {
    let Some(info) = view.push_info(push) else {
        return Some(Stage::Failed(format!("the push {push} is forgotten")));
    };
    let body = view.push_body(info);
    match body.state {
        PushState::Running => None,
        PushState::Done => Some(Stage::Done),
        PushState::Partial | PushState::Failed | PushState::Cancelled => {
            let why = body.reasons.first().map_or("it was cancelled", |reason| reason.message.as_str());
            Some(Stage::Failed(format!("the push {push} has ended: {why}")))
        }
    }
}

/// Reads the address of a manifest, `https://HOST/v2/REPOSITORY/manifests/REFERENCE`, as an image that can be imported.
fn source_of(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let plain = ["http", "https"].contains(&url.scheme())
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let (repository, reference) = url.path().strip_prefix("/v2/")?.rsplit_once("/manifests/")?;
    let mark = if reference.contains(':') { '@' } else { ':' };
    plain
        .then(|| format!("oras://{}{port}/{repository}{mark}{reference}", url.host_str().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_manifest_is_an_image_and_everything_else_is_none() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (url, source) in [
            ("https://harbor.example/v2/lib/openfoam/manifests/v1", "oras://harbor.example/lib/openfoam:v1"),
            ("http://10.0.0.1:8080/v2/a/manifests/b", "oras://10.0.0.1:8080/a:b"),
            (&format!("https://h/v2/a/b/c/manifests/{digest}"), &format!("oras://h/a/b/c@{digest}")),
        ] {
            assert_eq!(source_of(url).as_deref(), Some(source), "{url}");
        }
        for url in [
            "",
            "harbor.example/v2/a/manifests/b",
            "ftp://h/v2/a/manifests/b",
            "https://u:p@h/v2/a/manifests/b",
            "https://h/v2/a/manifests/b?x=1",
            "https://h/v2/a/blobs/b",
            "https://h/a/manifests/b",
        ] {
            assert_eq!(source_of(url), None, "{url}");
        }
    }
}
