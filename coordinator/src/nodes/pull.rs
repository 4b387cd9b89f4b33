//! What agents ask for on behalf of the jobs of their nodes: which manifest a name means, and an image on the node.
//!
//! Owns the questions of one session that wait for an answer. What a name means is the registry's business; an image is
//! brought by an ordinary push, which all nodes join whose jobs pull it.

use std::time::Duration;

use futures_util::FutureExt as _;
use sifleet_common::name::NodeName;
use sifleet_common::push::Phase;
use sifleet_common::wire::control::ToAgent;
use sifleet_common::wire::pull::{Answer, MAX_DETAIL, MAX_WAITING, Manifest, Pull, Pulled, Wanted};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinSet;
use tracing::{debug, info};

use crate::oci::error::OciError;
use crate::oci::name::{Reference, Repository};
use crate::oci::{Found, Registry};
use crate::state::index::NodeId;
use crate::state::pushes::{Command, PushError, join};
use crate::state::run::{Handle, Stopped, ToSession};
use crate::store::push::PushNo;
use crate::view::View;

/// How often it is looked whether an image has come.
const LOOK: Duration = Duration::from_millis(200);

/// Questions of one session; those that wait end with it.
pub(super) struct Pulling {
    registry: Option<Registry>,
    handle: Handle,
    node: NodeName,
    answers: mpsc::WeakSender<ToSession>,
    waiting: JoinSet<()>,
}

/// Says why an image does not come.
#[derive(Debug, thiserror::Error)]
enum NotBrought {
    #[error(transparent)]
    Push(#[from] PushError),
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error("the coordinator does not know this node yet: ask again")]
    UnknownNode,
    #[error("{detail}")]
    Ended { code: &'static str, detail: String },
}

impl NotBrought {
    fn code(&self) -> &'static str {
        match self {
            Self::Push(_) => "not_pushed",
            Self::Stopped(_) => "stopping",
            Self::UnknownNode => "unknown_node",
            Self::Ended { code, .. } => code,
        }
    }
}

impl Pulling {
    pub(super) fn new(
        registry: Option<Registry>,
        (handle, node): (Handle, NodeName),
        answers: mpsc::WeakSender<ToSession>,
    ) -> Self {
        Self { registry, handle, node, answers, waiting: JoinSet::new() }
    }

    /// Begins to answer a question.
    pub(super) fn take(&mut self, pull: Pull) {
        while self.waiting.try_join_next().is_some() {}
        let Pull { id, wanted } = pull;
        let answers = self.answers.clone();
        if self.waiting.len() >= MAX_WAITING || !wanted.is_bounded() {
            let detail = format!("at most {MAX_WAITING} questions of a node are answered at once");
            let refusal = answer(answers, id, refused("too_many", &detail));
            // An agent counts its questions: one that does not need not hear of it.
            refusal.now_or_never();
            return;
        }
        let (registry, handle, node) = (self.registry.clone(), self.handle.clone(), self.node.clone());
        self.waiting.spawn(async move {
            let found = match wanted {
                Wanted::Manifest { repository, reference } => {
                    manifest(registry, &repository, &reference).await
                }
                Wanted::Image { image, name } => {
                    if !handle.views.load().library_image(&name).contains(&image) {
                        let detail = format!("the library does not show {name} at present");
                        return answer(answers, id, refused("gone", &detail)).await;
                    }
                    let reference = format!("{name}@{image}");
                    match bring(&handle, &node, &reference).await {
                        Ok(()) => Answer::Ready,
                        Err(why) => refused(why.code(), &why.to_string()),
                    }
                }
            };
            answer(answers, id, found).await;
        });
    }
}

/// Answers as soon as there is room, for a node asks only once in a session.
async fn answer(answers: mpsc::WeakSender<ToSession>, id: u32, answer: Answer) {
    let mut message = ToSession::Message(ToAgent::Pulled(Box::new(Pulled { id, answer })));
    loop {
        // Held while it waits, the session would not end.
        let Some(sender) = answers.upgrade() else { return };
        match sender.try_send(message) {
            Ok(()) => break,
            Err(TrySendError::Full(unsent)) => message = unsent,
            Err(TrySendError::Closed(_)) => return,
        }
        drop(sender);
        tokio::time::sleep(LOOK).await;
    }
    debug!(id, "a node's question was answered");
}

fn refused(code: &str, detail: &str) -> Answer {
    let end = detail.floor_char_boundary(MAX_DETAIL);
    Answer::Refused { code: code.to_owned(), detail: detail.get(..end).unwrap_or_default().to_owned() }
}

async fn manifest(registry: Option<Registry>, repository: &str, reference: &str) -> Answer {
    let Some(registry) = registry else {
        return refused("no_library", "the coordinator has no library: set `library.dir` there");
    };
    let (Ok(repository), Ok(reference)) = (repository.parse::<Repository>(), reference.parse::<Reference>())
    else {
        return Answer::Unknown;
    };
    // Whoever asks on a node may be anybody: he has no image moved into the library, where all may read it, that some
    // other node keeps for a few.
    match registry.find(&repository, &reference, false).await {
        Ok(Found { digest, media_type, bytes, layer: Some(layer) }) => {
            let manifest = Manifest {
                media_type,
                digest: digest.to_string(),
                body: bytes,
                layer: layer.digest.to_string(),
                size: layer.size,
                image: layer.blake3,
                name: layer.name,
            };
            if manifest.is_bounded() {
                Answer::Manifest(Box::new(manifest))
            } else {
                refused(
                    "too_large",
                    "its manifest is larger than a node's registry gives: pull from the coordinator",
                )
            }
        }
        Ok(Found { layer: None, .. }) => {
            refused("no_image", "it is no SIF image of the library: pull it from the coordinator")
        }
        Err(OciError::UnknownManifest { .. } | OciError::UnknownName { .. }) => Answer::Unknown,
        Err(error) => refused("not_now", &error.to_string()),
    }
}

/// Has an image brought to a node, and waits until its inventory shows it.
async fn bring(handle: &Handle, node: &NodeName, reference: &str) -> Result<(), NotBrought> {
    let place = handle.views.load().place_of(node).ok_or(NotBrought::UnknownNode)?;
    let wish = {
        let (view, now) = (handle.views.load(), handle.clock.now());
        let mut wish = view.wish_of_node(place, reference, now)?;
        wish.key = Some(join::key(&wish.image, wish.digest));
        wish.patience = join::PATIENCE;
        wish
    };
    let image = wish.image.clone();
    let push = handle.push(Command::Join(Box::new(wish))).await??;
    info!(%node, %image, %push, "an image comes to a node, since a job pulls it");
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        if let Some(ended) = ended(&handle.views.load(), push, place) {
            return ended;
        }
    }
}

/// Tells how a node's part of a push has ended; none while it goes on.
fn ended(view: &View, push: PushNo, place: usize) -> Option<Result<(), NotBrought>> {
    let gone = |detail: String| Some(Err(NotBrought::Ended { code: "gone", detail }));
    let Some(info) = view.push_info(push) else { return gone(format!("{push} is forgotten")) };
    let part = info.nodes.iter().find(|part| NodeId(part.node).index() == place)?;
    let outcome = &part.outcome;
    match outcome.phase {
        Phase::Done => Some(Ok(())),
        Phase::Failed => {
            let code = outcome.code.map_or("failed", |code| code.name());
            let detail = outcome.message.as_deref().unwrap_or("the push ended without it").to_owned();
            Some(Err(NotBrought::Ended { code, detail: format!("{push}: {detail}") }))
        }
        Phase::Cancelled => gone(format!("{push} was cancelled")),
        Phase::Waiting | Phase::Preparing | Phase::Fetching | Phase::Verifying | Phase::Deferred => None,
    }
}
