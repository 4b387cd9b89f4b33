//! Images with one flaw each, the keys to verify them with, and what must come of it.

use pgp::crypto::hash::HashAlgorithm;
use sifleet_common::keyring::KeyMaterial;
use sifleet_common::policy::{Verdict, Why};
use sifleet_tests::sif::SifBuilder;
use sifleet_tests::sif::sign::{
    PgpSigner, PgpWish, claim, descriptor_at, object_at, signed_as_before, signed_by_pgp, ungroup, write,
};

/// In the year 2030, after all that is signed here.
const LATER: u32 = 1_893_460_000;
const DAY: u32 = 86_400;

/// One image.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) image: Vec<u8>,
    pub(crate) keys: KeyMaterial,
    pub(crate) expected: Verdict,
    /// Whether the reference must agree; else why it does not.
    pub(crate) differs: Option<&'static str>,
}

fn keys(signer: &PgpSigner) -> KeyMaterial {
    KeyMaterial { legacy: false, openpgp: vec![signer.public()], plain: Vec::new() }
}

fn case(name: &'static str, image: Vec<u8>, signer: &PgpSigner, expected: Verdict) -> Case {
    Case { name, image, keys: keys(signer), expected, differs: None }
}

fn bad(object: Option<u32>, why: Why) -> Verdict {
    Verdict::Bad { object, why }
}

fn signed(signer: &PgpSigner) -> Verdict {
    Verdict::Signed { by: [signer.fingerprint().parse().unwrap()].into() }
}

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = of_keys();
    cases.extend(of_images());
    cases.extend(of_signatures());
    cases
}

/// Keys that are not what they should be.
fn of_keys() -> Vec<Case> {
    let good = PgpWish::default();
    let wishes = [
        ("a good key", good, None),
        ("a key that lasts", PgpWish { key_lifetime: Some(20 * 365 * DAY), ..good }, None),
        ("a key that expired", PgpWish { key_lifetime: Some(DAY), ..good }, Some(Why::KeyExpired)),
        ("a key that was revoked", PgpWish { key_revoked: true, ..good }, Some(Why::KeyRevoked)),
        ("a key that does not sign", PgpWish { key_signs: false, ..good }, Some(Why::KeyUnfit)),
        ("a key of the future", PgpWish { key_created: LATER, signed: LATER, ..good }, Some(Why::KeyUnfit)),
        ("a key that is younger", PgpWish { signed: good.key_created - DAY, ..good }, None),
        ("a subkey", PgpWish { subkey: true, key_signs: false, ..good }, None),
        (
            "a subkey that expired",
            PgpWish { subkey: true, subkey_lifetime: Some(DAY), ..good },
            Some(Why::KeyExpired),
        ),
        (
            "a subkey that was revoked",
            PgpWish { subkey: true, subkey_revoked: true, ..good },
            Some(Why::KeyRevoked),
        ),
        (
            "a subkey of somebody else",
            PgpWish { subkey: true, subkey_agrees: false, ..good },
            Some(Why::KeyUnfit),
        ),
        (
            "a subkey of a revoked key",
            PgpWish { subkey: true, key_revoked: true, ..good },
            Some(Why::KeyRevoked),
        ),
        ("a signature that lasts", PgpWish { lifetime: Some(20 * 365 * DAY), ..good }, None),
        ("a signature that expired", PgpWish { lifetime: Some(DAY), ..good }, Some(Why::Expired)),
        ("a signature of the future", PgpWish { signed: LATER, ..good }, Some(Why::Time)),
        ("a signature with SHA-512", PgpWish { hash: HashAlgorithm::Sha512, ..good }, None),
        ("an RSA key", PgpWish { rsa: Some(2_048), ..good }, None),
        (
            "a signature with SHA-1",
            PgpWish { hash: HashAlgorithm::Sha1, rsa: Some(2_048), ..good },
            Some(Why::Hash),
        ),
    ];
    let image = SifBuilder::new();
    let cases = wishes.into_iter().map(|(name, wish, why)| {
        let signer = PgpSigner::wished(5, wish);
        let expected = why.map_or_else(|| signed(&signer), |why| bad(Some(4), why));
        case(name, signed_by_pgp(&image, &signer).bytes(), &signer, expected)
    });
    cases.collect()
}

/// Images that were changed after signing.
fn of_images() -> Vec<Case> {
    let signer = PgpSigner::new(5);
    let whole = signed_by_pgp(&SifBuilder::new(), &signer).bytes();
    let changed = |at: usize, bytes: &[u8]| {
        let mut image = whole.clone();
        write(&mut image, at, bytes);
        image
    };
    let (root, len) = object_at(&whole, 3);
    let descriptor = |id, field| descriptor_at(id) + field;
    let ours = signed(&signer);
    let mut cases = vec![
        case(
            "a byte of the root file system",
            changed(root + len - 1, b"\x01"),
            &signer,
            bad(Some(3), Why::Data),
        ),
        case(
            "a byte of the definition",
            changed(object_at(&whole, 1).0, b"X"),
            &signer,
            bad(Some(1), Why::Data),
        ),
        case("a name", changed(descriptor(2, 73), b"X"), &signer, bad(Some(2), Why::Descriptor)),
        case("a creation time", changed(descriptor(1, 41), b"\x01"), &signer, bad(Some(1), Why::Descriptor)),
        case("an owner", changed(descriptor(1, 57), b"\x01"), &signer, bad(Some(1), Why::Descriptor)),
        case(
            "a partition's processor",
            changed(descriptor(3, 209), b"04"),
            &signer,
            bad(Some(3), Why::Descriptor),
        ),
        case("a link", changed(descriptor(1, 13), b"\x02"), &signer, bad(Some(1), Why::Descriptor)),
        case("the launch line", changed(0, b"#!/bin/sh\n"), &signer, bad(None, Why::Header)),
        case("the identifier", changed(48, b"\xff"), &signer, bad(None, Why::Header)),
        case("the header's processor", changed(45, b"04"), &signer, ours.clone()),
        case("the header's times", changed(64, b"\x01"), &signer, ours.clone()),
        case("an object's change time", changed(descriptor(1, 49), b"\x01"), &signer, ours.clone()),
        case("bytes behind the last object", [&whole[..], b"more"].concat(), &signer, ours),
    ];
    let mut added = whole.clone();
    let fourth = whole[descriptor_at(1)..descriptor_at(2)].to_vec();
    write(&mut added, descriptor_at(5), &fourth);
    write(&mut added, descriptor(5, 5), &5_u32.to_le_bytes());
    write(&mut added, descriptor(5, 25), &0_i64.to_le_bytes());
    cases.push(case("an object that was added", added.clone(), &signer, bad(Some(5), Why::NotSigned)));
    write(&mut added, descriptor(5, 9), &0xf000_0002_u32.to_le_bytes());
    cases.push(case("a group that was added", added.clone(), &signer, bad(None, Why::GroupNotSigned)));
    ungroup(&mut added, 5);
    cases.push(case("an object without a group", added, &signer, bad(Some(5), Why::NoGroup)));
    let gone = changed(descriptor(2, 4), b"\0");
    cases.push(case("an object that is gone", gone, &signer, bad(Some(2), Why::Missing)));
    cases
}

/// Signatures that are not what they should be.
fn of_signatures() -> Vec<Case> {
    let (signer, stranger) = (PgpSigner::new(5), PgpSigner::new(6));
    let image = SifBuilder::new();
    let plain = image.bytes();
    let message = signer.clear_sign(&claim(&plain));
    let with = |text: &str, fingerprint| image.clone().signature(text.as_bytes(), fingerprint).bytes();
    let ours = signer.fingerprint_bytes();
    let unknown = Verdict::UnknownKey { signature: 4, key: stranger.fingerprint() };
    let mut unlinked = with("garbage", ours);
    write(&mut unlinked, descriptor_at(4) + 13, &0_u32.to_le_bytes());
    let mut strange_hash = with(&message, ours);
    write(&mut strange_hash, descriptor_at(4) + 201, &4_u32.to_le_bytes());
    let mut no_hash = with(&message, ours);
    write(&mut no_hash, descriptor_at(4) + 201, &9_u32.to_le_bytes());
    let other = claim(&image.clone().definition("another").bytes());
    let version = claim(&plain).replace("\"version\":1", "\"version\":2");
    let mut cases = vec![
        case("no signature", plain, &signer, Verdict::Unsigned),
        case("a stranger", signed_by_pgp(&image, &stranger).bytes(), &signer, unknown),
        case(
            "another text",
            with(&message.replace("relativeId", "relativeid"), ours),
            &signer,
            bad(Some(4), Why::Forged),
        ),
        case(
            "another image's",
            with(&signer.clear_sign(&other), ours),
            &signer,
            bad(Some(1), Why::Descriptor),
        ),
        case("another fingerprint", with(&message, [7; 20]), &signer, bad(Some(4), Why::OtherKey)),
        case("no message", with("garbage", ours), &signer, bad(Some(4), Why::Unreadable)),
        case("an unlinked one", unlinked, &signer, Verdict::Unsigned),
        case("no list", with(&signer.clear_sign("{}"), ours), &signer, bad(Some(4), Why::Unreadable)),
        case("a hash function of its own", strange_hash, &signer, signed(&signer)),
        case("no hash function", no_hash, &signer, bad(Some(4), Why::Hash)),
        case(
            "two messages",
            with(&format!("{message}{message}"), ours),
            &signer,
            bad(Some(4), Why::Unreadable),
        ),
        case(
            "a later version",
            with(&signer.clear_sign(&version), ours),
            &signer,
            bad(Some(4), Why::Unreadable),
        ),
    ];
    for case in &mut cases {
        case.differs = match case.name {
            "two messages" => Some("the reference reads the first and ignores what follows"),
            "a later version" => Some("the reference does not look at the version"),
            _ => None,
        };
    }
    cases.extend(of_before());
    cases
}

/// Signatures as they were written before SIF 1.0.
fn of_before() -> Vec<Case> {
    let (signer, image) = (PgpSigner::new(5), SifBuilder::new());
    let mut legacy = case("before SIF 1.0", signed_as_before(&image, &signer), &signer, Verdict::Unsigned);
    legacy.keys.legacy = true;
    legacy.expected = signed(&signer);
    legacy.name = "before SIF 1.0, which count";
    let mut not =
        case("before SIF 1.0, which do not count", legacy.image.clone(), &signer, Verdict::Unsigned);
    not.keys.legacy = false;
    let mut changed = legacy.image.clone();
    let (root, _) = object_at(&changed, 3);
    write(&mut changed, root + 100, b"X");
    let mut spoilt = case("before SIF 1.0, with other data", changed, &signer, bad(Some(3), Why::Data));
    spoilt.keys.legacy = true;
    vec![legacy, not, spoilt]
}
