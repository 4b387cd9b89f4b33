//! What the state takes in, what it refuses, and what it still knows after a restart.

use std::collections::BTreeMap;

use sifleet_common::image::{Format, ImageMetadata, MAX_TEXT};
use sifleet_common::inventory::{
    Change, Content, Generation, Inventory, MAX_INVENTORY_WEIGHT, MAX_REASON, MAX_ROOTS, ReplicaKey, Root,
    RootId, RootKind, RootState, Unusable, UnusableCode,
};
use sifleet_common::time::UnixMillis;
use sifleet_common::wire::code::CloseCode;
use sifleet_common::wire::control::{Delta, Described, MAX_SIDECAR, ToAgent, ToCoordinator};

use super::testing::{Site, digest, gone, image, put, root};
use super::{Effect, Event, Limits, SessionId, check};
use crate::store::{NodeFacts, Op, Position, Restored, RestoredMembers, RestoredNode};

fn watched() -> Change {
    root(RootState::Watched)
}

/// What a store that wrote everything gives back.
fn restored(stored: &[Op]) -> Restored {
    let mut nodes: BTreeMap<_, (NodeFacts, Position, Inventory)> = BTreeMap::new();
    let mut members = BTreeMap::new();
    for op in stored.iter().cloned() {
        match op {
            Op::PutNode { node, facts } => {
                nodes.insert(node, (facts, Position::default(), Inventory::default()));
            }
            Op::Advance { node, position, changes } | Op::Replace { node, position, changes } => {
                let (_, at, inventory) = nodes.get_mut(&node).unwrap();
                *at = position;
                for change in changes {
                    inventory.apply(change);
                }
            }
            Op::PutMembers { source, at, members: said } => {
                members.insert(source.clone(), RestoredMembers { source, at, members: said });
            }
            Op::PutMetadata { .. }
            | Op::HeardOf { .. }
            | Op::PutPush { .. }
            | Op::JoinPush { .. }
            | Op::ChangePush { .. }
            | Op::PutOutcomes { .. }
            | Op::ForgetPushes { .. }
            | Op::ForgetMap { .. }
            | Op::PutMap { .. }
            | Op::PutRemoval { .. }
            | Op::ChangeRemoval { .. }
            | Op::PutRemoved { .. }
            | Op::ForgetRemovals { .. }
            | Op::PutLimits { .. }
            | Op::MarkBusy { .. }
            | Op::PutStanding { .. }
            | Op::PutInvites { .. }
            | Op::ReplaceInvites { .. }
            | Op::ForgetInvites { .. }
            | Op::PutRegistry { .. }
            | Op::ForgetRegistry { .. }
            | Op::PutToken { .. }
            | Op::TouchTokens { .. }
            | Op::ForgetTokens { .. }
            | Op::PutTemplate { .. }
            | Op::ForgetTemplate { .. }
            | Op::PutAudit { .. }
            | Op::PruneAudit { .. }
            | Op::Oci(_) => {}
        }
    }
    let node = |(node, (facts, position, inventory)): (_, (_, _, Inventory))| RestoredNode {
        node,
        facts,
        position,
        changes: inventory.as_changes().collect(),
    };
    Restored {
        nodes: nodes.into_iter().map(node).collect(),
        members: members.into_values().collect(),
        ..Restored::default()
    }
}

fn closed(site: &Site, session: SessionId) -> Option<CloseCode> {
    site.effects.iter().find_map(|effect| match effect {
        Effect::Close(closed, code, _) if *closed == session => Some(*code),
        Effect::Close(..) | Effect::Send(..) | Effect::Store(_) | Effect::Announce(_) => None,
    })
}

fn asked(site: &Site) -> Vec<SessionId> {
    let asked = site.effects.iter().filter_map(|effect| match effect {
        Effect::Send(session, ToAgent::Describe { .. }) => Some(*session),
        Effect::Send(..) | Effect::Close(..) | Effect::Store(_) | Effect::Announce(_) => None,
    });
    asked.collect()
}

#[test]
fn partitions_that_agents_declare_outlive_the_coordinator() {
    let mut site = Site::new();
    site.hello("n1", &["p", "q"]);
    site.hello("n2", &["p"]);
    let mut site = Site::with(Limits::default(), restored(&site.stored));
    let now = site.now;
    let list = site.view().partitions(now).partitions;
    let of = |name: &str| list.iter().find(|one| one.name == name).map(|one| one.nodes.clone());
    assert_eq!((of("p"), of("q")), (Some("n[1-2]".to_owned()), Some("n1".to_owned())));
    assert_eq!((list[0].membership.source.as_str(), list[0].membership.stale), ("agents", false));
    site.hello("n1", &["p", "q"]);
    assert_eq!(site.view().partitions(now).partitions[0].nodes, "n[1-2]");
    site.hello("n1", &[]);
    assert_eq!(site.view().partitions(now).partitions[0].nodes, "n2");
}

#[test]
fn every_member_of_a_partition_counts_however_few_agents_are_taken() {
    let mut site = Site::with(Limits { max_nodes: 2, ..Limits::default() }, Restored::default());
    site.partition("p", "n[1-4]");
    site.agent("n1", vec![watched(), image("a.sif", 1)]);
    site.agent("n2", vec![watched(), image("a.sif", 1)]);
    let third = site.hello("n3", &[]);
    assert_eq!(closed(&site, third), Some(CloseCode::Busy));
    assert_eq!(site.split("a.sif", "p"), ["n[1-2]", "", "", "n[3-4]"]);
    let again = site.agent("n1", vec![watched(), image("a.sif", 1)]);
    assert_eq!(closed(&site, again), None, "it has its place already");
}

#[test]
fn a_source_of_partitions_that_is_not_asked_any_longer_is_forgotten() {
    let known = |source: &str, partition: &str| RestoredMembers {
        source: source.to_owned(),
        at: UnixMillis(1),
        members: [(partition.parse().unwrap(), ["n1".parse().unwrap()].into())].into(),
    };
    let members = vec![known("file", "p"), known("slurm", "q")];
    let mut found = Restored { members, ..Restored::default() };
    let steps = found.forget_sources(&["slurm"]);
    let members = BTreeMap::new();
    assert_eq!(steps, [Op::PutMembers { source: "file".into(), at: UnixMillis(1), members }]);
    let mut site = Site::with(Limits::default(), found);
    assert!(site.ask("a.sif", "p").is_err());
    let now = site.now;
    assert_eq!(site.view().partition("q", now).unwrap().summary.nodes, "n1");
    let mut written = restored(&steps);
    assert_eq!(written.forget_sources(&[]), [], "it is forgotten once");
}

#[test]
fn whatever_exceeds_a_limit_ends_the_session_and_leaves_nothing_behind() {
    let long = || "x".repeat(MAX_REASON + 1);
    let unusable = Unusable { code: UnusableCode::Malformed, detail: long() };
    let path = "/".repeat(5_000);
    let far = RootId(u8::try_from(MAX_ROOTS).unwrap());
    let name = || "a.sif".parse().unwrap();
    for wrong in [
        put("a.sif", Content::Unusable(unusable)),
        root(RootState::Degraded { reason: long() }),
        root(RootState::Partial { reason: long() }),
        Change::Root(RootId(0), Root { path, kind: RootKind::Plain, state: RootState::Watched }),
        Change::Root(far, Root { path: "/far".into(), kind: RootKind::Plain, state: RootState::Watched }),
        Change::Remove(ReplicaKey { root: far, name: name() }),
    ] {
        let mut site = Site::new();
        site.partition("p", "n1");
        let session = site.agent("n1", vec![watched(), image("a.sif", 1)]);
        let stored = site.stored.len();
        let delta = Delta { generation: Generation(2), changes: vec![image("b.sif", 1), wrong.clone()] };
        site.say(session, ToCoordinator::Delta(delta));
        assert_eq!(closed(&site, session), Some(CloseCode::Protocol), "{wrong:?}");
        assert_eq!(site.stored.len(), stored);
        assert_eq!(site.split("a.sif", "p"), ["", "", "", "n1"]);

        let session = site.agent("n1", vec![watched(), wrong]);
        assert_eq!(closed(&site, session), Some(CloseCode::Protocol), "in a snapshot");
    }
}

#[test]
fn an_inventory_knows_its_weight_and_has_a_most() {
    let mut inventory = Inventory::default();
    let changes = [watched(), image("a.sif", 1), put("b.sif", Content::Unusable(unusable("why")))];
    let weight = |changes: &[Change]| changes.iter().map(Change::weight).sum::<usize>();
    for change in changes.clone() {
        inventory.apply(change);
    }
    assert_eq!(inventory.weight(), weight(&changes));
    inventory.apply(put("b.sif", Content::Unusable(unusable("another reason"))));
    inventory.apply(gone("a.sif"));
    inventory.apply(root(RootState::Degraded { reason: "x".into() }));
    assert_eq!(inventory.weight(), inventory.as_changes().map(|change| change.weight()).sum::<usize>());
    assert_eq!(check::size(&inventory, 1), Ok(()));
    assert!(check::size(&inventory, 0).is_err());
    assert!(MAX_INVENTORY_WEIGHT > inventory.weight());
}

fn unusable(detail: &str) -> Unusable {
    Unusable { code: UnusableCode::Malformed, detail: detail.into() }
}

fn described(bytes: u8, metadata: Option<ImageMetadata>) -> ToCoordinator {
    let described = Described { digest: digest(bytes), metadata, sidecar: None };
    ToCoordinator::Described(Box::new(described))
}

fn described_here(site: &Site) -> usize {
    site.stored.iter().filter(|op| matches!(op, Op::PutMetadata { .. })).count()
}

#[test]
fn only_who_was_asked_says_what_an_image_is_and_others_are_asked_after_a_shrug() {
    let mut site = Site::new();
    let bare = || Some(ImageMetadata::bare(Format::Sif, 1));
    let first = site.agent("n1", vec![watched(), image("a.sif", 1)]);
    let second = site.agent("n2", vec![watched(), image("a.sif", 1)]);
    assert_eq!(asked(&site), [first]);
    site.say(second, described(1, bare()));
    assert_eq!(described_here(&site), 0, "it was not asked");
    site.say(first, described(1, None));
    assert_eq!(asked(&site), [first, second]);
    site.say(second, described(1, None));
    assert_eq!(asked(&site).len(), 2, "nobody is left to ask");
    site.change("n1", vec![gone("a.sif")]);
    site.change("n1", vec![image("b.sif", 1)]);
    assert_eq!(asked(&site), [first, second, first]);
    site.handle(Event::Closed { session: first });
    site.say(second, described(1, bare()));
    assert_eq!(described_here(&site), 0);
    let third = site.agent("n3", vec![watched(), image("a.sif", 1)]);
    site.say(third, described(1, bare()));
    assert_eq!(described_here(&site), 1);
}

#[test]
fn descriptions_beyond_their_limits_are_a_breach() {
    let bare = ImageMetadata::bare(Format::Sif, 1);
    let text = "x".repeat(MAX_TEXT + 1);
    let labels = (0..20).map(|n| (n.to_string(), "x".repeat(MAX_TEXT))).collect();
    for metadata in [
        ImageMetadata { help: Some(text.clone()), ..bare.clone() },
        ImageMetadata { labels: [(text, String::new())].into(), ..bare.clone() },
        ImageMetadata { labels, ..bare.clone() },
        ImageMetadata { notes: vec![String::new(); 1_000], ..bare.clone() },
    ] {
        let mut site = Site::new();
        let session = site.agent("n1", vec![watched(), image("a.sif", 1)]);
        site.say(session, described(1, Some(metadata)));
        assert_eq!(closed(&site, session), Some(CloseCode::Protocol));
        assert_eq!(described_here(&site), 0);
    }
    let sidecar = Some("x".repeat(MAX_SIDECAR + 1));
    assert!(check::described(&Described { digest: digest(1), metadata: Some(bare), sidecar }).is_err());
}
