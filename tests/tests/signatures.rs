//! Which images count as signed: verdicts on images the reference wrote, and on images made here with every flaw.
//!
//! The reference's images are looked for beside the project, in `../shared/sif-corpus` and `../shared/sif-fixtures`;
//! without them those tests skip and say so. `signatures_apptainer.rs` asks the real apptainer about the same images.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and tells why it skips"
)]

#[path = "signatures/cases.rs"]
mod cases;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use cases::Case;
use proptest::prelude::*;
use sifleet_common::keyring::{KeyMaterial, Keyring};
use sifleet_common::policy::{Verdict, Why};
use sifleet_common::sif::verify::verify;
use sifleet_common::time::UnixMillis;
use sifleet_tests::sif::SifBuilder;
use sifleet_tests::sif::sign::{PgpSigner, PlainSigner, signed_by_pgp, signed_by_plain};

/// The year 2030, after all that is signed here and before all that lasts.
const NOW: UnixMillis = UnixMillis(1_893_456_000_000);

fn shared(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(folder);
    if !path.is_dir() {
        println!("skipped: no reference images at {}", path.display());
        return None;
    }
    Some(path)
}

fn keyring(folder: &Path, files: &[&str], legacy: bool) -> Keyring {
    let mut material = KeyMaterial { legacy, ..KeyMaterial::default() };
    for file in files {
        material.add_file(file, &fs::read(folder.join(file)).unwrap()).unwrap();
    }
    Keyring::new(&material).unwrap()
}

fn signed_by(keys: &[&str]) -> Verdict {
    let by: BTreeSet<_> = keys.iter().map(|key| key.parse().unwrap()).collect();
    Verdict::Signed { by }
}

fn bad(object: Option<u32>, why: Why) -> Verdict {
    Verdict::Bad { object, why }
}

const TEST_KEY: &str = "12045C8C0B1004D058DE4BEDA20C27EE7FF7BA84";
const LAB_KEY: &str = "263C74765CAF9CF06CB7F23E533DBA3419100291";

/// The keys of the corpus's DSSE envelope are those of `ed25519-public.pem` and `rsa-public.pem`.
const CORPUS_PLAIN: [&str; 2] = [
    "530b95ed1bf77f7f9eeaedb02aab8d5ba956705a982bcf8b1492124ad3dd3795",
    "35c596cdf7abc9f9a2c0273643d63f1e12404ea58cc4fa3f54b7b4315949ad15",
];

#[test]
fn the_corpus_has_the_verdicts_of_the_reference() {
    let Some(folder) = shared("sif-corpus") else { return };
    let pgp: &[&str] = &["pgp-public.asc"];
    let all: &[&str] = &["pgp-public.asc", "ed25519-public.pem", "rsa-public.pem", "ecdsa-public.pem"];
    let unknown = |key: &str| Verdict::UnknownKey { signature: 3, key: key.to_owned() };
    let ed25519_id = "SHA256:x6l8ZblpSSXGaPMCzySedWg88BwIFcz8jlPb6el0mFs";
    let cases: Vec<(&str, &[&str], bool, Verdict)> = vec![
        ("one-group-signed-pgp.sif", pgp, false, signed_by(&[TEST_KEY])),
        ("one-group-signed-pgp.sif", all, true, signed_by(&[TEST_KEY])),
        ("one-group-signed-pgp.sif", &[], false, unknown(TEST_KEY)),
        ("one-group-signed-dsse.sif", all, false, signed_by(&CORPUS_PLAIN)),
        ("one-group-signed-dsse.sif", &["ed25519-public.pem"], false, signed_by(&CORPUS_PLAIN[..1])),
        ("one-group-signed-dsse.sif", &["rsa-public.pem"], false, signed_by(&CORPUS_PLAIN[1..])),
        ("one-group-signed-dsse.sif", &["ecdsa-public.pem"], false, unknown(ed25519_id)),
        ("one-group-signed-dsse.sif", pgp, false, unknown(ed25519_id)),
        ("one-group-signed-legacy.sif", pgp, false, Verdict::Unsigned),
        ("one-group-signed-legacy.sif", pgp, true, signed_by(&[TEST_KEY])),
        ("one-group-signed-legacy.sif", &[], true, unknown("A20C27EE7FF7BA84")),
        ("one-group.sif", all, true, Verdict::Unsigned),
        ("two-groups.sif", all, false, Verdict::Unsigned),
        ("empty.sif", all, false, Verdict::Unsigned),
        ("empty-id.sif", all, true, Verdict::Unsigned),
        ("one-object-generic-json.sif", all, false, Verdict::Unsigned),
    ];
    for (image, keys, legacy, expected) in cases {
        let file = File::open(folder.join(image)).unwrap();
        let verdict = verify(&file, &keyring(&folder, keys, legacy), NOW).unwrap();
        assert_eq!(verdict, expected, "{image} with {keys:?}, legacy: {legacy}");
    }
}

#[test]
fn the_fixtures_have_the_verdicts_of_apptainer() {
    let Some(folder) = shared("sif-fixtures") else { return };
    let all: &[&str] = &["pgp-public.gpg", "ed25519.pub.pem", "rsa.pub.pem"];
    let keyring = keyring(&folder, all, false);
    let told = |name: &str| verify(&File::open(folder.join(name)).unwrap(), &keyring, NOW).unwrap();
    assert_eq!(told("full.sif"), Verdict::Unsigned);
    assert_eq!(told("min.sif"), Verdict::Unsigned);
    assert_eq!(told("signed-pgp.sif"), signed_by(&[LAB_KEY]));
    assert_eq!(told("tampered-data.sif"), bad(Some(3), Why::Data));
    for name in ["signed-ed25519.sif", "signed-rsa.sif"] {
        let Verdict::Signed { by } = told(name) else { panic!("{name}: {}", told(name)) };
        assert_eq!(by.len(), 1, "{name}");
        assert!(by.is_subset(&keyring.fingerprints()), "{name}");
    }
}

#[test]
fn every_flaw_of_a_signature_is_seen() {
    for Case { name, image, keys, expected, .. } in cases::all() {
        let keyring = Keyring::new(&keys).unwrap();
        assert_eq!(verify(&&image[..], &keyring, NOW).unwrap(), expected, "{name}");
    }
}

#[test]
fn plain_keys_count_beside_openpgp_keys() {
    let (pgp, ed25519, p256) = (PgpSigner::new(1), PlainSigner::ed25519(7), PlainSigner::p256());
    let plain = SifBuilder::new();
    let mut material = KeyMaterial::default();
    material.add_file("a.asc", pgp.armored().as_bytes()).unwrap();
    material.add_file("b.pem", (ed25519.public_pem() + &p256.public_pem()).as_bytes()).unwrap();
    let keyring = Keyring::new(&material).unwrap();
    assert_eq!(keyring.fingerprints().len(), 3);
    let both = signed_by_plain(&plain, &[&ed25519, &p256]).bytes();
    let expected = signed_by(&[&ed25519.fingerprint(), &p256.fingerprint()]);
    assert_eq!(verify(&&both[..], &keyring, NOW).unwrap(), expected);
    let signed = signed_by_pgp(&plain, &pgp).bytes();
    assert_eq!(verify(&&signed[..], &keyring, NOW).unwrap(), signed_by(&[&pgp.fingerprint()]));
}

#[test]
fn a_file_that_holds_no_public_key_is_a_mistake_that_says_so() {
    let signer = PgpSigner::new(1);
    let plain = PlainSigner::ed25519(1);
    let private_pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n-----END PRIVATE KEY-----\n";
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("a.asc", signer.armored_secret().into_bytes(), "a private key"),
        ("a.pem", private_pem.as_bytes().to_vec(), "a private key"),
        ("a.asc", b"hello".to_vec(), "no BEGIN PGP PUBLIC KEY BLOCK"),
        ("a.gpg", b"hello".to_vec(), ""),
        ("a.gpg", signer.armored().into_bytes(), "name it *.asc"),
        ("a.pem", b"hello".to_vec(), "no BEGIN PUBLIC KEY"),
        (
            "a.pem",
            plain.public_pem().replace("MCow", "MCoz").into_bytes(),
            "a.pem holds no usable public key",
        ),
        ("a.asc", Vec::new(), "a.asc holds no usable public key"),
    ];
    for (name, bytes, expected) in cases {
        let mut material = KeyMaterial::default();
        let said = material.add_file(name, &bytes).unwrap_err().to_string();
        assert!(said.contains(expected), "{name}: {said}");
        assert_eq!(material, KeyMaterial::default());
    }
    let mut material = KeyMaterial::default();
    material.add_file("README", b"hello").unwrap();
    material.add_file("a.asc", (signer.armored() + &PgpSigner::new(2).armored()).as_bytes()).unwrap();
    material.add_file("b.gpg", &signer.public()).unwrap();
    material.sort();
    assert_eq!(Keyring::new(&material).unwrap().fingerprints().len(), 2);
}

#[test]
fn the_same_keys_have_the_same_digest() {
    let (one, two) = (PgpSigner::new(1).public(), PgpSigner::new(2).public());
    let material = |files: &[&[u8]], legacy| {
        let mut material = KeyMaterial { legacy, ..KeyMaterial::default() };
        files.iter().for_each(|file| material.add_file("a.gpg", file).unwrap());
        material.sort();
        material.digest()
    };
    assert_eq!(material(&[&one, &two], false), material(&[&two, &one, &one], false));
    assert_ne!(material(&[&one], false), material(&[&two], false));
    assert_ne!(material(&[&one], false), material(&[&one], true));
}

/// Images that are signed, and the keyring that says so.
fn honest() -> (Vec<Vec<u8>>, Keyring) {
    let (pgp, plain) = (PgpSigner::new(1), PlainSigner::ed25519(7));
    let image = SifBuilder::new();
    let mut material = KeyMaterial { legacy: true, ..KeyMaterial::default() };
    material.add_file("a.gpg", &pgp.public()).unwrap();
    material.add_file("b.pem", plain.public_pem().as_bytes()).unwrap();
    let images = vec![
        signed_by_pgp(&image, &pgp).bytes(),
        signed_by_plain(&image, &[&plain]).bytes(),
        sifleet_tests::sif::sign::signed_as_before(&image, &pgp),
    ];
    (images, Keyring::new(&material).unwrap())
}

/// Where a change of one byte does not matter: not covered, by nobody's signature. Everything else is.
fn is_covered(image: &[u8], at: usize) -> bool {
    let in_object = (1..=3).any(|id| {
        let (offset, len) = sifleet_tests::sif::sign::object_at(image, id);
        (offset..offset + len).contains(&at)
    });
    let in_descriptor = (1..=3).any(|id| {
        let from = sifleet_tests::sif::sign::descriptor_at(id);
        // Type, link, size, creation time, owner, name and extra field; not id, group, place and change time.
        [0..4, 13..17, 25..33, 41..49, 57..585].iter().any(|part| part.contains(&at.wrapping_sub(from)))
    });
    let in_header = at < 45 || (48..64).contains(&at);
    in_object || in_descriptor || in_header
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_mutation_of_what_is_covered_counts_as_signed(
        which in 0_usize..2, at in any::<prop::sample::Index>(), flip in 1_u8..,
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
        more in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let (images, keyring) = honest();
        let mut image = images[which].clone();
        let len = image.len();
        let at = at.index(len);
        image[at] ^= flip;
        for (at, byte) in more {
            let at = at.index(len);
            if !is_covered(&images[which], at) {
                image[at] = byte;
            }
        }
        if let Some(cut) = cut {
            image.truncate(cut.index(len));
        }
        let verdict = verify(&&image[..], &keyring, NOW).unwrap();
        if is_covered(&images[which], at) {
            prop_assert!(!matches!(verdict, Verdict::Signed { .. }), "byte {at}: {verdict}");
        }
    }

    #[test]
    fn no_mutation_of_a_signature_is_taken_badly(
        which in 0_usize..3,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (images, keyring) = honest();
        let mut image = images[which].clone();
        let (offset, len) = sifleet_tests::sif::sign::object_at(&image, 4);
        for (at, byte) in changes {
            image[offset + at.index(len)] = byte;
        }
        let verdict = verify(&&image[..], &keyring, NOW).unwrap();
        // Whatever still counts is by the key that really signed: nothing else can be made of it.
        if let Verdict::Signed { by } = verdict {
            prop_assert!(by.is_subset(&keyring.fingerprints()));
        }
    }

    #[test]
    fn no_bytes_are_a_key_that_hurts(bytes in prop::collection::vec(any::<u8>(), 0..400), at in any::<prop::sample::Index>()) {
        let mut real = PgpSigner::new(1).public();
        let from = at.index(real.len());
        for (place, byte) in real.iter_mut().skip(from).zip(&bytes) {
            *place = *byte;
        }
        for file in [&bytes, &real] {
            for name in ["a.gpg", "a.asc", "a.pem"] {
                let mut material = KeyMaterial::default();
                if material.add_file(name, file).is_ok() {
                    drop(Keyring::new(&material));
                }
            }
        }
    }
}
