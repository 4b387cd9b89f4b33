//! What is noted of requests, and what a flood of them leaves behind.

use super::*;
use crate::store::audit::{Asker, AuditQuery};
use crate::store::sqlite;

fn open(folder: &tempfile::TempDir, records: u32) -> Audit {
    let (store, _) = sqlite::open(&folder.path().join("coordinator.db")).unwrap();
    Audit::new(store, Keep { records, ..Keep::default() })
}

fn record(actor: Actor, refused: bool, n: i64) -> AuditRecord {
    AuditRecord {
        at: UnixMillis(1_000 + n),
        actor,
        origin: "192.0.2.1".to_owned(),
        method: "POST".to_owned(),
        route: "/v1/pushes".to_owned(),
        target: format!("/v1/pushes/p-{n:06}"),
        refused,
        status: if refused { 401 } else { 201 },
        count: 1,
        request: format!("request-{n}"),
    }
}

fn ann(no: u64) -> Actor {
    Actor::Token { no, name: "ann".to_owned() }
}

async fn read(audit: &Audit, query: AuditQuery) -> Vec<AuditRecord> {
    audit.store.flush().await.unwrap();
    audit.store.audit(query).await.unwrap().into_iter().map(|(_, record)| record).collect()
}

fn all() -> AuditQuery {
    AuditQuery { since: None, who: None, before: None, limit: 10_000 }
}

#[tokio::test]
async fn what_was_noted_is_read_back_newest_first_and_by_whom() {
    let folder = tempfile::tempdir().unwrap();
    let audit = open(&folder, 100);
    let user = Actor::User { uid: 1_000, name: Some("ann".to_owned()) };
    let noted = [
        record(ann(1), false, 0),
        record(user, false, 1),
        record(Actor::Anonymous, true, 2),
        record(ann(2), false, 3),
    ];
    for one in &noted {
        audit.note(one.clone(), false);
    }
    let mut newest_first = noted.clone();
    newest_first.reverse();
    assert_eq!(read(&audit, all()).await, newest_first);
    for (who, found) in [
        (Asker::Token(1), vec![0]),
        (Asker::User(1_000), vec![1]),
        (Asker::Anonymous, vec![2]),
        (Asker::Named("ann".to_owned()), vec![3, 1, 0]),
        (Asker::Named("' OR 1=1".to_owned()), vec![]),
    ] {
        let found: Vec<_> = found.into_iter().map(|n: usize| noted[n].clone()).collect();
        assert_eq!(read(&audit, AuditQuery { who: Some(who), ..all() }).await, found);
    }
    let since = AuditQuery { since: Some(UnixMillis(1_002)), limit: 1, ..all() };
    assert_eq!(read(&audit, since).await, [noted[3].clone()]);
}

#[tokio::test]
async fn repeats_become_one_record_and_a_flood_a_bounded_number() {
    let folder = tempfile::tempdir().unwrap();
    let audit = open(&folder, 10_000);
    for n in 0..1_000 {
        audit.note(record(Actor::Anonymous, true, n), true);
    }
    audit.tidy(UnixMillis(2_000));
    let found = read(&audit, all()).await;
    assert_eq!(found.iter().map(|record| record.count).collect::<Vec<_>>(), [999, 1]);
    assert_eq!(found[0].request, "request-999");

    for n in 0..10_000 {
        let from = AuditRecord { origin: format!("host {n}"), ..record(Actor::Anonymous, true, n) };
        audit.note(from, true);
    }
    audit.tidy(UnixMillis(3_000));
    let found = read(&audit, all()).await;
    assert_eq!(found.len(), 2 + MAX_KINDS + 1);
    assert_eq!(found.iter().map(|record| record.count).sum::<u64>(), 11_000);
}

#[tokio::test]
async fn refusals_never_crowd_out_changes() {
    let folder = tempfile::tempdir().unwrap();
    let audit = open(&folder, 5);
    for n in 0..8 {
        audit.note(record(ann(1), false, n), false);
    }
    for n in 8..100 {
        audit.note(record(Actor::Anonymous, true, n), false);
    }
    audit.tidy(UnixMillis(2_000));
    let found = read(&audit, all()).await;
    assert_eq!(found.iter().filter(|record| record.refused).count(), 5);
    let changes: Vec<_> = found.iter().filter(|record| !record.refused).map(|record| record.at.0).collect();
    assert_eq!(changes, [1_007, 1_006, 1_005, 1_004, 1_003]);
    audit.tidy(UnixMillis(1_005 + 90 * 86_400_000));
    assert!(read(&audit, all()).await.iter().all(|record| record.at.0 >= 1_005));
}
