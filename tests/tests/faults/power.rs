//! Power that goes: what is on the disk at a moment, and nothing that was only in memory, is all that is left.
//!
//! A node's root is an ext4 in a file, in the mode that promises least (`data=writeback`, no help for careless renames).
//! The file holds what the disk would. Copies of it are taken while images are pushed, the steps of publication drawn out
//! by strace, and each copy is mounted, which repairs it as a boot would, and looked at.
//! Outside facts: ext4(5); loop(4) writes to its file what the file system hands to a disk, no sooner.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sifleet_tests::wait::pause;

use crate::mount::{Mount, skipped};
use crate::site::{Site, image, times, visible};
use crate::strace;

const NODE: &str = "viz1";
/// Of the image that is pushed, in bytes.
const SIZE: u32 = 3_000_000;
/// How long each step takes, in microseconds: time for a copy, and for the kernel to write what it likes.
const STEP: u32 = 400_000;
/// What ext4 promises least with, and a journal that is closed every second.
const CARELESS: &str = "loop,data=writeback,noauto_da_alloc,commit=1";

/// A node on a disk that loses power.
struct Ward {
    site: Site,
    /// What is on the disk.
    disk: PathBuf,
    root: PathBuf,
    known: Vec<Vec<u8>>,
    /// How many copies showed the old image, and how many the new one.
    seen: [usize; 2],
}

impl Ward {
    /// Returns what is on the disk at one moment: two readings that agree.
    fn disk(&self) -> Vec<u8> {
        loop {
            let (first, second) = (fs::read(&self.disk).unwrap(), fs::read(&self.disk).unwrap());
            if first == second {
                return first;
            }
        }
    }

    /// Looks at what a boot would find; returns whether the image that is being pushed is there.
    fn after_power_is_back(&mut self, what: &str) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let (copy, at) = (folder.path().join("disk"), folder.path().join("root"));
        fs::write(&copy, self.disk()).unwrap();
        let _mount = Mount::of(&at, &copy, "loop");
        assert_eq!(visible(&at), ["lost+found", "tool.sif"], "{what}");
        let found = fs::read(at.join("tool.sif")).unwrap();
        let which = self.known.iter().rposition(|known| *known == found);
        let newest = self.known.len() - 1;
        let which = which.unwrap_or_else(|| panic!("{what}: {} B that nobody pushed", found.len()));
        assert!(which + 1 >= newest, "{what}: an image that was replaced before is back");
        self.seen[usize::from(which == newest)] += 1;
        which == newest
    }

    fn push_while_power_fails(&mut self, (call, at): (&str, &str), seed: u64) {
        let bytes = image(SIZE, seed);
        self.known.push(bytes.clone());
        let part = format!(".sifleet/{}.part", blake3::hash(&bytes).to_hex());
        let path = self.root.join(if at == "part" { &part } else { at });
        let what = format!("{call} on {}", path.display());
        self.site.cluster.kill(NODE).unwrap();
        let words = strace::words(&[path], call, &format!("delay_enter={STEP}"));
        self.site.cluster.start_under(NODE, words);
        self.site.cluster.start_agent(NODE).unwrap();
        let push = self.site.push("tool.sif", &bytes, None);
        while self.site.shown(&push).unwrap()["state"] != "done" {
            self.after_power_is_back(&what);
            pause(Duration::from_millis(20));
        }
        assert!(self.after_power_is_back(&what), "{what}: it was done, and power took it back");
    }
}

#[test]
fn whenever_power_goes_the_old_image_or_the_new_one_is_there_and_what_was_done_stays() {
    let test = "whenever_power_goes_the_old_image_or_the_new_one_is_there_and_what_was_done_stays";
    if skipped(test, &["mkfs.ext4", "strace"]) {
        return;
    }
    let site = Site::lay_out("faults-power", NODE, &[NODE]);
    let (root, disk) = (site.cluster.root(NODE), site.cluster.folder().join("disk"));
    drop(Mount::made(&root, &disk, 32, &["mkfs.ext4"]));
    let _mount = Mount::of(&root, &disk, CARELESS);
    let old = image(60_000, 1);
    fs::write(root.join("tool.sif"), &old).unwrap();
    sync(&root);
    let mut ward = Ward { site, disk, root, known: vec![old], seen: [0, 0] };
    ward.site.cluster.start_all().unwrap();
    let points = [("fsync", "."), ("renameat", ".sifleet"), ("fsync", "part"), ("pwrite64", "part")];
    for seed in 0..times(1, 5) as u64 {
        for (at, point) in points.into_iter().take(times(2, 4)).enumerate() {
            ward.push_while_power_fails(point, 10 * (seed + 1) + at as u64);
        }
    }
    println!(
        "power went {} times; the new image was there {} times",
        ward.seen[0] + ward.seen[1],
        ward.seen[1]
    );
    assert!(ward.seen[0] > 0 && ward.seen[1] > 0, "{:?}", ward.seen);
}

fn sync(folder: &Path) {
    rustix::fs::syncfs(fs::File::open(folder).unwrap()).unwrap();
}
