//! The store on a real disk: what is handed over is found again, whatever ends the process.
//!
//! Facts are compared with a [`Model`] in memory, which applies the same steps.

#![cfg(test)]

#[path = "store/identities.rs"]
mod identities;
#[path = "store/model.rs"]
mod model;
#[path = "store/pushes.rs"]
mod pushes;
#[path = "store/speed.rs"]
mod speed;
#[path = "store/wishes.rs"]
mod wishes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use model::{Model, change, digest, everything, facts, key, members, name, op, replaced, replica};
use proptest::prelude::*;
use rusqlite::Connection;
use sifleet_common::inventory::{Change, Generation};
use sifleet_common::name::NodeName;
use sifleet_common::time::UnixMillis;
use sifleet_coordinator::store::sqlite::open;
use sifleet_coordinator::store::{Op, Position, Restored, RestoredMembers, Store, StoreError};

fn database(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("coordinator.db")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn any_sequence_of_steps_is_found_again(
        steps in proptest::collection::vec(any::<(u8, u8, u8, u8)>(), 1..80),
        restarts in proptest::collection::btree_set(0usize..80, 0..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut model = Model::default();
        runtime().block_on(async {
            let (mut store, _) = open(&database(&dir)).unwrap();
            for (n, raw) in steps.into_iter().enumerate() {
                let op = op(&model, raw);
                model.apply(op.clone());
                store.submit(vec![op]).await.unwrap();
                if restarts.contains(&n) {
                    store.close().await.unwrap();
                    let restored;
                    (store, restored) = open(&database(&dir)).unwrap();
                    assert_eq!(restored, model.restored());
                }
            }
            store.flush().await.unwrap();
            for (digest, expected) in &model.metadata {
                assert_eq!(store.metadata(*digest).await.unwrap().as_ref(), Some(expected));
            }
            store.close().await.unwrap();
        });
        let (_store, restored) = open(&database(&dir)).unwrap();
        prop_assert_eq!(restored, model.restored());
    }
}

#[tokio::test]
async fn what_was_submitted_is_written_even_when_the_last_handle_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (store, restored) = open(&database(&dir)).unwrap();
    assert_eq!(restored, Restored::default());
    let mut model = Model::default();
    for n in 0..100 {
        let op = model.advance(&name("viz001"), vec![Change::Put(key(n), replica(n))]);
        model.apply(op.clone());
        store.submit(vec![op]).await.unwrap();
    }
    drop(store);
    let restored = reopen(&database(&dir)).await;
    assert_eq!(restored, model.restored());
}

/// Opens the database as soon as its last user has let go of it.
async fn reopen(path: &Path) -> Restored {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match open(path) {
            Ok((store, restored)) => {
                store.close().await.unwrap();
                return restored;
            }
            Err(StoreError::InUse { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(other) => panic!("{other}"),
        }
    }
}

const VICTIM: &str = "SIFLEET_TEST_STORE_TO_KILL";

/// Not a test by itself: the process that the next test kills.
#[tokio::test]
async fn writes_until_it_is_killed() {
    let Some(path) = std::env::var_os(VICTIM) else { return };
    let (store, _) = open(Path::new(&path)).unwrap();
    let mut model = Model::default();
    for n in 0u64.. {
        let image = u8::try_from(n % 50).unwrap();
        let op =
            model.advance(&name(format!("node{}", n % 7)), vec![change(image, image), change(2, image / 2)]);
        model.apply(op.clone());
        store.submit(vec![op]).await.unwrap();
    }
}

#[test]
fn a_killed_process_leaves_positions_that_agree_with_their_replicas() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(&dir);
    let mut generations = BTreeMap::new();
    for round in 1..=4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writes_until_it_is_killed", "--nocapture"])
            .env(VICTIM, &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        wait_for_rows(&path, round * 400);
        child.kill().unwrap();
        child.wait().unwrap();
        // Opening proves every inventory against its digest and drops what fails.
        let restored = runtime().block_on(reopen(&path));
        assert_eq!(restored.nodes.len(), 7);
        for node in restored.nodes {
            assert!(node.position.generation > Generation(0), "{} was dropped", node.node);
            generations.insert((round, node.node), node.position.generation);
        }
        // The next victim begins from nothing, as an agent with another life would.
        std::fs::remove_file(&path).unwrap();
    }
    assert_eq!(generations.len(), 4 * 7);
}

/// Waits until nodes have made so many steps together.
fn wait_for_rows(path: &Path, steps: i64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let count = || {
        let reader = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        reader
            .query_row("SELECT sum(generation) FROM node", (), |row| row.get::<_, Option<i64>>(0))
            .ok()
            .flatten()
    };
    while count() < Some(steps) {
        assert!(Instant::now() < deadline, "the writer made no {steps} steps");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn an_inventory_that_does_not_match_its_digest_starts_from_nothing() {
    let damages = [
        "UPDATE replica SET size = size - 1 WHERE name LIKE '%3%'",
        "UPDATE replica SET name = '../up' WHERE name LIKE '%3%'",
        "UPDATE replica SET state = 'fine' WHERE name LIKE '%3%'",
        "UPDATE replica SET digest = x'00' WHERE state = 'image'",
        "DELETE FROM replica WHERE name LIKE '%3%'",
        "UPDATE root SET state = 'fine'",
        "UPDATE root SET root = 900",
        "UPDATE node SET generation = 7, digest = x'0102' WHERE name = 'hurt'",
    ];
    for damage in damages {
        let dir = tempfile::tempdir().unwrap();
        let mut model = Model::default();
        let (store, _) = open(&database(&dir)).unwrap();
        for node in ["hurt", "well"] {
            let facts = Op::PutNode { node: name(node), facts: facts(1) };
            let changes = if node == "hurt" { (0..8).map(|n| change(n, n)).collect() } else { vec![] };
            let ops = vec![facts, replaced(changes, name(node))];
            ops.iter().for_each(|op| model.apply(op.clone()));
            store.submit(ops).await.unwrap();
        }
        store.close().await.unwrap();
        execute(&database(&dir), damage);
        let restored = reopen(&database(&dir)).await;
        let well = model.restored().nodes.remove(1);
        assert_eq!(restored.nodes.last(), Some(&well), "{damage}");
        if let [hurt, _] = restored.nodes.as_slice() {
            assert_eq!((hurt.position, hurt.changes.len()), (Position::default(), 0), "{damage}");
        }
        assert_eq!(reopen(&database(&dir)).await, restored, "{damage}");
    }
}

#[tokio::test]
async fn rows_that_no_version_writes_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(&database(&dir)).unwrap();
    let at = UnixMillis(1);
    store
        .submit(vec![
            Op::PutMembers { source: "slurm".into(), at, members: members(3) },
            Op::PutMembers { source: "file".into(), at, members: members(2) },
            Op::HeardOf { name: name("a.sif") },
        ])
        .await
        .unwrap();
    store.close().await.unwrap();
    execute(
        &database(&dir),
        "UPDATE member SET node = 'not a name' WHERE source = 'slurm' AND node = 'viz1';
         INSERT INTO heard_of (name) VALUES ('../b.sif');
         INSERT INTO node (name, build, arch, partitions, last_seen) VALUES ('c d', '', 'amd64', '[]', 0);
         INSERT INTO node (name, build, arch, partitions, last_seen) VALUES ('e', '', 'pdp11', '[]', 0);
         INSERT INTO image_metadata (digest, noted, bytes, metadata) VALUES (x'00', 0, 0, '');
         INSERT INTO chunk_map (image, map) VALUES (x'00', x'00');
         INSERT INTO push SELECT 1, 'a.sif', zeroblob(32), 1, NULL, NULL, 'most', 0, NULL, 0, 0, NULL, 1, 0, NULL, NULL;
         INSERT INTO push_node (push, place, node) VALUES (1, 0, 'n1')",
    );
    let restored = reopen(&database(&dir)).await;
    let file = RestoredMembers { source: "file".into(), at, members: members(2) };
    let expected = Restored { members: vec![file], heard_of: vec![name("a.sif")], ..Restored::default() };
    assert_eq!(restored, expected);
}

fn execute(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test]
async fn files_that_cannot_be_used_are_refused_with_the_remedy_and_left_alone() {
    let check = |prepare: &dyn Fn(&Path), remedy: &str| {
        let dir = tempfile::tempdir().unwrap();
        let path = database(&dir);
        prepare(&path);
        let before = std::fs::read(&path).unwrap();
        let text = open(&path).err().unwrap().to_string();
        assert!(text.contains(remedy) && text.contains("coordinator.db"), "{text}");
        assert!(std::fs::read(&path).unwrap() == before, "{text}");
    };
    let newer = |path: &Path| {
        drop(open(path).unwrap());
        runtime_free_wait(path);
        execute(path, "PRAGMA user_version = 99");
    };
    check(&newer, "schema 99");
    check(&|path| execute(path, "CREATE TABLE other (x)"), "another program");
    check(&|path| std::fs::write(path, "no database at all ".repeat(100)).unwrap(), "is damaged");
    let cut = |path: &Path| {
        drop(open(path).unwrap());
        runtime_free_wait(path);
        let bytes = std::fs::read(path).unwrap();
        let torn: Vec<u8> = bytes[..4096].iter().copied().chain(vec![0xa5; bytes.len() - 4096]).collect();
        std::fs::write(path, torn).unwrap();
    };
    check(&cut, "is damaged");
}

/// Waits until the writer of a dropped store has let go of the file.
fn runtime_free_wait(path: &Path) {
    std::thread::scope(|scope| {
        scope.spawn(|| runtime().block_on(reopen(path)));
    });
}

#[tokio::test]
async fn a_second_coordinator_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(&database(&dir)).unwrap();
    assert!(matches!(open(&database(&dir)), Err(StoreError::InUse { .. })));
    store.close().await.unwrap();
    open(&database(&dir)).unwrap();
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_loses_whole_steps_and_says_of_which_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    let (store, _) = open(&database(&dir)).unwrap();
    let submit = async |store: &Store, op: Op| {
        store.submit(vec![op]).await.unwrap();
        store.flush().await.unwrap();
    };
    for node in ["away", "back"] {
        let op = model.advance(&name(node), vec![change(2, 2)]);
        model.apply(op.clone());
        submit(&store, op).await;
    }
    let consistent = model.clone();
    // A trigger stands in for a full disk, which needs a file system of its own.
    execute(
        &database(&dir),
        "CREATE TRIGGER full BEFORE INSERT ON replica BEGIN SELECT RAISE(FAIL, 'full'); END",
    );
    for node in ["away", "back"] {
        let op = model.advance(&name(node), vec![change(3, 3)]);
        model.apply(op.clone());
        submit(&store, op).await;
    }
    assert_eq!(store.stats().failures, 2);
    assert_eq!(store.take_lost(), [name("away"), name("back")]);
    execute(&database(&dir), "DROP TRIGGER full");
    for node in ["away", "back"] {
        let op = model.advance(&name(node), vec![change(4, 4)]);
        model.apply(op.clone());
        submit(&store, op).await;
    }
    let whole = model.nodes[&name::<NodeName>("back")].clone();
    submit(
        &store,
        Op::Replace { node: name("back"), position: whole.1, changes: whole.2.as_changes().collect() },
    )
    .await;
    let op = model.advance(&name("back"), vec![change(5, 5)]);
    model.apply(op.clone());
    submit(&store, op).await;
    store.close().await.unwrap();
    let restored = reopen(&database(&dir)).await;
    assert_eq!(restored.nodes[0], consistent.restored().nodes[0]);
    assert_eq!(restored.nodes[1], model.restored().nodes[1]);
}

/// Each released schema, filled by that release with one of everything. Append only.
const RELEASES: &[(&str, &str)] = &[("0.1.0", include_str!("store/0.1.0.sql"))];

#[tokio::test]
async fn the_database_of_every_release_is_opened() {
    for (release, sql) in RELEASES {
        let dir = tempfile::tempdir().unwrap();
        execute(&database(&dir), sql);
        let restored = reopen(&database(&dir)).await;
        assert_eq!(restored, everything().restored(), "{release}");
        let (store, _) = open(&database(&dir)).unwrap();
        let found = store.metadata(digest(2)).await.unwrap();
        assert_eq!(found.as_ref(), everything().metadata.get(&digest(2)), "{release}");
    }
}

/// Prints the fixture of this version: `cargo test -p sifleet-tests --test store print -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "writes a fixture when a release is made"]
async fn print_the_fixture_of_this_release() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(&database(&dir)).unwrap();
    let mut model = Model::default();
    for n in 0..16 {
        for what in [0, 7, 8, 9, 10] {
            let op = op(&model, (what, n, n, n));
            model.apply(op.clone());
            store.submit(vec![op]).await.unwrap();
        }
    }
    store.close().await.unwrap();
    println!("{}", dump(&Connection::open(database(&dir)).unwrap()));
}

/// Writes a database as SQL, as `sqlite3 FILE .dump` does.
fn dump(database: &Connection) -> String {
    let texts = |sql: &str| -> Vec<String> {
        database.prepare(sql).unwrap().query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let number = |name: &str| -> i64 { database.pragma_query_value(None, name, |row| row.get(0)).unwrap() };
    let mut out = vec![
        format!("PRAGMA application_id = {};", number("application_id")),
        format!("PRAGMA user_version = {};", number("user_version")),
    ];
    let ours = "FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid";
    out.extend(texts(&format!("SELECT sql || ';' {ours}")));
    for table in texts(&format!("SELECT name {}", ours.replace("WHERE", "WHERE type = 'table' AND"))) {
        let columns = texts(&format!("SELECT 'quote(' || name || ')' FROM pragma_table_info('{table}')"));
        let row = columns.join(" || ', ' || ");
        out.extend(texts(&format!("SELECT 'INSERT INTO {table} VALUES (' || {row} || ');' FROM {table}")));
    }
    out.join("\n")
}
