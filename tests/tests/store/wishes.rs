//! Steps of pushes, for the model.

use std::sync::Arc;

use sifleet_common::push::{FailCode, Phase};
use sifleet_common::time::UnixMillis;
use sifleet_common::wire::assignment::Moved;
use sifleet_coordinator::store::Op;
use sifleet_coordinator::store::push::{Completion, Key, PushNo, PushOutcome, PushRecord, RestoredPush};

use crate::model::{Model, digest, key, name};

impl Model {
    /// Takes a step of pushes in.
    pub(crate) fn push(&mut self, op: Op) {
        if let Op::PutPush { record, nodes } = op {
            let nodes = nodes.into_iter().map(|node| (node, None)).collect();
            self.pushes.insert(record.no, RestoredPush { record: (*record).clone(), nodes });
        } else if let Op::JoinPush { push, node } = op {
            let known = self.pushes.get_mut(&push).into_iter().map(|push| &mut push.nodes);
            known.filter(|nodes| nodes.iter().all(|(name, _)| *name != node)).for_each(|nodes| {
                nodes.push((node.clone(), None));
            });
        } else if let Op::ChangePush { record } = op {
            let push = RestoredPush { record: (*record).clone(), nodes: Vec::new() };
            self.pushes.entry(record.no).or_insert(push).record = (*record).clone();
        } else if let Op::PutOutcomes { push, nodes } = op {
            for (node, outcome) in nodes {
                let known = self.pushes.get_mut(&push).into_iter().flat_map(|push| &mut push.nodes);
                known.filter(|(name, _)| *name == node).for_each(|(_, known)| known.clone_from(&outcome));
            }
        } else if let Op::ForgetPushes { pushes } = op {
            pushes.iter().for_each(|no| drop(self.pushes.remove(no)));
        }
    }
}

/// What somebody wanted.
fn record(no: u8, b: u8) -> Arc<PushRecord> {
    let full = no.is_multiple_of(2);
    Arc::new(PushRecord {
        no: PushNo(u64::from(no % 4)),
        image: key(no % 4).name,
        digest: digest(no % 4),
        size: u64::MAX - 1,
        from: full.then(|| name("head")),
        root: full.then(|| "/opt/apptainers".into()),
        completion: if full { Completion::Share(80) } else { Completion::BestEffort },
        created: UnixMillis(1),
        ended: (b > 99).then_some(UnixMillis(b.into())),
        deadline: UnixMillis(i64::from(b) + 1_000),
        patience_ms: 1_000,
        rate: (b > 50).then_some(u64::from(b)),
        priority: 200,
        cancelled: b.is_multiple_of(3),
        key: full.then(|| Key { text: format!("key {}", no % 4), body: digest(9) }),
    })
}

/// A wish for a push, or something more about one.
pub(crate) fn put_push(model: &Model, a: u8, b: u8) -> Op {
    let record = record(a % 4, b);
    // A push is asked for once; nodes may join it.
    if model.pushes.contains_key(&record.no) && b.is_multiple_of(3) {
        return Op::JoinPush { push: record.no, node: name("n7") };
    }
    if model.pushes.contains_key(&record.no) {
        return Op::ChangePush { record };
    }
    Op::PutPush { record, nodes: ["n2", "n10", "n1"].into_iter().map(name).collect() }
}

/// How nodes of a push stand.
pub(crate) fn change_push(model: &Model, a: u8, b: u8) -> Op {
    let no = PushNo(u64::from(a % 4));
    if !model.pushes.contains_key(&no) {
        return put_push(model, a, b);
    }
    let failed = b.is_multiple_of(2);
    let outcome = PushOutcome {
        phase: if failed { Phase::Failed } else { Phase::Done },
        code: failed.then_some(FailCode::NoSpace),
        message: failed.then(|| "the disk is full".into()),
        root: (b > 9).then(|| "/opt/apptainers".into()),
        bytes: Moved { fetched: u64::MAX, reused: b.into(), resumed: 1, wasted: 2 },
        present: !failed,
        started: failed.then_some(UnixMillis(5)),
        ended: Some(UnixMillis(6)),
    };
    let nodes = vec![(name("n10"), (b < 200).then_some(outcome)), (name("stranger"), None)];
    Op::PutOutcomes { push: no, nodes }
}
