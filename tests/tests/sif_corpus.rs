//! The SIF reader agrees with the reference on images that the reference wrote.
//!
//! The images are not part of the project: they are looked for beside it, in `../shared/sif-corpus` and
//! `../shared/sif-fixtures`; without them these tests skip and say so. What is expected of the corpus, which
//! comes without lists, was printed by apptainer 1.4.5 (`sif list`, `sif header`).

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and tells why it skips"
)]

use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sifleet_common::image::{self, Arch, ImageMetadata, Runnable, SignatureKind};
use sifleet_common::sif::{self, Sif};
use sifleet_tests::sif::as_inspect_prints;

fn shared(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(folder);
    if !path.is_dir() {
        println!("skipped: no reference images at {}", path.display());
        return None;
    }
    Some(path)
}

fn read(path: &Path) -> ImageMetadata {
    let file = File::open(path).unwrap();
    let image = image::classify(&file).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(sif::read(&file).unwrap(), image);
    image
}

fn list(path: &Path) -> Vec<String> {
    Sif::open(&File::open(path).unwrap()).unwrap().objects.iter().map(ToString::to_string).collect()
}

#[test]
fn what_apptainer_inspect_printed_is_what_is_read() {
    let Some(folder) = shared("sif-fixtures") else { return };
    let mut compared = 0;
    for entry in folder.read_dir().unwrap() {
        let printed = entry.unwrap().path();
        let Some(name) = printed.to_str().unwrap().strip_suffix(".inspect.json") else { continue };
        let expected: Value = serde_json::from_slice(&std::fs::read(&printed).unwrap()).unwrap();
        let image = read(Path::new(name));
        assert_eq!(as_inspect_prints(&image), expected, "{name}");
        assert_eq!(
            (image.runnable, image.arch, image.mutable),
            (Runnable::Yes, Arch::Amd64, false),
            "{name}"
        );
        assert_eq!(image.notes, Vec::<String>::new(), "{name}");
        compared += 1;
    }
    assert!(compared >= 4, "{compared} compared");
}

#[test]
fn what_apptainer_sif_list_printed_is_what_is_read() {
    let Some(folder) = shared("sif-fixtures") else { return };
    let mut compared = 0;
    for entry in folder.read_dir().unwrap() {
        let printed = entry.unwrap().path();
        let Some(name) = printed.to_str().unwrap().strip_suffix(".list.txt") else { continue };
        let text = std::fs::read_to_string(&printed).unwrap();
        let expected: Vec<&str> =
            text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).collect();
        assert_eq!(list(Path::new(name)), expected, "{name}");
        compared += 1;
    }
    assert!(compared >= 3, "{compared} compared");
}

#[test]
fn the_corpus_is_read_as_the_reference_lists_it() {
    let Some(folder) = shared("sif-corpus") else { return };
    const DATA: &str = "1    |1       |NONE    |32768-32772               |FS (Raw/System/386)";
    const ROOT: &str = "2    |1       |NONE    |36864-40960               |FS (Squashfs/*System/386)";
    let no_primary = Runnable::NoPrimaryPartition;
    let cases: [(&str, Runnable, &[&str]); 10] = [
        ("empty.sif", no_primary, &[]),
        ("empty-id.sif", no_primary, &[]),
        (
            "one-object-generic-json.sif",
            no_primary,
            &["1    |1       |NONE    |32176-32178               |JSON.Generic"],
        ),
        (
            "one-object-time.sif",
            no_primary,
            &["1    |1       |NONE    |32176-32178               |JSON.Generic"],
        ),
        (
            "one-object-sbom.sif",
            no_primary,
            &["1    |1       |NONE    |32176-32630               |SBOM (cyclonedx-json)"],
        ),
        ("one-group.sif", Runnable::Yes, &[DATA, ROOT]),
        (
            "two-groups.sif",
            Runnable::Yes,
            &[DATA, ROOT, "3    |2       |NONE    |40960-303104              |FS (Ext3/System/amd64)"],
        ),
        (
            "one-group-signed-pgp.sif",
            Runnable::Yes,
            &[DATA, ROOT, "3    |NONE    |1   (G) |40960-42008               |Signature (SHA-256)"],
        ),
        (
            "one-group-signed-dsse.sif",
            Runnable::Yes,
            &[DATA, ROOT, "3    |NONE    |1   (G) |40960-42655               |Signature (SHA-256)"],
        ),
        (
            "one-group-signed-legacy.sif",
            Runnable::DamagedFileSystem,
            &[
                DATA,
                "2    |1       |NONE    |36864-36868               |FS (Squashfs/*System/386)",
                "3    |1       |2       |40960-41569               |Signature (SHA-384)",
            ],
        ),
    ];
    let mut compared = 0;
    for (name, runnable, lines) in cases {
        let path = folder.join(name);
        if path.exists() {
            assert_eq!(list(&path), lines, "{name}");
            assert_eq!(read(&path).runnable, runnable, "{name}");
            compared += 1;
        }
    }
    let there = folder.read_dir().unwrap().filter(|entry| {
        entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "sif")
    });
    assert_eq!(compared, there.count(), "every image of the corpus is compared");
}

#[test]
fn times_and_identifiers_are_those_of_the_header() {
    let Some(folder) = shared("sif-corpus") else { return };
    let told = |name: &str| {
        let image = read(&folder.join(name));
        (image.uuid.unwrap(), image.created, image.modified, image.arch)
    };
    let nil = "00000000-0000-0000-0000-000000000000".to_owned();
    assert_eq!(told("empty.sif"), (nil.clone(), None, None, Arch::Unknown));
    let id = "3fa802cc-358b-45e3-bcc0-69dc7a45f9f8".to_owned();
    assert_eq!(told("empty-id.sif"), (id, None, None, Arch::Unknown));
    let time = Some(1_593_475_316);
    assert_eq!(told("one-object-time.sif"), (nil, time, time, Arch::Unknown));
    let id = "6ecc76b7-a497-4f7f-9ebd-8da2a04c6be1".to_owned();
    assert_eq!(
        told("one-group-signed-legacy.sif"),
        (id, Some(1_590_175_859), Some(1_592_684_199), Arch::I386)
    );
}

#[test]
fn signatures_say_who_signed_what() {
    let Some((corpus, fixtures)) = shared("sif-corpus").zip(shared("sif-fixtures")) else { return };
    let test_key = Some("12045C8C0B1004D058DE4BEDA20C27EE7FF7BA84");
    let lab_key = Some("263C74765CAF9CF06CB7F23E533DBA3419100291");
    let none: &[&str] = &[];
    let two_keys: &[&str] = &[
        "SHA256:x6l8ZblpSSXGaPMCzySedWg88BwIFcz8jlPb6el0mFs",
        "SHA256:BhCwr7qZulYcOMSl2Jt2DuYHxHNnN6th4NdMqR/PGa4",
    ];
    let one_key: &[&str] = &["SHA256:s1npf7I5sDdxGJskUbLYys8Z0ByMdG4FeqM5nudaQmc"];
    let cases = [
        (corpus.join("one-group-signed-pgp.sif"), SignatureKind::Pgp, test_key, none, Some(1), vec![1, 2]),
        (corpus.join("one-group-signed-dsse.sif"), SignatureKind::Dsse, None, two_keys, Some(1), vec![1, 2]),
        (corpus.join("one-group-signed-legacy.sif"), SignatureKind::Legacy, test_key, none, None, vec![2]),
        (fixtures.join("signed-pgp.sif"), SignatureKind::Pgp, lab_key, none, Some(1), vec![1, 2, 3]),
        (fixtures.join("tampered-data.sif"), SignatureKind::Pgp, lab_key, none, Some(1), vec![1, 2, 3]),
        (fixtures.join("signed-ed25519.sif"), SignatureKind::Dsse, None, one_key, Some(1), vec![1, 2, 3]),
    ];
    for (path, kind, fingerprint, keys, group, objects) in cases {
        let signatures = read(&path).signatures;
        let [signature] = signatures.as_slice() else { panic!("{}: {signatures:?}", path.display()) };
        assert_eq!(
            (signature.kind, signature.fingerprint.as_deref()),
            (kind, fingerprint),
            "{}",
            path.display()
        );
        assert_eq!(
            (signature.key_ids.as_slice(), signature.group),
            (&keys.iter().map(ToString::to_string).collect::<Vec<_>>()[..], group)
        );
        assert_eq!((&signature.objects, signature.covers_data), (&objects, true), "{}", path.display());
    }
}
