//! A coordinator that dies in front of every step at which it changes its library, while an image is brought there.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sifleet_tests::cluster::{COORDINATOR, Cluster, LIMIT, Plan};
use sifleet_tests::wait::until;

use crate::mount::skipped;
use crate::site::{image, unfinished, visible};
use crate::strace;

/// Calls that change the library, and on what: the growing file, its note, their folder, or the library's.
const POINTS: [(&str, At); 10] = [
    ("ftruncate", At::Data),
    ("fallocate", At::Data),
    ("write", At::Draft),
    ("renameat", At::Folder),
    ("pwrite64", At::Data),
    ("fchmod", At::Data),
    ("fsync", At::Data),
    ("fsync", At::Library),
    ("unlinkat", At::Folder),
    ("mkdirat", At::Library),
];

/// An upload makes fewer calls of each kind.
const MOST: usize = 40;

#[derive(Clone, Copy, Debug)]
enum At {
    Data,
    Draft,
    Folder,
    Library,
}

struct Ward {
    cluster: Cluster,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Ward {
    fn open() -> Self {
        let (name, partitions) = ("faults-uploads", BTreeMap::from([("viz", "head")]));
        let lease = Duration::from_secs(4);
        let plan = Plan { name, partitions, nodes: vec!["head"], library: Some("head"), lease };
        let cluster = Cluster::lay_out(plan).unwrap();
        let old = image(60_000, 2);
        fs::write(cluster.library().join("tool.sif"), &old).unwrap();
        Self { cluster, old, new: Vec::new() }
    }

    fn folder(&self) -> PathBuf {
        self.cluster.library().join(".sifleet")
    }

    /// Begins the upload, or finds it; returns where it is and how far.
    fn begin(&self) -> anyhow::Result<(String, u64)> {
        let digest = format!("blake3:{}", blake3::hash(&self.new).to_hex());
        let wish = json!({"name": "tool.sif", "size": self.new.len(), "digest": digest});
        let url = format!("{}/v1/library/uploads", self.cluster.url());
        let answer: Value = ureq::post(url)
            .header("authorization", self.cluster.bearer())
            .send_json(wish)?
            .body_mut()
            .read_json()?;
        let url = format!("{}/v1/library/uploads/", self.cluster.url());
        // Without an identifier it is there already.
        let id = answer["id"].as_str().map(|id| url + id).unwrap_or_default();
        Ok((id, answer["offset"].as_u64().unwrap_or_default()))
    }

    /// Brings the image, as far as the coordinator lives.
    fn upload(&self) -> anyhow::Result<()> {
        let (url, offset) = self.begin()?;
        if url.is_empty() {
            return Ok(());
        }
        let rest = self.new.get(usize::try_from(offset)?..).context("the offset is beyond the end")?;
        if !rest.is_empty() {
            let request = ureq::patch(&url).header("authorization", self.cluster.bearer());
            request.header("upload-offset", offset.to_string()).send(rest)?;
        }
        let finish = ureq::post(format!("{url}/finish"));
        finish.header("authorization", self.cluster.bearer()).send_empty()?;
        Ok(())
    }

    /// Looks what the upload will be called, and starts the coordinator so that it dies at a call.
    fn start(&mut self, (call, at): (&str, At), nth: usize) {
        let (url, _) = self.begin().unwrap();
        ureq::delete(&url).header("authorization", self.cluster.bearer()).call().unwrap();
        let id = url.rsplit('/').next().unwrap();
        let path = match at {
            At::Data => self.folder().join(format!("upload-{id}.data")),
            At::Draft => self.folder().join(format!("upload-{id}.draft")),
            At::Folder => self.folder(),
            At::Library => self.cluster.library(),
        };
        self.cluster.kill(COORDINATOR).unwrap();
        if matches!(at, At::Library) {
            // Somebody tidied up.
            fs::remove_dir(self.folder()).unwrap();
        }
        self.cluster
            .start_under(COORDINATOR, strace::words(&[path], call, &format!("signal=KILL:when={nth}")));
        // It may die before it answers.
        drop(self.cluster.start_coordinator());
    }

    fn is_sound(&self, what: &str) -> bool {
        assert_eq!(visible(&self.cluster.library()), ["tool.sif"], "{what}");
        let found = fs::read(self.cluster.library().join("tool.sif")).unwrap();
        assert!(found == self.old || found == self.new, "{what}: neither the old image nor the new one");
        found == self.new
    }
}

#[test]
fn a_coordinator_that_dies_in_front_of_any_change_to_its_library_shows_whole_images_and_goes_on() {
    let test = "a_coordinator_that_dies_in_front_of_any_change_to_its_library_shows_whole_images_and_goes_on";
    if skipped(test, &["strace"]) {
        return;
    }
    let mut ward = Ward::open();
    ward.cluster.start_coordinator().unwrap();
    let (mut crashes, mut seed) = (Vec::new(), 20);
    for (call, at) in POINTS {
        for nth in 1..=MOST {
            let what = format!("{call} {nth} on {at:?}");
            seed += 1;
            ward.new = image(500_000, seed);
            ward.start((call, at), nth);
            let answer = ward.upload();
            let hit = answer.is_err();
            let published = ward.is_sound(&what);
            assert!(hit || published, "{what}: answered for and not there");
            if hit {
                let gone = || {
                    ensure!(ward.cluster.has_ended(COORDINATOR)?, "it lives: {:?}", answer);
                    Ok(())
                };
                until(&what, LIMIT, gone).unwrap();
                crashes.push(format!("{what}{}", if published { " (published)" } else { "" }));
            }
            ward.cluster.kill(COORDINATOR).unwrap();
            ward.cluster.start_under(COORDINATOR, Vec::new());
            ward.cluster.start_coordinator().unwrap();
            ward.upload().unwrap();
            assert!(ward.is_sound(&what), "{what}: answered for and not there");
            assert_eq!(unfinished(&ward.cluster.library()), 0, "{what}: something is left");
            ward.old = std::mem::take(&mut ward.new);
            if !hit {
                break;
            }
        }
    }
    println!("{} crashes: {}", crashes.len(), crashes.join(", "));
    assert!(crashes.len() >= POINTS.len(), "strace hit little");
}
