//! The loop around [`super::giving`]: knows what is held, tells followers what they may ask for, starts turns.
//!
//! One task owns all of it; connections, turns and fetches reach it through a [`Serving`]. An image that nobody fetches
//! here is opened when somebody follows it and closed when nobody has for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use quinn::Connection;
use sifleet_common::chunk::MapDigest;
use sifleet_common::chunk::span::SpanId;
use sifleet_common::digest::Digest;
use sifleet_common::task::Tasks;
use sifleet_common::wire::chunk::{Offer, runs};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::find::Finder;
use super::giving::{Action, Event, Giving, TURNS};
use super::held::Held;
use super::looking::LookedFor;
use super::offer::FollowerId;
use super::turn::Turn;
use crate::fetch::set::SpanSet;
use crate::pace::Tap;

/// Messages that wait for the loop; whoever sends more waits.
const INPUTS: usize = 256;
/// An image that nobody follows is closed after one to two of these.
const IDLE: Duration = Duration::from_secs(60);
/// An image of more chunks, 44 bytes of memory each, is closed as soon as nobody follows it.
const LARGE: usize = 250_000;
/// Who follows an image that is not here is told so after one to two of these: most likely it is about to be fetched,
/// and nodes that are told "no" at the beginning of a push would start without one another.
const WAIT: Duration = Duration::from_secs(10);

/// What reaches the loop.
pub(super) enum Input {
    /// Somebody follows an image.
    Follow(Follower),
    /// A follower's permission is over: what it was promised it gets.
    Over(FollowerId),
    /// The image that was looked for, if it is here.
    Found(Digest, Option<Arc<Held>>),
    /// Something happened.
    Event(Event),
    /// A file is no longer what it was.
    Broken(Digest),
    /// An image is being fetched here, and what is there of it can be given.
    Open(Digest, Arc<Held>),
    /// It is whole: it stays as long as somebody follows it.
    Release(Digest),
}

/// Who follows an image.
pub(super) struct Follower {
    pub(super) id: FollowerId,
    pub(super) image: Digest,
    pub(super) map: MapDigest,
    /// Which spans, of as many as the last of them.
    pub(super) lacks: SpanSet,
    pub(super) connection: Connection,
    pub(super) offers: mpsc::Sender<Offer>,
}

/// Reaches the loop.
#[derive(Clone, Debug)]
pub struct Serving(mpsc::Sender<Input>);

impl Serving {
    /// Starts the loop.
    #[must_use]
    pub fn start(finder: Finder, up: Arc<Tap>, tasks: &Tasks) -> Self {
        let (inputs, receiver) = mpsc::channel(INPUTS);
        let owner = Owner {
            giving: Giving::new(TURNS),
            held: BTreeMap::new(),
            idle: BTreeSet::new(),
            fetching: BTreeSet::new(),
            looked_for: LookedFor::default(),
            followers: BTreeMap::new(),
            turning: BTreeMap::new(),
            finder,
            up,
            serving: Self(inputs.clone()),
            tasks: tasks.clone(),
        };
        tasks.spawn("serve", owner.run(receiver));
        Self(inputs)
    }

    /// Gives what is there of an image that is being fetched.
    pub async fn open(&self, image: Digest, held: Arc<Held>) {
        self.put(Input::Open(image, held)).await;
    }

    /// Gives more of it.
    pub async fn gained(&self, image: Digest, spans: Vec<SpanId>) {
        self.put(Input::Event(Event::Gained(image, spans))).await;
    }

    /// Lets go of an image that was fetched, when nobody follows it any longer.
    pub async fn release(&self, image: Digest) {
        self.put(Input::Release(image)).await;
    }

    /// Gives an image no longer.
    pub async fn close(&self, image: Digest) {
        self.put(Input::Broken(image)).await;
    }

    /// A loop that has ended is a node that stops.
    pub(super) async fn put(&self, input: Input) {
        if self.0.send(input).await.is_err() {
            debug!("nothing is given any longer");
        }
    }
}

/// The turns of a follower.
#[derive(Default)]
struct Turning {
    turns: usize,
    /// Counts what it took in them.
    taken: Arc<AtomicU64>,
    /// Ends them.
    stop: CancellationToken,
    left: bool,
}

struct Owner {
    giving: Giving,
    held: BTreeMap<Digest, Arc<Held>>,
    /// Images that nobody followed at the last look.
    idle: BTreeSet<Digest>,
    /// Images that are being fetched here, and stay whoever follows them.
    fetching: BTreeSet<Digest>,
    /// Who waits for an image that is being looked for, or is not here.
    looked_for: LookedFor,
    followers: BTreeMap<FollowerId, Follower>,
    /// Followers that are being given something, also those that have left and whose turns have not ended yet.
    turning: BTreeMap<FollowerId, Turning>,
    finder: Finder,
    up: Arc<Tap>,
    serving: Serving,
    tasks: Tasks,
}

impl Owner {
    async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        let stop = self.tasks.token();
        let (mut idle, mut wait) = (tokio::time::interval(IDLE), tokio::time::interval(WAIT));
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = idle.tick() => self.close_idle(),
                _ = wait.tick() => self.turn_away(),
                input = inputs.recv() => match input {
                    Some(input) => self.take(input),
                    None => return,
                },
            }
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Follow(follower) => self.follow(follower),
            Input::Over(id) => drop(self.depart(id)),
            Input::Found(image, found) => self.found(image, found),
            Input::Event(event) => {
                if let Event::Gained(image, spans) = &event
                    && let Some(held) = self.held.get(image)
                {
                    held.gained(spans);
                }
                match event {
                    Event::Left(id) => self.left(id),
                    Event::Ended(id, ..) => self.ended(id, event),
                    Event::Followed(..)
                    | Event::Got(..)
                    | Event::Wanted(_)
                    | Event::Lagging(_)
                    | Event::Gained(..)
                    | Event::Opened(..)
                    | Event::Closed(_) => self.tell(event),
                }
            }
            Input::Broken(image) => {
                self.fetching.remove(&image);
                self.close(image);
            }
            Input::Open(image, held) => {
                self.fetching.insert(image);
                self.open(image, held);
            }
            Input::Release(image) => {
                self.fetching.remove(&image);
                self.hold_whole(image);
                self.close_large(image);
            }
        }
    }

    /// Looks from here on whether the file stays what it is: published, it can be written to by others.
    fn hold_whole(&mut self, image: Digest) {
        let Some(held) = self.held.get(&image) else { return };
        match held.published() {
            Ok(whole) => {
                self.held.insert(image, Arc::new(whole));
            }
            Err(error) => {
                debug!(digest = %image, error = &error as &dyn std::error::Error, "a published image cannot be given");
                self.close(image);
            }
        }
    }

    /// Lets a follower go. Its turns are ended, and count until they have.
    fn left(&mut self, id: FollowerId) {
        if let Some(stop) = self.depart(id) {
            stop.cancel();
        }
    }

    /// Lets a follower have no further turns; returns what ends those that it has.
    fn depart(&mut self, id: FollowerId) -> Option<CancellationToken> {
        let left = self.followers.remove(&id);
        self.looked_for.leave(id);
        if let Some(follower) = left {
            self.close_large(follower.image);
        }
        let Some(turning) = self.turning.get_mut(&id) else {
            self.tell(Event::Left(id));
            return None;
        };
        turning.left = true;
        Some(turning.stop.clone())
    }

    fn ended(&mut self, id: FollowerId, ended: Event) {
        if let Some(turning) = self.turning.get_mut(&id) {
            turning.turns = turning.turns.saturating_sub(1);
            if turning.turns == 0 {
                let left = turning.left;
                self.turning.remove(&id);
                if left {
                    return self.tell(Event::Left(id));
                }
            }
        }
        self.tell(ended);
    }

    fn follow(&mut self, follower: Follower) {
        let image = follower.image;
        if self.held.contains_key(&image) {
            self.admit(follower);
            return;
        }
        if self.looked_for.wait(follower) {
            self.look_for(image);
        }
    }

    fn look_for(&self, image: Digest) {
        let (finder, serving) = (self.finder.clone(), self.serving.clone());
        self.tasks.spawn("find", async move {
            let found = finder.held(image).await.map(Arc::new);
            serving.put(Input::Found(image, found)).await;
        });
    }

    fn found(&mut self, image: Digest, found: Option<Arc<Held>>) {
        match found {
            Some(held) if !self.held.contains_key(&image) => self.open(image, held),
            _ => self.looked_for.not_found(image),
        }
    }

    /// Tells those that have waited that what they follow is not here, and looks again for the others: an agent that has
    /// just begun may not have seen all that it has.
    fn turn_away(&mut self) {
        for image in self.looked_for.turn_away() {
            self.look_for(image);
        }
    }

    /// Lets somebody follow, if both mean the same spans.
    fn admit(&mut self, mut follower: Follower) {
        let (id, image) = (follower.id, follower.image);
        let held = self.held.get(&image).filter(|held| held.layout().map_digest() == follower.map);
        let Some(spans) = held.map(|held| held.layout().spans().count()) else {
            super::looking::turn_away(&follower);
            return;
        };
        let lacks = std::mem::replace(&mut follower.lacks, SpanSet::empty(0));
        if lacks.len() > spans {
            debug!(peer = %follower.connection.remote_address(), "a follower lacks what the image does not have");
            super::connection::close(&follower.connection);
            return;
        }
        self.followers.insert(id, follower);
        self.tell(Event::Followed(id, image, runs(lacks.iter().map(|span| span.0))));
    }

    fn open(&mut self, image: Digest, held: Arc<Held>) {
        let kept = held.kept();
        self.held.insert(image, held);
        self.idle.remove(&image);
        self.tell(Event::Opened(image, kept));
        for follower in self.looked_for.found(&image) {
            self.admit(follower);
        }
    }

    fn close(&mut self, image: Digest) {
        self.held.remove(&image);
        self.tell(Event::Closed(image));
    }

    /// Closes an image that nobody uses any longer, if it is large; others stay a while.
    fn close_large(&mut self, image: Digest) {
        let large = |held: &Arc<Held>| held.layout().map().chunks().len() > LARGE;
        if self.held.get(&image).is_some_and(large) && self.unused().contains(&image) {
            self.close(image);
        }
    }

    fn close_idle(&mut self) {
        let unused = self.unused();
        for image in unused.intersection(&self.idle.clone()) {
            self.close(*image);
        }
        self.idle = unused;
    }

    /// Lists the images that nobody follows and that are not being fetched.
    fn unused(&self) -> BTreeSet<Digest> {
        let followed: BTreeSet<Digest> = self.followers.values().map(|follower| follower.image).collect();
        let unused =
            self.held.keys().filter(|image| !followed.contains(image) && !self.fetching.contains(image));
        unused.copied().collect()
    }

    fn tell(&mut self, event: Event) {
        for action in self.giving.handle(event) {
            match action {
                Action::Offer(offers) => {
                    let runs = runs(offers.spans.into_iter().map(|span| span.0));
                    self.say(offers.to, if offers.alone { Offer::Alone(runs) } else { Offer::Spans(runs) });
                }
                Action::Absent(id) => {
                    self.say(id, Offer::Absent);
                    self.followers.remove(&id);
                }
                Action::Turn(id) => self.give(id),
            }
        }
    }

    /// Offers more to a follower; one that does not listen is cut off.
    fn say(&mut self, id: FollowerId, offer: Offer) {
        if let Some(follower) = self.followers.get(&id)
            && follower.offers.try_send(offer).is_err()
            && let Some(deaf) = self.followers.remove(&id)
        {
            debug!(peer = %deaf.connection.remote_address(), "a follower that takes no offers is cut off");
            super::connection::close(&deaf.connection);
        }
    }

    fn give(&mut self, id: FollowerId) {
        let turning = self.turning.entry(id).or_default();
        turning.turns += 1;
        let (taken, stop) = (Arc::clone(&turning.taken), turning.stop.clone());
        let both = self.followers.get(&id).and_then(|follower| {
            Some((follower.connection.clone(), Arc::clone(self.held.get(&follower.image)?)))
        });
        let Some((connection, held)) = both else {
            let (serving, ended) = (self.serving.clone(), Event::Ended(id, None, false));
            self.tasks.spawn("turn", async move { serving.put(Input::Event(ended)).await });
            return;
        };
        let (up, serving) = (Arc::clone(&self.up), self.serving.clone());
        let turn = Turn { id, connection, held, up, serving, taken, stop };
        self.tasks.spawn("turn", turn.run());
    }
}

#[cfg(test)]
mod tests;
