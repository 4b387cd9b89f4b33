//! The SIF reader agrees with the real apptainer, on images that apptainer builds on the spot.
//!
//! apptainer comes from Debian sid into a root directory below `target/lab`, which `lab/apptainer.sh` makes
//! once. That takes root, debootstrap and a Debian mirror: without them these tests skip and say so, except
//! that in CI a root that cannot be made is a failure, unless Debian has no apptainer any more.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and tells why it skips"
)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Output;
use std::sync::OnceLock;

use serde_json::Value;
use sifleet_common::image::{self, Arch, Format, ImageMetadata, Runnable, SignatureKind};
use sifleet_common::sif::{Sif, SifError};
use sifleet_common::time::UnixMillis;
use sifleet_tests::apptainer::{Apptainer, said};
use sifleet_tests::sif::{SifBuilder, as_inspect_prints};

struct Lab {
    apptainer: Apptainer,
    /// Seen inside at the same path.
    images: PathBuf,
}

impl Lab {
    /// Makes the root and the images once for all tests here; none with the reason printed.
    fn get() -> Option<&'static Self> {
        static LAB: OnceLock<Result<Lab, String>> = OnceLock::new();
        match LAB.get_or_init(Self::make) {
            Ok(lab) => Some(lab),
            Err(reason) => {
                println!("skipped: {reason}");
                None
            }
        }
    }

    fn make() -> Result<Self, String> {
        let apptainer = Apptainer::find()?;
        let images = apptainer.folder("sif-images");
        let built = apptainer.script("images", &[&images]);
        assert!(built.status.success(), "apptainer builds no images: {}", said(&built));
        Ok(Self { apptainer, images })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.images.join(name)
    }

    fn run(&self, command: &[&str]) -> Output {
        self.apptainer.run_in(&self.images, command)
    }

    /// What a command prints when it succeeds.
    fn ask(&self, command: &[&str]) -> String {
        let output = self.run(command);
        assert!(output.status.success(), "{command:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn read(&self, name: &str) -> Result<ImageMetadata, SifError> {
        image::classify(&File::open(self.path(name)).unwrap())
    }

    fn list(&self, name: &str) -> Vec<String> {
        let sif = Sif::open(&File::open(self.path(name)).unwrap()).unwrap();
        sif.objects.iter().map(ToString::to_string).collect()
    }
}

/// The lines about objects in what `sif list` prints.
fn objects_in(list: &str) -> Vec<String> {
    let about_object = |line: &&str| line.starts_with(|c: char| c.is_ascii_digit());
    list.lines().filter(about_object).map(|line| line.trim_end().to_owned()).collect()
}

fn built_by_apptainer() -> [&'static str; 8] {
    ["plain", "pgp", "ed25519", "twice", "object", "overlay", "apps", "box"]
}

#[test]
fn what_apptainer_inspects_is_what_is_read() {
    let Some(lab) = Lab::get() else { return };
    for name in built_by_apptainer() {
        let name = format!("{name}.sif");
        let printed = fs::read(lab.path(&format!("{name}.inspect"))).unwrap();
        let image = lab.read(&name).unwrap();
        assert_eq!(as_inspect_prints(&image), serde_json::from_slice::<Value>(&printed).unwrap(), "{name}");
        assert_eq!((image.format, image.runnable), (Format::Sif, Runnable::Yes), "{name}");
        assert_eq!(image.notes, Vec::<String>::new(), "{name}");
    }
    assert_eq!(
        lab.read("plain.sif").unwrap().help.as_deref(),
        Some("    Help with \"quotes\", <angles> & 한글.")
    );
    assert_eq!(lab.read("apps.sif").unwrap().apps.keys().collect::<Vec<_>>(), ["bar", "foo"]);
}

#[test]
fn what_apptainer_lists_is_what_is_read() {
    let Some(lab) = Lab::get() else { return };
    for name in built_by_apptainer() {
        let name = format!("{name}.sif");
        let printed = fs::read_to_string(lab.path(&format!("{name}.list"))).unwrap();
        assert_eq!(lab.list(&name), objects_in(&printed), "{name}");
    }
}

#[test]
fn what_apptainer_says_of_the_header_is_what_is_read() {
    let Some(lab) = Lab::get() else { return };
    for name in built_by_apptainer() {
        let name = format!("{name}.sif");
        let printed = fs::read_to_string(lab.path(&format!("{name}.header"))).unwrap();
        let said = |field: &str| {
            let line = printed.lines().find_map(|line| line.strip_prefix(field)).unwrap();
            line.trim().to_owned()
        };
        let time = |seconds: Option<i64>| {
            let shown = UnixMillis(seconds.unwrap() * 1000).to_string();
            shown.replace('T', " ").replace(".000Z", " +0000 UTC")
        };
        let image = lab.read(&name).unwrap();
        assert_eq!(image.uuid.unwrap(), said("ID:"), "{name}");
        assert_eq!(image.arch.to_string(), said("Primary Architecture:"), "{name}");
        assert_eq!(time(image.created), said("Created At:"), "{name}");
        assert_eq!(time(image.modified), said("Modified At:"), "{name}");
    }
}

#[test]
fn signatures_made_by_apptainer_are_read() {
    let Some(lab) = Lab::get() else { return };
    let told = |name: &str| -> Vec<_> {
        let signatures = lab.read(name).unwrap().signatures;
        signatures.into_iter().map(|one| (one.kind, one.group, one.objects, one.covers_data)).collect()
    };
    let whole = |kind| (kind, Some(1), vec![1, 2, 3], true);
    assert_eq!(told("plain.sif"), []);
    assert_eq!(told("pgp.sif"), [whole(SignatureKind::Pgp)]);
    assert_eq!(told("ed25519.sif"), [whole(SignatureKind::Dsse)]);
    assert_eq!(told("twice.sif"), [whole(SignatureKind::Pgp), whole(SignatureKind::Dsse)]);
    assert_eq!(told("object.sif"), [(SignatureKind::Pgp, Some(1), vec![1], false)]);
    let fingerprint = lab.read("pgp.sif").unwrap().signatures.remove(0).fingerprint.unwrap();
    let verified = fs::read_to_string(lab.path("pgp.verify")).unwrap();
    assert!(verified.contains(&fingerprint), "{fingerprint} is not in {verified}");
    assert!(lab.read("ed25519.sif").unwrap().signatures[0].key_ids[0].starts_with("SHA256:"));
}

#[test]
fn only_the_image_with_an_overlay_is_mutable() {
    let Some(lab) = Lab::get() else { return };
    for name in built_by_apptainer() {
        assert_eq!(lab.read(&format!("{name}.sif")).unwrap().mutable, name == "overlay", "{name}");
    }
}

#[test]
fn an_image_cut_short_passes_inspect_and_is_truncated_here() {
    let Some(lab) = Lab::get() else { return };
    let whole = fs::read(lab.path("plain.sif")).unwrap();
    fs::write(lab.path("cut.sif"), &whole[..whole.len() - 1000]).unwrap();
    let inspected: Value =
        serde_json::from_str(&lab.ask(&["apptainer", "inspect", "--json", "--all", "cut.sif"])).unwrap();
    assert_eq!(inspected, as_inspect_prints(&lab.read("plain.sif").unwrap()));
    assert_eq!(objects_in(&lab.ask(&["apptainer", "sif", "list", "cut.sif"])).len(), 3);
    let error = lab.read("cut.sif").unwrap_err();
    assert!(matches!(error, SifError::Truncated { id: 3, needs: 40_960, has: 39_960 }), "{error:?}");
}

#[test]
fn bare_file_systems_are_what_they_are() {
    let Some(lab) = Lab::get() else { return };
    let squashfs = lab.read("bare.squashfs").unwrap();
    assert_eq!((squashfs.format, squashfs.mutable), (Format::Squashfs, false));
    assert!(squashfs.created.unwrap() > 1_700_000_000);
    let ext3 = lab.read("bare.ext3").unwrap();
    assert_eq!((ext3.format, ext3.mutable, ext3.used), (Format::Ext3, true, 4 << 20));
    for name in ["bare.squashfs", "bare.ext3"] {
        assert!(!lab.run(&["apptainer", "sif", "list", name]).status.success(), "{name}");
        let file = File::options().write(true).open(lab.path(name)).unwrap();
        let used = lab.read(name).unwrap().used;
        file.set_len(used - 1).unwrap();
        assert!(matches!(lab.read(name), Err(SifError::FileSystemTruncated { .. })), "{name}");
        file.set_len(used).unwrap();
    }
}

#[test]
fn apptainer_accepts_the_images_made_for_tests() {
    let Some(lab) = Lab::get() else { return };
    // apptainer inspects only images for the processor it runs on.
    let arch = Arch::of_machine(std::env::consts::ARCH);
    let builder = SifBuilder::new().label("Author", "<n@example.org>").payload_bytes(300_000, 7);
    builder.arch(arch.as_str()).overlay(4096).write(lab.path("ours.sif")).unwrap();
    let image = lab.read("ours.sif").unwrap();
    assert_eq!((image.arch, image.mutable, image.labels.len()), (arch, true, 1));
    assert_eq!(lab.list("ours.sif"), objects_in(&lab.ask(&["apptainer", "sif", "list", "ours.sif"])));
    let inspected = lab.ask(&["apptainer", "inspect", "--json", "--all", "ours.sif"]);
    assert_eq!(serde_json::from_str::<Value>(&inspected).unwrap(), as_inspect_prints(&image));
    // The squashfs is one that can be read, not merely one that begins like it.
    let unpack =
        "rm -rf out; apptainer sif dump 3 ours.sif >ours.squashfs && unsquashfs -q -d out ours.squashfs";
    lab.ask(&["sh", "-c", unpack]);
    let payload = fs::read(lab.path("out/payload")).unwrap();
    assert_eq!(payload.len(), 300_000);
    let partition = &image.partitions[0];
    let mut stored = vec![0; payload.len()];
    File::open(lab.path("ours.sif")).unwrap().read_exact_at(&mut stored, partition.offset + 96).unwrap();
    assert!(payload == stored, "the payload is not what was written");
}

/// A SIF with one object for each of these types and extra fields.
fn sif_of_kinds(kinds: &[(i32, i32, i32)]) -> Vec<u8> {
    let count = i64::try_from(kinds.len()).unwrap();
    let data_at = 4096 + 585 * count;
    let mut bytes = b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC\x0001\x0002\0".to_vec();
    bytes.resize(64, 0);
    for number in [1, 1, 0, count, 4096, 585 * count, data_at, count] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.resize(4096, 0);
    for (index, (data_type, first, second)) in (0_u32..).zip(kinds) {
        let from = bytes.len();
        bytes.extend(data_type.to_le_bytes());
        bytes.push(1);
        let odd = usize::try_from(index % 4).unwrap();
        let (group, link) = [(0xf000_0001, 0), (0xf000_0000, 0xf000_0001), (0, 2), (5, 0xf000_0000)][odd];
        for number in [index + 1, group, link] {
            bytes.extend(u32::to_le_bytes(number));
        }
        for number in [data_at + i64::from(index), 1, 1, 0, 0, 0, 0] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.resize(from + 201, 0);
        bytes.extend(first.to_le_bytes());
        bytes.extend(second.to_le_bytes());
        bytes.extend(format!("{:02}\0", index % 13).bytes());
        bytes.resize(from + 585, 0);
    }
    bytes.resize(bytes.len() + kinds.len(), b'x');
    bytes
}

#[test]
fn every_kind_of_object_is_named_as_apptainer_names_it() {
    let Some(lab) = Lab::get() else { return };
    // A signature of an unknown hash is left out: apptainer prints half a line for it.
    let plain = (0x4001..=0x400c).filter(|kind| *kind != 0x4005).map(|kind| (kind, 0, 0));
    let partitions = (0..8).flat_map(|file_system| (0..6).map(move |role| (0x4004, file_system, role)));
    let signatures = (1..=5).map(|hash| (0x4005, hash, 0));
    let keys = (0..4).flat_map(|format| [0x100, 0x200, 0x300].map(move |message| (0x4008, format, message)));
    let bills = (0..10).map(|form| (0x4009, form, 0));
    let kinds: Vec<_> = plain.chain(partitions).chain(signatures).chain(keys).chain(bills).collect();
    fs::write(lab.path("kinds.sif"), sif_of_kinds(&kinds)).unwrap();
    let printed = objects_in(&lab.ask(&["apptainer", "sif", "list", "kinds.sif"]));
    assert_eq!((printed.len(), lab.list("kinds.sif")), (kinds.len(), printed));
}
