//! How `sifleet node ls`, `show` and `rescan` look.

use sifleet_common::api::nodes::{Marked, NodeDetail, NodeList, NodeState, NodeSummary, ReplicaBody, Rescan};
use sifleet_common::nodeset::fold;

use super::text::{Block, Cell, Csv, Note, Table, Tone};
use super::{Render, human};

fn state(state: NodeState) -> (&'static str, Tone) {
    match state {
        NodeState::Online => ("online", Tone::Good),
        NodeState::Syncing => ("syncing", Tone::Warn),
        NodeState::Offline => ("offline", Tone::Unsure),
        NodeState::NeverSeen => ("never_seen", Tone::Unsure),
    }
}

fn seen(node: &NodeSummary, now: &str) -> String {
    node.last_seen.as_ref().map_or_else(|| "never".to_owned(), |seen| human::age(seen, now))
}

fn degraded(node: &NodeSummary) -> impl Iterator<Item = Note> {
    node.degraded.iter().map(|reason| Note::Warning(format!("{} is degraded: {reason}", node.name)))
}

fn or_dash(text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| "-".to_owned())
}

/// Nodes of one state, folded, in the order of the list.
fn in_state(list: &NodeList, wanted: NodeState) -> (usize, String) {
    let names = || list.nodes.iter().filter(|node| node.state == wanted).map(|node| node.name.as_str());
    (names().count(), fold(names()))
}

impl Render for NodeList {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        if self.nodes.is_empty() {
            return vec![Block::Line(vec![Cell::new("no nodes are known")])];
        }
        let header: &[&str] = if wide {
            &["NODE", "STATE", "IMAGES", "SEEN", "ARCH", "BUILD", "PARTITIONS", "DEGRADED"]
        } else {
            &["NODE", "STATE", "IMAGES", "SEEN", "PARTITIONS", "DEGRADED"]
        };
        let mut table = Table::new(header);
        for node in &self.nodes {
            let (word, tone) = match node.revoked {
                Some(_) => ("revoked", Tone::Bad),
                None => state(node.state),
            };
            let mut row = vec![
                Cell::new(&node.name).tone(Tone::Strong),
                Cell::new(word).tone(tone),
                Cell::number(node.images),
                Cell::number(seen(node, &self.as_of)),
            ];
            if wide {
                row.extend([Cell::new(or_dash(node.arch.as_ref())), Cell::new(or_dash(node.build.as_ref()))]);
            }
            row.push(Cell::long(&node.partitions.join(","), wide));
            row.push(Cell::long(&node.degraded.join("; "), wide).tone(Tone::Warn));
            table.row(row);
        }
        let mut summary = Table::new(&[]);
        for one in [NodeState::Online, NodeState::Syncing, NodeState::Offline, NodeState::NeverSeen] {
            let ((word, tone), (count, nodes)) = (state(one), in_state(self, one));
            if count > 0 {
                summary.row(vec![Cell::new(word).tone(tone), Cell::number(count), Cell::long(&nodes, wide)]);
            }
        }
        vec![Block::Table(table), Block::Line(vec![]), Block::Table(summary)]
    }

    fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.name.clone()).collect()
    }

    fn csv(&self) -> Csv {
        let mut csv =
            Csv::new(&["node", "state", "images", "last_seen", "arch", "build", "partitions", "degraded"]);
        for node in &self.nodes {
            csv.row(vec![
                node.name.clone(),
                state(node.state).0.into(),
                node.images.to_string(),
                node.last_seen.clone().unwrap_or_default(),
                node.arch.clone().unwrap_or_default(),
                node.build.clone().unwrap_or_default(),
                node.partitions.join(" "),
                node.degraded.join("; "),
            ]);
        }
        csv
    }

    fn notes(&self) -> Vec<Note> {
        let silent = [NodeState::Offline, NodeState::NeverSeen].map(|one| in_state(self, one).0);
        if silent == [0, 0] {
            return Vec::new();
        }
        vec![Note::Hint("nodes that do not report: see `systemctl status sifleet-agent` there".to_owned())]
    }
}

fn replica_row(replica: &ReplicaBody, wide: bool) -> Vec<Cell> {
    let tone = match replica.state.as_str() {
        "ready" => Tone::Good,
        "pending" | "last_known" => Tone::Warn,
        _ => Tone::Bad,
    };
    let digest = replica.digest.as_ref().map(|digest| human::digest(digest, wide)).unwrap_or_default();
    let why = [&replica.code, &replica.detail].into_iter().flatten().map(String::as_str).collect::<Vec<_>>();
    vec![
        Cell::long(&replica.name, wide).tone(Tone::Strong),
        Cell::new(&replica.state).tone(tone),
        Cell::number(human::size(replica.size)),
        Cell::new(digest),
        Cell::new(&replica.root),
        Cell::long(&why.join(": "), wide),
    ]
}

impl Render for NodeDetail {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        let node = &self.summary;
        let (word, tone) = state(node.state);
        let mut facts = Table::new(&[]).indented();
        let mut line =
            |name: &str, text: String| facts.row(vec![Cell::new(name).tone(Tone::Faint), Cell::new(text)]);
        line("last seen", or_dash(node.last_seen.as_ref()));
        if let Some(why) = &node.busy {
            line("busy", why.clone());
        }
        line("partitions", node.partitions.join(", "));
        line("agent", format!("{}, {}", or_dash(node.build.as_ref()), or_dash(node.arch.as_ref())));
        match (&node.revoked, &node.enrolled) {
            (Some(at), _) => line("revoked", at.clone()),
            (None, Some(at)) => line("enrolled", format!("{at}, epoch {}", node.epoch)),
            (None, None) => {}
        }
        if wide {
            line("generation", self.generation.to_string());
        }
        let mut roots = Table::new(&["ROOT", "STATE", "", "REASON"]);
        for root in &self.roots {
            let tone = match root.state.as_str() {
                "watched" => Tone::Good,
                "degraded" => Tone::Warn,
                _ => Tone::Unsure,
            };
            roots.row(vec![
                Cell::new(&root.path),
                Cell::new(&root.state).tone(tone),
                Cell::new(if root.library {
                    "library"
                } else if root.trusted {
                    ""
                } else {
                    "untrusted"
                })
                .tone(Tone::Faint),
                Cell::new(root.reason.as_deref().unwrap_or_default()),
            ]);
        }
        let mut replicas = Table::new(&["IMAGE", "STATE", "SIZE", "DIGEST", "ROOT", "WHY"]);
        for replica in &self.replicas {
            replicas.row(replica_row(replica, wide));
        }
        vec![
            Block::Line(vec![
                Cell::new(&node.name).tone(Tone::Strong),
                Cell::new(": "),
                Cell::new(word).tone(tone),
                Cell::new(format!(", {} ready", node.images)),
            ]),
            Block::Table(facts),
            Block::Table(roots),
            Block::Table(replicas),
        ]
    }

    fn names(&self) -> Vec<String> {
        self.replicas.iter().filter(|one| one.state == "ready").map(|one| one.name.clone()).collect()
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(&["image", "root", "state", "code", "detail", "digest", "size", "modified"]);
        for replica in &self.replicas {
            csv.row(vec![
                replica.name.clone(),
                replica.root.clone(),
                replica.state.clone(),
                replica.code.clone().unwrap_or_default(),
                replica.detail.clone().unwrap_or_default(),
                replica.digest.clone().unwrap_or_default(),
                replica.size.to_string(),
                replica.modified.clone(),
            ]);
        }
        csv
    }

    fn notes(&self) -> Vec<Note> {
        let mut notes: Vec<Note> = degraded(&self.summary).collect();
        if self.summary.state != NodeState::Online {
            notes.push(Note::Warning(format!(
                "{} is not current: this is what was last known",
                self.summary.name
            )));
            notes.push(Note::Hint(format!("see `systemctl status sifleet-agent` on {}", self.summary.name)));
        }
        if self.truncated {
            notes.push(Note::Warning("the list is cut at 10,000 entries".to_owned()));
        }
        notes
    }
}

/// Nodes that were marked, and as what in words.
pub(crate) struct MarkedAs {
    /// Which ones.
    pub(crate) marked: Marked,
    /// As what.
    pub(crate) what: &'static str,
}

impl Render for MarkedAs {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        let what = Cell::new(self.what).tone(Tone::Good);
        vec![Block::Line(vec![what, Cell::new(": "), Cell::long(&self.marked.nodes, wide)])]
    }

    fn names(&self) -> Vec<String> {
        Some(self.marked.nodes.clone()).filter(|nodes| !nodes.is_empty()).into_iter().collect()
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(&["nodes", "unheard_of"]);
        csv.row(vec![self.marked.nodes.clone(), self.marked.unheard_of.clone()]);
        csv
    }

    fn notes(&self) -> Vec<Note> {
        let strangers = Some(&self.marked.unheard_of).filter(|nodes| !nodes.is_empty());
        strangers.map(|nodes| Note::Warning(format!("no node is called {nodes}"))).into_iter().collect()
    }
}

impl Render for Rescan {
    fn blocks(&self, _wide: bool) -> Vec<Block> {
        let mut table = Table::new(&[]);
        for (word, nodes, tone) in [
            ("told", &self.told, Tone::Good),
            ("offline", &self.offline, Tone::Unsure),
            ("unheard of", &self.unheard_of, Tone::Bad),
        ] {
            if !nodes.is_empty() {
                table.row(vec![Cell::new(word).tone(tone), Cell::new(nodes)]);
            }
        }
        vec![Block::Table(table)]
    }

    fn names(&self) -> Vec<String> {
        Some(self.told.clone()).filter(|nodes| !nodes.is_empty()).into_iter().collect()
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(&["told", "offline", "unheard_of"]);
        csv.row(vec![self.told.clone(), self.offline.clone(), self.unheard_of.clone()]);
        csv
    }

    fn notes(&self) -> Vec<Note> {
        let mut notes = Vec::new();
        if !self.offline.is_empty() {
            notes.push(Note::Hint("offline nodes scan by themselves when they come back".to_owned()));
        }
        if !self.unheard_of.is_empty() {
            notes.push(Note::Hint("`sifleet node ls -o name` lists the nodes there are".to_owned()));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{NOW, both, node, plain};
    use super::*;
    use sifleet_common::api::nodes::RootBody;

    #[test]
    fn a_list_ends_with_folded_nodesets_by_state() {
        let list = NodeList {
            nodes: vec![
                node("viz001", NodeState::Online),
                node("viz002", NodeState::Online),
                node("viz003", NodeState::Offline),
            ],
            as_of: NOW.into(),
        };
        assert_eq!(
            both(&list, false),
            "\
NODE    STATE    IMAGES  SEEN  PARTITIONS  DEGRADED
viz001  online        3   60s  shared,viz
viz002  online        3   60s  shared,viz
viz003  offline       3   60s  shared,viz

online   2  viz[001-002]
offline  1  viz003
---
hint: nodes that do not report: see `systemctl status sifleet-agent` there
"
        );
        assert!(plain(&list, true).contains("amd64  0.1.0"));
        assert_eq!(list.csv().to_string().lines().count(), 4);
    }

    fn detail() -> NodeDetail {
        let ready = ReplicaBody {
            name: "a.sif".into(),
            root: "/opt/apptainers".into(),
            state: "ready".into(),
            code: None,
            detail: None,
            digest: Some("blake3:0123456789abcdef".into()),
            size: 1_400_000_000,
            modified: NOW.into(),
        };
        let cut = ReplicaBody {
            name: "b.sif".into(),
            state: "unusable".into(),
            code: Some("truncated".into()),
            detail: Some("ends 12 bytes early".into()),
            digest: None,
            size: 5,
            ..ready.clone()
        };
        let root = RootBody {
            path: "/opt/apptainers".into(),
            state: "watched".into(),
            reason: None,
            library: true,
            trusted: true,
        };
        let summary = node("head", NodeState::Offline);
        NodeDetail { summary, roots: vec![root], replicas: vec![ready, cut], truncated: false, generation: 9 }
    }

    #[test]
    fn one_node_shows_roots_and_what_is_below_them() {
        let detail = detail();
        assert_eq!(
            both(&detail, false),
            "\
head: offline, 3 ready
  last seen   2026-03-01T11:59:00Z
  partitions  shared, viz
  agent       0.1.0, amd64
ROOT             STATE             REASON
/opt/apptainers  watched  library
IMAGE  STATE        SIZE  DIGEST               ROOT             WHY
a.sif  ready     1.3 GiB  blake3:0123456789ab  /opt/apptainers
b.sif  unusable      5 B                       /opt/apptainers  truncated: ends 12 bytes early
---
warning: head is not current: this is what was last known
hint: see `systemctl status sifleet-agent` on head
"
        );
        assert_eq!(detail.names(), ["a.sif"]);
    }

    #[test]
    fn a_rescan_tells_who_was_not_told() {
        let rescan = Rescan { told: "n[1-2]".into(), offline: "n3".into(), unheard_of: String::new() };
        assert_eq!(
            both(&rescan, false),
            "told     n[1-2]\noffline  n3\n---\nhint: offline nodes scan by themselves when they come back\n"
        );
        assert_eq!(rescan.names(), ["n[1-2]"]);
    }
}
