//! What signatures are said to claim.

use super::{Put, image, json, put, signature, squashfs};
use crate::image::{HashAlgorithm, SignatureKind};

const CLAIM: &str = r#"{"version":1,"header":{"digest":"sha256:0"},"objects":[{"relativeId":0},{"relativeId":1},{"relativeId":77}]}"#;

#[test]
fn a_signature_says_which_objects_it_names() {
    let pgp = format!(
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{CLAIM}\n-----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----"
    );
    let image = image(&[put(0x4001, "", b"def"), squashfs(), json("x", "{}"), signature(&pgp)]);
    let told = &image.signatures[0];
    assert_eq!((told.kind, told.hash, told.id), (SignatureKind::Pgp, HashAlgorithm::Sha256, 4));
    assert_eq!((told.group, &told.objects, told.covers_data), (Some(1), &vec![1, 2], true));
    assert_eq!(told.fingerprint.as_deref(), Some("AB00000000000000000000000000000000000000"));
}

#[test]
fn a_signature_that_leaves_the_data_out_says_so() {
    let claim = CLAIM.replace(r#"{"relativeId":1},"#, "");
    let pgp = format!(
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{claim}\n-----BEGIN PGP SIGNATURE-----\n"
    );
    let image = image(&[put(0x4001, "", b"def"), squashfs(), signature(&pgp)]);
    assert_eq!((&image.signatures[0].objects, image.signatures[0].covers_data), (&vec![1], false));
}

#[test]
fn a_legacy_signature_covers_what_it_is_linked_to() {
    let legacy =
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nSIFHASH:\n00\n-----BEGIN PGP SIGNATURE-----\n";
    let whole = image(&[put(0x4001, "", b"def"), squashfs(), signature(legacy)]);
    assert_eq!(
        (whole.signatures[0].kind, &whole.signatures[0].objects),
        (SignatureKind::Legacy, &vec![1, 2])
    );
    let one = Put { link: 1, ..signature(legacy) };
    let one = image(&[put(0x4001, "", b"def"), squashfs(), one]);
    assert_eq!((&one.signatures[0].objects, one.signatures[0].covers_data), (&vec![1], false));
}

#[test]
fn a_damaged_signature_is_listed_with_a_note() {
    let dsse = |payload: &str| {
        format!(
            r#"{{"payloadType":"application/vnd.sylabs.sif-metadata+json","payload":"{payload}","signatures":[]}}"#
        )
    };
    for (text, words) in [
        (String::new(), "neither a PGP message"),
        ("{".to_owned(), "damaged"),
        (dsse("***"), "base64"),
        (dsse("e30x"), "signed list"),
        (r#"{"payloadType":"x","payload":""}"#.to_owned(), "something else"),
        ("-----BEGIN PGP SIGNED MESSAGE-----\n".to_owned(), "not complete"),
    ] {
        let image = image(&[squashfs(), signature(&text)]);
        assert_eq!(image.signatures[0].kind, SignatureKind::Unreadable, "{text}");
        assert!(!image.signatures[0].covers_data);
        assert!(image.notes[0].contains(words), "{:?} does not say {words:?}", image.notes);
    }
}
