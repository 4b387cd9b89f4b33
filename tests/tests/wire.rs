//! What every message looks like in bytes: an agent and a coordinator of different releases must read each other.
//!
//! The golden bytes are in `golden/wire`. A message may be added; one that is there may not change without another
//! ALPN, however small the change looks. To accept added ones run with `INSTA_UPDATE=always` and read the
//! difference: lines may only be added.

#![cfg(test)]

#[path = "wire/pulls.rs"]
mod pulls;
#[path = "wire/transfers.rs"]
mod transfers;

use std::fmt::{Debug, Write as _};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use sifleet_common::digest::Digest;
use sifleet_common::image::{
    App, Arch, FileSystem, Format, HashAlgorithm, ImageMetadata, PartitionRole, Runnable,
};
use sifleet_common::image::{SifPartition, Signature, SignatureKind};
use sifleet_common::inventory::{
    Change, Content, Generation, Image, Inventory, Pending, Replica, ReplicaKey, Root, RootId, RootKind,
    RootState, Unusable, UnusableCode,
};
use sifleet_common::time::UnixMillis;
use sifleet_common::wire::CONTROL_ALPN;
use sifleet_common::wire::chunk::CHUNK_ALPN;
use sifleet_common::wire::control::{
    Delta, Described, Heartbeat, Hello, Known, Snapshot, Stamp, StreamId, ToAgent, ToCoordinator, Welcome,
};
use sifleet_common::wire::enrol::{Answer, Ask, Certificates, ENROL_ALPN, Enrolment, Secret};
use sifleet_common::wire::frame::{decode, encode};

const CODES: [UnusableCode; 12] = [
    UnusableCode::NotAnImage,
    UnusableCode::Truncated,
    UnusableCode::Malformed,
    UnusableCode::NothingToRun,
    UnusableCode::Sandbox,
    UnusableCode::Symlink,
    UnusableCode::SpecialFile,
    UnusableCode::BadName,
    UnusableCode::Unreadable,
    UnusableCode::Private,
    UnusableCode::WrongArch,
    UnusableCode::Sparse,
];

const ARCHES: [Arch; 14] = [
    Arch::Unknown,
    Arch::I386,
    Arch::Amd64,
    Arch::Arm,
    Arch::Arm64,
    Arch::Ppc64,
    Arch::Ppc64le,
    Arch::Mips,
    Arch::Mipsle,
    Arch::Mips64,
    Arch::Mips64le,
    Arch::S390x,
    Arch::Riscv64,
    Arch::Loong64,
];

#[test]
fn what_agents_say_looks_as_it_always_did() {
    let mut golden = String::new();
    for (name, message) in from_agents() {
        let body = encode(&message).unwrap();
        assert_eq!(decode::<ToCoordinator>(&body).unwrap(), message, "{name}");
        writeln!(golden, "{name}: {}", hex(&body)).unwrap();
    }
    check("agent_says", &golden);
}

#[test]
fn what_the_coordinator_says_looks_as_it_always_did() {
    let mut golden = format!("ALPN: {}\n", String::from_utf8_lossy(CONTROL_ALPN));
    for (name, message) in from_coordinator() {
        let body = encode(&message).unwrap();
        assert_eq!(decode::<ToAgent>(&body).unwrap(), message, "{name}");
        writeln!(golden, "{name}: {}", hex(&body)).unwrap();
    }
    check("coordinator_says", &golden);
}

#[test]
fn what_agents_say_to_one_another_looks_as_it_always_did() {
    let mut golden = format!("ALPN: {}\n", String::from_utf8_lossy(CHUNK_ALPN));
    lines(&mut golden, transfers::openings());
    lines(&mut golden, transfers::wishes());
    lines(&mut golden, transfers::offers());
    lines(&mut golden, transfers::turns());
    lines(&mut golden, transfers::choices());
    lines(&mut golden, transfers::parts());
    lines(&mut golden, transfers::outlines());
    lines(&mut golden, transfers::rests());
    check("agents_among_themselves", &golden);
}

fn lines<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    golden: &mut String,
    messages: impl IntoIterator<Item = (&'static str, T)>,
) {
    for (name, message) in messages {
        let body = encode(&message).unwrap();
        assert_eq!(decode::<T>(&body).unwrap(), message, "{name}");
        writeln!(golden, "{name}: {}", hex(&body)).unwrap();
    }
}

#[test]
fn two_inventories_agree_by_the_digest_they_always_had() {
    let mut inventory = Inventory::default();
    let empty = inventory.digest();
    for change in changes() {
        inventory.apply(change);
    }
    check("inventory_digest", &format!("empty: {}\nfull: {}\n", json!(empty), json!(inventory.digest())));
}

fn check(name: &str, golden: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../golden/wire");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, golden));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn from_agents() -> Vec<(String, ToCoordinator)> {
    let generation = Generation(70_000);
    let digest = Inventory::default().digest();
    let hello = |arch| Hello {
        stream: StreamId(0x0102_0304_0506_0708),
        generation,
        digest,
        build: "0.1.0".to_owned(),
        arch,
        partitions: "viz".parse().into_iter().collect(),
        transfer_port: 7_442,
    };
    let described =
        |metadata| Described { digest: Digest::from_bytes([3; 32]), metadata, sidecar: Some("{}".into()) };
    let mut all: Vec<(String, ToCoordinator)> =
        ARCHES.into_iter().map(|arch| (format!("Hello {arch}"), ToCoordinator::Hello(hello(arch)))).collect();
    all.push((
        "Snapshot".into(),
        ToCoordinator::Snapshot(Snapshot { generation, part: 2, last: true, changes: Vec::new() }),
    ));
    for change in changes() {
        let name = format!("Delta {}", said(&change));
        all.push((name, ToCoordinator::Delta(Delta { generation, changes: vec![change] })));
    }
    all.push((
        "Heartbeat".into(),
        ToCoordinator::Heartbeat(Heartbeat { generation, digest, stamp: Stamp(9) }),
    ));
    all.push(("Described gone".into(), ToCoordinator::Described(Box::new(described(None)))));
    for (name, metadata) in metadata() {
        all.push((
            format!("Described {name}"),
            ToCoordinator::Described(Box::new(described(Some(metadata)))),
        ));
    }
    all.push(("Goodbye".into(), ToCoordinator::Goodbye));
    all.push(("Renew".into(), ToCoordinator::Renew));
    all.push(("Clock".into(), ToCoordinator::Clock { at: 1_700_000_000_000 }));
    all.push(("Reconciled".into(), ToCoordinator::Reconciled { request: 300 }));
    let pulls = pulls::pulls().into_iter();
    all.extend(pulls.map(|(name, pull)| (name, ToCoordinator::Pull(Box::new(pull)))));
    let reports = transfers::reports().into_iter();
    all.extend(reports.map(|(name, report)| (name, ToCoordinator::Report(Box::new(report)))));
    all
}

fn from_coordinator() -> Vec<(String, ToAgent)> {
    let stamp = Stamp(300);
    let welcome = |known| ToAgent::Welcome(Welcome { known, lease_ms: 30_000, heartbeat_ms: 10_000, stamp });
    let mut all: Vec<(String, ToAgent)> = vec![
        ("Welcome current".into(), welcome(Known::Current)),
        ("Welcome at".into(), welcome(Known::At(Generation(5)))),
        ("Welcome nothing".into(), welcome(Known::Nothing)),
        ("Ack".into(), ToAgent::Ack { generation: Generation(6), stamp }),
        ("Resync".into(), ToAgent::Resync { stamp }),
        ("Describe".into(), ToAgent::Describe { digest: Digest::from_bytes([4; 32]) }),
        ("Rescan".into(), ToAgent::Rescan),
        ("Renewed".into(), ToAgent::Renewed(Box::new(certificates()))),
        ("RenewNow".into(), ToAgent::RenewNow),
        ("Reconcile".into(), ToAgent::Reconcile { request: 300 }),
    ];
    let pulled = pulls::pulled().into_iter();
    all.extend(pulled.map(|(name, pulled)| (name, ToAgent::Pulled(Box::new(pulled)))));
    let orders = transfers::orders().into_iter();
    all.extend(orders.map(|(name, order)| (name, ToAgent::Order(Box::new(order)))));
    all
}

fn certificates() -> Certificates {
    let node = "viz001".parse().unwrap_or_else(|_| panic!("a name"));
    Certificates { node, chain: vec![vec![1, 2], vec![3]], authorities: vec![vec![4]] }
}

#[test]
fn enrolment_looks_as_it_always_did() {
    let mut golden = format!("ALPN: {}\n", String::from_utf8_lossy(ENROL_ALPN));
    let enrolment = |name: Option<&str>| {
        let name = name.map(|name| name.parse().unwrap_or_else(|_| panic!("a name")));
        Ask::Enrol(Enrolment { token: Secret("secret".to_owned()), request: vec![1, 2, 3], name })
    };
    lines(
        &mut golden,
        [("Enrol", enrolment(None)), ("Enrol with a name", enrolment(Some("viz001"))), ("Renew", Ask::Renew)],
    );
    let refused = Answer::Refused { reason: "no".to_owned() };
    lines(&mut golden, [("Granted", Answer::Granted(certificates())), ("Refused", refused)]);
    check("enrolment", &golden);
}

/// One of each kind of change; a kind that is added makes [`said`] fail to compile and belongs in here.
fn changes() -> Vec<Change> {
    let key = || ReplicaKey {
        root: RootId(1),
        name: "viz/vnc_desktop.sif".parse().unwrap_or_else(|_| panic!("a name")),
    };
    let reason = || "because".to_owned();
    let root = |kind, state| Change::Root(RootId(1), Root { path: "/opt/apptainers".into(), kind, state });
    let put = |content| Change::Put(key(), Replica { size: 1 << 33, modified: UnixMillis(-1), content });
    let image = |format| {
        Content::Image(Image {
            digest: Digest::from_bytes([2; 32]),
            format,
            arch: Arch::Amd64,
            mutable: format == Format::Ext3,
        })
    };
    let mut all = vec![
        root(RootKind::Plain, RootState::Watched),
        root(RootKind::Library, RootState::Degraded { reason: reason() }),
        root(RootKind::Plain, RootState::Unknown { reason: reason() }),
        root(RootKind::Plain, RootState::Partial { reason: reason() }),
        root(RootKind::Untrusted, RootState::Watched),
        put(Content::Pending(Pending::BeingWritten)),
        put(Content::Pending(Pending::Hashing)),
    ];
    all.extend([Format::Sif, Format::Squashfs, Format::Ext3, Format::Sandbox].map(image).map(put));
    all.extend(CODES.map(|code| put(Content::Unusable(Unusable { code, detail: reason() }))));
    all.push(Change::Remove(key()));
    all
}

fn said(change: &Change) -> String {
    match change {
        Change::Root(_, Root { kind: RootKind::Untrusted, .. }) => "root untrusted".into(),
        Change::Root(_, Root { state: RootState::Watched, .. }) => "root watched".into(),
        Change::Root(_, Root { state: RootState::Degraded { .. }, .. }) => "root degraded".into(),
        Change::Root(_, Root { state: RootState::Unknown { .. }, .. }) => "root unknown".into(),
        Change::Root(_, Root { state: RootState::Partial { .. }, .. }) => "root partial".into(),
        Change::Put(_, Replica { content: Content::Pending(Pending::BeingWritten), .. }) => {
            "being written".into()
        }
        Change::Put(_, Replica { content: Content::Pending(Pending::Hashing), .. }) => "hashing".into(),
        Change::Put(_, Replica { content: Content::Image(image), .. }) => format!("image {}", image.format),
        Change::Put(_, Replica { content: Content::Unusable(what), .. }) => what.code.as_str().into(),
        Change::Remove(_) => "remove".into(),
    }
}

/// Metadata that holds something in every field, and all that its enumerations can say.
fn metadata() -> Vec<(&'static str, ImageMetadata)> {
    use FileSystem as F;
    let systems =
        [F::Unknown, F::Squashfs, F::Ext3, F::Archive, F::Raw, F::EncryptedSquashfs, F::GocryptfsSquashfs];
    let roles = [
        PartitionRole::Unknown,
        PartitionRole::System,
        PartitionRole::PrimarySystem,
        PartitionRole::Data,
        PartitionRole::Overlay,
    ];
    let kinds = [SignatureKind::Pgp, SignatureKind::Dsse, SignatureKind::Legacy, SignatureKind::Unreadable];
    let partitions = systems.into_iter().zip(roles.into_iter().cycle()).zip(1..);
    let some = |text: &str| Some(text.to_owned());
    let map = || [("a".to_owned(), "b".to_owned())].into();
    let full = ImageMetadata {
        arch: Arch::Amd64,
        uuid: some("00000000-0000-0000-0000-000000000001"),
        created: Some(1_700_000_000),
        modified: Some(-1),
        objects: 3,
        partitions: partitions
            .map(|((file_system, role), id)| SifPartition {
                id,
                file_system,
                role,
                arch: Arch::Amd64,
                offset: 4_096,
                size: 8_192,
            })
            .collect(),
        definition: some("definition"),
        labels: map(),
        environment: map(),
        runscript: some("run"),
        startscript: some("start"),
        test: some("test"),
        help: some("help"),
        apps: [(
            "app".to_owned(),
            App { labels: map(), environment: map(), runscript: some("r"), test: None, help: None },
        )]
        .into(),
        signatures: kinds.into_iter().map(signature).collect(),
        oci_config: some("{}"),
        notes: vec!["note".to_owned()],
        ..ImageMetadata::bare(Format::Sif, 9)
    };
    let runs = |runnable| ImageMetadata { runnable, ..ImageMetadata::bare(Format::Ext3, 9) };
    vec![
        ("full", full),
        ("runnable", runs(Runnable::Yes)),
        ("without primary", runs(Runnable::NoPrimaryPartition)),
        ("with several primaries", runs(Runnable::SeveralPrimaryPartitions)),
        ("of unsupported file system", runs(Runnable::UnsupportedFileSystem)),
        ("of damaged file system", runs(Runnable::DamagedFileSystem)),
    ]
}

fn signature(kind: SignatureKind) -> Signature {
    use HashAlgorithm as H;
    let hash = match kind {
        SignatureKind::Pgp => H::Sha256,
        SignatureKind::Dsse => H::Sha384,
        SignatureKind::Legacy => H::Blake2b,
        SignatureKind::Unreadable => H::Unknown,
    };
    Signature {
        id: 4,
        kind,
        hash,
        fingerprint: Some("ab".to_owned()),
        key_ids: vec!["cd".to_owned()],
        group: Some(1),
        objects: vec![1, 2],
        covers_data: true,
    }
}
