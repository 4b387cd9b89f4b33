//! What partitions ask of signatures, and what is known of those of images.
//!
//! The agents are the gate: each verifies what it is about to publish. Here a holder is asked before anything moves, so
//! that nodes whose policy an image cannot meet hear so at once. One holder's word ends nothing but pushes: it cannot let
//! an image pass. If no holder can say, the push goes on and the gates decide.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sifleet_common::digest::Digest;
use sifleet_common::keyring::KeyMaterial;
use sifleet_common::name::PartitionName;
use sifleet_common::policy::{Policy, Refusal, Verdict};
use sifleet_common::time::{Monotonic, Now};
use sifleet_common::wire::assignment::{Order, Verified};
use sifleet_common::wire::control::ToAgent;

use super::share::Why;
use super::{State, Timer};
use crate::state::index::NodeId;
use crate::state::{Effect, SessionId};

/// How long verifying an image may take: half a terabyte from a busy disk.
const VERIFYING: Duration = Duration::from_secs(300);
/// Most verdicts that are remembered; then all are forgotten and asked for again.
const MAX_VERDICTS: usize = 4_096;

/// What an admin asks of signatures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whose signatures count.
    pub keyring: Arc<KeyMaterial>,
    /// What every node asks for, whatever partitions it is in.
    pub everywhere: Policy,
    /// What the nodes of a partition ask for besides.
    pub partitions: BTreeMap<PartitionName, Policy>,
}

impl Rules {
    /// Tells whether any node asks for anything.
    #[must_use]
    pub fn ask(&self) -> bool {
        self.everywhere.asks() || self.partitions.values().any(Policy::asks)
    }
}

/// What is known of signatures.
#[derive(Debug, Default)]
pub(super) struct Signatures {
    rules: Rules,
    keyring: Option<Digest>,
    /// Shared with the view: few change, and seldom.
    verdicts: Arc<BTreeMap<Digest, Verdict>>,
    pub(super) asked: BTreeMap<Digest, (SessionId, Monotonic)>,
    /// Sessions that could not say.
    unable: BTreeMap<Digest, BTreeSet<SessionId>>,
    /// Sessions that have the keyring.
    told: BTreeSet<SessionId>,
}

/// Whether a node may be told to fetch an image.
pub(super) enum Admission {
    /// As far as is known.
    Granted,
    /// It is being found out.
    Awaited(Why),
    /// It may not, and why.
    Refused(Refusal),
}

impl State {
    /// Sets what is asked of signatures.
    #[must_use]
    pub fn with_signatures(mut self, rules: Rules) -> Self {
        self.set_rules(rules);
        self
    }

    fn set_rules(&mut self, rules: Rules) {
        let keyring = Some(rules.keyring.digest());
        self.pushes.signatures = Signatures { rules, keyring, ..Signatures::default() };
    }

    /// Takes other rules in: what was found out with other keys is forgotten, and every agent at work hears of it.
    pub(in crate::state) fn heed_rules(&mut self, rules: Rules) {
        if self.pushes.signatures.rules == rules {
            return;
        }
        let asked: Vec<Digest> = self.pushes.signatures.asked.keys().copied().collect();
        for image in asked {
            self.end_asking_for_verdict(image);
        }
        self.set_rules(rules);
        self.restate_policies();
        let images: Vec<Digest> = self.pushes.swarms.keys().copied().collect();
        images.into_iter().for_each(|image| self.wake(image));
    }

    /// Says every assignment anew: its node may be in other partitions, or its partitions ask for something else.
    pub(in crate::state) fn restate_policies(&mut self) {
        let assigned =
            self.pushes.shares.iter().filter(|(_, share)| share.assigned && share.claimed.is_none());
        self.pushes.unsaid.extend(assigned.map(|(id, _)| *id));
    }

    /// Tells whether any node asks for signatures.
    pub(in crate::state) fn asks_for_signatures(&self) -> bool {
        self.pushes.signatures.rules.ask()
    }

    /// Returns what a node asks for: all that its partitions do.
    pub(super) fn policy_of(&self, node: NodeId) -> Policy {
        let rules = &self.pushes.signatures.rules;
        let of_node = rules.partitions.iter().filter(|(name, _)| self.is_member(name, node));
        of_node.fold(rules.everywhere.clone(), |all, (_, policy)| all.and(policy))
    }

    /// Tells whether a node may be told to fetch an image; if it is not known, sees to it that somebody finds out.
    pub(super) fn admits(&mut self, node: NodeId, image: Digest, now: Now) -> Admission {
        let policy = self.policy_of(node);
        if !policy.asks() {
            return Admission::Granted;
        }
        if let Some(verdict) = self.pushes.signatures.verdicts.get(&image) {
            return policy.refuses(verdict).map_or(Admission::Granted, Admission::Refused);
        }
        if !self.pushes.signatures.asked.contains_key(&image) && !self.ask_for_verdict(image, now) {
            return Admission::Granted;
        }
        Admission::Awaited(Some((None, "the image's signatures are being verified".into())))
    }

    /// Sees to it that somebody finds out who signed an image, unless it is known.
    pub(in crate::state) fn find_out_who_signed(&mut self, image: Digest, now: Now) {
        let signatures = &self.pushes.signatures;
        if !signatures.verdicts.contains_key(&image) && !signatures.asked.contains_key(&image) {
            self.ask_for_verdict(image, now);
        }
    }

    /// Returns what is known of the signatures of images.
    pub(in crate::state) fn show_signed(&self) -> Arc<BTreeMap<Digest, Verdict>> {
        Arc::clone(&self.pushes.signatures.verdicts)
    }

    /// Asks a holder that did not fail before; tells whether there is one.
    fn ask_for_verdict(&mut self, image: Digest, now: Now) -> bool {
        let Some(session) = self.holder_but(image, self.pushes.signatures.unable.get(&image)) else {
            return false;
        };
        let until = now.mono.after(VERIFYING);
        self.pushes.signatures.asked.insert(image, (session, until));
        self.pushes.timers.insert((until, Timer::Verdict(image)));
        self.tell_keyring(session);
        self.effects.push(Effect::Send(session, ToAgent::Order(Box::new(Order::Verify { image }))));
        true
    }

    /// Tells an agent whose signatures count, unless it knows.
    pub(super) fn tell_keyring(&mut self, session: SessionId) {
        if self.pushes.signatures.told.insert(session) {
            let keyring = Arc::clone(&self.pushes.signatures.rules.keyring);
            let order = Box::new(Order::Keyring(keyring));
            self.effects.push(Effect::Send(session, ToAgent::Order(order)));
        }
    }

    /// Takes the answer of the session that was asked, with the keys that count, and no other.
    pub(super) fn verified(&mut self, session: SessionId, verified: Verified) {
        let Verified { image, keyring, verdict, .. } = verified;
        let signatures = &mut self.pushes.signatures;
        if signatures.asked.get(&image).is_none_or(|(asked, _)| *asked != session) {
            return;
        }
        match verdict.filter(|_| Some(keyring) == signatures.keyring) {
            Some(verdict) => {
                let verdicts = Arc::make_mut(&mut signatures.verdicts);
                if verdicts.len() >= MAX_VERDICTS {
                    verdicts.clear();
                }
                verdicts.insert(image, verdict);
                signatures.unable.remove(&image);
                self.end_asking_for_verdict(image);
                self.wake(image);
            }
            None => self.no_verdict_from_whom_was_asked(image),
        }
    }

    /// Gives up on whoever was asked; those that wait ask somebody else, or go on.
    pub(super) fn no_verdict_from_whom_was_asked(&mut self, image: Digest) {
        if let Some(session) = self.end_asking_for_verdict(image) {
            self.pushes.signatures.unable.entry(image).or_default().insert(session);
            self.wake(image);
        }
    }

    /// Asks others for what was asked in a session that ended.
    pub(in crate::state) fn signatures_lost(&mut self, session: SessionId) {
        let signatures = &mut self.pushes.signatures;
        signatures.told.remove(&session);
        signatures.unable.retain(|_, unable| {
            unable.remove(&session);
            !unable.is_empty()
        });
        let lost = signatures.asked.iter().filter(|(_, (asked, _))| *asked == session);
        let lost: Vec<Digest> = lost.map(|(image, _)| *image).collect();
        for image in lost {
            self.end_asking_for_verdict(image);
            self.wake(image);
        }
    }

    fn end_asking_for_verdict(&mut self, image: Digest) -> Option<SessionId> {
        let (session, until) = self.pushes.signatures.asked.remove(&image)?;
        self.pushes.timers.remove(&(until, Timer::Verdict(image)));
        Some(session)
    }
}
