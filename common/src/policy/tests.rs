//! Which images a policy lets pass.
#![cfg(test)]

use std::collections::BTreeSet;

use super::*;

fn key(number: u8) -> Fingerprint {
    Fingerprint::Pgp([number; 20])
}

fn by(keys: &[u8]) -> BTreeSet<Fingerprint> {
    keys.iter().map(|number| key(*number)).collect()
}

fn signed(keys: &[u8]) -> Verdict {
    Verdict::Signed { by: by(keys) }
}

fn check(policy: &Policy, verdict: &Verdict, expected: Option<FailCode>) {
    assert_eq!(policy.refuses(verdict).map(|refusal| refusal.code), expected, "{policy}: {verdict}");
}

#[test]
fn a_policy_lets_pass_what_it_asks_for_and_nothing_else() {
    let unknown = Verdict::UnknownKey { signature: 4, key: "ABCD".to_owned() };
    let bad = Verdict::Bad { object: Some(3), why: Why::Data };
    let partly = Verdict::Bad { object: None, why: Why::GroupNotSigned };
    for verdict in [&Verdict::Unsigned, &signed(&[1]), &bad, &unknown] {
        check(&Policy::Any, verdict, None);
    }
    let one_or_two = Policy::signed_by(by(&[1, 2]));
    for policy in [&Policy::Signed, &one_or_two] {
        check(policy, &Verdict::Unsigned, Some(FailCode::NotSigned));
        check(policy, &partly, Some(FailCode::NotSigned));
        check(policy, &bad, Some(FailCode::SignatureBad));
        check(policy, &unknown, Some(FailCode::SignerNotTrusted));
        check(policy, &signed(&[1]), None);
    }
    check(&Policy::Signed, &signed(&[]), None);
    check(&one_or_two, &signed(&[2, 9]), None);
    check(&one_or_two, &signed(&[9]), Some(FailCode::SignerNotTrusted));
    check(&one_or_two, &signed(&[]), Some(FailCode::SignerNotTrusted));
}

#[test]
fn a_node_of_several_partitions_asks_for_what_all_of_them_do() {
    let (one, two) = (Policy::signed_by(by(&[1, 2])), Policy::signed_by(by(&[2, 3])));
    assert_eq!(Policy::Any.and(&Policy::Signed), Policy::Signed);
    assert_eq!(Policy::Signed.and(&Policy::Any), Policy::Signed);
    assert_eq!(Policy::Signed.and(&one), one);
    assert_eq!(one.clone().and(&Policy::Signed), one);
    assert_eq!(one.clone().and(&one), one);
    let both = one.clone().and(&two);
    assert_eq!(both, two.and(&one));
    check(&both, &signed(&[1]), Some(FailCode::SignerNotTrusted));
    check(&both, &signed(&[2]), None);
    check(&both, &signed(&[1, 3]), None);
}

#[test]
fn a_fingerprint_is_read_as_tools_print_it() {
    let text = "263C74765CAF9CF06CB7F23E533DBA3419100291";
    let spaced = "263C 7476 5CAF 9CF0 6CB7  F23E 533D BA34 1910 0291";
    let colons = "26:3c:74:76:5c:af:9c:f0:6c:b7:f2:3e:53:3d:ba:34:19:10:02:91";
    for form in [text, spaced, colons, &text.to_lowercase()] {
        assert_eq!(form.parse::<Fingerprint>().unwrap().to_string(), text);
    }
    let plain = "0".repeat(62) + "aF";
    assert_eq!(plain.parse::<Fingerprint>().unwrap().to_string(), plain.to_lowercase());
    for wrong in
        ["", "26", "263C74765CAF9CF06CB7F23E533DBA341910029", &"0".repeat(66), "x".repeat(40).as_str()]
    {
        assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
    }
    let json = serde_json::to_string(&key(0xab)).unwrap();
    assert_eq!(serde_json::from_str::<Fingerprint>(&json).unwrap(), key(0xab));
}

#[test]
fn a_policy_from_others_is_bounded() {
    assert!(Policy::Any.is_bounded() && Policy::Signed.is_bounded());
    assert!(Policy::signed_by(by(&[1])).is_bounded());
    assert!(!Policy::SignedBy(BTreeSet::new()).is_bounded());
    assert!(!Policy::SignedBy(BTreeSet::from([BTreeSet::new()])).is_bounded());
    let many: Vec<u8> = (0..=32).collect();
    assert!(!Policy::signed_by(by(&many)).is_bounded());
}
