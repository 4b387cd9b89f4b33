//! Images that have to be signed: the gate of an agent, and a partition that asks for signatures, from end to end.

#![cfg(test)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sifleet_common::digest::Digest;
use sifleet_common::keyring::KeyMaterial;
use sifleet_common::policy::{Policy, Verdict, Why};
use sifleet_common::push::{FailCode, Phase};
use sifleet_common::wire::assignment::{Assignment, AssignmentId, Order, Progress};
use sifleet_tests::cluster::{COORDINATOR, Cluster, LIMIT, Plan};
use sifleet_tests::mover::{self, Mover, assignment};
use sifleet_tests::sif::SifBuilder;
use sifleet_tests::sif::sign::{PgpSigner, PlainSigner, object_at, signed_by_pgp, signed_by_plain};
use sifleet_tests::wait::until;

fn plain(seed: u64) -> SifBuilder {
    SifBuilder::new().payload_bytes(400_000, seed)
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::from(blake3::hash(bytes))
}

/// Changes a byte of the root file system.
fn tampered(mut image: Vec<u8>) -> Vec<u8> {
    let (offset, len) = object_at(&image, 3);
    image[offset + len / 2] ^= 1;
    image
}

/// Two nodes, of which the first holds these images.
async fn nodes(folder: &Path, images: &[&[u8]]) -> (Mover, Mover, Vec<Assignment>) {
    mover::authority(folder).unwrap();
    let mut source = Mover::start(folder, "source").unwrap();
    let target = Mover::start(folder, "target").unwrap();
    let mut assignments = Vec::new();
    for (number, bytes) in (1..).zip(images) {
        fs::write(source.root.join(format!("{number}.sif")), bytes).unwrap();
        source.sees(&format!("{number}.sif"), digest(bytes)).await.unwrap();
        let map = source.map(digest(bytes)).await.unwrap();
        let mut one = assignment(digest(bytes), bytes.len() as u64, map, vec![source.peer.clone()]);
        one.id = AssignmentId(number);
        one.name = format!("{number}.sif").parse().unwrap();
        assignments.push(one);
    }
    (source, target, assignments)
}

fn nothing_is_left(root: &Path) -> bool {
    let in_staging = fs::read_dir(root.join(".sifleet")).map(Iterator::count).unwrap_or_default();
    let files = fs::read_dir(root).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_file());
    in_staging == 0 && files.count() == 0
}

async fn under(target: &mut Mover, policy: &Policy, assignment: &Assignment) -> Progress {
    target.assign_under(policy.clone(), assignment.clone()).await.unwrap();
    target.end(assignment.id).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_publishes_only_what_its_partitions_let_pass() {
    let (signer, stranger) = (PgpSigner::new(1), PgpSigner::new(2));
    let signed = signed_by_pgp(&plain(1), &signer).bytes();
    let images = [
        plain(2).bytes(),
        tampered(signed.clone()),
        signed_by_pgp(&plain(3), &stranger).bytes(),
        signed.clone(),
    ];
    let folder = tempfile::tempdir().unwrap();
    let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
    let (mut source, mut target, assignments) = nodes(folder.path(), &images).await;
    let by = [signer.fingerprint().parse().unwrap()];
    let policy = Policy::signed_by(by.into());

    let before = under(&mut target, &policy, &assignments[3]).await;
    assert_eq!(before.failure.unwrap().0, FailCode::Refused, "nobody said whose signatures count");
    let material = Arc::new(KeyMaterial { legacy: false, openpgp: vec![signer.public()], plain: Vec::new() });
    for node in [&source, &target] {
        node.orders.send(Order::Keyring(Arc::clone(&material))).await.unwrap();
    }
    let expected = [
        (FailCode::NotSigned, "not signed".to_owned()),
        (FailCode::SignatureBad, "object 3: its data were changed after signing".to_owned()),
        (
            FailCode::SignerNotTrusted,
            format!("signature 4 is by key {}, which is not in the keyring", stranger.fingerprint()),
        ),
    ];
    for (assignment, expected) in assignments.iter().zip(expected) {
        let ended = under(&mut target, &policy, assignment).await;
        assert_eq!((ended.phase, ended.failure), (Phase::Failed, Some(expected)));
        assert!(nothing_is_left(&target.root));
    }
    let ended = under(&mut target, &policy, &assignments[3]).await;
    assert_eq!((ended.phase, ended.failure), (Phase::Done, None));
    assert!(fs::read(target.root.join("4.sif")).unwrap() == signed);

    let verified = source.verify(assignments[3].image).await.unwrap();
    assert_eq!(verified.verdict, Some(Verdict::Signed { by: by.into() }));
    assert_eq!(verified.keyring, material.digest());
    let verified = source.verify(assignments[1].image).await.unwrap();
    assert_eq!(verified.verdict, Some(Verdict::Bad { object: Some(3), why: Why::Data }));
    let verified = source.verify(Digest::from_bytes([9; 32])).await.unwrap();
    assert_eq!(verified.verdict, None, "{}", verified.detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_said_while_an_image_is_fetched_holds_at_its_end() {
    let images = [plain(1).bytes()];
    let folder = tempfile::tempdir().unwrap();
    let (_source, mut target, assignments) = nodes(folder.path(), &[&images[0]]).await;
    let slow = Assignment { rate: Some(100_000), ..assignments[0].clone() };
    target.assign(slow.clone()).await.unwrap();
    while target.progress().await.unwrap().phase != Phase::Fetching {}
    target.orders.send(Order::Keyring(Arc::new(KeyMaterial::default()))).await.unwrap();
    let ended = under(&mut target, &Policy::Signed, &Assignment { rate: None, ..slow }).await;
    assert_eq!(ended.failure.map(|(code, _)| code), Some(FailCode::NotSigned));
    assert!(nothing_is_left(&target.root));
}

/// A cluster whose partition `viz` asks for a signature by one of these keys, and `open` for nothing.
fn cluster(keys: &[&str]) -> Cluster {
    let mut cluster = Cluster::lay_out(Plan {
        name: "signed",
        partitions: BTreeMap::from([("viz", "viz1"), ("open", "open1")]),
        nodes: vec!["head", "viz1", "open1"],
        library: Some("head"),
        lease: Duration::from_secs(4),
    })
    .unwrap();
    fs::create_dir(cluster.folder().join("keyring")).unwrap();
    let settings = cluster.folder().join("coordinator.toml");
    let text = format!(
        "{}\n[signatures]\nkeyring = {:?}\n[[signatures.policy]]\npartition = \"viz\"\nrequire = \"signed-by\"\nby = {keys:?}\n",
        fs::read_to_string(&settings).unwrap(),
        cluster.folder().join("keyring"),
    );
    fs::write(settings, text).unwrap();
    assert!(cluster.start_coordinator().is_err(), "a policy names keys that are not there");
    assert!(cluster.log(COORDINATOR).contains("holds no key"), "{}", cluster.log(COORDINATOR));
    cluster
}

/// Pushes a file and returns how each node fared.
fn push(cluster: &Cluster, name: &str, bytes: &[u8], partition: &str) -> Vec<Value> {
    let path = cluster.folder().join(name);
    fs::write(&path, bytes).unwrap();
    let output = cluster.cli(&["push", path.to_str().unwrap(), "-p", partition]).unwrap();
    let push = cluster.get("/v1/pushes").unwrap()["pushes"][0].clone();
    assert_eq!(push["state"] == "done", output.status.success(), "{output:?}");
    let id = push["id"].as_str().unwrap();
    cluster.get(&format!("/v1/pushes/{id}/nodes")).unwrap()["nodes"].as_array().cloned().unwrap()
}

fn told(node: &Value) -> (&str, &str, &str) {
    let text = |field: &str| node[field].as_str().unwrap_or_default();
    (text("phase"), text("code"), text("message"))
}

#[test]
fn a_partition_gets_the_images_it_trusts_and_says_why_it_does_not_get_the_others() {
    let (signer, late) = (PgpSigner::new(1), PlainSigner::ed25519(2));
    let mut cluster = cluster(&[&signer.fingerprint(), &late.fingerprint()]);
    let keyring = cluster.folder().join("keyring");
    fs::write(keyring.join("signer.asc"), signer.armored()).unwrap();
    fs::write(keyring.join("late.pem"), late.public_pem()).unwrap();
    cluster.start_all().unwrap();
    let held = |cluster: &Cluster, node: &str, name: &str| cluster.root(node).join(name).exists();

    let signed = signed_by_pgp(&plain(1), &signer).bytes();
    assert_eq!(told(&push(&cluster, "signed.sif", &signed, "viz")[0]), ("done", "", ""));
    assert!(fs::read(cluster.root("viz1").join("signed.sif")).unwrap() == signed);

    let nodes = push(&cluster, "unsigned.sif", &plain(2).bytes(), "viz");
    assert_eq!(told(&nodes[0]), ("failed", "not_signed", "not signed"));
    let nodes = push(&cluster, "tampered.sif", &tampered(signed.clone()), "viz");
    let words = "object 3: its data were changed after signing";
    assert_eq!(told(&nodes[0]), ("failed", "signature_bad", words));
    let stranger = PlainSigner::ed25519(3);
    let foreign = signed_by_plain(&plain(3), &[&stranger]).bytes();
    let nodes = push(&cluster, "foreign.sif", &foreign, "viz");
    assert_eq!(told(&nodes[0]).1, "signer_not_trusted");
    for name in ["unsigned.sif", "tampered.sif", "foreign.sif"] {
        assert!(!held(&cluster, "viz1", name), "{name} was published");
    }
    assert_eq!(told(&push(&cluster, "unsigned.sif", &plain(2).bytes(), "open")[0]).0, "done");
    assert!(held(&cluster, "open1", "unsigned.sif"));

    // Another key is trusted, without a restart; a keyring that cannot be read changes nothing.
    let settings = cluster.folder().join("coordinator.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, text.replace(&late.fingerprint(), &stranger.fingerprint())).unwrap();
    let reload = |cluster: &Cluster, words: &str| {
        let pid = cluster.pid(COORDINATOR).unwrap().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
        let heard = || {
            anyhow::ensure!(cluster.log(COORDINATOR).contains(words), "{words} is not in the log");
            Ok(())
        };
        until("the settings are read", LIMIT, heard).unwrap();
    };
    reload(&cluster, "what is asked of signatures stays as it was");
    assert_eq!(told(&push(&cluster, "foreign.sif", &foreign, "viz")[0]).1, "signer_not_trusted");
    fs::write(keyring.join("stranger.pem"), stranger.public_pem()).unwrap();
    reload(&cluster, "what is asked of signatures is read");
    assert_eq!(told(&push(&cluster, "foreign.sif", &foreign, "viz")[0]), ("done", "", ""));
}
