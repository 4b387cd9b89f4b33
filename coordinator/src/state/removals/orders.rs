//! What people ask of removals, what agents are told, and what they answer.

use std::sync::Arc;
use std::time::Duration;

use roaring::RoaringBitmap;
use sifleet_common::api::events::EventKind;
use sifleet_common::api::removals::RemovalState;
use sifleet_common::inventory::RootId;
use sifleet_common::name::NodeName;
use sifleet_common::removal::{RemovalCode, RemovalPhase};
use sifleet_common::time::{Monotonic, Now, UnixMillis};
use sifleet_common::wire::assignment::{AssignmentId, Order, Removal, RemovalOutcome, Removed};
use sifleet_common::wire::control::ToAgent;

use super::rule::{Leaving, join, losing};
use super::step::SILENCE;
use super::wish::{MAX_PARTS, MAX_RUNNING, RemovalCommand, RemovalError, RemovalWish};
use super::{Ordered, Part, Place, Removing, State, Timer, count};
use crate::state::index::NodeId;
use crate::state::pushes::wait_after;
use crate::state::{Announcement, Effect};
use crate::store::Op;
use crate::store::removal::{RemovalNo, RemovalRecord};

/// Why a node does not go on.
type Why = Option<(Option<RemovalCode>, Arc<str>)>;

impl State {
    /// Takes in what somebody asks of removals; answers which one it is about.
    ///
    /// # Errors
    /// [`RemovalError`]; nothing has changed.
    pub fn remove(
        &mut self,
        command: RemovalCommand,
        now: Now,
    ) -> (Result<RemovalNo, RemovalError>, Vec<Effect>) {
        let answer = match command {
            RemovalCommand::Create(wish) => self.begin_removal(*wish, now),
            RemovalCommand::Cancel(no) => self.cancel_removal(no, now),
        };
        self.turn_removals(now);
        (answer, std::mem::take(&mut self.effects))
    }

    fn begin_removal(&mut self, wish: RemovalWish, now: Now) -> Result<RemovalNo, RemovalError> {
        if let Some(key) = &wish.key
            && let Some((removal, known)) = self.removals.keys.get(&key.text).copied()
        {
            return if known == key.body { Ok(removal) } else { Err(RemovalError::KeyReused { removal }) };
        }
        self.spare_the_last(&wish)?;
        self.make_room_for_removal(&wish, now)?;
        let no = RemovalNo(self.removals.last.0 + 1);
        self.removals.last = no;
        let mut nodes: Vec<NodeId> = wish.nodes.iter().map(NodeId).collect();
        self.sort_naturally(&mut nodes);
        let patience_ms = u64::try_from(wish.patience.as_millis()).unwrap_or(u64::MAX);
        let until = now.wall.0.saturating_add(i64::try_from(patience_ms).unwrap_or(i64::MAX));
        let record = Arc::new(RemovalRecord {
            no,
            image: wish.image,
            digest: wish.digest,
            size: wish.size,
            root: wish.root,
            force: wish.force,
            when_idle: wish.when_idle,
            created: now.wall,
            ended: None,
            deadline: UnixMillis(until),
            patience_ms,
            cancelled: false,
            key: wish.key,
        });
        let names: Vec<NodeName> =
            nodes.iter().filter_map(|id| self.node(*id).map(|node| node.name.clone())).collect();
        self.effects.push(Effect::Store(Op::PutRemoval { record: Arc::clone(&record), nodes: names }));
        self.add_removal(Removing::new(record, nodes.into_iter().map(|id| (id, None)).collect()));
        self.expire_removal_at(no, now.mono.after(wish.patience));
        self.announce_removal(no);
        self.review_removal(no, now);
        Ok(no)
    }

    /// Refuses to take away the last ready replica, those that other removals are about counted as gone.
    fn spare_the_last(&self, wish: &RemovalWish) -> Result<(), RemovalError> {
        let holdings = self.holdings();
        let pushed = |id: &u32| self.is_being_pushed(NodeId(*id), wish.digest);
        let nodes: RoaringBitmap = wish.nodes.iter().filter(|id| !pushed(id)).collect();
        let own = holdings.meant((&wish.image, &wish.digest), wish.root.as_deref(), &nodes);
        let losing = losing(&own);
        if wish.force || losing.is_empty() {
            return Ok(());
        }
        let mut others = Leaving::new();
        for removing in self.removals.removals.values().filter(|other| other.record.digest == wish.digest) {
            let open = removing.parts.iter().filter(|part| !part.stands.phase.is_end());
            let open: RoaringBitmap = open.map(|part| part.node.0).collect();
            let record = &removing.record;
            join(&mut others, holdings.meant((&record.image, &record.digest), record.root.as_deref(), &open));
        }
        if !holdings.left(&wish.digest, &[&own, &others]).is_disjoint(&self.live) {
            return Ok(());
        }
        let names = losing.iter().filter_map(|id| self.node(NodeId(id))).map(|node| node.name.as_str());
        let nodes = sifleet_common::nodeset::fold(names);
        Err(RemovalError::LastReplica { image: wish.image.clone(), nodes })
    }

    /// Refuses what there is no room for, after the oldest that ended are forgotten.
    fn make_room_for_removal(&mut self, wish: &RemovalWish, now: Now) -> Result<(), RemovalError> {
        let adds = usize::try_from(wish.nodes.len()).unwrap_or(usize::MAX);
        self.forget_old_removals(adds, now);
        let all = self.removals.removals.values();
        if all.clone().filter(|removing| removing.is_open()).count() >= MAX_RUNNING {
            return Err(RemovalError::TooMany { what: format!("{MAX_RUNNING} removals") });
        }
        if all.map(|removing| removing.parts.len()).sum::<usize>().saturating_add(adds) > MAX_PARTS {
            let what = format!("{MAX_PARTS} nodes of all removals together");
            return Err(RemovalError::TooMany { what });
        }
        Ok(())
    }

    pub(super) fn add_removal(&mut self, removing: Removing) {
        let no = removing.record.no;
        if let Some(key) = &removing.record.key {
            self.removals.keys.insert(key.text.clone(), (no, key.body));
        }
        for (at, part) in removing.parts.iter().enumerate().filter(|(_, part)| !part.stands.phase.is_end()) {
            self.removals.of_node.entry(part.node).or_default().insert((no, at));
            self.removals.waiting.insert((no, at));
        }
        self.removals.removals.insert(no, removing);
        self.removals.changed.insert(no);
    }

    fn cancel_removal(&mut self, no: RemovalNo, now: Now) -> Result<RemovalNo, RemovalError> {
        let unknown = || RemovalError::Unknown { id: no.to_string() };
        let removing = self.removals.removals.get_mut(&no).ok_or_else(unknown)?;
        if removing.record.cancelled || !removing.is_open() {
            return Ok(no);
        }
        Arc::make_mut(&mut removing.record).cancelled = true;
        let record = Arc::clone(&removing.record);
        self.removals.waiting.extend((0..removing.parts.len()).map(|at| (no, at)));
        self.removals.changed.insert(no);
        self.effects.push(Effect::Store(Op::ChangeRemoval { record }));
        self.review_removal(no, now);
        Ok(no)
    }

    /// Tells an agent to remove a file, or tells it again.
    pub(super) fn order_removal(&mut self, place: Place, (root, path): (RootId, Arc<str>), now: Now) {
        let known = self.part(place).and_then(|(_, part)| part.ordered.clone());
        let ordered = match known.filter(|ordered| ordered.root == path) {
            Some(before) => {
                let since = before.since.or(Some(now.mono));
                Ordered { since, said: Some(now.mono), told: now.mono, ..before }
            }
            None => {
                self.release(place);
                let id = self.next_order(now);
                self.removals.orders.insert(id, place);
                let (since, said, told) = (Some(now.mono), Some(now.mono), now.mono);
                Ordered { id, root: path, since, said, answered: None, told, counted: false }
            }
        };
        let Some((removing, part)) = self.part(place) else { return };
        let Some(session) = self.session_of(part.node) else { return };
        let record = &removing.record;
        let (name, image, node) = (record.image.clone(), record.digest, part.node);
        let key = (name.clone(), Arc::clone(&ordered.root));
        let order = Order::Remove(Removal { id: ordered.id, root, name, image });
        self.removals.leaving.entry(image).or_default().entry(key).or_default().insert(node.0);
        if let Some(part) = self.part_mut(place) {
            part.ordered = Some(ordered);
        }
        self.effects.push(Effect::Send(session, ToAgent::Order(Box::new(order))));
        self.set_part_due(place, Some(now.mono.after(SILENCE)));
        self.turn_part(place, RemovalPhase::Removing, None, now);
    }

    /// Hears what became of a removal.
    pub(in crate::state) fn removed(&mut self, node: NodeId, said: &Removed, now: Now) {
        let Some(place) = self.removals.orders.get(&said.id).copied() else { return };
        let Some((removing, part)) = self.part(place).filter(|(_, part)| part.node == node) else { return };
        if part.stands.phase.is_end() {
            return;
        }
        let when_idle = removing.record.when_idle;
        let words: Option<Arc<str>> = (!said.detail.is_empty()).then(|| said.detail.as_str().into());
        let explained =
            |code: RemovalCode| Some((Some(code), words.clone().unwrap_or_else(|| code.name().into())));
        match said.outcome {
            RemovalOutcome::Gone | RemovalOutcome::Absent => {
                let gone = said.outcome == RemovalOutcome::Gone;
                if let Some(part) = self.part_mut(place) {
                    part.note = words.filter(|_| gone).or(part.note.take());
                    if let Some(ordered) = &mut part.ordered {
                        ordered.answered.get_or_insert(now.mono);
                        // It may say the same twice.
                        part.stands.files += u32::from(gone && !ordered.counted);
                        ordered.counted |= gone;
                    }
                }
                self.removals.waiting.insert(place);
            }
            RemovalOutcome::Busy if when_idle => {
                self.release(place);
                let Some(part) = self.part_mut(place) else { return };
                part.attempts = part.attempts.saturating_add(1);
                let due = now.mono.after(wait_after(part.attempts));
                self.set_part_due(place, Some(due));
                self.turn_part(place, RemovalPhase::Waiting, explained(RemovalCode::Busy), now);
                // Perhaps nobody wants it any longer.
                self.removals.waiting.insert(place);
            }
            RemovalOutcome::Busy => {
                self.end_part(place, RemovalPhase::Failed, explained(RemovalCode::Busy), now);
            }
            RemovalOutcome::Failed(code) => {
                self.end_part(place, RemovalPhase::Failed, explained(code), now);
            }
        }
    }

    /// Forgets what an agent was told.
    fn release(&mut self, place: Place) {
        let Some((removing, part)) = self.part(place) else { return };
        let (record, node) = (Arc::clone(&removing.record), part.node);
        let Some(ordered) = self.part_mut(place).and_then(|part| part.ordered.take()) else { return };
        self.removals.orders.remove(&ordered.id);
        let Some(leaving) = self.removals.leaving.get_mut(&record.digest) else { return };
        let key = (record.image.clone(), ordered.root);
        if let Some(nodes) = leaving.get_mut(&key) {
            nodes.remove(node.0);
            if nodes.is_empty() {
                leaving.remove(&key);
            }
        }
        if leaving.is_empty() {
            self.removals.leaving.remove(&record.digest);
        }
    }

    /// Ends a node's share.
    pub(super) fn end_part(&mut self, place: Place, phase: RemovalPhase, why: Why, now: Now) {
        let (no, _) = place;
        // The inventory may be sooner than the answer.
        let is_unheard = |order: &Ordered| order.answered.is_none() && !order.counted;
        let unheard = |part: &&mut Part| part.ordered.as_ref().is_some_and(is_unheard);
        if phase == RemovalPhase::Done
            && let Some(part) = self.part_mut(place).filter(unheard)
        {
            part.stands.files += 1;
        }
        self.release(place);
        self.set_part_due(place, None);
        let Some((removing, part)) = self.part(place) else { return };
        let bytes = removing.record.size.saturating_mul(part.stands.files.into());
        let (node, note, files) = (part.node, part.note.clone(), u64::from(part.stands.files));
        let gone = &mut self.removals.gone;
        (gone.files, gone.bytes) = (gone.files + files, gone.bytes.saturating_add(bytes));
        // What an agent said of a file that is gone is worth keeping.
        let note = note.filter(|_| phase == RemovalPhase::Done).map(|note| (None, note));
        let why = why.or(note);
        if let Some(own) = self.removals.of_node.get_mut(&node) {
            own.remove(&place);
            if own.is_empty() {
                self.removals.of_node.remove(&node);
            }
        }
        self.turn_part(place, phase, why, now);
        let stands = self.part(place).map(|(_, part)| part.stands.clone());
        let name = self.node(node).map(|node| node.name.clone());
        self.removals.ended.entry(no).or_default().extend(name.zip(stands));
    }

    pub(super) fn turn_part(&mut self, place: Place, phase: RemovalPhase, why: Why, now: Now) {
        let (no, at) = place;
        let Some(removing) = self.removals.removals.get_mut(&no) else { return };
        let Some(part) = removing.parts.get_mut(at) else { return };
        let (code, message) = why.map_or((None, None), |(code, words)| (code, Some(words)));
        if (part.stands.phase, part.stands.code, &part.stands.message) != (phase, code, &message) {
            count(&mut removing.counts, part.stands.phase, -1);
            count(&mut removing.counts, phase, 1);
            (part.stands.phase, part.stands.code, part.stands.message) = (phase, code, message);
            removing.shown.set(at, part.shown());
            self.removals.changed.insert(no);
        }
        self.review_removal(no, now);
    }

    /// Holds how a removal stands against how it stood.
    pub(super) fn review_removal(&mut self, no: RemovalNo, now: Now) {
        let Some(removing) = self.removals.removals.get_mut(&no) else { return };
        if !removing.is_open()
            && let Some(expires) = removing.expires.take()
        {
            self.removals.timers.remove(&(expires, Timer::Removal(no)));
        }
        let state = removing.stands();
        let ended = state != RemovalState::Running;
        if removing.state == state && removing.record.ended.is_some() == ended {
            return;
        }
        removing.state = state;
        let record = Arc::make_mut(&mut removing.record);
        record.ended = ended.then(|| record.ended.unwrap_or(now.wall));
        let record = Arc::clone(&removing.record);
        self.removals.changed.insert(no);
        self.effects.push(Effect::Store(Op::ChangeRemoval { record }));
        self.announce_removal(no);
    }

    fn announce_removal(&mut self, no: RemovalNo) {
        let Some(removing) = self.removals.removals.get(&no) else { return };
        self.effects.push(Effect::Announce(Announcement {
            kind: EventKind::RemovalChanged,
            node: None,
            image: Some(removing.record.image.clone()),
            digest: Some(removing.record.digest),
            detail: Some(format!("{no} {}", removing.state.name())),
        }));
    }

    pub(super) fn set_part_due(&mut self, place: Place, due: Option<Monotonic>) {
        let (no, at) = place;
        let Some(part) = self.part_mut(place) else { return };
        if let Some(before) = std::mem::replace(&mut part.due, due) {
            self.removals.timers.remove(&(before, Timer::Part(no, at)));
        }
        self.removals.timers.extend(due.map(|due| (due, Timer::Part(no, at))));
    }

    /// Sets when a removal's deadline is.
    pub(super) fn expire_removal_at(&mut self, no: RemovalNo, expires: Monotonic) {
        if let Some(removing) = self.removals.removals.get_mut(&no) {
            removing.expires = Some(expires);
            self.removals.timers.insert((expires, Timer::Removal(no)));
        }
    }

    pub(super) fn part(&self, (no, at): Place) -> Option<(&Removing, &Part)> {
        let removing = self.removals.removals.get(&no)?;
        Some((removing, removing.parts.get(at)?))
    }

    fn part_mut(&mut self, (no, at): Place) -> Option<&mut Part> {
        self.removals.removals.get_mut(&no)?.parts.get_mut(at)
    }

    /// Returns a number that no removal had, not even in an earlier life of the coordinator: agents remember them.
    fn next_order(&mut self, now: Now) -> AssignmentId {
        let time = u64::try_from(now.wall.0).unwrap_or(0);
        self.removals.last_order = self.removals.last_order.saturating_add(1).max(time);
        AssignmentId(self.removals.last_order)
    }

    /// Sets the deadlines of removals found at start: how much of their time is left, the wall clock tells.
    pub(super) fn arm_found_removals(&mut self, now: Now) {
        for no in std::mem::take(&mut self.removals.found) {
            let Some(removing) = self.removals.removals.get(&no) else { continue };
            let record = &removing.record;
            let left = u64::try_from(record.deadline.0.saturating_sub(now.wall.0)).unwrap_or(0);
            let left = Duration::from_millis(left.min(record.patience_ms));
            self.expire_removal_at(no, now.mono.after(left));
        }
    }
}
