//! The registry over a real library and a real store; what the inventory shows is said by hand.

mod at_once;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::json;
use sifleet_common::clock::Clock;
use sifleet_common::digest::Digest;
use sifleet_common::image::{Arch, Format};
use sifleet_common::inventory::{Change, Content, Image, RootState};

use super::digest::{Algorithm, OciDigest};
use super::name::{Reference, Repository};
use super::*;
use crate::library;
use crate::state::run::{Loop, prepare};
use crate::state::testing::{Site, gone, hung, library as library_root, put};
use crate::state::{Limits, State};
use crate::store::{Restored, sqlite};

const ROOT_SLOTS: u64 = 48;

/// A registry, and the inventory of whoever watches its library.
struct Lab {
    folder: tempfile::TempDir,
    registry: Registry,
    site: Site,
    /// Keeps the queue open that nobody reads.
    _loop: Loop,
}

fn lab(options: Options) -> Lab {
    lab_with(options, 0)
}

fn lab_with(options: Options, keep_free: u64) -> Lab {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("library");
    fs::create_dir(&dir).unwrap();
    let (store, _) = sqlite::open(&folder.path().join("coordinator.db")).unwrap();
    let state = State::restore(Limits::default(), Restored::default());
    let (running, handle) = prepare(state, store.clone(), Clock::start());
    let library = Library::new(library::Options { keep_free, ..library::Options::new(dir) });
    let registry = Registry::new(library, options, store, handle);
    let mut site = Site::new();
    site.agent("head", vec![library_root(RootState::Watched)]);
    Lab { folder, registry, site, _loop: running }
}

/// A SIF as far as anybody looks: header, table, and a squashfs.
fn sif(seed: u8) -> Vec<u8> {
    let (table, slot) = (4_096_u64, 585_u64);
    let data = table + ROOT_SLOTS * slot;
    let mut file = b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC\x0001\x0002\0".to_vec();
    file.extend([seed; 16]);
    for number in [10, 20, ROOT_SLOTS - 1, ROOT_SLOTS, table, ROOT_SLOTS * slot, data, 0] {
        file.extend(number.to_le_bytes());
    }
    file.resize(4_096, 0);
    file.extend(0x4004_i32.to_le_bytes());
    file.push(1);
    for number in [1_u32, 0xf000_0001, 0] {
        file.extend(number.to_le_bytes());
    }
    for number in [data, 4_096, 0, 0, 0, 0, 0] {
        file.extend(number.to_le_bytes());
    }
    file.resize(4_096 + 201, 0);
    file.extend([1, 0, 0, 0, 2, 0, 0, 0, b'0', b'2', 0]);
    file.resize(usize::try_from(data).unwrap(), 0);
    let mut squashfs = vec![seed; 4_096];
    squashfs[..96].fill(0);
    squashfs[..4].copy_from_slice(b"hsqs");
    squashfs[28] = 4;
    squashfs[40..48].copy_from_slice(&4_096_u64.to_le_bytes());
    file.extend(squashfs);
    file
}

fn manifest(layer: &OciDigest, size: usize) -> Vec<u8> {
    let config = json!({"mediaType": "a/b", "size": 2, "digest": Algorithm::Sha256.of(b"{}").to_string()});
    let layer = json!({"mediaType": manifest::SIF_LAYER, "size": size, "digest": layer.to_string()});
    serde_json::to_vec(&json!({"schemaVersion": 2, "config": config, "layers": [layer]})).unwrap()
}

fn of(repository: &str) -> Repository {
    repository.parse().unwrap()
}

fn meant(reference: &str) -> Reference {
    reference.parse().unwrap()
}

impl Lab {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("library").join(name)
    }

    /// Puts a file into the library without the registry.
    fn copy_in(&self, name: &str, bytes: &[u8]) {
        let (path, aside) = (self.path(name), self.folder.path().join("aside"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&aside, bytes).unwrap();
        fs::rename(aside, path).unwrap();
    }

    fn is(&self, name: &str, bytes: &[u8]) -> bool {
        fs::read(self.path(name)).is_ok_and(|found| found == bytes)
    }

    fn say(&mut self, change: Change) {
        self.site.change("head", vec![change]);
        self.registry.0.handle.views.store(Arc::new(self.site.view()));
    }

    /// Lets the inventory show an image.
    fn show(&mut self, name: &str, bytes: &[u8]) {
        let (digest, format) = (Digest::of(bytes), Format::Sif);
        self.say(put(name, Content::Image(Image { digest, format, arch: Arch::Amd64, mutable: false })));
    }

    async fn push_blob(&self, bytes: &[u8], algorithm: Algorithm) -> OciDigest {
        let digest = algorithm.of(bytes);
        let id = self.registry.begin_upload().await.unwrap();
        let receiving = self.registry.receive(id, None).await.unwrap();
        receiving.append(bytes.to_vec()).await.unwrap().finish(digest.clone()).await.unwrap();
        digest
    }

    async fn put(&self, repository: &str, reference: &str, bytes: Vec<u8>) -> Result<Taken, OciError> {
        let (repository, reference) = (of(repository), meant(reference));
        let pushed = Pushed { repository, reference, tags: Vec::new(), content_type: None, bytes };
        self.registry.put_manifest(pushed).await
    }

    async fn push(&self, repository: &str, tag: &str, bytes: &[u8]) -> Result<Taken, OciError> {
        let layer = self.push_blob(bytes, Algorithm::Sha256).await;
        self.put(repository, tag, manifest(&layer, bytes.len())).await
    }

    async fn find(&self, repository: &str, reference: &str) -> Result<Found, OciError> {
        self.registry.find(&of(repository), &meant(reference), false).await
    }

    async fn delete(&self, repository: &str, reference: &str) -> Result<(), OciError> {
        self.registry.delete_manifest(&of(repository), &meant(reference)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_deleted_with_its_own_images_and_no_other_that_took_the_name_of_a_tag() {
    let mut lab = lab(Options::default());
    let (first, other) = (sif(1), sif(2));
    lab.push("viz/vnc", "v1", &first).await.unwrap();
    let taken = lab.push("viz/vnc", "stable", &first).await.unwrap();
    lab.copy_in("viz/vnc_v1.sif", &other);
    lab.show("viz/vnc_v1.sif", &other);
    lab.registry.hash(&"viz/vnc_v1.sif".parse().unwrap()).await.unwrap();
    lab.delete("viz/vnc", &taken.digest.to_string()).await.unwrap();
    assert!(lab.is("viz/vnc_v1.sif", &other), "it is another image");
    assert!(!lab.path("viz/vnc_stable.sif").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_that_differ_in_capitals_are_different_tags() {
    let mut lab = lab(Options::default());
    let (small, large) = (sif(1), sif(2));
    lab.copy_in("x_rc1.sif", &small);
    lab.show("x_rc1.sif", &small);
    assert!(matches!(lab.find("x", "RC1").await, Err(OciError::UnknownManifest { .. })));
    assert!(matches!(lab.delete("x", "RC1").await, Err(OciError::UnknownManifest { .. })));
    assert!(lab.is("x_rc1.sif", &small));
    lab.copy_in("Compute/GROMACS_RC1.sif", &large);
    lab.show("Compute/GROMACS_RC1.sif", &large);
    let found = lab.find("compute/gromacs", "RC1").await.unwrap().layer.unwrap();
    assert_eq!(found.name.as_str(), "Compute/GROMACS_RC1.sif");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_never_replaces_the_image_of_another_tag_whose_file_has_the_same_name() {
    let mut lab = lab(Options::default());
    let (first, second) = (sif(1), sif(2));
    for ((repository, tag), (other, its), file) in [
        (("openfoam_dev", "v1"), ("openfoam", "dev_v1"), "openfoam_dev_v1.sif"),
        (("vnc", "v2"), ("vnc_v2", "latest"), "vnc_v2.sif"),
    ] {
        lab.push(repository, tag, &first).await.unwrap();
        let refused = lab.push(other, its, &second).await.unwrap_err();
        assert!(matches!(&refused, OciError::NameTaken { by, .. } if *by == format!("{repository}:{tag}")));
        assert!(lab.is(file, &first));
        assert!(lab.find(repository, tag).await.is_ok());
        lab.delete(repository, tag).await.unwrap();
        lab.push(other, its, &second).await.unwrap();
        assert!(lab.is(file, &second));
    }
    // What somebody copied over it is no image of the tag any longer.
    lab.copy_in("vnc_v2.sif", &first);
    lab.show("vnc_v2.sif", &first);
    lab.registry.hash(&"vnc_v2.sif".parse().unwrap()).await.unwrap();
    lab.push("vnc", "v2", &sif(3)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_found_by_its_digests_after_its_permissions_changed() {
    let mut lab = lab(Options::default());
    let (pushed, copied) = (sif(1), sif(2));
    let taken = lab.push("a", "v1", &pushed).await.unwrap();
    lab.show("a_v1.sif", &pushed);
    lab.copy_in("b.sif", &copied);
    lab.show("b.sif", &copied);
    let own = lab.find("b", "latest").await.unwrap().digest;
    for (name, repository, digest) in [("a_v1.sif", "a", taken.digest), ("b.sif", "b", own)] {
        fs::set_permissions(lab.path(name), fs::Permissions::from_mode(0o600)).unwrap();
        lab.find(repository, &digest.to_string()).await.unwrap();
        fs::set_permissions(lab.path(name), fs::Permissions::from_mode(0o644)).unwrap();
        // Without anybody who asks.
        let (unknown, _) = lab.registry.on_disk(Registry::unhashed).await.unwrap();
        assert_eq!(unknown, [name.parse::<ImageName>().unwrap()]);
        lab.registry.hash(&unknown[0]).await.unwrap();
        assert_eq!(lab.registry.on_disk(Registry::unhashed).await.unwrap().0, []);
    }
    fs::remove_file(lab.path("a_v1.sif")).unwrap();
    lab.say(gone("a_v1.sif"));
    assert_eq!(lab.registry.on_disk(Registry::unhashed).await.unwrap().1, ["a_v1.sif"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_goes_on_to_a_partition_once_it_is_the_one_that_was_pushed() {
    let everything = Placing { repositories: "*".to_owned(), partition: "viz".parse().unwrap() };
    let mut lab = lab(Options { place: vec![everything], ..Options::default() });
    let (old, new) = (sif(1), sif(2));
    lab.push("a", "v1", &old).await.unwrap();
    lab.show("a_v1.sif", &old);
    lab.push("a", "v1", &new).await.unwrap();
    assert_eq!(lab.registry.due(), [], "the inventory shows the one before");
    lab.show("a_v1.sif", &new);
    assert_eq!(lab.registry.due(), [("a_v1.sif".parse().unwrap(), "viz".parse().unwrap(), Digest::of(&new))]);
    assert_eq!(lab.registry.due(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_called_as_its_manifest_calls_it() {
    let lab = lab(Options::default());
    let bytes = sif(1);
    let long = lab.push_blob(&bytes, Algorithm::Sha512).await;
    let taken = lab.put("a", "v1", manifest(&long, bytes.len())).await.unwrap();
    for reference in ["v1", &taken.digest.to_string()] {
        assert_eq!(lab.find("a", reference).await.unwrap().layer.unwrap().digest, long);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_an_artifact_needs_is_not_deleted() {
    let lab = lab(Options::default());
    let blob = lab.push_blob(b"x", Algorithm::Sha256).await;
    let text = String::from_utf8(manifest(&blob, 1)).unwrap().replace(manifest::SIF_LAYER, "text/plain");
    let taken = lab.put("a", "v1", text.into_bytes()).await.unwrap();
    let repository = of("a");
    let delete = || lab.registry.delete_blob(&repository, &blob);
    assert!(matches!(delete().await, Err(OciError::Unsupported { .. })));
    lab.delete("a", &taken.digest.to_string()).await.unwrap();
    delete().await.unwrap();
    assert!(matches!(delete().await, Err(OciError::UnknownBlob { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_empty_configuration_is_there_where_an_image_has_it_and_elsewhere_until_it_is_deleted() {
    let mut lab = lab(Options::default());
    let (empty, repositories) = (Algorithm::Sha256.of(b"{}"), [of("pushed"), of("copied"), of("other")]);
    let taken = lab.push("pushed", "v1", &sif(1)).await.unwrap();
    lab.copy_in("copied.sif", &sif(2));
    lab.show("copied.sif", &sif(2));
    let [pushed, copied, other] = &repositories;
    for has_it in [pushed, copied] {
        assert_eq!(lab.registry.blob(has_it, &empty).await.unwrap().size, 2);
        let refused = lab.registry.delete_blob(has_it, &empty).await;
        assert!(matches!(refused, Err(OciError::Unsupported { .. })));
    }
    let missing = lab.registry.blob(other, &empty).await;
    assert!(matches!(missing, Err(OciError::UnknownBlob { .. })));
    lab.push_blob(b"{}", Algorithm::Sha256).await;
    lab.registry.blob(other, &empty).await.unwrap();
    lab.registry.delete_blob(other, &empty).await.unwrap();
    for gone in
        [lab.registry.blob(other, &empty).await.err(), lab.registry.delete_blob(other, &empty).await.err()]
    {
        assert!(matches!(gone, Some(OciError::UnknownBlob { .. })));
    }
    // A file that was hashed can be pulled by its digest even while nobody vouches for the library.
    lab.find("copied", "latest").await.unwrap();
    lab.say(library_root(hung()));
    for has_it in [pushed, copied] {
        lab.registry.blob(has_it, &empty).await.unwrap();
    }
    fs::remove_file(lab.path("copied.sif")).unwrap();
    assert!(lab.registry.blob(copied, &empty).await.is_err(), "though its hashes are still known");
    lab.delete("pushed", &taken.digest.to_string()).await.unwrap();
    assert!(lab.registry.blob(pushed, &empty).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_have_a_bound_of_their_own() {
    let bytes = sif(1);
    let one = manifest(&Algorithm::Sha256.of(&bytes), bytes.len()).len() as u64;
    let lab = lab(Options { max_manifests: 2 * one - 1, ..Options::default() });
    lab.push("a", "v1", &bytes).await.unwrap();
    let full = lab.push("b", "v1", &bytes).await.unwrap_err();
    assert!(matches!(full, OciError::Quota { what: "manifests", .. }), "{full}");
    assert!(!lab.path("b_v1.sif").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_uploads_begin_or_are_written_at_once_than_are_allowed() {
    let lab = lab(Options { max_uploads: 4, ..Options::default() });
    let begun = futures_util::future::join_all((0..32).map(|_| lab.registry.begin_upload())).await;
    let ids: Vec<_> = begun.into_iter().filter_map(Result::ok).collect();
    assert_eq!(ids.len(), 4);
    let mut receiving = Vec::new();
    for id in &ids {
        receiving.push(lab.registry.receive(*id, None).await.unwrap());
    }
    let full = lab.registry.receive(ids[0], None).await.unwrap_err();
    assert!(matches!(full, OciError::TooMany { .. }), "{full}");
    receiving.truncate(3);
    lab.registry.receive(ids[3], None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_uploads_write_between_two_looks_fits_into_what_is_kept_free() {
    let lab = lab_with(Options::default(), 256 << 20);
    assert_eq!(lab.registry.look_every(), 4 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_come_page_by_page_by_their_bytes_and_also_where_none_of_a_page_is_meant() {
    let lab = lab(Options::default());
    let subject = Algorithm::Sha256.of(b"subject");
    let artifact = |n: usize, kind: &str| {
        let pad = "x".repeat(1 << 20);
        let artifact = json!({"schemaVersion": 2, "artifactType": kind, "annotations": {"n": n.to_string(), "pad": pad},
            "subject": {"digest": subject.to_string()}});
        serde_json::to_vec(&artifact).unwrap()
    };
    for n in 0..9 {
        let body = artifact(n, "a/many");
        lab.put("a", &Algorithm::Sha256.of(&body).to_string(), body).await.unwrap();
    }
    for (kind, expected) in [(None, 9), (Some("a/many"), 9), (Some("a/none"), 0)] {
        let (mut last, mut seen, mut pages) = (String::new(), 0, 0);
        loop {
            let asked = (kind.map(str::to_owned), last);
            let (found, more_behind) = lab.registry.referrers(&of("a"), &subject, asked).await.unwrap();
            (seen, pages) = (seen + found.len(), pages + 1);
            match more_behind {
                Some(behind) => last = behind,
                None => break,
            }
        }
        assert_eq!((seen, pages), (expected, 3), "{kind:?}");
    }
}
