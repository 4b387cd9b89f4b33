//! What is noted of requests: whoever asked for a change, and whoever was refused.
//!
//! Nothing here waits: records go to the store's own thread, and what finds no room there is counted and said. Refusals
//! that are alike become one record a minute, and so do the pieces of one upload, so that no flood fills the disk.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sifleet_common::time::UnixMillis;
use tracing::{info, warn};

use crate::store::audit::{Actor, AuditRecord};
use crate::store::{Op, Store};

/// Most kinds of repeats that are told apart until the next minute; beyond it one record counts all others.
const MAX_KINDS: usize = 256;
/// Stands for whatever is not told apart.
const OTHERS: &str = "others";

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// For how long.
    pub time: Duration,
    /// Most changes, and most refusals.
    pub records: u32,
}

impl Default for Keep {
    fn default() -> Self {
        Self { time: Duration::from_secs(90 * 86_400), records: 100_000 }
    }
}

/// What makes two records alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    actor: Actor,
    origin: String,
    method: String,
    route: String,
    /// Of changes: refusals of any path are alike.
    target: Option<String>,
    status: u16,
}

impl Kind {
    fn of(record: &AuditRecord) -> Self {
        Self {
            actor: record.actor.clone(),
            origin: record.origin.clone(),
            method: record.method.clone(),
            route: record.route.clone(),
            target: Some(record.target.clone()).filter(|_| !record.refused),
            status: record.status,
        }
    }
}

/// Notes requests.
#[derive(Debug)]
pub struct Audit {
    store: Store,
    keep: Keep,
    /// What is counted until the next minute. No request that is answered well and changes nothing comes here.
    repeats: Mutex<BTreeMap<Kind, Option<AuditRecord>>>,
}

impl Audit {
    pub(super) fn new(store: Store, keep: Keep) -> Self {
        Self { store, keep, repeats: Mutex::default() }
    }

    /// Notes a request; `counted` has those that are alike share a record.
    pub fn note(&self, record: AuditRecord, counted: bool) {
        if !counted || self.is_first(&record) {
            self.put(vec![record]);
        }
    }

    /// Counts a record; tells whether it is the first of its kind in this minute, which is written at once.
    fn is_first(&self, record: &AuditRecord) -> bool {
        let (mut repeats, kind) = (self.repeats(), Kind::of(record));
        if let Some(counted) = repeats.get_mut(&kind) {
            match counted {
                Some(counted) => merge(counted, record),
                None => *counted = Some(record.clone()),
            }
            return false;
        }
        if repeats.len() < MAX_KINDS {
            repeats.insert(kind, None);
            return true;
        }
        let others = || OTHERS.to_owned();
        let rest = AuditRecord {
            actor: Actor::Anonymous,
            origin: others(),
            method: others(),
            route: others(),
            target: others(),
            ..record.clone()
        };
        match repeats.entry(Kind::of(&AuditRecord { status: 0, ..rest.clone() })).or_default() {
            Some(counted) => merge(counted, &rest),
            none => *none = Some(rest),
        }
        false
    }

    fn repeats(&self) -> MutexGuard<'_, BTreeMap<Kind, Option<AuditRecord>>> {
        // A map of counts is valid whatever panicked while it was held.
        self.repeats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what was counted, and forgets what is old.
    pub(super) fn tidy(&self, now: UnixMillis) {
        let counted = std::mem::take(&mut *self.repeats());
        self.put(counted.into_values().flatten().collect());
        let time = i64::try_from(self.keep.time.as_millis()).unwrap_or(i64::MAX);
        let before = UnixMillis(now.0.saturating_sub(time));
        let prune = Op::PruneAudit { before, keep: self.keep.records };
        if let Err(error) = self.store.try_submit(vec![prune]) {
            warn!(%error, "old records of the audit are not forgotten");
        }
    }

    fn put(&self, records: Vec<AuditRecord>) {
        if records.is_empty() {
            return;
        }
        for record in &records {
            tell(record);
        }
        let count = records.len();
        let ops = records.into_iter().map(|record| Op::PutAudit { record: Box::new(record) }).collect();
        if let Err(error) = self.store.try_submit(ops) {
            warn!(%error, count, "records of the audit are only in this log");
        }
    }
}

fn merge(counted: &mut AuditRecord, record: &AuditRecord) {
    counted.count = counted.count.saturating_add(record.count);
    counted.at = record.at;
    counted.target.clone_from(&record.target);
    counted.request.clone_from(&record.request);
}

/// Says it in the log too, where no one who asks can take it back.
fn tell(record: &AuditRecord) {
    let (kind, id, name) = match &record.actor {
        Actor::Token { no, name } => ("token", *no, name.as_str()),
        Actor::User { uid, name } => ("user", u64::from(*uid), name.as_deref().unwrap_or_default()),
        Actor::Anonymous => ("anonymous", 0, ""),
    };
    let AuditRecord { origin, method, route, target, status, count, request, .. } = record;
    let what = if record.refused { "a request was refused" } else { "a change was asked for" };
    info!(kind, id, name, from = origin, method, route, target, status, count, request, "{what}");
}

#[cfg(test)]
mod tests;
