//! The same images count as signed here and for the real apptainer: those it signs, and those with every flaw.
//!
//! Both are asked about each image with the same keys; where they may differ, a case says why. The table of all answers
//! is printed (`cargo test --test signatures_apptainer -- --nocapture`). Without an apptainer the test skips and says so.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "signatures/cases.rs"]
mod cases;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sifleet_common::clock::Clock;
use sifleet_common::keyring::{KeyMaterial, Keyring};
use sifleet_common::policy::Verdict;
use sifleet_common::sif::verify::verify;
use sifleet_tests::apptainer::{Apptainer, said};
use sifleet_tests::sif::sign::{descriptor_at, object_at, write};

/// Keys as apptainer takes them: a ring of OpenPGP keys, or one plain key.
#[derive(Clone)]
enum Keys {
    Ring(Vec<u8>),
    Plain(Vec<u8>),
}

struct Compared {
    name: String,
    image: Vec<u8>,
    keys: Keys,
    legacy: bool,
    differs: Option<&'static str>,
}

fn compared(name: impl Into<String>, image: Vec<u8>, keys: &Keys) -> Compared {
    Compared { name: name.into(), image, keys: keys.clone(), legacy: false, differs: None }
}

/// The images with flaws that are made here, for which apptainer gets the same keys.
fn made_here() -> Vec<Compared> {
    let case = |case: cases::Case| Compared {
        name: format!("made here: {}", case.name),
        image: case.image,
        keys: Keys::Ring(case.keys.openpgp.concat()),
        legacy: case.keys.legacy,
        differs: case.differs,
    };
    cases::all().into_iter().map(case).collect()
}

/// The images that apptainer signed, as they are and changed afterwards.
fn signed_by_apptainer(folder: &Path) -> Vec<Compared> {
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    let ring = Keys::Ring(read("config/keys/pgp-public"));
    let nobody = Keys::Ring(Vec::new());
    let plain = |key: &str| Keys::Plain(read(&format!("{key}.pub.pem")));
    let mut all = vec![compared("pgp.sif without its key", read("pgp.sif"), &nobody)];
    for name in [
        "plain",
        "pgp",
        "two-keys",
        "both",
        "object",
        "every-object",
        "added",
        "groupless",
        "two-groups",
        "second-group-unsigned",
        "second-group-other",
        "group-gone",
        "group-data-gone",
        "group-signature-gone",
        "object-gone",
        "signature-gone",
        "ed25519",
    ] {
        all.push(compared(name, read(&format!("{name}.sif")), &ring));
    }
    for key in ["ed25519", "p256", "p384", "rsa"] {
        all.push(compared(format!("{key} with its key"), read(&format!("{key}.sif")), &plain(key)));
    }
    all.push(compared("ed25519 with another key", read("ed25519.sif"), &plain("p256")));
    all.push(compared("pgp with a plain key", read("pgp.sif"), &plain("p256")));
    for (signed, keys) in [("pgp", &ring), ("ed25519", &plain("ed25519")), ("two-groups", &ring)] {
        let image = read(&format!("{signed}.sif"));
        all.extend(
            tampered(signed, &image)
                .into_iter()
                .map(|(what, image)| compared(format!("{signed}: {what}"), image, keys)),
        );
    }
    all
}

fn tampered(signed: &str, image: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let signature = if signed == "two-groups" { 5 } else { 4 };
    let changed = |at: usize| {
        let mut image = image.to_vec();
        image[at] ^= 1;
        image
    };
    let data = |id| object_at(image, id).0;
    let (made, len) = object_at(image, signature);
    // What is signed stands in the middle, the signature itself near the end; both are letters.
    let letter =
        |from: usize| (from..).find(|at| image[*at].is_ascii_lowercase() && image[*at] != b'z').unwrap();
    let mut renamed = image.to_vec();
    write(&mut renamed, descriptor_at(2) + 73, b"another-name.json\0\0\0\0");
    let mut fingerprint = image.to_vec();
    write(&mut fingerprint, descriptor_at(signature) + 205, &[9; 20]);
    let mut all = vec![
        ("definition changed", changed(data(1))),
        ("metadata changed", changed(data(2))),
        ("root file system changed", changed(data(3) + 2_000)),
        ("renamed", renamed),
        ("link changed", changed(descriptor_at(1) + 13)),
        ("creation time changed", changed(descriptor_at(1) + 41)),
        ("partition's processor changed", changed(descriptor_at(3) + 210)),
        ("partition's role changed", changed(descriptor_at(3) + 205)),
        ("launch line changed", changed(3)),
        ("identifier changed", changed(50)),
        ("header's processor changed", changed(46)),
        ("header's times changed", changed(64)),
        ("change time changed", changed(descriptor_at(1) + 49)),
        ("what is signed changed", changed(letter(made + len / 3))),
        ("signature changed", changed(letter(made + len - 150))),
        ("bytes appended", [image, b"more"].concat()),
        ("cut", image[..image.len() - 30].to_vec()),
    ];
    if signed != "ed25519" {
        all.push(("fingerprint changed", fingerprint));
    }
    all
}

fn ours(case: &Compared) -> Verdict {
    let mut material = KeyMaterial { legacy: case.legacy, ..KeyMaterial::default() };
    match &case.keys {
        Keys::Ring(ring) if ring.is_empty() => {}
        Keys::Ring(ring) => material.add_file("ring.gpg", ring).unwrap(),
        Keys::Plain(pem) => material.add_file("key.pem", pem).unwrap(),
    }
    verify(&&case.image[..], &Keyring::new(&material).unwrap(), Clock::start().now().wall).unwrap()
}

fn lay_out(folder: &Path, cases: &[Compared]) {
    for (number, case) in cases.iter().enumerate() {
        let folder = folder.join(format!("{number:03}"));
        let keys = folder.join("config/keys");
        fs::create_dir_all(&keys).unwrap();
        fs::write(folder.join("image.sif"), &case.image).unwrap();
        match &case.keys {
            Keys::Ring(ring) => {
                fs::write(keys.join("pgp-public"), ring).unwrap();
                fs::set_permissions(keys.join("pgp-public"), fs::Permissions::from_mode(0o600)).unwrap();
            }
            Keys::Plain(pem) => fs::write(folder.join("key.pem"), pem).unwrap(),
        }
        if case.legacy {
            fs::write(folder.join("legacy"), "").unwrap();
        }
    }
}

#[test]
fn apptainer_verifies_exactly_what_counts_as_signed_here() {
    let apptainer = match Apptainer::find() {
        Ok(apptainer) => apptainer,
        Err(reason) => {
            println!("skipped: {reason}");
            return;
        }
    };
    let signed = apptainer.folder("sif-signed");
    let built = apptainer.script("signed", &[&signed]);
    assert!(built.status.success(), "apptainer signs no images: {}", said(&built));
    let mut cases = signed_by_apptainer(&signed);
    cases.extend(made_here());
    let folder = apptainer.folder("sif-verdicts");
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    lay_out(&folder, &cases);
    let asked = apptainer.script("verdicts", &[&folder]);
    assert!(asked.status.success(), "apptainer does not verify: {}", said(&asked));
    let (mut wrong, mut agreed) = (Vec::new(), [0, 0]);
    println!("{:<48} {:<9} ours", "image", "apptainer");
    for (number, case) in cases.iter().enumerate() {
        let folder = folder.join(format!("{number:03}"));
        let theirs = fs::read_to_string(folder.join("rc")).unwrap().trim() == "0";
        let verdict = ours(case);
        let counts = matches!(verdict, Verdict::Signed { .. });
        let differs = if theirs == counts { "" } else { case.differs.unwrap_or("DIFFERS") };
        println!("{:<48} {:<9} {verdict} {differs}", case.name, if theirs { "verified" } else { "refused" });
        agreed[usize::from(counts)] += usize::from(theirs == counts);
        if (theirs == counts) != case.differs.is_none() {
            let said = fs::read_to_string(folder.join("said")).unwrap();
            wrong.push(format!("{}: {verdict}; apptainer: {said}", case.name));
        }
    }
    assert!(wrong.is_empty(), "verdicts differ:\n{}", wrong.join("\n"));
    assert!(agreed.iter().all(|count| *count > 15), "too few of a kind: {agreed:?}");
}
