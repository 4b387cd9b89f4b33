//! One of every order, report and message between two agents.

use std::net::SocketAddr;
use std::sync::Arc;

use sifleet_common::capability::{Capability, Signer};
use sifleet_common::chunk::span::SpanId;
use sifleet_common::chunk::{Chunk, ChunkDigest, ChunkPrefix, MapDigest};
use sifleet_common::digest::Digest;
use sifleet_common::inventory::RootId;
use sifleet_common::keyring::KeyMaterial;
use sifleet_common::name::{ImageName, NodeName};
use sifleet_common::policy::{Fingerprint, Policy, Verdict, Why};
use sifleet_common::push::{FailCode, Fault, Phase};
use sifleet_common::removal::RemovalCode;
use sifleet_common::time::UnixMillis;
use sifleet_common::wire::assignment::{
    Assignment, AssignmentId, Mapped, Moved, Order, Peer, Progress, Rates, Removal, RemovalOutcome, Removed,
    Report, Verified,
};
use sifleet_common::wire::chunk::{Choice, MapPart, Offer, Opening, OutlinePart, Rest, Run, Turn, Wish};

const CODES: [FailCode; 18] = [
    FailCode::NoSpace,
    FailCode::Quota,
    FailCode::ReadOnly,
    FailCode::Permission,
    FailCode::NoRoot,
    FailCode::Io,
    FailCode::NoSource,
    FailCode::NoMap,
    FailCode::WrongDigest,
    FailCode::Refused,
    FailCode::Silent,
    FailCode::Deadline,
    FailCode::Unusable,
    FailCode::InTheWay,
    FailCode::NotSigned,
    FailCode::SignatureBad,
    FailCode::SignerNotTrusted,
    FailCode::RootUnknown,
];

const WHYS: [Why; 20] = [
    Why::NotWhole,
    Why::TooMany,
    Why::TooLong,
    Why::Unreadable,
    Why::Forged,
    Why::Hash,
    Why::Expired,
    Why::Time,
    Why::KeyRevoked,
    Why::KeyExpired,
    Why::KeyUnfit,
    Why::OtherKey,
    Why::Header,
    Why::Descriptor,
    Why::Data,
    Why::NotSigned,
    Why::Missing,
    Why::NoGroup,
    Why::GroupNotSigned,
    Why::NoPrimary,
];

const FAULTS: [Fault; 5] = [Fault::Poisoned, Fault::Lied, Fault::Garbage, Fault::Stalled, Fault::Unreachable];

const ID: AssignmentId = AssignmentId(300);

fn image() -> Digest {
    Digest::from_bytes([5; 32])
}

fn map() -> MapDigest {
    MapDigest::from_bytes([6; 32])
}

fn name() -> ImageName {
    "viz/vnc_desktop.sif".parse().unwrap_or_else(|_| panic!("a name"))
}

fn node() -> NodeName {
    "viz001".parse().unwrap_or_else(|_| panic!("a node"))
}

fn signer() -> Signer {
    Signer::from_seed(&[7; 32]).unwrap_or_else(|_| panic!("a signer"))
}

/// Ed25519 makes the same signature of the same text every time.
fn capability() -> Capability {
    signer().permit(&node(), image(), UnixMillis(1_700_000_000_000))
}

/// One of every order; one that is added makes [`order_said`] fail to compile and belongs in here.
pub(crate) fn orders() -> Vec<(String, Order)> {
    let assignment = |peers, rate| Assignment {
        id: ID,
        image: image(),
        size: 1 << 33,
        map: map(),
        root: RootId(1),
        name: name(),
        peers,
        rate,
        priority: 100,
        capability: capability(),
    };
    let peer = |address: SocketAddr| Peer { node: node(), address };
    let addresses =
        [SocketAddr::from(([10, 0, 0, 1], 7_442)), SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, 1], 1))];
    let all = vec![
        Order::MakeMap { image: image() },
        Order::Assign(assignment(Vec::new(), None)),
        Order::Assign(assignment(addresses.map(peer).to_vec(), Some(1_000_000))),
        Order::Unassign { id: ID },
        Order::Assigned { ids: vec![AssignmentId(1), ID] },
        Order::Rates(Rates { up: None, down: Some(5) }),
        Order::Remove(Removal { id: ID, root: RootId(1), name: name(), image: image() }),
        Order::Concurrent { fetches: None },
        Order::Concurrent { fetches: Some(300) },
        Order::Capabilities { key: signer().key().unwrap_or_else(|_| panic!("a key")) },
        Order::Keyring(Arc::new(KeyMaterial {
            legacy: true,
            openpgp: vec![vec![1, 2], vec![3]],
            plain: vec![vec![4]],
        })),
        Order::Verify { image: image() },
    ];
    let under = [Policy::Any, Policy::Signed, policy()]
        .map(|policy| Order::AssignUnder { policy, assignment: assignment(Vec::new(), None) });
    let all = all.into_iter().chain(under);
    all.map(|order| (order_said(&order), order)).collect()
}

fn order_said(order: &Order) -> String {
    match order {
        Order::MakeMap { .. } => "MakeMap".into(),
        Order::Assign(assignment) => format!("Assign {} peers", assignment.peers.len()),
        Order::Unassign { .. } => "Unassign".into(),
        Order::Assigned { .. } => "Assigned".into(),
        Order::Rates(_) => "Rates".into(),
        Order::Remove(_) => "Remove".into(),
        Order::Concurrent { fetches: None } => "Concurrent as set".into(),
        Order::Concurrent { fetches: Some(_) } => "Concurrent".into(),
        Order::Capabilities { .. } => "Capabilities".into(),
        Order::Keyring(_) => "Keyring".into(),
        Order::AssignUnder { policy: Policy::Any, .. } => "AssignUnder any".into(),
        Order::AssignUnder { policy: Policy::Signed, .. } => "AssignUnder signed".into(),
        Order::AssignUnder { policy: Policy::SignedBy(_), .. } => "AssignUnder signed by".into(),
        Order::Verify { .. } => "Verify".into(),
    }
}

/// One of every report; one that is added makes [`report_said`] fail to compile and belongs in here.
pub(crate) fn reports() -> Vec<(String, Report)> {
    let mapped = |map, detail: &str| Report::Mapped(Mapped { image: image(), map, detail: detail.into() });
    let progress = |phase| Progress {
        id: ID,
        phase,
        bytes: Moved { fetched: 1, reused: 300, resumed: 1 << 20, wasted: 1 << 40 },
        sources: vec![(node(), 7)],
        dropped: Vec::new(),
        failure: None,
    };
    let mut all = vec![mapped(Some(map()), ""), mapped(None, "it cannot be read")];
    all.extend(Phase::ALL.map(|phase| Report::Progress(progress(phase))));
    all.extend(CODES.map(|code| {
        Report::Progress(Progress { failure: Some((code, "because".into())), ..progress(Phase::Failed) })
    }));
    all.extend(FAULTS.map(|fault| {
        Report::Progress(Progress { dropped: vec![(node(), fault)], ..progress(Phase::Fetching) })
    }));
    let outcomes = [RemovalOutcome::Gone, RemovalOutcome::Absent, RemovalOutcome::Busy];
    let outcomes = outcomes.into_iter().chain(RemovalCode::ALL.map(RemovalOutcome::Failed));
    all.extend(
        outcomes.map(|outcome| Report::Removed(Removed { id: ID, outcome, detail: "because".into() })),
    );
    all.extend(verdicts().into_iter().map(|verdict| {
        let keyring = Digest::from_bytes([7; 32]);
        Report::Verified(Verified { image: image(), keyring, verdict, detail: "because".into() })
    }));
    all.into_iter().map(|report| (report_said(&report), report)).collect()
}

fn policy() -> Policy {
    Policy::SignedBy([[Fingerprint::Pgp([1; 20]), Fingerprint::Plain([2; 32])].into()].into())
}

fn verdicts() -> Vec<Option<Verdict>> {
    let mut all = vec![
        None,
        Some(Verdict::Unsigned),
        Some(Verdict::Signed { by: [Fingerprint::Pgp([1; 20])].into() }),
        Some(Verdict::UnknownKey { signature: 4, key: "ABCD".into() }),
    ];
    let object = |at: usize| u32::try_from(at).ok().filter(|at| *at > 0);
    all.extend(WHYS.iter().enumerate().map(|(at, why)| Some(Verdict::Bad { object: object(at), why: *why })));
    all
}

fn report_said(report: &Report) -> String {
    match report {
        Report::Mapped(Mapped { map: Some(_), .. }) => "Mapped".into(),
        Report::Mapped(Mapped { map: None, .. }) => "Mapped not".into(),
        Report::Progress(Progress { failure: Some((code, _)), .. }) => format!("Progress failed {code}"),
        Report::Progress(Progress { dropped, phase, .. }) => match dropped.first() {
            Some((_, fault)) => format!("Progress dropped {fault}"),
            None => format!("Progress {phase}"),
        },
        Report::Verified(Verified { verdict, .. }) => match verdict {
            None => "Verified not".into(),
            Some(Verdict::Unsigned) => "Verified unsigned".into(),
            Some(Verdict::Signed { .. }) => "Verified signed".into(),
            Some(Verdict::Bad { why, .. }) => format!("Verified bad {why:?}"),
            Some(Verdict::UnknownKey { .. }) => "Verified unknown".into(),
        },
        Report::Removed(Removed { outcome: RemovalOutcome::Failed(code), .. }) => {
            format!("Removed failed {code}")
        }
        Report::Removed(Removed { outcome, .. }) => format!("Removed {outcome:?}"),
    }
}

fn runs() -> Vec<Run> {
    vec![Run { first: 0, count: 3 }, Run { first: 70_000, count: 1 }]
}

/// One of everything that opens a stream of a fetcher.
pub(crate) fn openings() -> [(&'static str, Opening); 3] {
    [
        (
            "Opening follow",
            Opening::Follow { image: image(), map: map(), lacks: runs(), capability: capability() },
        ),
        ("Opening map", Opening::Map { image: image(), capability: capability() }),
        ("Opening outline", Opening::Outline { image: image(), capability: capability() }),
    ]
}

/// One of everything that a follower says.
pub(crate) fn wishes() -> [(&'static str, Wish); 2] {
    [("Wish want", Wish::Want), ("Wish got", Wish::Got(runs()))]
}

/// One of everything that a follower is told.
pub(crate) fn offers() -> [(&'static str, Offer); 3] {
    [
        ("Offer spans", Offer::Spans(runs())),
        ("Offer alone", Offer::Alone(runs())),
        ("Offer absent", Offer::Absent),
    ]
}

/// What opens a stream of a source.
pub(crate) fn turns() -> [(&'static str, Turn); 1] {
    [("Turn", Turn { image: image() })]
}

/// One of everything that answers a turn.
pub(crate) fn choices() -> [(&'static str, Choice); 2] {
    [("Choice ask", Choice::Ask { span: SpanId(300), chunks: runs() }), ("Choice pass", Choice::Pass)]
}

/// A part of a chunk map.
pub(crate) fn parts() -> [(&'static str, MapPart); 2] {
    let chunk = |len| Chunk { digest: ChunkDigest::of(b"chunk"), len };
    let part = |chunks, last| MapPart { chunker: sifleet_common::chunk::CHUNKER, chunks, last };
    [("MapPart", part(vec![chunk(1), chunk(131_072)], false)), ("MapPart last", part(Vec::new(), true))]
}

/// A part of the outline of one.
pub(crate) fn outlines() -> [(&'static str, OutlinePart); 1] {
    let prefixes = vec![ChunkPrefix::of(&ChunkDigest::of(b"chunk")); 2];
    [("OutlinePart", OutlinePart { prefixes, last: true })]
}

/// What answers an outline.
pub(crate) fn rests() -> [(&'static str, Rest); 1] {
    [("Rest", Rest { chunks: runs() })]
}
