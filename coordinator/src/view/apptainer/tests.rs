//! Which images are listed where, and where one is found.

use sifleet_common::availability::Verdict;
use sifleet_common::inventory::RootState;

use super::*;
use crate::state::testing::{Site, digest, image, library, root};

fn rows(site: &mut Site, partition: Option<&str>) -> Vec<String> {
    let now = site.now;
    let rows = site.view().rows(partition, now).unwrap();
    rows.iter()
        .map(|row| format!("{} {} {} {}", row.partition, row.id, row.nodeset, row.counts.ready))
        .collect()
}

fn site() -> Site {
    let mut site = Site::new();
    site.partition("p", "n[1-3]");
    let held = ["shared/all.sif", "p/a.sif", "loose.sif", "p/never.sif"];
    let held = held.into_iter().map(|name| image(name, 1));
    site.agent("head", [library(RootState::Watched)].into_iter().chain(held).collect());
    site.agent("n1", vec![root(RootState::Watched), image("a.sif", 1), image("b.sif", 2)]);
    site.agent("n2", vec![root(RootState::Watched), image("a.sif", 9)]);
    site
}

#[test]
fn each_image_is_listed_on_its_partition_and_what_is_for_nobody_under_shared() {
    let mut site = site();
    let all = ["p a n1 1", "p b n1 1", "p never  0", "shared loose head 1", "shared all head 1"];
    assert_eq!(rows(&mut site, None), all);
    assert_eq!(rows(&mut site, Some("p")), all[..3]);
    assert_eq!(rows(&mut site, Some("shared")), all[3..]);
    assert!(site.view().rows(Some("q"), site.now).is_err());
}

#[test]
fn an_image_is_found_where_it_stands_best() {
    let mut site = site();
    let (view, now) = (site.view(), site.now);
    let find =
        |id: &str, partition| view.row_of(id, partition, now).map(|row| (row.partition, row.counts.ready));
    assert_eq!(find("a", None), Ok(("p".into(), 1)));
    assert_eq!(find("loose", None), Ok(("shared".into(), 1)));
    assert_eq!(find("loose", Some("p")), Ok(("p".into(), 0)));
    assert!(matches!(find("nothing", None), Err(QueryError::UnknownImage { .. })));
    assert!(matches!(find("a", Some("q")), Err(QueryError::UnknownPartition { .. })));
}

#[test]
fn a_node_that_fell_silent_is_ready_no_longer_and_its_image_stays_listed() {
    let mut site = site();
    site.outlive(&["head"]);
    assert_eq!(rows(&mut site, Some("p"))[..2], ["p a  0", "p b  0"]);
    let (view, now) = (site.view(), site.now);
    assert_eq!(view.row_of("b", None, now).unwrap().verdict, Verdict::Unknown);
    assert_eq!(view.images_ready_on("p", now), Ok(0));
    assert_eq!(view.images_ready_on("shared", now), Ok(4));
    assert_eq!(view.available_on("p", 9, now), Ok(vec![]));
}

#[test]
fn bytes_that_are_asked_for_are_looked_for_and_no_others() {
    let mut site = site();
    let (view, now) = (site.view(), site.now);
    let find = |id: &str, partition| {
        let row = view.row_of(id, partition, now).unwrap();
        (row.partition, row.digest, row.described, row.counts.ready, row.counts.outdated)
    };
    let nobodys = digest(77);
    let expected = ("p".into(), Some(nobodys), Some(nobodys), 0, 2);
    assert_eq!(find(&format!("a@{nobodys}"), Some("p")), expected);
    assert_eq!(find(&format!("a@{nobodys}"), None), expected);
    let (whole, start) = (digest(9).to_string(), digest(9).hex()[..12].to_owned());
    for id in [format!("a@{whole}"), format!("a@blake3:{start}"), whole, start] {
        let (partition, counted, _, ready, _) = find(&id, None);
        assert_eq!((partition.as_str(), counted, ready), ("p", Some(digest(9)), 1), "{id}");
    }
    assert!(matches!(view.row_of(&nobodys.to_string(), None, now), Err(QueryError::UnknownImage { .. })));
}

#[test]
fn a_partition_that_is_called_shared_is_a_partition() {
    let mut site = Site::new();
    site.partition("shared", "n[1-2]");
    let held = [library(RootState::Watched), image("loose.sif", 1), image("shared/own.sif", 2)];
    site.agent("head", held.into());
    site.agent("n1", vec![root(RootState::Watched), image("b.sif", 2)]);
    site.agent("n2", vec![root(RootState::Watched), image("b.sif", 2)]);
    let of_partition = ["shared b n[1-2] 2", "shared own  0"];
    assert_eq!(rows(&mut site, None), of_partition);
    assert_eq!(rows(&mut site, Some("shared")), of_partition);
    let (view, now) = (site.view(), site.now);
    for find in [View::row_of, View::row_to_judge] {
        let row = find(&view, "b", Some("shared"), now).unwrap();
        assert_eq!((row.of_library, row.verdict, row.nodeset.as_str()), (false, Verdict::Ready, "n[1-2]"));
        let loose = find(&view, "loose", None, now).unwrap();
        assert_eq!((loose.of_library, loose.only_in_library, loose.counts.ready), (false, false, 0));
    }
}

#[test]
fn only_what_the_library_holds_and_no_node_does_is_in_the_library_alone() {
    let mut site = site();
    site.agent("login", vec![root(RootState::Watched), image("stray.sif", 4)]);
    site.agent("n3", vec![root(RootState::Watched), image("all.sif", 1)]);
    let (view, now) = (site.view(), site.now);
    let find = |id: &str, partition| {
        let row = view.row_of(id, partition, now).unwrap();
        (row.of_library, row.only_in_library, row.counts.ready)
    };
    assert_eq!(find("loose", None), (true, true, 1));
    assert_eq!(find("loose", Some("shared")), (true, true, 1));
    assert_eq!(find("never", None), (true, true, 1));
    assert_eq!(find("b", Some("shared")), (true, false, 0), "only a node holds it");
    assert_eq!(find("a", Some("shared")), (true, false, 0), "the library holds it for a partition");
    assert_eq!(find("all", Some("shared")), (true, false, 1), "a node holds it, too");
    assert_eq!(find("stray", Some("shared")), (true, false, 0));
    assert_eq!(find("stray", None), (false, false, 0), "no partition and no library holds it");
}

#[test]
fn what_silent_nodes_may_hold_is_not_in_the_library_for_certain() {
    let mut site = site();
    let judged = |site: &mut Site, id: &str| {
        let now = site.now;
        let row = site.view().row_to_judge(id, None, now).unwrap();
        (row.partition, row.only_in_library, row.verdict)
    };
    // Of three nodes two deny it.
    assert_eq!(judged(&mut site, "loose"), ("shared".into(), true, Verdict::Ready));
    site.outlive(&["head"]);
    assert_eq!(judged(&mut site, "loose"), ("p".into(), false, Verdict::Unknown));
    let (view, now) = (site.view(), site.now);
    assert_eq!(view.row_to_judge("loose", Some("shared"), now).unwrap().partition, "p");
    assert_eq!(view.row_of("loose", None, now).unwrap().partition, "shared", "that is where it stands");
}
