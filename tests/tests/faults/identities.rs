//! Power that goes right after somebody was told that a token is used up and a name revoked: both stay so.
//!
//! What the coordinator's database has handed to the disk is all that is left, as in [`crate::power`].

use std::fs;

use sifleet_common::epoch::Epoch;
use sifleet_common::name::NodeName;
use sifleet_common::time::UnixMillis;
use sifleet_coordinator::store::identity::{Invite, InviteHash, InviteNo, Standing};
use sifleet_coordinator::store::{Op, sqlite};

use crate::mount::{Mount, skipped};

/// Nothing is written to the disk but what somebody asks for: the kernel's own moments are minutes apart.
const LAZY: &str = "loop,commit=300";

fn token(node: &NodeName, used: bool) -> Invite {
    Invite {
        id: InviteNo(1),
        hash: InviteHash(blake3::hash(b"secret")),
        node: node.clone(),
        from: Vec::new(),
        created: UnixMillis(1),
        expires: UnixMillis(2),
        used: used.then(|| (UnixMillis(1), [127, 0, 0, 1].into())),
    }
}

#[test]
fn a_token_that_was_used_and_a_name_that_was_revoked_stay_so_when_power_goes_at_once() {
    let test = "a_token_that_was_used_and_a_name_that_was_revoked_stay_so_when_power_goes_at_once";
    if skipped(test, &["mkfs.ext4"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (at, disk) = (folder.path().join("state"), folder.path().join("disk"));
    drop(Mount::made(&at, &disk, 32, &["mkfs.ext4"]));
    let _mount = Mount::of(&at, &disk, LAZY);
    let node: NodeName = "viz001".parse().unwrap();
    let (store, _) = sqlite::open(&at.join("coordinator.db")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        store.submit(vec![Op::PutInvites { invites: vec![token(&node, false)] }]).await.unwrap();
        store.flush().await.unwrap();
    });
    rustix::fs::syncfs(fs::File::open(&at).unwrap()).unwrap();
    let revoked = Standing { epoch: Epoch(7), enrolled: None, revoked: Some(UnixMillis(5)) };
    let steps = vec![
        Op::PutInvites { invites: vec![token(&node, true)] },
        Op::PutStanding { node: node.clone(), standing: revoked },
    ];
    runtime.block_on(store.commit(steps)).unwrap();

    let (left, found) = (folder.path().join("left"), folder.path().join("found"));
    fs::write(&left, fs::read(&disk).unwrap()).unwrap();
    let _after = Mount::of(&found, &left, "loop");
    let (_store, restored) = sqlite::open(&found.join("coordinator.db")).unwrap();
    assert_eq!(restored.invites, [token(&node, true)]);
    assert_eq!(restored.standings, [(node, revoked)]);
}
