//! A disk that is slower than the cluster.

use sifleet_common::image::Arch;
use sifleet_common::inventory::{Change, Generation, Inventory};
use sifleet_common::time::UnixMillis;
use sifleet_common::wire::control::StreamId;

use super::*;
use crate::state::testing::image;
use crate::store::{NodeFacts, Position};

fn node() -> NodeName {
    "n1".parse().unwrap()
}

/// The steps of an inventory that gets one image more each time.
fn step(n: u64, inventory: &mut Inventory) -> Op {
    let change = image(&format!("{n}.sif"), 1);
    inventory.apply(change.clone());
    Op::Advance { node: node(), position: position(n, inventory), changes: vec![change] }
}

fn position(n: u64, inventory: &Inventory) -> Position {
    Position { stream: StreamId(1), generation: Generation(n), digest: inventory.digest() }
}

async fn found(path: &Path) -> (Generation, Vec<Change>) {
    let (store, mut restored) = open(path).unwrap();
    store.close().await.unwrap();
    let known = restored.nodes.remove(0);
    (known.position.generation, known.changes)
}

#[tokio::test]
async fn a_store_that_is_behind_is_not_waited_for_and_never_holds_an_inventory_with_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("coordinator.db");
    let (store, _) = open(&path).unwrap();
    let facts =
        NodeFacts { build: "1".into(), arch: Arch::Amd64, partitions: Vec::new(), last_seen: UnixMillis(1) };
    store.submit(vec![Op::PutNode { node: node(), facts }]).await.unwrap();
    store.flush().await.unwrap();

    // Another connection that writes holds the writer up.
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (mut inventory, mut n) = (Inventory::default(), 0);
    let refused = loop {
        n += 1;
        if let Err(error) = store.try_submit(vec![step(n, &mut inventory)]) {
            break error;
        }
        assert!(n < 10_000, "the queue must have an end");
    };
    assert!(matches!(refused, StoreError::Behind), "{refused}");
    assert!(store.try_submit(vec![step(n + 1, &mut inventory)]).is_err());
    let gap = n;
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    store.flush().await.unwrap();
    for n in gap + 2..gap + 10 {
        store.try_submit(vec![step(n, &mut inventory)]).unwrap();
    }
    store.flush().await.unwrap();
    assert_eq!(store.take_lost(), [node()]);
    store.close().await.unwrap();
    let (generation, changes) = found(&path).await;
    assert_eq!(generation, Generation(gap - 1), "what came before the gap is there, what came after is not");
    assert_eq!(changes.len() as u64, gap - 1);

    let (store, _) = open(&path).unwrap();
    let changes: Vec<Change> = inventory.as_changes().collect();
    store
        .try_submit(vec![Op::Replace { node: node(), position: position(n + 9, &inventory), changes }])
        .unwrap();
    store.close().await.unwrap();
    assert_eq!(found(&path).await.1.len(), inventory.len());
}
