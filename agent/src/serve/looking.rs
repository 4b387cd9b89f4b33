//! Who waits for an image that is being looked for, or is not here.
//!
//! Tells those that wait in vain; looking is the loop's business ([`super::run`]).

use std::collections::BTreeMap;

use sifleet_common::digest::Digest;
use sifleet_common::wire::chunk::Offer;

use super::giving::MAX_FOLLOWERS;
use super::offer::FollowerId;
use super::run::Follower;

/// What is looked for, at most [`MAX_FOLLOWERS`] images for as many followers.
#[derive(Default)]
pub(super) struct LookedFor(BTreeMap<Digest, Waiting>);

/// Who waits for one image.
#[derive(Default)]
struct Waiting {
    followers: Vec<Follower>,
    /// It was not found, and is not being looked for at present.
    absent: bool,
    /// The first so many followers came before the last time that others were turned away: they have waited long enough.
    waited: usize,
}

impl LookedFor {
    /// Lets somebody wait; tells whether the image is now to be looked for.
    pub(super) fn wait(&mut self, follower: Follower) -> bool {
        let followers: usize = self.0.values().map(|waiting| waiting.followers.len()).sum();
        if followers.max(self.0.len()) >= MAX_FOLLOWERS {
            turn_away(&follower);
            return false;
        }
        let (image, known) = (follower.image, self.0.len());
        self.0.entry(image).or_default().followers.push(follower);
        self.0.len() > known
    }

    /// Lets a follower go.
    pub(super) fn leave(&mut self, id: FollowerId) {
        for waiting in self.0.values_mut() {
            if let Some(at) = waiting.followers.iter().position(|follower| follower.id == id) {
                waiting.followers.remove(at);
                waiting.waited -= usize::from(at < waiting.waited);
            }
        }
    }

    /// Hands out who waited for an image that is here.
    pub(super) fn found(&mut self, image: &Digest) -> Vec<Follower> {
        self.0.remove(image).unwrap_or_default().followers
    }

    /// Notes that an image is not here.
    pub(super) fn not_found(&mut self, image: Digest) {
        if let Some(waiting) = self.0.get_mut(&image) {
            waiting.absent = true;
            if waiting.followers.is_empty() {
                self.0.remove(&image);
            }
        }
    }

    /// Tells those that have waited for what is not here; returns what is to be looked for again, for the others.
    pub(super) fn turn_away(&mut self) -> Vec<Digest> {
        let mut again = Vec::new();
        self.0.retain(|image, waiting| {
            if waiting.absent {
                for follower in waiting.followers.drain(..waiting.waited) {
                    turn_away(&follower);
                }
                waiting.waited = waiting.followers.len();
                waiting.absent = waiting.followers.is_empty();
                if !waiting.absent {
                    again.push(*image);
                }
            }
            !waiting.absent
        });
        again
    }
}

/// One that does not read has no use for it either.
pub(super) fn turn_away(follower: &Follower) {
    drop(follower.offers.try_send(Offer::Absent));
}
