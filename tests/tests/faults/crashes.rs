//! An agent whose system calls fail, or that dies in front of one, at every step at which it changes a disk.
//!
//! `strace` does it to the real program. It counts calls of each kind by thread, and only those that touch the paths it is
//! given: so every kind of call is tried on each path, the first, the second and so on, until none is hit any longer.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;
use sifleet_tests::cluster::LIMIT;
use sifleet_tests::wait::until;

use crate::mount::skipped;
use crate::site::{Site, image, times, unfinished, visible};
use crate::strace;

const SIZE: u32 = 2_000_000;
const NODE: &str = "viz1";

/// Calls that change what is on a disk, and on which of the paths of a transfer they are made.
const POINTS: [(&str, At); 14] = [
    ("mkdirat", At::Root),
    ("fchmod", At::Folder),
    ("fsync", At::Root),
    ("ftruncate", At::Part),
    ("fallocate", At::Part),
    ("pwrite64", At::Part),
    ("fchmod", At::Part),
    ("fsync", At::Part),
    ("renameat", At::Folder),
    ("write", At::Map),
    ("rename", At::Map),
    ("pwrite64", At::Memory),
    ("fdatasync", At::Memory),
    ("fsync", At::Memory),
];

/// Where a call is made.
#[derive(Clone, Copy, Debug)]
enum At {
    Root,
    Folder,
    Part,
    Map,
    Memory,
}

/// A node with an old image under the name of the one that is pushed, and another one.
struct Ward {
    site: Site,
    root: PathBuf,
    other: Vec<u8>,
    old: Vec<u8>,
    new: Vec<u8>,
    seed: u64,
}

impl Ward {
    fn open(name: &'static str) -> Self {
        let site = Site::start(name, NODE, &[NODE]);
        let root = site.cluster.root(NODE);
        let (other, old) = (image(50_000, 1), image(60_000, 2));
        fs::write(root.join("other.sif"), &other).unwrap();
        fs::write(root.join("tool.sif"), &old).unwrap();
        Self { site, root, other, old, new: Vec::new(), seed: 10 }
    }

    /// Starts the agent anew under strace with a fault, and pushes the next image; returns the push.
    fn push_with(&mut self, (call, at): (&str, At), fault: &str) -> String {
        self.seed += 1;
        self.new = image(SIZE, self.seed);
        let hex = blake3::hash(&self.new).to_hex();
        let state = self.site.cluster.folder().join("nodes").join(NODE).join("state");
        let folder = self.root.join(".sifleet");
        let paths = match at {
            At::Root => vec![self.root.clone()],
            At::Folder => vec![folder],
            At::Part => vec![folder.join(format!("{hex}.part"))],
            At::Map => vec![state.join(format!("maps/{hex}.part")), state.join(format!("maps/{hex}.map"))],
            At::Memory => vec![state.join("memory.db"), state.join("memory.db-wal")],
        };
        self.site.cluster.kill(NODE).unwrap();
        if matches!(at, At::Root | At::Folder) && unfinished(&self.root) == 0 {
            // It was made by the push before.
            drop(fs::remove_dir(self.root.join(".sifleet")));
        }
        self.site.cluster.start_under(NODE, strace::words(&paths, call, fault));
        self.site.cluster.start_agent(NODE).unwrap();
        self.site.push("tool.sif", &self.new, None)
    }

    /// Looks at the disk: what can be seen is whole.
    fn is_sound(&self, what: &str) -> bool {
        assert_eq!(visible(&self.root), ["other.sif", "tool.sif"], "{what}");
        let found = fs::read(self.root.join("tool.sif")).unwrap();
        assert!(found == self.old || found == self.new, "{what}: neither the old image nor the new one");
        assert!(fs::read(self.root.join("other.sif")).unwrap() == self.other, "{what}");
        found == self.new
    }

    fn ends_well(&mut self, push: &str, what: &str) {
        self.site.comes_to(push, "done");
        assert!(self.is_sound(what), "{what}: done without the image");
        assert_eq!(unfinished(&self.root), 0, "{what}: something is left");
        std::mem::swap(&mut self.old, &mut self.new);
    }

    /// Starts the agent as it is, and waits until the coordinator says of it what is on the disk.
    fn restart(&mut self, what: &str) {
        self.site.cluster.start_under(NODE, Vec::new());
        self.site.cluster.start_agent(NODE).unwrap();
        let cluster = &self.site.cluster;
        until(&format!("{what}: the inventory is what the disk holds"), LIMIT, || {
            let answer: Value = cluster.availability("other.sif", "viz")?;
            ensure!(answer["nodes"]["ready"] == NODE, "{answer}");
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn an_agent_that_dies_in_front_of_any_change_to_a_disk_shows_whole_images_and_goes_on() {
    let test = "an_agent_that_dies_in_front_of_any_change_to_a_disk_shows_whole_images_and_goes_on";
    if skipped(test, &["strace"]) {
        return;
    }
    let mut ward = Ward::open("faults-crashes");
    let (mut crashes, mut points) = (0, Vec::new());
    let most = times(1, 40);
    let chosen = POINTS.iter().filter(|(call, at)| {
        times(0, 1) > 0
            || matches!(
                (*call, at),
                ("pwrite64" | "fsync" | "fallocate", At::Part) | ("renameat", _) | ("fsync", At::Root)
            )
    });
    for (call, at) in chosen {
        for nth in 1..=most {
            let what = format!("{call} {nth} on {at:?}");
            let push = ward.push_with((call, *at), &format!("signal=KILL:when={nth}"));
            let (hit, _) = until(&what, LIMIT, || {
                let ended = ward.site.cluster.has_ended(NODE)?;
                ensure!(ended || ward.site.shown(&push)?["state"] == "done", "it goes on");
                Ok(ended)
            })
            .unwrap();
            let published = ward.is_sound(&what);
            if hit {
                crashes += 1;
                points.push(format!("{what}{}", if published { " (published)" } else { "" }));
                ward.site.cluster.kill(NODE).unwrap();
                ward.restart(&what);
            }
            ward.ends_well(&push, &what);
            if !hit {
                break;
            }
        }
    }
    println!("{crashes} crashes: {}", points.join(", "));
    assert!(crashes >= times(4, 12), "strace hit little");
}

#[test]
fn a_system_call_that_fails_is_a_reason_and_the_next_try_goes_well() {
    let test = "a_system_call_that_fails_is_a_reason_and_the_next_try_goes_well";
    if skipped(test, &["strace"]) {
        return;
    }
    let mut ward = Ward::open("faults-refusals");
    let all = [
        ("fallocate", "EDQUOT", "quota"),
        ("pwrite64", "EIO", "io"),
        ("fsync", "EIO", "io"),
        ("pwrite64", "ENOSPC", "no_space"),
        ("pwrite64", "EDQUOT", "quota"),
        ("ftruncate", "EROFS", "read_only"),
        ("fchmod", "EPERM", "permission"),
    ];
    for (call, error, code) in all.into_iter().take(times(2, all.len())) {
        let what = format!("{call} ends with {error}");
        let push = ward.push_with((call, At::Part), &format!("error={error}:when=1"));
        until(&what, LIMIT, || {
            let node = ward.site.node(&push, NODE)?;
            ensure!(node["phase"] == "failed" && node["code"] == code, "{node}");
            Ok(())
        })
        .unwrap();
        assert!(!ward.is_sound(&what), "{what}: published all the same");
        assert_eq!(unfinished(&ward.root), 0, "{what}: something is left");
        let trying = Duration::from_secs(30);
        until(&format!("{what}, and it is tried again"), trying, || {
            // Threads are counted one by one, so another one may be hit again.
            ward.site.retry(&push);
            ensure!(ward.site.shown(&push)?["state"] == "done", "not yet");
            Ok(())
        })
        .unwrap();
        ward.ends_well(&push, &what);
    }
}
