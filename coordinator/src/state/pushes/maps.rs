//! Chunk maps: who is asked to make one, once for each image in the cluster. Only what identifies a map is kept; peers
//! hand the map itself to one another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sifleet_common::chunk::MapDigest;
use sifleet_common::digest::Digest;
use sifleet_common::push::FailCode;
use sifleet_common::time::{Monotonic, Now};
use sifleet_common::wire::assignment::{AssignmentId, Mapped, Order};
use sifleet_common::wire::control::ToAgent;

use super::share::Why;
use super::{State, Timer, Work};
use crate::state::index::NodeId;
use crate::state::{Effect, SessionId};
use crate::store::Op;

/// How long making a map may take: half a terabyte from a busy disk.
pub(super) const MAKING: Duration = Duration::from_secs(300);

/// On so many nodes a map has to fail before it is forgotten: one with bad memory must not have it made again and again.
const DOUBTS: usize = 2;

/// Which maps are known, being made, or could not be made by whom.
#[derive(Debug, Default)]
pub(super) struct Maps {
    pub(super) known: BTreeMap<Digest, MapDigest>,
    asked: BTreeMap<Digest, (SessionId, Monotonic)>,
    /// Who made those that are known, in this life.
    made_by: BTreeMap<Digest, SessionId>,
    /// Nodes for which a map did not lead to the image.
    doubts: BTreeMap<Digest, BTreeSet<NodeId>>,
    /// Sessions that gave none, and what was said last.
    unable: BTreeMap<Digest, (BTreeSet<SessionId>, String)>,
}

impl Maps {
    /// Tells whether somebody is making the map, or it is known.
    pub(super) fn is_settled(&self, image: Digest) -> bool {
        self.known.contains_key(&image) || self.asked.contains_key(&image)
    }

    /// Returns what was said last by one who could not make it.
    pub(super) fn said(&self, image: Digest) -> String {
        self.unable.get(&image).map(|(_, words)| words.clone()).unwrap_or_default()
    }

    /// Lets everybody be asked again.
    pub(super) fn forgive(&mut self, image: Digest) {
        self.unable.remove(&image);
    }
}

impl State {
    /// Tells whether the map of an image is known; if not, sees to it that somebody makes it.
    pub(super) fn has_map(&mut self, image: Digest, now: Now) -> bool {
        if self.pushes.maps.known.contains_key(&image) {
            return true;
        }
        if !self.pushes.maps.asked.contains_key(&image)
            && let Some(session) = self.map_maker(image)
        {
            let until = now.mono.after(MAKING);
            self.pushes.maps.asked.insert(image, (session, until));
            self.pushes.timers.insert((until, Timer::Map(image)));
            let order = Box::new(Order::MakeMap { image });
            self.effects.push(Effect::Send(session, ToAgent::Order(order)));
        }
        false
    }

    fn map_maker(&self, image: Digest) -> Option<SessionId> {
        self.holder_but(image, self.pushes.maps.unable.get(&image).map(|(unable, _)| unable))
    }

    /// Chooses a connected holder but for some: one of the library if there is one, then one with little to do. None where
    /// users can write.
    pub(super) fn holder_but(
        &self,
        image: Digest,
        unable: Option<&BTreeSet<SessionId>>,
    ) -> Option<SessionId> {
        let trusted = self.index.places_of(&image).filter(|(place, _)| place.trusted);
        let holders = trusted.flat_map(|(place, nodes)| {
            let live = nodes & &self.live;
            live.into_iter().map(|id| (!place.library, NodeId(id)))
        });
        let able = holders.filter_map(|(elsewhere, id)| {
            let node = self.node(id)?;
            let session = node.session.as_ref().filter(|_| node.gives.is_some())?.id;
            let able = !unable.is_some_and(|unable| unable.contains(&session));
            able.then(|| (elsewhere, self.assigned_to(id), id, session))
        });
        able.min().map(|(.., session)| session)
    }

    /// Says why there is no map yet.
    pub(super) fn why_no_map(&self, image: Digest) -> Why {
        if self.pushes.maps.asked.contains_key(&image) {
            return Some((None, "the chunk map is being made".into()));
        }
        match self.pushes.maps.unable.get(&image) {
            Some((_, words)) => Some((Some(FailCode::NoMap), words.as_str().into())),
            None if !self.holders(image).is_empty() && self.trusted_holders(image).is_empty() => {
                let words =
                    "it lies only below roots that users can write to, from where no node gets images";
                Some((Some(FailCode::NoSource), words.into()))
            }
            None => Some((Some(FailCode::NoSource), "nobody who holds the image is online".into())),
        }
    }

    /// Takes the answer of the session that was asked, and of no other.
    pub(super) fn mapped(&mut self, session: SessionId, mapped: Mapped) {
        let Mapped { image, map, detail } = mapped;
        if self.pushes.maps.asked.get(&image).is_none_or(|(asked, _)| *asked != session) {
            return;
        }
        match map {
            Some(map) => {
                self.end_asking(image);
                self.pushes.maps.unable.remove(&image);
                self.pushes.maps.known.insert(image, map);
                self.pushes.maps.made_by.insert(image, session);
                self.effects.push(Effect::Store(Op::PutMap { image, map }));
                self.wake(image);
            }
            None => self.no_map_from(image, &detail),
        }
    }

    /// Gives up on whoever was asked, and asks somebody else; if everybody failed, so do those who wait.
    pub(super) fn no_map_from(&mut self, image: Digest, why: &str) {
        let Some(session) = self.end_asking(image) else { return };
        let (unable, words) = self.pushes.maps.unable.entry(image).or_default();
        unable.insert(session);
        *words = format!("no chunk map: {why}");
        if self.map_maker(image).is_some() || self.holders(image).is_empty() {
            self.wake(image);
        } else {
            self.pushes.work.push_back(Work::Unmapped(image, AssignmentId(0)));
        }
    }

    /// Notes that a map did not lead to its image on a node. If it happens on several, the map is what is wrong: it is
    /// forgotten, and somebody else is asked.
    pub(super) fn doubt_map(&mut self, image: Digest, node: NodeId) {
        let maps = &mut self.pushes.maps;
        let doubts = maps.doubts.entry(image).or_default();
        doubts.insert(node);
        if doubts.len() < DOUBTS {
            return;
        }
        maps.doubts.remove(&image);
        if maps.known.remove(&image).is_some() {
            self.effects.push(Effect::Store(Op::ForgetMap { image }));
        }
        if let Some(maker) = maps.made_by.remove(&image) {
            let (unable, words) = maps.unable.entry(image).or_default();
            unable.insert(maker);
            "the chunk map does not fit the image".clone_into(words);
        }
    }

    /// Notes that nobody handed a map out to a node. Unless whoever made it is there to do so, nobody may have that map.
    pub(super) fn doubt_unserved_map(&mut self, image: Digest, node: NodeId) {
        let maker = self.pushes.maps.made_by.get(&image);
        let is_maker = |id| self.node(NodeId(id))?.session.as_ref().map(|session| Some(&session.id) == maker);
        if !self.holders(image).into_iter().any(|id| is_maker(id) == Some(true)) {
            self.doubt_map(image, node);
        }
    }

    /// Asks others for what was asked in a session that ended.
    pub(in crate::state) fn maps_lost(&mut self, session: SessionId) {
        let lost: Vec<Digest> = self
            .pushes
            .maps
            .asked
            .iter()
            .filter(|(_, (asked, _))| *asked == session)
            .map(|(image, _)| *image)
            .collect();
        for image in lost {
            self.end_asking(image);
            self.wake(image);
        }
    }

    fn end_asking(&mut self, image: Digest) -> Option<SessionId> {
        let (session, until) = self.pushes.maps.asked.remove(&image)?;
        self.pushes.timers.remove(&(until, Timer::Map(image)));
        Some(session)
    }
}
