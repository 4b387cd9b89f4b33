//! Pushes whose steps a full disk lost.

use sifleet_coordinator::store::sqlite::open;

use crate::model::{Model, op};
use crate::{database, execute, reopen};

#[tokio::test]
async fn lost_steps_of_pushes_are_said_to_be_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(&database(&dir)).unwrap();
    execute(
        &database(&dir),
        "CREATE TRIGGER full BEFORE INSERT ON push BEGIN SELECT RAISE(FAIL, 'full'); END",
    );
    store.submit(vec![op(&Model::default(), (7, 1, 1, 1))]).await.unwrap();
    store.flush().await.unwrap();
    assert!(!store.take_asked_lost());
    let mut model = Model::default();
    let push = op(&model, (12, 1, 1, 1));
    store.submit(vec![push.clone()]).await.unwrap();
    store.flush().await.unwrap();
    assert!(store.take_asked_lost() && !store.take_asked_lost());
    execute(&database(&dir), "DROP TRIGGER full");
    // Writing everything anew is right, whatever of it was written.
    for op in [push.clone(), push] {
        model.apply(op.clone());
        store.submit(vec![op]).await.unwrap();
    }
    store.close().await.unwrap();
    assert_eq!(reopen(&database(&dir)).await.pushes, model.restored().pushes);
}
