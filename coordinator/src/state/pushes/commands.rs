//! What people ask of pushes: a new one, an end, another try, another rate. Answers at once; what it means for
//! thousands of nodes is done step by step.

use std::sync::Arc;
use std::time::Duration;

use roaring::RoaringBitmap;
use sifleet_common::api::pushes::PushState;
use sifleet_common::name::NodeName;
use sifleet_common::push::Phase;
use sifleet_common::time::{Now, UnixMillis};

use super::wish::{MAX_PARTS, MAX_RUNNING};
use super::{Command, Push, PushError, Wish, Work};
use crate::state::index::NodeId;
use crate::state::{Effect, State};
use crate::store::Op;
use crate::store::push::{PushNo, PushRecord};

impl State {
    /// Takes in what somebody asks of pushes; answers which push it is about.
    ///
    /// # Errors
    /// [`PushError`]; nothing has changed.
    pub fn command(&mut self, command: Command, now: Now) -> (Result<PushNo, PushError>, Vec<Effect>) {
        let answer = match command {
            Command::Create(wish) => self.create(*wish, now),
            Command::Ensure(wish) => self.ensure(*wish, now),
            Command::Join(wish) => self.join(*wish, now),
            Command::Cancel(no) => self.cancel(no, now),
            Command::Retry(no) => self.retry(no, now),
            Command::Rate(no, rate) => self.set_rate(no, rate),
        };
        self.turn_pushes(now);
        (answer, std::mem::take(&mut self.effects))
    }

    pub(super) fn create(&mut self, wish: Wish, now: Now) -> Result<PushNo, PushError> {
        if let Some(key) = &wish.key
            && let Some(no) = self.pushes.keys.get(&key.text).copied()
        {
            let known = self.pushes.pushes.get(&no).and_then(|push| push.record.key.as_ref());
            let same = known.is_some_and(|known| known.body == key.body);
            return if same { Ok(no) } else { Err(PushError::KeyReused { push: no }) };
        }
        self.make_room(&wish, now)?;
        let no = PushNo(self.pushes.last_push.0 + 1);
        self.pushes.last_push = no;
        let mut nodes: Vec<NodeId> = wish.nodes.iter().map(NodeId).collect();
        self.sort_naturally(&mut nodes);
        let record = Arc::new(self.record(no, wish, now));
        let names: Vec<NodeName> =
            nodes.iter().filter_map(|id| self.node(*id).map(|node| node.name.clone())).collect();
        self.effects.push(Effect::Store(Op::PutPush { record: Arc::clone(&record), nodes: names }));
        if let Some(key) = &record.key {
            self.pushes.keys.insert(key.text.clone(), no);
        }
        let patience = Duration::from_millis(record.patience_ms);
        let mut push = Push::new(record, nodes.into_iter().map(|id| (id, None)).collect());
        push.state = PushState::Running;
        self.pushes.pushes.insert(no, push);
        self.expire_at(no, now.mono.after(patience));
        self.pushes.changed.insert(no);
        if !self.pushes.pushes.get(&no).is_some_and(|push| push.parts.is_empty()) {
            self.found_swarm(no);
        }
        self.pushes.work.push_back(Work::Begin(no, 0));
        self.announce_push(no);
        self.review(no, now);
        Ok(no)
    }

    /// Takes the newest push that brings the same bytes for the wish: its nodes all wait in that one, or hold them already.
    ///
    /// A wish is made of a view, which may be older than this state: what has come since is no reason for another push. One
    /// that ended without bringing all that it was to bring is not taken, for who asks may wait for how it ends.
    fn ensure(&mut self, wish: Wish, now: Now) -> Result<PushNo, PushError> {
        let left: RoaringBitmap = wish.nodes.iter().filter(|id| !self.holds(NodeId(*id), &wish)).collect();
        let same = |push: &&Push| {
            let record = &push.record;
            let alike =
                (&record.image, record.digest, &record.root) == (&wish.image, wish.digest, &wish.root);
            alike && !record.cancelled && (push.open > 0 || push.state == PushState::Done)
        };
        let brings = |push: &&Push| {
            let open = push.parts.iter().filter(|part| !part.settled).map(|part| part.node.0);
            left.is_subset(&open.collect())
                && wish.nodes.is_subset(&push.parts.iter().map(|part| part.node.0).collect())
        };
        let found = self.pushes.pushes.values().rev().filter(same).find(brings).map(|push| push.record.no);
        found.map_or_else(|| self.create(wish, now), Ok)
    }

    /// Refuses what there is no room for, after the oldest that ended are forgotten.
    fn make_room(&mut self, wish: &Wish, now: Now) -> Result<(), PushError> {
        self.make_room_for_parts(wish, now)?;
        let running = self.pushes.pushes.values().filter(|push| push.open > 0).count();
        if running >= MAX_RUNNING {
            return Err(PushError::TooMany { what: format!("{MAX_RUNNING} pushes") });
        }
        Ok(())
    }

    /// Refuses nodes for which there is no room, after the oldest pushes that ended are forgotten.
    pub(super) fn make_room_for_parts(&mut self, wish: &Wish, now: Now) -> Result<(), PushError> {
        let adds = usize::try_from(wish.nodes.len()).unwrap_or(usize::MAX);
        self.forget_old(adds, now);
        let parts: usize = self.pushes.pushes.values().map(|push| push.parts.len()).sum();
        if parts.saturating_add(adds) > MAX_PARTS {
            return Err(PushError::TooMany { what: format!("{MAX_PARTS} nodes of all pushes together") });
        }
        Ok(())
    }

    fn record(&self, no: PushNo, wish: Wish, now: Now) -> PushRecord {
        let patience_ms = u64::try_from(wish.patience.as_millis()).unwrap_or(u64::MAX);
        PushRecord {
            no,
            image: wish.image,
            digest: wish.digest,
            size: wish.size,
            from: wish.from.and_then(|id| self.node(id)).map(|node| node.name.clone()),
            root: wish.root,
            completion: wish.completion,
            created: now.wall,
            ended: None,
            deadline: later(now.wall, patience_ms),
            patience_ms,
            rate: wish.rate,
            priority: wish.priority,
            cancelled: false,
            key: wish.key,
        }
    }

    pub(in crate::state) fn sort_naturally(&self, nodes: &mut Vec<NodeId>) {
        // Names that were sorted before are compared cheaply: keys are made once each.
        let name = |id: &NodeId| self.node(*id).map_or("", |node| node.name.as_str());
        let mut keyed: Vec<_> =
            nodes.iter().map(|id| (sifleet_common::nodeset::FoldKey::of(name(id)), *id)).collect();
        keyed.sort_unstable();
        *nodes = keyed.into_iter().map(|(_, id)| id).collect();
    }

    fn cancel(&mut self, no: PushNo, now: Now) -> Result<PushNo, PushError> {
        let push = self.known(no)?;
        if push.record.cancelled || push.open == 0 {
            return Ok(no);
        }
        Arc::make_mut(&mut push.record).cancelled = true;
        self.pushes.work.push_back(Work::Cancel(no, 0));
        self.review(no, now);
        Ok(no)
    }

    fn retry(&mut self, no: PushNo, now: Now) -> Result<PushNo, PushError> {
        let push = self.known(no)?;
        if push.record.cancelled {
            return Err(PushError::Cancelled { push: no });
        }
        if push.count(Phase::Failed) == 0 {
            return Ok(no);
        }
        let record = Arc::make_mut(&mut push.record);
        let patience = Duration::from_millis(record.patience_ms);
        record.deadline = later(now.wall, record.patience_ms);
        let (record, expires) = (Arc::clone(&push.record), now.mono.after(patience));
        self.expire_at(no, expires);
        self.pushes.changed.insert(no);
        self.pushes.work.push_back(Work::Retry(no, 0));
        self.effects.push(Effect::Store(Op::ChangePush { record }));
        Ok(no)
    }

    fn set_rate(&mut self, no: PushNo, rate: Option<u64>) -> Result<PushNo, PushError> {
        let push = self.known(no)?;
        if push.record.cancelled {
            return Err(PushError::Cancelled { push: no });
        }
        Arc::make_mut(&mut push.record).rate = rate;
        let record = Arc::clone(&push.record);
        self.pushes.changed.insert(no);
        self.pushes.work.push_back(Work::Restate(no, 0));
        self.effects.push(Effect::Store(Op::ChangePush { record }));
        Ok(no)
    }

    fn known(&mut self, no: PushNo) -> Result<&mut Push, PushError> {
        self.pushes.pushes.get_mut(&no).ok_or_else(|| PushError::Unknown { id: no.to_string() })
    }
}

pub(super) fn later(wall: UnixMillis, millis: u64) -> UnixMillis {
    UnixMillis(wall.0.saturating_add(i64::try_from(millis).unwrap_or(i64::MAX)))
}
