//! A small real cluster that pushes images which appear in its library.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sifleet_tests::cluster::{Cluster, LIMIT, Plan};
use sifleet_tests::sif::SifBuilder;
use sifleet_tests::wait::until;

/// How often something is done of which `cargo verify --long` does more.
pub(crate) fn times(short: usize, long: usize) -> usize {
    if std::env::var_os("SIFLEET_LONG").is_some() { long } else { short }
}

/// An image of so many bytes that nothing compresses.
pub(crate) fn image(bytes: u32, seed: u64) -> Vec<u8> {
    SifBuilder::new().payload_bytes(bytes, seed).bytes()
}

pub(crate) struct Site {
    pub(crate) cluster: Cluster,
}

impl Site {
    /// Starts a head node with the library, and the nodes of a partition `viz`.
    pub(crate) fn start(name: &'static str, viz: &'static str, nodes: &[&'static str]) -> Self {
        let mut site = Self::lay_out(name, viz, nodes);
        site.cluster.start_all().unwrap();
        site
    }

    /// Makes the same, of which nothing runs yet.
    pub(crate) fn lay_out(name: &'static str, viz: &'static str, nodes: &[&'static str]) -> Self {
        let plan = Plan {
            name,
            partitions: BTreeMap::from([("viz", viz)]),
            nodes: [&["head"], nodes].concat(),
            library: Some("head"),
            lease: Duration::from_secs(4),
        };
        Self { cluster: Cluster::lay_out(plan).unwrap() }
    }

    /// Puts an image into the library and begins to push it; returns the push's name.
    pub(crate) fn push(&self, image: &str, bytes: &[u8], rate: Option<u64>) -> String {
        let folder = self.cluster.library();
        fs::write(folder.join(".new"), bytes).unwrap();
        fs::rename(folder.join(".new"), folder.join(image)).unwrap();
        let digest = format!("blake3:{}", blake3::hash(bytes).to_hex());
        let wish = json!({"image": image, "digest": digest, "to": {"partition": "viz"}, "rate": rate});
        let url = format!("{}/v1/pushes", self.cluster.url());
        let taken = until("the push is taken", LIMIT, || {
            let answer: Value = ureq::post(&url)
                .header("authorization", self.cluster.bearer())
                .send_json(&wish)?
                .body_mut()
                .read_json()?;
            anyhow::Ok(answer)
        });
        taken.unwrap().0["id"].as_str().unwrap().to_owned()
    }

    /// Asks how a push stands.
    pub(crate) fn shown(&self, push: &str) -> anyhow::Result<Value> {
        self.cluster.get(&format!("/v1/pushes/{push}"))
    }

    /// Asks how one node of a push stands.
    pub(crate) fn node(&self, push: &str, node: &str) -> anyhow::Result<Value> {
        let body = self.cluster.get(&format!("/v1/pushes/{push}/nodes"))?;
        let nodes = body["nodes"].as_array().context("no nodes")?;
        nodes.iter().find(|one| one["node"] == node).cloned().with_context(|| format!("no {node} in {body}"))
    }

    /// Waits until a push is in a state.
    pub(crate) fn comes_to(&self, push: &str, state: &str) {
        until(&format!("the push comes to be {state}"), LIMIT, || {
            let body = self.shown(push)?;
            ensure!(body["state"] == state, "{body}");
            Ok(())
        })
        .unwrap();
    }

    /// Has nodes that failed try again at once.
    pub(crate) fn retry(&self, push: &str) {
        let url = format!("{}/v1/pushes/{push}/retry", self.cluster.url());
        ureq::post(url).header("authorization", self.cluster.bearer()).send_empty().unwrap();
    }
}

/// Lists what can be seen in a folder.
pub(crate) fn visible(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

/// Tells how many unfinished images there are.
pub(crate) fn unfinished(root: &Path) -> usize {
    fs::read_dir(root.join(".sifleet")).map_or(0, Iterator::count)
}
