//! Who gets which answer, asked of the real state.

use sifleet_common::inventory::{RootState, UnusableCode};

use super::QueryError;
use crate::state::Event;
use crate::state::limits::LimitCommand;
use crate::state::testing::{Site, digest, gone, hung, image, library, pending, root, unusable};

fn watched() -> RootState {
    RootState::Watched
}

fn partial() -> RootState {
    RootState::Partial { reason: "cannot read the directory /opt/apptainers/private".into() }
}

#[track_caller]
fn check(site: &mut Site, image: &str, [ready, outdated, missing, unknown]: [&str; 4]) {
    assert_eq!(site.split(image, "p"), [ready, outdated, missing, unknown], "{image}");
}

fn is_unheard_of(site: &mut Site, image: &str) -> bool {
    matches!(site.ask(image, "p"), Err(QueryError::UnknownImage { .. }))
}

fn candidates(site: &mut Site, image: &str) -> Vec<String> {
    match site.ask(image, "p") {
        Err(QueryError::Ambiguous { candidates, .. }) => candidates,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_the_agent_may_not_read_is_unknown_and_one_that_is_no_image_is_missing() {
    let mut site = Site::new();
    site.partition("p", "n[1-3]");
    site.agent("n1", vec![root(watched()), image("a.sif", 1)]);
    site.agent("n2", vec![root(watched()), unusable("a.sif", UnusableCode::Unreadable)]);
    site.agent("n3", vec![root(watched()), unusable("a.sif", UnusableCode::Truncated)]);
    check(&mut site, "a.sif", ["n1", "", "n3", "n2"]);
    assert_eq!(site.codes("a.sif", "p"), ["unreadable", "truncated"]);
    let now = site.now;
    let problems = site.view().image("a.sif", now).unwrap().problems;
    assert_eq!(serde_json::to_value(&problems[0]).unwrap()["answer"], "missing");
    assert_eq!(serde_json::to_value(&problems[1]).unwrap()["answer"], "unknown");
}

#[test]
fn what_is_found_below_a_root_known_in_part_counts_and_what_is_not_is_never_missing() {
    let mut site = Site::new();
    site.partition("p", "n[1-2]");
    site.agent("n1", vec![root(partial()), image("a.sif", 1)]);
    site.agent("n2", vec![root(partial())]);
    check(&mut site, "a.sif", ["n1", "", "", "n2"]);
    assert_eq!(site.codes("a.sif", "p"), ["root_unknown"]);
    assert_eq!(site.ask("a.sif", "p").unwrap().degraded[0].nodes, "n[1-2]");
}

#[test]
fn an_image_is_unheard_of_only_where_every_root_was_looked_at() {
    let mut site = Site::new();
    site.partition("p", "n[1-2]");
    site.agent("n1", vec![root(watched())]);
    site.agent("n2", vec![root(hung())]);
    check(&mut site, "a.sif", ["", "", "n1", "n2"]);
    site.change("n2", vec![root(watched())]);
    assert!(is_unheard_of(&mut site, "a.sif"));
}

#[test]
fn bytes_are_not_unheard_of_while_their_file_cannot_be_vouched_for() {
    let wanted = digest(1).to_string();
    let beginning = wanted[..19].to_owned();
    for open in [pending("a.sif"), unusable("a.sif", UnusableCode::Unreadable), root(hung())] {
        let mut site = Site::new();
        site.partition("p", "n1");
        site.agent("n1", vec![root(watched()), image("a.sif", 1)]);
        site.change("n1", vec![open]);
        check(&mut site, &wanted, ["", "", "", "n1"]);
        check(&mut site, &beginning, ["", "", "", "n1"]);
        site.change("n1", vec![root(watched()), gone("a.sif")]);
        assert!(is_unheard_of(&mut site, &wanted));
        assert!(is_unheard_of(&mut site, &beginning));
    }
}

#[test]
fn the_beginning_of_a_digest_is_unheard_of_only_where_everybody_was_asked() {
    let mut site = Site::new();
    site.partition("p", "n[1-3]");
    site.agent("n1", vec![root(watched()), image("a.sif", 1)]);
    site.agent("n2", vec![root(watched())]);
    let written = "a.sif@blake3:0123456789ab";
    check(&mut site, written, ["", "n1", "n2", "n3"]);
    let answer = site.ask(written, "p").unwrap();
    assert_eq!((answer.image.as_str(), answer.expected_digest), (written, None));
    check(&mut site, "0123456789ab", ["", "", "n[1-2]", "n3"]);
    site.agent("n3", vec![root(watched()), pending("a.sif")]);
    check(&mut site, written, ["", "n1", "n2", "n3"]);
    site.change("n3", vec![gone("a.sif")]);
    assert!(is_unheard_of(&mut site, written));
}

#[test]
fn what_lies_around_under_a_like_name_does_not_decide_what_an_image_is_called() {
    let mut site = Site::new();
    site.partition("p", "n[1-2]");
    site.agent("n1", vec![root(watched()), image("compute/openfoam.sif", 1)]);
    let junk = ["tmp/openfoam.sif", "openfoam", "openfoam.sif"];
    let of_no_use = junk.map(|name| unusable(name, UnusableCode::NotAnImage));
    site.agent("n2", [root(watched())].into_iter().chain(of_no_use).collect());
    for written in ["openfoam", "openfoam.sif"] {
        assert_eq!(site.ask(written, "p").unwrap().image, "compute/openfoam.sif");
    }
    assert_eq!(site.ask("tmp/openfoam.sif", "p").unwrap().image, "tmp/openfoam.sif");

    site.change("n2", vec![pending("tmp/openfoam.sif")]);
    assert_eq!(site.ask("openfoam", "p").unwrap().image, "compute/openfoam.sif");
    // An image keeps its name while it is replaced, and while its root cannot be read.
    site.change("n1", vec![pending("compute/openfoam.sif")]);
    assert_eq!(site.ask("openfoam", "p").unwrap().image, "compute/openfoam.sif");
    site.change("n1", vec![image("compute/openfoam.sif", 1), root(hung())]);
    assert_eq!(site.ask("openfoam", "p").unwrap().image, "compute/openfoam.sif");
    site.change("n2", vec![image("tmp/openfoam.sif", 1)]);
    assert_eq!(candidates(&mut site, "openfoam"), ["compute/openfoam.sif", "tmp/openfoam.sif"]);
}

#[test]
fn an_image_that_was_moved_is_found_where_it_is() {
    let mut site = Site::new();
    site.partition("p", "n1");
    site.agent("n1", vec![root(watched()), image("a/x.sif", 1)]);
    site.change("n1", vec![gone("a/x.sif"), image("b/x.sif", 1)]);
    assert_eq!(site.ask("x", "p").unwrap().image, "b/x.sif");
    site.change("n1", vec![gone("b/x.sif")]);
    assert_eq!(candidates(&mut site, "x"), ["a/x.sif", "b/x.sif"]);
}

/// A library with `p/a.sif`, a node that has it and one that has other bytes.
fn with_library() -> Site {
    let mut site = Site::new();
    site.partition("p", "n[1-2]");
    site.agent("head", vec![library(watched()), image("p/a.sif", 1)]);
    site.agent("n1", vec![root(watched()), image("a.sif", 1)]);
    site.agent("n2", vec![root(watched()), image("a.sif", 2)]);
    check(&mut site, "a.sif", ["n1", "n2", "", ""]);
    site
}

#[test]
fn while_the_library_cannot_vouch_other_bytes_are_unknown_and_never_ready() {
    for open in [pending("p/a.sif"), unusable("p/a.sif", UnusableCode::Unreadable), library(hung())] {
        let mut site = with_library();
        site.change("head", vec![open]);
        check(&mut site, "a.sif", ["n1", "", "", "n2"]);
        assert_eq!(site.codes("a.sif", "p"), ["library_unknown"]);
        let now = site.now;
        assert_eq!(site.view().partition("p", now).unwrap().images[0].counts.unknown, 1);
        site.change("head", vec![library(watched()), image("p/a.sif", 2)]);
        check(&mut site, "a.sif", ["n2", "n1", "", ""]);
        site.change("head", vec![gone("p/a.sif")]);
        check(&mut site, "a.sif", ["n[1-2]", "", "", ""]);
    }
}

#[test]
fn a_library_that_fell_silent_makes_no_node_outdated() {
    let mut site = with_library();
    site.outlive(&["n1", "n2"]);
    check(&mut site, "a.sif", ["n1", "", "", "n2"]);
    assert_eq!(site.codes("a.sif", "p"), ["library_unknown"]);
    // Another head took over: only the living are believed.
    site.agent("head2", vec![library(watched()), image("p/a.sif", 2)]);
    check(&mut site, "a.sif", ["n2", "n1", "", ""]);
}

#[test]
fn what_lies_below_an_unknown_root_is_shown_as_last_known() {
    let mut site = Site::new();
    site.agent("n1", vec![root(watched()), image("a.sif", 1)]);
    let now = site.now;
    let state = |site: &mut Site| site.view().node("n1", now).unwrap().replicas[0].state.clone();
    assert_eq!(state(&mut site), "ready");
    site.change("n1", vec![root(hung())]);
    assert_eq!(state(&mut site), "last_known");
    site.change("n1", vec![root(partial())]);
    assert_eq!(state(&mut site), "ready");
}

#[test]
fn near_names_are_found_and_long_ones_compared_by_their_beginning() {
    let long = "x".repeat(200);
    let names = ["viz001", "viz002", "compute001", "sub/viz01", long.as_str()];
    let near = |written: &str| super::near(written, names.into_iter());
    assert_eq!(near("viz01"), ["sub/viz01", "viz001", "viz002"]);
    assert_eq!(near("computer001"), ["compute001"]);
    assert_eq!(near("compute"), ["compute001"], "the beginning of a name tells which one is meant");
    assert_eq!(near(&"x".repeat(5_000)), [long.as_str()]);
    assert!(near("something else").is_empty());
}

#[test]
fn what_the_library_has_for_a_partition_is_missing_on_nodes_that_lack_it_and_never_ambiguous() {
    let mut site = Site::new();
    site.partition("p", "n1");
    site.agent("n1", vec![root(watched())]);
    site.agent("head", vec![library(watched()), image("p/tool.sif", 1), image("c/tool.sif", 2)]);
    for asked in ["tool", "tool.sif", "p/tool.sif"] {
        let answer = site.ask(asked, "p").unwrap();
        assert_eq!((answer.image.as_str(), answer.nodes.missing.as_str()), ("tool.sif", "n1"), "{asked}");
        assert_eq!(answer.expected_digest, Some(digest(1).to_string()), "{asked}");
    }
    assert_eq!(site.ask("c/tool.sif", "p").unwrap().image, "c/tool.sif", "that is another partition's");
    site.change("n1", vec![image("tool.sif", 1)]);
    check(&mut site, "tool", ["n1", "", "", ""]);
    site.change("head", vec![gone("c/tool.sif")]);
    check(&mut site, "p/tool", ["n1", "", "", ""]);
}

#[test]
fn a_node_whose_lease_ends_this_moment_is_silent_and_not_on_its_way() {
    let mut site = Site::new();
    site.partition("p", "n1");
    site.agent("n1", vec![root(watched()), image("a.sif", 1)]);
    check(&mut site, "a.sif", ["n1", "", "", ""]);
    // Nothing has told the state yet that time has passed.
    site.now.mono = site.now.mono.after(std::time::Duration::from_secs(3_600));
    check(&mut site, "a.sif", ["", "", "", "n1"]);
    assert_eq!(site.codes("a.sif", "p"), ["lease_expired"]);
}

#[test]
fn a_node_says_why_it_is_busy() {
    let mut site = Site::new();
    for node in ["n1", "n2", "n3"] {
        site.agent(node, vec![root(watched())]);
    }
    let name = |node: &str| node.parse().unwrap();
    let mark = LimitCommand::Mark { nodes: [name("n1")].into(), busy: true };
    site.state.limit(mark, site.now);
    site.handle(Event::JobsRunOn { nodes: [name("n1"), name("n2")].into() });
    let (view, now) = (site.view(), site.now);
    let busy = |node: &str| view.node(node, now).unwrap().summary.busy.unwrap_or_default();
    assert_eq!(
        [busy("n1"), busy("n2"), busy("n3")],
        ["somebody marked it as busy", "Slurm runs jobs on it", ""]
    );
    let listed: Vec<bool> = view.nodes(now).nodes.iter().map(|node| node.busy.is_some()).collect();
    assert_eq!(listed, [true, true, false]);
}
