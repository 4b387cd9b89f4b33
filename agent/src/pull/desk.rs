//! What names mean and where images are, asked on behalf of jobs: of the coordinator and of the inventory.
//!
//! A thousand jobs that ask the same at once are one question. What the coordinator said is remembered: for a moment as the
//! truth, and for as long as it does not answer as the last that was heard, so that jobs start from the node's own copy
//! although the head node is away.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sifleet_common::digest::Digest;
use sifleet_common::name::ImageName;
use sifleet_common::once::Once;
use sifleet_common::task::Tasks;
use sifleet_common::wire::pull::{Answer, Manifest, Wanted};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Ends;
use super::download::Downloads;
use crate::describe::Candidate;
use crate::inventory::Command;
use crate::scan::Parent;
use crate::session::Question;

/// How long anybody waits at all: an image of 50 GB may have to be hashed first, or to cross a slow network.
const PATIENCE: Duration = Duration::from_secs(3_600);
/// How often it is looked whether the coordinator is connected.
const LOOK: Duration = Duration::from_secs(1);
/// Most names that are remembered, and most images.
const REMEMBERED: usize = 1_024;
/// How often an image is looked for: it may go while it is opened.
const LOOKS: usize = 3;
/// Permission of everybody else to read.
const OTHERS_READ: u32 = 0o004;

/// How long what is taken for the present.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// An answer of the coordinator is the truth for so long: a pull asks for the same manifest twice.
    pub(super) fresh: Duration,
    /// A coordinator that is not connected is waited for so long.
    pub(super) lost: Duration,
    /// Others are waited for so long whose bytes are read: hundreds of jobs may want a large image at once.
    pub(super) turn: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { fresh: Duration::from_secs(2), lost: Duration::from_secs(5), turn: Duration::from_secs(600) }
    }
}

/// Tells whether the coordinator is connected.
pub type Connected = Arc<dyn Fn() -> bool + Send + Sync>;

/// Says why there is nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No such name, or no such bytes.
    Unknown,
    /// Not for those who ask here.
    Denied(String),
    /// Not now.
    Unavailable(String),
}

/// A manifest, and whether it is only the last that was heard.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) manifest: Arc<Manifest>,
    pub(super) is_stale: bool,
}

/// An image that a manifest named.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) image: Digest,
    pub(super) name: ImageName,
    pub(super) size: u64,
}

/// What was said so far.
#[derive(Debug, Default)]
struct Said {
    manifests: BTreeMap<Wanted, (Instant, Arc<Manifest>)>,
    layers: BTreeMap<String, Layer>,
    /// The same in the order of their coming, for those that are forgotten.
    order: VecDeque<(Wanted, String)>,
}

/// Asks and remembers.
pub(super) struct Desk {
    questions: mpsc::Sender<Question>,
    commands: mpsc::Sender<Command>,
    connected: Connected,
    patience: Patience,
    asking: Once<Wanted, Result<Answer, Refusal>>,
    said: Mutex<Said>,
    pub(super) downloads: Downloads,
}

impl Desk {
    pub(super) fn new(ends: Ends, patience: Patience, tasks: &Tasks) -> Self {
        let Ends { questions, commands, connected } = ends;
        let (asking, said) = (Once::new(tasks.clone()), Mutex::default());
        Self {
            questions,
            commands,
            connected,
            patience,
            asking,
            said,
            downloads: Downloads::new(tasks.clone(), patience.turn),
        }
    }

    /// Finds the manifest that a name means.
    pub(super) async fn manifest(&self, repository: String, reference: String) -> Result<Told, Refusal> {
        let wanted = Wanted::Manifest { repository, reference };
        if let Some(manifest) = self.remembered(&wanted, self.patience.fresh) {
            return Ok(Told { manifest, is_stale: false });
        }
        match self.ask(wanted.clone()).await {
            Ok(Answer::Manifest(manifest)) => {
                let manifest = Arc::new(*manifest);
                self.remember(wanted, &manifest);
                Ok(Told { manifest, is_stale: false })
            }
            Ok(Answer::Ready | Answer::Unknown) => Err(Refusal::Unknown),
            Ok(Answer::Refused { code, detail }) => Err(refusal(&code, detail)),
            Err(refusal) => {
                let last = self.remembered(&wanted, Duration::MAX);
                last.map(|manifest| Told { manifest, is_stale: true }).ok_or(refusal)
            }
        }
    }

    /// Finds the image that a manifest named.
    pub(super) fn layer(&self, digest: &str) -> Option<Layer> {
        self.said().layers.get(digest).cloned()
    }

    /// Opens the node's own copy of an image; has it brought here first where there is none.
    pub(super) async fn open(&self, layer: &Layer) -> Result<File, Refusal> {
        for _ in 0..LOOKS {
            if let Some(file) = self.held(layer).await? {
                return Ok(file);
            }
            let wanted = Wanted::Image { image: layer.image, name: layer.name.clone() };
            match self.ask(wanted).await? {
                Answer::Ready => {}
                Answer::Unknown | Answer::Manifest(_) => return Err(Refusal::Unknown),
                Answer::Refused { code, detail } => return Err(refusal(&code, detail)),
            }
        }
        Err(Refusal::Unavailable(format!("{} comes and goes on this node: ask again", layer.name)))
    }

    /// Opens a copy that is here; those first that only root and the agent can change.
    async fn held(&self, layer: &Layer) -> Result<Option<File>, Refusal> {
        let mut candidates = locate(&self.commands, layer.image).await?;
        candidates.sort_by_key(|candidate| !candidate.trusted);
        let (size, name) = (layer.size, layer.name.clone());
        let opened = tokio::task::spawn_blocking(move || open(&candidates, size, &name)).await;
        opened.unwrap_or_else(|_broke_off| Err(stopping()))
    }

    /// Asks the coordinator, or waits for whoever asks the same.
    async fn ask(&self, wanted: Wanted) -> Result<Answer, Refusal> {
        let (questions, connected) = (self.questions.clone(), Arc::clone(&self.connected));
        let (lost, commands, what) = (self.patience.lost, self.commands.clone(), wanted.clone());
        let asking = async move {
            // Whoever looked a moment before it came, and asks a moment after, need not ask.
            if let Wanted::Image { image, .. } = &what
                && !locate(&commands, *image).await?.is_empty()
            {
                return Ok(Answer::Ready);
            }
            ask(questions, (connected, lost), what).await
        };
        self.asking.work(wanted, asking).await.unwrap_or_else(|| Err(stopping()))
    }

    fn remembered(&self, wanted: &Wanted, for_how_long: Duration) -> Option<Arc<Manifest>> {
        let said = self.said();
        let (at, manifest) = said.manifests.get(wanted)?;
        (at.elapsed() < for_how_long).then(|| Arc::clone(manifest))
    }

    fn remember(&self, wanted: Wanted, manifest: &Arc<Manifest>) {
        let mut said = self.said();
        let layer = Layer { image: manifest.image, name: manifest.name.clone(), size: manifest.size };
        said.layers.insert(manifest.layer.clone(), layer);
        let before = said.manifests.insert(wanted.clone(), (Instant::now(), Arc::clone(manifest)));
        if before.is_none_or(|(_, before)| before.layer != manifest.layer) {
            said.order.push_back((wanted, manifest.layer.clone()));
        }
        if said.order.len() > REMEMBERED
            && let Some((wanted, layer)) = said.order.pop_front()
        {
            let named_since = said.order.iter().any(|(_, named)| *named == layer);
            let asked_since = said.order.iter().any(|(asked, _)| *asked == wanted);
            if !named_since {
                said.layers.remove(&layer);
            }
            if !asked_since {
                said.manifests.remove(&wanted);
            }
        }
    }

    /// What was said is sound whatever panicked while it was held.
    fn said(&self) -> std::sync::MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stopping() -> Refusal {
    Refusal::Unavailable("the agent is stopping".to_owned())
}

/// Asks the inventory where an image is.
async fn locate(commands: &mpsc::Sender<Command>, image: Digest) -> Result<Vec<Candidate>, Refusal> {
    let (reply, answer) = oneshot::channel();
    let located = Command::Locate { digest: image, reply };
    commands.send(located).await.map_err(|_closed| stopping())?;
    answer.await.map_err(|_closed| stopping())
}

/// Asks until the coordinator answers; a session that ends is asked in again by the next one.
async fn ask(
    questions: mpsc::Sender<Question>,
    (connected, lost): (Connected, Duration),
    wanted: Wanted,
) -> Result<Answer, Refusal> {
    let begun = Instant::now();
    let mut heard = begun;
    loop {
        let (reply, mut answer) = oneshot::channel();
        let question = Question { wanted: wanted.clone(), reply };
        // The queue is full only while nobody listens.
        let mut question = Some(question);
        loop {
            if connected() {
                heard = Instant::now();
            }
            if heard.elapsed() > lost || begun.elapsed() > PATIENCE {
                let words = "the coordinator does not answer; is it running, and this node connected to it?";
                return Err(Refusal::Unavailable(words.to_owned()));
            }
            if let Some(ask) = question.take()
                && let Err(refused) = questions.try_send(ask)
            {
                question = Some(refused.into_inner());
            }
            match tokio::time::timeout(LOOK, &mut answer).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(_the_session_ended)) => break,
                Err(_elapsed) => {}
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Opens the first of these files that still is what it was and that everybody may read: who asks here may be anybody. The
/// agent itself passes through folders that others may not.
fn open(candidates: &[Candidate], size: u64, name: &ImageName) -> Result<Option<File>, Refusal> {
    let mut hidden = None;
    for candidate in candidates.iter().filter(|candidate| candidate.size == size) {
        let Some((tree, file)) = candidate.open() else { continue };
        let above = tree.parent(candidate.name.as_str().as_bytes());
        let all_pass = matches!(above, Ok(Parent::Open(_, false)));
        match file.metadata() {
            Ok(facts) if all_pass && facts.mode() & OTHERS_READ != 0 => return Ok(Some(file)),
            Ok(_) => hidden = Some(candidate),
            Err(_) => {}
        }
    }
    match hidden {
        Some(hidden) => Err(Refusal::Denied(format!(
            "{name} is on this node, in {}, and its permissions or those of its folders do not let everybody read it",
            hidden.root.display()
        ))),
        None => Ok(None),
    }
}

/// Tells what nobody may have from what nobody can have at present.
fn refusal(code: &str, detail: String) -> Refusal {
    match code {
        "not_signed" | "signature_bad" | "signer_not_trusted" | "denied" => Refusal::Denied(detail),
        _ => Refusal::Unavailable(detail),
    }
}
