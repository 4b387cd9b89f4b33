//! Answers that the tests of the outputs share, and what a person sees of them.

use sifleet_common::api::availability::{Availability, Degraded, DigestNodes, Nodes, PathNodes, Reason};
use sifleet_common::api::nodes::{NodeState, NodeSummary};
use sifleet_common::api::partitions::Membership;
use sifleet_common::availability::{Counts, NodeAnswer, Satisfied, Verdict};

use sifleet_common::api::pushes::{
    PhaseNodes, PushBody, PushBytes, PushNode, PushReason, PushState, SourceBytes,
};
use sifleet_common::push::{FailCode, Phase};

use super::{Note, Render, text};

/// When all samples are true.
pub(super) const NOW: &str = "2026-03-01T12:00:00.000Z";

/// Standard output without colours.
pub(super) fn plain(value: &impl Render, wide: bool) -> String {
    anstream::adapter::strip_str(&text::layout(&value.blocks(wide))).to_string()
}

/// Standard output, a rule, standard error; without colours.
pub(super) fn both(value: &impl Render, wide: bool) -> String {
    let notes: String = value.notes().iter().map(Note::line).collect();
    format!("{}---\n{}", plain(value, wide), anstream::adapter::strip_str(&notes))
}

/// Nodes with a digest made of one digit.
pub(super) fn digest_nodes(digit: char, count: u32, nodes: &str) -> DigestNodes {
    DigestNodes { digest: format!("blake3:{}", digit.to_string().repeat(64)), count, nodes: nodes.into() }
}

/// A node that was heard of a minute before [`NOW`].
pub(super) fn node(name: &str, state: NodeState) -> NodeSummary {
    NodeSummary {
        name: name.into(),
        state,
        degraded: vec![],
        epoch: 0,
        enrolled: None,
        revoked: None,
        busy: None,
        partitions: vec!["shared".into(), "viz".into()],
        images: 3,
        last_seen: Some("2026-03-01T11:59:00Z".into()),
        build: Some("0.1.0".into()),
        arch: Some("amd64".into()),
    }
}

/// A list of nodes that Slurm gave a minute before [`NOW`].
pub(super) fn membership() -> Membership {
    Membership { source: "slurm".into(), as_of: "2026-03-01T11:59:00Z".into(), stale: false, reason: None }
}

/// One node ready, one without, two unknown, with drift and a degraded node.
pub(super) fn availability() -> Availability {
    let reason = |answer, code: &str, message: &str, nodes: &str| Reason {
        answer,
        code: code.into(),
        message: message.into(),
        count: 1,
        nodes: nodes.into(),
    };
    Availability {
        image: "vnc_desktop.sif".into(),
        partition: "viz".into(),
        verdict: Verdict::Partial,
        require: "all".into(),
        satisfied: Satisfied::No,
        message: "1 of 4 nodes".into(),
        expected_digest: Some(digest_nodes('0', 1, "").digest),
        counts: Counts { ready: 1, outdated: 0, missing: 1, unknown: 2 },
        nodes: Nodes {
            ready: "viz001".into(),
            outdated: String::new(),
            missing: "viz002".into(),
            unknown: "viz[003-004]".into(),
        },
        digests: vec![digest_nodes('0', 1, "viz001"), digest_nodes('1', 1, "viz003")],
        paths: vec![PathNodes {
            path: "/opt/apptainers/vnc_desktop.sif".into(),
            count: 1,
            nodes: "viz001".into(),
        }],
        reasons: vec![
            reason(NodeAnswer::Missing, "absent", "no file of this name below any root", "viz002"),
            reason(
                NodeAnswer::Unknown,
                "lease_expired",
                "no sign of life for 42 s; it held blake3:0123456789ab",
                "viz003",
            ),
            reason(NodeAnswer::Unknown, "never_seen", "never seen", "viz004"),
        ],
        degraded: vec![Degraded { reason: "no inotify watches left".into(), nodes: "viz001".into() }],
        membership: membership(),
        as_of: NOW.into(),
        generation: 7,
    }
}

/// A push to five nodes: two done, one fetching, one failed, one away.
pub(crate) fn push(state: PushState) -> PushBody {
    let phase = |phase, count, nodes: &str| PhaseNodes { phase, count, nodes: nodes.into() };
    PushBody {
        id: "7".into(),
        image: "vnc_desktop.sif".into(),
        digest: digest_nodes('0', 1, "").digest,
        size: 1_000_000,
        state,
        completion: "all".into(),
        from: None,
        root: None,
        created: "2026-03-01T11:59:00Z".into(),
        ended: (state != PushState::Running).then(|| NOW.into()),
        deadline: "2026-03-02T11:59:00Z".into(),
        rate: None,
        priority: 100,
        nodes: 5,
        phases: vec![
            phase(Phase::Fetching, 1, "viz003"),
            phase(Phase::Done, 2, "viz[001-002]"),
            phase(Phase::Failed, 1, "viz004"),
            phase(Phase::Deferred, 1, "viz005"),
        ],
        reasons: vec![PushReason {
            code: "no_space".into(),
            count: 1,
            nodes: "viz004".into(),
            message: "/opt has 5 bytes free".into(),
            hint: FailCode::NoSpace.hint().into(),
        }],
        bytes: PushBytes {
            total: 5_000_000,
            fetched: 2_000_000,
            reused: 500_000,
            resumed: 0,
            present: 0,
            wasted: 0,
            rate: 100_000,
        },
        dropped: vec![],
    }
}

/// A node that fetches.
pub(crate) fn push_node(name: &str, fetched: u64, rate: u64) -> PushNode {
    PushNode {
        node: name.into(),
        phase: Phase::Fetching,
        code: None,
        message: None,
        hint: None,
        root: None,
        fetched,
        reused: 0,
        resumed: 0,
        wasted: 0,
        rate,
        sources: vec![SourceBytes { node: "head".into(), bytes: fetched }],
        started: None,
        ended: None,
    }
}
