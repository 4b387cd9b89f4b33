//! Lists of dashboards have an end, and filters come before it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sifleet_common::inventory::{RootKind, RootState};
use sifleet_common::name::NodeName;
use sifleet_coordinator::http::Limits;
use sifleet_coordinator::state::Event;

use crate::site::{Site, image, root};

#[tokio::test]
async fn what_a_filter_leaves_is_found_behind_two_thousand_others() {
    let site = Site::empty(Limits::default());
    let members: BTreeMap<_, BTreeSet<NodeName>> = [("compute", "c1"), ("viz", "viz1")]
        .map(|(name, node)| (name.parse().unwrap(), [node.parse().unwrap()].into()))
        .into();
    site.handle.send(Event::Members { source: "file", members }).await.unwrap();
    let watched = || root("/opt/apptainers", RootKind::Plain, RootState::Watched);
    let many = (0..2_100).map(|n| image(&format!("many{n:04}.sif"), b"many"));
    site.agent(1, "c1", std::iter::once(watched()).chain(many).collect()).await;
    site.agent(2, "viz1", vec![watched(), image("vnc.sif", b"vnc")]).await;
    site.until("both nodes are online", |site| {
        site.handle.views.load().stats(site.handle.clock.now()).online == 2
    })
    .await;
    for (query, shown, total) in [
        ("", 2_000, 2_101),
        ("type=viz", 1, 1),
        ("type=compute", 2_000, 2_100),
        ("is_active=true", 2_000, 2_101),
    ] {
        let list = site.get(&format!("/api/apptainer/images?{query}")).await.json();
        let found = (list["images"].as_array().map(Vec::len), &list["total"], &list["truncated"]);
        assert_eq!(found, (Some(shown), &json!(total), &Value::Bool(shown < total)), "{query}");
    }
    let idle = site.get("/api/apptainer/images?is_active=false").await.json();
    assert_eq!((&idle["total"], &idle["truncated"]), (&json!(0), &json!(false)));
}
