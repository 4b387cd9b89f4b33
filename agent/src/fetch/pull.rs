//! The loop around the pure [`super::Fetch`]: dials peers, puts questions, passes on what arrives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quinn::{RecvStream, SendStream};
use sifleet_common::chunk::span::SpanId;
use sifleet_common::push::{FailCode, Fault};
use sifleet_common::time::Monotonic;
use sifleet_common::wire::assignment::{Assignment, Peer};
use sifleet_common::wire::chunk::{Wish, runs};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::keep::Keeper;
use super::limits::{GATHER, Limits};
use super::patience::is_in_vain;
use super::peer::{Following, Heard};
use super::peers::Peers;
use super::receive::{Answer, Question, Received, pass};
use super::run::{Resources, refused};
use super::status::{Failure, Status};
use super::{Action, Event, Fetch, PeerId};
use crate::pace::Tap;

/// What peers do and this loop has not seen; when full, peers wait.
const HEARD: usize = 256;
/// Bytes on their way to this node at most: with the largest spans, fewer are asked for at once.
const ON_THE_WAY: u64 = 48 * 1024 * 1024;

/// An image being fetched.
pub(super) struct Pull<'a> {
    resources: &'a Resources,
    keeper: Arc<Keeper>,
    status: &'a Arc<Status>,
    wanted: &'a mut watch::Receiver<Assignment>,
    fetch: Fetch,
    tap: Arc<Tap>,
    peers: Peers,
    followings: JoinSet<()>,
    heard: mpsc::Sender<Heard>,
    questions: JoinSet<(PeerId, SpanId, Answer)>,
    cancels: BTreeMap<(PeerId, SpanId), CancellationToken>,
    heard_of_bytes: mpsc::Sender<PeerId>,
    gained: Vec<SpanId>,
    /// Bytes that were here when last looked, and since when.
    kept: u64,
    last_new: Monotonic,
    complete: bool,
}

impl<'a> Pull<'a> {
    pub(super) fn new(
        resources: &'a Arc<Resources>,
        keeper: Arc<Keeper>,
        status: &'a Arc<Status>,
        wanted: &'a mut watch::Receiver<Assignment>,
    ) -> Self {
        let (layout, now) = (Arc::clone(keeper.layout()), resources.clock.now().mono);
        let count = layout.spans().count();
        let largest = layout.spans().iter().map(|(_, span)| span.bytes.end - span.bytes.start).max();
        let mut limits = Limits::default();
        let room = ON_THE_WAY / largest.unwrap_or(1).max(1);
        limits.asked = limits.asked.min(usize::try_from(room).unwrap_or(usize::MAX)).max(limits.asked_of_one);
        let fetch = Fetch::new(count, &keeper.have(), limits, rand::random());
        // Both are replaced by the loop.
        let ((heard, _), (heard_of_bytes, _)) = (mpsc::channel(1), mpsc::channel(1));
        Self {
            resources,
            keeper,
            status,
            wanted,
            fetch,
            tap: Arc::new(Tap::open(resources.clock)),
            peers: Peers::default(),
            followings: JoinSet::new(),
            heard,
            questions: JoinSet::new(),
            cancels: BTreeMap::new(),
            heard_of_bytes,
            gained: Vec::new(),
            kept: 0,
            last_new: now,
            complete: false,
        }
    }

    /// Runs until every span is here.
    pub(super) async fn run(mut self) -> Result<(), Failure> {
        let (heard, mut inbox) = mpsc::channel(HEARD);
        let (heard_of_bytes, mut trickle) = mpsc::channel(HEARD);
        (self.heard, self.heard_of_bytes) = (heard, heard_of_bytes);
        let mut gather = tokio::time::interval(GATHER);
        gather.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut again = tokio::time::interval(Duration::from_secs(1));
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.tell(Event::Tick);
        while !self.complete {
            let wake = self.fetch.next_deadline().map(|at| self.resources.clock.instant(at));
            tokio::select! {
                Some(heard) = inbox.recv() => self.hear(heard),
                Some(peer) = trickle.recv() => self.tell(Event::Heard(peer)),
                Some(answered) = self.questions.join_next() => {
                    if let Ok((peer, span, answer)) = answered {
                        self.answered(peer, span, answer)?;
                    }
                }
                Some(_ended) = self.followings.join_next() => {}
                changed = self.wanted.changed() => match changed {
                    Ok(()) => self.dial(),
                    Err(_closed) => return Err(Failure {
                        code: FailCode::Refused,
                        detail: "the assignment was withdrawn".to_owned(),
                    }),
                },
                _ = gather.tick(), if self.has_news() => self.pass_on().await,
                _ = again.tick() => {
                    self.check_progress()?;
                    self.dial();
                }
                () = tokio::time::sleep_until(wake.unwrap_or_else(far).into()) => self.tell(Event::Tick),
            }
        }
        self.end().await;
        Ok(())
    }

    /// Lets questions that are cancelled come to their end, so that nothing is written any longer.
    async fn end(&mut self) {
        for cancel in self.cancels.values() {
            cancel.cancel();
        }
        while let Some(ended) = self.questions.join_next().await {
            if let Ok((peer, _, answer)) = ended {
                self.count(peer, answer.new, answer.wasted);
            }
        }
        self.pass_on().await;
        self.followings.shutdown().await;
    }

    fn has_news(&self) -> bool {
        !self.gained.is_empty() || self.peers.has_news()
    }

    async fn pass_on(&mut self) {
        let gained = std::mem::take(&mut self.gained);
        if !gained.is_empty() {
            self.resources.serving.gained(self.keeper.layout().image(), gained).await;
        }
        self.peers.tell_news();
    }

    fn now(&self) -> Monotonic {
        self.resources.clock.now().mono
    }

    fn check_progress(&mut self) -> Result<(), Failure> {
        let kept = self.keeper.kept();
        if kept > self.kept {
            (self.kept, self.last_new) = (kept, self.now());
        }
        let silent = self.now().since(self.last_new);
        let (peers, reached) = self.peers.count();
        if !is_in_vain(silent, reached) {
            return Ok(());
        }
        let missing = self.fetch.missing().count();
        let detail = format!(
            "{missing} of {} spans are missing, and none came for {} s; {reached} of {peers} peers are connected",
            self.keeper.layout().spans().count(),
            silent.as_secs(),
        );
        Err(Failure { code: FailCode::NoSource, detail })
    }

    /// Dials peers that are new or to be tried again, and lets go of those that are no longer named.
    fn dial(&mut self) {
        let (peers, rate) = {
            let assignment = self.wanted.borrow_and_update();
            (assignment.peers.clone(), assignment.rate)
        };
        self.tap.set(rate);
        let (gone, new) = self.peers.compare(peers, self.now());
        for id in gone {
            self.forget(id);
            self.tell(Event::Left(id));
        }
        for peer in new {
            self.follow(peer);
        }
    }

    fn follow(&mut self, peer: Peer) {
        let id = self.peers.number();
        let layout = self.keeper.layout();
        let following = Following {
            endpoint: self.resources.endpoint.clone(),
            image: layout.image(),
            map: layout.map_digest(),
            spans: layout.spans().count(),
            lacks: runs(self.fetch.missing().iter().map(|span| span.0)),
            capability: self.wanted.borrow().capability.clone(),
        };
        let until = following.capability.until;
        let following = self.followings.spawn(following.follow(id, peer.clone(), self.heard.clone()));
        self.peers.add(id, peer, until, following);
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Joined(id, wishes) => {
                self.peers.joined(id, wishes);
                self.tell(Event::Joined(id));
            }
            Heard::Offered(id, spans, alone) => {
                if alone {
                    let missing = self.fetch.missing();
                    self.peers.kept_alone(id, &spans, |span| missing.contains(span));
                }
                self.tell(Event::Offered(id, spans));
            }
            Heard::Turn(id, send, receive) => self.turn(id, send, receive),
            Heard::Left(id) => {
                self.shun(id, None);
                self.forget(id);
                self.tell(Event::Left(id));
            }
            Heard::Over(id) => self.over(id),
            Heard::Failed(id, fault) => self.fail(id, fault),
        }
    }

    /// Asks a peer for nothing more, waits for what was begun, and dials it again if we may fetch for longer.
    fn over(&mut self, id: PeerId) {
        let until = self.wanted.borrow().capability.until;
        self.peers.over(id, until, self.now());
        self.tell(Event::Over(id));
        self.let_go(id);
        self.dial();
    }

    /// Forgets a peer that gives nothing more, when nothing is on its way from it.
    fn let_go(&mut self, id: PeerId) {
        if self.peers.is_over(id) && self.asked(id).next().is_none() {
            self.forget(id);
            self.tell(Event::Left(id));
        }
    }

    /// Lists what ends the questions to a peer.
    fn asked(&self, id: PeerId) -> impl Iterator<Item = &CancellationToken> {
        self.cancels.range((id, SpanId(0))..=(id, SpanId(u32::MAX))).map(|(_, cancel)| cancel)
    }

    fn fail(&mut self, id: PeerId, fault: Fault) {
        if self.peers.has_joined(id) {
            self.tell(Event::Failed(id, fault));
        } else {
            self.shun(id, Some(fault));
            self.forget(id);
        }
    }

    fn shun(&mut self, id: PeerId, fault: Option<Fault>) {
        self.peers.shun(id, fault, self.now());
    }

    fn forget(&mut self, id: PeerId) {
        self.peers.forget(id);
        self.asked(id).for_each(CancellationToken::cancel);
    }

    fn turn(&mut self, id: PeerId, send: SendStream, receive: RecvStream) {
        let mut stream = Some((send, receive));
        for action in self.fetch.handle(Event::Turn(id), self.now()) {
            match action {
                Action::Ask(peer, span) if peer == id => {
                    if let Some((send, receive)) = stream.take() {
                        self.ask(id, span, send, receive);
                    }
                }
                Action::Pass(peer) if peer == id => {
                    if let Some((send, _)) = stream.take() {
                        self.followings.spawn(pass(send));
                    }
                }
                other @ (Action::Want(_)
                | Action::Ask(..)
                | Action::Pass(_)
                | Action::Cancel(..)
                | Action::Drop(..)
                | Action::Complete) => self.act(other),
            }
        }
    }

    fn ask(&mut self, peer: PeerId, span: SpanId, send: SendStream, receive: RecvStream) {
        let cancel = CancellationToken::new();
        self.cancels.insert((peer, span), cancel.clone());
        let question = Question {
            peer,
            span,
            send,
            receive,
            keeper: Arc::clone(&self.keeper),
            taps: [Arc::clone(&self.resources.down), Arc::clone(&self.tap)],
            heard: self.heard_of_bytes.clone(),
            cancel,
        };
        self.questions.spawn(async move { (peer, span, question.ask().await) });
    }

    fn answered(&mut self, peer: PeerId, span: SpanId, answer: Answer) -> Result<(), Failure> {
        self.cancels.remove(&(peer, span));
        self.count(peer, answer.new, answer.wasted);
        match answer.received {
            Received::Whole => {
                if self.keeper.is_whole(span) {
                    self.gained.push(span);
                    self.peers.got(peer, span);
                }
                self.tell(Event::Got(peer, span));
            }
            Received::Cancelled => {}
            Received::Gone => {
                self.shun(peer, None);
                self.forget(peer);
                self.tell(Event::Left(peer));
            }
            // It had not heard our choice when our permission ended.
            Received::Broken(Fault::Unreachable) if self.peers.is_over(peer) => {
                self.forget(peer);
                self.tell(Event::Left(peer));
            }
            Received::Broken(fault) => self.tell(Event::Failed(peer, fault)),
            Received::Disk(error) => return Err(refused(&error)),
        }
        self.let_go(peer);
        Ok(())
    }

    fn count(&mut self, peer: PeerId, new: u64, wasted: u64) {
        if let Some(node) = self.peers.node(peer) {
            self.status.fetched(node, new, wasted);
        } else {
            self.status.moved(|bytes| {
                bytes.fetched += new;
                bytes.wasted += wasted;
            });
        }
    }

    fn tell(&mut self, event: Event) {
        for action in self.fetch.handle(event, self.now()) {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Want(id) => {
                if !self.peers.wish(id, Wish::Want) {
                    debug!("a peer that takes no wishes is about to be dropped");
                }
            }
            Action::Cancel(id, span) => {
                if let Some(cancel) = self.cancels.get(&(id, span)) {
                    cancel.cancel();
                }
            }
            Action::Drop(id, fault) => {
                if let Some(node) = self.peers.node(id) {
                    info!(%node, error = fault.name(), "a source is left alone");
                    self.status.dropped(node.clone(), fault);
                }
                self.shun(id, Some(fault));
                self.forget(id);
            }
            Action::Complete => self.complete = true,
            // Only a turn makes one ask or pass.
            Action::Ask(..) | Action::Pass(_) => {}
        }
    }
}

/// A moment that does not come while the loop runs.
fn far() -> std::time::Instant {
    std::time::Instant::now() + Duration::from_secs(3600)
}
