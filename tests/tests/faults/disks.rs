//! A node whose disk does not take an image: it says why, keeps what it had, leaves nothing behind, and holds nobody up.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use sifleet_agent::settings::Settings;
use sifleet_common::digest::Digest;
use sifleet_common::push::{FailCode, Phase};
use sifleet_common::wire::assignment::{Assignment, Progress};
use sifleet_tests::mover::{self, Mover, assignment};
use sifleet_tests::sif::SifBuilder;

use crate::mount::{Mount, skipped};

const MIB: u64 = 1024 * 1024;

fn image(seed: u64) -> Vec<u8> {
    SifBuilder::new().payload_bytes(6_000_000, seed).bytes()
}

/// What was under the image's name before.
fn old() -> Vec<u8> {
    SifBuilder::new().payload_bytes(100_000, 77).bytes()
}

/// A source, a healthy node, and one with an old image whose root is special.
struct Ward {
    _folder: tempfile::TempDir,
    _source: Mover,
    healthy: Mover,
    patient: Mover,
    bytes: Vec<u8>,
    assignment: Assignment,
}

/// Where the special root is mounted.
fn root_of(folder: &Path) -> PathBuf {
    folder.join("patient/root")
}

impl Ward {
    /// Starts everybody; the root is there already.
    async fn open(folder: tempfile::TempDir, set: impl FnOnce(&mut Settings)) -> Self {
        let path = folder.path();
        mover::authority(path).unwrap();
        fs::create_dir_all(root_of(path)).unwrap();
        fs::write(root_of(path).join("image.sif"), old()).unwrap();
        let bytes = image(1);
        let digest = Digest::from(blake3::hash(&bytes));
        let mut source = Mover::start(path, "source").unwrap();
        fs::write(source.root.join("source.sif"), &bytes).unwrap();
        source.sees("source.sif", digest).await.unwrap();
        let map = source.map(digest).await.unwrap();
        let assignment = assignment(digest, bytes.len() as u64, map, vec![source.peer.clone()]);
        let healthy = Mover::start(path, "healthy").unwrap();
        let patient = Mover::start_with(path, "patient", set).unwrap();
        Self { _folder: folder, _source: source, healthy, patient, bytes, assignment }
    }

    /// Assigns the image to both; the patient fails for a reason, as if nothing had happened, the other gets it.
    async fn fails(&mut self, codes: &[FailCode]) -> Progress {
        for mover in [&self.patient, &self.healthy] {
            mover.assign(self.assignment.clone()).await.unwrap();
        }
        let ended = self.ends_badly(codes).await;
        let healthy = self.healthy.end(self.assignment.id).await.unwrap();
        assert_eq!((healthy.phase, healthy.failure), (Phase::Done, None));
        assert!(fs::read(self.healthy.root.join("image.sif")).unwrap() == self.bytes);
        ended
    }

    async fn ends_badly(&mut self, codes: &[FailCode]) -> Progress {
        let ended = self.patient.end(self.assignment.id).await.unwrap();
        let (found, words) = ended.failure.clone().unwrap_or_else(|| panic!("it did not fail: {ended:?}"));
        println!("{found}: {words}");
        assert!(ended.phase == Phase::Failed && codes.contains(&found), "{found}: {words}");
        let root = &self.patient.root;
        assert!(words.contains(&root.display().to_string()), "where is it? {words}");
        assert!(fs::read(root.join("image.sif")).unwrap() == old(), "the old image is not what it was");
        self.leaves_nothing();
        ended
    }

    fn leaves_nothing(&self) {
        let names = |folder: &Path| -> Vec<String> {
            let entries = fs::read_dir(folder).into_iter().flatten();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| !["lost+found", ".sifleet", "filler"].contains(&name.as_str())).collect()
        };
        assert_eq!(names(&self.patient.root), ["image.sif"]);
        assert_eq!(names(&self.patient.root.join(".sifleet")), Vec::<String>::new());
    }

    /// Assigns it to the patient again, which has been mended.
    async fn succeeds(&mut self) {
        self.patient.assign(self.assignment.clone()).await.unwrap();
        let ended = self.patient.end(self.assignment.id).await.unwrap();
        assert_eq!((ended.phase, ended.failure), (Phase::Done, None));
        assert!(fs::read(self.patient.root.join("image.sif")).unwrap() == self.bytes);
        self.leaves_nothing();
        self.patient.sees("image.sif", self.assignment.image).await.unwrap();
    }
}

/// Takes space away; what it took at most is left in MiB.
fn fill(root: &Path, leave: u64) {
    let mut file = File::create(root.join("filler")).unwrap();
    loop {
        let room = rustix::fs::statvfs(root).unwrap();
        if room.f_bavail * room.f_frsize <= leave * MIB || file.write_all(&[1; 65_536]).is_err() {
            return file.sync_all().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_before_a_byte_is_moved_and_tried_again_when_there_is_space() {
    let test = "a_full_disk_is_said_before_a_byte_is_moved_and_tried_again_when_there_is_space";
    if skipped(test, &["mkfs.ext4"]) {
        return;
    }
    for kind in ["tmpfs", "ext4"] {
        let folder = tempfile::tempdir().unwrap();
        let root = root_of(folder.path());
        let _mount = match kind {
            "tmpfs" => Mount::tmpfs(&root, "12m"),
            _ => Mount::made(&root, &folder.path().join("disk"), 24, &["mkfs.ext4"]),
        };
        fill(&root, 4);
        let mut ward = Ward::open(folder, |_| ()).await;
        let ended = ward.fails(&[FailCode::NoSpace]).await;
        assert_eq!(ended.bytes.fetched, 0, "{kind}");
        fs::remove_file(root.join("filler")).unwrap();
        ward.succeeds().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_filled_meanwhile_gets_its_space_back() {
    let test = "a_disk_that_is_filled_meanwhile_gets_its_space_back";
    if skipped(test, &["mkfs.ext2"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = root_of(folder.path());
    // This one cannot reserve space.
    let mount = Mount::made(&root, &folder.path().join("disk"), 24, &["mkfs.ext2"]);
    let mut ward = Ward::open(folder, |_| ()).await;
    let slowly = Assignment { rate: Some(2_000_000), ..ward.assignment.clone() };
    ward.patient.assign(slowly).await.unwrap();
    let part = root.join(".sifleet").join(format!("{}.part", ward.assignment.image.hex()));
    while fs::metadata(&part).map_or(0, |facts| facts.blocks()) == 0 {
        tokio::task::yield_now().await;
    }
    fill(&root, 0);
    let ended = ward.ends_badly(&[FailCode::NoSpace]).await;
    assert!(ended.bytes.fetched < ward.bytes.len() as u64);
    fs::remove_file(root.join("filler")).unwrap();
    ward.succeeds().await;
    drop((ward, mount));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_cannot_be_written_is_a_reason() {
    let test = "a_root_that_cannot_be_written_is_a_reason";
    if skipped(test, &["mount"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mount = Mount::tmpfs(&root_of(folder.path()), "32m");
    let mut ward = Ward::open(folder, |_| ()).await;
    mount.again("ro");
    ward.fails(&[FailCode::ReadOnly]).await;
    mount.again("rw");
    ward.succeeds().await;
    drop((ward, mount));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_loses_what_it_took_publishes_nothing() {
    let test = "a_disk_that_loses_what_it_took_publishes_nothing";
    if skipped(test, &["mkfs.ext4"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // A disk that promises more than there is: it takes everything and fails when it is written out. Which error that
    // is depends on the kernel.
    let thin = Mount::tmpfs(&folder.path().join("thin"), "3m");
    let backing = folder.path().join("thin/disk");
    let mount = Mount::made(&root_of(folder.path()), &backing, 64, &["mkfs.ext4", "-O", "^has_journal"]);
    let mut ward = Ward::open(folder, |_| ()).await;
    ward.fails(&[FailCode::Io, FailCode::NoSpace]).await;
    thin.again("size=64m");
    ward.succeeds().await;
    drop((ward, mount, thin));
}

/// Does something on a thread, and on those it makes, without powers of root's.
fn without<F: Future<Output = ()>>(powers: CapabilitySet, act: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let mut sets = capabilities(None).unwrap();
        sets.effective -= powers;
        sets.permitted -= powers;
        set_capabilities(None, sets).unwrap();
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(act());
    });
    thread.join().unwrap();
}

#[test]
fn who_may_not_give_images_away_hears_so_before_a_byte_is_moved() {
    let test = "who_may_not_give_images_away_hears_so_before_a_byte_is_moved";
    if skipped(test, &["mount"]) {
        return;
    }
    without(CapabilitySet::CHOWN, || async {
        let somebody = |settings: &mut Settings| settings.transfer.owner = Some((12_345, 12_345));
        let mut ward = Ward::open(tempfile::tempdir().unwrap(), somebody).await;
        let ended = ward.fails(&[FailCode::Permission]).await;
        assert_eq!(ended.bytes.fetched, 0);
    });
    // The power to give files away is enough.
    without(CapabilitySet::FOWNER, || async {
        let somebody = |settings: &mut Settings| settings.transfer.owner = Some((12_345, 12_345));
        let mut ward = Ward::open(tempfile::tempdir().unwrap(), somebody).await;
        ward.assignment.name = "made/image.sif".parse().unwrap();
        ward.patient.assign(ward.assignment.clone()).await.unwrap();
        let ended = ward.patient.end(ward.assignment.id).await.unwrap();
        assert_eq!((ended.phase, ended.failure), (Phase::Done, None));
        for path in ["made", "made/image.sif"] {
            let facts = fs::metadata(ward.patient.root.join(path)).unwrap();
            assert_eq!((facts.uid(), facts.gid()), (12_345, 12_345), "{path}");
        }
    });
}

#[test]
fn a_root_of_somebody_else_is_a_reason_until_it_is_opened() {
    let test = "a_root_of_somebody_else_is_a_reason_until_it_is_opened";
    if skipped(test, &["mount"]) {
        return;
    }
    without(CapabilitySet::DAC_OVERRIDE | CapabilitySet::FOWNER, || async {
        let mut ward = Ward::open(tempfile::tempdir().unwrap(), |_| ()).await;
        let root = ward.patient.root.clone();
        let open = |mode| fs::set_permissions(&root, fs::Permissions::from_mode(mode)).unwrap();
        open(0o555);
        let ended = ward.fails(&[FailCode::Permission]).await;
        assert_eq!(ended.bytes.fetched, 0);
        open(0o755);
        ward.succeeds().await;
    });
}
